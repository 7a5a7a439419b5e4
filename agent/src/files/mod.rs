//! The origins files: each is read by itself, counts once it is whole and at
//! rest, and keeps its last good content while it is not.
//!
//! What is here blocks, for files may lie on mounts that do not answer: it is
//! called on threads that nobody waits for without a bound. It changes nothing
//! but its own memory of the files and what it keeps on disk.

mod decide;
mod kept;
mod look;
mod quota;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchfire_probe::Ability;
use watchfire_probe_core::CheckSpec;
use watchfire_probe_core::stream::tls::FILE_KEYS;

use self::decide::{Candidate, Decided};
pub(crate) use self::kept::Kept;
pub(crate) use self::look::Look;
use self::look::Writers;
use crate::config::{
    AgentConfig, ConfigError, ConfigErrors, FileOrigins, OriginDefaults, OriginSet, Skipped,
    Source, expand, parse, refusal, skipped_line,
};

/// From one look to the next when somebody asked and waits.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A file that is not at rest for so long is not waited for by who asked.
const REST_PATIENCE: Duration = Duration::from_secs(2);

/// A file that is gone for less may be about to come back: folders are swapped
/// and copied anew.
const GONE_PATIENCE: Duration = Duration::from_millis(1_500);

/// What has looked the same for so long at the start is at rest.
const AT_REST: Duration = Duration::from_secs(2);

/// A file that is waited for is told of after this.
const TELL_WAITING: Duration = Duration::from_secs(10);

/// Why the files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The agent starts: there is no old set but the one kept on disk.
    Start,
    /// Now and then, for changes.
    Look,
    /// Somebody wants to know what a reload would do; nothing is remembered.
    Plan,
    /// Somebody asked.
    Reload {
        /// Origins may leave, however many.
        allow_removals: bool,
    },
}

/// A file that does not count as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) file: PathBuf,
    pub(crate) errors: Vec<ConfigError>,
    /// Since when, milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Its last good content is in force.
    pub(crate) has_last_good: bool,
}

/// What was read.
pub(crate) struct Read {
    pub(crate) origins: OriginSet,
    pub(crate) held: Vec<Held>,
    /// Files that somebody is writing: they are read when they are at rest.
    pub(crate) waiting: Vec<PathBuf>,
}

/// A content that counted.
#[derive(Clone, Debug)]
struct Good {
    text: Arc<str>,
    origins: Arc<FileOrigins>,
}

/// What is remembered of a file.
#[derive(Debug, Default)]
struct Known {
    /// What it looked like when it was last taken or refused.
    seen: Option<Look>,
    good: Option<Good>,
    held: Option<Held>,
}

impl Known {
    /// Whoever asks for a reload may have mended what held it, or renewed a file
    /// that it names.
    fn is_to_be_read_again(&self) -> bool {
        let names_a_file = |good: &Good| {
            let names = ["headers_file"].iter().chain(FILE_KEYS);
            names.into_iter().any(|key| good.text.contains(key))
        };
        self.held.is_some() || self.good.as_ref().is_some_and(names_a_file)
    }
}

/// A change that was seen and may not be at its end.
struct Fresh {
    look: Look,
    /// Nothing for a file that no pattern names any more.
    source: Option<Result<Source, ConfigError>>,
    since: Instant,
    looks: u32,
    told: bool,
}

impl Fresh {
    fn is_like(&self, other: &Self) -> bool {
        let same_content = match (&self.source, &other.source) {
            (Some(Ok(one)), Some(Ok(other))) => one.text() == other.text(),
            (Some(Err(one)), Some(Err(other))) => one == other,
            (None, None) => true,
            _ => false,
        };
        self.look == other.look && same_content
    }
}

/// Reads origins files, and remembers them.
pub(crate) struct Files {
    kept: Option<Kept>,
    known: BTreeMap<PathBuf, Known>,
    fresh: BTreeMap<PathBuf, Fresh>,
    writers: Writers,
    skipped: Vec<Skipped>,
    /// By which the good ones were parsed.
    defaults: OriginDefaults,
    /// The patterns could not be looked at, the last time.
    lost_sight: bool,
}

impl Files {
    /// Knows no file yet but those that are kept.
    pub(crate) fn new(agent: &AgentConfig, kept: Option<Kept>) -> Self {
        let mut known = BTreeMap::new();
        for (path, text) in kept.as_ref().map(Kept::load).unwrap_or_default() {
            // One that no longer reads as it did is no help.
            if let Ok(good) = good(&path, text.into(), &agent.defaults) {
                let good = Some(good);
                known.insert(
                    path,
                    Known {
                        good,
                        ..Known::default()
                    },
                );
            }
        }
        Self {
            kept,
            known,
            fresh: BTreeMap::new(),
            writers: Writers::new(),
            skipped: Vec::new(),
            defaults: agent.defaults.clone(),
            lost_sight: false,
        }
    }

    /// Reads what has changed and is at rest. Nothing, when somebody only
    /// looked and nothing is to be taken.
    ///
    /// # Errors
    ///
    /// The patterns are broken; `[defaults]` have changed so that a good file no
    /// longer is; or, at the start, no file is any good. Nothing was taken.
    pub(crate) fn read(
        &mut self,
        agent: &AgentConfig,
        how: How,
    ) -> Result<Option<Read>, ConfigErrors> {
        let reparsed = self.reparse(&agent.defaults)?;
        let deadline = Instant::now() + REST_PATIENCE;
        let asked = how != How::Look;
        let (settled, waiting) = loop {
            let Some(paths) = self.paths(agent, how)? else {
                return Ok(None);
            };
            self.gather(&paths, asked);
            let (settled, waiting) = self.settled(how);
            if !asked && !settled.is_empty() {
                // What is held may stand in nobody's way any more.
                self.gather(&paths, true);
                let (held, waiting) = self.settled(how);
                break (settled.into_iter().chain(held).collect(), waiting);
            }
            if !asked || waiting.is_empty() || Instant::now() >= deadline {
                break (settled, waiting);
            }
            // Those at rest are looked at again too: all are taken together.
            self.fresh.extend(settled);
            std::thread::sleep(LOOK_AGAIN);
        };
        if !asked {
            self.tell_waiting(&waiting);
            if settled.is_empty() {
                return Ok(None);
            }
        }
        let candidates = self.candidates(settled, reparsed.as_ref(), agent);
        let ability = Ability::new(&agent.probe);
        let judge = |spec: &CheckSpec| refusal(&agent.policy, &ability, spec);
        let decided = decide::decide(candidates, agent, how, &judge);
        if how == How::Start {
            refuse_without_any_good(&decided)?;
        }
        if how == How::Plan {
            let candidates = decided.candidates.into_iter();
            return Ok(Some(Read {
                origins: decided.set,
                held: candidates.filter_map(|one| one.held).collect(),
                waiting,
            }));
        }
        self.defaults = agent.defaults.clone();
        Ok(Some(self.take(decided, waiting)))
    }

    /// The good contents under other defaults.
    fn reparse(
        &self,
        defaults: &OriginDefaults,
    ) -> Result<Option<BTreeMap<PathBuf, Good>>, ConfigErrors> {
        if *defaults == self.defaults {
            return Ok(None);
        }
        let mut all = BTreeMap::new();
        for (path, known) in &self.known {
            if let Some(old) = &known.good {
                let new = good(path, Arc::clone(&old.text), defaults).map_err(ConfigErrors)?;
                all.insert(path.clone(), new);
            }
        }
        Ok(Some(all))
    }

    /// The files that the patterns name; nothing if that cannot be told just
    /// now, for a folder may be about to be swapped.
    fn paths(
        &mut self,
        agent: &AgentConfig,
        how: How,
    ) -> Result<Option<Vec<PathBuf>>, ConfigErrors> {
        match expand(&agent.origins, agent.base()) {
            Ok((mut paths, skipped)) => {
                self.lost_sight = false;
                if skipped != self.skipped {
                    if let Some(line) = skipped_line(&skipped) {
                        tracing::warn!("passed over, for these are no origins files: {line}");
                    }
                    self.skipped = skipped;
                }
                let mut seen = HashSet::new();
                paths.retain(|path| seen.insert(path.clone()));
                Ok(Some(paths))
            }
            Err(_) if how == How::Look && !self.lost_sight => {
                self.lost_sight = true;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at every file, and reads those that look different from what was
    /// taken; those that are held too, if they are to be tried again.
    fn gather(&mut self, paths: &[PathBuf], held_too: bool) {
        self.writers.watch(paths.iter().map(PathBuf::as_path));
        self.writers.update();
        let named: HashSet<_> = paths.iter().collect();
        let known = self.known.keys().filter(|path| !named.contains(path));
        let gone: Vec<_> = known.cloned().collect();
        self.fresh
            .retain(|path, _| named.contains(path) || self.known.contains_key(path));
        let named = paths.iter().map(|path| (path, true));
        let all = named.chain(gone.iter().map(|path| (path, false)));
        for (path, is_named) in all {
            let look = if is_named {
                Look::of(path)
            } else {
                Look::Missing
            };
            if let Some(known) = self.known.get(path)
                && known.seen == Some(look)
                && !(held_too && known.is_to_be_read_again())
            {
                self.fresh.remove(path);
                continue;
            }
            let new = Fresh {
                look,
                source: is_named.then(|| Source::read(path)),
                since: Instant::now(),
                looks: 1,
                told: false,
            };
            match self.fresh.get_mut(path) {
                Some(old) if old.is_like(&new) => old.looks += 1,
                _ => drop(self.fresh.insert(path.clone(), new)),
            }
        }
    }

    /// The changes that are at rest, and those that are not.
    fn settled(&mut self, how: How) -> (Vec<(PathBuf, Fresh)>, Vec<PathBuf>) {
        let wall = crate::clock::wall();
        let (mut settled, mut waiting) = (Vec::new(), Vec::new());
        for (path, fresh) in &self.fresh {
            let known = self.known.get(path).and_then(|known| known.seen);
            let is_known = known == Some(fresh.look);
            let is_old = how == How::Start && fresh.look.is_older_than(AT_REST, wall);
            let looked_twice = fresh.looks >= 2 || is_known || is_old;
            let is_gone = fresh.source.is_none() && !is_known;
            let may_return = is_gone && how == How::Look && fresh.since.elapsed() < GONE_PATIENCE;
            // At the start what is not there is not waited for: there is
            // nothing to go on with meanwhile.
            let never_was = how == How::Start && fresh.look == Look::Missing;
            if never_was || looked_twice && !may_return && !self.writers.is_writing(path) {
                settled.push(path.clone());
            } else {
                waiting.push(path.clone());
            }
        }
        let settled = settled
            .into_iter()
            .filter_map(|path| self.fresh.remove_entry(&path))
            .collect();
        (settled, waiting)
    }

    fn tell_waiting(&mut self, waiting: &[PathBuf]) {
        for path in waiting {
            if let Some(fresh) = self.fresh.get_mut(path)
                && fresh.since.elapsed() >= TELL_WAITING
                && !fresh.told
            {
                fresh.told = true;
                tracing::warn!(
                    file = %path.display(),
                    "somebody is writing this file; it is read when they have closed it"
                );
            }
        }
    }

    /// What may be in force of each file, new and old.
    fn candidates(
        &self,
        settled: Vec<(PathBuf, Fresh)>,
        reparsed: Option<&BTreeMap<PathBuf, Good>>,
        agent: &AgentConfig,
    ) -> Vec<Candidate> {
        let mut changed: BTreeMap<_, _> = settled.into_iter().collect();
        let mut paths: Vec<_> = self.known.keys().cloned().collect();
        paths.extend(
            changed
                .keys()
                .filter(|path| !self.known.contains_key(*path))
                .cloned(),
        );
        paths.sort();
        let mut candidate = |path: PathBuf| {
            let known = self.known.get(&path);
            let old = reparsed
                .and_then(|all| all.get(&path))
                .or_else(|| known.and_then(|known| known.good.as_ref()))
                .cloned();
            let held = known.and_then(|known| known.held.clone());
            let mut candidate = Candidate::unchanged(path.clone(), old, held);
            let Some(fresh) = changed.remove(&path) else {
                return candidate;
            };
            candidate.seen = Some(fresh.look);
            candidate.held = None;
            match fresh.source {
                None => candidate.gone = true,
                Some(Err(error)) => candidate.hold(vec![error]),
                Some(Ok(source)) => match good_of(&source, source.text().into(), &agent.defaults) {
                    Ok(good) => candidate.new = Some(good),
                    Err(errors) => candidate.hold(errors),
                },
            }
            candidate
        };
        paths.into_iter().map(&mut candidate).collect()
    }

    /// Remembers what was decided, keeps what is good, and says what is not.
    fn take(&mut self, decided: Decided, waiting: Vec<PathBuf>) -> Read {
        let mut held = Vec::new();
        for candidate in decided.candidates {
            let path = candidate.path.clone();
            let before = self.known.remove(&path).unwrap_or_default();
            say(&candidate, before.held.as_ref());
            let in_force = candidate.in_force().cloned();
            let text = |good: &Option<Good>| good.as_ref().map(|good| Arc::clone(&good.text));
            if let Some(kept) = &mut self.kept {
                match text(&in_force) {
                    Some(new) if text(&before.good).as_ref() != Some(&new) => {
                        kept.store(&path, &new);
                    }
                    None if before.good.is_some() => kept.remove(&path),
                    _ => {}
                }
            }
            held.extend(candidate.held.clone());
            if candidate.gone && candidate.held.is_none() {
                continue;
            }
            let known = Known {
                seen: candidate.seen.or(before.seen),
                good: in_force,
                held: candidate.held,
            };
            self.known.insert(path, known);
        }
        Read {
            origins: decided.set,
            held,
            waiting,
        }
    }
}

/// A start has nothing to go on with if no file is any good.
fn refuse_without_any_good(decided: &Decided) -> Result<(), ConfigErrors> {
    let candidates = &decided.candidates;
    if candidates.iter().any(|one| one.in_force().is_some()) {
        return Ok(());
    }
    let held = candidates.iter().filter_map(|one| one.held.as_ref());
    let errors: Vec<_> = held.flat_map(|held| held.errors.clone()).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(ConfigErrors(errors))
}

/// Says what is news about a file.
fn say(candidate: &Candidate, before: Option<&Held>) {
    match (&candidate.held, before) {
        (Some(held), before) => {
            if before.is_some_and(|before| before.errors == held.errors) {
                return;
            }
            let errors = ConfigErrors(held.errors.clone());
            if held.has_last_good {
                tracing::error!(
                    "an origins file is held back, its last good content stays: {errors}"
                );
            } else {
                tracing::error!(
                    "an origins file is left out, it has no last good content: {errors}"
                );
            }
        }
        (None, Some(_)) => {
            tracing::info!(file = %candidate.path.display(), "an origins file counts again");
        }
        (None, None) => {}
    }
}

fn good(path: &Path, text: Arc<str>, defaults: &OriginDefaults) -> Result<Good, Vec<ConfigError>> {
    let source = Source::from_text(path, text.to_string()).map_err(|error| vec![error])?;
    good_of(&source, text, defaults)
}

fn good_of(
    source: &Source,
    text: Arc<str>,
    defaults: &OriginDefaults,
) -> Result<Good, Vec<ConfigError>> {
    let origins = Arc::new(parse(source, defaults)?);
    Ok(Good { text, origins })
}

#[cfg(test)]
mod tests;
