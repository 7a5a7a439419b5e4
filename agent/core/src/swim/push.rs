//! Urgent news is pushed at once and not only carried along: each member that
//! learns it passes it on to a few others, so it crosses the POP in a few round
//! trips.

use watchfire_wire::message::PACKET_BYTES;
use watchfire_wire::message::swim::{Rumor, Swim as Body, rumor_bytes};
use watchfire_wire::{NodeId, Time};

use super::Swim;
use super::limits::{PUSH_BURST, PUSH_DATAGRAMS, PUSH_GAP, PUSH_QUEUE, PUSH_REFILL};
use super::output::Output;

/// What waits to be pushed, and how much may be.
#[derive(Debug)]
pub(super) struct Push {
    urgent: Vec<NodeId>,
    next: Time,
    tokens: u32,
    refilled: Time,
}

impl Push {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            urgent: Vec::new(),
            next: now,
            tokens: PUSH_BURST,
            refilled: now,
        }
    }

    /// The rumor of this member is to be pushed.
    pub(super) fn add(&mut self, node: NodeId) {
        if self.urgent.len() < PUSH_QUEUE && !self.urgent.contains(&node) {
            self.urgent.push(node);
        }
    }

    /// When the next push is due.
    pub(super) fn next(&self) -> Time {
        if self.urgent.is_empty() {
            Time::NEVER
        } else {
            self.next
        }
    }

    /// Takes leave to send one more datagram that nobody asked for.
    pub(super) fn take(&mut self, now: Time) -> bool {
        let refill = PUSH_REFILL.as_micros() as u64;
        let earned = now.since(self.refilled).as_micros() as u64 / refill;
        if earned > 0 {
            let grown = u64::from(self.tokens).saturating_add(earned);
            self.tokens = u32::try_from(grown).unwrap_or(PUSH_BURST).min(PUSH_BURST);
            self.refilled = Time(self.refilled.0 + earned * refill);
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }
}

impl Swim {
    /// Tells this rumor from now on, and pushes it at once.
    pub(super) fn announce(&mut self, rumor: Rumor) {
        self.push.add(rumor.about.node);
        self.gossip.tell(rumor);
    }

    /// Pushes what is urgent, unless the last push was only just now.
    pub(super) fn flush(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.push.next() > now {
            return;
        }
        self.push.next = now + PUSH_GAP;
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
                if !self.push.take(now) {
                    // What is left rides on pings and acks.
                    self.counters.pushes_withheld += 1;
                    return;
                }
                self.counters.pushes += 1;
                out.push(Output::Send {
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

    /// Sends this rumor to one member at once, if pushing is still allowed.
    pub(super) fn tell_directly(
        &mut self,
        now: Time,
        to: core::net::SocketAddr,
        rumor: Rumor,
        out: &mut Vec<Output>,
    ) {
        if self.push.take(now) {
            self.counters.pushes += 1;
            out.push(Output::Send {
                to,
                body: Body::News,
                rumors: vec![rumor],
            });
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
