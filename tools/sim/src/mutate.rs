//! Seeded bugs, and the runs that must find them. A bug that survives its seeds
//! is a failure of the simulator.

use crate::agent::Mutation;
use crate::cpu::turn::Order;
use crate::cpu::{Cores, Costs, CpuOptions};
use crate::faults::{Fault, FaultSet};
use crate::run;
use crate::storm::{self, Scenario, Storm};
use crate::trace::Trace;
use crate::uplink::Uplink;
use crate::workload::Options;

/// How a bug is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// The runs.
    pub options: Options,
    /// It must be found within so many of them.
    pub seeds: u64,
}

/// What a hunt came to.
#[derive(Clone, Debug)]
pub struct Catch {
    /// The bug.
    pub mutation: Mutation,
    /// Seeds needed, the last one included; nothing if it survived.
    pub seeds: Option<u64>,
    /// What gave it away.
    pub words: Option<String>,
}

/// Most bugs show within a few seeds of these runs.
const SEEDS: u64 = 50;

/// How this bug is looked for: a small POP, and the faults in whose presence
/// the rule that it breaks matters.
#[must_use]
pub fn hunt(mutation: Mutation) -> Hunt {
    let small = Options {
        nodes: 8,
        checks: 60,
        quiet_s: 10,
        ..Options::default()
    };
    let with = |faults: &[Fault]| Options {
        faults: faults.iter().copied().collect(),
        ..small
    };
    let beyond = |uplink| Options {
        uplink: Some(uplink),
        checks: 240,
        ..small
    };
    let options = match mutation {
        Mutation::NoBrake | Mutation::BrakeNeverLetsGo => beyond(Uplink::Dead),
        Mutation::BrakeHidesAThird => beyond(Uplink::Third),
        Mutation::OverrideLostAtRestart => Options {
            overrides: true,
            ..small
        },
        Mutation::OverrideResurrected | Mutation::OverridesDiverge => Options {
            overrides: true,
            ..with(&[Fault::Partition, Fault::Crash])
        },
        Mutation::AnyTerm | Mutation::AnyEpoch | Mutation::ForeignWithoutShare => {
            with(&[Fault::Liar])
        }
        Mutation::EvictedIsHeard => with(&[Fault::Liar]),
        // Who measures seldom is overtaken for long.
        Mutation::DeadOutrankTheLiving => Options {
            interval_us: 20_000_000,
            ..with(&[Fault::Liar])
        },
        // What they cost shows best where nothing else happens.
        Mutation::LateNack => small,
        Mutation::ReleaseWinsTerm => with(&[Fault::Drain, Fault::Capacity]),
        Mutation::SuspicionAfterStall => with(&[Fault::Stall]),
        Mutation::NoRefutation => with(&[Fault::Stall, Fault::Slow]),
        Mutation::EpochBelowFloorIgnored => with(&[Fault::EpochReuse]),
        // It shows while its author is neither suspected nor dead: among other
        // faults somebody is sure to suspect it, and the shadows cover for it.
        Mutation::StaleSlotIsEvidence => with(&[Fault::ConfigSkew]),
        _ => Options {
            faults: FaultSet::ALL,
            ..small
        },
    };
    Hunt {
        options: Options {
            mutation: Some(mutation),
            ..options
        },
        seeds: SEEDS,
    }
}

/// The bugs that only show where processors cost time: each kept a POP from
/// ever being calm.
#[must_use]
pub fn storm(mutation: Mutation) -> Option<Storm> {
    let (nodes, checks, scenario) = match mutation {
        Mutation::UnboundedDatagrams | Mutation::LateAnswersDropped | Mutation::SocketsFirst => {
            (64, 2_000, Scenario::ColdStart)
        }
        Mutation::EveryRankProbesWithoutEvidence => (128, 4_000, Scenario::Start),
        _ => return None,
    };
    Some(Storm {
        scenario,
        options: Options {
            nodes,
            checks,
            interval_us: 5_000_000,
            fast_us: Some(1_000_000),
            timeout_us: Some(500_000),
            mutation: Some(mutation),
            ..Options::default()
        },
        cpu: CpuOptions {
            cores: Cores::Shared(2),
            costs: Costs::default(),
            order: if mutation == Mutation::SocketsFirst {
                Order::SocketsFirst
            } else {
                Order::default()
            },
        },
        start_within_us: 50_000 * nodes as u64,
        at_s: 30,
        until_s: 40,
    })
}

/// How many storms a bug has to show itself in. The others break every storm or
/// none; with this one a few checks of some have too many probers.
const fn storms(mutation: Mutation) -> u64 {
    match mutation {
        Mutation::EveryRankProbesWithoutEvidence => 6,
        _ => 1,
    }
}

/// In how many runs a bug is looked for.
#[must_use]
pub fn runs(mutation: Mutation) -> u64 {
    if storm(mutation).is_some() {
        storms(mutation)
    } else {
        hunt(mutation).seeds
    }
}

/// Looks for a storm: the POP must be well without the bug, and not with it.
fn find_storm(mutation: Mutation, sick: &Storm) -> Catch {
    let mut healthy = *sick;
    healthy.options.mutation = None;
    healthy.cpu.order = Order::default();
    for seed in 0..storms(mutation) {
        let (weathered, _) = storm::run(sick, seed, Trace::default());
        if weathered.is_well() || !storm::run(&healthy, seed, Trace::default()).0.is_well() {
            continue;
        }
        let words = match weathered.broken.first() {
            Some(broken) => format!("bounds: {}, at worst {:.1}", broken.bound, broken.worst),
            None => "it never becomes calm".to_owned(),
        };
        return Catch {
            mutation,
            seeds: Some(seed + 1),
            words: Some(words),
        };
    }
    Catch {
        mutation,
        seeds: None,
        words: None,
    }
}

/// Looks for one bug. A seed counts only if it passes without the bug.
#[must_use]
pub fn find(mutation: Mutation) -> Catch {
    if let Some(sick) = storm(mutation) {
        return find_storm(mutation, &sick);
    }
    let hunt = hunt(mutation);
    let healthy = Options {
        mutation: None,
        ..hunt.options
    };
    for seed in 0..hunt.seeds {
        let (verdict, _) = run::one(hunt.options, seed, Trace::default());
        let Some(first) = verdict.violations.into_iter().next() else {
            continue;
        };
        let (control, _) = run::one(healthy, seed, Trace::default());
        if control.violations.is_empty() {
            let words = Some(format!("{}: {}", first.invariant, first.words));
            return Catch {
                mutation,
                seeds: Some(seed + 1),
                words,
            };
        }
    }
    Catch {
        mutation,
        seeds: None,
        words: None,
    }
}
