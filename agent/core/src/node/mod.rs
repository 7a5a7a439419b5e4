//! The node: gate, membership, replication and ownership as one state machine.
//!
//! [`Node::handle`] takes what happened, [`Node::poll_output`] gives what to do
//! about it, [`Node::next_timeout`] says when to come back with nothing but the
//! time. The same inputs with the same seed give the same outputs. The shell
//! polls until nothing is left after every input.

mod bar;
mod config;
mod counters;
mod decide;
mod keeping;
mod load;
mod looking;
mod settle;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rkyv::rancor::Failure;
use watchfire_wire::message::replica::{ArchivedReplica, Opinion, Question, Sight, Weather};
use watchfire_wire::message::swim::Profile;
use watchfire_wire::message::{ArchivedBody, ArchivedPacket};
use watchfire_wire::{Actor, CheckId, NodeId, Time};

pub use self::bar::Bar;
pub use self::config::{NodeConfig, Retention};
pub use self::counters::NodeCounters;
use self::load::Load;
use crate::budget::Budget;
use crate::gate::{Gate, Keys, Refused};
use crate::io::{BulkEvent, ConnId, Event, Input, Output, Published, Report, ReportKind};
use crate::limits;
use crate::look::Looks;
use crate::mutations::Mutation;
use crate::overrides::{Decision, Kept, Overrides, Wall};
use crate::ownership::{Duties, View};
use crate::replica::{self, Peer, Replicator, Store};
use crate::rng::Rng;
use crate::swim::{self, Member, State, Swim};

/// One agent's part of the POP.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    gate: Gate,
    swim: Swim,
    replicator: Replicator,
    duties: Duties,
    looks: Looks,
    overrides: Overrides,
    /// Who was put out of the POP.
    bars: BTreeMap<NodeId, Bar>,
    /// The decision by which this node itself was.
    evicted: Option<Arc<Decision>>,
    rng: Rng,
    /// This node as a member.
    own: Member,
    /// What the shell says of the probe threads.
    prober_healthy: bool,
    draining: bool,
    phase: Phase,
    /// Lives whose logs are held and that do not live, since when.
    departed: BTreeMap<Actor, Time>,
    /// How far this node's own log had grown, from time to time.
    marks: VecDeque<(Time, u64)>,
    next_keeping: Time,
    /// When this node last collected its own releases.
    collected_at: Time,
    own_seq: u64,
    /// What may be sent.
    budget: Budget,
    load: Load,
    /// Members came or went since the others were told who there is.
    peers_changed: bool,
    /// Questions and answers that come before this wait for it.
    next_questions: Time,
    /// No unknown key is named before this.
    next_key_named: Time,
    out: VecDeque<Output>,
    swim_out: Vec<swim::Output>,
    replica_out: Vec<replica::Out>,
    counters: NodeCounters,
}

/// How far a node is on its way through life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has not begun to take part in probing.
    Joining {
        started: Time,
        /// No further member came since then.
        calm_since: Time,
        /// When to try again to compare all claims.
        next_sync: Time,
    },
    /// It takes part.
    Ready,
    /// It hands over, until then at the latest.
    HandingOver { until: Time },
    /// It says goodbye.
    Leaving,
    /// It has said it.
    Gone,
}

impl Node {
    /// A node that starts now. It says first which epoch it took.
    #[must_use]
    pub fn new(config: NodeConfig, now: Time) -> Self {
        let mut rng = Rng::from_seed(config.rng_seed);
        let wall_ms = config.wall_at_zero_ms.saturating_add(now.as_millis());
        let me = Actor {
            node: NodeId::of_name(&config.name),
            epoch: first_epoch(wall_ms, config.persisted_epoch),
            boot: config.boot,
        };
        let profile = Profile {
            name: config.name.clone(),
            addr: config.addr,
            capacity: config.capacity,
            draining: false,
            prober_healthy: true,
            braked: false,
            checks: 0,
            protocol_min: config.protocol.0,
            protocol_max: config.protocol.1,
        };
        let mut swim_config = config.swim.clone();
        swim_config.datagram_bytes = config.datagram_bytes;
        swim_config.mutations = config.mutations;
        let swim = Swim::new(
            swim_config,
            me,
            profile.clone(),
            config.seeds.clone(),
            now,
            rng.split(),
        );
        let replicator = Replicator::new(config.replica.clone(), me, config.mutations, rng.split());
        let duties = Duties::new(config.ownership.clone(), me, config.mutations);
        let wall = Wall {
            at_zero_ms: config.wall_at_zero_ms,
            synchronised: config.wall_synchronised,
        };
        let lost = Kept::default();
        let kept = if config.mutations.on(Mutation::OverrideLostAtRestart) {
            &lost
        } else {
            &config.overrides
        };
        let overrides = Overrides::new(
            kept,
            wall,
            config.datagram_bytes,
            config.mutations,
            now,
            Rng::from_seed(config.rng_seed.map(|byte| !byte)),
        );
        let mut node = Self {
            gate: Gate::new(config.keys.clone(), rng.split()),
            swim,
            replicator,
            duties,
            overrides,
            looks: Looks::numbered_from(me.boot >> 2),
            bars: BTreeMap::new(),
            evicted: None,
            own: Member {
                actor: me,
                addr: config.addr,
                incarnation: 0,
                state: State::Alive,
                since: now,
                profile,
            },
            prober_healthy: true,
            draining: false,
            phase: Phase::Joining {
                started: now,
                calm_since: now,
                next_sync: now,
            },
            departed: BTreeMap::new(),
            marks: VecDeque::new(),
            next_keeping: now + config.retention.every,
            collected_at: now,
            own_seq: 0,
            budget: Budget::new(now),
            load: Load::default(),
            peers_changed: false,
            next_questions: now,
            next_key_named: now,
            out: VecDeque::new(),
            swim_out: Vec::new(),
            replica_out: Vec::new(),
            counters: NodeCounters::default(),
            rng,
            config,
        };
        node.out.push_back(Output::PersistEpoch(me.epoch));
        node.set_wall(wall);
        node.config.overrides = Kept::default();
        node.present(now);
        node
    }

    /// Takes what happened. Whatever came before it in time has been handled.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        if self.phase == Phase::Gone {
            return;
        }
        self.prepare(now);
        match input {
            Input::Datagram { from, bytes, age } => {
                self.counters.datagrams_in += 1;
                let came = bytes.len();
                self.counters.bytes_in += came as u64;
                self.note_lateness(now, age);
                match self.gate.open_from(from, bytes) {
                    Ok(packet) => {
                        let sender = Actor::from(&packet.from);
                        if self.is_barred(sender.node, from) {
                            self.drop_barred(now, sender.node, from, came);
                        } else {
                            let home = self.living_peer(sender);
                            if home.is_some_and(|peer| peer.addr == from) {
                                self.gate.at_home(from);
                            }
                            self.packet(now, from, packet);
                        }
                    }
                    Err(refused) => self.refused(now, refused),
                }
            }
            Input::Bulk { conn, event } => self.bulk(now, conn, event),
            Input::Checks { add, remove } => {
                self.with_duties(now, |duties, ctx| {
                    duties.remove(ctx, remove);
                    duties.add(ctx, add);
                });
            }
            Input::Report(Report {
                kind: ReportKind::Sight { ask, sight },
                ..
            }) => self.looks.probed(ask, sight),
            Input::Report(report) => {
                self.with_duties(now, |duties, ctx| duties.report(ctx, report));
            }
            Input::ProberHealthy(healthy) => {
                self.prober_healthy = healthy;
                self.present(now);
            }
            Input::Capacity(capacity) => {
                self.config.capacity = capacity;
                self.present(now);
            }
            Input::Drain(drain) => {
                self.draining = drain;
                self.present(now);
            }
            Input::Leave => self.begin_to_leave(now),
            Input::Wall(wall) => self.set_wall(wall),
            Input::Late(by) => self.note_lateness(now, by),
            Input::Tick => self.replicator.serve_asked(now, &mut self.replica_out),
        }
        self.pass_time(now);
        self.settle(now);
    }

    /// What to do next, in order; nothing if all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to come back with [`Input::Tick`] if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        if self.phase == Phase::Gone {
            return Time::NEVER;
        }
        self.swim
            .next_timeout()
            .min(self.replicator.next_timeout())
            .min(self.duties.next_timeout())
            .min(self.overrides.next_timeout())
            .min(self.looks.next_timeout())
            .min(self.next_unbar())
            .min(self.next_keeping)
            .min(self.next_step())
            .min(self.replicator.next_answer())
            .min(if self.duties.has_questions() {
                self.next_questions
            } else {
                Time::NEVER
            })
            .min(if self.replicator.has_frames() {
                self.budget.bulk_at()
            } else {
                Time::NEVER
            })
    }

    /// Other keys from now on.
    pub fn set_keys(&mut self, keys: Keys) {
        self.gate.set_keys(keys);
    }

    /// The keys that this node seals and opens with.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        self.gate.keys()
    }

    /// What this node may send, and what it gave up.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// An answer goes out on this stream, now or as soon as the budget allows.
    #[must_use]
    pub fn serves(&self, conn: ConnId) -> bool {
        self.replicator.serves(conn)
    }

    /// This node is late with its own work, or was a moment ago.
    #[must_use]
    pub fn is_late(&self, now: Time) -> bool {
        self.load.is_late(now)
    }

    /// This node in its present life.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        self.own.actor
    }

    /// This node takes part in probing.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::HandingOver { .. })
    }

    /// All members that are remembered, this node first.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        core::iter::once(&self.own).chain(self.swim.members())
    }

    /// One member, or this node.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        if node == self.own.actor.node {
            return Some(&self.own);
        }
        self.swim.member(node)
    }

    /// Living members, this node among them.
    #[must_use]
    pub const fn living(&self) -> usize {
        self.swim.living() + 1
    }

    /// How many checks this node probes.
    #[must_use]
    pub const fn checks_probed(&self) -> usize {
        self.duties.probing()
    }

    /// The checks that this node probes.
    pub fn checks_owned(&self) -> impl Iterator<Item = CheckId> + '_ {
        self.duties.probed()
    }

    /// Does this node probe the check?
    #[must_use]
    pub fn is_probing(&self, check: CheckId) -> bool {
        self.duties.is_probing(check)
    }

    /// What the table was told of a configured check.
    #[must_use]
    pub fn winner(&self, check: CheckId) -> Option<Published> {
        self.duties.published(check)
    }

    /// The eligible members in the order of their ranks for a configured
    /// check. Costs a score each.
    #[must_use]
    pub fn ranks(&self, check: CheckId) -> Vec<NodeId> {
        self.duties
            .ix(check)
            .map(|ix| self.duties.ranks().order(ix))
            .unwrap_or_default()
    }

    /// Digest of the replicated state: words on checks, and operators'
    /// decisions.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.replicator.store().digest() ^ self.overrides.digest()
    }

    /// All claims: actor, sequence number, digest of what is held of it.
    pub fn claims(&self) -> impl Iterator<Item = (Actor, u64, u64)> + '_ {
        let store = self.replicator.store();
        store.claims().map(|(actor, seq)| {
            let digest = store.claim(actor).map_or(0, |(_, digest)| digest);
            (actor, seq, digest)
        })
    }

    /// The replicated map, to look at.
    #[must_use]
    pub const fn store(&self) -> &Store {
        self.replicator.store()
    }

    /// This node thinks that its own path to the origins is dead.
    #[must_use]
    pub const fn is_blind(&self) -> bool {
        self.duties.is_blind()
    }

    /// For how long this node has held new Downs back, and for how many checks
    /// it does.
    #[must_use]
    pub fn braked(&self, now: Time) -> Option<(Duration, usize)> {
        let lasts = self.duties.braked_for(now)?;
        Some((lasts, self.duties.held()))
    }

    /// The gate, membership: for metrics and oracles.
    #[must_use]
    pub const fn swim(&self) -> &Swim {
        &self.swim
    }

    /// The frames that came and what became of them.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    fn refused(&mut self, now: Time, refused: Refused) {
        if let Refused::UnknownKey { id, due: true } = refused
            && now >= self.next_key_named
        {
            self.next_key_named = now + limits::KEY_NAMED_EVERY;
            self.gate.name_key(id);
            self.out.push_back(Output::Event(Event::UnknownKey(id.0)));
        }
    }

    fn packet(&mut self, now: Time, from: core::net::SocketAddr, packet: &ArchivedPacket) {
        let sender = Actor::from(&packet.from);
        if sender == self.own.actor {
            return;
        }
        let rumors = packet.rumors.as_slice();
        match &packet.body {
            ArchivedBody::Swim(body) => {
                self.swim
                    .handle(now, from, sender, body, rumors, &mut self.swim_out);
            }
            ArchivedBody::Overrides(body) => {
                self.hear_overrides(now, from, sender, body.get());
                if self
                    .living_peer(sender)
                    .is_some_and(|peer| peer.addr == from)
                {
                    self.swim
                        .hear(now, from, sender, rumors, &mut self.swim_out);
                }
            }
            ArchivedBody::Replica(body) => {
                // A captured datagram that somebody sends again from elsewhere
                // is none of the member's.
                let known = self.living_peer(sender);
                let Some(peer) = known.filter(|peer| peer.addr == from) else {
                    self.counters.strangers += 1;
                    return;
                };
                self.swim
                    .hear(now, from, sender, rumors, &mut self.swim_out);
                match body.get() {
                    ArchivedReplica::Ask { questions } => {
                        let questions = rkyv::deserialize::<Vec<Question>, Failure>(questions);
                        self.with_duties(now, |duties, ctx| {
                            for question in questions.unwrap_or_default() {
                                duties.asked(ctx, sender, question);
                            }
                        });
                    }
                    ArchivedReplica::Opinion { opinions } => {
                        let opinions = rkyv::deserialize::<Vec<Opinion>, Failure>(opinions);
                        self.with_duties(now, |duties, ctx| {
                            for opinion in opinions.unwrap_or_default() {
                                duties.opinion(ctx, sender.node, opinion);
                            }
                        });
                    }
                    ArchivedReplica::Look { question } => {
                        if let Ok(question) = rkyv::deserialize::<Question, Failure>(question) {
                            self.asked_to_look(now, sender, question);
                        }
                    }
                    ArchivedReplica::Seen { look, check, sight } => {
                        let check = rkyv::deserialize::<CheckId, Failure>(check);
                        let sight = rkyv::deserialize::<Sight, Failure>(sight);
                        if let (Ok(check), Ok(sight)) = (check, sight) {
                            self.looks.seen(sender.node, look.to_native(), check, sight);
                        }
                    }
                    ArchivedReplica::Weather { weather } => {
                        let weather = rkyv::deserialize::<Weather, Failure>(weather);
                        if let Ok(weather) = weather {
                            self.with_duties(now, |duties, ctx| {
                                duties.hear_weather(ctx, sender.node, weather);
                            });
                        }
                    }
                    ArchivedReplica::SetAsk { set, from, sums } => {
                        let most = limits::prefixes_per_part(self.config.datagram_bytes);
                        let sums: Vec<u64> = sums.iter().map(|sum| sum.to_native()).collect();
                        let (set, from) = (set.to_native(), from.to_native());
                        self.duties
                            .set_asked(now, sender.node, set, from, &sums, most);
                    }
                    ArchivedReplica::SetPart {
                        set,
                        from,
                        last,
                        differ,
                        prefixes,
                    } => {
                        let prefixes: Vec<u64> =
                            prefixes.iter().map(|prefix| prefix.to_native()).collect();
                        let (set, from) = (set.to_native(), from.to_native());
                        let (last, differ) = (last.to_native(), differ.to_native());
                        self.with_duties(now, |duties, ctx| {
                            duties.set_answered(ctx, set, from, last, differ, &prefixes);
                        });
                    }
                    body => self
                        .replicator
                        .handle(now, peer, body, &mut self.replica_out),
                }
            }
        }
    }

    fn bulk(&mut self, now: Time, conn: ConnId, event: BulkEvent<'_>) {
        let bytes = match event {
            BulkEvent::Frame(bytes) => bytes,
            BulkEvent::Closed => {
                self.replicator
                    .bulk_closed(now, conn, &mut self.replica_out);
                return;
            }
        };
        self.counters.bytes_in_bulk += bytes.len() as u64;
        let packet = match self.gate.open(bytes) {
            Ok(packet) => packet,
            Err(refused) => {
                self.refused(now, refused);
                self.replicator.refuse_bulk(conn, &mut self.replica_out);
                return;
            }
        };
        let sender = Actor::from(&packet.from);
        match (&packet.body, self.living_peer(sender)) {
            (ArchivedBody::Replica(body), Some(peer)) => {
                self.replicator
                    .handle_bulk(now, conn, peer, body.get(), &mut self.replica_out);
            }
            _ => {
                self.counters.strangers += 1;
                self.replicator.refuse_bulk(conn, &mut self.replica_out);
            }
        }
    }

    /// A living member in its present life, and where it listens. Answers go
    /// there and nowhere else.
    fn living_peer(&self, actor: Actor) -> Option<Peer> {
        let member = self.swim.member(actor.node)?;
        (member.actor == actor && member.state.is_living()).then_some(Peer {
            actor,
            addr: member.addr,
        })
    }

    fn view_of(member: &Member) -> View {
        View {
            actor: member.actor,
            living: member.state.is_living(),
            suspect: member.state == State::Suspect,
            capacity: member.profile.capacity,
            draining: member.profile.draining,
            healthy: member.profile.prober_healthy,
            braked: member.profile.braked,
            checks: member.profile.checks,
        }
    }
}

/// The epoch of a start: the wall clock, or the one after the last. One that was
/// kept and is implausible is another's doing, and nobody would believe the next.
fn first_epoch(wall_ms: u64, persisted: u64) -> u64 {
    if persisted > wall_ms.saturating_add(limits::EPOCH_AHEAD_MS) {
        return wall_ms;
    }
    wall_ms.max(persisted.saturating_add(1))
}
