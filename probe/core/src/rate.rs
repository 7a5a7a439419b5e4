//! The cap on probes per second to one destination, whatever tenants
//! configure: a CDN must not be a flood tool.
//!
//! One [`Pace`] is shared by all checks of a destination, on whatever thread
//! they run: one atomic word, touched only when a cap is configured.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use watchfire_wire::Time;

/// Lets so many probes a second pass, and a short burst of them (the generic
/// cell rate algorithm: the word is the time at which the allowance is whole
/// again).
#[derive(Debug)]
pub struct Pace {
    whole_at_us: AtomicU64,
    cost_us: u64,
    burst_us: u64,
}

/// How far ahead of its pace a destination may run: a tenth of a second, so
/// that checks whose phases lie close together are not refused.
const BURST_US: u64 = 100_000;

impl Pace {
    /// At most `per_second` probes a second (at least one).
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let cost_us = (1_000_000 / u64::from(per_second.max(1))).max(1);
        Self {
            whole_at_us: AtomicU64::new(0),
            cost_us,
            burst_us: BURST_US.max(cost_us),
        }
    }

    /// Takes one probe's allowance, if there is any at `now`.
    pub fn take(&self, now: Time) -> bool {
        let spend = |whole_at: u64| {
            let whole_at = whole_at.max(now.0).saturating_add(self.cost_us);
            (whole_at - now.0 <= self.burst_us).then_some(whole_at)
        };
        // The word guards nothing but itself.
        self.whole_at_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
    }

    /// Gives one probe's allowance back: it was taken and not used.
    pub fn give_back(&self) {
        self.whole_at_us.fetch_sub(self.cost_us, Ordering::Relaxed);
    }
}

/// The caps that one check is subject to.
#[derive(Clone, Debug, Default)]
pub struct Caps {
    /// Its address's.
    pub address: Option<Arc<Pace>>,
    /// Its prefix's.
    pub prefix: Option<Arc<Pace>>,
}

impl Caps {
    /// Takes one probe's allowance from each cap, or from none.
    #[must_use]
    pub fn take(&self, now: Time) -> bool {
        let Some(address) = &self.address else {
            return self.prefix.as_ref().is_none_or(|prefix| prefix.take(now));
        };
        if !address.take(now) {
            return false;
        }
        let whole = self.prefix.as_ref().is_none_or(|prefix| prefix.take(now));
        if !whole {
            address.give_back();
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(caps: &Caps, from_ms: u64, until_ms: u64, each_us: u64) -> usize {
        (from_ms * 1_000..until_ms * 1_000)
            .step_by(usize::try_from(each_us).unwrap())
            .filter(|&us| caps.take(Time(us)))
            .count()
    }

    #[test]
    fn what_passes_in_a_second_is_the_cap_and_at_most_one_burst() {
        let caps = Caps {
            address: Some(Arc::new(Pace::new(100))),
            prefix: None,
        };
        let first = passed(&caps, 0, 1_000, 50);
        assert!((100..=110).contains(&first), "{first}");
        let later = passed(&caps, 1_000, 11_000, 50);
        assert!((995..=1_005).contains(&later), "{later}");
    }

    #[test]
    fn one_probe_a_second_is_possible() {
        let caps = Caps {
            address: Some(Arc::new(Pace::new(1))),
            prefix: None,
        };
        assert_eq!(passed(&caps, 0, 10_000, 1_000), 10);
    }

    #[test]
    fn what_the_prefix_refuses_costs_the_address_nothing() {
        let address = Arc::new(Pace::new(1_000));
        let caps = Caps {
            address: Some(Arc::clone(&address)),
            prefix: Some(Arc::new(Pace::new(10))),
        };
        let both = passed(&caps, 0, 1_000, 1_000);
        assert!((10..=12).contains(&both), "{both}");
        let alone = Caps {
            address: Some(address),
            prefix: None,
        };
        assert!(passed(&alone, 1_000, 2_000, 500) >= 999);
    }
}
