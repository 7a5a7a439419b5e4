//! Watchfire's benchmarks: floors, peers and micro benches. Each subcommand
//! prints a table for people, or with `--json` one object on its last line.

mod core_micro;
mod probe;
mod table;

use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "\
usage: watchfire-benches <probe|table|core> [options]

  probe  the probe engine against the bare kernel and, with --peers, HAProxy
  table  lookups in the shared table against memory, maps and, with --peers, nginx
  core   micro benches of the POP core

Each takes --help and --json. Measure on a quiet machine, built with --release.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let subcommand = args.next().unwrap_or_default();
    let result: Result<(), Box<dyn Error>> = match subcommand.as_str() {
        "probe" => probe::run(args),
        // How `probe` starts its helpers in processes of their own.
        "probe-farm" => probe::farm::serve(args),
        "probe-once" => probe::instructions::once(args),
        "table" => table::run(args),
        "core" => {
            core_micro::run(args.any(|arg| arg == "--json"));
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watchfire-benches {subcommand}: {error}");
            ExitCode::FAILURE
        }
    }
}
