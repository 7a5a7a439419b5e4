//! The replicated map: every actor's latest word on every check.
//!
//! Only an actor writes its own slots, one sequence number per change, so what
//! an actor's log looks like at a sequence number is the same wherever it is
//! held: equal claims imply equal state. This file is what can be read
//! and what this node writes; `arena` is how it is laid out, `join` adds what
//! others wrote, `delta` reads what others lack. Nothing here scans the map:
//! each operation costs what it touches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use watchfire_wire::message::replica::{Head, Hold, Slot, Value};
use watchfire_wire::{Actor, CheckId, NodeId};
use xxhash_rust::xxh3::xxh3_64;

use super::arena::{Cell, CheckCell, Log, NIL};
use crate::limits;
use crate::mutations::{Mutation, Mutations};

/// The replicated map of one node.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) me: Actor,
    pub(super) logs: Vec<Log>,
    pub(super) by_actor: BTreeMap<Actor, u32>,
    pub(super) free_logs: Vec<u32>,
    pub(super) slots: Vec<Cell>,
    pub(super) free_slots: u32,
    pub(super) live_cells: usize,
    pub(super) checks: Vec<CheckCell>,
    pub(super) by_check: HashMap<CheckId, u32, BuildHasherDefault<CheckHasher>>,
    pub(super) free_checks: Vec<u32>,
    pub(super) changed: Vec<u32>,
    pub(super) floors: BTreeMap<NodeId, u64>,
    /// Of whom nothing is held, whatever is said.
    pub(super) barred: BTreeSet<NodeId>,
    pub(super) digest: u64,
    /// Up to this number somebody has fetched this node's own log.
    pub(super) fetched: u64,
    /// Whose words this node's own overtook since they were last taken.
    overtaken: BTreeSet<NodeId>,
    /// Greatest term that is plausible now.
    pub(super) term_max: u64,
    /// Checks configured here now, and at most so far.
    pub(super) configured: usize,
    pub(super) most_configured: usize,
    /// Words on others that a name may have in any case.
    pub(super) foreign_least: usize,
    pub(super) mutations: Mutations,
    /// Weights by this node's view; read only by the seeded bug that judges by
    /// views.
    pub(super) view: BTreeMap<NodeId, u64>,
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
            barred: BTreeSet::new(),
            digest: 0,
            fetched: 0,
            overtaken: BTreeSet::new(),
            term_max: u64::MAX,
            configured: 0,
            most_configured: 0,
            foreign_least: limits::FOREIGN_LEAST,
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

    /// The word on a check that counts where these actors live. Nobody dead or
    /// departed has the last word: a living one's live measurement counts before
    /// it, though at a lower term. Whoever measures overtakes the winner with its
    /// next outcome, and then this is the winner as well.
    #[must_use]
    pub fn reading(&self, check: CheckId, lives: impl Fn(Actor) -> bool) -> Option<Word> {
        let winner = self.winner(check)?;
        if lives(winner.actor) || self.mutations.on(Mutation::DeadOutrankTheLiving) {
            return Some(winner);
        }
        let check = self.by_check.get(&check)?;
        let mut best = NIL;
        let mut at = self.checks[*check as usize].chain;
        while at != NIL {
            let cell = &self.slots[at as usize];
            let measures = cell.hold == Hold::Live && !cell.is_weak();
            if measures
                && lives(self.logs[cell.log as usize].actor)
                && (best == NIL || self.rank(at) > self.rank(best))
            {
                best = at;
            }
            at = cell.chain;
        }
        Some(if best == NIL { winner } else { self.word(best) })
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

    /// Who has said of a check that it cannot or will not probe it. Most checks
    /// nobody has said that of, and those cost nothing to ask about.
    pub fn decliners(&self, check: CheckId) -> impl Iterator<Item = Actor> + '_ {
        let cell = self.by_check.get(&check);
        let cell = cell.map(|&at| &self.checks[at as usize]);
        let mut at = cell
            .filter(|cell| cell.declined > 0)
            .map_or(NIL, |cell| cell.chain);
        core::iter::from_fn(move || {
            while at != NIL {
                let cell = &self.slots[at as usize];
                at = cell.chain;
                if cell.hold == Hold::Declined {
                    return Some(self.logs[cell.log as usize].actor);
                }
            }
            None
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
            Some(cell) => {
                let term = cell.term.saturating_add(1);
                if cell.hold == Hold::Live && self.overtaken.len() < limits::OVERTAKEN {
                    let node = self.logs[cell.log as usize].actor.node;
                    self.overtaken.insert(node);
                }
                term
            }
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

    /// Those whose words this node's own overtook: until they hear of it they go
    /// on probing.
    pub(super) fn take_overtaken(&mut self) -> BTreeSet<NodeId> {
        core::mem::take(&mut self.overtaken)
    }

    /// Up to this number somebody has fetched this node's own log: its words are
    /// on their way through the POP.
    #[must_use]
    pub const fn fetched(&self) -> u64 {
        self.fetched
    }

    /// Somebody has been sent this node's own log up to this number.
    pub(super) fn note_fetched(&mut self, own: u64) {
        self.fetched = self.fetched.max(own);
    }

    /// Says that this node has stopped probing a check: its own term and value
    /// again, with the flag, and who goes on. Nothing happens if it has no word on the check,
    /// or a word that says as much already.
    pub fn release(
        &mut self,
        check: CheckId,
        contrary: u8,
        declined: bool,
        successor: Option<NodeId>,
    ) -> Option<Head> {
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
        slot.value.confirmed_by = successor.unwrap_or(self.me.node);
        if self.mutations.on(Mutation::ReleaseWinsTerm) {
            slot.term = self.winner(check).map_or(0, |word| word.slot.term) + 1;
        }
        Some(self.rewrite(slot))
    }

    /// Declines a check with a word of its own even if there was none, so that
    /// others know not to wait for this node. It does not raise the term: it
    /// competes only as far as an earlier word of this node did.
    pub fn decline(&mut self, check: CheckId, priority: u64, value: Value) -> Option<Head> {
        if self.word_of(self.me, check).is_some() {
            return self.release(check, value.contrary, true, None);
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

    /// Forgets all that a node wrote in all its lives, and takes nothing of it any
    /// more until it is [`unbar`](Self::unbar)red. Its floor goes too.
    pub(super) fn bar(&mut self, node: NodeId) {
        let life = |epoch, boot| Actor { node, epoch, boot };
        let lives = self.by_actor.range(life(0, 0)..=life(u64::MAX, u64::MAX));
        let lives: Vec<(Actor, u32)> = lives.map(|(&actor, &log)| (actor, log)).collect();
        for (actor, log) in lives {
            self.drop_log(actor, log);
        }
        self.floors.remove(&node);
        self.barred.insert(node);
    }

    /// What it writes is taken again.
    pub(super) fn unbar(&mut self, node: NodeId) {
        self.barred.remove(&node);
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
        self.fetched = 0;
        for slot in mine {
            // Over its own earlier life's winner the term grows, as over any
            // other's; a slot that did not win keeps its place.
            if slot.hold == Hold::Live {
                self.write(slot.check, slot.priority, slot.value);
            }
        }
        // What lies below a floor is held by nobody else.
        if let Some(floor) = self.floor(me.node) {
            self.raise_floor(me.node, floor);
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
            if check.chain == NIL && !check.configured {
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

pub(super) fn put_actor(bytes: &mut Vec<u8>, actor: Actor) {
    bytes.extend_from_slice(&actor.node.0.to_le_bytes());
    bytes.extend_from_slice(&actor.epoch.to_le_bytes());
    bytes.extend_from_slice(&actor.boot.to_le_bytes());
}
