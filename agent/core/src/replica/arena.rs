//! Where slots lie and how they are linked: the inside of the [`Store`].
//!
//! Slots lie in one arena. A slot is a link of two chains: its log's, in order
//! of sequence numbers (every change appends, so the chain stays sorted), and
//! its check's (normally one or two long). Winners and digests are kept up with
//! every change.

use std::collections::VecDeque;

use watchfire_wire::message::replica::{Head, Hold, Slot, Value};
use watchfire_wire::{Actor, CheckId, NodeId, Unmeasured, Verdict};
use xxhash_rust::xxh3::xxh3_64;

use super::store::{Store, Word, put_actor};
use crate::mutations::Mutation;

/// Ends a chain.
pub(super) const NIL: u32 = u32::MAX;

/// All that is held of one actor.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) actor: Actor,
    /// Last sequence number held; its author's next write takes the following.
    pub(super) seq: u64,
    /// Released slots up to here have been collected by their author.
    pub(super) trim: u64,
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) len: u32,
    /// How many of its slots win their check.
    pub(super) wins: u32,
    /// How many of its slots are on checks that are not configured here.
    pub(super) foreign: u32,
    /// Of its slots; the sum over slots of a hash of each.
    slots_digest: u64,
    /// Its released slots in order: (sequence number, cell). Entries whose cell
    /// moved on are stale and skipped.
    pub(super) released: VecDeque<(u64, u32)>,
}

/// One slot in the arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) seq: u64,
    pub(super) term: u64,
    priority: u64,
    since_ms: u64,
    confirmed_by: NodeId,
    latency_us: u32,
    /// In the log's chain; `next` links the free list too.
    pub(super) prev: u32,
    pub(super) next: u32,
    /// The next cell of the same check.
    pub(super) chain: u32,
    pub(super) check: u32,
    pub(super) log: u32,
    pub(super) hold: Hold,
    verdict: Verdict,
    reason: u8,
    contrary: u8,
    agreed: u8,
    dissented: u8,
}

impl Cell {
    /// It says that its author could not measure.
    pub(super) fn is_weak(&self) -> bool {
        Unmeasured::from_code(self.reason).is_some()
    }
}

/// What is held of one check.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckCell {
    pub(super) id: CheckId,
    pub(super) chain: u32,
    pub(super) winner: u32,
    /// How many of the words on it decline it.
    pub(super) declined: u32,
    pub(super) changed: bool,
    /// It is configured here, and stays known without a word on it.
    pub(super) configured: bool,
}

impl Store {
    pub(super) fn own_log(&mut self) -> u32 {
        self.log_of(self.me)
    }

    /// The log of this actor, new if need be.
    pub(super) fn log_of(&mut self, actor: Actor) -> u32 {
        if let Some(&log) = self.by_actor.get(&actor) {
            return log;
        }
        let log = Log {
            actor,
            seq: 0,
            trim: 0,
            head: NIL,
            tail: NIL,
            len: 0,
            wins: 0,
            foreign: 0,
            slots_digest: 0,
            released: VecDeque::new(),
        };
        self.digest = self.digest.wrapping_add(log.digest());
        let at = if let Some(at) = self.free_logs.pop() {
            self.logs[at as usize] = log;
            at
        } else {
            self.logs.push(log);
            to_u32(self.logs.len() - 1)
        };
        self.by_actor.insert(actor, at);
        at
    }

    /// Changes what the log's own digest covers (its numbers), keeping the
    /// map's digest right.
    pub(super) fn rehash(&mut self, log: u32, change: impl FnOnce(&mut Log)) {
        let log = &mut self.logs[log as usize];
        let before = log.digest();
        change(log);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(log.digest());
    }

    pub(super) fn drop_log(&mut self, actor: Actor, at: u32) {
        while self.logs[at as usize].head != NIL {
            let head = self.logs[at as usize].head;
            self.remove(head);
        }
        let log = &mut self.logs[at as usize];
        self.digest = self.digest.wrapping_sub(log.digest());
        log.released = VecDeque::new();
        self.by_actor.remove(&actor);
        self.free_logs.push(at);
    }

    pub(super) fn head(&self, log: u32) -> Head {
        let log = &self.logs[log as usize];
        Head {
            actor: log.actor,
            seq: log.seq,
        }
    }

    pub(super) fn put_own(&mut self, me: u32, at: u32, slot: Slot) -> Head {
        let seq = self.logs[me as usize].seq + 1;
        self.rehash(me, |log| log.seq = seq);
        self.put(me, at, Slot { seq, ..slot });
        self.head(me)
    }

    pub(super) fn rewrite(&mut self, slot: Slot) -> Head {
        let me = self.own_log();
        let at = self.intern(slot.check);
        self.put_own(me, at, slot)
    }

    /// Holds this slot of this log, instead of an earlier one on the same
    /// check. Its sequence number is above all others of the log.
    pub(super) fn put(&mut self, log: u32, check: u32, slot: Slot) {
        debug_assert!({
            let tail = self.logs[log as usize].tail;
            tail == NIL || self.slots[tail as usize].seq < slot.seq
        });
        let found = self.find(check, log);
        let cell = if found == NIL {
            let cell = self.allocate();
            self.slots[cell as usize].chain = self.checks[check as usize].chain;
            self.checks[check as usize].chain = cell;
            if !self.checks[check as usize].configured {
                self.logs[log as usize].foreign += 1;
            }
            cell
        } else {
            self.digest_out(found);
            self.unlink(found);
            let declined = self.slots[found as usize].hold == Hold::Declined;
            self.checks[check as usize].declined -= u32::from(declined);
            found
        };
        let chain = self.slots[cell as usize].chain;
        self.slots[cell as usize] = Cell {
            seq: slot.seq,
            term: slot.term,
            priority: slot.priority,
            since_ms: slot.value.since_ms,
            confirmed_by: slot.value.confirmed_by,
            latency_us: slot.value.latency_us,
            prev: NIL,
            next: NIL,
            chain,
            check,
            log,
            hold: slot.hold,
            verdict: slot.value.verdict,
            reason: slot.value.reason,
            contrary: slot.value.contrary,
            agreed: slot.value.agreed,
            dissented: slot.value.dissented,
        };
        self.link_last(cell);
        self.digest_in(cell);
        self.checks[check as usize].declined += u32::from(slot.hold == Hold::Declined);
        if slot.hold.is_released() {
            let log = &mut self.logs[log as usize];
            log.released.push_back((slot.seq, cell));
            if log.released.len() > 16 + 2 * log.len as usize {
                let slots = &self.slots;
                let at = slots[cell as usize].log;
                log.released
                    .retain(|&(seq, cell)| is_released_at(slots, at, seq, cell));
            }
        }
        if self.mutations.on(Mutation::TalkMerge) {
            self.talk_merge(check, cell);
        }
        self.elect(check);
    }

    /// Takes a slot out of everything.
    pub(super) fn remove(&mut self, cell: u32) {
        self.digest_out(cell);
        self.unlink(cell);
        let check = self.slots[cell as usize].check;
        let declined = self.slots[cell as usize].hold == Hold::Declined;
        self.checks[check as usize].declined -= u32::from(declined);
        let chain = self.slots[cell as usize].chain;
        let mut at = self.checks[check as usize].chain;
        if at == cell {
            self.checks[check as usize].chain = chain;
        } else {
            while self.slots[at as usize].chain != cell {
                at = self.slots[at as usize].chain;
            }
            self.slots[at as usize].chain = chain;
        }
        if self.checks[check as usize].winner == cell {
            let log = self.slots[cell as usize].log;
            self.logs[log as usize].wins -= 1;
            self.checks[check as usize].winner = NIL;
        }
        if !self.checks[check as usize].configured {
            let log = self.slots[cell as usize].log;
            self.logs[log as usize].foreign -= 1;
        }
        self.slots[cell as usize].seq = 0;
        self.slots[cell as usize].log = NIL;
        self.slots[cell as usize].next = self.free_slots;
        self.free_slots = cell;
        self.live_cells -= 1;
        self.elect(check);
    }

    pub(super) fn is_released_at(&self, log: u32, seq: u64, cell: u32) -> bool {
        is_released_at(&self.slots, log, seq, cell)
    }

    /// The number of this check, new if need be.
    pub(super) fn intern(&mut self, check: CheckId) -> u32 {
        if let Some(&at) = self.by_check.get(&check) {
            return at;
        }
        let cell = CheckCell {
            id: check,
            chain: NIL,
            winner: NIL,
            declined: 0,
            changed: false,
            configured: false,
        };
        let at = if let Some(at) = self.free_checks.pop() {
            self.checks[at as usize] = cell;
            at
        } else {
            self.checks.push(cell);
            to_u32(self.checks.len() - 1)
        };
        self.by_check.insert(check, at);
        at
    }

    pub(super) fn slot(&self, cell: u32) -> Slot {
        let cell = &self.slots[cell as usize];
        Slot {
            check: self.checks[cell.check as usize].id,
            seq: cell.seq,
            term: cell.term,
            priority: cell.priority,
            hold: cell.hold,
            value: Value {
                verdict: cell.verdict,
                reason: cell.reason,
                contrary: cell.contrary,
                agreed: cell.agreed,
                dissented: cell.dissented,
                latency_us: cell.latency_us,
                since_ms: cell.since_ms,
                confirmed_by: cell.confirmed_by,
            },
        }
    }

    pub(super) fn word(&self, cell: u32) -> Word {
        Word {
            actor: self.logs[self.slots[cell as usize].log as usize].actor,
            slot: self.slot(cell),
        }
    }

    pub(super) fn find(&self, check: u32, log: u32) -> u32 {
        let mut at = self.checks[check as usize].chain;
        while at != NIL && self.slots[at as usize].log != log {
            at = self.slots[at as usize].chain;
        }
        at
    }

    /// Finds the winner of a check anew. The chain is as long as actors have a
    /// word on the check.
    fn elect(&mut self, check: u32) {
        let before = self.checks[check as usize].winner;
        let mut best = NIL;
        let mut at = self.checks[check as usize].chain;
        while at != NIL {
            if best == NIL || self.rank(at) > self.rank(best) {
                best = at;
            }
            at = self.slots[at as usize].chain;
        }
        if best != before {
            if before != NIL {
                let log = self.slots[before as usize].log;
                self.logs[log as usize].wins -= 1;
            }
            if best != NIL {
                let log = self.slots[best as usize].log;
                self.logs[log as usize].wins += 1;
            }
            self.checks[check as usize].winner = best;
        }
        if !self.checks[check as usize].changed {
            self.checks[check as usize].changed = true;
            self.changed.push(check);
        }
    }

    pub(super) fn rank(&self, cell: u32) -> (u64, u64, Actor, u64) {
        let cell = &self.slots[cell as usize];
        let actor = self.logs[cell.log as usize].actor;
        let priority = if self.mutations.on(Mutation::ViewPriority) {
            let weight = self.view.get(&actor.node).copied().unwrap_or(0);
            weight.wrapping_mul(cell.priority | 1)
        } else {
            cell.priority
        };
        (cell.term, priority, actor, cell.seq)
    }

    fn allocate(&mut self) -> u32 {
        self.live_cells += 1;
        if self.free_slots != NIL {
            let cell = self.free_slots;
            self.free_slots = self.slots[cell as usize].next;
            return cell;
        }
        self.slots.push(Cell {
            seq: 0,
            term: 0,
            priority: 0,
            since_ms: 0,
            confirmed_by: NodeId(0),
            latency_us: 0,
            prev: NIL,
            next: NIL,
            chain: NIL,
            check: NIL,
            log: NIL,
            hold: Hold::Live,
            verdict: Verdict::Unknown,
            reason: 0,
            contrary: 0,
            agreed: 0,
            dissented: 0,
        });
        to_u32(self.slots.len() - 1)
    }

    fn link_last(&mut self, cell: u32) {
        let log = &mut self.logs[self.slots[cell as usize].log as usize];
        let tail = log.tail;
        log.tail = cell;
        log.len += 1;
        if tail == NIL {
            log.head = cell;
        } else {
            self.slots[tail as usize].next = cell;
        }
        self.slots[cell as usize].prev = tail;
    }

    fn unlink(&mut self, cell: u32) {
        let Cell {
            prev, next, log, ..
        } = self.slots[cell as usize];
        let log = &mut self.logs[log as usize];
        log.len -= 1;
        if prev == NIL {
            log.head = next;
        } else {
            self.slots[prev as usize].next = next;
        }
        if next == NIL {
            log.tail = prev;
        } else {
            self.slots[next as usize].prev = prev;
        }
    }

    fn digest_in(&mut self, cell: u32) {
        let hash = self.hash_slot(cell);
        self.rehash(self.slots[cell as usize].log, |log| {
            log.slots_digest = log.slots_digest.wrapping_add(hash);
        });
    }

    fn digest_out(&mut self, cell: u32) {
        let hash = self.hash_slot(cell);
        self.rehash(self.slots[cell as usize].log, |log| {
            log.slots_digest = log.slots_digest.wrapping_sub(hash);
        });
    }

    fn hash_slot(&self, at: u32) -> u64 {
        let cell = &self.slots[at as usize];
        let mut bytes = [0; 72];
        bytes[..16].copy_from_slice(&self.checks[cell.check as usize].id.0);
        let words = [
            cell.seq,
            cell.term,
            cell.priority,
            cell.since_ms,
            cell.confirmed_by.0,
            u64::from(cell.latency_us),
            u64::from_le_bytes([
                cell.hold as u8,
                cell.verdict.code(),
                cell.reason,
                cell.contrary,
                cell.agreed,
                cell.dissented,
                0,
                0,
            ]),
        ];
        for (to, word) in bytes[16..].chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        xxh3_64(&bytes)
    }

    /// The seeded bug: one record per check. The newcomer stays if it overwrote
    /// the other or, concurrent, has the higher priority.
    fn talk_merge(&mut self, check: u32, new: u32) {
        let mut at = self.checks[check as usize].chain;
        while at != NIL {
            let next = self.slots[at as usize].chain;
            if at != new {
                let old = &self.slots[at as usize];
                let newer = &self.slots[new as usize];
                let stays = if newer.confirmed_by.0 == self.dot(at) {
                    true
                } else if old.confirmed_by.0 == self.dot(new) {
                    false
                } else {
                    newer.priority > old.priority
                };
                if stays {
                    self.remove(at);
                } else {
                    self.remove(new);
                    return;
                }
            }
            at = next;
        }
    }

    pub(super) fn dot(&self, cell: u32) -> u64 {
        let cell = &self.slots[cell as usize];
        let mut bytes = Vec::with_capacity(32);
        put_actor(&mut bytes, self.logs[cell.log as usize].actor);
        bytes.extend_from_slice(&cell.seq.to_le_bytes());
        xxh3_64(&bytes)
    }
}

impl Log {
    /// Of what is held of this actor, its slots and its numbers.
    pub(super) fn digest(&self) -> u64 {
        let mut fixed = [0; 48];
        let words = [
            self.actor.node.0,
            self.actor.epoch,
            self.actor.boot,
            self.seq,
            self.trim,
            self.slots_digest,
        ];
        for (to, word) in fixed.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        xxh3_64(&fixed)
    }
}

fn is_released_at(slots: &[Cell], log: u32, seq: u64, cell: u32) -> bool {
    let cell = &slots[cell as usize];
    cell.log == log && cell.seq == seq && cell.hold.is_released()
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("the limit on slots is below 2^32")
}
