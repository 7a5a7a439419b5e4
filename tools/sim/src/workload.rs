//! What a run goes through, laid out in advance from its seed: the standard
//! workload, and before it, if faults were asked for, a stretch of turmoil.
//!
//! It only says what shall happen when; the world makes it happen.

use crate::faults::{Fault, FaultSet};
use crate::origin::Health;
use crate::rng::Rng;
use crate::uplink::{self, Uplink};

/// One second, in the simulation's unit.
pub const SECOND_US: u64 = 1_000_000;

/// Something that shall happen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// A process starts.
    Boot { host: usize },
    /// A process starts with its disk lost and its wall clock set back.
    BootAmnesic { host: usize },
    /// A process is killed.
    Kill { host: usize, why: Fault },
    /// A process is told to say goodbye.
    Leave { host: usize },
    /// A node hands over its checks, or takes part again.
    Drain { host: usize, on: bool },
    /// A node's weight changes.
    Weigh { host: usize, capacity: u16 },
    /// A process is stopped for so long.
    Stall {
        host: usize,
        for_us: u64,
        why: Fault,
    },
    /// What a node sends and what reaches it is held back for so long, while
    /// its timers go on.
    Hold { host: usize, for_us: u64 },
    /// A monotonic clock leaps forward.
    Leap { host: usize, by_us: u64 },
    /// The hosts named are cut from all others.
    Cut { hosts: Vec<usize>, one_way: bool },
    /// The cut is healed.
    Heal,
    /// The configuration of a node gains these checks.
    Give {
        host: usize,
        checks: Vec<u32>,
        why: Fault,
    },
    /// It loses them.
    Take { host: usize, checks: Vec<u32> },
    /// Origins change.
    Origins {
        checks: Vec<u32>,
        health: Health,
        why: Option<Fault>,
    },
    /// A node's path to the origins dies or comes back.
    Blind { host: usize, on: bool },
    /// The way to the origins changes for the whole POP, or is as it was.
    Uplink(Option<Uplink>),
    /// Whatever is Down died, and whatever died is Down.
    JudgeDowns,
    /// The return of the uplink is no herd.
    JudgeReturn,
    /// A node runs out of local ports for every second check, or has them back.
    Unmeasurable { host: usize, on: bool },
    /// A node's probe threads as a whole fall ill, or recover.
    Sick { host: usize, on: bool },
    /// The processors of these hosts do everything so many times slower.
    Slow { hosts: Vec<usize>, times: f64 },
    /// Threads that belong to no node keep the cores busy for so long.
    Hog { for_us: u64 },
    /// All definitions of a host change at once.
    Reload {
        host: usize,
        take: Vec<u32>,
        give: Vec<u32>,
    },
    /// A load that tried the POP begins or ends.
    Load { on: bool },
    /// Strangers and recordings trouble a node.
    Mischief,
    /// An operator decides about a name, by its number.
    Decide {
        host: usize,
        name: usize,
        op: watchfire_core::overrides::Op,
        for_ms: Option<u64>,
    },
    /// A wall clock is wrong from the next start on.
    WallOff { host: usize, by_ms: i64 },
    /// All processes are killed and start at once.
    RestartAll,
    /// A member begins to lie.
    Lie { host: usize },
    /// It says something to everybody.
    LieOn,
    /// It dies, or is put out of the POP.
    EndLies { evict: bool },
    /// Nobody goes by a dead liar's word against a living one's.
    JudgeDead,
    /// Nothing of it is left.
    JudgeLies,
    /// A phase begins.
    Phase(Phase),
}

/// The parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Processes start and find each other.
    Settle,
    /// Faults happen.
    Turmoil,
    /// No more faults but those of the network.
    Calm,
    /// One origin turns bad and good again.
    Single,
    /// Half of the origins turn bad and good again.
    Mass,
    /// One process is killed.
    Crash,
    /// It starts again.
    Restart,
    /// Nothing happens for a minute.
    Quiet,
    /// The network is perfect: everything must fall into place.
    Rest,
    /// The run is over.
    End,
}

/// What a run is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Nodes of the POP.
    pub nodes: usize,
    /// Checks, each with an origin of its own.
    pub checks: usize,
    /// The faults.
    pub faults: FaultSet,
    /// The share of datagrams lost under [`Fault::Loss`].
    pub loss: f64,
    /// From one probe of a check to the next, microseconds.
    pub interval_us: u64,
    /// The length of the quiet minute, seconds.
    pub quiet_s: u64,
    /// Frames are sealed with a real key instead of a checksum.
    pub sealed: bool,
    /// A bug to be found.
    pub mutation: Option<crate::agent::Mutation>,
    /// The longest that a probe may take, microseconds; half of the interval
    /// unless said.
    pub timeout_us: Option<u64>,
    /// The interval of checks in doubt, microseconds, where the production
    /// engine probes.
    pub fast_us: Option<u64>,
    /// What processors cost; nothing unless said.
    pub cpu: Option<crate::cpu::CpuOptions>,
    /// Origin names; as many as checks unless said. Check n belongs to the name
    /// n modulo this.
    pub names: Option<usize>,
    /// What happens to the way to the origins. With it they lie in many
    /// networks, and nodes hold Downs back; without, in few, and they do not.
    pub uplink: Option<Uplink>,
    /// Threads that belong to no node and may keep shared cores busy.
    pub hogs: usize,
    /// Operators decide about origins, and one wall clock is an hour off.
    pub overrides: bool,
}

impl Options {
    /// Origin names.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names.unwrap_or(self.checks).max(1)
    }

    /// The longest that a probe may take, microseconds.
    #[must_use]
    pub fn timeout_us(&self) -> u64 {
        self.timeout_us.unwrap_or(self.interval_us / 2)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 24,
            checks: 200,
            faults: FaultSet::NONE,
            loss: 0.05,
            interval_us: SECOND_US,
            quiet_s: 60,
            sealed: false,
            mutation: None,
            timeout_us: None,
            fast_us: None,
            cpu: None,
            names: None,
            uplink: None,
            hogs: 0,
            overrides: false,
        }
    }
}

/// Actions in order of time, microseconds.
pub(crate) type Plan = Vec<(u64, Action)>;

/// How long turmoil lasts, seconds.
const TURMOIL_S: u64 = 60;

/// Lays out a run.
#[must_use]
pub(crate) fn plan(options: &Options, rng: &mut Rng) -> Plan {
    let mut plan = Plan::new();
    let mut at_us = settle(options, rng, &mut plan);
    let settled_us = at_us;
    if options.faults.iter().any(happens_in_turmoil) {
        plan.push((at_us, Action::Phase(Phase::Turmoil)));
        let end_us = at_us + TURMOIL_S * SECOND_US;
        Turmoil {
            options,
            rng,
            plan: &mut plan,
            from_us: at_us,
            end_us,
        }
        .lay_out();
        at_us = end_us;
        plan.push((at_us, Action::Phase(Phase::Calm)));
        at_us += 20 * SECOND_US;
    }
    match options.uplink {
        Some(uplink) => uplink::plan(options, uplink, at_us, &mut plan),
        None => standard(options, rng, at_us, &mut plan),
    }
    if options.overrides {
        let mut rng = rng.fork(0x0f);
        crate::oracle::overrides::plan(options, &mut rng, settled_us, &mut plan);
    }
    // Stable: what was laid out first happens first.
    plan.sort_by_key(|(at_us, _)| *at_us);
    plan
}

/// Whether a fault is an event of the turmoil rather than a property of the
/// network that lasts.
#[must_use]
pub(crate) fn happens_in_turmoil(fault: Fault) -> bool {
    !matches!(
        fault,
        Fault::Loss
            | Fault::Duplication
            | Fault::Reordering
            | Fault::Delay
            | Fault::Truncation
            | Fault::BitFlips
            | Fault::ClockRate
            | Fault::MixedVersions
            | Fault::LostProbe
    )
}

fn settle(options: &Options, rng: &mut Rng, plan: &mut Plan) -> u64 {
    plan.push((0, Action::Phase(Phase::Settle)));
    for host in 0..options.nodes {
        let at_us = rng.below(500_000);
        if options.faults.has(Fault::LateConfig) && rng.chance(0.5) {
            let late = some_checks(rng, options.checks, 0.5);
            plan.push((
                at_us,
                Action::Take {
                    host,
                    checks: late.clone(),
                },
            ));
            let give = Action::Give {
                host,
                checks: late,
                why: Fault::LateConfig,
            };
            plan.push((at_us + rng.range(SECOND_US, 15 * SECOND_US), give));
        }
        plan.push((at_us, Action::Boot { host }));
    }
    15 * SECOND_US
}

fn standard(options: &Options, rng: &mut Rng, from_us: u64, plan: &mut Plan) {
    let interval_us = options.interval_us;
    let mut at_us = from_us;
    plan.push((at_us, Action::Phase(Phase::Single)));
    let one = vec![rng.index(options.checks) as u32];
    for health in [Health::Refusing, Health::Good] {
        let checks = one.clone();
        plan.push((
            at_us + rng.below(interval_us),
            Action::Origins {
                checks,
                health,
                why: None,
            },
        ));
        at_us += 8 * interval_us;
    }
    plan.push((at_us, Action::Phase(Phase::Mass)));
    let half = some_checks(rng, options.checks, 0.5);
    for health in [Health::Refusing, Health::Good] {
        plan.push((
            at_us,
            Action::Origins {
                checks: half.clone(),
                health,
                why: None,
            },
        ));
        at_us += 10 * interval_us;
    }
    plan.push((at_us, Action::Phase(Phase::Crash)));
    let victim = rng.index(options.nodes);
    let crash_us = at_us + rng.below(SECOND_US);
    plan.push((
        crash_us,
        Action::Kill {
            host: victim,
            why: Fault::Crash,
        },
    ));
    at_us += 15 * SECOND_US;
    plan.push((at_us, Action::Phase(Phase::Restart)));
    plan.push((at_us + rng.below(SECOND_US), Action::Boot { host: victim }));
    at_us += 20 * SECOND_US;
    plan.push((at_us, Action::Phase(Phase::Quiet)));
    at_us += options.quiet_s * SECOND_US;
    plan.push((at_us, Action::Phase(Phase::Rest)));
    at_us += 20 * SECOND_US;
    plan.push((at_us, Action::Phase(Phase::End)));
}

fn some_checks(rng: &mut Rng, checks: usize, share: f64) -> Vec<u32> {
    let chosen = (0..checks as u32)
        .filter(|_| rng.chance(share))
        .collect::<Vec<_>>();
    if chosen.is_empty() {
        vec![rng.index(checks) as u32]
    } else {
        chosen
    }
}

struct Turmoil<'a> {
    options: &'a Options,
    rng: &'a mut Rng,
    plan: &'a mut Plan,
    from_us: u64,
    end_us: u64,
}

impl Turmoil<'_> {
    fn lay_out(&mut self) {
        for fault in self.options.faults.iter() {
            if matches!(
                fault,
                Fault::Leave
                    | Fault::Drain
                    | Fault::Blind
                    | Fault::Unmeasurable
                    | Fault::ProberSick
            ) {
                // Whoever it is aimed at may happen to be dead, or all may.
                self.in_each_half(|half| half.lay_out_one(fault));
            } else {
                self.lay_out_one(fault);
            }
        }
    }

    /// Lays something out in the first half of the turmoil and in the second.
    fn in_each_half(&mut self, mut lay_out: impl FnMut(&mut Self)) {
        let (from_us, end_us) = (self.from_us, self.end_us);
        let middle_us = from_us.midpoint(end_us);
        for (lo_us, hi_us) in [(from_us, middle_us), (middle_us, end_us)] {
            (self.from_us, self.end_us) = (lo_us, hi_us);
            lay_out(self);
        }
        (self.from_us, self.end_us) = (from_us, end_us);
    }

    fn lay_out_one(&mut self, fault: Fault) {
        let host = self.rng.index(self.options.nodes);
        match fault {
            Fault::Crash => {
                for _ in 0..3 {
                    let host = self.rng.index(self.options.nodes);
                    let (down_us, up_us) = self.span(200_000, 12 * SECOND_US);
                    self.at(down_us, Action::Kill { host, why: fault });
                    self.at(up_us, Action::Boot { host });
                }
            }
            Fault::EpochReuse => {
                let (down_us, up_us) = self.span(100_000, 6 * SECOND_US);
                self.at(
                    down_us,
                    Action::Kill {
                        host,
                        why: Fault::Crash,
                    },
                );
                self.at(up_us, Action::BootAmnesic { host });
            }
            Fault::PopRestart => {
                let (down_us, _) = self.span(8 * SECOND_US, 9 * SECOND_US);
                for host in 0..self.options.nodes {
                    let jitter_us = self.rng.below(50_000);
                    self.at(down_us + jitter_us, Action::Kill { host, why: fault });
                    let up_us = down_us + self.rng.range(SECOND_US, 3 * SECOND_US);
                    self.at(up_us, Action::Boot { host });
                }
            }
            Fault::Partition | Fault::OneWay => self.partition(fault),
            Fault::Stall => {
                for _ in 0..3 {
                    let host = self.rng.index(self.options.nodes);
                    let (from_us, to_us) = self.span(500_000, 8 * SECOND_US);
                    if self.rng.chance(0.5) {
                        // Another one shortly before, long enough to be
                        // suspected by the one that is stopped now.
                        let host = self.rng.index(self.options.nodes);
                        let before_us = self.rng.range(500_000, 1_500_000);
                        let for_us = before_us + self.rng.below(500_000);
                        let action = Action::Stall {
                            host,
                            for_us,
                            why: fault,
                        };
                        self.at(from_us - before_us, action);
                    }
                    let for_us = to_us - from_us;
                    self.at(
                        from_us,
                        Action::Stall {
                            host,
                            for_us,
                            why: fault,
                        },
                    );
                }
            }
            Fault::Slow => {
                let (from_us, to_us) = self.span(6 * SECOND_US, 12 * SECOND_US);
                for host in self
                    .rng
                    .sample(self.options.nodes, 1 + self.options.nodes / 16)
                {
                    // Starved as a whole, or cut off from its own network.
                    let whole = self.rng.chance(0.5);
                    let mut at_us = from_us;
                    while at_us < to_us {
                        let for_us = self.rng.range(300_000, 1_500_000);
                        let action = if whole {
                            Action::Stall {
                                host,
                                for_us,
                                why: fault,
                            }
                        } else {
                            Action::Hold { host, for_us }
                        };
                        self.at(at_us, action);
                        at_us += for_us + self.rng.range(1_000, 200_000);
                    }
                }
            }
            Fault::ClockJump => {
                for _ in 0..3 {
                    let host = self.rng.index(self.options.nodes);
                    let (at_us, _) = self.span(0, 1);
                    let by_us = self.rng.range(20_000, 20 * SECOND_US);
                    self.at(at_us, Action::Leap { host, by_us });
                }
            }
            Fault::ConfigSkew => self.skew(fault),
            Fault::Flapping => {
                for check in self.rng.sample(self.options.checks, 5) {
                    let mut at_us = self.from_us;
                    let mut health = Health::Refusing;
                    while at_us < self.end_us - 2 * SECOND_US {
                        at_us += self.rng.range(500_000, 8 * SECOND_US);
                        let checks = vec![check as u32];
                        self.at(
                            at_us,
                            Action::Origins {
                                checks,
                                health,
                                why: Some(fault),
                            },
                        );
                        health = if health.is_good() {
                            Health::Hanging
                        } else {
                            Health::Good
                        };
                    }
                }
            }
            Fault::MassFailure => {
                let checks = some_checks(self.rng, self.options.checks, 0.8);
                let (from_us, to_us) = self.span(5 * SECOND_US, 15 * SECOND_US);
                for (at_us, health) in [(from_us, Health::Hanging), (to_us, Health::Good)] {
                    let checks = checks.clone();
                    self.at(
                        at_us,
                        Action::Origins {
                            checks,
                            health,
                            why: Some(fault),
                        },
                    );
                }
            }
            Fault::Blind => self.switch(|on| Action::Blind { host, on }),
            Fault::Unmeasurable => self.switch(|on| Action::Unmeasurable { host, on }),
            Fault::ProberSick => self.switch(|on| Action::Sick { host, on }),
            Fault::Drain => self.switch(|on| Action::Drain { host, on }),
            Fault::Capacity => {
                for _ in 0..6 {
                    let host = self.rng.index(self.options.nodes);
                    let (at_us, _) = self.span(0, 1);
                    let capacity = [1, 20, 50, 100, 200, 400][self.rng.index(6)];
                    self.at(at_us, Action::Weigh { host, capacity });
                }
            }
            Fault::Leave => {
                // A goodbye takes a while, and may be cut short by another fault.
                for _ in 0..2 {
                    let host = self.rng.index(self.options.nodes);
                    let (down_us, up_us) = self.span(5 * SECOND_US, 15 * SECOND_US);
                    self.at(down_us, Action::Leave { host });
                    self.at(up_us, Action::Boot { host });
                }
            }
            Fault::Replay | Fault::Junk => {
                let mut at_us = self.from_us;
                while at_us < self.end_us {
                    self.at(at_us, Action::Mischief);
                    at_us += 100_000;
                }
            }
            Fault::Liar => {
                let lies =
                    crate::liar::plan(self.options.nodes, self.rng, self.from_us, self.end_us);
                self.plan.extend(lies);
            }
            // They last, or belong to the settling.
            Fault::Loss
            | Fault::Duplication
            | Fault::Reordering
            | Fault::Delay
            | Fault::Truncation
            | Fault::BitFlips
            | Fault::ClockRate
            | Fault::LateConfig
            | Fault::LostProbe
            | Fault::MixedVersions => {}
        }
    }

    fn partition(&mut self, fault: Fault) {
        let one_way = fault == Fault::OneWay;
        // One network has one cut at a time: each kind has a half of the
        // turmoil to itself.
        let middle_us = self.from_us.midpoint(self.end_us);
        let (lo_us, hi_us) = if one_way {
            (middle_us, self.end_us)
        } else {
            (self.from_us, middle_us)
        };
        let for_us = self.rng.range(2 * SECOND_US, 20 * SECOND_US);
        let from_us = self.rng.range(lo_us, hi_us - for_us);
        let size = 1 + self.rng.index(self.options.nodes / 2);
        let hosts = self.rng.sample(self.options.nodes, size);
        self.at(from_us, Action::Cut { hosts, one_way });
        self.at(from_us + for_us, Action::Heal);
    }

    fn skew(&mut self, fault: Fault) {
        for host in self.rng.sample(self.options.nodes, 3) {
            let share = self.rng.unit();
            let checks = some_checks(self.rng, self.options.checks, share);
            let (from_us, to_us) = self.span(SECOND_US, 20 * SECOND_US);
            // The file is read anew, or the process starts anew with it: before
            // anybody suspects it, it lives again and lacks what it had owned.
            if self.rng.chance(0.5) {
                let back_us = from_us + self.rng.range(50_000, 500_000);
                self.at(from_us, Action::Kill { host, why: fault });
                self.at(back_us, Action::Boot { host });
            }
            self.at(
                from_us,
                Action::Take {
                    host,
                    checks: checks.clone(),
                },
            );
            self.at(
                to_us,
                Action::Give {
                    host,
                    checks,
                    why: fault,
                },
            );
        }
    }

    fn switch(&mut self, action: impl Fn(bool) -> Action) {
        let (from_us, to_us) = self.span(5 * SECOND_US, 20 * SECOND_US);
        self.at(from_us, action(true));
        self.at(to_us, action(false));
    }

    /// A stretch of the turmoil, at least and at most so long.
    fn span(&mut self, least_us: u64, most_us: u64) -> (u64, u64) {
        let for_us = self.rng.range(least_us, most_us);
        let from_us = self.rng.range(self.from_us, self.end_us - for_us);
        (from_us, from_us + for_us)
    }

    fn at(&mut self, at_us: u64, action: Action) {
        self.plan.push((at_us, action));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_ordered_and_ends() {
        let options = Options {
            faults: FaultSet::ALL,
            ..Options::default()
        };
        let plan = plan(&options, &mut Rng::new(3));
        assert!(plan.is_sorted_by_key(|(at_us, _)| *at_us));
        assert_eq!(
            plan.last().map(|(_, action)| action),
            Some(&Action::Phase(Phase::End))
        );
        let boots = plan
            .iter()
            .filter(|(_, action)| matches!(action, Action::Boot { .. }));
        assert!(boots.count() > 24);
    }

    #[test]
    fn without_faults_there_is_no_turmoil() {
        let plan = plan(&Options::default(), &mut Rng::new(3));
        assert!(!plan.contains(&(15 * SECOND_US, Action::Phase(Phase::Turmoil))));
    }
}
