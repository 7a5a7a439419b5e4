//! Repair: nodes whose views of who lives differ show each other the parts that
//! do.
//!
//! Rumors are told a bounded number of times, so one may miss a node. Every
//! ping and ack carries a digest of its sender's view; unequal ones lead here.
//! Dead members are retried for ever, so that the two halves of a healed
//! partition find each other.

use core::net::SocketAddr;

use smallvec::SmallVec;
use watchfire_wire::message::PACKET_BYTES;
use watchfire_wire::message::swim::{News, Rumor, Swim as Body};
use watchfire_wire::{Actor, NodeId, Time};

use super::Swim;
use super::admit::{alive, pack};
use super::limits::{DOUBTS, ROSTER_DATAGRAMS, ROSTER_DATAGRAMS_BUSY, VIEW_GAP, VIEW_GAP_BUSY};
use super::member::State;
use super::output::Output;
use super::table::{PARTS, Table};
use crate::budget::Class;

/// Members that are dead here and alive elsewhere.
#[derive(Debug, Default)]
pub(super) struct Doubts(SmallVec<[NodeId; DOUBTS]>);

impl Doubts {
    /// At the limit the rest is left to the next roster.
    pub(super) fn add(&mut self, node: NodeId) {
        if self.0.len() < DOUBTS {
            self.0.push(node);
        }
    }
}

impl Swim {
    /// A living member sent the digest of its view.
    pub(super) fn compare_view(
        &mut self,
        now: Time,
        addr: SocketAddr,
        view: u64,
        out: &mut Vec<Output>,
    ) {
        if now < self.next_view || view == self.table.view() || !self.spare.has(Class::View) {
            return;
        }
        // What is needed to learn who is there never waits for the rest, but it
        // leaves the rest its share.
        let busy = !self.spare.has(Class::Repair);
        self.next_view = now + if busy { VIEW_GAP_BUSY } else { VIEW_GAP };
        self.send_view(addr, false, out);
    }

    /// A living member sent its view: it gets the parts that differ, and shows
    /// its own unless it has done so.
    pub(super) fn on_view(
        &mut self,
        addr: SocketAddr,
        theirs: &[u32; PARTS],
        answer: bool,
        out: &mut Vec<Output>,
    ) {
        let ours = *self.table.parts();
        let differs = |node: NodeId| {
            let part = Table::part_of(node);
            ours[part] != theirs[part]
        };
        let by = self.me.node;
        let members = self.table.all().filter(|member| differs(member.id()));
        let mut rumors: Vec<Rumor> = members
            .map(|member| {
                let news = match member.state {
                    State::Alive | State::Suspect => return alive(member),
                    State::Dead => News::Dead { by },
                    State::Left => News::Left,
                };
                Rumor {
                    about: member.actor,
                    incarnation: member.incarnation,
                    news,
                }
            })
            .collect();
        if differs(by) {
            rumors.push(self.introduction());
        }
        if rumors.is_empty() {
            return;
        }
        // Not always the same members first, for the answer may be cut.
        self.rng.shuffle(&mut rumors);
        let room = self.config.datagram_bytes.saturating_sub(PACKET_BYTES);
        let most = if self.spare.has(Class::Repair) {
            ROSTER_DATAGRAMS
        } else {
            ROSTER_DATAGRAMS_BUSY
        };
        for rumors in pack(rumors, room).into_iter().take(most) {
            if !self.spare.take(Class::View) {
                return;
            }
            self.counters.rosters += 1;
            out.push(Output::Send {
                class: Class::View,
                to: addr,
                body: Body::Roster,
                rumors,
            });
        }
        if !answer {
            self.send_view(addr, true, out);
        }
    }

    /// Somebody else holds these dead members for alive: they are asked at
    /// once, and hear that they are dead here.
    pub(super) fn resolve(&mut self, doubts: Doubts, out: &mut Vec<Output>) {
        for node in doubts.0 {
            self.retry(node, out);
        }
    }

    /// Pings one dead member at a low rate, for ever.
    pub(super) fn poll_dead(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.next_retry > now {
            return;
        }
        self.next_retry = now + self.config.dead_retry;
        if let Some(node) = self.table.pick_dead(&mut self.rng) {
            self.retry(node, out);
        }
    }

    /// A later life of the sender's node is known. If the sender is where its own
    /// life or that one was, it hears so: it is over, or it is a process that
    /// has forgotten the later one and must rise above it to be heard.
    pub(super) fn on_former_life(
        &mut self,
        from: SocketAddr,
        sender: Actor,
        out: &mut Vec<Output>,
    ) {
        let Some(member) = self.table.get(sender.node) else {
            return;
        };
        let displaced = self.table.prior(sender.node) == Some((sender, from));
        if !displaced && member.addr != from {
            return;
        }
        let news = match member.state {
            State::Alive | State::Suspect => News::Alive(member.profile.clone()),
            State::Dead => News::Dead { by: self.me.node },
            State::Left => News::Left,
        };
        let rumor = Rumor {
            about: member.actor,
            incarnation: member.incarnation,
            news,
        };
        self.tell_directly(Class::Retry, from, rumor, out);
    }

    fn retry(&mut self, node: NodeId, out: &mut Vec<Output>) {
        if let Some(member) = self.table.get(node) {
            let addr = member.addr;
            let seq = self.next_seq();
            self.counters.dead_retries += 1;
            self.ping(Class::Retry, addr, node, seq, true, out);
        }
    }

    fn send_view(&mut self, addr: SocketAddr, answer: bool, out: &mut Vec<Output>) {
        self.counters.views += 1;
        let parts = self.table.parts().to_vec();
        self.send_bare(Class::View, addr, Body::View { parts, answer }, out);
    }
}
