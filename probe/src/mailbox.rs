//! What a probe thread and its prober share: two bounded queues, a doorbell,
//! and what the thread publishes once a second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use watchfire_probe_core::engine::{Inherited, Report};
use watchfire_probe_core::limits::TRACED_CHECKS;
use watchfire_probe_core::rate::Caps;
use watchfire_probe_core::stream::tls::TlsContext;
use watchfire_probe_core::tape::Recorder;
use watchfire_probe_core::trace::Trace;
use watchfire_probe_core::{CheckSpec, Stats};
use watchfire_wire::{CheckId, First};

use crate::limits::{COMMANDS, REPORTS};
use crate::wake::Wake;

/// What the prober wants of a thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Probe a check from now on.
    Start {
        id: CheckId,
        spec: Arc<CheckSpec>,
        generation: u32,
        inherit: Option<Inherited>,
        first: First,
        caps: Caps,
    },
    /// Go on at another address of its name.
    Retarget {
        id: CheckId,
        spec: Arc<CheckSpec>,
        caps: Caps,
    },
    /// Probe it no more.
    Stop(CheckId),
    /// Trust by this from now on.
    Trust(Arc<TlsContext>),
    /// Record what is said and heard.
    Record(Arc<Recorder>),
    /// Report its next outcome.
    Attend(CheckId),
    /// Probe once and answer.
    Ask {
        id: CheckId,
        spec: Arc<CheckSpec>,
        ask: u64,
        caps: Caps,
    },
}

/// The shared part of one thread.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// To the thread. When it is full, the prober keeps the rest.
    pub(crate) commands: ArrayQueue<Command>,
    /// What is in doubt is probed at its fast interval.
    pub(crate) hurry: AtomicBool,
    /// From the thread. When it is full, the thread keeps the rest, merged by
    /// check.
    pub(crate) reports: ArrayQueue<Report>,
    pub(crate) wake: Wake,
    /// The thread is to end.
    pub(crate) quit: AtomicBool,
    /// The thread is to publish now: a ticket that it repeats when it did.
    pub(crate) publish: AtomicU64,
    pub(crate) pulse: CachePadded<Pulse>,
    published: Mutex<Published>,
    /// The last probes. The thread writes them when nobody looks.
    trace: Mutex<Trace>,
    /// Probes that were forgotten because somebody looked for too long.
    pub(crate) untraced: AtomicU64,
}

/// Signs of life, written by the thread alone.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// When its last turn began, microseconds.
    pub(crate) beat_us: AtomicU64,
    /// By how much a turn was late at most, since this was last asked,
    /// microseconds.
    pub(crate) late_us: AtomicU64,
    /// Most of its probes failed on our side, and it was not yet tried again.
    pub(crate) sick: AtomicBool,
    /// It ended, in order or not.
    pub(crate) ended: AtomicBool,
}

/// What a thread did since its start, as of its last publication.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) stats: Stats,
    /// CPU time of the thread, microseconds.
    pub(crate) cpu_us: u64,
    /// The last ticket that was served.
    pub(crate) ticket: u64,
}

impl Mailbox {
    /// Of one of so many threads.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let share = TRACED_CHECKS / u32::try_from(threads.max(1)).unwrap_or(u32::MAX);
        Ok(Self {
            commands: ArrayQueue::new(COMMANDS),
            reports: ArrayQueue::new(REPORTS),
            wake: Wake::new()?,
            hurry: AtomicBool::new(true),
            quit: AtomicBool::new(false),
            publish: AtomicU64::new(0),
            pulse: CachePadded::default(),
            published: Mutex::default(),
            trace: Mutex::new(Trace::new(share)),
            untraced: AtomicU64::new(0),
        })
    }

    /// Rings the thread after something was put in.
    pub(crate) fn ring(&self) {
        self.wake.ring();
    }

    /// Tells the thread to end.
    pub(crate) fn dismiss(&self) {
        self.quit.store(true, Ordering::Release);
        self.ring();
    }

    /// What the thread published. A thread that died while publishing left
    /// numbers, no broken invariant.
    pub(crate) fn published(&self) -> MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of the last probes. A thread that died while writing it
    /// left probes, no broken invariant.
    pub(crate) fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for the thread itself; nothing while somebody looks.
    pub(crate) fn try_trace(&self) -> Option<MutexGuard<'_, Trace>> {
        match self.trace.try_lock() {
            Ok(trace) => Some(trace),
            Err(TryLockError::Poisoned(trace)) => Some(trace.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}
