//! Coverage and budget, as the origins see them: every check is probed in time
//! in every component that can probe it, and by one node at a time.

use super::takeover_bound_us;
use crate::limits;
use crate::workload::{Options, Phase};
use crate::world::World;

/// A probe that comes sooner than this share of the interval after the one
/// before it is a second one.
const SECOND_WITHIN: f64 = 0.8;

/// When each check was last probed, in each component.
#[derive(Debug)]
pub(crate) struct Coverage {
    last: Vec<[Option<Probe>; 2]>,
    excused_us: Vec<u64>,
    second_within_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    at_us: u64,
}

impl Coverage {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            last: vec![[None; 2]; options.checks],
            excused_us: vec![0; options.checks],
            second_within_us: (options.interval_us as f64 * SECOND_WITHIN) as u64,
        }
    }

    /// A check was probed; whether that was the second time in its interval.
    pub(crate) fn probed(&mut self, check: u32, component: usize, now_us: u64) -> bool {
        let last = &mut self.last[check as usize][component];
        let second = last.is_some_and(|last| now_us - last.at_us < self.second_within_us);
        *last = Some(Probe { at_us: now_us });
        second
    }

    /// When a check was last probed in a component.
    pub(crate) fn last_probe(&self, check: u32, component: usize) -> Option<u64> {
        self.last[check as usize][component].map(|probe| probe.at_us)
    }

    /// Something happened to this check that a takeover may follow.
    pub(crate) fn excuse(&mut self, check: u32, now_us: u64) {
        self.excused_us[check as usize] = now_us;
    }

    /// Something happened to all checks.
    pub(crate) fn excuse_all(&mut self, now_us: u64) {
        self.excused_us.fill(now_us);
    }

    /// The POP falls into two components.
    pub(crate) fn split(&mut self, now_us: u64) {
        for last in &mut self.last {
            last[1] = last[0];
        }
        self.excuse_all(now_us);
    }

    /// How long a check has gone unprobed in a component, not counting what is
    /// excused.
    fn unprobed_us(&self, check: u32, component: usize, now_us: u64) -> u64 {
        let i = check as usize;
        let last_us = self.last[i][component].map_or(0, |probe| probe.at_us);
        now_us - last_us.max(self.excused_us[i]).min(now_us)
    }
}

impl World {
    /// Invariants 1 and 2, over all checks.
    pub(crate) fn judge_coverage(&mut self) {
        let components = if self.net.is_whole() { 1 } else { 2 };
        let limits_us = [0, 1].map(|component| self.unprobed_limit_us(component));
        for check in 0..self.options.checks as u32 {
            for (component, &limit_us) in limits_us.iter().enumerate().take(components) {
                let unprobed_us = self
                    .oracles
                    .coverage
                    .unprobed_us(check, component, self.now_us);
                if unprobed_us <= limit_us {
                    continue;
                }
                if self.able(check, component).next().is_none() {
                    self.oracles.coverage.excuse(check, self.now_us);
                    continue;
                }
                let able: Vec<usize> = self.able(check, component).collect();
                let probing: Vec<usize> = self.probing(check).collect();
                self.oracles.coverage.excuse(check, self.now_us);
                self.oracles.violate(self.now_us, None, "coverage", || {
                    format!(
                        "check {check} has not been probed in component {component} for {} ms; nodes {able:?} could, {probing:?} think that they do",
                        unprobed_us / 1_000,
                    )
                });
            }
        }
    }

    /// How long a check may go unprobed in a component. To hold all others for
    /// dead takes the longer the fewer remain to ask.
    fn unprobed_limit_us(&self, component: usize) -> u64 {
        let here = self
            .living()
            .filter(|&host| self.net.component(host) == component)
            .count();
        let others_each = (self.hosts.len() / here.max(1)) as u64;
        let takeover_us = takeover_bound_us(&self.options);
        self.options.interval_us + takeover_us.max(others_each * limits::MINORITY_US_PER_OTHER)
    }

    /// Exactly one prober per check, long after the last fault. Only a handover
    /// overlaps: whoever gave a check up may take it again much later.
    pub(crate) fn judge_single_prober(&mut self) {
        for check in 0..self.options.checks as u32 {
            if self.probing(check).nth(1).is_none() {
                self.oracles.overlaps.remove(&check);
                continue;
            }
            let now_us = self.now_us;
            let since_us = *self.oracles.overlaps.entry(check).or_insert(now_us);
            if now_us - since_us > limits::HANDOVER_INTERVALS * self.options.interval_us {
                let probing: Vec<usize> = self.probing(check).collect();
                self.oracles
                    .violate(self.now_us, Some(probing[0]), "budget", || {
                        format!("check {check} is probed by nodes {probing:?} long after calm")
                    });
                return;
            }
        }
    }

    /// Second probes in the quiet minute.
    pub(crate) fn judge_budget(&mut self) {
        let ratio = self.measures.duplicate_ratio();
        if ratio > limits::QUIET_DUPLICATES && self.phase == Phase::End {
            let (seconds, probes) = (self.measures.quiet_duplicates, self.measures.quiet_probes);
            self.oracles.violate(self.now_us, None, "budget", || {
                format!("{seconds} of {probes} probes in the quiet minute were second ones")
            });
        }
    }

    /// Running nodes of a component that have had the time to join and can
    /// measure a check.
    fn able(&self, check: u32, component: usize) -> impl Iterator<Item = usize> + '_ {
        let limit_us = self.options.interval_us + takeover_bound_us(&self.options);
        let long_ago = move |at_us: u64| at_us + limits::JOIN_BOUND_US + limit_us < self.now_us;
        self.living().filter(move |&host| {
            let it = &self.hosts[host];
            it.config[check as usize]
                && self.net.component(host) == component
                && long_ago(it.started_us)
                && long_ago(it.stalled_until_us)
                && long_ago(it.held_until_us)
                && !it.sick
                && !(it.unmeasurable && check.is_multiple_of(2))
        })
    }

    /// The nodes that probe a check.
    pub(crate) fn probing(&self, check: u32) -> impl Iterator<Item = usize> + '_ {
        self.living()
            .filter(move |&host| self.hosts[host].prober.target(check).is_some())
    }
}
