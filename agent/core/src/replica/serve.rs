//! Answering pulls: small answers in numbered datagrams, large ones over TCP by
//! a token that works once.

use std::collections::VecDeque;

use watchfire_wire::message::replica::{Claim, Cover, Delta, Floor, Replica, Slot};
use watchfire_wire::{Actor, Time};

use super::delta::Answer;
use crate::limits;

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
