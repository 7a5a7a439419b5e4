//! Urgent news is pushed at once and not only carried along: each member that
//! learns it passes it on to a few others, so it crosses the POP in a few round
//! trips.

use core::time::Duration;

use watchfire_wire::message::PACKET_BYTES;
use watchfire_wire::message::swim::{Rumor, Swim as Body, rumor_bytes};
use watchfire_wire::{NodeId, Time};

use super::Swim;
use super::limits::{PUSH_DATAGRAMS, PUSH_GAP, PUSH_GAP_LOW, PUSH_QUEUE};
use super::output::Output;
use crate::budget::{Class, Spare};

/// What waits to be pushed.
#[derive(Debug)]
pub(super) struct Push {
    urgent: Vec<NodeId>,
    next: Time,
}

impl Push {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            urgent: Vec::new(),
            next: now,
        }
    }

    /// The rumor of this member is to be pushed.
    pub(super) fn add(&mut self, node: NodeId) {
        if self.urgent.len() < PUSH_QUEUE && !self.urgent.contains(&node) {
            self.urgent.push(node);
        }
    }

    /// The same, before all others: it takes a wrong suspicion back.
    pub(super) fn add_first(&mut self, node: NodeId) {
        self.urgent.retain(|&other| other != node);
        self.urgent.insert(0, node);
    }

    /// When the next push is due.
    pub(super) fn next(&self) -> Time {
        if self.urgent.is_empty() {
            Time::NEVER
        } else {
            self.next
        }
    }
}

/// The shortest time from one push to the next: the emptier the bucket, the
/// more goes together.
fn gap(spare: Spare) -> Duration {
    match 10_u32.saturating_sub(spare.tenths()) {
        0 | 1 => PUSH_GAP,
        missing => PUSH_GAP_LOW * missing,
    }
}

impl Swim {
    /// Tells this rumor from now on, and pushes it at once.
    pub(super) fn announce(&mut self, rumor: Rumor) {
        self.push.add(rumor.about.node);
        self.gossip.tell(rumor);
    }

    /// The same, before all other news.
    pub(super) fn announce_first(&mut self, rumor: Rumor) {
        self.push.add_first(rumor.about.node);
        self.gossip.tell(rumor);
    }

    /// Pushes what is urgent, unless the last push was only just now or there
    /// is no room for it. What has to wait rides on pings and acks meanwhile.
    pub(super) fn flush(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.push.next() > now {
            return;
        }
        self.push.next = now + gap(self.spare);
        if !self.spare.has(Class::News) {
            self.counters.pushes_withheld += 1;
            return;
        }
        let datagrams = self.pack_urgent();
        let limit = self.tellings();
        // Random members reach almost all, and the successors the rest.
        let mut targets: Vec<NodeId> = self.table.successor(self.me.node).into_iter().collect();
        let others = self.config.fanout.saturating_sub(targets.len());
        targets.extend(self.table.pick(others, &targets, &mut self.rng));
        for rumors in datagrams {
            for &target in &targets {
                let Some(member) = self.table.get(target) else {
                    continue;
                };
                let to = member.addr;
                if !self.spare.take(Class::News) {
                    self.counters.pushes_withheld += 1;
                    return;
                }
                self.counters.pushes += 1;
                out.push(Output::Send {
                    class: Class::News,
                    to,
                    body: Body::News,
                    rumors: rumors.clone(),
                });
            }
            for rumor in &rumors {
                let times = targets.len() as u32;
                self.gossip.told(rumor.about.node, times, limit);
            }
        }
    }

    /// Sends this rumor to one member at once, if there is room for it.
    pub(super) fn tell_directly(
        &mut self,
        class: Class,
        to: core::net::SocketAddr,
        rumor: Rumor,
        out: &mut Vec<Output>,
    ) {
        if self.spare.take(class) {
            self.counters.pushes += 1;
            out.push(Output::Send {
                class,
                to,
                body: Body::News,
                rumors: vec![rumor],
            });
        } else {
            self.counters.pushes_withheld += 1;
        }
    }

    /// The urgent rumors in as many datagrams as one push may have; those that
    /// do not fit stay urgent.
    fn pack_urgent(&mut self) -> Vec<Vec<Rumor>> {
        let room = self.config.datagram_bytes.saturating_sub(PACKET_BYTES);
        let mut datagrams: Vec<Vec<Rumor>> = Vec::new();
        let mut left = 0;
        let mut packed = 0;
        for node in &self.push.urgent {
            if let Some(rumor) = self.gossip.about(*node) {
                let bytes = rumor_bytes(rumor);
                if bytes > left {
                    if datagrams.len() == PUSH_DATAGRAMS || bytes > room {
                        break;
                    }
                    datagrams.push(Vec::new());
                    left = room;
                }
                left -= bytes;
                if let Some(last) = datagrams.last_mut() {
                    last.push(rumor.clone());
                }
            }
            packed += 1;
        }
        self.push.urgent.drain(..packed.max(1));
        datagrams
    }
}
