//! Origins files: which origins there are and how each is checked.
//!
//! A check is named by its content, so two origins with the same definition
//! share one check. A name may stand twice only with the same definition.

mod expand;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use watchfire_host::{Origins, Refusal};
use watchfire_probe::Ability;
use watchfire_probe_core::CheckSpec;
use watchfire_probe_core::keys::{self, KeyError};
use watchfire_probe_core::policy::Policy;
use watchfire_wire::{CheckId, Unmeasured};

pub(crate) use super::keys::OriginDefaults;
use super::keys::{Layers, Table};
use super::source::{ConfigError, Source};
pub(crate) use expand::expand;

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
    /// Origins that are not probed by what the agent's own file says, or for
    /// what this server lacks.
    pub(crate) denied: Vec<Denied>,
    /// Checks of addresses with a way of their own: this server may gain or lose it.
    ways: Vec<CheckId>,
}

/// An origin that is not probed, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Denied {
    pub(crate) name: Arc<str>,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    pub(crate) because: Arc<str>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line, name) = (self.file.display(), self.line, &self.name);
        write!(
            f,
            "{file}:{line}: origin \"{name}\" is not probed: {}",
            self.because
        )
    }
}

/// Origins that are named where it is said that some are not probed; of the rest
/// the number is said.
const DENIED_NAMED: usize = 10;

impl OriginSet {
    /// The same origins, as they are judged now, and what is to be said of the
    /// difference; nothing if there is none.
    pub(crate) fn judged_again(
        &self,
        judge: &dyn Fn(&CheckSpec) -> Option<Refusal>,
    ) -> Option<(Origins, Vec<String>)> {
        if self.ways.is_empty() {
            return None;
        }
        let mut refused = self.origins.refused.clone();
        for id in &self.ways {
            match judge(&self.origins.checks[id]) {
                Some(refusal) => refused.insert(*id, refusal),
                None => refused.remove(id),
            };
        }
        if refused == self.origins.refused {
            return None;
        }
        let news = |name: &Arc<str>, id| match (self.origins.refused.get(id), refused.get(id)) {
            (before, now) if before == now => None,
            (_, Some(now)) => Some(format!("origin \"{name}\" is not probed: {}", now.because)),
            (_, None) => Some(format!("origin \"{name}\" is probed from now on")),
        };
        let mut lines: Vec<String> = self
            .origins
            .names
            .iter()
            .filter_map(|(name, id)| news(name, id))
            .collect();
        if let Some(rest) = lines.len().checked_sub(DENIED_NAMED).filter(|&n| n > 0) {
            lines.truncate(DENIED_NAMED);
            lines.push(format!("and so on for {rest} more origins"));
        }
        let origins = Origins {
            refused,
            ..self.origins.clone()
        };
        Some((origins, lines))
    }

    /// Says, for people, which origins are not probed and were not so before.
    pub(crate) fn say_denied(&self, before: Option<&Self>, mut say: impl FnMut(String)) {
        let known = |denied: &&Denied| {
            let is = |id| before.and_then(|set| set.origins.refused.get(id));
            let id = &self.origins.names[&denied.name];
            is(id) != self.origins.refused.get(id)
        };
        let news: Vec<_> = self.denied.iter().filter(known).collect();
        for denied in news.iter().take(DENIED_NAMED) {
            say(denied.to_string());
        }
        if let Some(rest) = news
            .len()
            .checked_sub(DENIED_NAMED)
            .filter(|&rest| rest > 0)
        {
            say(format!("{rest} more origins are not probed either"));
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: OriginDefaults,
    #[serde(default)]
    origin: Vec<Spanned<Table>>,
    /// Origins of nobody, that say whether the POP reaches the world.
    #[serde(default)]
    reference: Vec<Spanned<Table>>,
}

/// One file's origins, in its order.
#[derive(Debug, PartialEq)]
pub(crate) struct FileOrigins {
    pub(crate) path: PathBuf,
    pub(crate) origins: Vec<Entry>,
}

/// One origin of a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    line: usize,
    check: CheckId,
    spec: Arc<CheckSpec>,
    is_reference: bool,
    /// Who answers for it: the file, unless it says so.
    pub(crate) tenant: Arc<str>,
}

impl Entry {
    /// What is checked and how.
    pub(crate) const fn spec(&self) -> &Arc<CheckSpec> {
        &self.spec
    }

    /// Where it stands in its file.
    pub(crate) const fn line(&self) -> usize {
        self.line
    }
}

/// Two files that cannot both count.
#[derive(Debug)]
pub(crate) struct Conflict {
    /// The place of the later one in the list, and of the earlier one; the same
    /// if it is no other file's doing.
    pub(crate) files: [usize; 2],
    /// At its place in the later one.
    pub(crate) error: ConfigError,
}

/// Reads one file's text. It stands for itself: no other file is looked at.
///
/// # Errors
///
/// Everything that is wrong with it, at most [`ERRORS`] of it; each origin is
/// read whatever is wrong with another.
pub(crate) fn parse(
    source: &Source,
    agent_defaults: &OriginDefaults,
) -> Result<FileOrigins, Vec<ConfigError>> {
    let file: File = source.parse().map_err(|error| vec![error])?;
    let mut errors: Vec<_> = file.defaults.check(source).err().into_iter().collect();
    let own: Arc<str> = source.path().display().to_string().into();
    let mut lines: HashMap<Arc<str>, (usize, CheckId)> = HashMap::new();
    let mut origins = Vec::new();
    let references = file.reference.iter().map(|table| (table, true));
    let all = file.origin.iter().map(|table| (table, false));
    for (origin, is_reference) in all.chain(references) {
        if errors.len() >= ERRORS {
            break;
        }
        let mut read = || {
            let mut layers = if is_reference {
                Layers::of_reference(source, origin)
            } else {
                Layers::new(source, origin, &file.defaults, agent_defaults)
            };
            let name = layers.name()?;
            let line = source.line(name.span());
            let text: Arc<str> = check_name(source, &name)?.into();
            let tenant = tenant(&mut layers)?.map_or_else(|| Arc::clone(&own), Arc::from);
            let spec = spec::read(&mut layers)?;
            let check = spec.id();
            if let Some((first, known)) = lines.get(&text) {
                if *known == check {
                    return Ok(None);
                }
                return Err(twice(source.path(), line, &text, source.path(), *first));
            }
            lines.insert(Arc::clone(&text), (line, check));
            Ok(Some(Entry {
                name: text,
                line,
                check,
                spec: Arc::new(spec),
                is_reference,
                tenant,
            }))
        };
        match read() {
            Ok(entry) => origins.extend(entry),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(FileOrigins {
        path: source.path().to_owned(),
        origins,
    })
}

/// The tenant that an origin or its file names.
fn tenant(layers: &mut Layers<'_>) -> Result<Option<String>, ConfigError> {
    let read = keys::text(layers, "tenant").and_then(|text| match text {
        Some(text) if text.is_empty() || text.len() > ORIGIN_NAME_BYTES => Err(KeyError::new(
            "tenant",
            format!("a tenant's name has 1 to {ORIGIN_NAME_BYTES} bytes"),
            "leave the key out, and the file is the tenant",
        )),
        Some(text) if text.chars().any(char::is_control) => Err(KeyError::new(
            "tenant",
            "the tenant's name holds a control character",
            "use characters that can be printed and typed",
        )),
        other => Ok(other),
    });
    read.map_err(|error| layers.error(&error))
}

/// Mistakes of one file that are shown. More are likely one mistake's doing.
const ERRORS: usize = 20;

fn twice(file: &Path, line: usize, name: &str, other: &Path, first: usize) -> ConfigError {
    ConfigError {
        line: Some(line),
        ..ConfigError::of_file(
            file,
            format!(
                "origin \"{name}\" is defined differently in {}:{first}",
                other.display()
            ),
            "rename one of the two, or make their definitions the same",
        )
    }
}

/// Puts the origins of several files together.
///
/// # Errors
///
/// A name is defined differently in two of them, or there are too many origins.
pub(crate) fn merge(
    files: &[&FileOrigins],
    judge: &dyn Fn(&CheckSpec) -> Option<Refusal>,
) -> Result<OriginSet, Conflict> {
    let mut set = OriginSet::default();
    let mut places = Places::new();
    for (index, file) in files.iter().enumerate() {
        for entry in &file.origins {
            if let Some(known) = set.origins.names.get(&entry.name) {
                if *known == entry.check {
                    continue;
                }
                let (other, first) = places[&entry.name];
                return Err(Conflict {
                    files: [index, other],
                    error: twice(
                        &file.path,
                        entry.line,
                        &entry.name,
                        &files[other].path,
                        first,
                    ),
                });
            }
            if set.origins.names.len() >= ORIGINS {
                return Err(Conflict {
                    files: [index; 2],
                    error: ConfigError {
                        line: Some(entry.line),
                        ..ConfigError::of_file(
                            &file.path,
                            format!("there are more than {ORIGINS} origins"),
                            "split the POP: one agent watches at most that many",
                        )
                    },
                });
            }
            let spec = set.origins.checks.entry(entry.check);
            spec.or_insert_with(|| Arc::clone(&entry.spec));
            set.origins.names.insert(entry.name.clone(), entry.check);
            let tenant = set.origins.tenants.entry(entry.check);
            tenant.or_insert_with(|| Arc::clone(&entry.tenant));
            if entry.is_reference {
                set.origins.references.insert(entry.check);
            }
            places.insert(entry.name.clone(), (index, entry.line));
        }
        set.files.push(file.path.clone());
    }
    let places = |name: &Arc<str>| {
        let (file, line) = places[name];
        (files[file].path.clone(), line)
    };
    let checks = set.origins.checks.iter();
    let ways = checks.filter(|(_, spec)| spec.egress.is_some() && spec.name.is_none());
    set.ways = ways.map(|(id, _)| *id).collect();
    deny(&mut set, judge, places);
    Ok(set)
}

/// Why an agent that goes by this policy, on a server with these abilities,
/// takes no part in a check.
pub(crate) fn refusal(policy: &Policy, ability: &Ability, spec: &CheckSpec) -> Option<Refusal> {
    if !spec.has_address() && spec.name.is_some() {
        // It is judged by each address that its name turns out to have.
        return None;
    }
    if let Err(denial) = policy.judge(spec.target) {
        return Some(Refusal {
            reason: Unmeasured::Denied,
            because: denial.to_string().into(),
        });
    }
    let lack = ability.lack(spec)?;
    Some(Refusal {
        reason: lack.reason,
        because: lack.because.into(),
    })
}

/// Origins that cannot or may not be probed here are no mistake of the file:
/// one tenant's must not keep all others' from being read.
fn deny(
    set: &mut OriginSet,
    judge: &dyn Fn(&CheckSpec) -> Option<Refusal>,
    place: impl Fn(&Arc<str>) -> (PathBuf, usize),
) {
    let origins = &mut set.origins;
    for (id, spec) in &origins.checks {
        if let Some(refusal) = judge(spec) {
            origins.refused.insert(*id, refusal);
        }
    }
    for (name, id) in &origins.names {
        if let Some(refusal) = origins.refused.get(id) {
            let (file, line) = place(name);
            set.denied.push(Denied {
                name: Arc::clone(name),
                file,
                line,
                because: Arc::clone(&refusal.because),
            });
        }
    }
}

/// Where each name stands: its file's place in the list, and the line.
type Places = HashMap<Arc<str>, (usize, usize)>;

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
