//! The command line: one file per verb, each with `--json` and each error
//! with a next step.

#[macro_use]
mod text;

mod ask;
mod bench;
mod check;
mod configure;
mod demo;
mod doctor;
mod drain;
mod everywhere;
mod generate;
mod history;
mod member;
mod origin;
mod page;
mod probes;
mod run;
mod shown;
mod table;
mod target;
mod top;
mod why;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::control::api;

/// Where an agent is asked unless told otherwise.
const ADMIN_SOCKET: &str = "/run/watchfire/admin.sock";

/// Origin health checks for a POP: each origin is probed by one server, and
/// every server knows.
#[derive(Parser)]
#[command(
    name = "watchfire",
    version = crate::VERSION,
    after_help = "See it work, with no set-up:\n  watchfire demo\n\n\
                  Install it:\n  watchfire config example > agent.toml\n  \
                  watchfire key new pop.key\n  watchfire run --config agent.toml\n\n\
                  Ask it:\n  watchfire status\n  watchfire why shop-1\n  watchfire top\n  \
                  watchfire table get shop-1 --table /run/watchfire/table"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run this server's agent.
    Run(run::Options),
    /// Run a self-contained demonstration (about 20 s).
    Demo(demo::Options),
    /// Probe one target once and tell what happened.
    Check(check::Options),
    /// Show members, checks and counters of the running agent.
    Status(Asking),
    /// Tell why an origin has its verdict, who probes it and who would next.
    Why(why::WhyOptions),
    /// Watch members, failing origins and transitions on this terminal.
    Top(top::Options),
    /// Print the address of the status page, for a browser.
    Page(page::Options),
    /// Show the last transitions of all origins, whoever decided them.
    Events(history::EventsOptions),
    /// Show which origins changed the most.
    Flapping(history::FlappingOptions),
    /// Take origins out on all servers of the POP, or call them up, whatever the probes find.
    #[command(subcommand)]
    Origin(origin::Verb),
    /// Show the POP's members, put one out, or forget one that is gone.
    #[command(subcommand)]
    Member(member::Verb),
    /// Let no verdict of the POP change until this is ended.
    Freeze(origin::Freeze),
    /// Let verdicts of the POP change again.
    Unfreeze(origin::Unfreeze),
    /// Look for what keeps origins from being checked well, here or in the POP.
    Doctor(doctor::Options),
    /// Let the running agent read its configuration again.
    Reload(ask::ReloadOptions),
    /// Let the running agent hand over all its checks.
    Drain(drain::Options),
    /// Let a drained agent take part again.
    Undrain(Asking),
    /// Read a table file directly, with no agent's help.
    #[command(subcommand)]
    Table(table::Verb),
    /// Check a configuration, or print an example of one.
    #[command(subcommand)]
    Config(configure::ConfigVerb),
    /// Make keys for the POP.
    #[command(subcommand)]
    Key(configure::KeyVerb),
    /// Measure this machine.
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Write man pages and shell completions into a folder, for packages.
    #[command(hide = true)]
    Generate(generate::Options),
}

/// How to say it.
#[derive(Args, Clone, Copy)]
struct Format {
    /// Print one JSON object on the last line instead of text for people
    #[arg(long)]
    json: bool,
}

/// How a verb ended, short of success.
enum Failure {
    /// It could not do its work.
    Error(String),
    /// It did its work, and the answer is no: exit status 1 without an error.
    No,
}

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.to_string())
    }
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Run(options) => run::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Check(options) => check::run(&options),
        Verb::Status(options) => ask::status(&options),
        Verb::Why(options) => why::why(&options),
        Verb::Top(options) => top::run(&options),
        Verb::Page(options) => page::run(&options),
        Verb::Events(options) => history::events(&options),
        Verb::Flapping(options) => history::flapping(&options),
        Verb::Origin(verb) => origin::run(&verb),
        Verb::Member(verb) => member::run(&verb),
        Verb::Freeze(options) => origin::freeze(&options),
        Verb::Unfreeze(options) => origin::unfreeze(&options),
        Verb::Doctor(options) => doctor::run(&options),
        Verb::Reload(options) => ask::reload(&options),
        Verb::Drain(options) => drain::run(&options),
        Verb::Undrain(options) => ask::order(&options, &api::Verb::Undrain),
        Verb::Table(verb) => table::run(&verb),
        Verb::Config(verb) => configure::config(&verb),
        Verb::Key(verb) => configure::key(&verb),
        Verb::Bench(verb) => bench::run(&verb),
        Verb::Generate(options) => generate::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::No) => ExitCode::from(1),
        Err(Failure::Error(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Prints a value as one line of JSON.
fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    say!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Which agent to ask, and how to say what it answers.
#[derive(Args, Clone)]
struct Asking {
    #[command(flatten)]
    agent: AgentAddress,
    #[command(flatten)]
    format: Format,
}

impl Asking {
    /// Asks it.
    fn ask(&self, verb: &api::Verb) -> Result<serde_json::Value, Failure> {
        Ok(api::ask(&self.agent.socket()?, verb)?)
    }
}

/// How to find a running agent.
#[derive(Args, Clone)]
struct AgentAddress {
    /// The agent's admin socket [default: /run/watchfire/admin.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The agent's configuration file, which names the socket
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl AgentAddress {
    fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        match &self.config {
            Some(file) => Ok(crate::config::AgentConfig::load(file)?.admin_socket),
            None => Ok(ADMIN_SOCKET.into()),
        }
    }
}
