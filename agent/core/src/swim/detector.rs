//! The failure detector's round: one member is pinged, directly and through
//! others, until it answers or the period ends.
//!
//! A lost datagram is no suspicion: the direct ping is repeated all through
//! the period, beside two waves of indirect ones.

use core::net::SocketAddr;
use core::time::Duration;

use smallvec::SmallVec;
use watchfire_wire::message::swim::{News, Rumor, Swim as Body};
use watchfire_wire::{Actor, NodeId, Time};

use super::limits::{TRIES, TRY_SPACING};
use super::output::Output;
use super::{State, Swim};

/// A round that is under way or has succeeded.
#[derive(Debug)]
pub(super) struct Round {
    target: Actor,
    addr: SocketAddr,
    seq: u32,
    began: Time,
    deadline: Time,
    tries: u32,
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
        if self.tries < TRIES {
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

impl Swim {
    /// Ends the round that is due, or goes on with it, or begins the next.
    pub(super) fn poll_round(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Some(round) = &self.round {
            if round.deadline <= now {
                self.fail_round(now, out);
            } else if round.next_try <= now && round.tries < TRIES {
                self.try_again(now, out);
            }
        }
        if self.next_round <= now {
            let window = self.health.stretch(self.config.period);
            self.next_round = now + window;
            self.begin_round(now, window, out);
        }
    }

    /// The target answered this node itself.
    pub(super) fn round_acked(&mut self, now: Time, sender: Actor, seq: u32) -> bool {
        let Some(round) = &self.round else {
            return false;
        };
        if round.seq != seq || round.target != sender {
            return false;
        }
        if round.tries == 1 {
            self.rtt.sample(now.since(round.began));
        }
        self.health.better();
        self.round = None;
        true
    }

    /// A relay says that the target answered it.
    pub(super) fn round_relayed(&mut self, relay: Actor, target: NodeId, seq: u32) {
        let heard = self.round.as_ref().is_some_and(|round| {
            round.seq == seq && round.target.node == target && round.asked.contains(&relay.node)
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
            && round.seq == seq
            && round.asked.contains(&relay.node)
            && !round.nacked.contains(&relay.node)
        {
            round.nacked.push(relay.node);
        }
    }

    fn begin_round(&mut self, now: Time, window: Duration, out: &mut Vec<Output>) {
        let Some(target) = self.table.next_target(&mut self.rng) else {
            return;
        };
        let Some(member) = self.table.get(target) else {
            return;
        };
        self.round = Some(Round {
            target: member.actor,
            addr: member.addr,
            seq: self.next_seq(),
            began: now,
            deadline: now + window,
            tries: 0,
            next_try: now,
            asked: SmallVec::new(),
            expected: 0,
            nacked: SmallVec::new(),
            graced: false,
        });
        self.try_again(now, out);
    }

    fn try_again(&mut self, now: Time, out: &mut Vec<Output>) {
        let base = self.rtt.timeout(self.config.ping_timeout);
        let Some(round) = &mut self.round else {
            return;
        };
        let window = round.deadline.since(round.began);
        let ceiling = base.max(window / TRY_SPACING);
        let wait = base.mul_f64(1.5_f64.powi(round.tries as i32)).min(ceiling);
        round.tries += 1;
        round.next_try = now + wait;
        let (target, addr, seq, tries) = (round.target.node, round.addr, round.seq, round.tries);
        // From the third ping on others help, and once more with other helpers
        // when half of the window has gone.
        let first_wave = tries == 3;
        let second_wave = !round.asked.is_empty()
            && now.since(round.began) * 2 >= window
            && round.asked.len() == round.expected;
        self.ping(addr, target, seq, tries > 1, out);
        if first_wave || second_wave {
            self.ask_others(now, out);
        }
    }

    /// Pings a member. A suspect hears the suspicion first (Lifeguard's buddy
    /// system), and a repeated ping introduces its sender: the target may not
    /// know it yet, and would not answer a stranger.
    pub(super) fn ping(
        &mut self,
        addr: SocketAddr,
        target: NodeId,
        seq: u32,
        introduce: bool,
        out: &mut Vec<Output>,
    ) {
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
        self.counters.pings += 1;
        let body = Body::Ping {
            seq,
            to: target,
            digest: self.digest,
            view: self.table.view(),
        };
        self.send(addr, body, first, out);
    }

    fn ask_others(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(round) = &self.round else {
            return;
        };
        let mut except = round.asked.to_vec();
        except.push(round.target.node);
        let relays = self
            .table
            .pick(self.config.indirect, &except, &mut self.rng);
        let Some(round) = &mut self.round else {
            return;
        };
        if round.expected == 0 {
            round.expected = relays.len();
        }
        round.asked.extend(relays.iter().copied());
        let window_us = round.deadline.since(now).as_micros();
        let body = Body::PingReq {
            seq: round.seq,
            target: round.target.node,
            window_us: u32::try_from(window_us).unwrap_or(u32::MAX),
        };
        for relay in relays {
            if let Some(member) = self.table.get(relay) {
                let addr = member.addr;
                self.counters.ping_reqs += 1;
                self.send(addr, body.clone(), Vec::new(), out);
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
        self.accuse(now, round.target, out);
        if silent * 2 > round.expected {
            self.call_roll(now, out);
        }
    }
}
