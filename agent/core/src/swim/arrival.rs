//! What arrives: each message goes to the part of membership that it concerns.

use core::net::SocketAddr;

use watchfire_wire::message::swim::{ArchivedRumor, ArchivedSwim, Rumor, Swim as Body};
use watchfire_wire::{Actor, NodeId, Time};

use super::member::State;
use super::output::Output;
use super::{Swim, admit, judge, relay, table};
use crate::budget::Class;

impl Swim {
    pub(super) fn take_in(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Actor,
        body: &ArchivedSwim,
        rumors: &[ArchivedRumor],
        out: &mut Vec<Output>,
    ) {
        let home = self.home(sender, from);
        match body {
            ArchivedSwim::JoinAsk { nonce } => {
                return self.on_join_ask(now, from, nonce.to_native(), out);
            }
            ArchivedSwim::JoinToken { nonce, token } => {
                return self.on_token(from, nonce.to_native(), token.to_native(), out);
            }
            ArchivedSwim::Join {
                nonce,
                token,
                asked,
            } => {
                let proof = admit::Proof {
                    nonce: nonce.to_native(),
                    token: token.to_native(),
                    asked: *asked,
                };
                return self.on_join(now, from, sender, proof, rumors, out);
            }
            ArchivedSwim::Welcome { nonce, epoch_floor } => {
                let (nonce, floor) = (nonce.to_native(), epoch_floor.to_native());
                return self.on_welcome(now, from, nonce, floor, rumors, out);
            }
            ArchivedSwim::Roster => {
                if self.is_living(sender) {
                    self.judge_all(now, home, rumors, judge::Manner::Record, out);
                }
                return;
            }
            _ => self.judge_all(now, home, rumors, judge::Manner::News, out),
        }
        match body {
            ArchivedSwim::Ping {
                seq,
                to,
                digest,
                view,
            } if NodeId::from(to) == self.me.node => {
                let seq = seq.to_native();
                self.on_ping(now, from, sender, seq, out);
                self.on_digests(now, home, sender, digest.to_native(), view.to_native(), out);
            }
            ArchivedSwim::Ack {
                synchronised,
                seq,
                digest,
                view,
                wall_ms,
            } => {
                let seq = seq.to_native();
                if sender.node == self.me.node {
                    return self.holder_answered(sender, seq, out);
                }
                let in_time = self.round_acked(now, sender, seq);
                if in_time && home.is_some() {
                    out.push(Output::PeerClock {
                        node: sender.node,
                        wall_ms: wall_ms.to_native(),
                        synchronised: *synchronised,
                    });
                }
                let asked = in_time
                    || self.relay_acked(sender, seq, out)
                    || self.was_called(seq)
                    || self.ears.asked(seq)
                    || self.was_asked(now, sender, seq);
                if asked {
                    self.answered(now, sender, out);
                }
                self.on_digests(now, home, sender, digest.to_native(), view.to_native(), out);
            }
            ArchivedSwim::PingReq {
                seq,
                target,
                window_us,
                ..
            } if self.is_living(sender) && home.is_some() => {
                let request = relay::Request {
                    seq: seq.to_native(),
                    target: NodeId::from(target),
                    window_us: window_us.to_native(),
                };
                self.serve_ping_req(now, sender, from, &request, out);
            }
            ArchivedSwim::Relayed { seq, target } => {
                self.round_relayed(sender, NodeId::from(target), seq.to_native());
            }
            ArchivedSwim::Nack { seq } => self.round_nacked(sender, seq.to_native()),
            ArchivedSwim::View { parts, answer } if self.is_living(sender) && home.is_some() => {
                let mut theirs = [0; table::PARTS];
                if parts.len() == theirs.len() {
                    for (part, sent) in theirs.iter_mut().zip(parts.iter()) {
                        *part = sent.to_native();
                    }
                    self.on_view(from, &theirs, *answer, out);
                }
            }
            _ => {}
        }
    }

    /// The address, if it is the one at which the sender is known.
    pub(super) fn home(&self, sender: Actor, from: SocketAddr) -> Option<SocketAddr> {
        let member = self.table.get(sender.node)?;
        (member.actor == sender && member.addr == from).then_some(from)
    }

    /// Answers a ping, if its sender is one to be answered: a living member, a
    /// dead one at its own address (it hears that it is dead), or somebody who
    /// asks after this very name.
    fn on_ping(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Actor,
        seq: u32,
        out: &mut Vec<Output>,
    ) {
        let (at_zero_ms, synchronised) = self.wall;
        let body = Body::Ack {
            synchronised,
            seq,
            digest: self.digest,
            view: self.table.view(),
            wall_ms: at_zero_ms.saturating_add(now.as_millis()),
        };
        if sender.node == self.me.node {
            return self.send_bare(Class::Ack, from, body, out);
        }
        let Some(member) = self.table.get(sender.node) else {
            self.counters.strangers += 1;
            return;
        };
        let at_home = member.addr == from;
        let answered = match (judge::order(sender, member.actor), member.state) {
            (core::cmp::Ordering::Equal, State::Alive | State::Suspect) => true,
            (core::cmp::Ordering::Equal, State::Dead) => at_home,
            // A later life, of which the news has not come yet.
            (core::cmp::Ordering::Greater, _) => at_home,
            (core::cmp::Ordering::Less, _) => {
                self.counters.strangers += 1;
                return self.on_former_life(from, sender, out);
            }
            (core::cmp::Ordering::Equal, State::Left) => false,
        };
        if !answered {
            self.counters.strangers += 1;
            return;
        }
        self.counters.acks += 1;
        if !at_home {
            // No larger than the ping: whoever forges a source gains nothing.
            return self.send_bare(Class::Ack, from, body, out);
        }
        let mut first = Vec::new();
        let buried = member.actor == sender && member.state == State::Dead;
        if buried {
            first.push(Rumor {
                about: sender,
                incarnation: member.incarnation,
                news: watchfire_wire::message::swim::News::Dead { by: self.me.node },
            });
            first.push(self.introduction());
        }
        self.send(Class::Ack, from, body, first, out);
    }

    /// A ping or an ack carried its sender's digests; from elsewhere than its
    /// own address they may be old ones.
    fn on_digests(
        &mut self,
        now: Time,
        home: Option<SocketAddr>,
        sender: Actor,
        digest: u64,
        view: u64,
        out: &mut Vec<Output>,
    ) {
        let Some(addr) = home.filter(|_| self.is_living(sender)) else {
            return;
        };
        out.push(Output::PeerDigest {
            actor: sender,
            digest,
            addr,
        });
        self.compare_view(now, addr, view, out);
    }
}
