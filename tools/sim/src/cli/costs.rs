//! `costs`: what work costs, for the simulator's processors.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use watchfire_sim::cpu::Costs;

/// Measures on this machine what can be measured within one process (sealing,
/// opening, answering a pull, taking slots in, a membership change, its ranks)
/// and prints the file of costs with these values in it.
#[derive(Debug, Args)]
pub(crate) struct CostsOf {
    /// Write the file here as well; `storm --costs` reads it.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print the costs that the simulator comes with and measure nothing.
    #[arg(long)]
    shipped: bool,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl CostsOf {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let shipped = Costs::default();
        let costs = if self.shipped {
            shipped
        } else {
            super::measured::costs(shipped)
        };
        let text = toml::to_string(&costs)?;
        if let Some(path) = &self.write {
            std::fs::write(path, &text)
                .with_context(|| format!("cannot write the costs to {}", path.display()))?;
        }
        if self.json {
            println!("{}", serde_json::to_value(costs)?);
        } else {
            print!("{text}");
        }
        Ok(true)
    }
}

pub(super) fn read(path: &Path) -> anyhow::Result<Costs> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the costs in {}", path.display()))?;
    Costs::parse(&text).with_context(|| format!("{} is of no use", path.display()))
}
