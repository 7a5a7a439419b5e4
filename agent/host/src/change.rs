//! Which origins there are, and what changed since the last time.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_probe_core::check::CheckSpec;
use watchfire_wire::CheckId;

/// Every origin by name, with the check that watches it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Name to check.
    pub names: BTreeMap<Arc<str>, CheckId>,
    /// Check to definition.
    pub checks: BTreeMap<CheckId, Arc<CheckSpec>>,
}

/// The difference between two sets of origins, worked out where it may take
/// its time, so that a host only applies it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginChange {
    /// The first set after the start: what else the table holds is old.
    pub first: bool,
    /// New names, and names with another check than before.
    pub names_set: Vec<(Arc<str>, CheckId)>,
    /// Names that are gone.
    pub names_removed: Vec<Arc<str>>,
    /// Checks that no origin had before.
    pub checks_added: Vec<(CheckId, Arc<CheckSpec>)>,
    /// Checks that no origin has any more.
    pub checks_removed: Vec<CheckId>,
}

impl OriginChange {
    /// What leads from `old` to `new`; from nothing, after a start.
    #[must_use]
    pub fn between(old: Option<&Origins>, new: &Origins) -> Self {
        let nothing = Origins::default();
        let first = old.is_none();
        let old = old.unwrap_or(&nothing);
        Self {
            first,
            names_set: new
                .names
                .iter()
                .filter(|(name, id)| old.names.get(*name) != Some(id))
                .map(|(name, id)| (name.clone(), *id))
                .collect(),
            names_removed: missing(&old.names, &new.names).cloned().collect(),
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
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names_set.is_empty() && self.names_removed.is_empty() && !self.first
    }
}

fn missing<'a, K: Ord, V, W>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, W>,
) -> impl Iterator<Item = &'a K> {
    old.keys().filter(|key| !new.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(of: &[(&str, u16)]) -> Origins {
        let mut origins = Origins::default();
        for &(name, port) in of {
            let spec = CheckSpec::tcp(([127, 0, 0, 1], port).into());
            origins.names.insert(name.into(), spec.id());
            origins.checks.insert(spec.id(), Arc::new(spec));
        }
        origins
    }

    #[test]
    fn a_check_stays_as_long_as_one_name_has_it() {
        let (both, one) = (origins(&[("a", 80), ("b", 80)]), origins(&[("a", 80)]));
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
        let (before, after) = (origins(&[("a", 80)]), origins(&[("a", 81)]));
        let change = OriginChange::between(Some(&before), &after);
        assert_eq!(change.names_set.len(), 1);
        assert_eq!(
            (change.checks_added.len(), change.checks_removed.len()),
            (1, 1)
        );
    }
}
