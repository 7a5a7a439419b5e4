//! Ownership: who probes which check.
//!
//! Arithmetic says who should (rendezvous hashing), evidence says who does (the
//! winning slots); in doubt two probe, never none. Whatever happens to a check
//! ends in one question, asked of that check alone: what shall this node do
//! about it now? Nothing here scans all checks, except when a node becomes
//! ready and when the ranks of all checks change at once.

mod answering;
mod apply;
mod asking;
mod brake;
mod budget;
mod consult;
mod decide;
mod doubt;
mod duties;
mod facts;
pub mod hrw;
mod members;
pub mod ranks;
mod role;
mod timers;
mod unmeasured;
mod weather;

use core::time::Duration;

pub use self::brake::BrakeConfig;
pub use self::duties::{Ctx, Duties, Load};
pub use self::members::View;

/// The knobs of ownership.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnershipConfig {
    /// What the patience of a rank adds to the check's timeout: the time for
    /// the first rank to start, and for its word to travel.
    pub patience: Duration,
    /// First probes after a takeover are spread over this.
    pub spread: Duration,
    /// Many first probes after takeovers at once take at most this long.
    pub catch_up_within: Duration,
    /// First probes of checks without any verdict are spread over this, or over
    /// the interval if that is shorter.
    pub first_within: Duration,
    /// Changes of members are looked at together, so long after the first.
    pub gather: Duration,
    /// Whoever does not say that it configures a check may do so for this long
    /// after this node learnt of it: the news of a reload takes its time.
    pub news_grace: Duration,
    /// The same while the POP is strained: this node is late, or suspects many,
    /// or was and did a moment ago. Then news takes longer than its time.
    pub news_grace_strained: Duration,
    /// For so long after that it counts as strained.
    pub strained: Duration,
    /// Who has become the first that should probe a check, while somebody else
    /// does, takes it over after this, and once no member has come for
    /// [`settle`](Self::settle) or changed what it configures for
    /// [`settle_rollout`](Self::settle_rollout).
    pub standing: Duration,
    /// See [`standing`](Self::standing): a POP that starts shall move each check
    /// once and not with every member that comes.
    pub settle: Duration,
    /// See [`standing`](Self::standing): nor shall a rollout, at each step. It is
    /// over, and [`settle`](Self::settle) is enough, once all configure the same.
    pub settle_rollout: Duration,
    /// However long members come and change, a check is taken over after this.
    pub standing_max: Duration,
    /// A suspicion must have lasted this long before the owner's checks are
    /// probed beside it.
    pub shadow_after: Duration,
    /// How long a shadow says nothing unless the verdict changes.
    pub shadow_silence: Duration,
    /// First probes of new checks take at least this long each, if that is more
    /// than [`first_within`](Self::first_within) for all.
    pub pace: Duration,
    /// The longest wait for the backup budget until it is looked at again.
    pub budget_retry: Duration,
    /// Who takes over from one that goes on until it hears of it probes so much
    /// beside the check's phase; a tenth of the interval at most.
    pub aside: Duration,
    /// How long the word of whoever goes on may take to come, after the release
    /// that names it.
    pub handover_news: Duration,
    /// How long a node that drains or leaves waits for others to take over.
    pub handover_bound: Duration,
    /// What a prober may take beyond the probe's timeout until it tells of an
    /// outcome that was asked for; then it counts as not measured.
    pub outcome_slack: Duration,
    /// Probes in a row that measured nothing before a check is given up that
    /// this node has measured before; one that it has not is given up at the
    /// first.
    pub unmeasured_limit: u32,
    /// When nobody has been able to measure a check for this long its verdict is
    /// known no more.
    pub unknown_after: Duration,
    /// How long a given-up check stays given up, the first time; twice as long
    /// each further time.
    pub retry: Duration,
    /// The longest of these times.
    pub retry_max: Duration,
    /// A late node looks again after this whether it still is.
    pub late_retry: Duration,
    /// A late node holds a Down back for this long.
    pub late_hold: Duration,
    /// A node that has been late for this long gives checks away.
    pub late_long: Duration,
    /// From one check that a late node gives up or away to the next.
    pub late_pace: Duration,
    /// Peers asked before a check turns Down; at most
    /// [`PEERS_ASKED`](crate::limits::PEERS_ASKED).
    pub opinions: usize,
    /// How long answers may take beyond the check's timeout.
    pub opinion_wait: Duration,
    /// How long all of a second opinion may take.
    pub opinion_bound: Duration,
    /// From a question that is not answered to its first repetition; later ones
    /// come more slowly.
    pub opinion_repeat: Duration,
    /// Dissents on this many different checks within
    /// [`blind_window`](Self::blind_window), and on a tenth of what this node
    /// probes, mean that its own path is dead.
    pub blind_checks: usize,
    /// See [`blind_checks`](Self::blind_checks).
    pub blind_window: Duration,
    /// From one look of a blind node to the next.
    pub blind_retry: Duration,
    /// When new Downs are held back.
    pub brake: BrakeConfig,
}

impl Default for OwnershipConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(300),
            spread: Duration::from_millis(100),
            catch_up_within: Duration::from_millis(500),
            first_within: Duration::from_secs(5),
            gather: Duration::from_millis(150),
            news_grace: Duration::from_secs(3),
            news_grace_strained: Duration::from_secs(30),
            strained: Duration::from_secs(10),
            standing: Duration::from_secs(1),
            settle: Duration::from_millis(1_500),
            settle_rollout: Duration::from_secs(10),
            standing_max: Duration::from_secs(60),
            shadow_after: Duration::from_millis(40),
            shadow_silence: Duration::from_millis(400),
            pace: Duration::from_micros(200),
            budget_retry: Duration::from_secs(1),
            aside: Duration::from_millis(400),
            handover_news: Duration::from_secs(5),
            handover_bound: Duration::from_secs(3),
            outcome_slack: Duration::from_millis(500),
            unmeasured_limit: 3,
            unknown_after: Duration::from_secs(10),
            retry: Duration::from_secs(30),
            retry_max: Duration::from_secs(600),
            late_retry: Duration::from_millis(200),
            late_hold: Duration::from_secs(3),
            late_long: Duration::from_secs(30),
            late_pace: Duration::from_secs(2),
            opinions: 2,
            opinion_wait: Duration::from_millis(150),
            opinion_bound: Duration::from_secs(2),
            opinion_repeat: Duration::from_millis(100),
            blind_checks: 5,
            blind_window: Duration::from_secs(10),
            blind_retry: Duration::from_secs(5),
            brake: BrakeConfig::default(),
        }
    }
}

crate::counters::counters! {
    /// Counters of ownership, since the start.
    pub struct OwnershipCounters as "" {
        /// Checks that this node began to probe.
        pub starts: u64 as "probing_started",
        /// Checks begun without evidence that anybody else was at it although somebody
        /// had been: takeovers.
        pub takeovers: u64,
        /// Checks begun because the owner was suspected.
        pub shadows: u64,
        /// Checks begun as the second or third rank for want of evidence.
        pub backups: u64,
        /// Checks begun while somebody else's evidence stood: a handover, which
        /// overlaps.
        pub overlaps: u64 as "handover_overlaps",
        /// Checks that this node stopped probing.
        pub stops: u64 as "probing_stopped",
        /// Slots written, releases not counted.
        pub writes: u64 as "slots_written",
        /// Releases written.
        pub releases: u64 as "slots_released",
        /// Checks given up because they could not be measured here, or said to be
        /// so.
        pub unmeasurable: u64 as "checks_unmeasurable",
        /// Outcomes that a prober was asked for and did not tell in time.
        pub outcomes_overdue: u64,
        /// Words written that say that nothing could be measured.
        pub weak_words: u64,
        /// Checks that a node which stayed late gave away.
        pub given_away: u64 as "checks_given_away",
        /// Second opinions asked for.
        pub second_opinions: u64,
        /// Second opinions that did not agree to a Down.
        pub overruled: u64 as "second_opinions_overruled",
        /// Second opinions in which nobody had anything to say.
        pub second_opinions_silent: u64,
        /// Downs that were not written and asked about again, or later: while this
        /// node doubted itself, or was late.
        pub downs_held: u64,
        /// Times that this node began to hold new Downs back.
        pub brakes: u64,
        /// Opinions given to others.
        pub opinions: u64 as "opinions_given",
        /// Questions answered with silence.
        pub opinions_refused: u64,
        /// Checks refused because there are as many as there may be.
        pub checks_refused: u64,
        /// Reports of an earlier start, dropped.
        pub stale_reports: u64 as "reports_stale",
    }
}

#[cfg(test)]
mod tests;
