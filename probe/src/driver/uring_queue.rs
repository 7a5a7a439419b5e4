//! The submission side of a ring: room for links, and the way into the kernel.

use core::time::Duration;
use std::io;

use io_uring::{SubmissionQueue, Submitter, squeue, types};

/// Where operations are handed to the kernel.
pub(super) struct Submissions<'a> {
    submitter: Submitter<'a>,
    queue: SubmissionQueue<'a>,
    /// The kernel can let completions gather.
    can_gather: bool,
}

impl<'a> Submissions<'a> {
    pub(super) fn new(
        mut submitter: Submitter<'a>,
        queue: SubmissionQueue<'a>,
        can_gather: bool,
    ) -> Self {
        // Only a saving: without it each entry looks the ring up.
        let _ = submitter.register_ring_fd();
        Self {
            submitter,
            queue,
            can_gather,
        }
    }

    /// Whether the queue has, or can be made to have, room for `entries` more
    /// and `spare` others. A link must not be torn by a submission.
    pub(super) fn reserve(&mut self, entries: usize, spare: usize) -> bool {
        let room = |queue: &SubmissionQueue<'_>| queue.capacity() - queue.len() >= entries + spare;
        if room(&self.queue) {
            return true;
        }
        self.queue.sync();
        // A failure leaves the entries where they are, and no room.
        let _ = self.submitter.submit();
        self.queue.sync();
        room(&self.queue)
    }

    /// Queues an entry, for which room was [reserved](Self::reserve).
    ///
    /// # Safety
    ///
    /// What it points to stays where it is until the operation has ended.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise is the one that is asked for here.
        let pushed = unsafe { self.queue.push(entry) };
        debug_assert!(pushed.is_ok(), "room was reserved");
    }

    /// Submits what is queued, and waits for so many completions; after `gather` one
    /// is enough. Where the kernel knows no such wait one is enough at any time.
    pub(super) fn enter(
        &mut self,
        want: usize,
        timeout: Duration,
        gather: Option<Duration>,
    ) -> io::Result<()> {
        self.queue.sync();
        let spec = types::Timespec::from(timeout);
        let args = types::SubmitArgs::new().timespec(&spec);
        let entered = match gather {
            Some(gather) if self.can_gather => {
                let args = args.min_wait_usec(gather.subsec_micros());
                self.submitter.submit_with_args(want, &args)
            }
            Some(_) => self.submitter.submit_with_args(want.min(1), &args),
            None => self.submitter.submit_with_args(want, &args),
        };
        self.queue.sync();
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The time is up; or a signal, or a full completion queue or
                // no memory for more: the harvest makes room.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Whether the kernel says that it has more to complete. Its word may be stale,
    /// for it is written beside the list and not with it.
    pub(super) fn more_may_come(&mut self) -> bool {
        self.queue.sync();
        self.queue.taskrun() || self.queue.cq_overflow()
    }

    /// Cancels everything and waits for its end; whether it came in time.
    pub(super) fn cancel_all(&mut self, within: Duration) -> bool {
        let within = types::Timespec::from(within);
        let all = types::CancelBuilder::any();
        (self.submitter.register_sync_cancel(Some(within), all)).is_ok()
    }
}
