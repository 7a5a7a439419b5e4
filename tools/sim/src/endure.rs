//! Endurance: one node restarts thousands of times, and the others remember no
//! more of it than at the beginning.

use crate::agent::Agent;
use crate::faults::Fault;
use crate::trace::Trace;
use crate::workload::{Action, Options, Phase, Plan};
use crate::world::World;

/// From one start to the next, microseconds: long enough to join and to write.
const LIFE_US: u64 = 2_500_000;
/// How long each of these lives lasts.
const UP_US: u64 = 2_000_000;
/// After the last restart, time for what is kept for a while to go.
const FADE_US: u64 = 60_000_000;

/// What so many restarts left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endurance {
    /// Restarts.
    pub restarts: u64,
    /// What the other nodes remember, by name; the largest of them.
    pub after: Vec<(&'static str, usize)>,
    /// The same while it went on, at its worst.
    pub worst: Vec<(&'static str, usize)>,
}

/// Restarts one of four nodes so many times.
#[must_use]
pub fn restarts(restarts: u64, seed: u64) -> Endurance {
    let options = Options {
        nodes: 4,
        checks: 20,
        ..Options::default()
    };
    let mut plan = Plan::new();
    for host in 0..options.nodes {
        plan.push((host as u64 * 1_000, Action::Boot { host }));
    }
    let mut at_us = 10_000_000;
    for _ in 0..restarts {
        plan.push((
            at_us,
            Action::Kill {
                host: 3,
                why: Fault::Crash,
            },
        ));
        plan.push((at_us + LIFE_US - UP_US, Action::Boot { host: 3 }));
        at_us += LIFE_US;
    }
    plan.push((at_us + FADE_US, Action::Phase(Phase::Turmoil)));
    let mut world = World::with_plan(options, plan, seed, Trace::default());
    let mut worst = Vec::new();
    let mut after = Vec::new();
    world.run_watched(&mut |world| {
        after = largest(world.agents().take(3));
        worst = merge(&worst, &after);
    });
    Endurance {
        restarts,
        after,
        worst,
    }
}

fn largest<'a>(agents: impl Iterator<Item = &'a Agent>) -> Vec<(&'static str, usize)> {
    agents.fold(Vec::new(), |most, agent| merge(&most, &agent.sizes()))
}

fn merge(a: &[(&'static str, usize)], b: &[(&'static str, usize)]) -> Vec<(&'static str, usize)> {
    if a.is_empty() {
        return b.to_vec();
    }
    a.iter()
        .zip(b)
        .map(|(&(name, a), &(_, b))| (name, a.max(b)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_restarts_leave_no_more_than_few() {
        let few = restarts(20, 1);
        let many = restarts(120, 1);
        assert_eq!(few.after, many.after);
        for ((name, few), (_, many)) in few.worst.iter().zip(&many.worst) {
            assert!(
                many <= &(few + 24),
                "{name}: {few} after 20 restarts, {many} after 120"
            );
        }
    }
}
