//! Which content of each file is in force: what is bad, what contradicts
//! another file, and what loses more than anybody means keeps its last good
//! content, and no other file is hurt.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use watchfire_host::Refusal;
use watchfire_probe_core::CheckSpec;

use super::{Good, Held, How, Look, quota};
use crate::config::{AgentConfig, ConfigError, OriginSet, merge};

/// What may be in force of one file.
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// What it looked like, if it was looked at anew.
    pub(super) seen: Option<Look>,
    /// Its content now, if it has changed and is good.
    pub(super) new: Option<Good>,
    /// Its last good content.
    pub(super) old: Option<Good>,
    /// No pattern names it any more.
    pub(super) gone: bool,
    /// Why it does not count as it is.
    pub(super) held: Option<Held>,
    /// Why it did not count until now.
    before: Option<Held>,
    /// Not even its last good content counts.
    out: bool,
}

/// The set, and what became of each file.
pub(super) struct Decided {
    pub(super) set: OriginSet,
    pub(super) candidates: Vec<Candidate>,
}

impl Candidate {
    pub(super) fn unchanged(path: PathBuf, old: Option<Good>, held: Option<Held>) -> Self {
        Self {
            path,
            seen: None,
            new: None,
            old,
            gone: false,
            before: held.clone(),
            held,
            out: false,
        }
    }

    /// The content that counts.
    pub(super) fn in_force(&self) -> Option<&Good> {
        if self.out || self.gone && self.held.is_none() {
            return None;
        }
        self.new.as_ref().or(self.old.as_ref())
    }

    /// It goes on with its last good content, if it has one.
    pub(super) fn hold(&mut self, errors: Vec<ConfigError>) {
        let same = self.before.as_ref().filter(|held| held.errors == errors);
        self.held = Some(Held {
            file: self.path.clone(),
            since_ms: same.map_or_else(crate::clock::wall_ms, |held| held.since_ms),
            has_last_good: self.old.is_some() && !self.out,
            errors,
        });
        self.new = None;
    }

    fn is_news(&self) -> bool {
        self.new.is_some() || self.gone && self.held.is_none()
    }
}

/// Decides about all files. Each error holds one file; `judge` says why a check is
/// not probed here.
pub(super) fn decide(
    mut candidates: Vec<Candidate>,
    agent: &AgentConfig,
    how: How,
    judge: &dyn Fn(&CheckSpec) -> Option<Refusal>,
) -> Decided {
    quota::hold(&mut candidates, &agent.quotas);
    let mut set = settle_conflicts(&mut candidates, judge);
    if !matches!(
        how,
        How::Reload {
            allow_removals: true
        }
    ) && guard(&mut candidates, &set, agent)
    {
        set = settle_conflicts(&mut candidates, judge);
    }
    Decided { set, candidates }
}

/// Puts the files together. Of two that contradict each other the one that has
/// changed gives way: who had the name keeps it.
fn settle_conflicts(
    candidates: &mut [Candidate],
    judge: &dyn Fn(&CheckSpec) -> Option<Refusal>,
) -> OriginSet {
    loop {
        let (places, files): (Vec<_>, Vec<_>) = candidates
            .iter()
            .enumerate()
            .filter_map(|(place, one)| Some((place, Arc::clone(&one.in_force()?.origins))))
            .unzip();
        let files: Vec<_> = files.iter().map(Arc::as_ref).collect();
        let conflict = match merge(&files, judge) {
            Ok(set) => return set,
            Err(conflict) => conflict,
        };
        let [later, earlier] = conflict.files.map(|file| places[file]);
        let place = if candidates[later].new.is_none() && candidates[earlier].new.is_some() {
            earlier
        } else {
            later
        };
        let one = &mut candidates[place];
        // Two last good contents never agreed, or there are too many origins.
        one.out = one.new.is_none();
        one.hold(vec![conflict.error]);
    }
}

/// Holds files that took away more than anybody means by accident: those that are
/// empty now, or all that took away something if that is more than the share of
/// the whole. Says whether it did.
fn guard(candidates: &mut [Candidate], set: &OriginSet, agent: &AgentConfig) -> bool {
    let lost_of = |candidate: &Candidate| -> Vec<Arc<str>> {
        let old = candidate.old.iter().flat_map(|old| &old.origins.origins);
        old.map(|entry| &entry.name)
            .filter(|name| !set.origins.names.contains_key(*name))
            .cloned()
            .collect()
    };
    let all: HashSet<_> = candidates
        .iter()
        .filter_map(|one| one.old.as_ref())
        .flat_map(|old| old.origins.origins.iter().map(|entry| &entry.name))
        .collect();
    let lost: HashSet<_> = candidates.iter().flat_map(&lost_of).collect();
    let all = all.len();
    let most = all * usize::from(agent.removals_max_percent) / 100;
    let is_empty = set.origins.names.is_empty();
    let too_many = lost.len() > most || !lost.is_empty() && is_empty;
    let hint = "if that is meant, `watchfire reload --allow-removals` says so";
    let mut held = false;
    for candidate in candidates {
        let own = lost_of(candidate).len();
        let had = candidate
            .old
            .as_ref()
            .map_or(0, |old| old.origins.origins.len());
        if own == 0 || !candidate.is_news() {
            continue;
        }
        let what = if too_many {
            format!(
                "{} of all {all} origins would leave at once, {own} of them from here; more than \
                 {} % (origins.removals_max_percent) are not believed",
                lost.len(),
                agent.removals_max_percent
            )
        } else if candidate
            .new
            .as_ref()
            .is_some_and(|new| new.origins.origins.is_empty())
        {
            format!("it held {had} origins and holds none now")
        } else {
            continue;
        };
        let error = ConfigError::of_file(&candidate.path, what, hint);
        candidate.hold(vec![error]);
        held = true;
    }
    held
}
