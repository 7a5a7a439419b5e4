//! Truthfulness and nothing lost: what tables say against how origins behave.

use watchfire_wire::Verdict;

use crate::limits;
use crate::world::World;

/// When any table last changed its mind about each check.
#[derive(Debug)]
pub(crate) struct Truth {
    changed_us: Vec<u64>,
}

impl Truth {
    pub(crate) fn new(checks: usize) -> Self {
        Self {
            changed_us: vec![0; checks],
        }
    }

    /// A table changed its verdict.
    pub(crate) fn published(&mut self, check: u32, now_us: u64) {
        self.changed_us[check as usize] = now_us;
    }
}

impl World {
    /// A verdict that was written long ago, on a whole network, is in every
    /// living table unless a newer one came.
    pub(crate) fn judge_spread(&mut self) {
        if self.net.is_whole() {
            let late = self
                .spreading
                .iter()
                .find(|(_, watch)| self.now_us - watch.at_us > limits::SPREAD_BOUND_US);
            if let Some((&check, watch)) = late {
                let missing: Vec<usize> = (0..self.hosts.len())
                    .filter(|&host| watch.missing[host / 64] & (1 << (host % 64)) != 0)
                    .collect();
                let verdict = watch.verdict;
                let at_ms = watch.at_us / 1_000;
                self.spreading.remove(&check);
                self.oracles.violate(self.now_us, missing.first().copied(), "nothing lost", || {
                    format!("check {check} turned {verdict} at {at_ms} ms and nodes {missing:?} have not seen it")
                });
            }
        }
    }

    /// What the real table says, to a reader, is what the POP holds.
    pub(crate) fn judge_shown(&mut self) {
        for host in self.living().collect::<Vec<_>>() {
            let it = &self.hosts[host];
            let now = it.clock.local(self.now_us);
            let Some(agent) = &it.agent else { continue };
            let wrong = (0..self.options.checks).find_map(|check| {
                let held = it.table.verdicts[check].filter(|_| it.config[check])?;
                let name = &self.names[check % self.options.names()];
                if agent.override_of(name).is_some() {
                    return None;
                }
                let shown = agent.shown(name, now).map(|entry| entry.verdict);
                // What was measured and is not decided leaves what was there.
                let decided = held.verdict != Verdict::Unknown;
                (decided && shown != Some(held.verdict.into())).then_some((check, held, shown))
            });
            if let Some((check, held, shown)) = wrong {
                self.oracles.violate(self.now_us, Some(host), "tables", || {
                    format!("of check {check} it holds {held:?} and its table shows {shown:?}")
                });
                return;
            }
        }
    }

    /// After calm, every table of a node that has the check says how the
    /// origin behaves.
    pub(crate) fn judge_truth(&mut self) {
        for check in 0..self.options.checks as u32 {
            let truth = if self.origins.health(check).is_good() {
                Verdict::Up
            } else {
                Verdict::Down
            };
            let wrong = self.living().find(|&host| {
                let it = &self.hosts[host];
                it.config[check as usize]
                    && it.table.verdicts[check as usize].is_none_or(|says| says.verdict != truth)
            });
            if let Some(host) = wrong {
                let says = self.hosts[host].table.verdicts[check as usize];
                let changed_ms = self.oracles.truth.changed_us[check as usize] / 1_000;
                let probing: Vec<usize> = self.probing(check).collect();
                self.oracles.violate(self.now_us, Some(host), "truth", || {
                    format!("check {check} is {truth}, the table says {says:?}; a table changed last at {changed_ms} ms, nodes {probing:?} probe it")
                });
                return;
            }
        }
    }
}
