//! The last decision about each name: a map that converges whatever comes in
//! whatever order, for joining is a maximum by id, name by name.
//!
//! The last decision stays when it has ended, and `auto` is one like others:
//! whatever is forgotten can come back from somebody who still holds what it
//! ended. Only where the map is full the oldest ended ones go, by an order that
//! all share; who was away and still holds what one of those ended brings it back
//! then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::decision::{Decision, DecisionId};
use crate::limits::{OVERRIDE_BUCKETS, OVERRIDES};
use crate::mutations::{Mutation, Mutations};

/// The last decision about each name.
#[derive(Clone, Debug)]
pub struct Map {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Who gives way first: what has ended, the oldest of it first.
    order: BTreeSet<(bool, DecisionId, Arc<str>)>,
    /// What is still to end, by when.
    ends: BTreeSet<(u64, Arc<str>)>,
    sums: [u64; OVERRIDE_BUCKETS],
    greatest: u64,
    limit: usize,
    mutations: Mutations,
}

#[derive(Clone, Debug)]
struct Entry {
    decision: Arc<Decision>,
    in_force: bool,
}

/// What joining a decision about one name came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It was known, or a greater one is.
    Known,
    /// It is the last one about its name from now on. With it, what had to make
    /// room for it.
    Taken(Option<Arc<str>>),
    /// There was no room: all others are in force, or newer.
    Full,
}

impl Map {
    /// An empty one.
    #[must_use]
    pub const fn new(mutations: Mutations) -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
            ends: BTreeSet::new(),
            sums: [0; OVERRIDE_BUCKETS],
            greatest: 0,
            limit: OVERRIDES,
            mutations,
        }
    }

    /// Takes a decision about a name, if it is greater than what is held.
    pub fn join(
        &mut self,
        name: &Arc<str>,
        decision: &Arc<Decision>,
        pop_ms: Option<u64>,
    ) -> Joined {
        self.saw(decision.id.counter);
        if let Some(held) = self.entries.get(name)
            && !self.beats(decision, &held.decision)
        {
            return Joined::Known;
        }
        let in_force = !decision.is_over(pop_ms);
        let was_held = self.entries.contains_key(name);
        self.remove(name);
        if !in_force && self.mutations.on(Mutation::OverrideResurrected) {
            return if was_held {
                Joined::Taken(None)
            } else {
                Joined::Known
            };
        }
        self.insert(name, decision, in_force);
        if self.entries.len() <= self.limit {
            return Joined::Taken(None);
        }
        let Some((_, _, least)) = self.order.first().cloned() else {
            return Joined::Full;
        };
        self.remove(&least);
        if least == *name {
            return Joined::Full;
        }
        Joined::Taken(Some(least))
    }

    /// Whether as many new names could be decided about without ending anything
    /// that is in force.
    #[must_use]
    pub fn has_room<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>) -> bool {
        let new = names
            .filter(|name| !self.entries.contains_key(*name))
            .count();
        let in_force = self.order.iter().rev().take_while(|(on, _, _)| *on).count();
        in_force + new <= self.limit
    }

    /// Ends what ends by this POP time, and says about which names.
    pub fn end(&mut self, pop_ms: u64) -> Vec<(Arc<str>, Arc<Decision>)> {
        let mut ended = Vec::new();
        while let Some((until, name)) = self.ends.first().cloned() {
            if until > pop_ms {
                break;
            }
            self.ends.pop_first();
            let Some(entry) = self.entries.get_mut(&name) else {
                continue;
            };
            entry.in_force = false;
            let decision = Arc::clone(&entry.decision);
            self.order.remove(&(true, decision.id, Arc::clone(&name)));
            self.order.insert((false, decision.id, Arc::clone(&name)));
            if self.mutations.on(Mutation::OverrideResurrected) {
                self.remove(&name);
            }
            ended.push((name, decision));
        }
        ended
    }

    /// When the next one ends, POP time.
    #[must_use]
    pub fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// The decision about a name that is in force.
    #[must_use]
    pub fn in_force(&self, name: &str) -> Option<&Arc<Decision>> {
        let entry = self.entries.get(name)?;
        entry.in_force.then_some(&entry.decision)
    }

    /// The last decision about a name, and whether it is in force.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<(&Arc<Decision>, bool)> {
        let entry = self.entries.get(name)?;
        Some((&entry.decision, entry.in_force))
    }

    /// The last decision about each name, and whether it is in force.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Decision>, bool)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name, &entry.decision, entry.in_force))
    }

    /// Of all of it; 0 for nothing.
    #[must_use]
    pub fn digest(&self) -> u64 {
        if self.entries.is_empty() {
            return 0;
        }
        let mut hasher = Xxh3::new();
        for sum in self.sums {
            hasher.update(&sum.to_le_bytes());
        }
        hasher.digest()
    }

    /// A sum over the decisions of each bucket of names.
    #[must_use]
    pub const fn sums(&self) -> &[u64; OVERRIDE_BUCKETS] {
        &self.sums
    }

    /// The bucket of a name.
    #[must_use]
    pub fn bucket(name: &str) -> usize {
        xxh3_64(name.as_bytes()) as usize % OVERRIDE_BUCKETS
    }

    /// The greatest counter that was ever seen.
    #[must_use]
    pub const fn greatest(&self) -> u64 {
        self.greatest
    }

    /// Somebody had this counter.
    pub fn saw(&mut self, counter: u64) {
        self.greatest = self.greatest.max(counter);
    }

    /// How many names it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody ever decided anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn beats(&self, new: &Arc<Decision>, held: &Arc<Decision>) -> bool {
        if self.mutations.on(Mutation::OverridesDiverge) {
            return new.id.counter > held.id.counter;
        }
        new > held
    }

    fn insert(&mut self, name: &Arc<str>, decision: &Arc<Decision>, in_force: bool) {
        self.order.insert((in_force, decision.id, Arc::clone(name)));
        if let Some(until) = decision.until_ms.filter(|_| in_force) {
            self.ends.insert((until, Arc::clone(name)));
        }
        self.count(name, decision, u64::wrapping_add);
        let entry = Entry {
            decision: Arc::clone(decision),
            in_force,
        };
        self.entries.insert(Arc::clone(name), entry);
    }

    fn remove(&mut self, name: &Arc<str>) {
        let Some(entry) = self.entries.remove(name) else {
            return;
        };
        let id = entry.decision.id;
        self.order.remove(&(entry.in_force, id, Arc::clone(name)));
        if let Some(until) = entry.decision.until_ms {
            self.ends.remove(&(until, Arc::clone(name)));
        }
        self.count(name, &entry.decision, u64::wrapping_sub);
    }

    fn count(&mut self, name: &str, decision: &Decision, how: fn(u64, u64) -> u64) {
        let sum = &mut self.sums[Self::bucket(name)];
        *sum = how(*sum, hash(name, decision));
    }
}

/// Of one decision about one name, all that it says.
fn hash(name: &str, decision: &Decision) -> u64 {
    let mut hasher = Xxh3::new();
    for number in [
        decision.id.counter,
        decision.id.by.node.0,
        decision.id.by.epoch,
        decision.id.by.boot,
        decision.op as u64,
        decision.at_ms,
        decision.until_ms.unwrap_or(0),
        decision.who.len() as u64,
        decision.why.len() as u64,
    ] {
        hasher.update(&number.to_le_bytes());
    }
    for text in [&decision.who, &decision.why] {
        hasher.update(text.as_bytes());
    }
    hasher.update(name.as_bytes());
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use watchfire_wire::message::overrides::Op;
    use watchfire_wire::{Actor, NodeId};

    use super::*;

    fn decision(counter: u64, node: u64, op: Op, until_ms: Option<u64>) -> Arc<Decision> {
        Arc::new(Decision {
            id: DecisionId {
                counter,
                by: Actor {
                    node: NodeId(node),
                    epoch: 1,
                    boot: 1,
                },
            },
            op,
            at_ms: 1,
            until_ms,
            who: "someone".into(),
            why: "".into(),
        })
    }

    fn small(limit: usize) -> Map {
        let mut map = Map::new(Mutations::NONE);
        map.limit = limit;
        map
    }

    fn held(map: &Map) -> Vec<(Arc<str>, Arc<Decision>)> {
        map.all()
            .map(|(name, decision, _)| (Arc::clone(name), Arc::clone(decision)))
            .collect()
    }

    #[test]
    fn of_one_name_the_greatest_id_counts() {
        // What is held, what comes, and whether it is taken.
        for (held, comes, taken) in [
            ((1, 1), (2, 1), true),
            ((2, 1), (1, 9), false),
            ((2, 1), (2, 2), true),
            ((2, 2), (2, 1), false),
            ((2, 2), (2, 2), false),
        ] {
            let mut map = small(4);
            let name: Arc<str> = "shop".into();
            map.join(&name, &decision(held.0, held.1, Op::Down, None), None);
            let joined = map.join(&name, &decision(comes.0, comes.1, Op::Down, None), None);
            assert_eq!(joined == Joined::Taken(None), taken, "{held:?} {comes:?}");
        }
    }

    #[test]
    fn what_has_ended_stays_and_keeps_the_older_out() {
        let mut map = small(4);
        let name: Arc<str> = "shop".into();
        let down = decision(1, 1, Op::Down, Some(100));
        map.join(&name, &down, Some(50));
        assert_eq!((map.next_end(), map.end(99)), (Some(100), vec![]));
        assert!(map.in_force("shop").is_some());
        assert_eq!(map.end(100), [(Arc::clone(&name), Arc::clone(&down))]);
        assert_eq!((map.in_force("shop"), map.next_end()), (None, None));
        assert_eq!(map.join(&name, &down, Some(100)), Joined::Known);
        map.join(&name, &decision(2, 1, Op::Auto, None), Some(101));
        assert_eq!((map.len(), map.in_force("shop")), (1, None));
        assert_eq!(map.join(&name, &down, None), Joined::Known);
    }

    #[test]
    fn an_unknown_time_ends_nothing() {
        let mut map = small(4);
        map.join(&"a".into(), &decision(1, 1, Op::Up, Some(1)), None);
        assert!(map.in_force("a").is_some());
        assert_eq!(map.end(2).len(), 1);
    }

    #[test]
    fn where_it_is_full_the_oldest_that_ended_goes_and_nothing_in_force() {
        let mut map = small(2);
        let names: Vec<Arc<str>> = ["a", "b", "c"].map(Into::into).into();
        map.join(&names[0], &decision(1, 1, Op::Auto, None), None);
        map.join(&names[1], &decision(2, 1, Op::Down, None), None);
        assert!(map.has_room([&names[2]].into_iter()));
        let joined = map.join(&names[2], &decision(3, 1, Op::Down, None), None);
        assert_eq!(joined, Joined::Taken(Some(Arc::clone(&names[0]))));
        assert!(!map.has_room([&"d".into()].into_iter()));
        let joined = map.join(&names[0], &decision(4, 1, Op::Auto, None), None);
        assert_eq!(joined, Joined::Full);
        assert_eq!(map.greatest(), 4);
    }

    fn any_decision() -> impl Strategy<Value = (u8, Arc<Decision>)> {
        let op = prop::sample::select(vec![Op::Auto, Op::Up, Op::Down, Op::Drain]);
        (0_u8..6, 1_u64..9, 1_u64..4, op)
            .prop_map(|(name, counter, node, op)| (name, decision(counter, node, op, None)))
    }

    proptest! {
        /// The law that all rests on: whatever comes in whatever order and as
        /// often as it likes leads to the same, and equal digests mean equal
        /// maps.
        #[test]
        fn order_and_repetition_do_not_matter(
            mut all in prop::collection::vec(any_decision(), 0..40),
            seed in any::<u64>(),
        ) {
            let mut first = small(6);
            let mut second = small(6);
            // An id is one decision: a name has one of it.
            let mut known = BTreeMap::new();
            for (name, decision) in &mut all {
                *decision = Arc::clone(known.entry((*name, decision.id)).or_insert_with(|| Arc::clone(decision)));
            }
            let name = |name: u8| Arc::from(format!("origin-{name}"));
            for (of, decision) in &all {
                first.join(&name(*of), decision, None);
            }
            let mut mixed = all.clone();
            mixed.sort_by_key(|(of, decision)| {
                xxh3_64(&[seed.to_le_bytes(), decision.id.counter.to_le_bytes(), [*of; 8]].concat())
            });
            for (of, decision) in mixed.iter().chain(&all) {
                second.join(&name(*of), decision, None);
            }
            prop_assert_eq!(held(&first), held(&second));
            prop_assert_eq!(first.digest(), second.digest());
            prop_assert_eq!(first.sums(), second.sums());
        }

        /// At the limit nothing that ended outlasts what is in force.
        #[test]
        fn the_limit_holds(all in prop::collection::vec(any_decision(), 0..40)) {
            let mut map = small(3);
            for (of, decision) in &all {
                let name = Arc::from(format!("origin-{of}"));
                let in_force = |map: &Map| map.all().filter(|(_, _, on)| *on).count();
                let before = in_force(&map);
                let was_on = map.in_force(&name).is_some();
                map.join(&name, decision, None);
                prop_assert!(map.len() <= 3);
                let ends = was_on && decision.op == Op::Auto;
                prop_assert!(in_force(&map) + usize::from(ends) >= before);
            }
        }
    }
}
