//! The production host, as the simulator starts it and looks into it. The only
//! file that knows how one is made.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

use watchfire_core::gate::Keys;
use watchfire_core::io::Input;
pub use watchfire_core::mutations::Mutation;
use watchfire_core::mutations::Mutations;
use watchfire_core::node::{Node, NodeConfig};
use watchfire_core::overrides::{Decided, Decision, Kept, Refused, Request};
use watchfire_core::swim::State;
use watchfire_host::{Effect, Host, OriginChange};
use watchfire_probe_core::engine::Report;
use watchfire_table::{Entry, HeapHome, HeapReader, Writer, WriterOptions};
use watchfire_wire::keys::{Key, KeyId, KeyRing};
use watchfire_wire::message::replica::Hold;
use watchfire_wire::{Actor, CheckId, NodeId, Time, Unmeasured};

use crate::prober::SmallHasher;

/// What a process knows when it starts.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Its configured name.
    pub name: String,
    /// Where others reach it.
    pub addr: SocketAddr,
    /// 64 random bits of this start.
    pub boot: u64,
    /// The epoch on its disk; 0 if there is none.
    pub persisted_epoch: u64,
    /// The decisions of operators on its disk.
    pub overrides: Kept,
    /// The wall clock at monotonic zero, milliseconds since 1970.
    pub wall_at_zero_ms: u64,
    /// Where to join.
    pub seeds: Vec<SocketAddr>,
    /// Its table: what an earlier process left there is adopted.
    pub table: HeapHome,
    /// Names to make room for in it.
    pub names: usize,
    /// Seed of its own randomness.
    pub rng_seed: [u8; 32],
    /// Seal frames with a real key.
    pub sealed: bool,
    /// The highest protocol version that it understands.
    pub protocol_max: u8,
    /// Words on checks that nobody configures that it takes of one name; as many
    /// as ever unless said.
    pub foreign_least: Option<usize>,
    /// A bug to be found.
    pub mutation: Option<Mutation>,
    /// It holds Downs back when much fails at once.
    pub brake: bool,
}

/// The keys of all agents.
#[must_use]
pub fn keys(sealed: bool) -> Keys {
    if !sealed {
        return Keys::Insecure;
    }
    let ring = KeyRing::of(KeyId(1), Key::from_bytes(&[7; 32]));
    Keys::Sealed(ring.expect("1 is a key's id"))
}

/// A running agent: the production host, with its table on the heap.
#[derive(Debug)]
pub struct Agent {
    host: Host<HeapHome>,
    table: HeapHome,
}

impl Agent {
    /// A process starts.
    #[must_use]
    pub fn start(boot: &Boot, now: Time) -> Self {
        let mut config = NodeConfig::new(boot.name.clone(), boot.addr);
        config.boot = boot.boot;
        config.persisted_epoch = boot.persisted_epoch;
        config.overrides = boot.overrides.clone();
        config.wall_at_zero_ms = boot.wall_at_zero_ms;
        config.seeds.clone_from(&boot.seeds);
        config.rng_seed = boot.rng_seed;
        config.protocol.1 = boot.protocol_max;
        config.ownership.brake.enabled = boot.brake;
        config.mutations = boot.mutation.map_or(Mutations::NONE, Mutations::only);
        config.keys = keys(boot.sealed);
        if let Some(least) = boot.foreign_least {
            config.replica.foreign_least = least;
        }
        let node = Node::new(config, now);
        let table = boot.table.clone();
        let options = WriterOptions {
            capacity: boot.names.max(1),
            ..WriterOptions::new(node.actor(), &boot.name)
        };
        let writer = Writer::open_in(table.clone(), &options, now.0.saturating_mul(1_000))
            .expect("the heap has room for a table");
        Self {
            host: Host::new(node, &boot.name, writer, boot.wall_at_zero_ms),
            table,
        }
    }

    /// See [`Host::handle`].
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        self.host.handle(now, input);
    }

    /// See [`Host::report`].
    pub fn report(&mut self, now: Time, report: Report) {
        self.host.report(now, report);
    }

    /// See [`Host::configure`].
    pub fn configure(&mut self, now: Time, change: &OriginChange) {
        self.host.configure(now, change);
    }

    /// See [`Host::decide`].
    ///
    /// # Errors
    /// What cannot be decided.
    pub fn decide(&mut self, now: Time, request: Request) -> Result<Decided, Refused> {
        self.host.decide(now, request)
    }

    /// See [`Host::override_of`].
    #[must_use]
    pub fn override_of(&self, name: &str) -> Option<&Arc<Decision>> {
        self.host.override_of(name)
    }

    /// See [`Host::prober_healthy`].
    pub fn prober_healthy(&mut self, now: Time, healthy: bool) -> bool {
        self.host.prober_healthy(now, healthy)
    }

    /// See [`Host::heartbeat`].
    pub fn heartbeat(&mut self, now: Time) {
        self.host.heartbeat(now.0.saturating_mul(1_000));
    }

    /// See [`Host::poll_effect`].
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.host.poll_effect()
    }

    /// See [`Host::next_timeout`].
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        self.host.next_timeout()
    }

    /// What its table says of an origin, as a reader finds it.
    #[must_use]
    pub fn shown(&self, name: &str, now: Time) -> Option<Entry> {
        let mut reader = HeapReader::open(&self.table).ok()?;
        reader
            .get(name.as_bytes(), now.0.saturating_mul(1_000))
            .entry()
    }

    fn node(&self) -> &Node {
        self.host.node()
    }

    /// Who this is, in its present life.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.node().swim().actor()
    }

    /// The digest of its replicated state.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.node().digest()
    }

    /// What it claims: actor, sequence number, and a digest of what it holds of
    /// that actor.
    pub fn claims(&self) -> impl Iterator<Item = (Actor, u64, u64)> + '_ {
        self.node().claims()
    }

    /// What it holds of an actor, hashed slot by slot, trusting no digest that
    /// the node keeps itself.
    #[must_use]
    pub fn held_of(&self, actor: Actor) -> u64 {
        let mut hasher = SmallHasher::default();
        for slot in self.node().store().words_by(actor) {
            hasher.write(format!("{slot:?}").as_bytes());
        }
        hasher.finish()
    }

    /// Slots that it holds.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.node().store().len()
    }

    /// The greatest term that it holds.
    #[must_use]
    pub fn greatest_term(&self) -> u64 {
        let store = self.node().store();
        let slots = store.claims().flat_map(|(actor, _)| store.words_by(actor));
        slots.map(|slot| slot.term).max().unwrap_or(0)
    }

    /// Whether a member of this name lives, as far as it knows.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        let member = self.node().member(NodeId::of_name(name));
        member.is_some_and(|member| member.state == State::Alive)
    }

    /// Living members that are none of these.
    #[must_use]
    pub fn strangers(&self, known: &BTreeMap<NodeId, usize>) -> Vec<String> {
        let members = self.node().members();
        members
            .filter(|it| it.state.is_living() && !known.contains_key(&it.actor.node))
            .map(|it| it.profile.name.clone())
            .collect()
    }

    /// A check on which it goes by the word of this node though it holds a live
    /// one of another that lives.
    #[must_use]
    pub fn goes_by(&self, dead: NodeId, checks: &[CheckId]) -> Option<usize> {
        let node = self.node();
        checks.iter().position(|&check| {
            let by = node.winner(check).is_some_and(|it| it.owner == dead);
            let living = node.store().words(check).any(|word| {
                let measured = Unmeasured::from_code(word.slot.value.reason).is_none();
                word.slot.hold == Hold::Live
                    && measured
                    && node
                        .member(word.actor.node)
                        .is_some_and(|it| it.actor == word.actor && it.state == State::Alive)
            });
            by && living
        })
    }

    /// Who has the winning word on a check, and what it is.
    #[must_use]
    pub fn winner(&self, check: CheckId) -> Option<(Actor, u64)> {
        self.node()
            .store()
            .winner(check)
            .map(|word| (word.actor, word.slot.seq))
    }

    /// How many members it holds for alive, itself included.
    #[must_use]
    pub fn living_members(&self) -> usize {
        self.node()
            .members()
            .filter(|member| member.state == State::Alive)
            .count()
    }

    /// The sequence number of its own live word on a check, unless that says
    /// that nothing could be measured.
    #[must_use]
    pub fn own_word(&self, check: CheckId) -> Option<u64> {
        let slot = self.node().store().word_of(self.actor(), check)?;
        let measured = Unmeasured::from_code(slot.value.reason).is_none();
        (slot.hold == Hold::Live && measured).then_some(slot.seq)
    }

    /// Whose live word on a check loses to a release, if that is so: the author
    /// of the release, and the author of the live word.
    #[must_use]
    pub fn beaten_by_release(&self, check: CheckId) -> Option<(Actor, Actor)> {
        let store = self.node().store();
        let winner = store.winner(check)?;
        let live = store
            .words(check)
            .find(|word| word.slot.hold == Hold::Live)?;
        (winner.slot.hold != Hold::Live).then_some((winner.actor, live.actor))
    }

    /// Lifeguard's local health score: 0 is healthy.
    #[must_use]
    pub fn health_score(&self) -> u32 {
        self.node().swim().health()
    }

    /// The last sequence number that it wrote in its present life.
    #[must_use]
    pub fn written(&self) -> u64 {
        let me = self.actor();
        self.node()
            .claims()
            .find(|(actor, _, _)| *actor == me)
            .map_or(0, |(_, seq, _)| seq)
    }

    /// What it counted, by name.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.node().counters()
    }

    /// Pulls that it answered and slots that it took in, so far.
    #[must_use]
    pub fn served_and_taken(&self) -> (u64, u64) {
        let mut of = (0, 0);
        for (name, count) in self.node().counters() {
            match name {
                "pulls_answered" => of.0 = count,
                "slots_taken" => of.1 = count,
                _ => {}
            }
        }
        of
    }

    /// Members that it suspects.
    #[must_use]
    pub fn suspects(&self) -> usize {
        let suspect = |member: &&watchfire_core::swim::Member| member.state == State::Suspect;
        self.node().members().filter(suspect).count()
    }

    /// It takes part in probing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.node().is_ready()
    }

    /// The sizes of what it remembers, by name.
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("members", self.node().members().count()),
            ("claims", self.node().claims().count()),
            ("floors", self.node().store().floors_len()),
        ]
    }
}
