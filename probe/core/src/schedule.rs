//! When a check is due: a phase of its own on the wall clock, so that the same
//! check is due at the same instants, to a tenth of a second, on every server and
//! after every restart.
//!
//! The wall clock is looked at once, by whoever builds the [`Schedule`]; from
//! then on time is monotonic, and a clock that is set does not move anything.
//!
//! A thread with little to do would be woken for each probe, which costs more than
//! the probe. Its starts are [gathered](Schedule::gather): phases are rounded down to
//! a grid that is as coarse as it takes for a handful to start together.

use core::time::Duration;

use watchfire_wire::{CheckId, First, Time};

use crate::check::CheckSpec;
use crate::health::Health;
use crate::limits::{GATHERED, GRIDS_US};

/// Maps monotonic time to the wall clock as it was sampled at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Wall clock minus monotonic clock, microseconds, modulo 2^64.
    offset_us: u64,
    /// What phases are rounded down to, microseconds; 1 leaves them as they are.
    grid_us: u64,
    /// How far this grid is from the wall clock's, microseconds: servers that gather
    /// must not all start at once.
    shift_us: u64,
}

/// The next due time, and what was missed on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// When.
    pub due: Time,
    /// Due times that went by without a probe.
    pub skipped: u64,
}

/// Due times that follow each other by less than this part of the step are one:
/// it bounds both the gap, at 1 1/8 steps, and the haste of who comes back to the
/// grid.
const MOMENT: u64 = 8;

impl Schedule {
    /// A schedule for a process whose monotonic clock showed `now` when the
    /// wall clock showed `wall_us` microseconds since 1970.
    #[must_use]
    pub const fn new(now: Time, wall_us: u64) -> Self {
        Self {
            offset_us: wall_us.wrapping_sub(now.0),
            grid_us: 1,
            shift_us: 0,
        }
    }

    /// The same, its grid moved by so much against those of others.
    #[must_use]
    pub const fn shifted(self, shift_us: u64) -> Self {
        Self { shift_us, ..self }
    }

    /// Gathers the starts of checks that are due so many times in 1,000 seconds, all
    /// together: about [`GATHERED`] of them at a time, unless that takes a coarser
    /// grid than there is. Phases may change by it, from one due time to the next.
    pub fn gather(&mut self, per_1000_s: u64) {
        let together_us = GATHERED * 1_000_000_000 / per_1000_s.max(1);
        let grid_us = (GRIDS_US.into_iter()).find(|&grid_us| grid_us <= together_us);
        self.grid_us = grid_us.unwrap_or(1);
    }

    /// How far from the beginning of an interval a check is due, microseconds.
    fn phase(&self, check: CheckId, step_us: u64) -> u64 {
        let phase = check.prefix() % step_us;
        // An interval that is no multiple of the grid may be one of a finer grid, which
        // meets this one as often as it can.
        let fits = |grid_us: &u64| *grid_us <= self.grid_us && step_us.is_multiple_of(*grid_us);
        match GRIDS_US.into_iter().find(fits) {
            Some(grid_us) => phase - phase % grid_us + self.shift_us % grid_us,
            None => phase,
        }
    }

    /// The check's first due time on the grid of `interval` that is not before
    /// `from`.
    #[must_use]
    pub fn first(&self, check: CheckId, interval: Duration, from: Time) -> Time {
        let step = micros(interval);
        let phase = self.phase(check, step);
        let wall = from.0.wrapping_add(self.offset_us);
        // How far `from` is past the last due time; 0 on the dot.
        let past = (wall % step + step - phase) % step;
        Time(from.0.saturating_add((step - past) % step))
    }

    /// When a check is due that begins to be probed at `now`.
    #[must_use]
    pub fn begin(&self, check: CheckId, interval: Duration, first: First, now: Time) -> Time {
        match first {
            First::At(first) => first.max(now),
            First::Phase { ahead } => self.first(check, interval, now + ahead) - ahead,
            First::AfterPhase(delay) => self.first(check, interval, now) + delay,
        }
    }

    /// The due time after `due`, seen at `now`: one `step` on, and later ones
    /// are counted as skipped until one is ahead. With `align` the result lies
    /// on the grid of `step`; without, it counts from `due`.
    #[must_use]
    pub fn next(&self, check: CheckId, due: Time, step: Duration, align: bool, now: Time) -> Next {
        let step_us = micros(step);
        let after = Time(due.0.saturating_add(1));
        let next = if align {
            let on_grid = self.first(check, step, after);
            // Coming from another step, or from beside the phase, the grid may be
            // only a moment away.
            if on_grid.0 - due.0 < step_us / MOMENT {
                Time(on_grid.0.saturating_add(step_us))
            } else {
                on_grid
            }
        } else {
            Time(due.0.saturating_add(step_us))
        };
        if next > now {
            return Next {
                due: next,
                skipped: 0,
            };
        }
        let skipped = (now.0 - next.0) / step_us + 1;
        Next {
            due: Time(next.0.saturating_add(skipped.saturating_mul(step_us))),
            skipped,
        }
    }
}

/// From one probe to the next, given what is known, and whether that is the
/// base interval (which is aligned to the check's phase). Without hurry what is
/// in doubt waits for its phase like all else.
#[must_use]
pub fn step(spec: &CheckSpec, health: &Health, hurry: bool) -> (Duration, bool) {
    let other = if health.in_doubt() && !hurry {
        None
    } else if health.in_doubt() {
        spec.fast_interval
    } else if health.verdict() == watchfire_wire::Verdict::Down {
        spec.down_interval
    } else {
        None
    };
    match other {
        Some(step) => (step, false),
        None => (spec.interval, true),
    }
}

/// Whole microseconds, at least one.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX / 4)
        .clamp(1, u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn check(n: u64) -> CheckId {
        CheckId::of_canonical(&n.to_le_bytes())
    }

    #[test]
    fn servers_with_different_uptimes_agree_on_the_instant() {
        let wall = 1_700_000_000_123_456;
        let here = Schedule::new(Time(5), wall);
        let there = Schedule::new(Time(9_999_999_999), wall);
        let first_here = here.first(check(1), SECOND, Time(5));
        let first_there = there.first(check(1), SECOND, Time(9_999_999_999));
        assert_eq!(first_here.0 - 5, first_there.0 - 9_999_999_999);
    }

    #[test]
    fn checks_spread_over_the_interval() {
        let schedule = Schedule::new(Time(0), 1_700_000_000_000_000);
        let mut buckets = [0_u32; 10];
        for n in 0..10_000 {
            let due = schedule.first(check(n), SECOND, Time(0));
            buckets[usize::try_from(due.0 / 100_000).unwrap()] += 1;
        }
        for count in buckets {
            assert!((850..1_150).contains(&count), "{buckets:?}");
        }
    }

    #[test]
    fn what_was_missed_is_skipped_and_counted() {
        let schedule = Schedule::new(Time(0), 0);
        let due = schedule.first(check(1), SECOND, Time(0));
        let on_time = schedule.next(check(1), due, SECOND, true, due + SECOND / 2);
        assert_eq!((on_time.due, on_time.skipped), (due + SECOND, 0));
        let stalled = schedule.next(check(1), due, SECOND, true, due + SECOND * 3 + SECOND / 2);
        assert_eq!((stalled.due, stalled.skipped), (due + SECOND * 4, 3));
    }

    #[test]
    fn coming_back_from_a_fast_step_rejoins_the_grid() {
        let schedule = Schedule::new(Time(0), 0);
        let fast = SECOND / 5;
        let base = schedule.first(check(1), SECOND, Time(0));
        let fast_due = schedule.next(check(1), base, fast, false, base).due;
        assert_eq!(fast_due, base + fast);
        let back = schedule
            .next(check(1), fast_due, SECOND, true, fast_due)
            .due;
        assert_eq!(back, base + SECOND);
        // From just before the grid it is the one after: two probes a moment
        // apart would be one too many.
        let late_due = base + SECOND - fast / 2;
        let back = schedule
            .next(check(1), late_due, SECOND, true, late_due)
            .due;
        assert_eq!(back, base + SECOND * 2);
    }

    #[test]
    fn few_checks_start_together_and_many_as_they_are() {
        let mut schedule = Schedule::new(Time(0), 0).shifted(777_777);
        let instants = |schedule: &Schedule, checks: u64, interval| {
            let due = |n| schedule.first(check(n), interval, Time(0));
            (0..checks)
                .map(due)
                .collect::<std::collections::BTreeSet<_>>()
        };
        // 120 a second: ten instants for as many checks as are due in any second.
        for (checks, seconds) in [(120, 1), (600, 5)] {
            schedule.gather(120_000);
            let seen = instants(&schedule, checks, SECOND * seconds);
            assert_eq!(seen.len() as u32, 10 * seconds);
            assert!(seen.iter().all(|due| due.0 % 100_000 == 77_777));
        }
        let odd = instants(&schedule, 30, SECOND / 4);
        assert!(odd.len() <= 5 && odd.iter().all(|due| due.0 % 50_000 == 27_777));
        // Never so many that they are late for each other.
        schedule.gather(1_600_000);
        assert!(instants(&schedule, 1_600, SECOND).len() > 75);
        schedule.gather(50_000_000);
        assert!(instants(&schedule, 1_600, SECOND).len() > 1_500);
        // Of few there is no more to be had, and none is moved far.
        schedule.gather(1);
        assert_eq!(schedule.grid_us, GRIDS_US[0]);
    }

    proptest! {
        #[test]
        fn gathering_moves_nothing_by_more_than_the_grid_and_skips_nothing(
            n in any::<u64>(),
            shift in any::<u64>(),
            from in 0_u64..1 << 50,
            interval_us in 10_000_u64..3_600_000_000,
            per_1000_s in 0_u64..100_000_000,
        ) {
            let plain = Schedule::new(Time(0), 77);
            let mut gathered = plain.shifted(shift);
            gathered.gather(per_1000_s);
            let interval = Duration::from_micros(interval_us);
            let due = gathered.first(check(n), interval, Time(from));
            prop_assert!(due.0 >= from && due.0 - from < interval_us);
            let own = plain.first(check(n), interval, Time(from));
            let apart = due.0.abs_diff(own.0);
            prop_assert!(apart.min(interval_us - apart) < GRIDS_US[0]);
            let next = gathered.first(check(n), interval, Time(due.0 + 1));
            prop_assert_eq!(next.0 - due.0, interval_us);
        }

        #[test]
        fn the_first_due_time_is_on_the_grid_and_within_one_interval(
            n in any::<u64>(),
            wall in 0_u64..1 << 52,
            boot in 0_u64..1 << 50,
            ahead in 0_u64..1 << 40,
            interval_us in 10_000_u64..3_600_000_000,
        ) {
            let schedule = Schedule::new(Time(boot), wall);
            let interval = Duration::from_micros(interval_us);
            let from = Time(boot + ahead);
            let due = schedule.first(check(n), interval, from);
            prop_assert!(due >= from && due.0 - from.0 < interval_us);
            let due_wall = wall + ahead + (due.0 - from.0);
            prop_assert_eq!(due_wall % interval_us, check(n).prefix() % interval_us);
        }

        #[test]
        fn the_next_due_time_is_ahead_and_no_burst(
            n in any::<u64>(),
            due in 0_u64..1 << 40,
            late in 0_u64..1 << 34,
            interval_us in 10_000_u64..3_600_000_000,
            align in any::<bool>(),
        ) {
            let schedule = Schedule::new(Time(0), 77);
            let interval = Duration::from_micros(interval_us);
            let now = Time(due + late);
            let next = schedule.next(check(n), Time(due), interval, align, now);
            prop_assert!(next.due > now);
            prop_assert!(next.due.0 - due >= interval_us / MOMENT);
        }
    }
}
