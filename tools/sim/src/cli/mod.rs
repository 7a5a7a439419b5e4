//! Commands: what can be asked for, and how the answer is shown.

mod compare;
mod costs;
mod endure;
mod exhaustive;
mod measured;
mod mutations;
mod progress;
mod report;
mod run;
mod storm;

use clap::{Parser, Subcommand};

/// Runs a whole POP in virtual time, from a seed, with faults, and checks that
/// what must hold does hold.
///
/// The code under test is the production core, unchanged. One seed is one
/// history, event by event, on every machine: a failing run prints the command
/// that replays it.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  The standard workload, nothing added:
    watchfire-sim run --nodes 24 --checks 200 --seeds 20
  Everything that can go wrong, for CI:
    watchfire-sim run --nodes 24 --checks 200 --seeds 1000 --faults all --json
  A fifth of all datagrams lost, and a node that cannot see the origins:
    watchfire-sim run --faults loss,blind --loss 0.2
  Read what happened in one seed:
    watchfire-sim run --seeds 1 --first-seed 17 --faults all --trace history.txt
  Does the simulator find the bugs that it is there to find?
    watchfire-sim mutations
  Does a POP of 96 agents on two cores become calm, and stay so when all are slow?
    watchfire-sim storm --nodes 96 --checks 2000 --cores 2 --scenario slow-all";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run seeds of the standard workload, with faults if asked for.
    Run(run::Run),
    /// Plant bugs in the core and see whether they are found.
    Mutations(mutations::Mutations),
    /// Try a POP on processors that cost time.
    Storm(storm::Storm),
    /// Measure what work costs, for `storm`.
    Costs(costs::CostsOf),
    /// Walk every schedule of a small world.
    Exhaustive(exhaustive::Exhaustive),
    /// Restart a node thousands of times and see what is remembered of it.
    Endure(endure::Endure),
    /// Compare membership with memberlist's and foca's.
    Compare(compare::Compare),
    /// Measure everything and write tables and charts into docs/.
    Report(report::Report),
}

impl Cli {
    /// Does what was asked; whether all is well.
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Mutations(mutations) => mutations.run(),
            Command::Storm(storm) => storm.run(),
            Command::Costs(costs) => costs.run(),
            Command::Exhaustive(exhaustive) => exhaustive.run(),
            Command::Endure(endure) => endure.run(),
            Command::Compare(compare) => compare.run(),
            Command::Report(report) => report.run(),
        }
    }
}

/// As many threads as there are processors.
fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
