//! `watchfire config` and `watchfire key`: what an operator does before `run`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, Format, print_json};
use crate::config::ConfigErrors;
use crate::control::sources::Sources;
use crate::keys;
use watchfire_core::gate::Keys;

/// The example that `config example` prints; a test reads it back.
const EXAMPLE: &str = include_str!("../../examples/agent.toml");

#[derive(Subcommand)]
pub(super) enum ConfigVerb {
    /// Read a configuration and its origins files as `run` would.
    Check(CheckOptions),
    /// Print an agent.toml with every key explained.
    Example,
}

#[derive(Args)]
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
    if options.format.json {
        return print_json(&serde_json::json!({
            "node": config.name,
            "origins": origins.origins.names.len(),
            "checks": origins.origins.checks.len(),
            "not_probed": origins.denied.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "files": origins.files,
            "sealed": sealed,
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
    origins.say_denied(None, |line| say!("{line}"));
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
