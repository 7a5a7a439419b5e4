//! `watchfire bench`: what this machine can do.

use clap::Subcommand;

use super::Failure;

#[derive(Subcommand)]
pub(super) enum Verb {}

pub(super) fn run(verb: &Verb) -> Result<(), Failure> {
    match *verb {}
}
