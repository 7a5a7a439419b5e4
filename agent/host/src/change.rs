//! Which origins there are, and what changed since the last time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use watchfire_probe_core::check::CheckSpec;
use watchfire_wire::{CheckId, Unmeasured};

/// Every origin by name, with the check that watches it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Name to check.
    pub names: BTreeMap<Arc<str>, CheckId>,
    /// Check to definition.
    pub checks: BTreeMap<CheckId, Arc<CheckSpec>>,
    /// Checks among them that this agent does not take part in.
    pub refused: BTreeMap<CheckId, Refusal>,
    /// Checks among them that say whether the POP reaches the world.
    pub references: BTreeSet<CheckId>,
    /// Whose each check is, where that is known: of several tenants that have
    /// the same check the first.
    pub tenants: BTreeMap<CheckId, Arc<str>>,
}

/// Why this agent does not take part in a check: to the POP it is one that does
/// not configure it, so that nobody waits for it and nothing is handed around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the table says.
    pub reason: Unmeasured,
    /// In words, with the way out.
    pub because: Arc<str>,
}

impl Refusal {
    /// Whether what other members find is shown here all the same: this server
    /// lacks something that they may have. What is denied is nobody's business
    /// here.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.reason != Unmeasured::Denied
    }
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
    /// Checks from before whose names have another address from now on.
    pub retargeted: Vec<(CheckId, Arc<CheckSpec>)>,
    /// Checks that no origin has any more.
    pub checks_removed: Vec<CheckId>,
    /// Checks, new ones among them, that this agent does not take part in from
    /// now on, or for another reason than before.
    pub refused: Vec<(CheckId, Refusal)>,
    /// Checks from before that it takes part in from now on, or that became
    /// references or ceased to be some.
    pub accepted: Vec<CheckId>,
    /// All checks that are references.
    pub references: BTreeSet<CheckId>,
    /// Checks that belong to this tenant from now on. One that is probed already
    /// goes on under the old one's name until it is started anew.
    pub tenants: Vec<(CheckId, Arc<str>)>,
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
            retargeted: new
                .checks
                .iter()
                .filter(|(id, spec)| {
                    let before = old.checks.get(id);
                    before.is_some_and(|before| before.target != spec.target)
                })
                .map(|(id, spec)| (*id, spec.clone()))
                .collect(),
            checks_removed: missing(&old.checks, &new.checks).copied().collect(),
            refused: new
                .refused
                .iter()
                .filter(|(id, refusal)| old.refused.get(*id) != Some(refusal))
                .map(|(id, refusal)| (*id, refusal.clone()))
                .collect(),
            accepted: missing(&old.refused, &new.refused)
                .chain(
                    old.references
                        .symmetric_difference(&new.references)
                        .filter(|id| old.checks.contains_key(id) && !new.refused.contains_key(id)),
                )
                .filter(|id| new.checks.contains_key(id))
                .copied()
                .collect(),
            references: new.references.clone(),
            tenants: new
                .tenants
                .iter()
                .filter(|(id, tenant)| old.tenants.get(*id) != Some(tenant))
                .map(|(id, tenant)| (*id, Arc::clone(tenant)))
                .collect(),
        }
    }

    /// Whether the two sets were the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names_set.is_empty()
            && self.names_removed.is_empty()
            && self.refused.is_empty()
            && self.accepted.is_empty()
            && self.retargeted.is_empty()
            && self.tenants.is_empty()
            && !self.first
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
    fn a_refusal_that_comes_or_goes_is_a_change() {
        let allowed = origins(&[("a", 80)]);
        let mut refused = allowed.clone();
        let id = refused.names["a"];
        let refusal = Refusal {
            reason: Unmeasured::Denied,
            because: "no".into(),
        };
        refused.refused.insert(id, refusal.clone());
        let first = OriginChange::between(None, &refused);
        assert_eq!(first.refused, [(id, refusal)]);
        assert_eq!(first.checks_added.len(), 1);
        let comes = OriginChange::between(Some(&allowed), &refused);
        assert!(!comes.is_empty() && comes.checks_added.is_empty());
        let goes = OriginChange::between(Some(&refused), &allowed);
        assert_eq!((goes.is_empty(), goes.accepted), (false, vec![id]));
        assert!(OriginChange::between(Some(&refused), &refused).is_empty());
        let gone = OriginChange::between(Some(&refused), &Origins::default());
        assert_eq!((gone.accepted, gone.checks_removed), (vec![], vec![id]));
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
