//! Answering pulls: small answers in numbered datagrams, large ones over TCP by
//! a token that works once.

use std::collections::VecDeque;

use watchfire_wire::message::replica::{Claim, Cover, Delta, Floor, Replica, Slot};
use watchfire_wire::{Actor, Time};

use super::delta::Answer;
use super::replicator::Peer;
use crate::io::ConnId;
use crate::limits;

/// A pull of another that has come and is to be answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) at: Time,
    pub(super) from: Peer,
    pub(super) pull: u64,
    pub(super) claims: Vec<Claim>,
    pub(super) cover: Option<Cover>,
}

/// One frame of a bulk answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// On which stream.
    pub conn: ConnId,
    /// What.
    pub body: Replica,
    /// The stream is closed behind it.
    pub last: bool,
}

/// The answers that go out on streams, each cut from one snapshot when its
/// token was redeemed.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(VecDeque<(ConnId, VecDeque<Replica>)>);

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has_frames(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn serves(&self, conn: ConnId) -> bool {
        self.0.iter().any(|(other, _)| *other == conn)
    }

    pub(super) fn add(&mut self, conn: ConnId, parts: Vec<Replica>) {
        if !parts.is_empty() {
            self.0.push_back((conn, parts.into()));
        }
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        self.0.retain(|(other, _)| *other != conn);
    }

    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        let (conn, mut parts) = self.0.pop_front()?;
        let body = parts.pop_front()?;
        let last = parts.is_empty();
        if !last {
            self.0.push_back((conn, parts));
        }
        Some(Frame { conn, body, last })
    }
}

/// What waits for its requester to come by TCP.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) to: Actor,
    pub(super) pull: u64,
    pub(super) token: u64,
    pub(super) claims: Vec<Claim>,
    pub(super) cover: Option<Cover>,
    pub(super) expires: Time,
}

/// The open offers, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers(VecDeque<Offer>);

impl Offers {
    /// Keeps an offer; an older one to the same peer, or the oldest of all at
    /// the limit, is withdrawn.
    pub(super) fn keep(&mut self, now: Time, offer: Offer) {
        self.0.retain(|old| old.expires > now);
        let mut others = self.0.iter().filter(|old| old.to == offer.to).count();
        self.0.retain(|old| {
            let withdraw = old.to == offer.to && others >= limits::OFFERS_PER_PEER;
            others -= usize::from(withdraw);
            !withdraw
        });
        if self.0.len() >= limits::OFFERS {
            self.0.pop_front();
        }
        self.0.push_back(offer);
    }

    /// Redeems a token: once, by the one to whom it was given, in time.
    pub(super) fn redeem(&mut self, now: Time, by: Actor, pull: u64, token: u64) -> Option<Offer> {
        let at = self.0.iter().position(|offer| {
            offer.token == token && offer.pull == pull && offer.to == by && offer.expires > now
        })?;
        self.0.remove(at)
    }
}

/// Cuts an answer into numbered parts, or says nothing if it takes more than
/// `max_parts` of them.
pub(super) fn parts(
    pull: u64,
    id: u64,
    answer: Answer,
    slots_per_part: usize,
    max_parts: usize,
) -> Option<Vec<Replica>> {
    let slots: usize = answer.deltas.iter().map(|delta| delta.slots.len()).sum();
    if slots.div_ceil(slots_per_part) > max_parts {
        return None;
    }
    let mut bodies: Vec<Vec<Delta>> = vec![Vec::new()];
    let budget = slots_per_part * limits::SLOT_BYTES + limits::DELTA_BYTES;
    let mut room = budget;
    for delta in answer.deltas {
        let mut rest: &[Slot] = &delta.slots;
        loop {
            if room < limits::DELTA_BYTES + limits::SLOT_BYTES {
                bodies.push(Vec::new());
                room = budget;
            }
            room -= limits::DELTA_BYTES;
            let fit = rest.len().min(room / limits::SLOT_BYTES);
            let (now, later) = rest.split_at(fit);
            room -= fit * limits::SLOT_BYTES;
            bodies.last_mut().expect("begins with one").push(Delta {
                slots: now.to_vec(),
                ..without_slots(&delta)
            });
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }
    if bodies.len() > max_parts {
        return None;
    }
    let count = u16::try_from(bodies.len()).ok()?;
    let mut floors: Vec<Floor> = answer.floors;
    floors.truncate(limits::FLOORS_PER_PULL);
    Some(
        bodies
            .into_iter()
            .zip(0..count)
            .map(|(deltas, index)| Replica::Part {
                pull,
                answer: id,
                index,
                count,
                deltas,
                floors: if room >= floors.len() * 16 && index + 1 == count {
                    core::mem::take(&mut floors)
                } else {
                    Vec::new()
                },
            })
            .collect(),
    )
}

const fn without_slots(delta: &Delta) -> Delta {
    Delta {
        actor: delta.actor,
        lo: delta.lo,
        hi: delta.hi,
        trim: delta.trim,
        snapshot: delta.snapshot,
        slots: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use watchfire_wire::message::replica::{Hold, Value};
    use watchfire_wire::{CheckId, NodeId, Verdict};

    use super::*;

    fn actor(node: u64) -> Actor {
        Actor {
            node: NodeId(node),
            epoch: 1,
            boot: 1,
        }
    }

    fn offer(to: u64, token: u64, expires: Time) -> Offer {
        Offer {
            to: actor(to),
            pull: token,
            token,
            claims: Vec::new(),
            cover: None,
            expires,
        }
    }

    #[test]
    fn a_token_works_once_in_time_and_for_its_peer_only() {
        let now = Time::from_millis(10);
        let late = Time::from_millis(20);
        let mut offers = Offers::default();
        offers.keep(now, offer(1, 5, late));
        assert!(offers.redeem(now, actor(2), 5, 5).is_none(), "another peer");
        assert!(offers.redeem(now, actor(1), 6, 5).is_none(), "another pull");
        assert!(offers.redeem(now, actor(1), 5, 6).is_none(), "a guess");
        assert!(offers.redeem(late, actor(1), 5, 5).is_none(), "too late");
        assert!(offers.redeem(now, actor(1), 5, 5).is_some());
        assert!(offers.redeem(now, actor(1), 5, 5).is_none(), "once");
    }

    #[test]
    fn offers_stay_within_their_limits() {
        let now = Time::ZERO;
        let mut offers = Offers::default();
        for token in 0..10 {
            offers.keep(now, offer(1, token, Time::NEVER));
        }
        assert_eq!(offers.0.len(), limits::OFFERS_PER_PEER);
        assert!(offers.redeem(now, actor(1), 9, 9).is_some(), "the newest");
        for peer in 0..2 * limits::OFFERS as u64 {
            offers.keep(now, offer(peer + 2, 100 + peer, Time::NEVER));
        }
        assert_eq!(offers.0.len(), limits::OFFERS);
    }

    #[test]
    fn parts_hold_everything_once_and_in_order() {
        let slot = |seq: u64| Slot {
            check: CheckId([1; 16]),
            seq,
            term: 1,
            priority: 1,
            hold: Hold::Live,
            value: Value {
                verdict: Verdict::Up,
                reason: 0,
                contrary: 0,
                agreed: 0,
                dissented: 0,
                latency_us: 0,
                since_ms: 0,
                confirmed_by: NodeId(1),
            },
        };
        let delta = |node: u64, slots: u64| Delta {
            actor: actor(node),
            lo: 0,
            hi: slots,
            trim: 0,
            snapshot: true,
            slots: (1..=slots).map(slot).collect(),
        };
        let sizes = [0, 3, 40, 1, 1, 25];
        let answer = Answer {
            deltas: (1..).zip(sizes).map(|(node, n)| delta(node, n)).collect(),
            ..Answer::default()
        };
        let bodies = parts(9, 4, answer.clone(), 10, 10).expect("eight or so");
        assert!(bodies.len() >= 7);
        let mut slots: std::collections::BTreeMap<Actor, Vec<u64>> = Default::default();
        for (at, body) in (0..).zip(&bodies) {
            let Replica::Part {
                pull,
                answer,
                index,
                count,
                deltas,
                ..
            } = body
            else {
                panic!("not a part")
            };
            assert_eq!((*pull, *answer, *index), (9, 4, at));
            assert_eq!(usize::from(*count), bodies.len());
            let bytes: usize = deltas
                .iter()
                .map(|delta| limits::DELTA_BYTES + delta.slots.len() * limits::SLOT_BYTES)
                .sum();
            assert!(bytes <= 10 * limits::SLOT_BYTES + limits::DELTA_BYTES);
            for delta in deltas {
                let seqs = delta.slots.iter().map(|slot| slot.seq);
                slots.entry(delta.actor).or_default().extend(seqs);
            }
        }
        for (node, n) in (1..).zip(sizes) {
            assert_eq!(slots[&actor(node)], (1..=n).collect::<Vec<_>>());
        }
        assert!(parts(9, 4, answer, 10, 3).is_none(), "too large: a stream");
    }
}
