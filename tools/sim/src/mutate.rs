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

/// Looks for one bug. A seed counts only if it passes without the bug.
#[must_use]
pub fn find(mutation: Mutation) -> Catch {
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
