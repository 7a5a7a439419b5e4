//! Ownership: who probes which check.
//!
//! Arithmetic says who should (rendezvous hashing), evidence says who does (the
//! winning slots); in doubt two probe, never none. Whatever happens to a check
//! ends in one question, asked of that check alone: what shall this node do
//! about it now? Nothing here scans all checks, except when a node becomes
//! ready and when the ranks of all checks change at once.

mod blind;
mod duties;
mod duty;
pub mod hrw;
mod jury;
mod opinions;
pub mod ranks;
mod rules;
mod timers;

use core::time::Duration;

pub use self::duties::{Ctx, Duties, View};

/// The knobs of ownership.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnershipConfig {
    /// What the patience of a rank adds to the check's timeout: the time for
    /// the first rank to start, and for its word to travel.
    pub patience: Duration,
    /// Without evidence no willing node waits longer than this.
    pub takeover_bound: Duration,
    /// How much longer a rank that is not the first waits for the first word on
    /// a check, while this node knows that there are words it does not hold.
    pub behind_patience: Duration,
    /// First probes after a takeover are spread over this.
    pub spread: Duration,
    /// A shadow waits at least so long for a refutation before its first probe.
    pub shadow_grace: Duration,
    /// How long a shadow says nothing unless the verdict changes; shorter than
    /// the patience of the rank behind it, which must hear of it.
    pub shadow_silence: Duration,
    /// From one first probe of a brand-new check to the next.
    pub pace: Duration,
    /// How long a node that drains or leaves waits for others to take over.
    pub handover_bound: Duration,
    /// Probes in a row that measured nothing before the check is given up.
    pub unmeasured_limit: u32,
    /// How long a given-up check stays given up, the first time; twice as long
    /// each further time.
    pub retry: Duration,
    /// The longest of these times.
    pub retry_max: Duration,
    /// Peers asked before a check turns Down; at most
    /// [`JURORS`](crate::limits::JURORS).
    pub jurors: usize,
    /// How long answers may take beyond the check's timeout.
    pub jury_wait: Duration,
    /// From one repetition of an unanswered question to the next.
    pub jury_repeat: Duration,
    /// Dissents on this many different checks within
    /// [`blind_window`](Self::blind_window), and on a tenth of what this node
    /// probes, mean that its own path is dead.
    pub blind_checks: usize,
    /// See [`blind_checks`](Self::blind_checks).
    pub blind_window: Duration,
    /// From one look of a blind node to the next.
    pub blind_retry: Duration,
}

impl Default for OwnershipConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(300),
            takeover_bound: Duration::from_secs(2),
            behind_patience: Duration::from_secs(4),
            spread: Duration::from_millis(100),
            shadow_grace: Duration::from_millis(20),
            shadow_silence: Duration::from_millis(400),
            pace: Duration::from_micros(200),
            handover_bound: Duration::from_secs(3),
            unmeasured_limit: 3,
            retry: Duration::from_secs(30),
            retry_max: Duration::from_secs(600),
            jurors: 2,
            jury_wait: Duration::from_millis(150),
            jury_repeat: Duration::from_millis(100),
            blind_checks: 5,
            blind_window: Duration::from_secs(10),
            blind_retry: Duration::from_secs(5),
        }
    }
}

/// Counters of ownership, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnershipCounters {
    /// Checks that this node began to probe.
    pub starts: u64,
    /// Of those, without evidence that anybody else was at it although somebody
    /// had been: takeovers.
    pub takeovers: u64,
    /// Of the starts, because the owner was suspected.
    pub shadows: u64,
    /// Of the starts, while somebody else's evidence stood: a handover, which
    /// overlaps.
    pub overlaps: u64,
    /// Checks that this node stopped probing.
    pub stops: u64,
    /// Slots written, releases not counted.
    pub writes: u64,
    /// Releases written.
    pub releases: u64,
    /// Checks given up because they could not be measured here.
    pub unmeasurable: u64,
    /// Second opinions asked for.
    pub juries: u64,
    /// Juries that did not agree to a Down.
    pub overruled: u64,
    /// Juries in which nobody answered.
    pub silent_juries: u64,
    /// Of those, while this node doubted itself: it wrote no Down, and asked
    /// again.
    pub downs_held: u64,
    /// Opinions given to others.
    pub opinions: u64,
    /// Questions answered with silence.
    pub opinions_refused: u64,
    /// Checks refused because [`CHECKS`](crate::limits::CHECKS) is reached.
    pub checks_refused: u64,
    /// Reports of an earlier start, dropped.
    pub stale_reports: u64,
}
