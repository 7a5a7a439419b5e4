//! Loads that once kept themselves alive: a POP on processors that cost time,
//! tried in one way, and what became of it.
//!
//! Each scenario starts a POP, lets it become calm if it can, tries it, and
//! watches what it sends, probes and spends until the end. Nothing ends it
//! early: a storm is to be seen.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::cpu::CpuOptions;
use crate::faults::Fault;
use crate::load::{Broken, KINDS, Row};
use crate::oracle::Violation;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::workload::{Action, Options, Phase, Plan, SECOND_US};
use crate::world::World;

/// How a POP is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Not at all: agents start one after another, as a script starts them.
    Start,
    /// All agents start within a tenth of a second.
    ColdStart,
    /// Everybody does everything ten times slower for five seconds.
    SlowAll,
    /// Half of all agents do.
    SlowHalf,
    /// One does.
    SlowOne,
    /// Busy loops share the cores for twenty seconds.
    Hogs,
    /// All are killed and started at once.
    RestartAll,
    /// All definitions change on all at once.
    Reload,
    /// A third of all agents is killed.
    KillThird,
    /// Half of all origins refuse for twenty seconds.
    HalfDown,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::ColdStart,
        Self::SlowAll,
        Self::SlowHalf,
        Self::SlowOne,
        Self::Hogs,
        Self::RestartAll,
        Self::Reload,
        Self::KillThird,
        Self::HalfDown,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ColdStart => "cold-start",
            Self::SlowAll => "slow-all",
            Self::SlowHalf => "slow-half",
            Self::SlowOne => "slow-one",
            Self::Hogs => "hogs",
            Self::RestartAll => "restart-all",
            Self::Reload => "reload",
            Self::KillThird => "kill-third",
            Self::HalfDown => "half-down",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|it| it.as_str() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("there is no such scenario; the names are {names}")
        })
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Storm {
    /// How the POP is tried.
    pub scenario: Scenario,
    /// Nodes, checks, interval, fast interval, timeout.
    pub options: Options,
    /// How the processors are.
    pub cpu: CpuOptions,
    /// From the first start to the last in [`Scenario::Start`] and before
    /// every other trial, microseconds.
    pub start_within_us: u64,
    /// When the trial begins, seconds.
    pub at_s: u64,
    /// When all ends, seconds.
    pub until_s: u64,
}

/// How many times slower the slow are, and for how long.
const SLOW_TIMES: f64 = 10.0;
const SLOW_US: u64 = 5 * SECOND_US;
/// How long busy loops run, and how many there are.
const HOG_US: u64 = 20 * SECOND_US;
/// How many there are.
pub const HOGS: usize = 100;
const ORIGINS_DOWN_US: u64 = 20 * SECOND_US;

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Weathered {
    /// When everybody knew everybody, seconds after the first start.
    pub formed_s: Option<f64>,
    /// Since when all is calm, to the end: nobody suspected, one prober per
    /// check.
    pub calm_since_s: Option<f64>,
    /// When the trial ended, if there was one.
    pub trial_ended_s: Option<f64>,
    /// Windows of ten seconds.
    pub rows: Vec<Row>,
    /// Bounds that did not hold.
    pub broken: Vec<Broken>,
    /// Other invariants that did not hold, how often each, and the first of
    /// them.
    pub violations: Vec<(String, u64)>,
    /// See [`Weathered::violations`].
    pub first_violations: Vec<Violation>,
    /// Datagrams of each kind, per agent and second over the whole run.
    pub kinds: Vec<(&'static str, f64)>,
    /// The node's counters with the greatest sums over all agents, at the end.
    pub counters: Vec<(&'static str, u64)>,
    /// Events that the simulator carried out.
    pub steps: u64,
    /// Of the whole history.
    pub fingerprint: u64,
}

impl Weathered {
    /// No bound was broken, and all was calm in the end.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.broken.is_empty() && self.violations.is_empty() && self.calm_since_s.is_some()
    }
}

/// Runs one.
#[must_use]
pub fn run(storm: &Storm, seed: u64, trace: Trace) -> (Weathered, Trace) {
    let options = Options {
        cpu: Some(storm.cpu),
        hogs: if storm.scenario == Scenario::Hogs {
            HOGS
        } else {
            0
        },
        checks: match storm.scenario {
            // The old definitions and the new ones.
            Scenario::Reload => 2 * storm.options.checks,
            _ => storm.options.checks,
        },
        names: Some(storm.options.checks),
        ..storm.options
    };
    let plan = plan(storm, &mut Rng::new(seed).fork(2));
    let mut world = World::with_plan(options, plan, seed, trace);
    world.oracles.goes_on = true;
    world.run();
    weathered(world, storm)
}

fn weathered(world: World, storm: &Storm) -> (Weathered, Trace) {
    let seconds = |us: u64| us as f64 / SECOND_US as f64;
    let load = &world.load;
    let agent_s = storm.until_s as f64 * storm.options.nodes as f64;
    let kinds = KINDS.iter().zip(load.by_kind);
    let mut counters = std::collections::BTreeMap::<&'static str, u64>::new();
    for agent in world.agents() {
        for (name, count) in agent.counters() {
            *counters.entry(name).or_default() += count;
        }
    }
    let weathered = Weathered {
        formed_s: load.calm.formed_us.map(seconds),
        calm_since_s: load.calm.since_us.map(seconds),
        trial_ended_s: load.loaded.and_then(|(_, ended)| ended).map(seconds),
        rows: load.rows.clone(),
        broken: load.broken.clone(),
        violations: world
            .oracles
            .broken
            .iter()
            .map(|(name, times)| ((*name).to_owned(), *times))
            .collect(),
        first_violations: world.oracles.violations.clone(),
        kinds: kinds
            .map(|(&kind, count)| (kind, count as f64 / agent_s))
            .collect(),
        counters: counters.into_iter().collect(),
        steps: world.measures.steps,
        fingerprint: world.trace.fingerprint(),
    };
    (weathered, world.trace)
}

fn plan(storm: &Storm, rng: &mut Rng) -> Plan {
    let nodes = storm.options.nodes;
    let at_us = storm.at_s * SECOND_US;
    let mut plan = vec![(0, Action::Phase(Phase::Settle))];
    let within_us = match storm.scenario {
        Scenario::ColdStart => SECOND_US / 10,
        _ => storm.start_within_us,
    };
    let checks = storm.options.checks as u32;
    for host in 0..nodes {
        if storm.scenario == Scenario::Reload {
            let take = (checks..2 * checks).collect();
            let give = Vec::new();
            plan.push((0, Action::Reload { host, take, give }));
        }
        let boot_us = host as u64 * within_us / nodes as u64 + rng.below(2_000);
        plan.push((boot_us, Action::Boot { host }));
    }
    let mut trial = |from_us: u64, to_us: u64| {
        plan.push((from_us, Action::Load { on: true }));
        plan.push((to_us, Action::Load { on: false }));
    };
    match storm.scenario {
        Scenario::Start | Scenario::ColdStart => {}
        Scenario::SlowAll | Scenario::SlowHalf | Scenario::SlowOne => {
            trial(at_us, at_us + SLOW_US);
            let hosts: Vec<usize> = match storm.scenario {
                Scenario::SlowAll => (0..nodes).collect(),
                Scenario::SlowHalf => rng.sample(nodes, nodes / 2),
                _ => vec![rng.index(nodes)],
            };
            for (at_us, times) in [(at_us, SLOW_TIMES), (at_us + SLOW_US, 1.0)] {
                let hosts = hosts.clone();
                plan.push((at_us, Action::Slow { hosts, times }));
            }
        }
        Scenario::Hogs => {
            trial(at_us, at_us + HOG_US);
            plan.push((at_us, Action::Hog { for_us: HOG_US }));
        }
        Scenario::RestartAll => {
            // Fifteen seconds are for the joining.
            trial(at_us, at_us + 15 * SECOND_US);
            for host in 0..nodes {
                let why = Fault::PopRestart;
                let down_us = at_us + rng.below(100_000);
                plan.push((down_us, Action::Kill { host, why }));
                let up_us = at_us + SECOND_US + rng.below(100_000);
                plan.push((up_us, Action::Boot { host }));
            }
        }
        Scenario::Reload => {
            trial(at_us, at_us + 100_000);
            for host in 0..nodes {
                let take = (0..checks).collect();
                let give = (checks..2 * checks).collect();
                let when_us = at_us + rng.below(100_000);
                plan.push((when_us, Action::Reload { host, take, give }));
            }
        }
        Scenario::KillThird => {
            trial(at_us, at_us + 5 * SECOND_US);
            for host in rng.sample(nodes, nodes / 3) {
                let why = Fault::Crash;
                plan.push((at_us, Action::Kill { host, why }));
            }
        }
        Scenario::HalfDown => {
            use crate::origin::Health;
            trial(at_us, at_us + ORIGINS_DOWN_US);
            let half: Vec<u32> = (0..checks).filter(|_| rng.chance(0.5)).collect();
            let states = [
                (at_us, Health::Refusing),
                (at_us + ORIGINS_DOWN_US, Health::Good),
            ];
            for (at_us, health) in states {
                let (checks, why) = (half.clone(), None);
                plan.push((
                    at_us,
                    Action::Origins {
                        checks,
                        health,
                        why,
                    },
                ));
            }
        }
    }
    plan.push((storm.until_s * SECOND_US, Action::Phase(Phase::Turmoil)));
    plan.sort_by_key(|(at_us, _)| *at_us);
    plan
}
