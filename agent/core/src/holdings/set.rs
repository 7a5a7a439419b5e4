//! The set of checks that this node configures, and its hash.
//!
//! The hash is a sum, so it is kept up by each change alone and does not depend
//! on the order of changes. Checks fall into buckets by the first bits of their
//! ids; with the sum of each bucket two nodes find where their sets differ.

use std::collections::BTreeMap;

use watchfire_wire::CheckId;
use xxhash_rust::xxh3::xxh3_64;

use crate::limits::SET_BUCKETS;

/// The checks that this node configures.
#[derive(Clone, Debug)]
pub(super) struct OwnSet {
    sums: [u64; SET_BUCKETS],
    by_prefix: BTreeMap<u64, CheckId>,
}

impl Default for OwnSet {
    fn default() -> Self {
        Self {
            sums: [0; SET_BUCKETS],
            by_prefix: BTreeMap::new(),
        }
    }
}

impl OwnSet {
    /// False if it was there already.
    pub(super) fn insert(&mut self, check: CheckId) -> bool {
        let new = self.by_prefix.insert(check.prefix(), check).is_none();
        if new {
            let sum = &mut self.sums[bucket(check.prefix())];
            *sum = sum.wrapping_add(mix(check));
        }
        new
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, check: CheckId) -> bool {
        let known = self.by_prefix.remove(&check.prefix()).is_some();
        if known {
            let sum = &mut self.sums[bucket(check.prefix())];
            *sum = sum.wrapping_sub(mix(check));
        }
        known
    }

    /// The hash of the set: 0 if and only if it is empty.
    pub(super) fn hash(&self) -> u64 {
        if self.by_prefix.is_empty() {
            return 0;
        }
        let sum = self
            .sums
            .iter()
            .fold(0_u64, |all, &sum| all.wrapping_add(sum));
        sum.max(1)
    }

    /// The sum of each bucket.
    pub(super) const fn sums(&self) -> &[u64; SET_BUCKETS] {
        &self.sums
    }

    pub(super) fn contains(&self, prefix: u64) -> bool {
        self.by_prefix.contains_key(&prefix)
    }

    pub(super) fn check(&self, prefix: u64) -> Option<CheckId> {
        self.by_prefix.get(&prefix).copied()
    }

    /// The prefixes within a range, in order.
    pub(super) fn within(&self, from: u64, last: u64) -> impl Iterator<Item = u64> + '_ {
        self.by_prefix.range(from..=last).map(|(&prefix, _)| prefix)
    }
}

/// The bucket of the checks with this prefix. Buckets are in the order of
/// prefixes.
pub(super) const fn bucket(prefix: u64) -> usize {
    (prefix >> (u64::BITS - SET_BUCKETS.trailing_zeros())) as usize
}

/// Ids are chosen by whoever writes checks, so that a sum of the bare ids could
/// be aimed at.
fn mix(check: CheckId) -> u64 {
    xxh3_64(&check.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(n: u16) -> CheckId {
        CheckId::of_canonical(&n.to_le_bytes())
    }

    proptest! {
        #[test]
        fn the_hash_depends_on_the_set_alone(changes in prop::collection::vec((any::<bool>(), 0_u16..40), 0..200)) {
            let mut by_changes = OwnSet::default();
            let mut present = std::collections::BTreeSet::new();
            for (add, n) in changes {
                if add {
                    prop_assert_eq!(by_changes.insert(check(n)), present.insert(n));
                } else {
                    prop_assert_eq!(by_changes.remove(check(n)), present.remove(&n));
                }
            }
            let mut at_once = OwnSet::default();
            for &n in present.iter().rev() {
                at_once.insert(check(n));
            }
            prop_assert_eq!(by_changes.hash(), at_once.hash());
            prop_assert_eq!(by_changes.hash() == 0, present.is_empty());
            at_once.insert(check(40));
            prop_assert_ne!(by_changes.hash(), at_once.hash());
        }
    }
}
