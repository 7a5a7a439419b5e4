//! Who ranks where for each check, kept up as members come and go.
//!
//! The first few ranks of every check are remembered. A member that comes costs
//! one score per check; one that goes costs a look at the remembered ranks, and
//! a new ranking only where too few remain. Nothing here asks whether a member
//! has the check configured: that shows in the evidence.

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

    /// A node becomes eligible, changes its capacity, or stops being eligible
    /// (capacity 0). `moved` hears of every check among whose first ranks it
    /// came or went, and who is the first of all now.
    pub fn set(
        &mut self,
        id: NodeId,
        capacity: u16,
        mut moved: impl FnMut(CheckIx, Option<NodeId>),
    ) {
        let known = self.place(id);
        let before = known.map_or(0, |at| self.nodes[usize::from(at)].capacity);
        if before == capacity {
            return;
        }
        if let Some(at) = known {
            self.nodes[usize::from(at)].capacity = 0;
            self.take_out(at, &mut moved);
        }
        if capacity > 0 {
            let at = known.unwrap_or_else(|| self.new_place(id));
            self.nodes[usize::from(at)].capacity = capacity;
            self.put_in(at, &mut moved);
        } else if let Some(at) = known {
            self.places.remove(&id);
            self.free.push(at);
        }
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

    /// A node's rank for a check: how many rank above it.
    #[must_use]
    pub fn rank(&self, ix: CheckIx, id: NodeId) -> usize {
        let top = &self.checks[ix as usize];
        let remembered = top.nodes[..usize::from(top.len)]
            .iter()
            .position(|&at| self.nodes[usize::from(at)].id == id);
        if let Some(rank) = remembered {
            return rank;
        }
        let check = self.ids[ix as usize];
        let mine = (self.score(id, check), id);
        self.nodes
            .iter()
            .filter(|node| node.capacity > 0)
            .filter(|node| (hrw::score(node.id, node.capacity, check), node.id) > mine)
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
        self.place(id)
            .map_or(0, |at| self.nodes[usize::from(at)].capacity)
    }

    fn place(&self, id: NodeId) -> Option<u16> {
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

    fn take_out(&mut self, node: u16, moved: &mut impl FnMut(CheckIx, Option<NodeId>)) {
        let enough = (self.eligible() - 1).min(ENOUGH);
        for at in 0..self.checks.len() {
            let top = &mut self.checks[at];
            let len = usize::from(top.len);
            let Some(rank) = top.nodes[..len].iter().position(|&n| n == node) else {
                continue;
            };
            top.nodes.copy_within(rank + 1..len, rank);
            top.scores.copy_within(rank + 1..len, rank);
            top.len -= 1;
            if usize::from(top.len) < enough {
                self.rank_anew(at);
            }
            moved(ix(at), self.remembered_first(at));
        }
    }

    fn put_in(&mut self, node: u16, moved: &mut impl FnMut(CheckIx, Option<NodeId>)) {
        let Node { id, capacity } = self.nodes[usize::from(node)];
        let others = self.eligible() - 1;
        for at in 0..self.checks.len() {
            if !self.checks[at].used {
                continue;
            }
            let score = hrw::score(id, capacity, self.ids[at]);
            let nodes = &self.nodes;
            let top = &mut self.checks[at];
            let len = usize::from(top.len);
            // If ranks are missing below the last remembered one, the
            // newcomer's place among those is not known.
            if len == RANKS || len < others {
                let last = len
                    .checked_sub(1)
                    .map(|last| (top.scores[last], nodes[usize::from(top.nodes[last])].id));
                if last.is_some_and(|last| (score, id) < last) {
                    continue;
                }
            }
            let rank = (0..len)
                .find(|&rank| {
                    (score, id) > (top.scores[rank], nodes[usize::from(top.nodes[rank])].id)
                })
                .unwrap_or(len);
            let end = (len + 1).min(RANKS);
            top.nodes.copy_within(rank..end - 1, rank + 1);
            top.scores.copy_within(rank..end - 1, rank + 1);
            top.nodes[rank] = node;
            top.scores[rank] = score;
            top.len = u8::try_from(end).expect("RANKS is small");
            moved(ix(at), self.remembered_first(at));
        }
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
            ranks.set(node, capacity, |ix, first| moved.push((ix, first)));
            for (at, &first_before) in before.iter().enumerate() {
                let order = ranks.order(ix(at));
                let first = ranks.first(ix(at), |_| true);
                assert_eq!(first, order.first().copied());
                if first != first_before {
                    assert!(moved.contains(&(ix(at), first)));
                }
                for (rank, &id) in order.iter().enumerate() {
                    assert_eq!(ranks.rank(ix(at), id), rank);
                }
                let skip = order.first().copied();
                assert_eq!(
                    ranks.first(ix(at), |id| Some(id) != skip),
                    order.get(1).copied()
                );
            }
        }
    }
}
