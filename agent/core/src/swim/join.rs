//! Joining: a stranger asks, returns the token that it is sent, and is told who
//! is there.
//!
//! Seeds are permanent. A member goes on asking those that are no living
//! members, at a low rate, so that two halves which forgot each other meet
//! again.

use core::net::SocketAddr;
use core::time::Duration;

use watchfire_wire::Time;
use watchfire_wire::message::swim::{ArchivedRumor, Swim as Body};

use super::Swim;
use super::judge::Manner;
use super::limits::{JOIN_SEEDS, JOIN_WAIT_MAX, JOIN_WAIT_MIN, SEEDS};
use super::output::Output;
use crate::budget::Class;
use crate::rng::Rng;

/// Where this node stands with its seeds.
#[derive(Debug)]
pub(super) struct Joining {
    seeds: Vec<SocketAddr>,
    /// Of the last two attempts: an answer may come late.
    nonces: [u64; 2],
    next: Time,
    wait: Duration,
    turn: usize,
    /// The attempt whose token was returned: one seed is enough.
    proved: Option<u64>,
    /// Another holder of the name was asked and did not answer.
    pub(super) asked: bool,
}

impl Joining {
    pub(super) fn new(
        mut seeds: Vec<SocketAddr>,
        me: SocketAddr,
        now: Time,
        rng: &mut Rng,
    ) -> Self {
        seeds.retain(|&seed| seed != me);
        seeds.truncate(SEEDS);
        Self {
            seeds,
            nonces: [rng.u64(), rng.u64()],
            next: now,
            wait: JOIN_WAIT_MIN,
            turn: 0,
            proved: None,
            asked: false,
        }
    }

    /// When the next attempt is due.
    pub(super) const fn next(&self) -> Time {
        self.next
    }

    /// The next attempt is due at once.
    pub(super) fn hurry(&mut self, now: Time) {
        self.next = now;
        self.wait = JOIN_WAIT_MIN;
    }

    fn expects(&self, from: SocketAddr, nonce: u64) -> bool {
        self.nonces.contains(&nonce) && self.seeds.contains(&from)
    }
}

impl Swim {
    /// Asks seeds: a few at a time until admitted, then one at a time of those
    /// that are no living members.
    pub(super) fn poll_join(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.joining.next > now {
            return;
        }
        if self.joining.seeds.is_empty() {
            self.joining.next = Time::NEVER;
            return self.admit_myself(out);
        }
        let asked: Vec<SocketAddr> = if self.admitted {
            self.joining.next = now + self.config.seed_retry;
            self.lost_seed().into_iter().collect()
        } else {
            // Those who start together must not come back together.
            let wait_us = self.joining.wait.as_micros() as usize;
            let spread = self.rng.below(wait_us / 2 + 1) as u64;
            self.joining.next = now + self.joining.wait + Duration::from_micros(spread);
            self.joining.wait = (self.joining.wait * 2).min(JOIN_WAIT_MAX);
            let mut seeds = self.joining.seeds.clone();
            self.rng.shuffle(&mut seeds);
            seeds.truncate(JOIN_SEEDS);
            seeds
        };
        if asked.is_empty() {
            return;
        }
        let nonce = self.rng.u64();
        self.joining.nonces = [nonce, self.joining.nonces[0]];
        for seed in asked {
            self.counters.join_asks += 1;
            // Without rumors: the answer must not be larger than this, and this
            // need not be larger than the answer.
            self.send_bare(Class::Vital, seed, Body::JoinAsk { nonce }, out);
        }
    }

    /// A seed wants this address proved.
    pub(super) fn on_token(
        &mut self,
        from: SocketAddr,
        nonce: u64,
        token: u64,
        out: &mut Vec<Output>,
    ) {
        if !self.joining.expects(from, nonce) {
            self.counters.strangers += 1;
            return;
        }
        if self.joining.proved == Some(nonce) {
            return;
        }
        self.joining.proved = Some(nonce);
        let body = Body::Join {
            nonce,
            token,
            asked: self.joining.asked,
        };
        out.push(Output::Send {
            class: Class::Vital,
            to: from,
            body,
            rumors: vec![self.introduction()],
        });
    }

    /// A seed lets this node in, or says why not yet: a floor that it must
    /// rise above, or another holder of its name.
    pub(super) fn on_welcome(
        &mut self,
        now: Time,
        from: SocketAddr,
        nonce: u64,
        epoch_floor: u64,
        rumors: &[ArchivedRumor],
        out: &mut Vec<Output>,
    ) {
        if !self.joining.expects(from, nonce) {
            self.counters.strangers += 1;
            return;
        }
        self.judge_all(now, Some(from), rumors, Manner::Record, out);
        if epoch_floor >= self.me.epoch && epoch_floor < self.epoch_max {
            self.need_epoch(epoch_floor, out);
        }
        let below = self.epoch_asked > self.me.epoch;
        if !below && self.inquiry.is_none() {
            self.admit_myself(out);
        }
    }

    fn admit_myself(&mut self, out: &mut Vec<Output>) {
        if self.admitted {
            return;
        }
        self.admitted = true;
        self.joining.asked = false;
        self.announce(self.introduction());
        out.push(Output::Admitted);
    }

    /// The next seed, in turn, at whose address no living member is.
    fn lost_seed(&mut self) -> Option<SocketAddr> {
        let seeds = &self.joining.seeds;
        let (before, after) = seeds.split_at(self.joining.turn % seeds.len());
        let lost = |seed: &&SocketAddr| {
            let mut living = self.table.all().filter(|member| member.state.is_living());
            !living.any(|member| member.addr == **seed)
        };
        let seed = after.iter().chain(before).find(lost).copied();
        self.joining.turn = self.joining.turn.wrapping_add(1);
        seed
    }
}
