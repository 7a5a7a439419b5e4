//! A plain bound on how often something may happen: a bucket that fills.

use watchfire_wire::Time;

/// So many in a second, and so many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    left: u32,
    refilled: Time,
    per_s: u32,
    burst: u32,
}

impl Rate {
    /// A full bucket.
    pub(crate) const fn new(per_s: u32, burst: u32) -> Self {
        Self {
            left: burst,
            refilled: Time::ZERO,
            per_s,
            burst,
        }
    }

    /// Takes leave for one more.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let each_us = 1_000_000 / u64::from(self.per_s.max(1));
        let earned = now.as_micros().saturating_sub(self.refilled.as_micros()) / each_us;
        if earned > 0 {
            let left = u64::from(self.left).saturating_add(earned);
            self.left = u32::try_from(left).unwrap_or(u32::MAX).min(self.burst);
            self.refilled = Time(self.refilled.as_micros() + earned * each_us);
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut rate = Rate::new(10, 5);
        let start = Time::from_millis(50_000);
        let burst = (0..100).filter(|_| rate.take(start)).count();
        assert_eq!(burst, 5);
        let later = (1..=10_000).filter(|&ms| rate.take(Time::from_millis(50_000 + ms)));
        assert_eq!(later.count(), 100);
    }
}
