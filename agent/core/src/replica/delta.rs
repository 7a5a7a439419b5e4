//! Reading what another node lacks.
//!
//! The chain of a log is sorted by sequence number, so the slots above a claim
//! are its tail: a reply costs the actors asked about plus the slots that
//! changed, however large the map is.

use watchfire_wire::message::replica::{Claim, Cover, Delta, Floor, Head};
use watchfire_wire::{Actor, NodeId};

use super::arena::NIL;
use super::store::Store;

/// What a pull finds here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What the requester lacks, from one snapshot of the map.
    pub deltas: Vec<Delta>,
    /// Actors that it names and that are gone for good.
    pub floors: Vec<Floor>,
    /// What this node lacks of the requester's.
    pub behind: Vec<Head>,
    /// Actors whose claims are equal and whose state is not, where the
    /// requester's side is to be believed.
    pub unequal: Vec<Actor>,
    /// Somebody claims more of this node's own log than it has written.
    pub beyond_own: bool,
}

impl Answer {
    /// Up to which number this actor's log is in it; 0 if it is not.
    pub(super) fn reaches(&self, actor: Actor) -> u64 {
        let mut deltas = self.deltas.iter();
        let delta = deltas.find(|delta| delta.actor == actor);
        delta.map_or(0, |delta| delta.hi)
    }
}

impl Store {
    /// Answers a pull: the claims, and within the range also the actors that
    /// the requester does not know. `requester` is who asks: of a log whose
    /// state differs at equal claims, its author's is believed, otherwise the
    /// one with the greater digest, by both sides alike.
    #[must_use]
    pub fn answer(&self, requester: Actor, claims: &[Claim], cover: Option<Cover>) -> Answer {
        let mut answer = Answer::default();
        for claim in claims {
            let mut deltas = Vec::new();
            self.answer_claim(requester, claim, &mut answer, &mut |at, lo, snapshot| {
                deltas.push(self.delta(at, lo, snapshot));
            });
            answer.deltas.append(&mut deltas);
        }
        if let Some(cover) = cover
            && cover.first <= cover.last
        {
            for (&actor, &log) in self.by_actor.range(cover.first..=cover.last) {
                let named = claims.binary_search_by_key(&actor, |claim| claim.actor);
                if named.is_err() {
                    answer.deltas.push(self.delta(log, 0, true));
                }
            }
        }
        answer
    }

    /// Up to `at_most` claims from this actor on, with the range that they
    /// speak for. The range of the last ones ends after all actors.
    #[must_use]
    pub fn claims_from(&self, first: Actor, at_most: usize) -> (Vec<Claim>, Cover) {
        let mut logs = self.by_actor.range(first..);
        let claims: Vec<Claim> = logs
            .by_ref()
            .take(at_most)
            .map(|(_, &log)| {
                let log = &self.logs[log as usize];
                Claim {
                    actor: log.actor,
                    seq: log.seq,
                    digest: log.digest(),
                }
            })
            .collect();
        let last = match (logs.next(), claims.last()) {
            (Some(_), Some(claim)) => claim.actor,
            _ => LAST,
        };
        (claims, Cover { first, last })
    }

    /// This node's claim on one actor, for a pull.
    #[must_use]
    pub fn claim_on(&self, actor: Actor) -> Claim {
        let (seq, digest) = self.claim(actor).unwrap_or((0, 0));
        Claim { actor, seq, digest }
    }

    /// The floors of the nodes within a range.
    #[must_use]
    pub fn floors_within(&self, cover: Cover, at_most: usize) -> Vec<Floor> {
        if cover.first > cover.last {
            return Vec::new();
        }
        self.floors
            .range(cover.first.node..=cover.last.node)
            .take(at_most)
            .map(|(&node, &epoch)| Floor { node, epoch })
            .collect()
    }

    /// What a pull finds here, but for what the requester lacks.
    #[must_use]
    pub fn heads(&self, requester: Actor, claims: &[Claim]) -> Answer {
        let mut answer = Answer::default();
        for claim in claims {
            self.answer_claim(requester, claim, &mut answer, &mut |_, _, _| {});
        }
        answer
    }

    /// How many slots an answer would hold; more than `most` are not counted.
    /// Nothing is built.
    #[must_use]
    pub fn answer_slots(
        &self,
        requester: Actor,
        claims: &[Claim],
        cover: Option<Cover>,
        most: usize,
    ) -> usize {
        let mut count = 0;
        let mut unread = Answer::default();
        for claim in claims {
            self.answer_claim(requester, claim, &mut unread, &mut |at, lo, snapshot| {
                count = self.count_slots(at, lo, snapshot, count, most);
            });
            if count > most {
                return count;
            }
        }
        if let Some(cover) = cover
            && cover.first <= cover.last
        {
            for (&actor, &log) in self.by_actor.range(cover.first..=cover.last) {
                let named = claims.binary_search_by_key(&actor, |claim| claim.actor);
                if named.is_err() {
                    count = self.count_slots(log, 0, true, count, most);
                }
                if count > most {
                    return count;
                }
            }
        }
        count
    }

    fn count_slots(
        &self,
        log: u32,
        lo: u64,
        snapshot: bool,
        mut count: usize,
        most: usize,
    ) -> usize {
        let mut at = self.logs[log as usize].tail;
        while at != NIL && count <= most && (snapshot || self.slots[at as usize].seq > lo) {
            count += 1;
            at = self.slots[at as usize].prev;
        }
        count
    }

    /// Compares one claim. `lacks` is told of the log of which the requester lacks
    /// something: from which number on, and whether it needs all of it.
    fn answer_claim(
        &self,
        requester: Actor,
        claim: &Claim,
        answer: &mut Answer,
        lacks: &mut dyn FnMut(u32, u64, bool),
    ) {
        let actor = claim.actor;
        if let Some(epoch) = self.floor(actor.node)
            && actor.epoch < epoch
        {
            answer.floors.push(Floor {
                node: actor.node,
                epoch,
            });
            return;
        }
        let Some(&at) = self.by_actor.get(&actor) else {
            if actor == self.me {
                answer.beyond_own |= claim.seq > 0;
            } else if claim.seq > 0 {
                answer.behind.push(Head {
                    actor,
                    seq: claim.seq,
                });
            }
            return;
        };
        let log = &self.logs[at as usize];
        if claim.seq > log.seq {
            if actor == self.me {
                answer.beyond_own = true;
            } else {
                answer.behind.push(Head {
                    actor,
                    seq: claim.seq,
                });
            }
        } else if claim.seq < log.seq || claim.seq == 0 {
            let snapshot = claim.seq == 0 || claim.seq < log.trim;
            lacks(at, claim.seq, snapshot);
        } else if claim.digest != log.digest() {
            let ours = actor == self.me;
            let theirs = actor == requester;
            if ours || (!theirs && log.digest() > claim.digest) {
                lacks(at, claim.seq, true);
            } else {
                answer.unequal.push(actor);
            }
        }
    }

    /// The slots of a log above `lo`, or all of them for a snapshot.
    fn delta(&self, log: u32, lo: u64, snapshot: bool) -> Delta {
        let log = &self.logs[log as usize];
        let mut slots = Vec::new();
        let mut at = log.tail;
        while at != NIL && (snapshot || self.slots[at as usize].seq > lo) {
            slots.push(self.slot(at));
            at = self.slots[at as usize].prev;
        }
        slots.reverse();
        Delta {
            actor: log.actor,
            lo,
            hi: log.seq,
            trim: log.trim,
            snapshot,
            slots,
        }
    }
}

/// Before all actors.
pub const FIRST: Actor = Actor {
    node: NodeId(0),
    epoch: 0,
    boot: 0,
};

/// After all actors.
pub const LAST: Actor = Actor {
    node: NodeId(u64::MAX),
    epoch: u64::MAX,
    boot: u64::MAX,
};

/// A range of actors, both ends within.
#[must_use]
#[cfg(any(test, feature = "mutations"))]
pub(super) const fn cover(first: Actor, last: Actor) -> Cover {
    Cover { first, last }
}

/// The next actor that could be, or none after the last.
#[must_use]
pub fn after(actor: Actor) -> Option<Actor> {
    let mut next = actor;
    if let Some(boot) = actor.boot.checked_add(1) {
        next.boot = boot;
    } else if let Some(epoch) = actor.epoch.checked_add(1) {
        next.epoch = epoch;
        next.boot = 0;
    } else {
        next.node.0 = actor.node.0.checked_add(1)?;
        next.epoch = 0;
        next.boot = 0;
    }
    Some(next)
}
