//! Which origins there are now, and what changed since the last time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use watchfire_probe_core::check::CheckSpec;
use watchfire_wire::CheckId;

use crate::config::OriginSet;

/// The difference between two sets of origins, worked out on the control
/// thread so that the gossip thread only applies it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct OriginChange {
    /// The first set after the start: what else the table holds is old.
    pub(crate) first: bool,
    /// New names, and names with another check than before.
    pub(crate) names_set: Vec<(Arc<str>, CheckId)>,
    /// Names that are gone.
    pub(crate) names_removed: Vec<Arc<str>>,
    /// Checks that no origin had before.
    pub(crate) checks_added: Vec<(CheckId, Arc<CheckSpec>)>,
    /// Checks that no origin has any more.
    pub(crate) checks_removed: Vec<CheckId>,
}

impl OriginChange {
    /// What leads from `old` to `new`.
    pub(crate) fn between(old: Option<&OriginSet>, new: &OriginSet) -> Self {
        let nothing = OriginSet::default();
        let first = old.is_none();
        let old = old.unwrap_or(&nothing);
        Self {
            first,
            names_set: new
                .origins
                .iter()
                .filter(|(name, id)| old.origins.get(*name) != Some(id))
                .map(|(name, id)| (name.clone(), *id))
                .collect(),
            names_removed: missing(&old.origins, &new.origins).cloned().collect(),
            checks_added: new
                .checks
                .iter()
                .filter(|(id, _)| !old.checks.contains_key(id))
                .map(|(id, spec)| (*id, spec.clone()))
                .collect(),
            checks_removed: missing(&old.checks, &new.checks).copied().collect(),
        }
    }

    /// Whether the two sets were the same.
    pub(crate) fn is_empty(&self) -> bool {
        self.names_set.is_empty() && self.names_removed.is_empty() && !self.first
    }
}

fn missing<'a, K: Ord, V, W>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, W>,
) -> impl Iterator<Item = &'a K> {
    old.keys().filter(|key| !new.contains_key(key))
}

/// What the origins files looked like from outside when they were last read:
/// a change of any of it is a reason to read them again.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fingerprint(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

impl Fingerprint {
    /// Looks at the files that the patterns name now.
    pub(crate) fn of(files: &[PathBuf]) -> Self {
        let look = |path: &PathBuf| {
            let seen = std::fs::metadata(path)
                .and_then(|meta| Ok((meta.modified()?, meta.len())))
                .ok();
            (path.clone(), seen)
        };
        Self(files.iter().map(look).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OriginDefaults, load_origins};

    fn set(text: &str) -> OriginSet {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("o.toml"), text).unwrap();
        let files = ["o.toml".to_owned()];
        load_origins(&files, dir.path(), &OriginDefaults::default()).unwrap()
    }

    const A: &str = "[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:80\"\n";
    const B: &str = "[[origin]]\nname = \"b\"\naddress = \"127.0.0.1:80\"\n";

    #[test]
    fn a_check_stays_as_long_as_one_name_has_it() {
        let (both, one) = (set(&format!("{A}{B}")), set(A));
        let first = OriginChange::between(None, &both);
        assert!(first.first);
        assert_eq!((first.names_set.len(), first.checks_added.len()), (2, 1));
        let change = OriginChange::between(Some(&both), &one);
        assert_eq!(change.names_removed, ["b".into()]);
        assert_eq!(change.checks_removed, []);
        assert!(OriginChange::between(Some(&both), &both).is_empty());
    }

    #[test]
    fn a_changed_definition_is_another_check_under_the_same_name() {
        let change = OriginChange::between(Some(&set(A)), &set(&A.replace(":80", ":81")));
        assert_eq!(change.names_set.len(), 1);
        assert_eq!(
            (change.checks_added.len(), change.checks_removed.len()),
            (1, 1)
        );
    }
}
