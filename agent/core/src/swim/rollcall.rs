//! The roll call: when neither the target nor most relays of a round are heard,
//! the fault is larger than one member, and everybody is pinged at once.
//!
//! One member a period is too slow for a node that was cut off: its successors
//! in every check would wait for as many periods as there are members. Who is
//! silent in a roll call is suspected here, and nobody is told: it may well be
//! this node that cannot hear. An answer of the member ends such a suspicion. Some of those whom
//! this node suspects or accuses are called again once a second: a suspect that
//! cannot be heard now may be heard before its time is up.
//!
//! Its pings are repeated ones to the budget: they go out as fast as that
//! allows, and whoever was not pinged is not silent. A node that is late itself
//! calls no roll, for the silence is then its own.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::{Actor, NodeId, Time};

use super::Swim;
use super::limits::{MASS_PERCENT, RECALLED, ROLL_CALL_GAP, ROLL_CALL_TRIES};
use super::member::{Member, State};
use super::output::Output;
use super::suspicion::Suspicion;
use crate::budget::Class;

/// A roll call that is under way. Bounded by the members.
#[derive(Debug)]
pub(super) struct RollCall {
    /// Who has not answered, and how often each was pinged.
    silent: BTreeMap<Actor, u32>,
    called: usize,
    next: Time,
    ends: Time,
}

impl Swim {
    /// A round failed and most of its relays were silent as well.
    pub(super) fn call_roll(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.roll_call.is_some() || now < self.next_roll_call {
            return;
        }
        if self.late > 0 || !self.spare.has(Class::Retry) {
            self.counters.roll_calls_withheld += 1;
            return;
        }
        let alive = self.table.all().filter(|m| m.state == State::Alive);
        let silent: BTreeMap<Actor, u32> = alive.map(|member| (member.actor, 0)).collect();
        self.roll_seq = self.next_seq();
        self.counters.roll_calls += 1;
        self.roll_call = Some(RollCall {
            called: silent.len(),
            silent,
            next: now,
            ends: now + self.config.period * 3,
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

    /// Pings some of those whom this node accuses once more.
    pub(super) fn poll_recall(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.next_recall > now || !self.table.accuses(self.me.node) {
            return;
        }
        self.next_recall = now + ROLL_CALL_GAP;
        self.recall_seq = self.next_seq();
        let seq = self.recall_seq;
        let mut accused = self.table.accused_by(self.me.node);
        self.rng.shuffle(&mut accused);
        for node in accused.into_iter().take(RECALLED) {
            self.call(node, seq, out);
        }
    }

    /// This ping belonged to a roll call.
    pub(super) const fn was_called(&self, seq: u32) -> bool {
        seq == self.roll_seq || seq == self.recall_seq
    }

    /// Repeats the pings of those who are silent, or ends the roll call.
    pub(super) fn poll_roll_call(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(mut call) = self.roll_call.take_if(|call| call.next <= now) else {
            return;
        };
        // If most are silent it is this node that is cut off, or they died
        // together, and one ping each says so; a few are given another chance.
        let wanted = if call.silent.len() * 2 > call.called {
            1
        } else {
            ROLL_CALL_TRIES
        };
        let waiting = call.silent.values().any(|&tries| tries < wanted);
        if call.silent.is_empty() || !waiting || call.ends <= now {
            self.next_roll_call = now + ROLL_CALL_GAP;
            // Most died at once, or are out of reach of those who answer too:
            // they confirm it to each other, or refute it.
            let heard = call.called - call.silent.len();
            let is_mass = heard > 0 && call.silent.len() * 100 > call.called * MASS_PERCENT;
            for (actor, tries) in call.silent {
                if tries >= wanted {
                    self.suspect_quietly(now, actor, out);
                    if is_mass {
                        self.speak_out(now, actor, out);
                    }
                }
            }
            return;
        }
        for (actor, tries) in &mut call.silent {
            if *tries < wanted {
                if !self.call(actor.node, self.roll_seq, out) {
                    break;
                }
                *tries += 1;
            }
        }
        call.next = now + self.config.period / 2;
        self.roll_call = Some(call);
    }

    /// This member answered something: it is not silent.
    pub(super) fn answered(&mut self, now: Time, sender: Actor, out: &mut Vec<Output>) {
        if let Some(call) = &mut self.roll_call {
            call.silent.remove(&sender);
        }
        self.lift(now, sender, out);
    }

    /// This member lives: if it is suspected quietly, that is over.
    pub(super) fn lift(&mut self, now: Time, sender: Actor, out: &mut Vec<Output>) {
        let quiet = self
            .table
            .suspicion(sender.node)
            .is_some_and(|suspicion| suspicion.is_quiet());
        let Some(member) = self.table.get(sender.node).filter(|_| quiet) else {
            return;
        };
        if member.actor == sender {
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

    /// Pings a member outside of any round; false if there is no room for it.
    fn call(&mut self, node: NodeId, seq: u32, out: &mut Vec<Output>) -> bool {
        let Some(member) = self.table.get(node) else {
            return true;
        };
        let addr = member.addr;
        self.ping(Class::Retry, addr, node, seq, false, out)
    }

    /// Tells of a suspicion that was quiet.
    fn speak_out(&mut self, now: Time, actor: Actor, out: &mut Vec<Output>) {
        let member = self.table.get(actor.node);
        if let Some(member) = member.filter(|member| member.actor == actor) {
            let (incarnation, by) = (member.incarnation, self.me.node);
            self.hear_suspect(now, actor, incarnation, by, out);
        }
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
        let (members, stretch) = (self.table.living() + 1, self.stretch());
        let suspicion = Suspicion::quiet(&self.config, members, stretch, now, self.me.node);
        self.table.suspect(actor.node, suspicion);
        out.push(Output::Suspected(actor));
    }
}
