//! Where operators' decisions meet the node: what they give it, what it hears,
//! and what it tells.

use core::net::SocketAddr;
use std::collections::VecDeque;

use watchfire_wire::message::Body;
use watchfire_wire::message::overrides::ArchivedOverrides;
use watchfire_wire::{Actor, Time};

use super::{Node, Phase};
use crate::io::Output;
use crate::overrides::{Decided, Overrides, Refused, Request, Wall};

impl Node {
    /// An operator decides. What follows comes as outputs, of which
    /// [`Output::KeepOverrides`] has to be on disk before the operator is told.
    ///
    /// # Errors
    /// What cannot be decided; then nothing changed.
    pub fn decide(&mut self, now: Time, request: Request) -> Result<Decided, Refused> {
        self.prepare(now);
        self.may_decide(&request)?;
        let me = self.own.actor;
        let decided = self.overrides.decide(now, me, request, &mut self.out);
        self.pass_time(now);
        self.settle(now);
        decided
    }

    /// Operators' decisions.
    #[must_use]
    pub const fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// This node's own wall clock was set, or looked at again.
    pub(super) fn set_wall(&mut self, wall: Wall) {
        self.overrides.clock_mut().set_own(wall);
        self.swim.set_wall(wall.at_zero_ms, wall.synchronised);
    }

    /// A packet about decisions came, of a living member's own address.
    pub(super) fn hear_overrides(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Actor,
        body: &ArchivedOverrides,
    ) {
        let known = self.living_peer(sender);
        let Some(peer) = known.filter(|peer| peer.addr == from) else {
            self.hear_of_own_eviction(now, body);
            self.counters.strangers += 1;
            return;
        };
        self.overrides.handle(now, peer, body, &mut self.out);
    }

    /// Runs what is due, and sends what there is to send.
    pub(super) fn tend_overrides(&mut self, now: Time) {
        let others = match self.phase {
            Phase::Joining { .. } => None,
            _ => Some(self.swim.living()),
        };
        let me = self.own.actor;
        let mut out: VecDeque<Output> = core::mem::take(&mut self.out);
        self.overrides.tick(now, me, others, &mut out);
        self.out = out;
        self.tend_bars(now);
        for send in self.overrides.take_sends() {
            let body = Body::Overrides(send.body);
            self.send(now, send.class, send.to, body, Vec::new());
        }
    }
}
