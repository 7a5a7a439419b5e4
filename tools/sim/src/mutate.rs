//! Seeded bugs, and the runs that must find them. A bug that survives its seeds
//! is a failure of the simulator.

use crate::agent::Mutation;
use crate::faults::{Fault, FaultSet};
use crate::run;
use crate::trace::Trace;
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
    let options = match mutation {
        Mutation::NoRefutation => Options {
            loss: 0.2,
            ..with(&[Fault::Loss, Fault::Slow])
        },
        Mutation::SuspicionAfterStall => with(&[Fault::Stall, Fault::Slow]),
        Mutation::EpochBelowFloorIgnored => with(&[Fault::EpochReuse]),
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

/// Looks for one bug.
#[must_use]
pub fn find(mutation: Mutation) -> Catch {
    let hunt = hunt(mutation);
    for seed in 0..hunt.seeds {
        let (verdict, _) = run::one(hunt.options, seed, Trace::default());
        if let Some(first) = verdict.violations.into_iter().next() {
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
