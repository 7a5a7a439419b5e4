//! `watchfire demo`.

use clap::Args;

use super::{Failure, Format, print_json};
use crate::demo::{self, play};

#[derive(Args)]
#[command(
    after_help = "The report's figures come from the origins' own log and from the tables \
                        that proxies read, never from the agents' counters. Exit status 1 says \
                        that something was not as it should be."
)]
pub(super) struct Options {
    /// Origins in the farm, each on an address of its own
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    origins: u32,
    /// Agents, each a process of its own
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=32))]
    nodes: u8,
    /// About how long it may take, at least 18
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(18..=600))]
    seconds: u64,
    /// Write every probe that the origins saw to this file, as CSV
    #[arg(long, value_name = "FILE")]
    trace: Option<std::path::PathBuf>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let report = play(demo::Options {
        origins: options.origins,
        nodes: usize::from(options.nodes),
        seconds: options.seconds,
        trace: options.trace.clone(),
    })?;
    if options.format.json {
        print_json(&report)?;
    } else {
        say!("{report}");
    }
    if report.is_good() {
        Ok(())
    } else {
        Err(Failure::No)
    }
}
