//! `mutations`: does the simulator find the bugs that it is there to find?

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use serde_json::json;
use watchfire_sim::agent::Mutation;
use watchfire_sim::mutate;

use super::{all_threads, progress};

/// Plants bugs in the core, one at a time, and looks for each one until it is
/// found or its seeds run out. One that survives is a failure.
#[derive(Debug, Args)]
pub(crate) struct Mutations {
    /// Only these bugs.
    #[arg(long, value_delimiter = ',', value_parser = super::run::mutation)]
    only: Vec<Mutation>,
    /// Threads; all processors unless said.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl Mutations {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let wanted: Vec<Mutation> = Mutation::ALL
            .iter()
            .copied()
            .filter(|mutation| self.only.is_empty() || self.only.contains(mutation))
            .collect();
        let bar = progress::bar(wanted.len() as u64, "bugs");
        let next = AtomicUsize::new(0);
        let catches = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.threads.unwrap_or_else(all_threads).max(1) {
                scope.spawn(|| {
                    while let Some(&mutation) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let caught = mutate::find(mutation);
                        bar.inc(1);
                        bar.suspend(|| describe(&caught));
                        catches.lock().expect("no holder panics").push(caught);
                    }
                });
            }
        });
        bar.finish_and_clear();
        let catches = catches.into_inner().expect("no holder panics");
        let found: BTreeMap<&str, u64> = catches
            .iter()
            .filter_map(|caught| Some((caught.mutation.as_str(), caught.seeds?)))
            .collect();
        let names: Vec<&str> = wanted.iter().map(|mutation| mutation.as_str()).collect();
        let missed: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !found.contains_key(name))
            .collect();
        if self.json {
            println!(
                "{}",
                json!({ "mutations": names, "found": found, "missed": missed })
            );
        } else {
            println!(
                "{} bugs, {} found, missed: {missed:?}",
                names.len(),
                found.len()
            );
        }
        Ok(missed.is_empty())
    }
}

fn describe(caught: &mutate::Catch) {
    let name = caught.mutation.as_str();
    match (&caught.seeds, &caught.words) {
        (Some(seeds), Some(words)) => eprintln!("{name:<26} found after {seeds} seeds: {words}"),
        _ => eprintln!(
            "{name:<26} SURVIVED {} seeds",
            mutate::runs(caught.mutation)
        ),
    }
}
