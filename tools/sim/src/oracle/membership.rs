//! Membership, beyond what every death is held against: health scores, and
//! that quiet nodes stay quiet.

use crate::faults::Fault;
use crate::host::Written;
use crate::limits;
use crate::workload::Phase;
use crate::world::World;

/// What a node says so soon after a stop, it worked out while it was stopped,
/// microseconds.
const RESUMED_US: u64 = 300_000;
/// A member is well after running for this long, microseconds.
const WELL_US: u64 = 500_000;
/// A death that somebody else spoke of so recently may be hearsay,
/// microseconds.
const HEARSAY_US: u64 = 20_000_000;
impl World {
    /// On a network that delivers, a dead peer is no sign of ill health of
    /// one's own.
    pub(crate) fn judge_health(&mut self) {
        let delivers = !self.options.faults.iter().any(|fault| {
            matches!(
                fault,
                Fault::Loss | Fault::Delay | Fault::Truncation | Fault::BitFlips | Fault::ClockRate
            )
        });
        if self.phase != Phase::Crash || !delivers {
            return;
        }
        let worst = self
            .living()
            .filter_map(|host| Some((self.hosts[host].agent.as_ref()?.health_score(), host)))
            .max();
        if let Some((score, host)) = worst.filter(|worst| worst.0 > limits::HEALTH_SCORE) {
            self.oracles
                .violate(self.now_us, Some(host), "membership", || {
                    format!("its health score is {score} because a peer is dead")
                });
        }
    }

    /// A node that was stopped itself has no right to hold others to a
    /// suspicion that ran out meanwhile: the refutation waits in its socket.
    pub(crate) fn judge_death_after_stall(
        &mut self,
        observer: usize,
        subject: usize,
        is_running: bool,
    ) {
        let now_us = self.now_us;
        let previous_us = std::mem::replace(&mut self.hosts[subject].died_us, now_us);
        let resumed_us = self.hosts[observer].stalled_until_us;
        let just_resumed = resumed_us > 0 && now_us - resumed_us.min(now_us) < RESUMED_US;
        let it = &self.hosts[subject];
        let well_since_us = it.started_us.max(it.stalled_until_us).max(it.held_until_us);
        let is_well = is_running && well_since_us + WELL_US < now_us;
        let first_to_say = previous_us + HEARSAY_US < now_us;
        let delivers = !self.options.faults.has(Fault::Loss) && self.net.is_whole();
        let healed = self.healed_us + HEARSAY_US < now_us;
        if just_resumed && is_well && first_to_say && delivers && healed {
            self.oracles
                .violate(now_us, Some(observer), "membership", || {
                    format!("was stopped and, going on, holds n{subject} for dead, which is well")
                });
        }
    }

    /// A node writes only after a measured outcome of its own.
    pub(crate) fn judge_write(&mut self, host: usize, check: u32) {
        let id = self.checks[check as usize];
        let it = &mut self.hosts[host];
        let Some(agent) = &it.agent else { return };
        let Some(seq) = agent.own_word(id) else {
            return;
        };
        let epoch = agent.actor().epoch;
        let written = it.writes.entry(check).or_default();
        let is_new = seq > written.seq || epoch != written.epoch;
        let is_anew = written.epoch != 0 && epoch != written.epoch;
        if is_new && !is_anew && !written.reported {
            self.oracles.violate(self.now_us, Some(host), "writes", || {
                format!("wrote of check {check} without an outcome of its own")
            });
        } else if is_new {
            *written = Written {
                epoch,
                seq,
                reported: false,
            };
        }
    }

    /// On a network that delivers, a whole run costs one write for each begun
    /// and each ended watch over a check, and one for each transition: whoever
    /// is overtaken by a release must not have to say again what it said.
    pub(crate) fn judge_writes(&mut self) {
        let gentle = |fault| matches!(fault, Fault::Drain | Fault::Capacity);
        if !self.options.faults.iter().all(gentle) {
            return;
        }
        let written: u64 = self.agents().map(|agent| agent.written()).sum();
        let writes = self.written_by_dead + written;
        let reasons = self.reasons_to_write;
        let collections = limits::COLLECTIONS_PER_NODE * self.hosts.len() as u64;
        let limit = reasons + reasons / limits::EXCESS_WRITES_DIVISOR + collections;
        if writes > limit {
            self.oracles.violate(self.now_us, None, "writes", || {
                format!("{writes} writes for {reasons} starts, stops and transitions")
            });
        }
    }

    /// Probing alone writes nothing: only changes do.
    pub(crate) fn judge_quiet_writes(&mut self) {
        let written: u64 = self.agents().map(|agent| agent.written()).sum();
        let writes = written.saturating_sub(self.written_before);
        let checks = self.options.checks as u64;
        let limit = checks * self.options.quiet_s / limits::QUIET_S_PER_WRITE;
        if writes > limit {
            self.oracles.violate(self.now_us, None, "bounds", || {
                format!("{writes} writes for {checks} checks in the quiet minute")
            });
        }
    }
}
