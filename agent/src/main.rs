//! Watchfire: origin health checks for a POP. Each origin is probed by one
//! server, and every server knows.
//!
//! The threads of an agent: probe threads ([`watchfire_probe`]) watch origins,
//! the gossip thread ([`gossip`]) holds the POP core and writes the table, and
//! the control thread ([`control`]) deals with files, people and programs.

/// The version, and the commit where it is known.
pub(crate) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), env!("WATCHFIRE_COMMIT_SUFFIX"));

mod cli;
mod clock;
mod config;
mod control;
mod demo;
mod files;
mod gossip;
mod keys;
mod limits;
mod names;
mod preflight;
mod recorder;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
