//! Who ranks where for each check, kept up as members come and go.
//!
//! The first few ranks of every check are remembered. A member that comes costs
//! one score per check; one that goes costs a look at the remembered ranks, and
//! a new ranking only where too few remain. Whether a member configures the
//! check, or has declined it, is asked of whoever wants to know a place.

use std::collections::BTreeMap;

use watchfire_wire::{CheckId, NodeId};

use super::hrw;
use crate::limits::RANKS;

/// The ranks of all configured checks among the eligible members.
#[derive(Clone, Debug, Default)]
pub struct Ranks {
    /// Places of nodes, never reused while a check remembers them.
    nodes: Vec<Node>,
    /// Where the eligible nodes are.
    places: BTreeMap<NodeId, u16>,
    free: Vec<u16>,
    checks: Vec<Top>,
    ids: Vec<CheckId>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    id: NodeId,
    /// 0: the place is empty or its node not eligible.
    capacity: u16,
}

/// The remembered first ranks of one check, best first.
#[derive(Clone, Copy, Debug)]
struct Top {
    scores: [u64; RANKS],
    nodes: [u16; RANKS],
    len: u8,
    used: bool,
}

const UNUSED: Top = Top {
    scores: [0; RANKS],
    nodes: [0; RANKS],
    len: 0,
    used: false,
};

/// The number of a check, chosen by whoever keeps them; small and dense.
pub type CheckIx = u32;

impl Ranks {
    /// A check is configured under this number, which is free.
    pub fn insert(&mut self, ix: CheckIx, check: CheckId) {
        let at = ix as usize;
        if self.checks.len() <= at {
            self.checks.resize(at + 1, UNUSED);
            self.ids.resize(at + 1, CheckId([0; 16]));
        }
        self.ids[at] = check;
        self.checks[at] = Top {
            used: true,
            ..UNUSED
        };
        self.rank_anew(at);
    }

    /// A check is no longer configured.
    pub fn remove(&mut self, ix: CheckIx) {
        self.checks[ix as usize] = UNUSED;
    }

    /// Nodes become eligible, change their capacities, or stop being eligible
    /// (capacity 0), all in one pass. `moved` hears of every check among whose
    /// first ranks one of them came or went, and who is the first of all now.
    pub fn set(
        &mut self,
        changes: &[(NodeId, u16)],
        mut moved: impl FnMut(CheckIx, Option<NodeId>),
    ) {
        let mut gone = Vec::new();
        let mut come = Vec::new();
        for &(id, capacity) in changes {
            let known = self.place_of(id);
            let before = known.map_or(0, |at| self.nodes[usize::from(at)].capacity);
            if before == capacity {
                continue;
            }
            if let Some(at) = known {
                self.nodes[usize::from(at)].capacity = 0;
                gone.push(at);
                if capacity == 0 {
                    self.places.remove(&id);
                }
            }
            if capacity > 0 {
                let at = known.unwrap_or_else(|| self.new_place(id));
                come.push((at, capacity));
            }
        }
        if gone.is_empty() && come.is_empty() {
            return;
        }
        // Scores are taken with the new capacities, and a check that is ranked
        // anew has all of them.
        for &(at, capacity) in &come {
            self.nodes[usize::from(at)].capacity = capacity;
        }
        for at in 0..self.checks.len() {
            if self.checks[at].used && self.move_in(at, &gone, &come) {
                moved(ix(at), self.remembered_first(at));
            }
        }
        let freed = gone.into_iter();
        self.free
            .extend(freed.filter(|&at| self.nodes[usize::from(at)].capacity == 0));
    }

    /// How many nodes are eligible.
    #[must_use]
    pub fn eligible(&self) -> usize {
        self.places.len()
    }

    /// Is this node eligible?
    #[must_use]
    pub fn is_eligible(&self, id: NodeId) -> bool {
        self.capacity(id) > 0
    }

    /// A node's score for a check, 0 if it is not eligible.
    #[must_use]
    pub fn score(&self, id: NodeId, check: CheckId) -> u64 {
        hrw::score(id, self.capacity(id), check)
    }

    /// Does the first node rank above the second?
    #[must_use]
    pub fn is_above(&self, first: NodeId, second: NodeId, check: CheckId) -> bool {
        (self.score(first, check), first) > (self.score(second, check), second)
    }

    /// Is this node among the ranks that are remembered of a check?
    #[must_use]
    pub fn is_near(&self, ix: CheckIx, id: NodeId) -> bool {
        let top = &self.checks[ix as usize];
        let place = self.place_of(id);
        place.is_some_and(|place| top.nodes[..usize::from(top.len)].contains(&place))
    }

    /// The first eligible node that passes.
    #[must_use]
    pub fn first(&self, ix: CheckIx, mut passes: impl FnMut(NodeId) -> bool) -> Option<NodeId> {
        let top = &self.checks[ix as usize];
        let remembered = usize::from(top.len);
        for &at in &top.nodes[..remembered] {
            let id = self.nodes[usize::from(at)].id;
            if passes(id) {
                return Some(id);
            }
        }
        if remembered < self.eligible().min(RANKS) || remembered == RANKS {
            return self
                .order(ix)
                .into_iter()
                .skip(remembered)
                .find(|&id| passes(id));
        }
        None
    }

    /// The first of the eligible nodes for which this holds.
    #[must_use]
    pub fn best(&self, ix: CheckIx, holds: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let top = &self.checks[ix as usize];
        let mut remembered = top.nodes[..usize::from(top.len)].iter();
        let first = remembered.find_map(|&at| {
            let id = self.nodes[usize::from(at)].id;
            holds(id).then_some(id)
        });
        if first.is_some() || usize::from(top.len) == self.eligible() {
            return first;
        }
        let check = self.ids[ix as usize];
        self.nodes
            .iter()
            .filter(|node| node.capacity > 0 && holds(node.id))
            .max_by_key(|node| (hrw::score(node.id, node.capacity, check), node.id))
            .map(|node| node.id)
    }

    /// How many eligible nodes for which this holds rank above a node, counted
    /// up to `most`.
    #[must_use]
    pub fn place(
        &self,
        ix: CheckIx,
        id: NodeId,
        most: usize,
        holds: impl Fn(NodeId) -> bool,
    ) -> usize {
        let top = &self.checks[ix as usize];
        let mut place = 0;
        for &at in &top.nodes[..usize::from(top.len)] {
            let other = self.nodes[usize::from(at)].id;
            if other == id || place == most {
                return place;
            }
            place += usize::from(holds(other));
        }
        if place >= most {
            return most;
        }
        let check = self.ids[ix as usize];
        let mine = (self.score(id, check), id);
        self.nodes
            .iter()
            .filter(|node| node.capacity > 0 && node.id != id)
            .filter(|node| (hrw::score(node.id, node.capacity, check), node.id) > mine)
            .filter(|node| holds(node.id))
            .take(most)
            .count()
    }

    /// All eligible nodes in the order of their ranks. Costs a score each; for
    /// rare questions.
    #[must_use]
    pub fn order(&self, ix: CheckIx) -> Vec<NodeId> {
        let check = self.ids[ix as usize];
        let mut order: Vec<(u64, NodeId)> = self
            .nodes
            .iter()
            .filter(|node| node.capacity > 0)
            .map(|node| (hrw::score(node.id, node.capacity, check), node.id))
            .collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        order.into_iter().map(|(_, id)| id).collect()
    }

    fn remembered_first(&self, at: usize) -> Option<NodeId> {
        let top = &self.checks[at];
        (top.len > 0).then(|| self.nodes[usize::from(top.nodes[0])].id)
    }

    fn capacity(&self, id: NodeId) -> u16 {
        self.place_of(id)
            .map_or(0, |at| self.nodes[usize::from(at)].capacity)
    }

    fn place_of(&self, id: NodeId) -> Option<u16> {
        self.places.get(&id).copied()
    }

    fn new_place(&mut self, id: NodeId) -> u16 {
        let node = Node { id, capacity: 0 };
        let at = if let Some(at) = self.free.pop() {
            self.nodes[usize::from(at)] = node;
            at
        } else {
            self.nodes.push(node);
            u16::try_from(self.nodes.len() - 1).expect("the limit on members is below 2^16")
        };
        self.places.insert(id, at);
        at
    }

    /// Takes nodes out of a check's remembered ranks and puts others in. Did
    /// any of them matter?
    fn move_in(&mut self, at: usize, gone: &[u16], come: &[(u16, u16)]) -> bool {
        let mut moved = false;
        let top = &mut self.checks[at];
        for &node in gone {
            let len = usize::from(top.len);
            let Some(rank) = top.nodes[..len].iter().position(|&n| n == node) else {
                continue;
            };
            top.nodes.copy_within(rank + 1..len, rank);
            top.scores.copy_within(rank + 1..len, rank);
            top.len -= 1;
            moved = true;
        }
        let others = self.places.len() - come.len();
        if usize::from(top.len) < others.min(ENOUGH) {
            self.rank_anew(at);
            return true;
        }
        for (so_far, &(node, capacity)) in come.iter().enumerate() {
            moved |= self.put_in(at, node, capacity, others + so_far);
        }
        moved
    }

    /// Puts a node among a check's remembered ranks, which are those of so many
    /// others, if it belongs there.
    fn put_in(&mut self, at: usize, node: u16, capacity: u16, others: usize) -> bool {
        let id = self.nodes[usize::from(node)].id;
        let score = hrw::score(id, capacity, self.ids[at]);
        let nodes = &self.nodes;
        let top = &mut self.checks[at];
        let len = usize::from(top.len);
        // If ranks are missing below the last remembered one, the newcomer's
        // place among those is not known.
        if len == RANKS || len < others {
            let last = len
                .checked_sub(1)
                .map(|last| (top.scores[last], nodes[usize::from(top.nodes[last])].id));
            if last.is_some_and(|last| (score, id) < last) {
                return false;
            }
        }
        let rank = (0..len)
            .find(|&rank| (score, id) > (top.scores[rank], nodes[usize::from(top.nodes[rank])].id))
            .unwrap_or(len);
        let end = (len + 1).min(RANKS);
        top.nodes.copy_within(rank..end - 1, rank + 1);
        top.scores.copy_within(rank..end - 1, rank + 1);
        top.nodes[rank] = node;
        top.scores[rank] = score;
        top.len = u8::try_from(end).expect("RANKS is small");
        true
    }

    fn rank_anew(&mut self, at: usize) {
        let check = self.ids[at];
        let mut top = Top {
            used: true,
            ..UNUSED
        };
        let mut len = 0;
        for (place, node) in self.nodes.iter().enumerate() {
            if node.capacity == 0 {
                continue;
            }
            let score = hrw::score(node.id, node.capacity, check);
            let key = (score, node.id);
            let above = |rank: &usize| {
                let other: u16 = top.nodes[*rank];
                key > (top.scores[*rank], self.nodes[usize::from(other)].id)
            };
            let rank = (0..len).find(above).unwrap_or(len);
            if rank == RANKS {
                continue;
            }
            let end = (len + 1).min(RANKS);
            top.nodes.copy_within(rank..end - 1, rank + 1);
            top.scores.copy_within(rank..end - 1, rank + 1);
            top.nodes[rank] = u16::try_from(place).expect("the limit on members is below 2^16");
            top.scores[rank] = score;
            len = end;
        }
        top.len = u8::try_from(len).expect("RANKS is small");
        self.checks[at] = top;
    }
}

/// Fewer remembered ranks than this and the check is ranked anew.
const ENOUGH: usize = 2;

fn ix(at: usize) -> CheckIx {
    CheckIx::try_from(at).expect("the limit on checks is below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn remembered_ranks_equal_a_full_ranking_through_any_changes() {
        let mut rng = Rng::from_seed([3; 32]);
        let mut ranks = Ranks::default();
        let checks: Vec<CheckId> = (0..200_u32)
            .map(|n| CheckId::of_canonical(&n.to_le_bytes()))
            .collect();
        for (at, &check) in checks.iter().enumerate() {
            ranks.insert(ix(at), check);
        }
        for _ in 0..600 {
            let node = NodeId(rng.below(24) as u64);
            let capacity = if rng.below(3) == 0 {
                0
            } else {
                100 + 50 * u16::try_from(rng.below(3)).unwrap()
            };
            let before: Vec<Option<NodeId>> = (0..checks.len())
                .map(|at| ranks.first(ix(at), |_| true))
                .collect();
            let mut moved = Vec::new();
            let other = (NodeId(rng.below(24) as u64), 100);
            let changes = [(node, capacity), other];
            let alone = usize::from(other.0 != node && rng.below(2) == 0);
            ranks.set(&changes[..=alone], |ix, first| moved.push((ix, first)));
            for (at, &first_before) in before.iter().enumerate() {
                let order = ranks.order(ix(at));
                let first = ranks.first(ix(at), |_| true);
                assert_eq!(first, order.first().copied());
                if first != first_before {
                    assert!(moved.contains(&(ix(at), first)));
                }
                for (rank, &id) in order.iter().enumerate() {
                    assert_eq!(ranks.place(ix(at), id, 24, |_| true), rank);
                    let even = |node: NodeId| node.0.is_multiple_of(2);
                    let above = order[..rank].iter().filter(|&&id| even(id)).count();
                    assert_eq!(ranks.place(ix(at), id, 3, even), above.min(3));
                }
                let skip = order.first().copied();
                assert_eq!(
                    ranks.first(ix(at), |id| Some(id) != skip),
                    order.get(1).copied()
                );
                let odd = |node: NodeId| node.0 % 2 == 1;
                let best = order.iter().copied().find(|&id| odd(id));
                assert_eq!(ranks.best(ix(at), odd), best);
            }
        }
    }
}
