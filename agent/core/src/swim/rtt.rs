//! How long to wait for an ack: by the round trips that were measured.
//!
//! RFC 6298's smoothed mean and deviation, over all members of the POP
//! together: they share a network, and a node that forgets its peers' round
//! trips at every shuffle would measure nothing. Repeated pings are not
//! measured (Karn): nobody knows which of them was answered.

use core::time::Duration;

use super::limits::PING_TIMEOUT_MIN;

/// Smoothed round trip and its deviation, microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    measured: Option<(u64, u64)>,
}

impl RoundTrip {
    /// A ping that was sent once was acked after this.
    pub(super) fn sample(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 16);
        self.measured = Some(match self.measured {
            None => (us, us / 2),
            Some((mean, deviation)) => {
                ((7 * mean + us) / 8, (3 * deviation + mean.abs_diff(us)) / 4)
            }
        });
    }

    /// How long to wait before a ping is repeated, at most `ceiling`.
    pub(super) fn timeout(&self, ceiling: Duration) -> Duration {
        match self.measured {
            None => ceiling,
            Some((mean, deviation)) => Duration::from_micros(mean + 4 * deviation)
                .max(PING_TIMEOUT_MIN)
                .min(ceiling),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_what_was_measured_within_its_bounds() {
        let ceiling = Duration::from_millis(50);
        let mut rtt = RoundTrip::default();
        assert_eq!(rtt.timeout(ceiling), ceiling);
        for _ in 0..100 {
            rtt.sample(Duration::from_micros(200));
        }
        assert_eq!(rtt.timeout(ceiling), PING_TIMEOUT_MIN);
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(20));
        }
        let wait = rtt.timeout(ceiling);
        assert!(wait >= Duration::from_millis(20) && wait < Duration::from_millis(40));
        for _ in 0..100 {
            rtt.sample(Duration::from_secs(1));
        }
        assert_eq!(rtt.timeout(ceiling), ceiling);
    }
}
