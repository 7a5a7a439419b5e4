//! What the probe threads did and whether they can, to be looked at from any
//! thread: whoever looks costs the threads nothing but a lock once a second.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use watchfire_probe_core::Stats;
use watchfire_probe_core::trace::Traced;
use watchfire_wire::CheckId;

use crate::mailbox::Mailbox;

/// What all threads did since their start.
#[derive(Clone, Debug)]
pub struct Statistics {
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Statistics {
    pub(crate) const fn new(mailboxes: Vec<Arc<Mailbox>>) -> Self {
        Self { mailboxes }
    }

    /// The sum over all threads, at most a second old.
    #[must_use]
    pub fn sum(&self) -> Stats {
        let mut sum = Stats::new();
        for mailbox in &self.mailboxes {
            sum.add(&mailbox.published().stats);
        }
        sum
    }

    /// What the threads remember of a check; nothing if they never probed it. The
    /// thread that has it waits for nobody, whoever looks.
    #[must_use]
    pub fn trace(&self, check: CheckId) -> Option<Traced> {
        let mut each = self.mailboxes.iter();
        each.find_map(|mailbox| mailbox.trace().of(check))
    }

    /// Memory that is held for that, bytes, and probes that were forgotten because
    /// somebody looked for too long.
    #[must_use]
    pub fn trace_size(&self) -> (usize, u64) {
        let each = self.mailboxes.iter();
        each.fold((0, 0), |(bytes, lost), it| {
            let bytes = bytes + it.trace().bytes();
            (bytes, lost + it.untraced.load(Ordering::Relaxed))
        })
    }

    /// CPU time that they used, microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> u64 {
        let each = self.mailboxes.iter();
        each.map(|mailbox| mailbox.published().cpu_us).sum()
    }
}

/// Why the probe threads cannot measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// One of them has ended.
    Ended,
    /// One of them has not turned for seconds.
    Stuck,
    /// Most probes of one fail for what this host lacks.
    Failing,
}

impl Ailment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ended, Self::Stuck, Self::Failing];

    /// Its stable name, for metrics and JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Stuck => "stuck",
            Self::Failing => "failing",
        }
    }
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "a probe thread has ended",
            Self::Stuck => "a probe thread does not turn: is this machine overloaded?",
            Self::Failing => {
                "most probes fail for what this host lacks: files, ports, buffers or memory"
            }
        })
    }
}
