//! Membership: who is in the POP, and who lives.
//!
//! SWIM with Lifeguard's refinements, pushed rumors, epochs and proved joins.
//! It knows nothing of checks and verdicts; it never opens a socket, reads a
//! clock or blocks. Whoever drives it passes the time and carries out the
//! [`Output`]s.

mod config;
mod member;
mod output;

use core::net::SocketAddr;
use std::collections::BTreeMap;

use watchfire_wire::message::swim::{ArchivedRumor, ArchivedSwim, Profile, Rumor};
use watchfire_wire::{Actor, NodeId, Time};

pub use self::config::SwimConfig;
pub use self::member::{Member, State};
pub use self::output::Output;
use crate::rng::Rng;

/// The membership of one node.
#[derive(Debug)]
pub struct Swim {
    config: SwimConfig,
    me: Actor,
    profile: Profile,
    seeds: Vec<SocketAddr>,
    members: BTreeMap<NodeId, Member>,
    rng: Rng,
    now: Time,
    digest: u64,
    admitted: bool,
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
        rng: Rng,
    ) -> Self {
        Self {
            config,
            me,
            profile,
            seeds,
            members: BTreeMap::new(),
            rng,
            now,
            digest: 0,
            admitted: false,
        }
    }

    /// A packet with a membership body arrived. Its rumors are heard here too,
    /// where the body allows it.
    pub fn handle(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Actor,
        body: &ArchivedSwim,
        rumors: &[ArchivedRumor],
        out: &mut Vec<Output>,
    ) {
        let _ = (from, sender, body, rumors, out, &self.seeds, &mut self.rng);
        self.now = now;
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
        let _ = (from, sender, rumors, out);
        self.now = now;
    }

    /// The time that [`next_timeout`](Self::next_timeout) named has come.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        let _ = out;
        self.now = now;
    }

    /// When to call [`tick`](Self::tick) next.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        self.now + self.config.period
    }

    /// All members that are remembered, this node not among them.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// What is remembered of this node.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// The sender is a living member, in its present life.
    #[must_use]
    pub fn is_living(&self, actor: Actor) -> bool {
        self.members
            .get(&actor.node)
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

    /// What this node says of itself.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Rumors to ride on a packet that goes out, of at most this many bytes.
    /// Each counts as told.
    #[must_use]
    pub fn ride(&mut self, budget_bytes: usize) -> Vec<Rumor> {
        let _ = budget_bytes;
        Vec::new()
    }

    /// The digest of the replicated state, for pings and acks from now on.
    pub const fn set_digest(&mut self, digest: u64) {
        self.digest = digest;
    }

    /// Says something new of this node: a new incarnation, pushed at once.
    pub fn set_profile(&mut self, now: Time, profile: Profile, out: &mut Vec<Output>) {
        let _ = out;
        self.now = now;
        self.profile = profile;
    }

    /// This node takes a greater epoch: another life to all others.
    pub fn take_epoch(&mut self, now: Time, epoch: u64, out: &mut Vec<Output>) {
        let _ = out;
        self.now = now;
        self.me.epoch = epoch;
    }

    /// Says goodbye; ends with [`Output::Departed`].
    pub fn leave(&mut self, now: Time, out: &mut Vec<Output>) {
        self.now = now;
        out.push(Output::Departed);
    }
}
