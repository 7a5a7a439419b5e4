//! `watchfire config` and `watchfire key`: what an operator does before `run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::text::columns;
use super::{Asking, Failure, Format, print_json};
use crate::config::{ConfigErrors, Cost};
use crate::control::api::Verb;
use crate::control::reload::Diff;
use crate::control::sources::Sources;
use crate::keys;
use watchfire_core::gate::Keys;

/// The example that `config example` prints; a test reads it back.
const EXAMPLE: &str = include_str!("../../examples/agent.toml");

#[derive(Subcommand)]
pub(super) enum ConfigVerb {
    /// Read a configuration and its files, and try what this host must have, as
    /// `run` would.
    Check(CheckOptions),
    /// Ask the running agent what a reload would do.
    Diff(DiffOptions),
    /// Print an agent.toml with every key explained.
    Example,
}

#[derive(Args)]
#[command(
    after_help = "Exit status:\n  0  a reload would change nothing\n  1  it would\n  \
                        2  it would refuse something, or no agent answers"
)]
pub(super) struct DiffOptions {
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
#[command(
    after_help = "Run it as the agent's user: what a user may not do is found too. Ports and \
                        tables that another process holds are no mistake of a configuration.\n\n\
                        Exit status:\n  0  `run` would start with all of it\n  \
                        2  `run` would refuse it, or leave out a file that has no last good content"
)]
pub(super) struct CheckOptions {
    /// The agent's configuration file
    #[arg(value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    format: Format,
}

#[derive(Subcommand)]
pub(super) enum KeyVerb {
    /// Make a new key file that its owner alone may use, or print one.
    New(NewOptions),
}

#[derive(Args)]
#[command(
    after_help = "Rotation, with no moment without a key: add a new key (with another --id) \
                        as a further line of every agent's file and reload; move it to the first \
                        line everywhere and reload; remove the old one everywhere and reload. \
                        The first key seals, all of them open."
)]
pub(super) struct NewOptions {
    /// The file to make; without it the key is printed
    file: Option<PathBuf>,
    /// The key's number, which goes over the wire; another one for each key
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    id: u32,
}

pub(super) fn config(verb: &ConfigVerb) -> Result<(), Failure> {
    let options = match verb {
        ConfigVerb::Check(options) => options,
        ConfigVerb::Diff(options) => return diff(options),
        ConfigVerb::Example => {
            say!("{}", EXAMPLE.trim_end());
            return Ok(());
        }
    };
    let (_, reading) = Sources::start(&options.config, |_| None)?;
    let config = reading.agent;
    let sealed = matches!(reading.keys, Some(Keys::Sealed(_)));
    let read = reading.read.ok_or("the origins files were not read")?;
    if !read.held.is_empty() {
        let errors = read.held.into_iter().flat_map(|held| held.errors).collect();
        return Err(ConfigErrors(errors).into());
    }
    let origins = read.origins;
    let cost = Cost::of(&origins.origins, config.gossip.period);
    if options.format.json {
        return print_json(&serde_json::json!({
            "node": config.name,
            "origins": origins.origins.names.len(),
            "checks": origins.origins.checks.len(),
            "not_probed": origins.denied.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "files": origins.files,
            "sealed": sealed,
            "cost": cost,
        }));
    }
    say!(
        "{}: node {}, {} origins and {} checks in {} files, gossip {} on {}",
        options.config.display(),
        config.name,
        origins.origins.names.len(),
        origins.origins.checks.len(),
        origins.files.len(),
        if sealed { "sealed" } else { "not sealed" },
        config.gossip.bind,
    );
    say!(
        "{} checks to probe in {} networks, {:.1} probes a second over the whole POP",
        cost.checks,
        cost.networks,
        cost.probes_per_s
    );
    if cost.names > 0 {
        say!(
            "{} names among them: each is resolved at run time, by the agent that probes it and by \
             those that may be asked; `watchfire why` shows its address",
            cost.names
        );
    }
    if !cost.classes.is_empty() {
        let head = [
            "KIND",
            "CHECKS",
            "INTERVAL",
            "TIMEOUT",
            "FAILS",
            "FAULT TO TABLE, AT WORST",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for class in cost.classes.iter().take(CLASSES_SHOWN) {
            let span = |ms| humantime::format_duration(Duration::from_millis(ms)).to_string();
            rows.push(vec![
                class.kind.to_owned(),
                class.checks.to_string(),
                span(class.interval_ms),
                span(class.timeout_ms),
                class.fails.to_string(),
                span(class.fault_to_table_ms),
            ]);
        }
        say!("{}", columns(&rows).trim_end());
        if let Some(more @ 1..) = cost.classes.len().checked_sub(CLASSES_SHOWN) {
            say!("and {more} faster classes");
        }
    }
    origins.say_denied(None, |line| say!("{line}"));
    Ok(())
}

/// Classes of checks that people are shown; the rest are counted.
const CLASSES_SHOWN: usize = 20;

fn diff(options: &DiffOptions) -> Result<(), Failure> {
    let answer = options.asking.ask(&Verb::Diff)?;
    let diff: Diff = serde_json::from_value(answer.clone())?;
    let changes = diff.added.len() + diff.changed.len() + diff.removed.len();
    if options.asking.format.json {
        print_json(&answer)?;
    } else {
        for (sign, names) in [
            ("+", &diff.added),
            ("~", &diff.changed),
            ("-", &diff.removed),
        ] {
            for name in names {
                say!("{sign} {name}");
            }
        }
        for key in &diff.after_restart {
            say!("! {key} changes after a restart only");
        }
        say!(
            "{} added, {} changed, {} removed",
            diff.added.len(),
            diff.changed.len(),
            diff.removed.len()
        );
    }
    if !diff.refused.is_empty() {
        return Err(Failure::Error(diff.refused.join("\n")));
    }
    if changes + diff.after_restart.len() > 0 {
        return Err(Failure::No);
    }
    Ok(())
}

pub(super) fn key(verb: &KeyVerb) -> Result<(), Failure> {
    let KeyVerb::New(options) = verb;
    match &options.file {
        None => say!("{}", keys::generate(options.id).trim_end()),
        Some(file) => keys::create(file, options.id).map_err(|error| {
            format!(
                "cannot make {}: {error}\n  help: choose a file that is not there yet",
                file.display()
            )
        })?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AgentConfig;

    #[test]
    fn the_example_is_a_configuration_that_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, EXAMPLE).unwrap();
        let config = AgentConfig::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.name, "cache-1");
    }
}
