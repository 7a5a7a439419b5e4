//! Convergence: equal claims imply equal state at every moment, and after calm
//! everybody agrees on everything.

use std::collections::BTreeMap;

use watchfire_wire::Actor;

use crate::faults::Fault;
use crate::limits;
use crate::uplink::Uplink;
use crate::workload::Phase;
use crate::world::World;

impl World {
    /// What is checked again and again while a run goes on.
    pub(crate) fn sweep(&mut self) {
        self.oracles.sweeps += 1;
        self.judge_coverage();
        self.judge_spread();
        self.judge_health();
        self.judge_releases();
        self.judge_overrides();
        if self.has_cpu() {
            self.judge_load();
        }
        if self.oracles.sweeps.is_multiple_of(4) {
            self.judge_equal_claims();
            self.judge_equal_winners();
        }
        let calm_us = self.now_us - self.oracles.calm_since_us;
        if self.phase == Phase::Rest && calm_us > limits::CONVERGENCE_BOUND_US {
            self.judge_single_prober();
        }
    }

    /// What must hold when a run ends, in peace.
    pub(crate) fn final_judgement(&mut self) {
        self.judge_budget();
        self.judge_writes();
        self.judge_single_prober();
        self.judge_equal_claims();
        self.judge_agreement();
        self.judge_truth();
        self.judge_shown();
        self.judge_overrides();
        self.judge_bounds();
        let silent = self.fired.silent(self.options.faults);
        if !silent.is_empty() {
            self.oracles.violate(self.now_us, None, "faults", || {
                format!("asked for and never happened: {silent}")
            });
        }
    }

    /// Invariant 3, its first half: who claims the same of an actor holds the
    /// same of it.
    fn judge_equal_claims(&mut self) {
        let mut seen: BTreeMap<(Actor, u64), (usize, u64)> = BTreeMap::new();
        let mut wrong = None;
        'hosts: for host in self.living().filter(|&host| !self.is_liar(host)) {
            let Some(agent) = &self.hosts[host].agent else {
                continue;
            };
            for (actor, claim, state) in agent.claims() {
                let first = *seen.entry((actor, claim)).or_insert((host, state));
                if first.1 != state {
                    wrong = Some((first.0, host, actor, claim));
                    break 'hosts;
                }
            }
        }
        if let Some((a, b, actor, claim)) = wrong {
            let author = self.host_of(actor.node);
            self.oracles.violate(self.now_us, Some(b), "equal claims", || {
                format!("n{a} and n{b} claim all that n{author:?} (epoch {}) wrote up to {claim} and differ", actor.epoch)
            });
        }
    }

    /// Who holds the same must read the same from it.
    fn judge_equal_winners(&mut self) {
        let mut readers: BTreeMap<u64, usize> = BTreeMap::new();
        // A share of the checks at a time, so that a large POP costs no more.
        let step = (self.hosts.len() * self.checks.len()).div_ceil(limits::WINNERS_PER_SWEEP);
        let from = self.oracles.sweeps as usize / 4 % step;
        let mut wrong = None;
        'hosts: for host in self.living() {
            let Some(agent) = &self.hosts[host].agent else {
                continue;
            };
            let first = *readers.entry(agent.digest()).or_insert(host);
            let Some(other) = &self.hosts[first].agent else {
                continue;
            };
            if first == host {
                continue;
            }
            for check in (from..self.checks.len()).step_by(step) {
                let id = self.checks[check];
                if agent.winner(id) != other.winner(id) {
                    wrong = Some((first, host, check));
                    break 'hosts;
                }
            }
        }
        if let Some((a, b, check)) = wrong {
            self.oracles
                .violate(self.now_us, Some(b), "convergence", || {
                    format!(
                        "n{a} and n{b} hold the same and read different winners of check {check}"
                    )
                });
        }
    }

    /// Where nothing but handovers happens, a release never beats the word of
    /// the successor: it was written after that word was seen, and at its own
    /// term. While a POP forms, nodes that do not know each other yet write
    /// side by side, and that is no handover.
    fn judge_releases(&mut self) {
        let gentle = |fault| matches!(fault, Fault::Drain | Fault::Capacity);
        // A node that goes blind declines what others have just taken.
        let declines = self.options.uplink == Some(Uplink::HalfOfPop);
        if declines || self.phase == Phase::Settle || !self.options.faults.iter().all(gentle) {
            return;
        }
        let living: Vec<usize> = self.living().collect();
        let turn = self.oracles.sweeps as usize % living.len().max(1);
        let Some(&host) = living.get(turn) else {
            return;
        };
        let Some(agent) = &self.hosts[host].agent else {
            return;
        };
        let beaten = self.checks.iter().enumerate().find_map(|(check, &id)| {
            let (winner, live) = agent.beaten_by_release(id)?;
            let successor = self.host_of(live.node)?;
            let probes = self.hosts[successor].prober.target(check as u32).is_some();
            (probes && self.is_current(successor, live)).then_some((check, winner, successor))
        });
        if let Some((check, winner, successor)) = beaten {
            self.oracles.violate(self.now_us, Some(host), "release", || {
                format!("the release of check {check} by {winner:?} beats the word of n{successor}, which probes it")
            });
        }
    }

    /// Equal claims again, slot by slot, trusting no digest of the nodes' own.
    fn judge_held(&mut self, first: usize, others: &[usize]) {
        let held = |host: usize| -> BTreeMap<(Actor, u64), u64> {
            let agent = self.hosts[host].agent.as_ref().expect("it lives");
            let claims = agent
                .claims()
                .map(|(actor, seq, _)| ((actor, seq), agent.held_of(actor)));
            claims.collect()
        };
        let here = held(first);
        for &other in others {
            for (claim, there) in held(other) {
                if here.get(&claim).is_some_and(|here| *here != there) {
                    let (actor, seq) = claim;
                    self.oracles.violate(self.now_us, Some(other), "equal claims", || {
                        format!("slot by slot it differs from n{first} in what both claim of {actor:?} up to {seq}")
                    });
                    return;
                }
            }
        }
    }

    /// Invariant 3, its second half: after calm all replicas and tables agree.
    fn judge_agreement(&mut self) {
        let living: Vec<usize> = self.living().collect();
        let Some((&first, others)) = living.split_first() else {
            return;
        };
        for &host in &living {
            let agent = self.hosts[host].agent.as_ref().expect("it lives");
            let knows = agent.living_members();
            if knows != living.len() {
                self.oracles
                    .violate(self.now_us, Some(host), "membership", || {
                        format!("knows {knows} living members of {}", living.len())
                    });
                return;
            }
        }
        let digest = |host: usize| self.hosts[host].agent.as_ref().map(|agent| agent.digest());
        if let Some(&other) = others.iter().find(|&&other| digest(other) != digest(first)) {
            self.oracles
                .violate(self.now_us, Some(other), "convergence", || {
                    format!("its state differs from that of n{first}")
                });
        }
        self.judge_held(first, others);
        for check in 0..self.options.checks {
            let says = |host: usize| self.hosts[host].table.verdicts[check];
            if let Some(&other) = others.iter().find(|&&other| says(other) != says(first)) {
                let (here, there) = (says(first), says(other));
                self.oracles
                    .violate(self.now_us, Some(other), "tables", || {
                        format!("check {check}: n{first} says {here:?}, n{other} {there:?}")
                    });
                return;
            }
        }
    }
}
