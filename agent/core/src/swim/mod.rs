//! Membership: who is in the POP, and who lives.
//!
//! SWIM with Lifeguard's refinements, pushed rumors, epochs and proved joins.
//! It knows nothing of checks and verdicts; it never opens a socket, reads a
//! clock or blocks. Whoever drives it passes the time and carries out the
//! [`Output`]s.
//!
//! Sources: Das, Gupta, Motivala, "SWIM" (2002); Dadgar, Phillips, Currey,
//! "Lifeguard" (2018).

mod admit;
mod arrival;
mod config;
mod counters;
mod detector;
mod ears;
mod gossip;
mod health;
mod join;
mod judge;
mod leave;
pub mod limits;
mod member;
mod name;
mod output;
mod push;
mod relay;
mod rollcall;
mod suspicion;
mod sync;
mod table;
#[cfg(test)]
mod tests;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use watchfire_wire::message::PACKET_BYTES;
use watchfire_wire::message::swim::{
    ArchivedRumor, ArchivedSwim, Profile, Rumor, Swim as Body, rumor_bytes,
};
use watchfire_wire::{Actor, NodeId, Time};

pub use self::config::SwimConfig;
pub use self::counters::SwimCounters;
pub use self::member::{Member, State};
pub use self::output::Output;
use crate::budget::{Class, Spare};
use crate::mutations::Mutation;
use crate::rng::Rng;
use crate::rtt::RoundTrip;

/// The membership of one node.
#[derive(Debug)]
pub struct Swim {
    config: SwimConfig,
    me: Actor,
    incarnation: u32,
    profile: Profile,
    rng: Rng,
    table: table::Table,
    gossip: gossip::Gossip,
    push: push::Push,
    health: health::Health,
    rtt: RoundTrip,
    ears: ears::Ears,
    round: Option<detector::Round>,
    past: detector::Past,
    next_round: Time,
    relays: Vec<relay::Relay>,
    roll_call: Option<rollcall::RollCall>,
    next_roll_call: Time,
    roll_seq: u32,
    next_recall: Time,
    recall_seq: u32,
    joining: join::Joining,
    admitted: bool,
    token_key: [u8; 32],
    inquiry: Option<name::Inquiry>,
    next_inquiry: Time,
    epoch_asked: u64,
    leaving: Option<leave::Leaving>,
    /// It has left or stood down, and says and hears nothing any more.
    silent: bool,
    next_retry: Time,
    next_view: Time,
    next_sweep: Time,
    digest: u64,
    /// The wall clock at monotonic zero, and whether something keeps it right.
    wall: (u64, bool),
    /// What may be sent at this moment.
    spare: Spare,
    /// This node is late itself, says whoever drives it: 0 is on time.
    late: u32,
    /// Greatest epoch that is plausible now.
    epoch_max: u64,
    /// Who is not to be a member, whatever is said.
    barred: BTreeSet<NodeId>,
    seq: u32,
    due: Time,
    /// When the last packet of a living member came.
    heard: Time,
    /// The last silence of a few periods that ended, and when it did.
    deafness: Option<(Time, Duration)>,
    counters: SwimCounters,
}

impl Swim {
    /// The membership of a node that starts now and knows only its seeds. The
    /// profile's address is the one that others reach it at. The first
    /// [`tick`](Self::tick) is due at once.
    #[must_use]
    pub fn new(
        config: SwimConfig,
        me: Actor,
        profile: Profile,
        seeds: Vec<SocketAddr>,
        now: Time,
        mut rng: Rng,
    ) -> Self {
        // Rounds of different nodes must not fall together.
        let phase_us = rng.below(config.period.as_micros() as usize);
        Self {
            me,
            incarnation: 0,
            table: table::Table::new(me, 0),
            gossip: gossip::Gossip::default(),
            push: push::Push::new(now),
            health: health::Health::default(),
            rtt: RoundTrip::default(),
            ears: ears::Ears::default(),
            round: None,
            past: detector::Past::default(),
            next_round: now + core::time::Duration::from_micros(phase_us as u64),
            relays: Vec::new(),
            roll_call: None,
            next_roll_call: now,
            roll_seq: 0,
            next_recall: now,
            recall_seq: 0,
            joining: join::Joining::new(seeds, profile.addr, now, &mut rng),
            admitted: false,
            token_key: rng.bytes(),
            inquiry: None,
            next_inquiry: now,
            epoch_asked: 0,
            leaving: None,
            silent: false,
            next_retry: now + config.dead_retry,
            next_view: now,
            next_sweep: now + limits::SWEEP,
            digest: 0,
            wall: (0, false),
            spare: Spare::FULL,
            late: 0,
            epoch_max: limits::EPOCH_MAX,
            barred: BTreeSet::new(),
            seq: rng.u32(),
            due: now,
            heard: now,
            deafness: None,
            counters: SwimCounters::default(),
            config,
            profile,
            rng,
        }
    }

    /// A packet with a membership body arrived. Its rumors are heard here too,
    /// where the body allows it; do not pass them to [`hear`](Self::hear).
    pub fn handle(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Actor,
        body: &ArchivedSwim,
        rumors: &[ArchivedRumor],
        out: &mut Vec<Output>,
    ) {
        self.wake(now);
        if self.silent || sender == self.me {
            return;
        }
        self.listen(now, self.home(sender, from), sender, out);
        self.take_in(now, from, sender, body, rumors, out);
        self.flush(now, out);
        self.due = self.next_timeout().max(now);
    }

    /// Rumors arrived on a packet of another kind.
    pub fn hear(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Actor,
        rumors: &[ArchivedRumor],
        out: &mut Vec<Output>,
    ) {
        self.wake(now);
        if self.silent || sender == self.me {
            return;
        }
        let home = self.home(sender, from);
        self.listen(now, home, sender, out);
        self.judge_all(now, home, rumors, judge::Manner::News, out);
        self.flush(now, out);
        self.due = self.next_timeout().max(now);
    }

    /// The time that [`next_timeout`](Self::next_timeout) named has come. An
    /// early or late call does no harm.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        self.wake(now);
        if self.silent {
            return;
        }
        self.poll_leaving(now, out);
        self.poll_round(now, out);
        self.poll_roll_call(now, out);
        self.poll_recall(now, out);
        // After the round, for it may have confirmed a suspicion.
        self.poll_suspicions(now, out);
        self.poll_relays(now, out);
        self.poll_inquiry(now, out);
        self.poll_join(now, out);
        self.poll_dead(now, out);
        self.poll_ears(now, out);
        if self.next_sweep <= now {
            self.next_sweep = now + limits::SWEEP;
            let (dead, left) = (self.config.dead_memory, self.config.left_memory);
            self.table.sweep(now, |state| match state {
                State::Left => left,
                State::Alive | State::Suspect | State::Dead => dead,
            });
        }
        self.flush(now, out);
        self.due = self.next_timeout().max(now);
    }

    /// When to call [`tick`](Self::tick) next.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        if self.silent {
            return Time::NEVER;
        }
        let relays = self.relays.iter().map(relay::Relay::next).min();
        [
            self.next_round,
            self.next_retry,
            self.next_sweep,
            self.joining.next(),
            self.push.next(),
            self.table.next_deadline(),
            self.round
                .as_ref()
                .map_or(Time::NEVER, detector::Round::next),
            self.inquiry
                .as_ref()
                .map_or(Time::NEVER, name::Inquiry::next),
            self.leaving
                .as_ref()
                .map_or(Time::NEVER, leave::Leaving::next),
            relays.unwrap_or(Time::NEVER),
            self.next_call(),
            self.next_ear_test(),
        ]
        .into_iter()
        .min()
        .unwrap_or(Time::NEVER)
    }

    /// All members that are remembered, this node not among them, in the order
    /// of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.table.all()
    }

    /// What is remembered of this node.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.table.get(node)
    }

    /// Living members, this node not among them.
    #[must_use]
    pub const fn living(&self) -> usize {
        self.table.living()
    }

    /// The sender is a living member, in its present life.
    #[must_use]
    pub fn is_living(&self, actor: Actor) -> bool {
        self.table
            .get(actor.node)
            .is_some_and(|member| member.actor == actor && member.state.is_living())
    }

    /// This node has been admitted, or is alone because it has no seeds.
    #[must_use]
    pub const fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// This node, in its present life.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        self.me
    }

    /// This node's own incarnation.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// What this node says of itself.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// A digest of who lives, this node among them: equal for nodes that know
    /// the same members at the same incarnations.
    #[must_use]
    pub fn view(&self) -> u64 {
        self.table.view()
    }

    /// Lifeguard's local health score: 0 is well, greater is slower.
    #[must_use]
    pub const fn health(&self) -> u32 {
        self.health.score()
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> &SwimCounters {
        &self.counters
    }

    /// The protocol version to speak: the newest that every living member
    /// understands, as far as this node understands it too.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        let living = self.table.all().filter(|member| member.state.is_living());
        let newest = living.map(|member| member.profile.protocol_max).min();
        newest
            .unwrap_or(u8::MAX)
            .clamp(self.profile.protocol_min, self.profile.protocol_max)
    }

    /// Rumors to ride on a packet that goes out, of at most this many bytes.
    /// Each counts as told.
    #[must_use]
    pub fn ride(&mut self, budget_bytes: usize) -> Vec<Rumor> {
        let mut rumors = Vec::new();
        self.gossip.ride(budget_bytes, self.tellings(), &mut rumors);
        rumors
    }

    /// What may be sent from now on, until this is said again.
    pub const fn set_spare(&mut self, spare: Spare) {
        self.spare = spare;
    }

    /// Whether this node is late with its own work, 0 being on time: then it
    /// calls no roll, and its suspicions last longer.
    pub const fn set_late(&mut self, late: u32) {
        self.late = late;
    }

    /// Rumors of a greater epoch are refused, until this is said again.
    pub fn set_epoch_max(&mut self, epoch_max: u64) {
        self.epoch_max = epoch_max.min(limits::EPOCH_MAX);
    }

    /// This node is no member from now on, whatever is said of it; nothing is
    /// remembered of it, its floor neither. To the node's other parts it has left.
    pub fn bar(&mut self, node: NodeId, out: &mut Vec<Output>) {
        self.barred.insert(node);
        let member = self.table.erase(node);
        if let Some(member) = member.filter(|member| member.state.is_living()) {
            out.push(Output::Left(member.actor));
        }
    }

    /// It may be one again, if it comes.
    pub fn unbar(&mut self, node: NodeId) {
        self.barred.remove(&node);
    }

    /// This node was late with its own work for a while.
    pub(crate) fn worsen(&mut self) {
        self.health.worsen(1);
    }

    /// This server's wall clock, for acks from now on.
    pub const fn set_wall(&mut self, at_zero_ms: u64, synchronised: bool) {
        self.wall = (at_zero_ms, synchronised);
    }

    /// The digest of the replicated state, for pings and acks from now on.
    pub const fn set_digest(&mut self, digest: u64) {
        self.digest = digest;
    }

    /// Says something new of this node: a new incarnation, pushed at once.
    /// What it already says changes nothing.
    pub fn set_profile(&mut self, now: Time, profile: Profile, out: &mut Vec<Output>) {
        if self.profile == profile {
            return;
        }
        self.wake(now);
        let urgent = !profile.differs_in_checks_only(&self.profile);
        self.profile = profile;
        self.raise(self.incarnation, urgent, out);
        self.flush(now, out);
        self.due = self.next_timeout().max(now);
    }

    /// This node takes a greater epoch: another life to all others. One that is
    /// not greater changes nothing.
    pub fn take_epoch(&mut self, now: Time, epoch: u64, out: &mut Vec<Output>) {
        if epoch <= self.me.epoch {
            return;
        }
        self.wake(now);
        let old = (self.me, self.incarnation);
        self.me.epoch = epoch;
        self.incarnation = 0;
        self.table.renew_me(old, (self.me, 0));
        if self.admitted {
            self.announce(self.introduction());
            self.flush(now, out);
        } else {
            self.joining.hurry(now);
        }
        self.due = self.next_timeout().max(now);
    }

    /// Says goodbye; ends with [`Output::Departed`], after which this node is
    /// silent.
    pub fn leave(&mut self, now: Time, out: &mut Vec<Output>) {
        self.wake(now);
        if self.leaving.is_none() {
            self.leaving = Some(leave::Leaving::new(now));
            self.poll_leaving(now, out);
        }
        self.due = self.next_timeout().max(now);
    }

    /// Looks at the time that has passed since this node should have been
    /// called. What ran out while it could not listen proves nothing.
    fn wake(&mut self, now: Time) {
        let late = now.since(self.due);
        if late < limits::LATE || self.trusts_blindly() {
            return;
        }
        if late < self.config.period {
            let wait = self.config.period / 4;
            self.table.suspicions().for_each(|s| s.grace(now, wait));
            if let Some(round) = &mut self.round {
                self.next_round = self.next_round.max(round.grace(now, wait));
            }
        } else {
            self.counters.stalls += 1;
            self.health.worsen(1);
            self.table.suspicions().for_each(|s| s.restart(now));
            self.round = None;
            self.next_round = now + self.config.period;
            self.relays.clear();
            self.drop_roll_call(now, self.config.period);
        }
        self.due = now;
    }

    /// A packet came. If nobody was heard for long, what ran out meanwhile
    /// proves nothing, as after a stall: the answers may be right behind it.
    /// From elsewhere than the sender's own address it may be a replay.
    fn listen(
        &mut self,
        now: Time,
        home: Option<SocketAddr>,
        sender: Actor,
        out: &mut Vec<Output>,
    ) {
        if home.is_none() || !self.is_living(sender) {
            return;
        }
        let silence = now.since(self.heard);
        self.heard = now;
        self.ears.heard(sender);
        let was_deaf = silence >= self.config.period * limits::DEAF_PERIODS;
        if was_deaf && self.table.living() > 1 && !self.trusts_blindly() {
            self.table.suspicions().for_each(|s| s.hear_again(now));
            self.deafness = Some((now, silence));
            // It was this node that could not hear.
            for quiet in self.table.quietly_suspected() {
                self.lift(now, quiet, out);
            }
        }
    }

    /// Nobody was heard for a few periods: the fault is the more likely here.
    fn is_deaf(&self, now: Time) -> bool {
        let deaf = self.config.period * limits::DEAF_PERIODS;
        now.since(self.heard) >= deaf && self.silence(now) >= deaf && !self.trusts_blindly()
    }

    /// For how long no member was heard, or had not been until a moment ago, while
    /// that is more likely to be this node's trouble than theirs; zero where it is not: in a POP of two, and
    /// after [`DEAF_MAX`](limits::DEAF_MAX), when they must all be gone.
    #[must_use]
    pub fn silence(&self, now: Time) -> Duration {
        let silence = now.since(self.heard);
        if self.table.living() <= 1 || silence >= limits::DEAF_MAX {
            return Duration::ZERO;
        }
        match self.deafness {
            Some((ended, before)) if now.since(ended) < limits::DEAF_ECHO => silence.max(before),
            _ => silence,
        }
    }

    /// The seeded bug that takes every timeout at its word.
    const fn trusts_blindly(&self) -> bool {
        self.config.mutations.on(Mutation::SuspicionAfterStall)
    }

    /// Sends a body with these rumors first, and others as far as they fit;
    /// false, and nothing was told, if there is no room for one of that class.
    fn send(
        &mut self,
        class: Class,
        to: SocketAddr,
        body: Body,
        mut rumors: Vec<Rumor>,
        out: &mut Vec<Output>,
    ) -> bool {
        if !self.spare.take(class) {
            self.counters.withheld += 1;
            return false;
        }
        let room = self.config.datagram_bytes.saturating_sub(PACKET_BYTES);
        let taken: usize = rumors.iter().map(rumor_bytes).sum();
        let left = room.saturating_sub(taken);
        self.gossip.ride(left, self.tellings(), &mut rumors);
        out.push(Output::Send {
            class,
            to,
            body,
            rumors,
        });
        true
    }

    /// Sends a body and nothing else.
    fn send_bare(&mut self, class: Class, to: SocketAddr, body: Body, out: &mut Vec<Output>) {
        if !self.spare.take(class) {
            self.counters.withheld += 1;
            return;
        }
        out.push(Output::Send {
            class,
            to,
            body,
            rumors: Vec::new(),
        });
    }

    /// How many times a rumor is told.
    fn tellings(&self) -> u32 {
        let members = self.table.living() + 2;
        let scale = (members as f64).log10().ceil().max(1.0) as u32;
        self.config.retransmit_mult * scale
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }
}
