//! What of an agent can be observed: the metrics' part of its file.

use glob::Pattern;
use serde::Deserialize;
use toml::Spanned;

use super::source::{ConfigError, Source};

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
