//! The requester's side: what is wanted, what was asked, what has come so far.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;
use watchfire_wire::message::replica::{Claim, Cover, Delta, Floor};
use watchfire_wire::{Actor, NodeId, Time};

use super::replicator::Peer;
use crate::budget::Class;
use crate::io::ConnId;
use crate::limits;

/// A head that somebody spoke of and that is not held yet.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) seq: u64,
    /// Rounds that its news has travelled.
    pub(super) hops: u8,
    /// The state differs although the claims are equal: ask whatever is held.
    pub(super) repair: bool,
    /// Who has it; the last one spoke last.
    pub(super) sources: SmallVec<[NodeId; limits::SOURCES]>,
    pub(super) failures: u8,
    /// The pull that asks for it now.
    pub(super) asked: Option<u64>,
}

impl Want {
    pub(super) fn add_source(&mut self, source: NodeId) {
        if self.sources.contains(&source) {
            return;
        }
        if self.sources.len() == limits::SOURCES {
            self.sources.remove(0);
        }
        self.sources.push(source);
    }
}

/// A pull that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub(super) peer: Peer,
    pub(super) claims: Vec<Claim>,
    pub(super) cover: Option<Cover>,
    /// What gives way before it and after it.
    pub(super) class: Class,
    pub(super) sent: Time,
    pub(super) deadline: Time,
    pub(super) tries: u8,
    pub(super) conn: Option<ConnId>,
    /// Nobody waits for it any more; a late answer still counts.
    pub(super) lapsed: bool,
    /// Whose log is too much to be honest: nothing more of it is kept.
    pub(super) refused: BTreeSet<Actor>,
    stage: Stage,
}

/// The parts of an answer that have come.
#[derive(Clone, Debug, Default)]
struct Stage {
    answer: u64,
    parts: Vec<Option<Vec<Delta>>>,
    missing: usize,
    slots: usize,
    /// So far, by actor.
    by_actor: BTreeMap<Actor, Came>,
    floors: Vec<Floor>,
}

/// What has come of one actor's log.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    slots: usize,
    /// Up to this number.
    hi: u64,
}

/// What a part did to its pull.
#[derive(Debug, PartialEq)]
pub(super) enum Staged {
    /// Others are missing.
    Waiting,
    /// All are here: the whole deltas, and floors.
    Complete(Vec<Delta>, Vec<Floor>),
    /// It contradicts the pull or earlier parts.
    Malformed,
}

impl Pull {
    pub(super) fn new(
        peer: Peer,
        claims: Vec<Claim>,
        cover: Option<Cover>,
        class: Class,
        sent: Time,
        deadline: Time,
    ) -> Self {
        Self {
            peer,
            claims,
            cover,
            class,
            sent,
            deadline,
            tries: 1,
            conn: None,
            lapsed: false,
            refused: BTreeSet::new(),
            stage: Stage::default(),
        }
    }

    /// Was this actor asked about?
    pub(super) fn concerns(&self, actor: Actor) -> bool {
        self.claims
            .binary_search_by_key(&actor, |claim| claim.actor)
            .is_ok()
            || self
                .cover
                .is_some_and(|cover| (cover.first..=cover.last).contains(&actor))
    }

    /// Of whom more slots have come so far, with how far their logs reach.
    pub(super) fn longer_than(&self, most: usize) -> Vec<(Actor, u64)> {
        let all = self.stage.by_actor.iter();
        all.filter(|(_, came)| came.slots > most)
            .map(|(&actor, came)| (actor, came.hi))
            .collect()
    }

    /// Nothing of these is kept of this answer, neither what came nor what comes.
    pub(super) fn refuse(&mut self, actors: BTreeSet<Actor>) {
        for part in self.stage.parts.iter_mut().flatten() {
            part.retain(|delta| !actors.contains(&delta.actor));
        }
        for actor in &actors {
            let came = self.stage.by_actor.remove(actor).unwrap_or_default();
            self.stage.slots -= came.slots;
        }
        self.refused.extend(actors);
    }

    /// Takes one part. A repeated one changes nothing.
    pub(super) fn stage(
        &mut self,
        answer: u64,
        index: u16,
        count: u16,
        mut deltas: Vec<Delta>,
        floors: Vec<Floor>,
    ) -> Staged {
        deltas.retain(|delta| !self.refused.contains(&delta.actor));
        let max = if self.conn.is_some() {
            limits::BULK_FRAMES
        } else {
            limits::PARTS
        };
        let (index, count) = (usize::from(index), usize::from(count));
        if count == 0 || count > max || index >= count {
            return Staged::Malformed;
        }
        let stage = &mut self.stage;
        if stage.parts.is_empty() || stage.answer != answer {
            // The pull was duplicated on its way and answered from two
            // snapshots: only one of them can become whole.
            *stage = Stage {
                answer,
                parts: vec![None; count],
                missing: count,
                ..Stage::default()
            };
        }
        if stage.parts.len() != count {
            return Staged::Malformed;
        }
        if stage.parts[index].is_some() {
            return Staged::Waiting;
        }
        for delta in &deltas {
            stage.slots += delta.slots.len();
            let came = stage.by_actor.entry(delta.actor).or_default();
            came.slots += delta.slots.len();
            came.hi = came.hi.max(delta.hi);
        }
        if stage.slots > limits::SLOTS {
            return Staged::Malformed;
        }
        stage.floors.extend(floors);
        stage.floors.truncate(limits::FLOORS_PER_PULL);
        stage.parts[index] = Some(deltas);
        stage.missing -= 1;
        if stage.missing > 0 {
            return Staged::Waiting;
        }
        let stage = core::mem::take(&mut self.stage);
        let mut whole: Vec<Delta> = Vec::new();
        for mut delta in stage.parts.into_iter().flatten().flatten() {
            match whole.last_mut() {
                Some(last) if last.actor == delta.actor => {
                    let same = (last.lo, last.hi, last.trim, last.snapshot)
                        == (delta.lo, delta.hi, delta.trim, delta.snapshot);
                    if !same {
                        return Staged::Malformed;
                    }
                    last.slots.append(&mut delta.slots);
                }
                _ => whole.push(delta),
            }
        }
        Staged::Complete(whole, stage.floors)
    }
}

/// All open pulls and wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulls {
    pub(super) open: BTreeMap<u64, Pull>,
    pub(super) wanted: BTreeMap<Actor, Want>,
}

impl Pulls {
    pub(super) fn with_peer(&self, node: NodeId) -> usize {
        self.open
            .values()
            .filter(|pull| pull.peer.actor.node == node && !pull.lapsed)
            .count()
    }

    /// Pulls whose answer is waited for.
    pub(super) fn waiting(&self) -> usize {
        self.open.values().filter(|pull| !pull.lapsed).count()
    }

    /// Nobody waits for this one any more.
    pub(super) fn lapse(&mut self, id: u64) {
        if let Some(pull) = self.open.get_mut(&id) {
            pull.lapsed = true;
            pull.deadline = Time::NEVER;
        }
        let lapsed = self.open.iter().filter(|(_, pull)| pull.lapsed);
        let oldest = lapsed.clone().min_by_key(|(_, pull)| pull.sent);
        if lapsed.clone().count() > limits::PULLS_LAPSED
            && let Some((&oldest, _)) = oldest
        {
            self.open.remove(&oldest);
        }
    }

    pub(super) fn next_timeout(&self) -> Time {
        self.open
            .values()
            .map(|pull| pull.deadline)
            .min()
            .unwrap_or(Time::NEVER)
    }

    pub(super) fn by_conn(&self, conn: ConnId) -> Option<u64> {
        self.open
            .iter()
            .find(|(_, pull)| pull.conn == Some(conn))
            .map(|(&id, _)| id)
    }

    /// The pull is over: its wants may be asked for again, from others first.
    pub(super) fn give_back(&mut self, id: u64, peer: NodeId) {
        self.wanted.retain(|_, want| {
            if want.asked == Some(id) {
                want.asked = None;
                want.failures += 1;
                if want.sources.len() > 1 {
                    want.sources.retain(|source| *source != peer);
                }
            }
            want.failures < MAX_FAILURES
        });
    }
}

/// Failed pulls after which a head is no longer wanted; digests bring it back.
const MAX_FAILURES: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(node: u64) -> Actor {
        Actor {
            node: NodeId(node),
            epoch: 1,
            boot: 1,
        }
    }

    fn pull() -> Pull {
        let peer = Peer {
            actor: actor(1),
            addr: ([127, 0, 0, 1], 1).into(),
        };
        let claim = Claim {
            actor: actor(5),
            seq: 0,
            digest: 0,
        };
        Pull::new(
            peer,
            vec![claim],
            None,
            Class::Pull,
            Time::ZERO,
            Time::NEVER,
        )
    }

    fn delta(node: u64, hi: u64) -> Delta {
        Delta {
            actor: actor(node),
            lo: 0,
            hi,
            trim: 0,
            snapshot: true,
            slots: Vec::new(),
        }
    }

    #[test]
    fn an_answer_is_whole_only_with_all_its_parts_in_any_order() {
        let mut pull = pull();
        let stage = |pull: &mut Pull, index| pull.stage(7, index, 3, vec![delta(5, 9)], vec![]);
        assert_eq!(stage(&mut pull, 2), Staged::Waiting);
        assert_eq!(stage(&mut pull, 0), Staged::Waiting);
        assert_eq!(stage(&mut pull, 0), Staged::Waiting, "a repeated part");
        let whole = Staged::Complete(vec![delta(5, 9)], vec![]);
        assert_eq!(stage(&mut pull, 1), whole);
    }

    #[test]
    fn parts_of_two_snapshots_never_mix() {
        let mut pull = pull();
        let first = pull.stage(7, 0, 2, vec![delta(5, 9)], vec![]);
        assert_eq!(first, Staged::Waiting);
        let other = pull.stage(8, 1, 2, vec![delta(5, 10)], vec![]);
        assert_eq!(other, Staged::Waiting);
        let rest = pull.stage(8, 0, 2, vec![delta(5, 10)], vec![]);
        assert_eq!(rest, Staged::Complete(vec![delta(5, 10)], vec![]));
    }

    #[test]
    fn contradictions_are_refused() {
        let staged = |index, count| pull().stage(7, index, count, vec![], vec![]);
        let too_many = u16::try_from(limits::PARTS + 1).expect("small");
        for (index, count) in [(0, 0), (2, 2), (0, too_many)] {
            assert_eq!(staged(index, count), Staged::Malformed);
        }
        let mut pull = pull();
        assert_eq!(pull.stage(7, 0, 2, vec![], vec![]), Staged::Waiting);
        assert_eq!(pull.stage(7, 1, 3, vec![], vec![]), Staged::Malformed);
        let mut split = super::tests::pull();
        split.stage(7, 0, 2, vec![delta(5, 9)], vec![]);
        let other_end = split.stage(7, 1, 2, vec![delta(5, 8)], vec![]);
        assert_eq!(other_end, Staged::Malformed);
    }

    #[test]
    fn a_pull_concerns_what_it_named_and_what_it_covers() {
        let mut pull = pull();
        assert!(pull.concerns(actor(5)));
        assert!(!pull.concerns(actor(6)));
        pull.cover = Some(Cover {
            first: actor(6),
            last: actor(8),
        });
        assert!(pull.concerns(actor(8)) && !pull.concerns(actor(9)));
    }
}
