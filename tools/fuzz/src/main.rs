//! Throws mutated bytes at every parser of what origins and operators say, on
//! the compiler that builds everything else. A target is a kind of check, whose
//! probe must end in one word whatever comes, or the keys of an origin.
//!
//! Each input follows from the seed alone; one that fails is printed and ends
//! the run with status 1.

mod mutate;
mod origin;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use mutate::Mutator;
use targets::Target;

/// One input may take so long; a slower one is a finding.
const SLOW: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// Which targets; all if none is named
    targets: Vec<String>,
    /// How long for each
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Where the inputs begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let all = targets::all();
    if let Some(unknown) = options
        .targets
        .iter()
        .find(|name| !all.iter().any(|target| target.name == **name))
    {
        let names: Vec<_> = all.iter().map(|target| target.name).collect();
        eprintln!(
            "error: no target {unknown}; choose among {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    }
    let wanted = |target: &&Target| {
        options.targets.is_empty() || options.targets.iter().any(|name| name == target.name)
    };
    let budget = Duration::from_secs(options.seconds);
    let sound = all
        .iter()
        .filter(wanted)
        .all(|target| run(target, budget, options.seed));
    ExitCode::from(u8::from(!sound))
}

/// Whether a target took everything for as long.
fn run(target: &Target, budget: Duration, seed: u64) -> bool {
    let mut mutator = Mutator::new(seed);
    let begun = Instant::now();
    let mut inputs = 0_u64;
    while begun.elapsed() < budget {
        let input = match target.corpus.get(inputs as usize) {
            Some(seed) => seed.to_vec(),
            None => mutator.input(target.corpus),
        };
        let started = Instant::now();
        let whole = catch_unwind(AssertUnwindSafe(|| (target.take)(&input)));
        let took = started.elapsed();
        if whole.is_err() || took > SLOW {
            println!(
                "{}: input {inputs} of seed {seed} fails ({took:?}):",
                target.name
            );
            println!("{}", String::from_utf8_lossy(&input).escape_debug());
            println!("{input:02x?}");
            return false;
        }
        inputs += 1;
    }
    println!("{}: {inputs} inputs, no finding", target.name);
    true
}
