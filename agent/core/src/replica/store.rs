//! The replicated map: every actor's latest word on every check.
//!
//! Only an actor writes its own slots, one sequence number per change, so what
//! an actor's log looks like at a sequence number is the same wherever it is
//! held: equal claims imply equal state. This file holds the structure, this
//! node's own writes and the winner of each check; [`join`](super::join) adds
//! what others wrote, [`delta`](super::delta) reads what others lack. Nothing
//! here scans the map: each operation costs what it touches.
//!
//! Slots lie in one arena. A slot is a link of two chains: its log's, in order
//! of sequence numbers (every change appends, so the chain stays sorted), and
//! its check's (normally one or two long).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use watchfire_wire::message::replica::{Head, Hold, Slot, Value};
use watchfire_wire::{Actor, CheckId, NodeId, Verdict};
use xxhash_rust::xxh3::xxh3_64;

use crate::mutations::{Mutation, Mutations};

/// Ends a chain.
pub(super) const NIL: u32 = u32::MAX;

/// The replicated map of one node.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) me: Actor,
    pub(super) logs: Vec<Log>,
    pub(super) by_actor: BTreeMap<Actor, u32>,
    free_logs: Vec<u32>,
    pub(super) slots: Vec<Cell>,
    free_slots: u32,
    live_cells: usize,
    checks: Vec<CheckCell>,
    by_check: HashMap<CheckId, u32, BuildHasherDefault<CheckHasher>>,
    free_checks: Vec<u32>,
    changed: Vec<u32>,
    pub(super) floors: BTreeMap<NodeId, u64>,
    digest: u64,
    pub(super) mutations: Mutations,
    /// Weights by this node's view; read only by the seeded bug that judges by
    /// views.
    view: BTreeMap<NodeId, u64>,
}

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
    term: u64,
    priority: u64,
    since_ms: u64,
    confirmed_by: NodeId,
    latency_us: u32,
    /// In the log's chain; `next` links the free list too.
    pub(super) prev: u32,
    pub(super) next: u32,
    /// The next cell of the same check.
    chain: u32,
    check: u32,
    pub(super) log: u32,
    pub(super) hold: Hold,
    verdict: Verdict,
    reason: u8,
    contrary: u8,
    agreed: u8,
    dissented: u8,
}

/// What is held of one check.
#[derive(Clone, Copy, Debug)]
struct CheckCell {
    id: CheckId,
    chain: u32,
    winner: u32,
    changed: bool,
}

/// A slot together with its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Whose word.
    pub actor: Actor,
    /// The word.
    pub slot: Slot,
}

impl Store {
    /// An empty map that belongs to this actor.
    #[must_use]
    pub fn new(me: Actor, mutations: Mutations) -> Self {
        Self {
            me,
            logs: Vec::new(),
            by_actor: BTreeMap::new(),
            free_logs: Vec::new(),
            slots: Vec::new(),
            free_slots: NIL,
            live_cells: 0,
            checks: Vec::new(),
            by_check: HashMap::default(),
            free_checks: Vec::new(),
            changed: Vec::new(),
            floors: BTreeMap::new(),
            digest: 0,
            mutations,
            view: BTreeMap::new(),
        }
    }

    /// Who writes here.
    #[must_use]
    pub const fn me(&self) -> Actor {
        self.me
    }

    /// 64 bits over all slots and claims: equal maps have equal digests.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// The last sequence number held of this actor, and the digest of what is
    /// held.
    #[must_use]
    pub fn claim(&self, actor: Actor) -> Option<(u64, u64)> {
        let log = &self.logs[*self.by_actor.get(&actor)? as usize];
        Some((log.seq, log.digest()))
    }

    /// All actors of whom something is held, in order, with the last sequence
    /// number held.
    pub fn claims(&self) -> impl Iterator<Item = (Actor, u64)> + '_ {
        self.by_actor
            .iter()
            .map(|(&actor, &log)| (actor, self.logs[log as usize].seq))
    }

    /// The least epoch whose log is taken from this node, if there is a floor.
    #[must_use]
    pub fn floor(&self, node: NodeId) -> Option<u64> {
        self.floors.get(&node).copied()
    }

    /// Slots held, of all actors together.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live_cells
    }

    /// Nothing is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live_cells == 0
    }

    /// How many checks this actor has the winning word on.
    #[must_use]
    pub fn wins(&self, actor: Actor) -> u32 {
        self.by_actor
            .get(&actor)
            .map_or(0, |&log| self.logs[log as usize].wins)
    }

    /// The winning word on a check: the greatest by term, priority, actor and
    /// sequence number.
    #[must_use]
    pub fn winner(&self, check: CheckId) -> Option<Word> {
        let cell = self.checks[*self.by_check.get(&check)? as usize].winner;
        (cell != NIL).then(|| self.word(cell))
    }

    /// All words on a check, in no order that means anything.
    pub fn words(&self, check: CheckId) -> impl Iterator<Item = Word> + '_ {
        let mut at = self
            .by_check
            .get(&check)
            .map_or(NIL, |&at| self.checks[at as usize].chain);
        core::iter::from_fn(move || {
            let cell = (at != NIL).then_some(at)?;
            at = self.slots[cell as usize].chain;
            Some(self.word(cell))
        })
    }

    /// This actor's word on a check.
    #[must_use]
    pub fn word_of(&self, actor: Actor, check: CheckId) -> Option<Slot> {
        let &log = self.by_actor.get(&actor)?;
        let &check = self.by_check.get(&check)?;
        let cell = self.find(check, log);
        (cell != NIL).then(|| self.slot(cell))
    }

    /// All words of an actor, oldest first.
    pub fn words_by(&self, actor: Actor) -> impl Iterator<Item = Slot> + '_ {
        let mut at = self
            .by_actor
            .get(&actor)
            .map_or(NIL, |&log| self.logs[log as usize].head);
        core::iter::from_fn(move || {
            let cell = (at != NIL).then_some(at)?;
            at = self.slots[cell as usize].next;
            Some(self.slot(cell))
        })
    }

    /// Writes this node's own word: over its own winner at the same term, over
    /// another's one higher.
    pub fn write(&mut self, check: CheckId, priority: u64, value: Value) -> Head {
        let me = self.own_log();
        let at = self.intern(check);
        let winner = self.checks[at as usize].winner;
        let term = match (winner != NIL).then(|| &self.slots[winner as usize]) {
            None => 1,
            Some(cell) if cell.log == me => cell.term,
            Some(cell) => cell.term.saturating_add(1),
        };
        let mut value = value;
        if self.mutations.on(Mutation::TalkMerge) && winner != NIL {
            // The seeded bug needs to know what this write overwrote.
            value.confirmed_by = NodeId(self.dot(winner));
        }
        self.put_own(
            me,
            at,
            Slot {
                check,
                seq: 0,
                term,
                priority,
                hold: Hold::Live,
                value,
            },
        )
    }

    /// Says that this node has stopped probing a check: its own term and value
    /// again, with the flag. Nothing happens if it has no word on the check,
    /// or a word that says as much already.
    pub fn release(&mut self, check: CheckId, contrary: u8, declined: bool) -> Option<Head> {
        let mut slot = self.word_of(self.me, check)?;
        let hold = if declined {
            Hold::Declined
        } else {
            Hold::Released
        };
        if slot.hold >= hold {
            return None;
        }
        slot.hold = hold;
        slot.value.contrary = contrary;
        if self.mutations.on(Mutation::ReleaseWinsTerm) {
            slot.term += 1;
        }
        Some(self.rewrite(slot))
    }

    /// Declines a check with a word of its own even if there was none, so that
    /// others know not to wait for this node. It does not raise the term: it
    /// competes only as far as an earlier word of this node did.
    pub fn decline(&mut self, check: CheckId, priority: u64, value: Value) -> Option<Head> {
        if self.word_of(self.me, check).is_some() {
            return self.release(check, value.contrary, true);
        }
        Some(self.rewrite(Slot {
            check,
            seq: 0,
            term: 0,
            priority,
            hold: Hold::Declined,
            value,
        }))
    }

    /// Says that nobody can measure the check: a release that wins.
    pub fn resign(&mut self, check: CheckId, priority: u64, value: Value) -> Head {
        self.write(check, priority, value);
        let mut slot = self.word_of(self.me, check).expect("written just now");
        slot.hold = Hold::Declined;
        self.rewrite(slot)
    }

    /// Collects this node's own released slots from the oldest on, as long as
    /// `may` says so of each (is it old enough?), and raises the trim number.
    /// The first that may not be collected ends the run, so that one number
    /// tells others what went. A slot that wins may be passed over by
    /// [`Collect::Renew`], which writes it anew behind the others.
    pub fn collect(&mut self, mut may: impl FnMut(Slot, bool) -> Collect) -> Option<Head> {
        let me = *self.by_actor.get(&self.me)?;
        let mut trim = 0;
        let mut renew = Vec::new();
        let last = self.logs[me as usize].seq;
        while let Some(&(seq, cell)) = self.logs[me as usize].released.front() {
            if seq > last {
                break;
            }
            if self.is_released_at(me, seq, cell) {
                let slot = self.slot(cell);
                let wins = self.checks[self.slots[cell as usize].check as usize].winner == cell;
                match may(slot, wins) {
                    Collect::Keep => break,
                    Collect::Drop => self.remove(cell),
                    Collect::Renew => {
                        renew.push(slot);
                        self.remove(cell);
                    }
                }
                trim = seq;
            }
            self.logs[me as usize].released.pop_front();
        }
        if trim == 0 {
            return None;
        }
        if self.mutations.on(Mutation::CollectWithoutTrim) {
            self.rehash(me, |_| {});
            return None;
        }
        // The collection is a change like any other: it takes a number of its
        // own, so that equal claims keep implying equal state.
        self.rehash(me, |log| {
            log.trim = trim;
            log.seq += 1;
        });
        for slot in renew {
            self.rewrite(slot);
        }
        Some(self.head(me))
    }

    /// Forgets a departed actor and everything else that its node wrote below
    /// the epoch after it; the floor keeps others from bringing it back. The
    /// node's present life is untouched. Returns how many logs went.
    pub fn raise_floor(&mut self, node: NodeId, epoch: u64) -> usize {
        let floor = self.floors.entry(node).or_insert(0);
        *floor = epoch.max(*floor);
        let epoch = *floor;
        let first = Actor {
            node,
            epoch: 0,
            boot: 0,
        };
        let last = Actor {
            node,
            epoch: epoch.saturating_sub(1),
            boot: u64::MAX,
        };
        if epoch == 0 {
            return 0;
        }
        let gone: Vec<(Actor, u32)> = self
            .by_actor
            .range(first..=last)
            .map(|(&actor, &log)| (actor, log))
            .filter(|&(actor, _)| actor != self.me)
            .collect();
        for &(actor, log) in &gone {
            self.drop_log(actor, log);
        }
        gone.len()
    }

    /// Forgets the floor with the least epoch: nothing has been heard of that
    /// node for the longest time.
    pub fn forget_oldest_floor(&mut self) {
        let oldest = self
            .floors
            .iter()
            .min_by_key(|&(_, &epoch)| epoch)
            .map(|(&node, _)| node);
        if let Some(node) = oldest {
            self.floors.remove(&node);
        }
    }

    /// How many floors are held.
    #[must_use]
    pub fn floors_len(&self) -> usize {
        self.floors.len()
    }

    /// From now on this node writes as another life of itself. Its live slots
    /// are written anew; what it wrote so far stays, as a departed life's.
    pub fn become_actor(&mut self, me: Actor) {
        let mine: Vec<Slot> = self.words_by(self.me).collect();
        self.me = me;
        for slot in mine {
            // Over its own earlier life's winner the term grows, as over any
            // other's; a slot that did not win keeps its place.
            if slot.hold == Hold::Live {
                self.write(slot.check, slot.priority, slot.value);
            }
        }
    }

    /// Takes the checks whose words changed since the last call, each once.
    pub fn take_changed(&mut self) -> Vec<CheckId> {
        let changed = core::mem::take(&mut self.changed);
        let mut ids = Vec::with_capacity(changed.len());
        for at in changed {
            let check = &mut self.checks[at as usize];
            check.changed = false;
            ids.push(check.id);
            if check.chain == NIL {
                let id = check.id;
                self.by_check.remove(&id);
                self.free_checks.push(at);
            }
        }
        ids
    }

    /// Sets a weight for the seeded bug that judges by the reader's view.
    pub fn set_view(&mut self, node: NodeId, weight: u64) {
        if self.mutations.on(Mutation::ViewPriority) {
            self.view.insert(node, weight);
        }
    }

    /// A fingerprint of everything that decides the future of this map, for
    /// checkers that compare states.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = Vec::with_capacity(256);
        put_actor(&mut bytes, self.me);
        bytes.extend_from_slice(&self.digest.to_le_bytes());
        for (&actor, &log) in &self.by_actor {
            let log = &self.logs[log as usize];
            put_actor(&mut bytes, actor);
            bytes.extend_from_slice(&log.digest().to_le_bytes());
            bytes.extend_from_slice(&log.seq.to_le_bytes());
        }
        for (&node, &epoch) in &self.floors {
            bytes.extend_from_slice(&node.0.to_le_bytes());
            bytes.extend_from_slice(&epoch.to_le_bytes());
        }
        xxh3_64(&bytes)
    }
}

/// What [`Store::collect`] does with one released slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collect {
    /// It stays, and so does all that was released after it.
    Keep,
    /// It goes.
    Drop,
    /// It is written anew, so that those behind it can go.
    Renew,
}

// What follows serves this file and its siblings.
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

    fn put_own(&mut self, me: u32, at: u32, slot: Slot) -> Head {
        let seq = self.logs[me as usize].seq + 1;
        self.rehash(me, |log| log.seq = seq);
        self.put(me, at, Slot { seq, ..slot });
        self.head(me)
    }

    fn rewrite(&mut self, slot: Slot) -> Head {
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
            cell
        } else {
            self.digest_out(found);
            self.unlink(found);
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
            changed: false,
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

    fn word(&self, cell: u32) -> Word {
        Word {
            actor: self.logs[self.slots[cell as usize].log as usize].actor,
            slot: self.slot(cell),
        }
    }

    fn find(&self, check: u32, log: u32) -> u32 {
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

    fn rank(&self, cell: u32) -> (u64, u64, Actor, u64) {
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

    fn dot(&self, cell: u32) -> u64 {
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

/// Spreads check ids, which tenants can choose by trying: the whole id is
/// hashed, not its first bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckHasher(u64);

impl Hasher for CheckHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    // The length that precedes an array tells nothing: all ids are as long.
    fn write_usize(&mut self, _length: usize) {}
}

fn is_released_at(slots: &[Cell], log: u32, seq: u64, cell: u32) -> bool {
    let cell = &slots[cell as usize];
    cell.log == log && cell.seq == seq && cell.hold.is_released()
}

fn put_actor(bytes: &mut Vec<u8>, actor: Actor) {
    bytes.extend_from_slice(&actor.node.0.to_le_bytes());
    bytes.extend_from_slice(&actor.epoch.to_le_bytes());
    bytes.extend_from_slice(&actor.boot.to_le_bytes());
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("the limit on slots is below 2^32")
}
