//! Admitting others: the other side of a join.
//!
//! Nothing is kept for a stranger. Its token is a keyed hash of its address,
//! its nonce and the time, and the answer is no larger than the question, so
//! neither memory nor a third party's line can be filled with joins.

use core::net::{IpAddr, SocketAddr};

use watchfire_wire::limits::MEMBERS;
use watchfire_wire::message::PACKET_BYTES;
use watchfire_wire::message::swim::{
    ArchivedNews, ArchivedRumor, News, Rumor, Swim as Body, rumor_bytes,
};
use watchfire_wire::{Actor, Time};

use super::Swim;
use super::judge::Manner;
use super::limits::{TOKEN_WINDOW, WELCOME_DATAGRAMS, WELCOME_SHARE};
use super::member::Member;
use super::output::Output;
use crate::budget::Class;

/// The proof of an address, as it came back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    pub(super) nonce: u64,
    pub(super) token: u64,
    /// The joiner has asked another holder of its name, and got no answer.
    pub(super) asked: bool,
}

impl Swim {
    /// A stranger asks to join: it gets a token at the address it spoke from.
    pub(super) fn on_join_ask(
        &mut self,
        now: Time,
        from: SocketAddr,
        nonce: u64,
        out: &mut Vec<Output>,
    ) {
        let token = self.token(from, nonce, window(now));
        self.send_bare(Class::Vital, from, Body::JoinToken { nonce, token }, out);
    }

    /// A stranger has proved its address, and introduces itself.
    pub(super) fn on_join(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Actor,
        proof: Proof,
        rumors: &[ArchivedRumor],
        out: &mut Vec<Output>,
    ) {
        let window = window(now);
        let good = [window, window.saturating_sub(1)]
            .into_iter()
            .any(|window| self.token(from, proof.nonce, window) == proof.token);
        let introduction = rumors
            .iter()
            .find(|rumor| Actor::from(&rumor.about) == sender);
        let (true, Some(introduction)) = (good, introduction) else {
            self.counters.bad_joins += 1;
            return;
        };
        let ArchivedNews::Alive(profile) = &introduction.news else {
            self.counters.bad_joins += 1;
            return;
        };
        let addr = SocketAddr::from(&profile.addr);
        let mut welcome = Welcome {
            to: from,
            nonce: proof.nonce,
            epoch_floor: 0,
        };
        if sender.node == self.me.node {
            welcome.epoch_floor = self.me.epoch;
            let holder = self.introduction();
            return self.refuse(welcome, vec![holder], out);
        }
        if let Some(member) = self.table.get(sender.node)
            && member.actor != sender
        {
            if member.state.is_living() && member.addr != addr && !proof.asked {
                let holder = alive(member);
                return self.refuse(welcome, vec![holder], out);
            }
            welcome.epoch_floor = member.actor.epoch;
        }
        let floor = self.table.floor(sender.node);
        welcome.epoch_floor = welcome.epoch_floor.max(floor.saturating_sub(1));
        if welcome.epoch_floor > 0 && sender.epoch <= welcome.epoch_floor {
            return self.refuse(welcome, Vec::new(), out);
        }
        welcome.epoch_floor = 0;
        let crowded = self.table.living() + 1 >= MEMBERS;
        if crowded && !self.is_living(sender) {
            self.counters.crowded += 1;
            return;
        }
        let introduction = core::slice::from_ref(introduction);
        self.judge_all(now, None, introduction, Manner::News, out);
        self.counters.admitted += 1;
        self.welcome(welcome, out);
    }

    /// Says who is there, in as many datagrams as it takes. What there is no room
    /// for is found by comparing views.
    fn welcome(&mut self, welcome: Welcome, out: &mut Vec<Output>) {
        let living = self.table.all().filter(|member| member.state.is_living());
        let mut rumors: Vec<Rumor> = living
            .filter(|member| member.addr != welcome.to)
            .map(alive)
            .collect();
        self.rng.shuffle(&mut rumors);
        rumors.insert(0, self.introduction());
        let room = self.config.datagram_bytes.saturating_sub(PACKET_BYTES);
        let share = self.spare.count(Class::Vital) / WELCOME_SHARE;
        let most = share.clamp(1, WELCOME_DATAGRAMS);
        for rumors in pack(rumors, room).into_iter().take(most) {
            self.spare.spend();
            out.push(welcome.output(rumors));
        }
    }

    fn refuse(&mut self, welcome: Welcome, rumors: Vec<Rumor>, out: &mut Vec<Output>) {
        self.counters.joins_deferred += 1;
        out.push(welcome.output(rumors));
    }

    fn token(&self, from: SocketAddr, nonce: u64, window: u64) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.token_key);
        match from.ip() {
            IpAddr::V4(ip) => hasher.update(&ip.octets()),
            IpAddr::V6(ip) => hasher.update(&ip.octets()),
        };
        hasher.update(&from.port().to_le_bytes());
        hasher.update(&nonce.to_le_bytes());
        hasher.update(&window.to_le_bytes());
        let hash = hasher.finalize();
        let mut token = [0; 8];
        token.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(token)
    }
}

/// An answer to a join.
struct Welcome {
    to: SocketAddr,
    nonce: u64,
    epoch_floor: u64,
}

impl Welcome {
    fn output(&self, rumors: Vec<Rumor>) -> Output {
        Output::Send {
            class: Class::Vital,
            to: self.to,
            body: Body::Welcome {
                nonce: self.nonce,
                epoch_floor: self.epoch_floor,
            },
            rumors,
        }
    }
}

/// The member as a rumor of its life.
pub(super) fn alive(member: &Member) -> Rumor {
    Rumor {
        about: member.actor,
        incarnation: member.incarnation,
        news: News::Alive(member.profile.clone()),
    }
}

/// Rumors in datagrams of at most `room` bytes each.
pub(super) fn pack(rumors: Vec<Rumor>, room: usize) -> Vec<Vec<Rumor>> {
    let mut datagrams = vec![Vec::new()];
    let mut left = room;
    for rumor in rumors {
        let bytes = rumor_bytes(&rumor);
        if bytes > left {
            datagrams.push(Vec::new());
            left = room;
        }
        left = left.saturating_sub(bytes);
        if let Some(last) = datagrams.last_mut() {
            last.push(rumor);
        }
    }
    datagrams
}

fn window(now: Time) -> u64 {
    now.as_micros() / TOKEN_WINDOW.as_micros() as u64
}
