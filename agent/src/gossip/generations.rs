//! Which member holds which configuration: each tells a digest of its checks, and
//! this remembers since when.

use std::collections::BTreeMap;

use watchfire_wire::{NodeId, Time};

use super::status::Generation;

/// What was last seen of each living member, and since when each digest is there.
#[derive(Debug, Default)]
pub(super) struct Generations {
    /// Digests that some living member holds, with when that was first seen: as
    /// many as members at most.
    appeared: BTreeMap<u64, Time>,
}

impl Generations {
    /// Looks at what the living members hold.
    pub(super) fn look(&mut self, now: Time, held: impl Iterator<Item = (NodeId, u64)>) {
        let before = std::mem::take(&mut self.appeared);
        for (_, digest) in held {
            let since = before.get(&digest).copied().unwrap_or(now);
            self.appeared.insert(digest, since);
        }
    }

    /// Who holds what, the newest first.
    pub(super) fn tell(&self, now: Time, held: &[(String, u64)]) -> Vec<Generation> {
        let mut by_digest: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (name, digest) in held {
            by_digest.entry(*digest).or_default().push(name.clone());
        }
        let mut all: Vec<Generation> = by_digest
            .into_iter()
            .map(|(digest, mut members)| {
                members.sort_unstable();
                let since = self.appeared.get(&digest).copied().unwrap_or(now);
                Generation {
                    digest: short(digest),
                    for_s: now.since(since).as_secs(),
                    members,
                }
            })
            .collect();
        // Of two that are as old, the one that more hold.
        all.sort_by_key(|it| (it.for_s, usize::MAX - it.members.len()));
        all
    }
}

/// A digest for people: enough of it to tell two apart.
fn short(digest: u64) -> String {
    format!("{:08x}", digest >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_is_told_with_how_long() {
        let mut generations = Generations::default();
        let at = Time::from_millis;
        let (old, new) = (1 << 32, 2 << 32);
        let ids = |held: [u64; 3]| (0..).map(NodeId).zip(held);
        generations.look(at(0), ids([old; 3]));
        generations.look(at(10_000), ids([new, old, old]));
        generations.look(at(20_000), ids([new, new, old]));
        let names = |held: [u64; 3]| ["a", "b", "c"].map(str::to_owned).into_iter().zip(held);
        let held: Vec<_> = names([new, new, old]).collect();
        let told = generations.tell(at(51_000), &held);
        assert_eq!(told.len(), 2);
        assert_eq!((told[0].digest.as_str(), told[0].for_s), ("00000002", 41));
        assert_eq!(told[0].members, ["a", "b"]);
        assert_eq!(
            (told[1].for_s, &told[1].members[..]),
            (51, &["c".to_owned()][..])
        );
        // A digest that comes back is new.
        generations.look(at(60_000), ids([new; 3]));
        generations.look(at(70_000), ids([old; 3]));
        let held: Vec<_> = names([old; 3]).collect();
        assert_eq!(generations.tell(at(70_000), &held)[0].for_s, 0);
    }
}
