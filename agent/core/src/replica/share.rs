//! Words on checks that nobody configures here: each name may have so many, and
//! no more.
//!
//! They are kept, for servers are configured one after the other, and what this
//! one lacks others show. But a member that makes checks up would fill the memory
//! of all, so a name has a share of them, all its lives together.

use watchfire_wire::message::replica::Delta;
use watchfire_wire::{Actor, CheckId, NodeId};

use super::arena::{Log, NIL};
use super::store::Store;
use crate::limits;
use crate::mutations::Mutation;

impl Store {
    /// This check is configured here from now on, or is so no more.
    pub fn configure(&mut self, check: CheckId, configured: bool) {
        if !configured && !self.by_check.contains_key(&check) {
            return;
        }
        let at = self.intern(check);
        let cell = &mut self.checks[at as usize];
        if cell.configured == configured {
            return;
        }
        cell.configured = configured;
        let (mut cell_at, unused) = (cell.chain, cell.chain == NIL && !cell.changed);
        if configured {
            self.configured += 1;
            self.most_configured = self.most_configured.max(self.configured);
        } else {
            self.configured -= 1;
            if unused {
                self.by_check.remove(&check);
                self.free_checks.push(at);
            }
        }
        while cell_at != NIL {
            let cell = &self.slots[cell_at as usize];
            let (log, next) = (cell.log, cell.chain);
            let foreign = &mut self.logs[log as usize].foreign;
            *foreign = if configured {
                *foreign - 1
            } else {
                *foreign + 1
            };
            cell_at = next;
        }
    }

    /// Words of one name on checks that are not configured here.
    #[must_use]
    pub fn foreign(&self, node: NodeId) -> usize {
        self.lives(node).map(|log| log.foreign as usize).sum()
    }

    /// How many a name may have: a rollout shows all that others configure before
    /// this node does, or after.
    #[must_use]
    pub fn foreign_share(&self) -> usize {
        self.foreign_least
            .max(limits::FOREIGN_TIMES * self.most_configured)
    }

    /// As many slots as an honest log can have here.
    pub(super) fn log_most(&self) -> usize {
        self.foreign_share() + self.most_configured
    }

    /// With this delta its name would have more than its share.
    pub(super) fn exceeds_share(&self, known: Option<u32>, delta: &Delta) -> bool {
        if self.mutations.on(Mutation::ForeignWithoutShare) {
            return false;
        }
        let share = self.foreign_share();
        let node = delta.actor.node;
        let held: usize = self.lives(node).map(|log| log.len as usize).sum();
        if held + delta.slots.len() <= share {
            return false;
        }
        let replaced = known.filter(|_| delta.snapshot);
        let replaced = replaced.map_or(0, |log| self.logs[log as usize].foreign as usize);
        let is_new = |check: CheckId| match self.by_check.get(&check) {
            None => true,
            Some(&at) if self.checks[at as usize].configured => false,
            Some(&at) => match known.filter(|_| !delta.snapshot) {
                None => true,
                Some(log) => self.find(at, log) == NIL,
            },
        };
        let new = delta.slots.iter().filter(|slot| is_new(slot.check)).count();
        self.foreign(node) - replaced + new > share
    }

    fn lives(&self, node: NodeId) -> impl Iterator<Item = &Log> {
        let life = |epoch, boot| Actor { node, epoch, boot };
        let all = self.by_actor.range(life(0, 0)..=life(u64::MAX, u64::MAX));
        all.map(|(_, &log)| &self.logs[log as usize])
    }
}

#[cfg(test)]
mod tests {
    use watchfire_wire::Verdict;
    use watchfire_wire::message::replica::{Hold, Slot, Value};

    use super::super::Applied;
    use super::*;
    use crate::mutations::Mutations;

    fn actor(node: u64, epoch: u64) -> Actor {
        Actor {
            node: NodeId(node),
            epoch,
            boot: 1,
        }
    }

    fn check(n: u64) -> CheckId {
        CheckId::of_canonical(&n.to_le_bytes())
    }

    fn delta(actor: Actor, lo: u64, checks: core::ops::Range<u64>, snapshot: bool) -> Delta {
        let slots: Vec<Slot> = checks
            .zip(lo + 1..)
            .map(|(n, seq)| Slot {
                check: check(n),
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
                    confirmed_by: actor.node,
                },
            })
            .collect();
        Delta {
            actor,
            lo,
            hi: lo + slots.len() as u64,
            trim: 0,
            snapshot,
            slots,
        }
    }

    fn store() -> Store {
        let mut store = Store::new(actor(9, 1), Mutations::NONE);
        store.foreign_least = 10;
        store
    }

    #[test]
    fn a_name_has_its_share_of_foreign_checks_in_all_its_lives() {
        let mut store = store();
        let liar = actor(1, 1);
        assert_eq!(store.apply(&delta(liar, 0, 0..8, true)), Applied::New);
        assert_eq!(store.apply(&delta(liar, 8, 0..10, false)), Applied::New);
        let before = store.fingerprint();
        let more = delta(liar, 18, 10..11, false);
        assert_eq!(store.apply(&more), Applied::Foreign);
        let again = delta(actor(1, 2), 0, 20..21, true);
        assert_eq!(store.apply(&again), Applied::Foreign);
        assert_eq!(store.fingerprint(), before, "nothing changed");
        // Another name is no worse off for it, and what is replaced counts once.
        assert_eq!(
            store.apply(&delta(actor(2, 1), 0, 0..10, true)),
            Applied::New
        );
        assert_eq!(store.apply(&delta(liar, 20, 30..40, true)), Applied::New);
        assert_eq!((store.foreign(NodeId(1)), store.len()), (10, 20));
    }

    #[test]
    fn what_is_configured_here_is_not_foreign_and_a_rollout_has_room() {
        let mut store = store();
        for n in 0..100 {
            store.configure(check(n), true);
        }
        let other = actor(1, 1);
        let share = store.foreign_share() as u64;
        assert_eq!(
            store.apply(&delta(other, 0, 0..share + 100, true)),
            Applied::New
        );
        assert_eq!(store.foreign(NodeId(1)) as u64, share);
        for n in 0..100 {
            store.configure(check(n), false);
        }
        assert_eq!(store.foreign(NodeId(1)) as u64, share + 100);
        // What it held stays, and it may still say something new of it.
        let news = delta(other, share + 100, 0..5, false);
        assert_eq!(store.apply(&news), Applied::Foreign, "beyond its share");
        for n in 0..100 {
            store.configure(check(n), true);
        }
        assert_eq!(store.apply(&news), Applied::New);
        store.raise_floor(NodeId(1), 2);
        assert_eq!((store.foreign(NodeId(1)), store.len()), (0, 0));
        store.take_changed();
        assert_eq!(store.by_check.len(), 100, "configured checks stay known");
        for n in 0..100 {
            store.configure(check(n), false);
        }
        assert!(store.by_check.is_empty());
    }
}
