//! The roll call: when neither the target nor most relays of a round are heard,
//! the fault is larger than one member, and everybody is pinged at once.
//!
//! One member a period is too slow for a node that was cut off: its successors
//! in every duty would wait for as many periods as there are members. Who is
//! silent in a roll call is suspected here, and nobody is told: it may well be
//! this node that cannot hear. Any ack ends such a suspicion. Whoever this node
//! suspects or accuses is called again once a second: a suspect that cannot be
//! heard now may be heard before its time is up.

use core::time::Duration;
use std::collections::BTreeSet;

use watchfire_wire::{Actor, NodeId, Time};

use super::Swim;
use super::limits::{ROLL_CALL_GAP, ROLL_CALL_TRIES};
use super::member::{Member, State};
use super::output::Output;
use super::suspicion::Suspicion;

/// A roll call that is under way. Bounded by the members.
#[derive(Debug)]
pub(super) struct RollCall {
    silent: BTreeSet<Actor>,
    /// Pings that are still to be sent to the silent.
    tries: u32,
    next: Time,
}

impl Swim {
    /// A round failed and most of its relays were silent as well.
    pub(super) fn call_roll(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.roll_call.is_some() || now < self.next_roll_call {
            return;
        }
        let alive = self.table.all().filter(|m| m.state == State::Alive);
        let called = alive.map(|member| member.actor).collect();
        self.roll_seq = self.next_seq();
        self.counters.roll_calls += 1;
        self.roll_call = Some(RollCall {
            silent: called,
            tries: ROLL_CALL_TRIES,
            next: now,
        });
        self.poll_roll_call(now, out);
    }

    /// When the roll call goes on, or those whom this node accuses are pinged
    /// again.
    pub(super) fn next_call(&self) -> Time {
        let call = self
            .roll_call
            .as_ref()
            .map_or(Time::NEVER, |call| call.next);
        if self.table.accuses(self.me.node) {
            call.min(self.next_recall)
        } else {
            call
        }
    }

    /// Pings those whom this node accuses once more.
    pub(super) fn poll_recall(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.next_recall > now || !self.table.accuses(self.me.node) {
            return;
        }
        self.next_recall = now + ROLL_CALL_GAP;
        self.recall_seq = self.next_seq();
        for node in self.table.accused_by(self.me.node) {
            if let Some(member) = self.table.get(node) {
                let addr = member.addr;
                self.ping(addr, node, self.recall_seq, false, out);
            }
        }
    }

    /// This ping belonged to a roll call.
    pub(super) const fn was_called(&self, seq: u32) -> bool {
        seq == self.roll_seq || seq == self.recall_seq
    }

    /// Repeats the pings of those who are silent, or ends the roll call.
    pub(super) fn poll_roll_call(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(call) = &mut self.roll_call else {
            return;
        };
        if call.next > now {
            return;
        }
        if call.tries == 0 || call.silent.is_empty() {
            let silent = core::mem::take(&mut call.silent);
            self.roll_call = None;
            self.next_roll_call = now + ROLL_CALL_GAP;
            for actor in silent {
                self.suspect_quietly(now, actor, out);
            }
            return;
        }
        call.tries -= 1;
        call.next = now + self.config.period / ROLL_CALL_TRIES;
        let seq = self.roll_seq;
        let silent: Vec<NodeId> = call.silent.iter().map(|actor| actor.node).collect();
        for node in silent {
            if let Some(member) = self.table.get(node) {
                let addr = member.addr;
                self.ping(addr, node, seq, false, out);
            }
        }
    }

    /// This member answered something: it is not silent, and a quiet suspicion
    /// of it is over.
    pub(super) fn answered(&mut self, now: Time, sender: Actor, out: &mut Vec<Output>) {
        if let Some(call) = &mut self.roll_call {
            call.silent.remove(&sender);
        }
        let quiet = self
            .table
            .suspicion(sender.node)
            .is_some_and(|suspicion| suspicion.is_quiet());
        let Some(member) = self.table.get(sender.node) else {
            return;
        };
        if quiet && member.actor == sender {
            let member = Member {
                state: State::Alive,
                since: now,
                ..member.clone()
            };
            self.table.put(member, &mut self.rng);
            out.push(Output::Refuted(sender));
        }
    }

    /// A stall makes all silence of this roll call our own.
    pub(super) fn drop_roll_call(&mut self, now: Time, pause: Duration) {
        self.roll_call = None;
        self.next_roll_call = now + pause;
    }

    fn suspect_quietly(&mut self, now: Time, actor: Actor, out: &mut Vec<Output>) {
        let Some(member) = self.table.get(actor.node) else {
            return;
        };
        if member.actor != actor || member.state != State::Alive {
            return;
        }
        let member = Member {
            state: State::Suspect,
            since: now,
            ..member.clone()
        };
        self.table.put(member, &mut self.rng);
        let members = self.table.living() + 1;
        let suspicion = Suspicion::quiet(&self.config, members, now, self.me.node);
        self.table.suspect(actor.node, suspicion);
        out.push(Output::Suspected(actor));
    }
}
