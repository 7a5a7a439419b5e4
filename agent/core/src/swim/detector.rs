//! The failure detector's round: one member is pinged, directly and through
//! others, until it answers or the period ends.
//!
//! A lost datagram is no suspicion: the direct ping is repeated all through
//! the period, beside two waves of indirect ones. Each ping has a number of its
//! own, so that an ack that comes late, even after its round, says how long
//! acks take now; the next rounds then wait for as long.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use smallvec::SmallVec;
use watchfire_wire::message::swim::{News, Rumor, Swim as Body};
use watchfire_wire::{Actor, NodeId, Time};

use super::limits::{PAST_ROUNDS, TRIES, TRY_SPACING, WINDOW_MAX};
use super::output::Output;
use super::{State, Swim};
use crate::budget::Class;

/// The pings of one round: numbered from `first` on.
#[derive(Clone, Debug)]
struct Pings {
    target: Actor,
    first: u32,
    sent: SmallVec<[Time; TRIES as usize]>,
}

impl Pings {
    fn tries(&self) -> u32 {
        self.sent.len() as u32
    }

    /// When the ping of this number was sent, if it was one of these.
    fn sent_at(&self, sender: Actor, seq: u32) -> Option<Time> {
        let at = seq.wrapping_sub(self.first) as usize;
        let at = self.sent.get(at).copied();
        at.filter(|_| self.target == sender)
    }
}

/// A round that is under way.
#[derive(Debug)]
pub(super) struct Round {
    pings: Pings,
    addr: SocketAddr,
    began: Time,
    deadline: Time,
    next_try: Time,
    /// Relays of both waves.
    asked: SmallVec<[NodeId; 8]>,
    /// How many of them were in the first wave: their nacks are expected.
    expected: usize,
    nacked: SmallVec<[NodeId; 8]>,
    graced: bool,
}

impl Round {
    /// When something is to be done for it.
    pub(super) fn next(&self) -> Time {
        if self.pings.tries() < TRIES {
            self.next_try.min(self.deadline)
        } else {
            self.deadline
        }
    }

    /// This node was late to look: waits once more for answers that may stand
    /// in the socket. Gives the deadline.
    pub(super) fn grace(&mut self, now: Time, wait: Duration) -> Time {
        if !self.graced && self.deadline <= now {
            self.graced = true;
            self.deadline = now + wait;
        }
        self.deadline
    }
}

/// The last rounds that ended without an answer.
#[derive(Debug, Default)]
pub(super) struct Past(VecDeque<Pings>);

impl Past {
    fn keep(&mut self, pings: Pings) {
        if self.0.len() >= PAST_ROUNDS {
            self.0.pop_front();
        }
        self.0.push_back(pings);
    }
}

impl Swim {
    /// Ends the round that is due, or goes on with it, or begins the next.
    pub(super) fn poll_round(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Some(round) = &self.round {
            if round.deadline <= now {
                self.fail_round(now, out);
            } else if round.next_try <= now && round.pings.tries() < TRIES {
                self.try_again(now, out);
            }
        }
        if self.next_round <= now {
            let window = self.health.stretch(self.config.period);
            let window = window.max((self.rtt.expected() * 2).min(WINDOW_MAX));
            self.next_round = now + window;
            self.begin_round(now, window, out);
        }
    }

    /// The target answered this node itself.
    pub(super) fn round_acked(&mut self, now: Time, sender: Actor, seq: u32) -> bool {
        let Some(round) = &self.round else {
            return false;
        };
        let Some(sent) = round.pings.sent_at(sender, seq) else {
            return false;
        };
        self.rtt.sample(now.since(sent));
        self.health.better();
        self.round = None;
        true
    }

    /// It was one of a round that is over: the answer took longer than this
    /// node waited.
    pub(super) fn was_asked(&mut self, now: Time, sender: Actor, seq: u32) -> bool {
        let past = &mut self.past.0;
        let found = past
            .iter()
            .position(|pings| pings.sent_at(sender, seq).is_some());
        let Some(pings) = found.and_then(|at| past.remove(at)) else {
            return false;
        };
        if let Some(sent) = pings.sent_at(sender, seq) {
            self.counters.late_acks += 1;
            self.rtt.sample(now.since(sent));
        }
        true
    }

    /// A relay says that the target answered it.
    pub(super) fn round_relayed(&mut self, relay: Actor, target: NodeId, seq: u32) {
        let heard = self.round.as_ref().is_some_and(|round| {
            round.pings.first == seq
                && round.pings.target.node == target
                && round.asked.contains(&relay.node)
        });
        if heard {
            self.counters.saved_by_relay += 1;
            self.health.better();
            self.round = None;
        }
    }

    /// A relay says that it heard nothing either.
    pub(super) fn round_nacked(&mut self, relay: Actor, seq: u32) {
        if let Some(round) = &mut self.round
            && round.pings.first == seq
            && round.asked.contains(&relay.node)
            && !round.nacked.contains(&relay.node)
        {
            round.nacked.push(relay.node);
        }
    }

    /// How long to wait for an ack before asking again.
    pub(super) fn ack_wait(&self) -> Duration {
        self.rtt
            .timeout(self.config.ping_timeout, self.config.period)
    }

    fn begin_round(&mut self, now: Time, window: Duration, out: &mut Vec<Output>) {
        let Some(target) = self.table.next_target(&mut self.rng) else {
            return;
        };
        let Some(member) = self.table.get(target) else {
            return;
        };
        let (target, addr) = (member.actor, member.addr);
        let first = self.next_seq();
        self.seq = first.wrapping_add(TRIES - 1);
        self.round = Some(Round {
            pings: Pings {
                target,
                first,
                sent: SmallVec::new(),
            },
            addr,
            began: now,
            deadline: now + window,
            next_try: now,
            asked: SmallVec::new(),
            expected: 0,
            nacked: SmallVec::new(),
            graced: false,
        });
        self.try_again(now, out);
    }

    fn try_again(&mut self, now: Time, out: &mut Vec<Output>) {
        let base = self.ack_wait();
        let Some(round) = &mut self.round else {
            return;
        };
        let window = round.deadline.since(round.began);
        let ceiling = base.max(window / TRY_SPACING);
        let tries = round.pings.tries();
        let wait = base.mul_f64(1.5_f64.powi(tries as i32)).min(ceiling);
        round.next_try = now + wait;
        round.pings.sent.push(now);
        let tries = tries + 1;
        let (target, addr) = (round.pings.target.node, round.addr);
        let seq = round.pings.first.wrapping_add(tries - 1);
        // From the third ping on others help, and once more with other helpers
        // when half of the window has gone.
        let first_wave = tries == 3;
        let second_wave = !round.asked.is_empty()
            && now.since(round.began) * 2 >= window
            && round.asked.len() == round.expected;
        let class = if tries == 1 {
            Class::Vital
        } else {
            Class::Retry
        };
        self.ping(class, addr, target, seq, tries > 1, out);
        if first_wave || second_wave {
            self.ask_others(now, out);
        }
    }

    /// Pings a member; false if there is no room for it. A suspect hears the
    /// suspicion first (Lifeguard's buddy system), and a repeated ping
    /// introduces its sender: the target may not know it yet, and would not
    /// answer one that it does not know.
    pub(super) fn ping(
        &mut self,
        class: Class,
        addr: SocketAddr,
        target: NodeId,
        seq: u32,
        introduce: bool,
        out: &mut Vec<Output>,
    ) -> bool {
        let mut first = Vec::new();
        let quiet = self.table.suspicion(target).is_some_and(|s| s.is_quiet());
        if let Some(member) = self.table.get(target) {
            let by = self.me.node;
            let news = match member.state {
                State::Suspect if quiet => None,
                State::Suspect => Some(News::Suspect { by }),
                State::Dead => Some(News::Dead { by }),
                State::Alive | State::Left => None,
            };
            if let Some(news) = news {
                first.push(Rumor {
                    about: member.actor,
                    incarnation: member.incarnation,
                    news,
                });
            }
        }
        if introduce {
            first.push(self.introduction());
        }
        let body = Body::Ping {
            seq,
            to: target,
            digest: self.digest,
            view: self.table.view(),
        };
        let sent = self.send(class, addr, body, first, out);
        self.counters.pings += u64::from(sent);
        sent
    }

    fn ask_others(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(round) = &self.round else {
            return;
        };
        let mut except = round.asked.to_vec();
        except.push(round.pings.target.node);
        let relays = self
            .table
            .pick(self.config.indirect, &except, &mut self.rng);
        let Some(round) = &self.round else {
            return;
        };
        let window_us = round.deadline.since(now).as_micros();
        let body = Body::PingReq {
            seq: round.pings.first,
            target: round.pings.target.node,
            window_us: u32::try_from(window_us).unwrap_or(u32::MAX),
        };
        let first_wave = round.asked.is_empty();
        for relay in relays {
            let Some(addr) = self.table.get(relay).map(|member| member.addr) else {
                continue;
            };
            // Whoever was not asked is not expected to answer.
            if !self.send(Class::Retry, addr, body.clone(), Vec::new(), out) {
                break;
            }
            self.counters.ping_reqs += 1;
            if let Some(round) = &mut self.round {
                round.asked.push(relay);
                round.expected += usize::from(first_wave);
            }
        }
    }

    fn fail_round(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(round) = self.round.take() else {
            return;
        };
        // Lifeguard: relays that are silent even about their failure make this
        // node's own health the likelier cause.
        let silent = round.expected.saturating_sub(round.nacked.len());
        let blame = if round.expected == 0 { 1 } else { silent };
        self.health.worsen(blame as u32);
        self.counters.failed_rounds += 1;
        let target = round.pings.target;
        self.past.keep(round.pings);
        self.accuse(now, target, out);
        if silent * 2 > round.expected {
            self.call_roll(now, out);
        }
    }
}
