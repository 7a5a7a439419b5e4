//! The POP's way to the world fails, or many origins really do: what the brake
//! must tell apart.

use std::fmt;

use clap::ValueEnum;
use watchfire_wire::{Reason, Verdict};

use crate::origin::Health;
use crate::prober::Outcome;
use crate::workload::{Action, Options, Phase, Plan, SECOND_US};
use crate::world::World;

/// What happens to the way to the origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Uplink {
    /// Nothing comes back at all.
    Dead,
    /// Everything takes longer than a probe may.
    Slow,
    /// Three packets of ten are lost, and with them more than half of the
    /// probes.
    Lossy,
    /// Half of the nodes reach nothing.
    HalfOfPop,
    /// A third of the origins dies, all over the world.
    Third,
    /// The origins of one network in five die.
    Networks,
}

impl Uplink {
    /// The origins really die.
    const fn is_real(self) -> bool {
        matches!(self, Self::Third | Self::Networks)
    }
}

impl fmt::Display for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value().expect("none is hidden");
        f.write_str(name.get_name())
    }
}

/// How long it lasts.
const LASTS_US: u64 = 40 * SECOND_US;

/// What really died is Down everywhere so long after its third failure and a
/// second opinion may have come: the ordinary time, and one window of the brake.
const DOWN_WITHIN_US: u64 = 8 * SECOND_US;

/// A probe is lost with this chance where three packets of ten are.
const LOST: f64 = 0.55;

/// In the ten seconds after the return no second sees more than this many times
/// the probes of a calm one.
const RETURN_RATE: f64 = 1.5;

/// A run: calm, the fault, calm.
pub(crate) fn plan(options: &Options, uplink: Uplink, from_us: u64, plan: &mut Plan) {
    let mut at_us = from_us;
    plan.push((at_us, Action::Phase(Phase::Single)));
    at_us += 12 * options.interval_us.max(SECOND_US);
    plan.push((at_us, Action::Uplink(Some(uplink))));
    if uplink.is_real() {
        let dead = (0..options.checks as u32).filter(|&check| match uplink {
            Uplink::Networks => network(check, options).is_multiple_of(5),
            _ => check % 3 == 0,
        });
        let checks: Vec<u32> = dead.collect();
        for (at_us, health) in [(at_us, Health::Hanging), (at_us + LASTS_US, Health::Good)] {
            let checks = checks.clone();
            let why = None;
            plan.push((
                at_us,
                Action::Origins {
                    checks,
                    health,
                    why,
                },
            ));
        }
        let fails_us = 3 * options.interval_us + 2 * options.timeout_us();
        let down_us = at_us + fails_us + DOWN_WITHIN_US;
        plan.push((down_us, Action::JudgeDowns));
    }
    at_us += LASTS_US;
    plan.push((at_us - 1, Action::JudgeDowns));
    plan.push((at_us, Action::Uplink(None)));
    at_us += 10 * SECOND_US;
    // Where half of the nodes were blind they take their checks back, and two
    // probe each for a moment.
    if uplink != Uplink::HalfOfPop {
        plan.push((at_us, Action::JudgeReturn));
    }
    // Afterwards all is as it was: who dies now is Down.
    let few: Vec<u32> = (0..options.checks as u32).step_by(20).collect();
    let down_us = 3 * options.interval_us + 2 * options.timeout_us() + DOWN_WITHIN_US;
    at_us += 2 * options.interval_us;
    for (wait_us, health) in [(0, Health::Hanging), (down_us, Health::Good)] {
        let (checks, why) = (few.clone(), None);
        let origins = Action::Origins {
            checks,
            health,
            why,
        };
        plan.push((at_us + wait_us, origins));
    }
    plan.push((at_us + down_us - 1, Action::JudgeDowns));
    at_us += down_us + 6 * options.interval_us;
    plan.push((at_us, Action::Phase(Phase::Rest)));
    at_us += 20 * SECOND_US;
    plan.push((at_us, Action::Phase(Phase::End)));
}

/// The network in which the origin of a check lies: three checks in each.
fn network(check: u32, options: &Options) -> u32 {
    check % networks(options)
}

fn networks(options: &Options) -> u32 {
    (options.checks as u32).div_ceil(3).max(1)
}

/// The place of a check's origin among 2^24 addresses, 256 to a network.
pub(crate) fn place(check: u32, options: &Options) -> u32 {
    let networks = networks(options);
    ((check % networks) << 8) | (check / networks)
}

/// The check whose origin lies there.
pub(crate) fn check_of(place: u32, options: &Options) -> u32 {
    (place & 0xff) * networks(options) + (place >> 8)
}

impl World {
    /// What the way to the origins makes of a probe; nothing if it lives.
    pub(crate) fn through_uplink(&mut self, host: usize) -> Option<Outcome> {
        let timeout = Outcome::Fail(Reason::ConnectTimeout);
        match self.uplink? {
            Uplink::Dead => Some(timeout),
            Uplink::Slow => Some(Outcome::Fail(Reason::FirstByteTimeout)),
            Uplink::Lossy => self.rng.chance(LOST).then_some(timeout),
            Uplink::HalfOfPop => host.is_multiple_of(2).then_some(timeout),
            Uplink::Third | Uplink::Networks => None,
        }
    }

    /// Counts the probes of each second.
    pub(crate) fn count_probe(&mut self) {
        let second = (self.now_us / SECOND_US) as usize;
        if self.probes_per_second.len() <= second {
            self.probes_per_second.resize(second + 1, 0);
        }
        self.probes_per_second[second] += 1;
    }

    /// Whatever is Down died, and whatever died is Down.
    pub(crate) fn judge_downs(&mut self) {
        let (mut false_downs, mut missed) = (0, 0);
        let mut example = None;
        for host in self.living().collect::<Vec<_>>() {
            for check in 0..self.options.checks as u32 {
                let says = self.hosts[host].table.verdicts[check as usize];
                let down = says.is_some_and(|says| says.verdict == Verdict::Down);
                let good = self.origins.health(check).is_good();
                if down == good {
                    example = Some((host, check));
                    if good {
                        false_downs += 1;
                    } else {
                        missed += 1;
                    }
                }
            }
        }
        if let Some((host, check)) = example {
            self.oracles.violate(self.now_us, Some(host), "uplink", || {
                format!(
                    "{false_downs} entries of tables are Down and their origins live, {missed} \
                     are not and their origins died, as check {check}"
                )
            });
        }
    }

    /// The return is no herd.
    pub(crate) fn judge_return(&mut self) {
        let now = (self.now_us / SECOND_US) as usize;
        let calm = self.options.checks as f64 * 1e6 / self.options.interval_us as f64;
        let after = &self.probes_per_second[now.saturating_sub(10)..];
        let worst = after.iter().copied().max().unwrap_or(0);
        if f64::from(worst) > RETURN_RATE * calm + 10.0 {
            self.oracles.violate(self.now_us, None, "uplink", || {
                format!("{worst} probes in a second after the return, {calm:.0} in a calm one")
            });
        }
    }
}
