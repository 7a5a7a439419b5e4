//! Keeps one node's map equal to the others': asks, answers, tells.
//!
//! It holds the [`Store`] and speaks [`Replica`] bodies; what to write, and
//! when, is decided elsewhere. It never asks for what it does not lack and
//! never takes what it did not ask for.

use core::net::SocketAddr;
use core::time::Duration;

use rkyv::rancor::Failure;
use smallvec::SmallVec;
use watchfire_wire::limits::DATAGRAM_BYTES;
use watchfire_wire::message::replica::{
    ArchivedReplica, Claim, Cover, Delta, Floor, Head, Replica,
};
use watchfire_wire::{Actor, NodeId, Time};

use super::delta::{self, Answer};
use super::join::Applied;
use super::news::News;
use super::pulls::{Pull, Pulls, Staged, Want};
use super::serve::{self, Offer, Offers};
use super::store::Store;
use crate::io::ConnId;
use crate::limits;
use crate::mutations::{Mutation, Mutations};
use crate::rng::Rng;

/// The knobs of replication. The defaults suit round trips below 1 ms.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaConfig {
    /// How long the first attempt of a pull waits; each further one twice as
    /// long.
    pub pull_timeout: Duration,
    /// Attempts of one pull with one peer.
    pub pull_tries: u8,
    /// How long a bulk answer may take.
    pub bulk_timeout: Duration,
    /// From one round of news to the next, when little happens. The first piece
    /// of news after calm goes out at once.
    pub notify_spacing: Duration,
    /// The same in a mass event.
    pub mass_spacing: Duration,
    /// From one round of pulls to the next in a mass event: what becomes known
    /// meanwhile is asked for together.
    pub mass_gathering: Duration,
    /// From the first telling of a head to its first echo; the second comes
    /// after twice as long.
    pub echo_spacing: Duration,
    /// How long unequal digests must last without progress before they count.
    pub digest_patience: Duration,
    /// From one comparison of all claims to the next.
    pub sync_spacing: Duration,
    /// Largest answer by datagrams.
    pub max_parts: usize,
    /// Largest datagram, bytes.
    pub datagram_bytes: usize,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self {
            pull_timeout: Duration::from_millis(25),
            pull_tries: 3,
            bulk_timeout: Duration::from_secs(10),
            notify_spacing: Duration::from_millis(4),
            mass_spacing: Duration::from_millis(80),
            mass_gathering: Duration::from_millis(20),
            echo_spacing: Duration::from_millis(60),
            digest_patience: Duration::from_millis(10),
            sync_spacing: Duration::from_millis(100),
            max_parts: limits::PARTS,
            datagram_bytes: DATAGRAM_BYTES,
        }
    }
}

/// A living member and where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub actor: Actor,
    /// Where.
    pub addr: SocketAddr,
}

/// What replication wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    /// Send this body. Losing it is allowed.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        body: Replica,
    },
    /// Connect by TCP and send this body first.
    BulkConnect {
        /// The stream's name.
        conn: ConnId,
        /// Where to.
        to: SocketAddr,
        /// What.
        hello: Replica,
    },
    /// Send this body on a stream.
    BulkSend {
        /// Which.
        conn: ConnId,
        /// What.
        body: Replica,
    },
    /// Close a stream once all is out.
    BulkClose {
        /// Which.
        conn: ConnId,
    },
    /// Somebody knows more of this node's name than this life of it: take an
    /// epoch of at least this.
    EpochNeeded(u64),
    /// Equal claims hid unequal state of this actor; it was replaced.
    Repaired(Actor),
}

/// Counters of replication, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaCounters {
    /// Pulls sent, repetitions included.
    pub pulls: u64,
    /// Pulls that were given up after all attempts.
    pub pulls_failed: u64,
    /// Pulls answered.
    pub answers: u64,
    /// Of those, by a bulk offer.
    pub offers: u64,
    /// Bulk streams served.
    pub bulk_served: u64,
    /// Notifications sent.
    pub notifies: u64,
    /// Comparisons of all claims with a peer.
    pub syncs: u64,
    /// Slots taken in.
    pub slots_taken: u64,
    /// Replacing snapshots taken because state differed at equal claims.
    pub repairs: u64,
    /// Bodies refused: answers to no pull of ours, or that contradict it.
    pub refused: u64,
    /// Deltas refused because a limit was reached.
    pub full: u64,
    /// Bulk streams refused: no such token.
    pub bulk_refused: u64,
}

/// Replication of one node.
#[derive(Clone, Debug)]
pub struct Replicator {
    config: ReplicaConfig,
    store: Store,
    rng: Rng,
    peers: Vec<Peer>,
    pulls: Pulls,
    offers: Offers,
    news: News,
    sync: Option<Sync>,
    last_sync: Option<Time>,
    synced: bool,
    doubt: Option<Doubt>,
    /// Before this, in a mass event, nothing more is asked for.
    next_round: Time,
    /// Something waits for that.
    gathering: bool,
    next_conn: u64,
    mutations: Mutations,
    counters: ReplicaCounters,
}

/// A comparison of all claims with one peer, range by range.
#[derive(Clone, Copy, Debug)]
struct Sync {
    peer: Peer,
    pull: u64,
}

/// A peer's digest differed; if nothing moves until then, it counts.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    due: Time,
    peer: Peer,
    digest: u64,
}

impl Replicator {
    /// Replication of a node that holds nothing yet.
    #[must_use]
    pub fn new(config: ReplicaConfig, me: Actor, mutations: Mutations, rng: Rng) -> Self {
        Self {
            config,
            store: Store::new(me, mutations),
            rng,
            peers: Vec::new(),
            pulls: Pulls::default(),
            offers: Offers::default(),
            news: News::default(),
            sync: None,
            last_sync: None,
            synced: false,
            doubt: None,
            next_round: Time::ZERO,
            gathering: false,
            next_conn: 0,
            mutations,
            counters: ReplicaCounters::default(),
        }
    }

    /// The map.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The map, for this node's own writes; [`wrote`](Self::wrote) tells others.
    pub const fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> ReplicaCounters {
        self.counters
    }

    /// All claims have been compared with some peer since the start.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Nothing is being pulled, told or compared.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pulls.open.is_empty()
            && self.pulls.wanted.is_empty()
            && self.news.next_timeout(&self.config) == Time::NEVER
            && self.sync.is_none()
    }

    /// Sets the living members, this node not among them, in order of node.
    pub fn set_peers(&mut self, peers: Vec<Peer>) {
        debug_assert!(peers.is_sorted_by_key(|peer| peer.actor.node));
        self.peers = peers;
    }

    /// This node's own log has grown.
    pub fn wrote(&mut self, now: Time) {
        let me = self.store.me();
        self.news.learn(now, me, 0);
    }

    /// When [`tick`](Self::tick) is due.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        let doubt = self.doubt.map_or(Time::NEVER, |doubt| doubt.due);
        self.pulls
            .next_timeout()
            .min(self.news.next_timeout(&self.config))
            .min(doubt)
            .min(if self.gathering {
                self.next_round
            } else {
                Time::NEVER
            })
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Out>) {
        let late: Vec<u64> = self
            .pulls
            .open
            .iter()
            .filter(|(_, pull)| pull.deadline <= now)
            .map(|(&id, _)| id)
            .collect();
        for id in late {
            self.pull_failed(now, id, out);
        }
        if self.gathering && self.next_round <= now {
            self.pump(now, out);
        }
        if let Some(doubt) = self.doubt.filter(|doubt| doubt.due <= now) {
            self.doubt = None;
            let stalled = self
                .last_sync
                .is_none_or(|last| now.since(last) >= self.config.sync_spacing * 10);
            if self.store.digest() == doubt.digest || stalled {
                self.start_sync(now, doubt.peer, out);
            }
        }
        self.flush(now, out);
    }

    /// Tells what is due; called by [`tick`](Self::tick) and after writes.
    pub fn flush(&mut self, now: Time, out: &mut Vec<Out>) {
        let before = out.len();
        self.news.flush(
            now,
            &self.config,
            &self.store,
            &self.peers,
            &mut self.rng,
            out,
        );
        self.counters.notifies += (out.len() - before) as u64;
    }

    /// A living member's digest. If it differs from ours for a while, all
    /// claims are compared with it.
    pub fn peer_digest(&mut self, now: Time, peer: Peer, digest: u64) {
        if digest == self.store.digest() {
            if self.doubt.is_some_and(|doubt| doubt.peer == peer) {
                self.doubt = None;
            }
            return;
        }
        let early = self
            .last_sync
            .is_some_and(|last| now.since(last) < self.config.sync_spacing);
        // In a mass event all digests differ, and the news is on its way.
        let busy = self.news.is_busy(now, &self.config);
        if self.doubt.is_none() && self.sync.is_none() && !early && !busy {
            self.doubt = Some(Doubt {
                due: now + self.config.digest_patience,
                peer,
                digest: self.store.digest(),
            });
        }
    }

    /// Compares all claims with a peer now, unless a comparison is under way.
    pub fn start_sync(&mut self, now: Time, peer: Peer, out: &mut Vec<Out>) {
        if self.sync.is_some() {
            return;
        }
        self.last_sync = Some(now);
        self.counters.syncs += 1;
        self.sync_from(now, peer, delta::FIRST, out);
    }

    /// A replication body arrived from a living member.
    pub fn handle(&mut self, now: Time, from: Peer, body: &ArchivedReplica, out: &mut Vec<Out>) {
        match body {
            ArchivedReplica::Pull {
                pull,
                claims,
                cover,
                floors,
            } => {
                let Ok(claims) = rkyv::deserialize::<Vec<Claim>, Failure>(claims) else {
                    return;
                };
                let cover = cover
                    .as_ref()
                    .and_then(|cover| rkyv::deserialize::<Cover, Failure>(cover).ok());
                let floors = rkyv::deserialize::<Vec<Floor>, Failure>(floors).unwrap_or_default();
                if !claims.is_sorted_by_key(|claim| claim.actor) || claims.len() > limits::LOGS {
                    self.counters.refused += 1;
                    return;
                }
                self.heed_floors(&floors, out);
                self.serve(now, from, pull.to_native(), claims, cover, out);
            }
            ArchivedReplica::Part { .. } => self.part(now, from, None, body, out),
            ArchivedReplica::BulkOffer { pull, token } => {
                let id = pull.to_native();
                let Some(open) = self.pulls.open.get_mut(&id) else {
                    self.counters.refused += 1;
                    return;
                };
                if open.peer != from || open.conn.is_some() {
                    return;
                }
                self.next_conn = (self.next_conn + 1) & !ConnId::ACCEPTED;
                let conn = ConnId(self.next_conn);
                open.conn = Some(conn);
                open.deadline = now + self.config.bulk_timeout;
                out.push(Out::BulkConnect {
                    conn,
                    to: from.addr,
                    hello: Replica::BulkHello {
                        pull: id,
                        token: token.to_native(),
                    },
                });
            }
            ArchivedReplica::Notify { heads, hops } => {
                for head in heads.iter() {
                    let head = Head {
                        actor: Actor::from(&head.actor),
                        seq: head.seq.to_native(),
                    };
                    self.want(head, from.actor.node, *hops, false, out);
                }
                self.pump(now, out);
            }
            ArchivedReplica::BulkHello { .. }
            | ArchivedReplica::Ask { .. }
            | ArchivedReplica::Opinion { .. } => self.counters.refused += 1,
        }
    }

    /// A body arrived on a bulk stream.
    pub fn handle_bulk(
        &mut self,
        now: Time,
        conn: ConnId,
        from: Peer,
        body: &ArchivedReplica,
        out: &mut Vec<Out>,
    ) {
        match body {
            ArchivedReplica::Part { .. } => self.part(now, from, Some(conn), body, out),
            ArchivedReplica::BulkHello { pull, token } => {
                let (pull, token) = (pull.to_native(), token.to_native());
                let Some(offer) = self.offers.redeem(now, from.actor, pull, token) else {
                    self.refuse_bulk(conn, out);
                    return;
                };
                let answer = self.store.answer(from.actor, &offer.claims, offer.cover);
                let parts = serve::parts(
                    pull,
                    self.rng.u64(),
                    answer,
                    limits::SLOTS_PER_BULK_FRAME,
                    limits::BULK_FRAMES,
                );
                self.counters.bulk_served += 1;
                for body in parts.unwrap_or_default() {
                    out.push(Out::BulkSend { conn, body });
                }
                out.push(Out::BulkClose { conn });
            }
            _ => self.refuse_bulk(conn, out),
        }
    }

    /// Refuses a bulk stream.
    pub fn refuse_bulk(&mut self, conn: ConnId, out: &mut Vec<Out>) {
        self.counters.bulk_refused += 1;
        out.push(Out::BulkClose { conn });
    }

    /// A bulk stream ended.
    pub fn bulk_closed(&mut self, now: Time, conn: ConnId, out: &mut Vec<Out>) {
        if let Some(id) = self.pulls.by_conn(conn) {
            self.pull_failed(now, id, out);
        }
    }
}

// The two sides of a pull.
impl Replicator {
    fn serve(
        &mut self,
        now: Time,
        from: Peer,
        pull: u64,
        claims: Vec<Claim>,
        cover: Option<Cover>,
        out: &mut Vec<Out>,
    ) {
        let mut answer = self.store.answer(from.actor, &claims, cover);
        self.counters.answers += 1;
        let source = from.actor.node;
        for head in core::mem::take(&mut answer.behind) {
            self.want(head, source, limits::HOPS, false, out);
        }
        for actor in core::mem::take(&mut answer.unequal) {
            let (seq, _) = self.store.claim(actor).unwrap_or_default();
            self.want(Head { actor, seq }, source, limits::HOPS, true, out);
        }
        if answer.beyond_own {
            out.push(Out::EpochNeeded(self.store.me().epoch + 1));
        }
        self.send_answer(now, from, pull, answer, claims, cover, out);
        self.pump(now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "one call, one place")]
    fn send_answer(
        &mut self,
        now: Time,
        from: Peer,
        pull: u64,
        answer: Answer,
        claims: Vec<Claim>,
        cover: Option<Cover>,
        out: &mut Vec<Out>,
    ) {
        let parts = serve::parts(
            pull,
            self.rng.u64(),
            answer,
            limits::slots_per_part(self.config.datagram_bytes),
            self.config.max_parts,
        );
        let to = from.addr;
        if let Some(parts) = parts {
            out.extend(parts.into_iter().map(|body| Out::Send { to, body }));
            return;
        }
        let token = self.rng.u64();
        self.counters.offers += 1;
        self.offers.keep(
            now,
            Offer {
                to: from.actor,
                pull,
                token,
                claims,
                cover,
                expires: now + limits::OFFER_LIFE,
            },
        );
        out.push(Out::Send {
            to,
            body: Replica::BulkOffer { pull, token },
        });
    }

    fn part(
        &mut self,
        now: Time,
        from: Peer,
        conn: Option<ConnId>,
        body: &ArchivedReplica,
        out: &mut Vec<Out>,
    ) {
        let ArchivedReplica::Part {
            pull,
            answer,
            index,
            count,
            deltas,
            floors,
        } = body
        else {
            return;
        };
        let id = pull.to_native();
        // A delta counts only as the answer to a pull that is still open.
        let Some(open) = self.pulls.open.get_mut(&id) else {
            self.counters.refused += 1;
            return;
        };
        if open.peer.actor != from.actor || open.conn != conn {
            self.counters.refused += 1;
            return;
        }
        let Ok(deltas) = rkyv::deserialize::<Vec<Delta>, Failure>(deltas) else {
            return;
        };
        let floors = rkyv::deserialize::<Vec<Floor>, Failure>(floors).unwrap_or_default();
        if !deltas.iter().all(|delta| open.concerns(delta.actor)) {
            self.counters.refused += 1;
            return;
        }
        if self.mutations.on(Mutation::MergePerChunk) || self.mutations.on(Mutation::ClaimPerChunk)
        {
            let raise = self.mutations.on(Mutation::ClaimPerChunk);
            for delta in &deltas {
                self.store.apply_part(delta, raise);
            }
        }
        match open.stage(
            answer.to_native(),
            index.to_native(),
            count.to_native(),
            deltas,
            floors,
        ) {
            Staged::Waiting => {}
            Staged::Malformed => {
                self.counters.refused += 1;
                self.pull_failed(now, id, out);
            }
            Staged::Complete(deltas, floors) => self.complete(now, id, &deltas, &floors, out),
        }
    }

    /// The whole answer to a pull is here.
    fn complete(
        &mut self,
        now: Time,
        id: u64,
        deltas: &[Delta],
        floors: &[Floor],
        out: &mut Vec<Out>,
    ) {
        let Some(pull) = self.pulls.open.remove(&id) else {
            return;
        };
        if let Some(conn) = pull.conn {
            out.push(Out::BulkClose { conn });
        }
        self.heed_floors(floors, out);
        for delta in deltas {
            let before = self.store.claim(delta.actor);
            match self.store.apply(delta) {
                Applied::New => {
                    self.counters.slots_taken += delta.slots.len() as u64;
                    let same_claim = before.is_some_and(|(seq, _)| seq == delta.hi);
                    if same_claim && self.store.claim(delta.actor) != before {
                        self.counters.repairs += 1;
                        out.push(Out::Repaired(delta.actor));
                    }
                    let hops = match self.pulls.wanted.get(&delta.actor) {
                        Some(want) => want.hops,
                        // What the first comparison brings is old news.
                        None if !self.synced => limits::HOPS,
                        None => 1,
                    };
                    self.news.learn(now, delta.actor, hops);
                }
                Applied::Own(seq) => {
                    if self
                        .store
                        .claim(delta.actor)
                        .is_none_or(|(own, _)| seq > own)
                    {
                        out.push(Out::EpochNeeded(self.store.me().epoch + 1));
                    }
                }
                Applied::Full => self.counters.full += 1,
                Applied::Malformed => self.counters.refused += 1,
                Applied::Known | Applied::BelowFloor | Applied::Gap => {}
            }
        }
        let store = &self.store;
        self.pulls.wanted.retain(|&actor, want| {
            if want.asked == Some(id) {
                want.asked = None;
                // The peer's whole answer is in: a repair is done, and a head
                // that it spoke of and did not deliver is behind a floor.
                want.repair = false;
                want.failures += 1;
            }
            let held = store.claim(actor).is_some_and(|(seq, _)| seq >= want.seq);
            (!held || want.repair) && want.failures < 3
        });
        if let Some(sync) = self.sync.filter(|sync| sync.pull == id) {
            self.sync = None;
            let next = pull.cover.and_then(|cover| delta::after(cover.last));
            match next.filter(|&next| next < delta::LAST) {
                Some(next) => self.sync_from(now, sync.peer, next, out),
                None => self.synced = true,
            }
        }
        self.pump(now, out);
        self.flush(now, out);
    }

    /// A pull was not answered in time, or badly.
    fn pull_failed(&mut self, now: Time, id: u64, out: &mut Vec<Out>) {
        let Some(pull) = self.pulls.open.remove(&id) else {
            return;
        };
        if let Some(conn) = pull.conn {
            out.push(Out::BulkClose { conn });
        }
        let lives = self.peer(pull.peer.actor.node) == Some(pull.peer);
        if lives && pull.tries < self.config.pull_tries {
            // Under a new name: parts of two answers must not mix, and the
            // claims may have grown.
            let claims = match pull.cover {
                Some(_) => pull.claims,
                None => pull
                    .claims
                    .iter()
                    .map(|claim| self.store.claim_on(claim.actor))
                    .collect(),
            };
            let new = self.ask(now, pull.peer, claims, pull.cover, pull.tries + 1, out);
            for want in self.pulls.wanted.values_mut() {
                if want.asked == Some(id) {
                    want.asked = Some(new);
                }
            }
            if let Some(sync) = &mut self.sync
                && sync.pull == id
            {
                sync.pull = new;
            }
            return;
        }
        self.counters.pulls_failed += 1;
        if self.sync.is_some_and(|sync| sync.pull == id) {
            self.sync = None;
        }
        self.pulls.give_back(id, pull.peer.actor.node);
        self.pump(now, out);
    }

    /// Notes that somebody has more of a log than this node.
    fn want(&mut self, head: Head, source: NodeId, hops: u8, repair: bool, out: &mut Vec<Out>) {
        let Head { actor, seq } = head;
        if actor == self.store.me() {
            if self.store.claim(actor).is_none_or(|(own, _)| seq > own) {
                out.push(Out::EpochNeeded(actor.epoch + 1));
            }
            return;
        }
        let below_floor = self
            .store
            .floor(actor.node)
            .is_some_and(|floor| actor.epoch < floor);
        let held = self.store.claim(actor).is_some_and(|(own, _)| own >= seq);
        if below_floor || (held && !repair) {
            return;
        }
        if let Some(want) = self.pulls.wanted.get_mut(&actor) {
            want.seq = want.seq.max(seq);
            want.hops = want.hops.min(hops);
            want.repair |= repair;
            want.add_source(source);
        } else if self.pulls.wanted.len() < limits::WANTED {
            self.pulls.wanted.insert(
                actor,
                Want {
                    seq,
                    hops,
                    repair,
                    sources: SmallVec::from_elem(source, 1),
                    failures: 0,
                    asked: None,
                },
            );
        }
    }

    /// Asks for what is wanted and not being asked for, as far as the limits
    /// on open pulls allow. What waits meanwhile is asked for together.
    fn pump(&mut self, now: Time, out: &mut Vec<Out>) {
        self.gathering = false;
        if self.news.is_busy(now, &self.config) {
            if now < self.next_round {
                self.gathering = true;
                return;
            }
            self.next_round = now + self.config.mass_gathering;
        }
        while self.pulls.open.len() < limits::PULLS {
            let mut asked: Option<Peer> = None;
            let mut claims = Vec::new();
            let mut orphans = Vec::new();
            let most = limits::claims_per_pull(self.config.datagram_bytes);
            for (&actor, want) in &self.pulls.wanted {
                if want.asked.is_some() || claims.len() >= most {
                    continue;
                }
                if let Some(peer) = asked {
                    if want.sources.contains(&peer.actor.node) {
                        claims.push(self.store.claim_on(actor));
                    }
                    continue;
                }
                let mut living = want
                    .sources
                    .iter()
                    .rev()
                    .filter_map(|&node| find(&self.peers, node))
                    .peekable();
                if living.peek().is_none() {
                    orphans.push(actor);
                    continue;
                }
                let free = living
                    .find(|peer| self.pulls.with_peer(peer.actor.node) < limits::PULLS_PER_PEER);
                if let Some(peer) = free {
                    asked = Some(peer);
                    claims.push(self.store.claim_on(actor));
                }
            }
            for actor in orphans {
                self.pulls.wanted.remove(&actor);
            }
            let Some(peer) = asked else {
                return;
            };
            let actors: Vec<Actor> = claims.iter().map(|claim| claim.actor).collect();
            let id = self.ask(now, peer, claims, None, 1, out);
            for actor in actors {
                if let Some(want) = self.pulls.wanted.get_mut(&actor) {
                    want.asked = Some(id);
                }
            }
        }
    }

    fn ask(
        &mut self,
        now: Time,
        peer: Peer,
        claims: Vec<Claim>,
        cover: Option<Cover>,
        tries: u8,
        out: &mut Vec<Out>,
    ) -> u64 {
        let id = self.rng.u64();
        let wait = self.config.pull_timeout * (1 << u32::from(tries - 1).min(6));
        let mut pull = Pull::new(peer, claims.clone(), cover, now + wait);
        pull.tries = tries;
        self.pulls.open.insert(id, pull);
        self.counters.pulls += 1;
        let floors = cover.map_or_else(Vec::new, |cover| {
            self.store.floors_within(cover, limits::FLOORS_PER_PULL)
        });
        out.push(Out::Send {
            to: peer.addr,
            body: Replica::Pull {
                pull: id,
                claims,
                cover,
                floors,
            },
        });
        id
    }

    fn sync_from(&mut self, now: Time, peer: Peer, first: Actor, out: &mut Vec<Out>) {
        let most = limits::claims_per_pull(self.config.datagram_bytes);
        let (claims, cover) = self.store.claims_from(first, most);
        let pull = self.ask(now, peer, claims, Some(cover), 1, out);
        self.sync = Some(Sync { peer, pull });
    }

    /// Others say that some lives are gone for good.
    fn heed_floors(&mut self, floors: &[Floor], out: &mut Vec<Out>) {
        for floor in floors {
            let known = self.store.floor(floor.node).unwrap_or(0);
            if floor.epoch <= known {
                continue;
            }
            if self.store.floors_len() >= limits::FLOORS {
                self.store.forget_oldest_floor();
            }
            self.store.raise_floor(floor.node, floor.epoch);
            let me = self.store.me();
            if floor.node == me.node && floor.epoch > me.epoch {
                out.push(Out::EpochNeeded(floor.epoch));
            }
        }
    }

    fn peer(&self, node: NodeId) -> Option<Peer> {
        find(&self.peers, node)
    }
}

fn find(peers: &[Peer], node: NodeId) -> Option<Peer> {
    peers
        .binary_search_by_key(&node, |peer| peer.actor.node)
        .ok()
        .map(|at| peers[at])
}
