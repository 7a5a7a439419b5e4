//! Rumors that ride along: at most one per member, each told a number of times
//! that grows with the logarithm of the POP, the least told first.

use std::collections::{BTreeMap, BTreeSet};

use watchfire_wire::NodeId;
use watchfire_wire::message::swim::{Rumor, rumor_bytes};

/// What is still worth telling. Bounded by the members that are remembered:
/// a newer rumor of one member replaces the older.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    rumors: BTreeMap<NodeId, Entry>,
    /// Least told first, of those the newest.
    order: BTreeSet<Place>,
    counter: u64,
}

#[derive(Debug)]
struct Entry {
    rumor: Rumor,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    told: u32,
    /// Counts down, so that the newest is the least.
    newest: u64,
    node: NodeId,
}

impl Gossip {
    /// From now on this is what is told of its member.
    pub(super) fn tell(&mut self, rumor: Rumor) {
        self.forget(rumor.about.node);
        self.counter += 1;
        let place = Place {
            told: 0,
            newest: u64::MAX - self.counter,
            node: rumor.about.node,
        };
        self.order.insert(place);
        self.rumors.insert(place.node, Entry { rumor, place });
    }

    /// Nothing is told of this member any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        if let Some(entry) = self.rumors.remove(&node) {
            self.order.remove(&entry.place);
        }
    }

    /// What is told of this member.
    pub(super) fn about(&self, node: NodeId) -> Option<&Rumor> {
        self.rumors.get(&node).map(|entry| &entry.rumor)
    }

    /// Rumors of at most so many bytes, except of the members already spoken
    /// of. Each counts as told; after `limit` times it is dropped.
    pub(super) fn ride(&mut self, mut budget_bytes: usize, limit: u32, rumors: &mut Vec<Rumor>) {
        if self.rumors.is_empty() {
            return;
        }
        let mut chosen = Vec::new();
        for place in &self.order {
            let rumor = &self.rumors[&place.node].rumor;
            if rumors.iter().any(|other| other.about.node == place.node) {
                continue;
            }
            let bytes = rumor_bytes(rumor);
            if bytes > budget_bytes {
                break;
            }
            budget_bytes -= bytes;
            chosen.push(place.node);
        }
        for node in chosen {
            rumors.push(self.rumors[&node].rumor.clone());
            self.told(node, 1, limit);
        }
    }

    /// The rumor of this member was told so many more times.
    pub(super) fn told(&mut self, node: NodeId, times: u32, limit: u32) {
        let Some(entry) = self.rumors.get_mut(&node) else {
            return;
        };
        self.order.remove(&entry.place);
        entry.place.told += times;
        if entry.place.told >= limit {
            self.rumors.remove(&node);
        } else {
            self.order.insert(entry.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use watchfire_wire::Actor;
    use watchfire_wire::message::swim::News;

    use super::*;

    fn rumor(node: u64) -> Rumor {
        Rumor {
            about: Actor {
                node: NodeId(node),
                epoch: 1,
                boot: 1,
            },
            incarnation: 0,
            news: News::Left,
        }
    }

    #[test]
    fn the_least_told_goes_first_and_each_ends() {
        let mut gossip = Gossip::default();
        gossip.tell(rumor(1));
        gossip.tell(rumor(2));
        let one = rumor_bytes(&rumor(1));
        let mut heard = Vec::new();
        for _ in 0..6 {
            let mut rumors = Vec::new();
            gossip.ride(one, 3, &mut rumors);
            heard.extend(rumors.iter().map(|rumor| rumor.about.node.0));
        }
        assert_eq!(heard, [2, 1, 2, 1, 2, 1]);
        assert!(gossip.rumors.is_empty() && gossip.order.is_empty());
    }

    #[test]
    fn a_newer_rumor_replaces_the_older() {
        let mut gossip = Gossip::default();
        gossip.tell(rumor(1));
        gossip.tell(Rumor {
            incarnation: 5,
            ..rumor(1)
        });
        let mut rumors = Vec::new();
        gossip.ride(usize::MAX, 10, &mut rumors);
        assert_eq!(rumors.len(), 1);
        assert_eq!(rumors[0].incarnation, 5);
    }
}
