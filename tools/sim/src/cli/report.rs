//! `report`: tables and charts into `docs/`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use watchfire_sim::report::{self, Scale};

use super::all_threads;

/// Measures everything and writes `simulation.md` with its charts.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Where to.
    #[arg(long, default_value = "docs")]
    into: PathBuf,
    /// Run the large POP once too, with this many checks.
    #[arg(long, default_value_t = 0)]
    large_checks: usize,
    /// Small runs, to see that it works; the figures mean little.
    #[arg(long)]
    quick: bool,
}

impl Report {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        std::fs::create_dir_all(&self.into)
            .with_context(|| format!("cannot make the folder {}", self.into.display()))?;
        let threads = all_threads();
        let mut scale = if self.quick {
            Scale::quick(threads)
        } else {
            Scale::full(threads)
        };
        scale.large_checks = self.large_checks;
        report::write(&self.into, &scale, &|step| eprintln!("{step} ..."))?;
        println!("wrote {}", self.into.join("simulation.md").display());
        Ok(true)
    }
}
