//! Membership, beyond what every death is held against: health scores, and
//! that quiet nodes stay quiet.

use crate::faults::Fault;
use crate::limits;
use crate::workload::Phase;
use crate::world::World;

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
