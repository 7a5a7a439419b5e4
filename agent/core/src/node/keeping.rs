//! Forgetting what nobody needs: releases that were overtaken, logs of lives
//! that are over.

use watchfire_wire::{Actor, NodeId, Time};

use super::Node;
use crate::limits;
use crate::replica::Collect;

impl Node {
    /// One round of collection.
    pub(super) fn keep(&mut self, now: Time) {
        self.next_keeping = now + self.config.retention.every;
        self.collect_released(now);
        self.collect_departed(now);
        self.forget_members(now);
    }

    /// Ownership forgets whom membership has forgotten.
    fn forget_members(&mut self, now: Time) {
        let (me, swim) = (self.own.actor.node, &self.swim);
        let known = |&node: &NodeId| node == me || swim.member(node).is_some();
        let forgotten: Vec<NodeId> = self.duties.members().filter(|node| !known(node)).collect();
        for node in forgotten {
            self.with_duties(now, |duties, ctx| duties.set_member(ctx, node, None));
        }
    }

    /// Collects this node's own releases.
    fn collect_released(&mut self, now: Time) {
        let retention = &self.config.retention;
        let mut overtaken = 0;
        let mut orphaned = 0;
        for &(at, seq) in &self.marks {
            if now.since(at) >= retention.released {
                overtaken = seq;
            }
            if now.since(at) >= retention.orphan {
                orphaned = seq;
            }
        }
        // One mark older than every bound says as much as all before it.
        while self.marks.get(1).is_some_and(|&(at, _)| {
            now.since(at) >= retention.orphan && now.since(at) >= retention.released
        }) {
            self.marks.pop_front();
        }
        let wrote = self
            .marks
            .back()
            .is_none_or(|&(_, seq)| seq != self.own_seq);
        self.marks.push_back((now, self.own_seq));
        let waited = now.since(self.collected_at);
        if waited < retention.between || (!wrote && waited < retention.quiet) {
            return;
        }
        self.collected_at = now;
        let duties = &self.duties;
        self.replicator.store_mut().collect(|slot, wins| {
            if wins && slot.seq <= orphaned {
                if duties.ix(slot.check).is_some() {
                    Collect::Renew
                } else {
                    Collect::Drop
                }
            } else if !wins && slot.seq <= overtaken {
                Collect::Drop
            } else {
                Collect::Keep
            }
        });
        // The collection itself is no write that the next could go with.
        let own = self.own.actor;
        let seq = self.replicator.store().claim(own).map_or(0, |(seq, _)| seq);
        self.marks.push_back((now, seq));
    }

    /// Collects the logs of lives that are over.
    fn collect_departed(&mut self, now: Time) {
        let logs: Vec<Actor> = self
            .replicator
            .store()
            .claims()
            .map(|(actor, _)| actor)
            .filter(|&actor| actor != self.own.actor && !self.swim.is_living(actor))
            .collect();
        self.departed
            .retain(|actor, _| logs.binary_search(actor).is_ok());
        for &actor in &logs {
            self.departed.entry(actor).or_insert(now);
        }
        let crowded = self.replicator.store().claims().count() > limits::LOGS / 4 * 3;
        let mut held_back = None;
        for actor in logs {
            // A floor takes all earlier lives of its node with it, so they are
            // looked at from the earliest on, up to the first that stays.
            if held_back == Some(actor.node) {
                continue;
            }
            if crowded || self.may_go(now, actor) {
                self.collect_log(actor);
            } else {
                held_back = Some(actor.node);
            }
        }
    }

    fn may_go(&self, now: Time, actor: Actor) -> bool {
        let since = self.departed.get(&actor).copied().unwrap_or(now);
        let gone = now.since(since);
        let retention = &self.config.retention;
        let superseded = if actor.node == self.own.actor.node {
            true
        } else {
            self.swim
                .member(actor.node)
                .is_some_and(|member| member.actor.epoch > actor.epoch)
        };
        // Nobody misses what a liar said; it may be all that a name may have.
        let lied = self.replicator.was_set_aside(actor) && gone >= retention.lied;
        gone >= retention.departed
            || lied
            || (superseded
                && gone >= retention.superseded
                && self.replicator.store().wins(actor) == 0)
    }

    fn collect_log(&mut self, actor: Actor) {
        let epoch = actor.epoch.saturating_add(1);
        let store = self.replicator.store_mut();
        if store.floor(actor.node).is_none() && store.floors_len() >= limits::FLOORS {
            store.forget_oldest_floor();
        }
        self.counters.logs_collected += store.raise_floor(actor.node, epoch) as u64;
        self.departed.remove(&actor);
    }
}
