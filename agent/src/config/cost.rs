//! What a set of checks costs the POP, and how soon it tells of a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use watchfire_host::Origins;
use watchfire_probe_core::CheckSpec;
use watchfire_probe_core::check::HealthRule;
use watchfire_probe_core::policy::Network;

/// What the other members are given to answer a question for a second opinion
/// beyond the probe itself, and the bound of the whole question.
const OPINION_WAIT: Duration = Duration::from_millis(150);
const OPINION_BOUND: Duration = Duration::from_secs(2);

/// Origins of one network share a fate and often a firewall.
const NETWORK_BITS_V4: u8 = 24;
const NETWORK_BITS_V6: u8 = 64;

/// What a set of checks costs, over the whole POP.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    /// Checks that are probed.
    pub(crate) checks: usize,
    /// Probes in a second while all is well.
    pub(crate) probes_per_s: f64,
    /// Networks, /24 or /64, in which the targets lie.
    pub(crate) networks: usize,
    /// Names among the targets, which are resolved at run time.
    pub(crate) names: usize,
    /// Checks of one kind and timing, the slowest to tell first.
    pub(crate) classes: Vec<Class>,
}

/// Checks of one kind and timing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Class {
    /// From a fault, just after a good probe, to Down in every table, at worst,
    /// without loss on our side.
    pub(crate) fault_to_table_ms: u64,
    pub(crate) kind: &'static str,
    pub(crate) interval_ms: u64,
    pub(crate) timeout_ms: u64,
    /// Fails that make it Down.
    pub(crate) fails: u8,
    pub(crate) checks: usize,
}

impl Cost {
    /// Of these origins, told within a gossip period.
    pub(crate) fn of(origins: &Origins, period: Duration) -> Self {
        let probed = origins
            .checks
            .iter()
            .filter(|(id, _)| !origins.refused.contains_key(*id));
        let (mut checks, mut probes_per_s) = (0, 0.0);
        let mut networks = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut classes: BTreeMap<Class, usize> = BTreeMap::new();
        for (_, spec) in probed {
            checks += 1;
            probes_per_s += 1.0 / spec.interval.as_secs_f64();
            *classes.entry(class(spec, period)).or_default() += 1;
            if let Some(name) = &spec.name {
                names.insert(name.clone());
                continue;
            }
            let ip = spec.target.ip().to_canonical();
            let bits = if ip.is_ipv4() {
                NETWORK_BITS_V4
            } else {
                NETWORK_BITS_V6
            };
            networks.insert(Network::new(ip, bits).to_string());
        }
        let mut classes: Vec<_> = classes
            .into_iter()
            .map(|(class, checks)| Class { checks, ..class })
            .collect();
        classes.reverse();
        Self {
            checks,
            probes_per_s,
            networks: networks.len(),
            names: names.len(),
            classes,
        }
    }
}

fn class(spec: &CheckSpec, period: Duration) -> Class {
    let fails = match spec.rule {
        HealthRule::RiseFall { fall, .. } => fall,
        HealthRule::Window {
            window, threshold, ..
        } => window - threshold + 1,
    };
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Class {
        fault_to_table_ms: ms(fault_to_table(spec, fails, period)),
        kind: spec.kind_key(),
        interval_ms: ms(spec.interval),
        timeout_ms: ms(spec.timeout),
        fails,
        checks: 0,
    }
}

/// The next probe may be an interval away; each but the last fail brings
/// another after the fast interval; the last one may take the whole timeout,
/// and so may the others' second opinion; then a period to tell everybody.
fn fault_to_table(spec: &CheckSpec, fails: u8, period: Duration) -> Duration {
    let fast = spec.fast_interval.unwrap_or(spec.interval);
    // A probe ends before the next one begins.
    let between = fast.max(spec.timeout);
    let opinion = (spec.timeout + OPINION_WAIT).min(OPINION_BOUND);
    spec.interval + between * u32::from(fails.saturating_sub(1)) + spec.timeout + opinion + period
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_fault_is_told_after_the_fails_the_last_timeout_and_the_second_opinion() {
        let spec = CheckSpec {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            ..CheckSpec::tcp(([192, 0, 2, 1], 80).into())
        };
        let period = Duration::from_millis(200);
        let ms = |spec: &CheckSpec, fails| fault_to_table(spec, fails, period).as_millis();
        assert_eq!(ms(&spec, 3), 1_000 + 2 * 1_000 + 500 + 650 + 200);
        let fast = CheckSpec {
            fast_interval: Some(Duration::from_millis(200)),
            ..spec.clone()
        };
        assert_eq!(ms(&fast, 3), 1_000 + 2 * 500 + 500 + 650 + 200);

        let other = CheckSpec {
            target: ([192, 0, 2, 2], 80).into(),
            ..spec.clone()
        };
        let mut origins = Origins::default();
        for spec in [spec, fast, other] {
            origins.checks.insert(spec.id(), Arc::new(spec));
        }
        let cost = Cost::of(&origins, period);
        assert_eq!((cost.checks, cost.networks), (3, 1));
        assert!((cost.probes_per_s - 3.0).abs() < 1e-9);
        let counts: Vec<_> = cost.classes.iter().map(|class| class.checks).collect();
        assert_eq!(counts, [2, 1]);
    }
}
