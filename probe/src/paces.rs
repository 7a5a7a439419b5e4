//! Which destinations share which cap.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use watchfire_probe_core::Tenant;
use watchfire_probe_core::rate::{Cap, Caps, Pace, Share};

use crate::limits::PACES_BEFORE_SWEEP;
use crate::options::Options;

/// The caps of all destinations that any check has. Those that no check has
/// any more are forgotten.
#[derive(Debug)]
pub(crate) struct Paces {
    per_address: Option<u32>,
    per_prefix: Option<u32>,
    len_v4: u8,
    len_v6: u8,
    addresses: Registry,
    prefixes: Registry,
}

impl Paces {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            per_address: options.rate_per_address,
            per_prefix: options.rate_per_prefix,
            len_v4: options.prefix_len_v4,
            len_v6: options.prefix_len_v6,
            addresses: Registry::default(),
            prefixes: Registry::default(),
        }
    }

    /// The caps that a tenant's probes to `addr` are subject to. An address of
    /// IPv4 in IPv6's form is the same address.
    pub(crate) fn of(&mut self, addr: IpAddr, tenant: Tenant) -> Caps {
        let addr = addr.to_canonical();
        let prefix = self.prefix(addr);
        Caps {
            address: self
                .per_address
                .map(|rate| self.addresses.of(addr, tenant, rate)),
            prefix: self
                .per_prefix
                .map(|rate| self.prefixes.of(prefix, tenant, rate)),
            tenant,
        }
    }

    /// The first address of `addr`'s prefix.
    fn prefix(&self, addr: IpAddr) -> IpAddr {
        match addr {
            IpAddr::V4(v4) => {
                let host_bits = 32 - u32::from(self.len_v4.min(32));
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) => {
                let host_bits = 128 - u32::from(self.len_v6.min(128));
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        }
    }
}

/// Caps by destination, and tenants' parts of them, kept alive by the checks
/// that share them.
#[derive(Debug)]
struct Registry {
    paces: HashMap<IpAddr, Weak<Pace>>,
    shares: HashMap<(IpAddr, Tenant), Weak<Share>>,
    sweep_at: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            paces: HashMap::new(),
            shares: HashMap::new(),
            sweep_at: PACES_BEFORE_SWEEP,
        }
    }
}

impl Registry {
    fn of(&mut self, key: IpAddr, tenant: Tenant, rate: u32) -> Cap {
        if self.shares.len() >= self.sweep_at {
            self.shares.retain(|_, share| share.strong_count() > 0);
            self.paces.retain(|_, pace| pace.strong_count() > 0);
            self.sweep_at = (self.shares.len() * 2).max(PACES_BEFORE_SWEEP);
        }
        let known = self.shares.entry((key, tenant)).or_default();
        let share = known.upgrade().unwrap_or_else(|| {
            let known_pace = self.paces.entry(key).or_default();
            let pace = known_pace.upgrade().unwrap_or_else(|| {
                let pace = Arc::new(Pace::new(rate));
                *known_pace = Arc::downgrade(&pace);
                pace
            });
            let share = Arc::new(Share::new(pace));
            *known = Arc::downgrade(&share);
            share
        });
        Cap::new(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &Option<Cap>, b: &Option<Cap>) -> bool {
        let [a, b] = [a, b].map(|cap| cap.as_ref().unwrap().share().pace());
        Arc::ptr_eq(a, b)
    }

    #[test]
    fn neighbours_share_a_prefix_and_strangers_nothing() {
        let mut paces = Paces::new(&Options::default());
        let a = paces.of("192.0.2.1".parse().unwrap(), Tenant::NOBODY);
        let b = paces.of("192.0.2.200".parse().unwrap(), Tenant::NOBODY);
        let c = paces.of("192.0.3.1".parse().unwrap(), Tenant::NOBODY);
        let again = paces.of("192.0.2.1".parse().unwrap(), Tenant::NOBODY);
        assert!(same(&a.address, &again.address) && same(&a.prefix, &b.prefix));
        let mapped = paces.of("::ffff:192.0.2.1".parse().unwrap(), Tenant::of("other"));
        assert!(same(&a.address, &mapped.address) && same(&a.prefix, &mapped.prefix));
        assert!(!same(&a.address, &b.address) && !same(&a.prefix, &c.prefix));
        let d = paces.of("2001:db8::1".parse().unwrap(), Tenant::NOBODY);
        let e = paces.of("2001:db8:0:ffff::1".parse().unwrap(), Tenant::NOBODY);
        let f = paces.of("2001:db8:1::1".parse().unwrap(), Tenant::NOBODY);
        assert!(same(&d.prefix, &e.prefix) && !same(&d.prefix, &f.prefix));
    }

    #[test]
    fn a_prefix_of_no_bits_is_everybody() {
        let mut paces = Paces::new(&Options {
            prefix_len_v4: 0,
            ..Options::default()
        });
        let a = paces.of("192.0.2.1".parse().unwrap(), Tenant::NOBODY);
        let b = paces.of("203.0.113.9".parse().unwrap(), Tenant::NOBODY);
        assert!(same(&a.prefix, &b.prefix));
    }

    #[test]
    fn what_no_check_has_is_forgotten() {
        let mut paces = Paces::new(&Options::default());
        for n in 0..20 * PACES_BEFORE_SWEEP as u32 {
            let _ = paces.of(IpAddr::V4(n.into()), Tenant::NOBODY);
        }
        assert!(paces.addresses.paces.len() <= PACES_BEFORE_SWEEP);
        assert!(paces.prefixes.paces.len() <= PACES_BEFORE_SWEEP);
    }
}
