//! How long to wait for an answer: by the round trips that were measured.
//!
//! RFC 6298's smoothed mean and deviation, over all members of the POP
//! together: they share a network, and a node that forgets its peers' round
//! trips at every shuffle would measure nothing. Each ping has a number of
//! its own, so that it is known which of them was answered, however late.

use core::time::Duration;

use crate::swim::limits::PING_TIMEOUT_MIN;

/// Smoothed round trip and its deviation, microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTrip {
    measured: Option<(u64, u64)>,
}

impl RoundTrip {
    /// An answer came after this.
    pub(crate) fn sample(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 16);
        self.measured = Some(match self.measured {
            None => (us, us / 2),
            Some((mean, deviation)) => {
                ((7 * mean + us) / 8, (3 * deviation + mean.abs_diff(us)) / 4)
            }
        });
    }

    /// How long to wait before a ping is repeated: `first` as long as nothing
    /// was measured, and at most `ceiling`.
    pub(crate) fn timeout(&self, first: Duration, ceiling: Duration) -> Duration {
        match self.measured {
            None => first,
            Some(_) => self.expected().max(PING_TIMEOUT_MIN).min(ceiling),
        }
    }

    /// What an answer takes on average; zero before any was measured.
    pub(crate) fn mean(&self) -> Duration {
        Duration::from_micros(self.measured.unwrap_or_default().0)
    }

    /// What an ack takes at most, in all likelihood; zero before any was
    /// measured.
    pub(crate) fn expected(&self) -> Duration {
        let (mean, deviation) = self.measured.unwrap_or_default();
        Duration::from_micros(mean.saturating_add(deviation.saturating_mul(4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_what_was_measured_within_its_bounds() {
        let (first, ceiling) = (Duration::from_millis(30), Duration::from_millis(50));
        let mut rtt = RoundTrip::default();
        assert_eq!(rtt.timeout(first, ceiling), first);
        for _ in 0..100 {
            rtt.sample(Duration::from_micros(200));
        }
        assert_eq!(rtt.timeout(first, ceiling), PING_TIMEOUT_MIN);
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(20));
        }
        let wait = rtt.timeout(first, ceiling);
        assert!(wait >= Duration::from_millis(20) && wait < Duration::from_millis(40));
        for _ in 0..100 {
            rtt.sample(Duration::from_secs(1));
        }
        assert_eq!(rtt.timeout(first, ceiling), ceiling);
        assert!(rtt.expected() > Duration::from_millis(900));
    }
}
