//! Whether a thread fails on our own side, and for how long that word holds.
//!
//! A thread that calls itself sick is taken off its checks by the POP, and
//! then has nothing left to prove that it is well again. So the word expires:
//! after some patience without outcomes the thread calls itself well and is
//! tried again. If it relapses soon, its patience doubles, so that trouble
//! that lasts moves the checks around seldom. Nothing here reads a clock.

use core::time::Duration;

use watchfire_wire::{Time, Unmeasured};

use crate::limits::{SICK_OUTCOMES, SICK_PATIENCE, SICK_PATIENCE_MAX};
use crate::outcome::Outcome;

/// What one thread knows of its own health.
#[derive(Clone, Copy, Debug)]
pub struct Sickness {
    sick: bool,
    /// When it was last seen to fail, if sick; else since when it is well.
    since: Time,
    /// How long it stays sick without outcomes.
    patience: Duration,
    /// It was sick before.
    relapse: bool,
}

impl Sickness {
    /// Well, and never sick before.
    #[must_use]
    pub const fn new(now: Time) -> Self {
        Self {
            sick: false,
            since: now,
            patience: SICK_PATIENCE,
            relapse: false,
        }
    }

    /// Takes the `outcomes` since the last call, `ours` of which failed on our
    /// own side. Returns whether the thread is sick: most of many outcomes
    /// say so, few of them say nothing.
    pub fn observe(&mut self, now: Time, ours: u64, outcomes: u64) -> bool {
        if outcomes < SICK_OUTCOMES {
            if self.sick && now.since(self.since) >= self.patience {
                self.turn_well(now);
            }
        } else if ours * 2 >= outcomes {
            self.turn_sick(now);
        } else if self.sick {
            self.turn_well(now);
        }
        self.sick
    }

    fn turn_sick(&mut self, now: Time) {
        if !self.sick {
            let soon = self.relapse && now.since(self.since) < SICK_PATIENCE_MAX;
            self.patience = if soon {
                (self.patience * 2).min(SICK_PATIENCE_MAX)
            } else {
                SICK_PATIENCE
            };
        }
        self.sick = true;
        self.relapse = true;
        self.since = now;
    }

    const fn turn_well(&mut self, now: Time) {
        self.sick = false;
        self.since = now;
    }
}

/// Whether an outcome is this thread's own trouble, whatever the destination. A
/// probe that was late, or found no place within its tenant's share, excuses
/// itself and no more: whoever cannot measure a check for long gives that check
/// away, and a POP in which everybody is late goes on.
#[must_use]
pub const fn is_ours(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::NotMeasured(
            Unmeasured::OutOfFiles
                | Unmeasured::OutOfPorts
                | Unmeasured::OutOfBuffers
                | Unmeasured::OutOfMemory
                | Unmeasured::RingFull
                | Unmeasured::Internal
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const IDLE: (u64, u64) = (0, 0);
    const OURS: (u64, u64) = (9, 10);
    const WELL: (u64, u64) = (1, 10);

    /// A thread that publishes once a second.
    struct Thread {
        now: Time,
        sickness: Sickness,
    }

    impl Thread {
        fn new() -> Self {
            let now = Time(7_000_000);
            Self {
                now,
                sickness: Sickness::new(now),
            }
        }

        fn second(&mut self, (ours, outcomes): (u64, u64)) -> bool {
            self.now += SECOND;
            self.sickness.observe(self.now, ours, outcomes)
        }

        /// Idle seconds until it calls itself well.
        fn idle_until_well(&mut self) -> u64 {
            (1..=100)
                .find(|_| !self.second(IDLE))
                .expect("sick for ever")
        }
    }

    #[test]
    fn most_of_many_outcomes_decide_and_few_do_not() {
        let mut thread = Thread::new();
        assert!(!thread.second((SICK_OUTCOMES - 1, SICK_OUTCOMES - 1)));
        assert!(!thread.second((4, 10)));
        assert!(thread.second((5, 10)));
        assert!(thread.second((0, SICK_OUTCOMES - 1)), "too few to tell");
        assert!(!thread.second((4, 10)), "measured well");
    }

    #[test]
    fn without_outcomes_it_is_tried_again() {
        let mut thread = Thread::new();
        assert!(thread.second(OURS));
        assert_eq!(thread.idle_until_well(), SICK_PATIENCE.as_secs());
        assert!(!thread.second(IDLE));
    }

    #[test]
    fn patience_counts_from_the_last_failure_seen() {
        let mut thread = Thread::new();
        for _ in 0..60 {
            assert!(thread.second(OURS));
        }
        assert_eq!(thread.idle_until_well(), SICK_PATIENCE.as_secs());
    }

    #[test]
    fn trouble_that_lasts_is_tried_ever_more_seldom_within_bounds() {
        let mut thread = Thread::new();
        let waits: Vec<u64> = (0..7)
            .map(|_| {
                assert!(thread.second(OURS));
                thread.idle_until_well()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_long_time_well_restores_the_patience() {
        let mut thread = Thread::new();
        for _ in 0..5 {
            assert!(thread.second(OURS));
            thread.idle_until_well();
        }
        for _ in 0..SICK_PATIENCE_MAX.as_secs() {
            assert!(!thread.second(WELL));
        }
        assert!(thread.second(OURS));
        assert_eq!(thread.idle_until_well(), SICK_PATIENCE.as_secs());
    }

    #[test]
    fn the_first_sickness_is_no_relapse() {
        let mut thread = Thread::new();
        assert!(thread.second(OURS));
        assert_eq!(thread.idle_until_well(), SICK_PATIENCE.as_secs());
        assert!(!thread.second(WELL));
        assert!(thread.second(OURS));
        assert_eq!(thread.idle_until_well(), 2 * SICK_PATIENCE.as_secs());
    }
}
