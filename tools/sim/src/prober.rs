//! One node's probe threads, without sockets: what is to be probed, when, and
//! what is reported.
//!
//! It decides neither how origins behave nor when time passes; health and
//! schedule are the production code's.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use watchfire_core::io::ReportKind;
use watchfire_probe_core::check::HealthRule;
use watchfire_probe_core::engine::Inherited;
use watchfire_probe_core::health::Health;
use watchfire_wire::message::replica::Answer;
use watchfire_wire::{Reason, Time, Unmeasured, Verdict};

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The origin answered as it should.
    Pass,
    /// It did not.
    Fail(Reason),
    /// Nothing was measured.
    NotMeasured(Unmeasured),
}

impl Outcome {
    /// The same, read late by a process that was stopped: that nothing came in
    /// time proves nothing then.
    #[must_use]
    pub const fn seen_late(self) -> Self {
        match self {
            Self::Fail(Reason::ConnectTimeout | Reason::FirstByteTimeout) => {
                Self::NotMeasured(Unmeasured::Late)
            }
            other => other,
        }
    }

    /// As the answer to a second opinion.
    #[must_use]
    pub const fn answer(self) -> Answer {
        match self {
            Self::Pass => Answer::Pass,
            Self::Fail(_) => Answer::Fail,
            Self::NotMeasured(_) => Answer::Silent,
        }
    }
}

/// What is probed at one node.
#[derive(Debug, Default)]
pub struct Prober {
    targets: HashMap<u32, Target, BuildHasherDefault<SmallHasher>>,
    /// See [`Engine::set_hurry`](watchfire_probe_core::engine::Engine::set_hurry);
    /// it has no fast interval, so this changes nothing.
    pub(crate) hurry: bool,
}

/// One check that is being probed.
#[derive(Clone, Debug)]
pub struct Target {
    /// Names the start in reports.
    pub generation: u32,
    /// When the next probe is due, on the node's clock.
    pub due: Time,
    health: Health,
    report_next: bool,
    unmeasured: u32,
}

/// The default rule: two passes make a check Up, three fails make it Down.
const RULE: HealthRule = HealthRule::RiseFall { rise: 2, fall: 3 };

impl Prober {
    /// Begins to probe, or begins anew.
    pub fn start(&mut self, check: u32, generation: u32, inherit: Option<Inherited>, due: Time) {
        let health = inherit.map_or_else(
            || Health::new(RULE),
            |known| Health::inherited(RULE, known.verdict, known.contrary),
        );
        let target = Target {
            generation,
            due,
            health,
            report_next: true,
            unmeasured: 0,
        };
        self.targets.insert(check, target);
    }

    /// Ends it.
    pub fn stop(&mut self, check: u32) {
        self.targets.remove(&check);
    }

    /// The next measured outcome is reported even if nothing changes.
    pub fn attend(&mut self, check: u32) {
        if let Some(target) = self.targets.get_mut(&check) {
            target.report_next = true;
        }
    }

    /// Forgets everything: the process is gone.
    pub fn clear(&mut self) {
        self.targets.clear();
    }

    /// What is known of a check that is being probed.
    #[must_use]
    pub fn target(&self, check: u32) -> Option<&Target> {
        self.targets.get(&check)
    }

    /// The same, to be changed.
    pub fn target_mut(&mut self, check: u32) -> Option<&mut Target> {
        self.targets.get_mut(&check)
    }

    /// The checks that are being probed, in no particular order.
    pub fn checks(&self) -> impl Iterator<Item = u32> {
        self.targets.keys().copied()
    }

    /// How many checks are being probed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Whether an outcome could change or report anything. Most could not, and
    /// need not be simulated to their end.
    #[must_use]
    pub fn matters(&self, check: u32, outcome: Outcome) -> bool {
        self.targets.get(&check).is_some_and(|target| {
            let agrees = match outcome {
                Outcome::Pass => target.health.verdict() == Verdict::Up,
                Outcome::Fail(_) => target.health.verdict() == Verdict::Down,
                Outcome::NotMeasured(_) => false,
            };
            !agrees || target.health.contrary() > 0 || target.unmeasured > 0 || target.report_next
        })
    }

    /// Takes a probe's outcome in; what is to be reported, if anything.
    pub fn observe(
        &mut self,
        check: u32,
        generation: u32,
        outcome: Outcome,
        latency_us: u32,
    ) -> Option<ReportKind> {
        let target = self.targets.get_mut(&check)?;
        if target.generation != generation {
            return None;
        }
        let (pass, reason) = match outcome {
            Outcome::Pass => (true, Reason::Passed.code()),
            Outcome::Fail(reason) => (false, reason.code()),
            Outcome::NotMeasured(reason) => {
                target.unmeasured += 1;
                let in_a_row = target.unmeasured;
                return Some(ReportKind::Unmeasured {
                    reason: reason.code(),
                    in_a_row,
                });
            }
        };
        target.unmeasured = 0;
        let was_contrary = target.health.contrary() > 0;
        let transition = target.health.record(pass).is_some();
        let changed = transition || was_contrary != (target.health.contrary() > 0);
        let report = changed || target.report_next;
        target.report_next = false;
        report.then_some(ReportKind::Measured {
            verdict: target.health.verdict(),
            reason,
            contrary: target.health.contrary(),
            latency_us,
        })
    }
}

/// For keys that are small numbers: a multiplication spreads them enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct SmallHasher(u64);

impl Hasher for SmallHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, key: u32) {
        self.write_u64(u64::from(key));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = (self.0.rotate_left(5) ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
