//! The cap on probes per second to one destination, whatever tenants
//! configure: a CDN must not be a flood tool.
//!
//! One [`Pace`] is shared by all checks of a destination, on whatever thread
//! they run: one atomic word, touched only when a cap is configured. What it
//! lets through is shared out max-min. Each check has its part of its tenant's
//! part, and each tenant an equal part: a probe within its check's part is let
//! through as long as anything is, one within its tenant's part while a quarter
//! of the burst is left, and any other only while half of it is. So who asks
//! for little is never refused because another asks for much, and nothing that
//! nobody wants is lost.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use watchfire_wire::Time;

use crate::tenant::Tenant;

/// Lets so many probes a second pass, and a short burst of them (the generic
/// cell rate algorithm: the word is the time at which the allowance is whole
/// again).
#[derive(Debug)]
pub struct Pace {
    whole_at_us: AtomicU64,
    cost_us: u64,
    burst_us: u64,
    /// Tenants with a check here.
    tenants: AtomicU32,
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
            tenants: AtomicU32::new(0),
        }
    }

    /// Takes one probe's allowance, if there is any at `now` for one of that
    /// standing.
    fn take(&self, now: Time, standing: Standing) -> bool {
        let part = match standing {
            Standing::Check => self.burst_us,
            Standing::Tenant => self.burst_us / 2,
            Standing::Rest => self.burst_us / 4,
        };
        let part = part.max(self.cost_us);
        let spend = |whole_at: u64| {
            let whole_at = whole_at.max(now.0).saturating_add(self.cost_us);
            (whole_at - now.0 <= part).then_some(whole_at)
        };
        // The word guards nothing but itself.
        self.whole_at_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
    }

    /// Gives one probe's allowance back: it was taken and not used.
    fn give_back(&self) {
        self.whole_at_us.fetch_sub(self.cost_us, Ordering::Relaxed);
    }
}

/// Within whose part a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Check,
    Tenant,
    Rest,
}

/// One tenant's part of a [`Pace`].
#[derive(Debug)]
pub struct Share {
    pace: Arc<Pace>,
    whole_at_us: AtomicU64,
    /// Checks of the tenant here.
    checks: AtomicU32,
}

impl Share {
    /// A part without checks.
    #[must_use]
    pub const fn new(pace: Arc<Pace>) -> Self {
        Self {
            pace,
            whole_at_us: AtomicU64::new(0),
            checks: AtomicU32::new(0),
        }
    }

    /// The pace that it is a part of.
    #[must_use]
    pub const fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }
}

/// One check's part of a [`Share`]. While it lives the check counts there.
#[derive(Debug)]
pub struct Cap {
    share: Arc<Share>,
    whole_at_us: u64,
}

impl Cap {
    /// One check more.
    #[must_use]
    pub fn new(share: Arc<Share>) -> Self {
        if share.checks.fetch_add(1, Ordering::Relaxed) == 0 {
            share.pace.tenants.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            share,
            whole_at_us: 0,
        }
    }

    /// The part that it is of.
    #[must_use]
    pub const fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// What its check may spend a probe for, and its tenant.
    fn costs_us(&self) -> (u64, u64) {
        let tenants = u64::from(self.share.pace.tenants.load(Ordering::Relaxed).max(1));
        let checks = u64::from(self.share.checks.load(Ordering::Relaxed).max(1));
        // All parts together are four fifths, so that what is within them finds
        // room.
        let tenant = self.share.pace.cost_us.saturating_mul(tenants) * 5 / 4;
        (tenant.saturating_mul(checks), tenant)
    }

    fn standing(&self, now: Time) -> Standing {
        let (check_us, tenant_us) = self.costs_us();
        // Two probes may fall close together, and more for who may have many.
        let within = |whole_at: u64, cost: u64| {
            whole_at.saturating_sub(now.0).saturating_add(cost) <= BURST_US.max(2 * cost)
        };
        if within(self.whole_at_us, check_us) {
            Standing::Check
        } else if within(self.share.whole_at_us.load(Ordering::Relaxed), tenant_us) {
            Standing::Tenant
        } else {
            Standing::Rest
        }
    }

    fn take(&mut self, now: Time) -> Option<Standing> {
        let standing = self.standing(now);
        self.share.pace.take(now, standing).then_some(standing)
    }

    /// A probe that was let through counts in the parts that it was within.
    fn spend(&mut self, now: Time, standing: Standing) {
        let (check_us, tenant_us) = self.costs_us();
        if standing == Standing::Check {
            self.whole_at_us = self.whole_at_us.max(now.0).saturating_add(check_us);
        }
        if standing != Standing::Rest {
            let most = now.0.saturating_add(BURST_US.max(2 * tenant_us));
            let spend =
                |whole_at: u64| Some(whole_at.max(now.0).saturating_add(tenant_us).min(most));
            let _ =
                self.share
                    .whole_at_us
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        }
    }
}

impl Clone for Cap {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.share))
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        if self.share.checks.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.share.pace.tenants.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The caps that one check is subject to, and whose it is.
#[derive(Clone, Debug, Default)]
pub struct Caps {
    /// Its address's.
    pub address: Option<Cap>,
    /// Its prefix's.
    pub prefix: Option<Cap>,
    /// With whom it shares what is scarce.
    pub tenant: Tenant,
}

impl Caps {
    /// Takes one probe's allowance from each cap, or from none.
    #[must_use]
    pub fn take(&mut self, now: Time) -> bool {
        let address = match &mut self.address {
            None => None,
            Some(cap) => match cap.take(now) {
                None => return false,
                taken => taken,
            },
        };
        let prefix = match &mut self.prefix {
            None => None,
            Some(cap) => match cap.take(now) {
                None => {
                    if let Some(address) = &self.address {
                        address.share.pace.give_back();
                    }
                    return false;
                }
                taken => taken,
            },
        };
        for (cap, standing) in [(&mut self.address, address), (&mut self.prefix, prefix)] {
            if let (Some(cap), Some(standing)) = (cap, standing) {
                cap.spend(now, standing);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(pace: &Arc<Pace>) -> Arc<Share> {
        Arc::new(Share::new(Arc::clone(pace)))
    }

    fn caps(share: &Arc<Share>) -> Caps {
        Caps {
            address: Some(Cap::new(Arc::clone(share))),
            ..Caps::default()
        }
    }

    fn alone(per_second: u32) -> Cap {
        Cap::new(share(&Arc::new(Pace::new(per_second))))
    }

    fn passed(caps: &mut Caps, from_ms: u64, until_ms: u64, each_us: u64) -> usize {
        (from_ms * 1_000..until_ms * 1_000)
            .step_by(usize::try_from(each_us).unwrap())
            .filter(|&us| caps.take(Time(us)))
            .count()
    }

    #[test]
    fn what_passes_in_a_second_is_the_cap_and_at_most_one_burst() {
        let mut caps = Caps {
            address: Some(alone(100)),
            ..Caps::default()
        };
        let first = passed(&mut caps, 0, 1_000, 50);
        assert!((100..=110).contains(&first), "{first}");
        let later = passed(&mut caps, 1_000, 11_000, 50);
        assert!((995..=1_005).contains(&later), "{later}");
    }

    #[test]
    fn one_probe_a_second_is_possible() {
        let mut caps = Caps {
            address: Some(alone(1)),
            ..Caps::default()
        };
        assert_eq!(passed(&mut caps, 0, 10_000, 1_000), 10);
    }

    #[test]
    fn what_the_prefix_refuses_costs_the_address_nothing() {
        let pace = Arc::new(Pace::new(1_000));
        let part = share(&pace);
        let mut both = Caps {
            prefix: Some(alone(10)),
            ..caps(&part)
        };
        let passed_both = passed(&mut both, 0, 1_000, 1_000);
        assert!((10..=12).contains(&passed_both), "{passed_both}");
        drop(both);
        let mut address = caps(&part);
        assert!(passed(&mut address, 1_000, 2_000, 500) >= 999);
    }

    /// Five checks of one second beside 300 of 10 ms, on one address with the
    /// usual cap: another tenant's, and the same tenant's.
    #[test]
    fn who_asks_for_little_is_not_refused_because_another_asks_for_much() {
        for own in [false, true] {
            let pace = Arc::new(Pace::new(1_000));
            let hostile = share(&pace);
            let victim = if own {
                Arc::clone(&hostile)
            } else {
                share(&pace)
            };
            let mut many: Vec<Caps> = (0..300).map(|_| caps(&hostile)).collect();
            let mut few: Vec<Caps> = (0..5).map(|_| caps(&victim)).collect();
            let (mut of_many, mut refused) = (0, 0);
            for ms in 0..15_000_u64 {
                for (n, one) in many.iter_mut().enumerate() {
                    let due = (ms + n as u64).is_multiple_of(10);
                    of_many += u64::from(due && one.take(Time(ms * 1_000 + n as u64)));
                }
                for (n, one) in few.iter_mut().enumerate() {
                    let due = (ms + 200 * n as u64).is_multiple_of(1_000);
                    let taken = !due || one.take(Time(ms * 1_000 + 999));
                    // At the start all want their first at once.
                    refused += u64::from(!taken && ms >= 1_000);
                }
            }
            assert_eq!(refused, 0, "own: {own}");
            let all = of_many + 75;
            assert!((14_900..=15_200).contains(&all), "{all}");
        }
    }

    #[test]
    fn two_that_ask_for_much_have_about_half_each() {
        let pace = Arc::new(Pace::new(1_000));
        let (one, other) = (share(&pace), share(&pace));
        let mut one: Vec<Caps> = (0..100).map(|_| caps(&one)).collect();
        let mut other: Vec<Caps> = (0..10).map(|_| caps(&other)).collect();
        let (mut of_one, mut of_other) = (0_u64, 0_u64);
        for ms in 0..10_000_u64 {
            for each in &mut one {
                of_one += u64::from(each.take(Time(ms * 1_000)));
            }
            for each in &mut other {
                of_other += u64::from(each.take(Time(ms * 1_000 + 500)));
            }
        }
        for share in [of_one, of_other] {
            assert!(share >= 3_900, "{of_one} and {of_other}");
        }
    }

    #[test]
    fn who_is_gone_has_no_part() {
        let pace = Arc::new(Pace::new(1_000));
        let (one, other) = (share(&pace), share(&pace));
        let kept = caps(&one);
        drop((kept.clone(), caps(&other)));
        assert_eq!(pace.tenants.load(Ordering::Relaxed), 1);
        assert_eq!(one.checks.load(Ordering::Relaxed), 1);
    }
}
