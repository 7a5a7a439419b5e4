//! The keys of an origin: its own, its file's defaults, and the agent's.
//!
//! Kinds and layers of checks take the keys that they know. A key of the
//! origin's own that nobody took is refused at its place; defaults speak to
//! many kinds, and must only be known to some.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Deserialize;
use toml::{Spanned, Value as Toml};

use watchfire_probe_core::keys::{KeyError, Keys, Value};
use watchfire_probe_core::kind::KINDS;
use watchfire_probe_core::stream::tls::{CLIENT_KEY, FILE_KEYS};
use watchfire_probe_core::{Egress, ProxyHeader, TlsSpec};

use super::source::{ConfigError, Source};

/// Keys with their places and values.
pub(super) type Table = BTreeMap<Spanned<String>, Spanned<Toml>>;

/// The keys that every kind of check has, beside name and address.
const COMMON: &[&str] = &[
    "kind",
    "interval",
    "timeout",
    "fast_interval",
    "down_interval",
    "rise",
    "fall",
    "window",
    "threshold",
    "initial",
    "tenant",
];

/// What an origin is given where it says nothing itself: every key of an
/// `[[origin]]` but its name and address.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub(crate) struct OriginDefaults(Table);

impl OriginDefaults {
    /// Whether somebody knows every key.
    pub(super) fn check(&self, source: &Source) -> Result<(), ConfigError> {
        for key in self.0.keys() {
            if !is_known(key.get_ref()) {
                return Err(unknown(source, key.span(), key.get_ref()));
            }
        }
        Ok(())
    }
}

/// The names of all kinds, as they are written.
pub(super) fn kind_names() -> Vec<String> {
    KINDS
        .iter()
        .flat_map(|about| about.names)
        .map(|name| format!("\"{name}\""))
        .collect()
}

/// Where a value may come from, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// The origin itself.
    Own,
    /// The `[defaults]` of its file.
    File,
    /// The `[defaults]` of the agent.
    Agent,
}

/// An origin's keys, nearest first, and those that were taken.
pub(super) struct Layers<'a> {
    source: &'a Source,
    origin: &'a Spanned<Table>,
    file: &'a Table,
    agent: &'a Table,
    taken: BTreeSet<&'static str>,
    /// What a key is where no layer has it.
    otherwise: fn(&str) -> Option<Value>,
    /// What is wrong with a file that a key names.
    failed: Option<KeyError>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(
        source: &'a Source,
        origin: &'a Spanned<Table>,
        file: &'a OriginDefaults,
        agent: &'a OriginDefaults,
    ) -> Self {
        Self {
            source,
            origin,
            file: &file.0,
            agent: &agent.0,
            taken: BTreeSet::new(),
            otherwise: |_| None,
            failed: None,
        }
    }

    /// The keys of a reference. What origins are given by default says nothing
    /// of it.
    pub(super) fn of_reference(source: &'a Source, reference: &'a Spanned<Table>) -> Self {
        static NONE: OriginDefaults = OriginDefaults(Table::new());
        Self {
            otherwise: reference_default,
            ..Self::new(source, reference, &NONE, &NONE)
        }
    }

    /// The origin's name.
    pub(super) fn name(&mut self) -> Result<Spanned<String>, ConfigError> {
        for key in ["name", "address"] {
            let hint = "add the key";
            if !self.origin.get_ref().contains_key(key) {
                let what = format!("missing field `{key}`");
                return Err(self.source.error(self.origin.span(), what, hint));
            }
        }
        self.taken.insert("name");
        let value = &self.origin.get_ref()["name"];
        match value.get_ref() {
            Toml::String(name) => Ok(Spanned::new(value.span(), name.clone())),
            _ => Err(self
                .source
                .error(value.span(), "name must be a text", "write it in quotes")),
        }
    }

    /// The nearest layer that has one of these keys.
    pub(super) fn nearest(&self, keys: &[&str]) -> Option<Layer> {
        [Layer::Own, Layer::File, Layer::Agent]
            .into_iter()
            .find(|&layer| keys.iter().any(|key| self.has(layer, key)))
    }

    /// Whether a layer has a key.
    pub(super) fn has(&self, layer: Layer, key: &str) -> bool {
        self.table(layer).contains_key(key)
    }

    /// Refuses the first key of the origin's own that nobody took.
    pub(super) fn refuse_the_rest(&self, kind: &str) -> Result<(), ConfigError> {
        if let Some(error) = &self.failed {
            return Err(self.error(error));
        }
        for key in self.origin.get_ref().keys() {
            let name = key.get_ref().as_str();
            if self.taken.contains(name) {
                continue;
            }
            let kinds = kinds_with(name);
            if kinds.is_empty() {
                return Err(unknown(self.source, key.span(), name));
            }
            return Err(self.source.error(
                key.span(),
                format!("{name} is no key of kind \"{kind}\""),
                format!(
                    "remove it, or choose a kind that has it: {}",
                    kinds.join(", ")
                ),
            ));
        }
        Ok(())
    }

    /// An error about a key, at its place.
    pub(super) fn error(&self, error: &KeyError) -> ConfigError {
        let table = self.origin.get_ref();
        let name = match table.get("name").map(Spanned::get_ref) {
            Some(Toml::String(name)) => name.as_str(),
            _ => "",
        };
        let what = format!("origin \"{name}\": {}", error.what);
        let (span, from) = match self.nearest(&[error.key]) {
            Some(Layer::Own) => (table[error.key].span(), ""),
            Some(Layer::File) => (self.file[error.key].span(), ""),
            Some(Layer::Agent) => (self.name_span(), " (from the agent's [defaults])"),
            None => (self.name_span(), ""),
        };
        self.source
            .error(span, format!("{what}{from}"), error.hint.as_str())
    }

    fn name_span(&self) -> Range<usize> {
        let name = self.origin.get_ref().get("name");
        name.map_or_else(|| self.origin.span(), Spanned::span)
    }

    fn table(&self, layer: Layer) -> &Table {
        match layer {
            Layer::Own => self.origin.get_ref(),
            Layer::File => self.file,
            Layer::Agent => self.agent,
        }
    }
}

impl Keys for Layers<'_> {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.taken.insert(key);
        let Some(layer) = self.nearest(&[key]) else {
            return (self.otherwise)(key);
        };
        let found = value(self.table(layer)[key].get_ref());
        if key != HEADERS_FILE && !FILE_KEYS.contains(&key) {
            return Some(found);
        }
        let Value::Text(path) = &found else {
            return Some(found);
        };
        let base = self.source.path().parent().unwrap_or(Path::new("."));
        let read = if key == HEADERS_FILE {
            headers_of(&base.join(path)).map(Value::Table)
        } else {
            pem_of(key, &base.join(path)).map(Value::Text)
        };
        match read {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }
}

/// A reference says soon whether the POP reaches the world: by a connection each
/// second, Down after two failures and Up after one pass.
fn reference_default(key: &str) -> Option<Value> {
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    match key {
        "kind" => text("tcp"),
        "interval" => text("1s"),
        "timeout" => text("800ms"),
        "rise" => Some(Value::Number(1)),
        "fall" => Some(Value::Number(2)),
        _ => None,
    }
}

/// The key that names a file of headers.
const HEADERS_FILE: &str = "headers_file";

/// Largest file of headers, bytes. A larger one is refused.
const HEADERS_FILE_BYTES: u64 = 64 * 1_024;

/// Reads a file of headers, one `Name: value` a line. They may be secrets: a
/// file that others may read is refused.
fn headers_of(path: &Path) -> Result<Vec<(String, Value)>, KeyError> {
    let error = |what: String, hint: &str| {
        KeyError::new(HEADERS_FILE, format!("{}: {what}", path.display()), hint)
    };
    let metadata = std::fs::metadata(path)
        .map_err(|cause| error(cause.to_string(), "create the file, or correct its path"))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(error(
            "others than its owner may use it".to_owned(),
            "chmod 600 it, for headers may be secrets",
        ));
    }
    if metadata.len() > HEADERS_FILE_BYTES {
        return Err(error(
            format!("it has {} bytes", metadata.len()),
            "name a file of a few headers",
        ));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|cause| error(cause.to_string(), "let the agent's user read it"))?;
    let mut headers = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| {
            error(
                format!("line {} is no header", index + 1),
                "write one \"Name: value\" a line",
            )
        })?;
        headers.push((name.to_owned(), Value::Text(value.trim().to_owned())));
    }
    Ok(headers)
}

/// Largest file of certificates or a key, bytes. A larger one is refused.
const PEM_FILE_BYTES: u64 = 256 * 1_024;

/// Reads a file of certificates or of a key, which others may not read.
fn pem_of(key: &'static str, path: &Path) -> Result<String, KeyError> {
    let error =
        |what: String, hint: &str| KeyError::new(key, format!("{}: {what}", path.display()), hint);
    let metadata = std::fs::metadata(path)
        .map_err(|cause| error(cause.to_string(), "create the file, or correct its path"))?;
    if !metadata.is_file() {
        let hint = "name a file of PEM";
        return Err(error("it is no regular file".to_owned(), hint));
    }
    if key == CLIENT_KEY && metadata.permissions().mode() & 0o077 != 0 {
        let hint = "chmod 600 it, for it is a secret";
        let what = "others than its owner may use it".to_owned();
        return Err(error(what, hint));
    }
    if metadata.len() > PEM_FILE_BYTES {
        let what = format!("it has {} bytes", metadata.len());
        return Err(error(what, "name a file of what this origin needs"));
    }
    std::fs::read_to_string(path)
        .map_err(|cause| error(cause.to_string(), "let the agent's user read a file of PEM"))
}

fn value(toml: &Toml) -> Value {
    match toml {
        Toml::String(text) => Value::Text(text.clone()),
        Toml::Boolean(flag) => Value::Flag(*flag),
        Toml::Integer(number) => Value::Number(*number),
        Toml::Array(list) => Value::List(list.iter().map(value).collect()),
        Toml::Table(table) => Value::Table(
            table
                .iter()
                .map(|(name, part)| (name.clone(), value(part)))
                .collect(),
        ),
        // No key has such a value, and each says what it wants instead.
        Toml::Float(_) | Toml::Datetime(_) => Value::List(Vec::new()),
    }
}

/// The kinds that take a key, by name.
fn kinds_with(key: &str) -> Vec<&'static str> {
    let in_tls = TlsSpec::KEYS.contains(&key)
        || TlsSpec::MORE_KEYS.contains(&key)
        || key == ProxyHeader::KEY;
    let on_bytes = key == ProxyHeader::KEY;
    KINDS
        .iter()
        .flat_map(|about| {
            let own = about.keys.iter().any(|group| group.contains(&key))
                || on_bytes && about.carries_bytes;
            let [plain, tls] = about.names;
            let plain = own.then_some(plain);
            plain.into_iter().chain((own || in_tls).then_some(tls))
        })
        .collect()
}

fn is_known(key: &str) -> bool {
    COMMON.contains(&key) || Egress::KEYS.contains(&key) || !kinds_with(key).is_empty()
}

fn unknown(source: &Source, span: Range<usize>, key: &str) -> ConfigError {
    source.error(
        span,
        format!("unknown field `{key}`"),
        "remove the key, or correct its spelling",
    )
}
