//! `endure`: thousands of restarts.

use clap::Args;
use serde_json::json;
use watchfire_sim::endure;

/// Restarts one of four nodes again and again and shows what the others
/// remember of it: no more in the end than in the beginning.
#[derive(Debug, Args)]
pub(crate) struct Endure {
    /// How many times.
    #[arg(long, default_value_t = 10_000)]
    restarts: u64,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl Endure {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let few = endure::restarts(self.restarts.min(100), self.seed);
        let many = endure::restarts(self.restarts, self.seed);
        let well = few.after == many.after;
        if self.json {
            let sizes = |of: &[(&'static str, usize)]| -> serde_json::Map<_, _> {
                of.iter()
                    .map(|&(name, size)| (name.to_owned(), json!(size)))
                    .collect()
            };
            println!(
                "{}",
                json!({
                    "restarts": many.restarts, "after_few": sizes(&few.after),
                    "after_all": sizes(&many.after), "worst": sizes(&many.worst), "bounded": well,
                })
            );
        } else {
            println!("after {} restarts: {:?}", few.restarts, few.after);
            println!("after {} restarts: {:?}", many.restarts, many.after);
            println!("at worst on the way: {:?}", many.worst);
        }
        Ok(well)
    }
}
