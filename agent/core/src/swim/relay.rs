//! Pings for others: this node asks the target and reports an answer, or says
//! in time that it heard none.

use core::net::SocketAddr;

use watchfire_wire::message::swim::Swim as Body;
use watchfire_wire::{Actor, NodeId, Time};

use super::Swim;
use super::limits::{RELAY_TRIES, RELAYS};
use super::output::Output;
use crate::budget::Class;
use crate::mutations::Mutation;

/// One ping request of another member that this node carries.
#[derive(Debug)]
pub(super) struct Relay {
    asker: Actor,
    asker_addr: SocketAddr,
    asker_seq: u32,
    target: Actor,
    target_addr: SocketAddr,
    seq: u32,
    tries: u32,
    next_try: Time,
    nack_at: Time,
}

impl Relay {
    /// When something is to be done for it.
    pub(super) fn next(&self) -> Time {
        if self.tries < RELAY_TRIES {
            self.next_try.min(self.nack_at)
        } else {
            self.nack_at
        }
    }
}

/// A ping request as it arrived.
pub(super) struct Request {
    pub(super) seq: u32,
    pub(super) target: NodeId,
    pub(super) window_us: u32,
}

impl Swim {
    /// A living member asks for a ping.
    pub(super) fn serve_ping_req(
        &mut self,
        now: Time,
        asker: Actor,
        asker_addr: SocketAddr,
        request: &Request,
        out: &mut Vec<Output>,
    ) {
        let Some(target) = self.table.get(request.target) else {
            // Nothing will be heard of a stranger; say so at once.
            let body = Body::Nack { seq: request.seq };
            self.send(Class::Retry, asker_addr, body, Vec::new(), out);
            return;
        };
        let (target, target_addr) = (target.actor, target.addr);
        let known = |relay: &Relay| relay.asker == asker && relay.asker_seq == request.seq;
        if self.relays.iter().any(known) {
            return;
        }
        if self.relays.len() >= RELAYS {
            self.counters.relays_refused += 1;
            return;
        }
        // The nack must reach the asker before it stops waiting, so it goes by
        // the asker's remaining time and not by this node's own period.
        let window = core::time::Duration::from_micros(u64::from(request.window_us))
            .min(self.config.period * (super::limits::HEALTH_MAX + 1));
        let patience = if self.config.mutations.on(Mutation::LateNack) {
            window.mul_f64(1.5)
        } else {
            window.mul_f64(0.8)
        };
        let seq = self.next_seq();
        self.relays.push(Relay {
            asker,
            asker_addr,
            asker_seq: request.seq,
            target,
            target_addr,
            seq,
            tries: 0,
            next_try: now,
            nack_at: now + patience,
        });
        self.poll_relays(now, out);
    }

    /// Repeats pings that are due and sends the nacks whose time has come.
    pub(super) fn poll_relays(&mut self, now: Time, out: &mut Vec<Output>) {
        let wait = self.ack_wait() * 2;
        let mut at = 0;
        while let Some(relay) = self.relays.get_mut(at) {
            if relay.nack_at <= now {
                let relay = self.relays.swap_remove(at);
                self.counters.nacks += 1;
                let body = Body::Nack {
                    seq: relay.asker_seq,
                };
                self.send(Class::Retry, relay.asker_addr, body, Vec::new(), out);
                continue;
            }
            at += 1;
            if relay.next_try <= now && relay.tries < RELAY_TRIES {
                relay.tries += 1;
                relay.next_try = now + wait;
                let (addr, target, seq) = (relay.target_addr, relay.target.node, relay.seq);
                self.ping(Class::Retry, addr, target, seq, true, out);
            }
        }
    }

    /// The target of a relayed ping answered; true if it was one. Another life
    /// of its node does not answer for it, or nobody would ever find out.
    pub(super) fn relay_acked(&mut self, sender: Actor, seq: u32, out: &mut Vec<Output>) -> bool {
        let found = self
            .relays
            .iter()
            .position(|relay| relay.seq == seq && relay.target == sender);
        let Some(at) = found else {
            return false;
        };
        let relay = self.relays.swap_remove(at);
        let body = Body::Relayed {
            seq: relay.asker_seq,
            target: relay.target.node,
        };
        self.send(Class::Retry, relay.asker_addr, body, Vec::new(), out);
        true
    }
}
