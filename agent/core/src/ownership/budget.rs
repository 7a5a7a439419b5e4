//! What a node may probe beyond what is its own: the backup bucket.
//!
//! Probes by the second and third rank without evidence, and by shadows, are
//! paid from one bucket per node. It fills at a share of the rate that the
//! node's own checks ask for, so that over the POP all of them together stay
//! below that share of what is wanted, whatever the number of nodes, and
//! whatever keeps their words from travelling.

use core::time::Duration;

use watchfire_wire::Time;

use crate::limits::{BACKUP_BURST, BACKUP_TENTHS, SHADOW_SAVED_US, SHADOW_TENTHS};

/// The bucket, in millionths of a millionth of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    tokens: u64,
    refilled: Time,
    /// What the own checks ask for, probes in a million seconds.
    own_rate: u64,
    /// For each ten of which so many are granted.
    tenths: u64,
    /// Beside the burst, so long a time of the own rate may be saved.
    saved_us: u64,
}

/// What a backup's start costs: the probe that goes out at once, and the one at
/// the check's phase within the first interval.
pub(super) const BACKUP_START: u64 = 2;
const _: () = assert!(BACKUP_START <= BACKUP_BURST);

/// What a shadow's start costs: the probe that goes out at once, which is what
/// it is for. The death, or the refutation, comes soon; until then it pays for
/// more from half an interval on.
pub(super) const SHADOW_START: u64 = 1;

const PROBE: u64 = 1_000_000_000_000;

impl Budget {
    /// For those who start without evidence: nothing is saved for them.
    pub(super) const fn new() -> Self {
        Self {
            tokens: 0,
            refilled: Time::ZERO,
            own_rate: 0,
            tenths: BACKUP_TENTHS,
            saved_us: 0,
        }
    }

    /// For shadows: the checks of a member that dies are shared by all others,
    /// and all of them want their probe at once.
    pub(super) const fn of_shadows() -> Self {
        Self {
            tenths: SHADOW_TENTHS,
            saved_us: SHADOW_SAVED_US,
            ..Self::new()
        }
    }

    /// A check of this interval is owned from now on.
    pub(super) fn own(&mut self, now: Time, interval: Duration) {
        self.refill(now);
        self.own_rate += rate(interval);
    }

    /// It is owned no more.
    pub(super) fn disown(&mut self, now: Time, interval: Duration) {
        self.refill(now);
        self.own_rate = self.own_rate.saturating_sub(rate(interval));
    }

    /// Pays for so many probes, if it can.
    pub(super) fn take(&mut self, now: Time, probes: u64) -> bool {
        self.refill(now);
        let granted = self.tokens >= PROBE * probes;
        if granted {
            self.tokens -= PROBE * probes;
        }
        granted
    }

    /// When so many probes can be paid for, as far as can be said now.
    pub(super) fn next(&self, now: Time, probes: u64) -> Time {
        let mut then = *self;
        then.refill(now);
        let wanting = (PROBE * probes).saturating_sub(then.tokens);
        if wanting == 0 {
            return now;
        }
        let per_us = then.per_us();
        if per_us == 0 {
            return Time::NEVER;
        }
        now + Duration::from_micros(wanting.div_ceil(per_us))
    }

    /// What the own checks ask for, probes in a million seconds.
    pub(super) const fn own_rate(&self) -> u64 {
        self.own_rate
    }

    const fn per_us(&self) -> u64 {
        self.own_rate * self.tenths / 10
    }

    fn refill(&mut self, now: Time) {
        let us = u64::try_from(now.since(self.refilled).as_micros()).unwrap_or(u64::MAX);
        let earned = self.per_us().saturating_mul(us);
        let saved = self.own_rate.saturating_mul(self.saved_us);
        let most = saved.saturating_add(BACKUP_BURST * PROBE);
        self.tokens = self.tokens.saturating_add(earned).min(most);
        self.refilled = self.refilled.max(now);
    }
}

/// Probes in a million seconds at this interval.
fn rate(interval: Duration) -> u64 {
    let us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
    1_000_000_000_000 / us.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_own_rate_is_granted_and_no_more() {
        let mut budget = Budget::new();
        let mut now = Time::from_millis(1_000);
        for _ in 0..30 {
            budget.own(now, Duration::from_secs(5));
        }
        let mut granted = 0;
        for _ in 0..100_000 {
            now += Duration::from_micros(137);
            granted += u64::from(budget.take(now, 1));
        }
        // 6 probes a second for 13.7 seconds, three tenths of them.
        assert!((24..=25 + BACKUP_BURST).contains(&granted), "{granted}");
    }

    #[test]
    fn a_rest_earns_no_more_than_the_burst_and_nothing_owned_earns_nothing() {
        let mut budget = Budget::new();
        assert!(!budget.take(Time::from_millis(1_000), 1));
        assert_eq!(budget.next(Time::from_millis(1_000), 1), Time::NEVER);
        let interval = Duration::from_secs(3_600);
        budget.own(Time::from_millis(1_000), interval);
        let day = Time::from_millis(7 * 86_400_000);
        assert_eq!(
            (0..10).filter(|_| budget.take(day, 1)).count() as u64,
            BACKUP_BURST
        );
        let next = budget.next(day, 1);
        assert!(next > day && next <= day + interval * 4, "{next}");
        assert!(budget.take(next, 1));
        budget.disown(day, interval);
        assert_eq!(budget.own_rate(), 0);
    }
}
