//! Taking in what other actors wrote.
//!
//! A delta is applied whole or not at all, builds on a claim that is held, and
//! raises the claim to its own end. By the rule that equal claims imply equal
//! state it does not matter from whom it comes.

use watchfire_wire::message::replica::Delta;

use super::arena::{Cell, NIL};
use super::store::Store;
use crate::limits;
use crate::mutations::Mutation;

/// What became of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It brought something new.
    New,
    /// All of it was known.
    Known,
    /// It is of this node's own present life: nobody else writes that. The
    /// number is the last that its sender believes in.
    Own(u64),
    /// Its author is gone for good, behind a floor, or was put out.
    BelowFloor,
    /// It builds on a claim that is not held here (any more).
    Gap,
    /// Its numbers contradict each other; nothing was changed.
    Malformed,
    /// A term in it is beyond what any honest writer can have come to; nothing
    /// was changed, the claim neither, so that equal claims stay equal state. It
    /// may be plausible later.
    Implausible,
    /// It has more words on checks that nobody configures here than its name's
    /// share; nothing was changed, as above.
    Foreign,
    /// A limit is reached; nothing was changed.
    Full,
}

impl Store {
    /// Applies a whole delta.
    pub fn apply(&mut self, delta: &Delta) -> Applied {
        let actor = delta.actor;
        if actor == self.me {
            return Applied::Own(delta.hi);
        }
        let floor = self.floor(actor.node);
        if floor.is_some_and(|floor| actor.epoch < floor) || self.barred.contains(&actor.node) {
            return Applied::BelowFloor;
        }
        if !is_well_formed(delta) {
            return Applied::Malformed;
        }
        if delta.slots.iter().any(|slot| slot.term > self.term_max)
            && !self.mutations.on(Mutation::AnyTerm)
        {
            return Applied::Implausible;
        }
        let known = self.by_actor.get(&actor).copied();
        let claim = known.map_or(0, |log| self.logs[log as usize].seq);
        if delta.hi < claim || (delta.hi == claim && !delta.snapshot && known.is_some()) {
            return Applied::Known;
        }
        if !delta.snapshot && delta.lo > claim {
            return Applied::Gap;
        }
        if self.exceeds_share(known, delta) {
            return Applied::Foreign;
        }
        if self.len() + delta.slots.len() > limits::SLOTS
            || (known.is_none() && self.by_actor.len() >= limits::LOGS)
        {
            return Applied::Full;
        }
        let log = self.log_of(actor);
        if delta.snapshot {
            self.replace(log, delta);
        } else {
            self.append(log, delta, claim);
        }
        self.rehash(log, |log| {
            log.seq = delta.hi;
            log.trim = log.trim.max(delta.trim);
        });
        self.follow_trim(log);
        Applied::New
    }

    /// The seeded bug of applying the parts of a reply as they come.
    pub fn apply_part(&mut self, delta: &Delta, raise: bool) {
        if !self.mutations.on(Mutation::MergePerChunk)
            && !self.mutations.on(Mutation::ClaimPerChunk)
        {
            return;
        }
        if delta.actor == self.me || !is_well_formed(delta) {
            return;
        }
        let log = self.log_of(delta.actor);
        let tail = self.logs[log as usize].tail;
        let last = if tail == NIL {
            0
        } else {
            self.slots[tail as usize].seq
        };
        self.append(log, delta, last);
        if raise {
            self.rehash(log, |log| log.seq = log.seq.max(delta.hi));
        }
    }

    fn append(&mut self, log: u32, delta: &Delta, above: u64) {
        for slot in &delta.slots {
            if slot.seq > above {
                let check = self.intern(slot.check);
                self.put(log, check, *slot);
            }
        }
    }

    /// Exchanges all slots of a log for those of the delta. Most are the same, and
    /// those are left as they are: nothing about their checks has changed.
    fn replace(&mut self, log: u32, delta: &Delta) {
        let (mut kept, mut above) = (0, 0);
        // Below what is held an honest log has nothing else. From where this one has,
        // all of it is taken from the delta.
        let mut honest = true;
        let mut at = self.logs[log as usize].head;
        while at != NIL {
            let Cell { seq, next, .. } = self.slots[at as usize];
            let counterpart = delta.slots.get(kept).filter(|slot| slot.seq <= seq);
            honest &= counterpart.is_none_or(|slot| *slot == self.slot(at));
            if honest && counterpart.is_some() {
                (kept, above) = (kept + 1, seq);
            } else {
                self.remove(at);
            }
            at = next;
        }
        let mut released = core::mem::take(&mut self.logs[log as usize].released);
        released.retain(|&(seq, cell)| self.is_released_at(log, seq, cell));
        self.logs[log as usize].released = released;
        self.append(log, delta, above);
    }

    /// Drops the released slots that their author has collected.
    fn follow_trim(&mut self, log: u32) {
        let trim = self.logs[log as usize].trim;
        while let Some(&(seq, cell)) = self.logs[log as usize].released.front() {
            if seq > trim {
                break;
            }
            if self.is_released_at(log, seq, cell) {
                self.remove(cell);
            }
            self.logs[log as usize].released.pop_front();
        }
    }
}

/// The slots are in order and within the delta's bounds.
fn is_well_formed(delta: &Delta) -> bool {
    let mut above = if delta.snapshot { 0 } else { delta.lo };
    for slot in &delta.slots {
        if slot.seq <= above || slot.seq > delta.hi {
            return false;
        }
        above = slot.seq;
    }
    delta.lo <= delta.hi && delta.trim <= delta.hi
}
