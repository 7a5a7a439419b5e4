//! What of an agent can be observed: the metrics' part of its file.

use std::path::{Path, PathBuf};

use glob::Pattern;
use serde::Deserialize;
use toml::Spanned;

use super::source::{ConfigError, Source};

/// Where events go.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    /// The file.
    pub(crate) file: PathBuf,
    /// It turns when it has so many bytes.
    pub(crate) max_bytes: u64,
    /// So many older ones are kept.
    pub(crate) keep: u32,
    /// Everything that this agent hears of, not only what it decided.
    pub(crate) all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvents {
    file: PathBuf,
    max_mb: Option<Spanned<u32>>,
    keep: Option<Spanned<u32>>,
    #[serde(default)]
    all: bool,
}

/// Which origins have metrics of their own though they are Up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen(pub(crate) Vec<Pattern>);

impl Chosen {
    /// Whether this is one.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMetrics {
    pub(super) listen: Spanned<String>,
    #[serde(default)]
    pub(super) origins: Vec<Spanned<String>>,
}

/// Which origins have metrics of their own though they are Up.
pub(super) fn chosen(source: &Source, patterns: &[Spanned<String>]) -> Result<Chosen, ConfigError> {
    let patterns = patterns.iter().map(|pattern| {
        Pattern::new(pattern.get_ref()).map_err(|error| {
            source.error(
                pattern.span(),
                format!("\"{}\" is not a pattern: {error}", pattern.get_ref()),
                "write a name, or a part of one with *, like \"shop-*\"",
            )
        })
    });
    patterns.collect::<Result<_, _>>().map(Chosen)
}

/// Where events go.
pub(super) fn events(source: &Source, base: &Path, raw: &RawEvents) -> Result<Events, ConfigError> {
    let within = |value: &Option<Spanned<u32>>, default: u32, least: u32, most: u32, name: &str| {
        let Some(value) = value else {
            return Ok(default);
        };
        let number = *value.get_ref();
        if (least..=most).contains(&number) {
            return Ok(number);
        }
        Err(source.error(
            value.span(),
            format!("{name} = {number} makes no sense"),
            format!("{least} to {most}"),
        ))
    };
    Ok(Events {
        file: base.join(&raw.file),
        max_bytes: u64::from(within(&raw.max_mb, 64, 1, 65_536, "max_mb")?) << 20,
        keep: within(&raw.keep, 3, 0, 100, "keep")?,
        all: raw.all,
    })
}
