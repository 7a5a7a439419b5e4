//! Origins files: which origins there are and how each is checked.
//!
//! A check is named by its content, so two origins with the same definition
//! share one check. A name may stand twice only with the same definition.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use watchfire_host::Origins;
use watchfire_probe_core::check::{CheckSpec, HealthRule, HttpSpec, Kind, Method, TlsSpec};
use watchfire_probe_core::status::StatusSet;
use watchfire_wire::Verdict;

use super::duration::Span;
use super::source::{ConfigError, Source};

/// Origins that one agent may be given. More are refused at load.
pub(crate) const ORIGINS: usize = 500_000;

/// Longest origin name, bytes: the table's limit.
pub(crate) const ORIGIN_NAME_BYTES: usize = watchfire_table::limits::NAME_BYTES;

/// Every origin, and where it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OriginSet {
    /// By name, with the check that watches it.
    pub(crate) origins: Origins,
    /// Files that were read.
    pub(crate) files: Vec<PathBuf>,
}

/// Declares the keys that an origin may have, once for the origin itself and
/// once for defaults. (Flattening one struct into the other would lose the
/// lines of errors and let unknown keys pass.)
macro_rules! origin_keys {
    ($($key:ident: $type:ty,)*) => {
        /// What an origin is given where it says nothing itself: every key of
        /// an `[[origin]]` but its name and address.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct OriginDefaults {
            $($key: Option<Spanned<$type>>,)*
        }

        /// One `[[origin]]`.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct RawOrigin {
            name: Spanned<String>,
            address: Spanned<String>,
            $($key: Option<Spanned<$type>>,)*
        }
    };
}

origin_keys! {
    kind: KindName,
    interval: Span,
    timeout: Span,
    fast_interval: Span,
    down_interval: Span,
    rise: u8,
    fall: u8,
    window: u8,
    threshold: u8,
    initial: Initial,
    method: MethodName,
    path: String,
    host: String,
    expect: String,
    connection: Connection,
    server_name: String,
    verify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Tcp,
    Http,
    Https,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Initial {
    Up,
    Down,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum MethodName {
    #[serde(rename = "GET")]
    Get,
    #[serde(rename = "HEAD")]
    Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Connection {
    New,
    Reuse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    defaults: Option<OriginDefaults>,
    #[serde(default)]
    origin: Vec<Spanned<RawOrigin>>,
}

/// Reads every origins file that the patterns name, in the order of the
/// patterns and then of the names.
///
/// # Errors
///
/// A pattern is broken, a file cannot be read or parsed, an origin's
/// definition makes no sense, or a name stands twice with two definitions.
pub(crate) fn load(
    patterns: &[String],
    base: &Path,
    agent_defaults: &OriginDefaults,
) -> Result<OriginSet, ConfigError> {
    let mut set = OriginSet::default();
    let mut places: BTreeMap<Arc<str>, (PathBuf, usize)> = BTreeMap::new();
    for path in expand(patterns, base)? {
        let source = Source::read(&path)?;
        read_file(&source, agent_defaults, &mut set, &mut places)?;
        set.files.push(path);
    }
    Ok(set)
}

/// The files that the patterns name now; what cannot be looked into is left
/// out, for [`load`] says so.
pub(crate) fn files(patterns: &[String], base: &Path) -> Vec<PathBuf> {
    expand(patterns, base).unwrap_or_default()
}

/// The files that the patterns name now. A pattern without a wildcard names
/// its file even if that is not there, so that the error can say so.
fn expand(patterns: &[String], base: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let full = base.join(pattern);
        if !has_wildcard(&full) {
            paths.push(full);
            continue;
        }
        let found = glob::glob(&full.to_string_lossy()).map_err(|e| {
            ConfigError::of_file(
                &full,
                format!("the pattern is broken: {e}"),
                "write it like \"origins.d/*.toml\"",
            )
        })?;
        if !full
            .parent()
            .is_none_or(|dir| dir.is_dir() || has_wildcard(dir))
        {
            return Err(ConfigError::of_file(
                &full,
                "the pattern's folder does not exist",
                "create the folder, or correct origins.files",
            ));
        }
        for entry in found {
            paths.push(entry.map_err(|e| {
                ConfigError::of_file(
                    e.path(),
                    format!("cannot look into it: {}", e.error()),
                    "let the agent's user read the folder",
                )
            })?);
        }
    }
    Ok(paths)
}

fn has_wildcard(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn read_file(
    source: &Source,
    agent_defaults: &OriginDefaults,
    set: &mut OriginSet,
    places: &mut BTreeMap<Arc<str>, (PathBuf, usize)>,
) -> Result<(), ConfigError> {
    let file: File = source.parse()?;
    let no_defaults = OriginDefaults::default();
    let file_defaults = file.defaults.as_ref().unwrap_or(&no_defaults);
    for raw in file.origin {
        let origin = raw.into_inner();
        let name: Arc<str> = check_name(source, &origin.name)?.into();
        let spec = origin.spec(source, file_defaults, agent_defaults)?;
        let id = spec.id();
        let line = source.line(origin.name.span());
        if let Some(known) = set.origins.names.get(&name) {
            if *known == id {
                continue;
            }
            let (file, first) = &places[&name];
            return Err(source.error(
                origin.name.span(),
                format!(
                    "origin \"{name}\" stands here with another definition than in {}:{first}",
                    file.display()
                ),
                "rename one of the two, or make their definitions the same",
            ));
        }
        if set.origins.names.len() >= ORIGINS {
            return Err(source.error(
                origin.name.span(),
                format!("there are more than {ORIGINS} origins"),
                "split the POP: one agent watches at most that many",
            ));
        }
        set.origins
            .checks
            .entry(id)
            .or_insert_with(|| Arc::new(spec));
        set.origins.names.insert(name.clone(), id);
        places.insert(name, (source.path().to_owned(), line));
    }
    Ok(())
}

fn check_name<'a>(source: &Source, name: &'a Spanned<String>) -> Result<&'a str, ConfigError> {
    let text = name.get_ref().as_str();
    if text.is_empty() {
        return Err(source.error(
            name.span(),
            "the origin's name is empty",
            "give it the name under which the proxy will look it up",
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(source.error(
            name.span(),
            "the origin's name holds a control character",
            "use characters that can be printed and typed",
        ));
    }
    if text.len() > ORIGIN_NAME_BYTES {
        return Err(source.error(
            name.span(),
            format!(
                "the origin's name has {} bytes; the table holds names of at most \
                 {ORIGIN_NAME_BYTES}",
                text.len()
            ),
            "shorten the name",
        ));
    }
    Ok(text)
}

impl RawOrigin {
    fn spec(
        &self,
        source: &Source,
        file: &OriginDefaults,
        agent: &OriginDefaults,
    ) -> Result<CheckSpec, ConfigError> {
        /// The origin's own value, or the file's default, or the agent's.
        macro_rules! pick {
            ($field:ident) => {
                self.$field
                    .as_ref()
                    .or(file.$field.as_ref())
                    .or(agent.$field.as_ref())
                    .map(Spanned::get_ref)
            };
        }
        let name = self.name.get_ref();
        let kind_name = pick!(kind).copied().unwrap_or(KindName::Http);
        let target: SocketAddr = self.address.get_ref().parse().map_err(|_| {
            source.error(
                self.address.span(),
                format!("\"{}\" is not an address and port", self.address.get_ref()),
                "write it like \"192.0.2.10:8080\" or \"[2001:db8::10]:8080\"",
            )
        })?;
        let http = || -> Result<HttpSpec, ConfigError> {
            let expect = pick!(expect).map_or("200-399", String::as_str);
            let expect: StatusSet = expect.parse().map_err(|e| {
                source.error(
                    span_of(&self.expect, &self.name),
                    format!("origin \"{name}\": expect = \"{expect}\": {e}"),
                    "write statuses like \"200-299,304\"",
                )
            })?;
            Ok(HttpSpec {
                method: match pick!(method) {
                    Some(MethodName::Head) => Method::Head,
                    Some(MethodName::Get) | None => Method::Get,
                },
                path: pick!(path).cloned().unwrap_or_else(|| "/".to_owned()),
                host: pick!(host).cloned().unwrap_or_else(|| target.to_string()),
                expect,
                reuse: pick!(connection) == Some(&Connection::Reuse),
                tls: (kind_name == KindName::Https).then(|| TlsSpec {
                    server_name: pick!(server_name)
                        .or(pick!(host))
                        .cloned()
                        .unwrap_or_else(|| target.ip().to_string()),
                    verify: pick!(verify).copied().unwrap_or(true),
                }),
            })
        };
        let kind = match kind_name {
            KindName::Tcp => Kind::Tcp,
            KindName::Http | KindName::Https => Kind::Http(http()?),
        };
        let interval = pick!(interval).map_or(Duration::from_secs(1), |span| span.0);
        let timeout =
            pick!(timeout).map_or(interval.min(Duration::from_millis(500)), |span| span.0);
        let counts = self.rise.is_some() || self.fall.is_some();
        if counts && (self.window.is_some() || self.threshold.is_some()) {
            return Err(source.error(
                span_of(&self.window, &self.name),
                format!("origin \"{name}\": rise and fall do not go with window and threshold"),
                "choose one of the two ways",
            ));
        }
        let rule = match (pick!(window), pick!(threshold)) {
            (None, None) => HealthRule::RiseFall {
                rise: pick!(rise).copied().unwrap_or(2),
                fall: pick!(fall).copied().unwrap_or(3),
            },
            (Some(&window), Some(&threshold)) => HealthRule::Window {
                window,
                threshold,
                initial: match pick!(initial) {
                    Some(Initial::Up) => Verdict::Up,
                    Some(Initial::Down) => Verdict::Down,
                    Some(Initial::Unknown) | None => Verdict::Unknown,
                },
            },
            _ => {
                return Err(source.error(
                    span_of(&self.window, &self.name),
                    format!("origin \"{name}\": window and threshold go together"),
                    "write both, or use rise and fall",
                ));
            }
        };
        let spec = CheckSpec {
            target,
            kind,
            interval,
            timeout,
            fast_interval: pick!(fast_interval).map(|span| span.0),
            down_interval: pick!(down_interval).map(|span| span.0),
            rule,
        };
        spec.validate().map_err(|e| {
            source.error(
                self.name.span(),
                format!("origin \"{name}\": {e}"),
                "correct this origin, or the defaults that it takes",
            )
        })?;
        Ok(spec)
    }
}

/// Where an error about an optional key points: the key if the origin has it
/// itself, its name otherwise.
fn span_of<T>(own: &Option<Spanned<T>>, name: &Spanned<String>) -> Range<usize> {
    own.as_ref().map_or_else(|| name.span(), Spanned::span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<OriginSet, ConfigError> {
        let source = Source::from_text(Path::new("o.toml"), text.to_owned())?;
        let mut set = OriginSet::default();
        read_file(
            &source,
            &OriginDefaults::default(),
            &mut set,
            &mut BTreeMap::new(),
        )?;
        Ok(set)
    }

    fn refused(text: &str, line: usize, word: &str) {
        let error = load_text(text).expect_err("must be refused");
        assert_eq!(error.line, Some(line), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }

    const GOOD: &str = "[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:80\"\n";

    #[test]
    fn the_same_definition_under_two_names_is_one_check() {
        let set = load_text(&format!("{GOOD}{}", GOOD.replace("\"a\"", "\"b\""))).unwrap();
        assert_eq!((set.origins.names.len(), set.origins.checks.len()), (2, 1));
    }

    #[test]
    fn a_name_may_stand_twice_only_with_one_definition() {
        assert_eq!(
            load_text(&format!("{GOOD}{GOOD}"))
                .unwrap()
                .origins
                .names
                .len(),
            1
        );
        refused(
            &format!("{GOOD}{}", GOOD.replace(":80", ":81")),
            5,
            "another definition than in o.toml:2",
        );
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        refused(&format!("{GOOD}intervall = \"1s\"\n"), 4, "intervall");
        refused(&format!("{GOOD}interval = \"0s\"\n"), 4, "too short");
        refused(&format!("{GOOD}interval = \"-1s\"\n"), 4, "negative");
        refused(&format!("{GOOD}timeout = \"2s\"\n"), 2, "timeout");
        refused(&GOOD.replace(":80", ""), 3, "not an address and port");
        refused(&format!("{GOOD}expect = \"2xx\"\n"), 4, "expect");
        refused(&format!("{GOOD}window = 5\n"), 4, "go together");
        refused(&format!("{GOOD}path = \"x\"\n"), 2, "path");
        refused("[[origin]]\nname = \"a\"\n", 1, "address");
        refused(
            &format!("{GOOD}[[origin]]\nname = \"b\"\naddr"),
            6,
            "middle",
        );
    }

    #[test]
    fn defaults_reach_every_origin_and_its_own_word_wins() {
        let text = format!(
            "[defaults]\nkind = \"tcp\"\ninterval = \"2s\"\n{GOOD}interval = \"3s\"\n{}",
            GOOD.replace("\"a\"", "\"b\"")
        );
        let set = load_text(&text).unwrap();
        let interval = |name: &str| set.origins.checks[&set.origins.names[name]].interval;
        assert_eq!(interval("a"), Duration::from_secs(3));
        assert_eq!(interval("b"), Duration::from_secs(2));
    }
}
