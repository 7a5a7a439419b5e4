//! `exhaustive`: every schedule of a small world.

use clap::Args;
use serde_json::json;
use watchfire_core::mutations::Mutations;
use watchfire_core::replica::exhaustive;

/// Walks every interleaving of write, release, pull, loss, duplication,
/// restart and collection among three nodes and one check, over the real
/// replicated map, to a depth. Equal claims must imply equal state everywhere.
#[derive(Debug, Args)]
pub(crate) struct Exhaustive {
    /// Steps from the empty world.
    #[arg(long, default_value_t = 8)]
    depth: u32,
    /// No more states than this, 24 bytes each.
    #[arg(long, default_value_t = 50_000_000)]
    max_states: u64,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl Exhaustive {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let walk = exhaustive::walk(self.depth, self.max_states, Mutations::NONE);
        if walk.divergences > 0 {
            eprintln!("the first divergence: {:?}", walk.witness);
        }
        if !walk.complete {
            eprintln!(
                "the limit of {} states ended the walk before its depth",
                self.max_states
            );
        }
        if self.json {
            println!(
                "{}",
                json!({ "states": walk.states, "divergences": walk.divergences, "depth": walk.depth })
            );
        } else {
            println!(
                "{} distinct states within {} steps, {} divergences",
                walk.states, walk.depth, walk.divergences
            );
        }
        Ok(walk.divergences == 0 && walk.complete)
    }
}
