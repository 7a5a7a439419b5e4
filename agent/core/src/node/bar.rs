//! Members that operators put out of the POP.
//!
//! What they send is dropped behind the gate, whatever it is, and nothing that
//! others say of them counts; their words are forgotten. A name that is to be
//! forgotten is put out for a moment, so that nobody who has not heard of it yet
//! brings it back. Whoever holds a key can still speak in another's name: against
//! that only other keys help.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use rkyv::rancor::Failure;
use watchfire_wire::message::overrides::{ArchivedOverrides, Decision as Said};
use watchfire_wire::message::{Body, Packet};
use watchfire_wire::{NodeId, Time};

use super::Node;
use crate::budget::Class;
use crate::io::{Event, Output};
use crate::mutations::Mutation;
use crate::overrides::{Decision, Op, Refused, Request, member_key, member_of};

/// A name that is forgotten is put out for so long: by then all have heard of it.
const FORGETTING: Duration = Duration::from_secs(10);

/// From one word to an evicted member that it is to the next.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// One who was put out.
#[derive(Clone, Debug)]
pub struct Bar {
    key: Arc<str>,
    decision: Arc<Decision>,
    /// A forgetting ends by itself.
    until: Option<Time>,
    /// Where it was when it was put out.
    addr: Option<SocketAddr>,
    next_told: Time,
}

impl Bar {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        member_of(&self.key).unwrap_or_default()
    }

    /// By what decision.
    #[must_use]
    pub const fn decision(&self) -> &Arc<Decision> {
        &self.decision
    }

    /// It is out until an operator or the clock ends that; otherwise it is only
    /// being forgotten.
    #[must_use]
    pub const fn is_eviction(&self) -> bool {
        self.until.is_none()
    }
}

impl Node {
    /// Who is out of the POP, or being forgotten.
    #[must_use]
    pub const fn bars(&self) -> &BTreeMap<NodeId, Bar> {
        &self.bars
    }

    /// The decision by which this node itself was put out, as far as it knows.
    #[must_use]
    pub const fn evicted(&self) -> Option<&Arc<Decision>> {
        self.evicted.as_ref()
    }

    /// Whether this can be decided here.
    pub(super) fn may_decide(&self, request: &Request) -> Result<(), Refused> {
        for name in request.names.iter().filter_map(|key| member_of(key)) {
            let node = NodeId::of_name(name);
            if request.op == Op::Evict && node == self.own.actor.node {
                return Err(Refused::Itself(name.to_owned()));
            }
            let lives = self.member(node).is_some_and(|it| it.state.is_living());
            if request.op == Op::Forget && lives {
                return Err(Refused::Lives(name.to_owned()));
            }
        }
        Ok(())
    }

    /// Does what was decided about members since the last time.
    pub(super) fn tend_bars(&mut self, now: Time) {
        for (key, decision, in_force) in self.overrides.take_members() {
            let Some(name) = member_of(&key) else {
                continue;
            };
            let node = NodeId::of_name(name);
            let guess_ms = self.overrides.clock().guess_ms(now);
            // Whoever hears of it later does nothing: the name may be in use again.
            let passed = guess_ms.saturating_sub(decision.at_ms);
            let left = FORGETTING.saturating_sub(Duration::from_millis(passed));
            let forgets = decision.op == Op::Forget && !left.is_zero();
            let evicts = decision.op == Op::Evict && in_force;
            if node == self.own.actor.node {
                self.evicted = evicts.then_some(decision);
            } else if evicts || forgets {
                let until = forgets.then(|| now + left);
                self.bar(now, node, key, decision, until);
            } else {
                self.unbar(node);
            }
        }
        let over = |bar: &Bar| bar.until.is_some_and(|until| until <= now);
        let ended: Vec<NodeId> = self
            .bars
            .iter()
            .filter(|(_, bar)| over(bar))
            .map(|(&node, _)| node)
            .collect();
        for node in ended {
            self.unbar(node);
        }
        if self.peers_changed {
            self.settle(now);
        }
    }

    /// When a forgetting ends.
    pub(super) fn next_unbar(&self) -> Time {
        let ends = self.bars.values().filter_map(|bar| bar.until);
        ends.min().unwrap_or(Time::NEVER)
    }

    fn bar(
        &mut self,
        now: Time,
        node: NodeId,
        key: Arc<str>,
        decision: Arc<Decision>,
        until: Option<Time>,
    ) {
        if self.config.mutations.on(Mutation::EvictedIsHeard) {
            return;
        }
        let addr = self.swim.member(node).map(|member| member.addr);
        let known = self.bars.get(&node).and_then(|bar| bar.addr);
        let bar = Bar {
            key,
            decision,
            until,
            addr: addr.or(known),
            next_told: now,
        };
        let is_eviction = bar.is_eviction();
        self.bars.insert(node, bar);
        if let Some(addr) = addr.filter(|_| is_eviction) {
            self.tell_evicted(now, node, addr, usize::MAX);
        }
        self.swim.bar(node, &mut self.swim_out);
        self.replicator.bar(node);
        self.departed.retain(|actor, _| actor.node != node);
        self.peers_changed = true;
    }

    fn unbar(&mut self, node: NodeId) {
        if self.bars.remove(&node).is_some() {
            self.swim.unbar(node);
            self.replicator.unbar(node);
        }
    }

    /// Nothing of this sender is heard: it was put out, or is where one was that
    /// was put out and where no member is.
    pub(super) fn is_barred(&self, sender: NodeId, from: SocketAddr) -> bool {
        if self.bars.is_empty() {
            return false;
        }
        self.bars.contains_key(&sender)
            || (self.bars.values().any(|bar| bar.addr == Some(from))
                && !self
                    .swim
                    .members()
                    .any(|member| member.addr == from && member.state.is_living()))
    }

    /// A datagram of one who was put out came: it is told so, now and then, and
    /// with no more bytes than came where its address is not known.
    pub(super) fn drop_barred(&mut self, now: Time, node: NodeId, from: SocketAddr, came: usize) {
        self.counters.evicted += 1;
        let Some(bar) = self.bars.get(&node) else {
            return;
        };
        if !bar.is_eviction() || bar.next_told > now {
            return;
        }
        let most = if bar.addr == Some(from) {
            usize::MAX
        } else {
            came
        };
        self.tell_evicted(now, node, from, most);
    }

    fn tell_evicted(&mut self, now: Time, node: NodeId, to: SocketAddr, most: usize) {
        let Some(bar) = self.bars.get_mut(&node) else {
            return;
        };
        bar.next_told = now + TOLD_EVERY;
        let Some(body) = self.overrides.telling(&bar.key, &bar.decision) else {
            return;
        };
        let spare = self.budget.spare(now);
        if !spare.has(Class::Opinion) {
            return self.budget.withhold(Class::Opinion);
        }
        let packet = Packet {
            from: self.own.actor,
            body: Body::Overrides(body),
            rumors: Vec::new(),
        };
        let sealed = self.gate.seal(&packet, self.config.datagram_bytes);
        let Some(bytes) = sealed.ok().filter(|bytes| bytes.len() <= most) else {
            return;
        };
        self.budget.spend(now, bytes.len());
        self.counters.datagrams_out += 1;
        self.counters.bytes_out_replica += bytes.len() as u64;
        self.out.push_back(Output::Datagram { to, bytes });
    }

    /// Somebody who is no member to this node says something of decisions: only
    /// that this node was put out is heard of it, for then nobody else answers.
    pub(super) fn hear_of_own_eviction(&mut self, now: Time, body: &ArchivedOverrides) {
        let ArchivedOverrides::Decisions { decisions, .. } = body else {
            return;
        };
        let own = member_key(&self.own.profile.name);
        let decisions = rkyv::deserialize::<Vec<Said>, Failure>(decisions);
        for said in decisions.unwrap_or_default() {
            if said.op == Op::Evict && said.names.iter().any(|name| **name == *own) {
                let said = Said {
                    names: vec![own.to_string()],
                    ..said
                };
                self.overrides.hear_own(now, &said, &mut self.out);
            }
        }
    }
}

impl Event {
    /// Whether this decision puts out the member of that name.
    #[must_use]
    pub fn evicts(&self, name: &str) -> bool {
        let Self::Decided { decision, names } = self else {
            return false;
        };
        decision.op == Op::Evict && names.iter().any(|key| member_of(key) == Some(name))
    }
}
