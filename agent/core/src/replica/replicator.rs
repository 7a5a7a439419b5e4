//! Keeps one node's map equal to the others': asks, answers, tells.
//!
//! It holds the [`Store`] and speaks [`Replica`] bodies; what to write, and
//! when, is decided elsewhere. It never asks for what it does not lack and
//! never takes what it did not ask for.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use rkyv::rancor::Failure;
use watchfire_wire::message::replica::{ArchivedReplica, Claim, Cover, Floor, Head, Replica};
use watchfire_wire::{Actor, NodeId, Time};

use super::aside::Aside;
use super::config::{ReplicaConfig, ReplicaCounters};
use super::delta;
use super::news::News;
use super::pulls::Pulls;
use super::serve::{self, Asked, Frame, Offer, Offers, Streams};
use super::store::Store;
use crate::budget::{Class, Spare};
use crate::io::{ConnId, Implausible};
use crate::limits;
use crate::mutations::Mutations;
use crate::rng::Rng;
use crate::rtt::RoundTrip;

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
        /// What gives way before it and after it.
        class: Class,
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
    /// An actor says what no honest one can; it was not set aside before.
    Implausible(Actor, Implausible),
}

/// Replication of one node.
#[derive(Clone, Debug)]
pub struct Replicator {
    pub(super) config: ReplicaConfig,
    pub(super) store: Store,
    pub(super) rng: Rng,
    pub(super) peers: Vec<Peer>,
    pub(super) pulls: Pulls,
    pub(super) offers: Offers,
    pub(super) news: News,
    pub(super) sync: Option<Sync>,
    pub(super) last_sync: Option<Time>,
    pub(super) synced: bool,
    pub(super) doubt: Option<Doubt>,
    /// Before this, in a mass event, nothing more is asked for.
    pub(super) next_round: Time,
    /// Something waits for that.
    pub(super) gathering: bool,
    pub(super) last_conn: u64,
    /// Pulls of others that have come and are answered at the end of a turn.
    pub(super) asked: VecDeque<Asked>,
    /// Answers that go out on streams, frame by frame.
    pub(super) streams: Streams,
    /// How long answers take.
    pub(super) answer_time: RoundTrip,
    /// What may be sent at this moment.
    pub(super) spare: Spare,
    /// Whose words are implausible.
    pub(super) aside: Aside,
    /// Greatest floor that is plausible now.
    pub(super) epoch_max: u64,
    pub(super) mutations: Mutations,
    pub(super) counters: ReplicaCounters,
}

/// A comparison of all claims with one peer, range by range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sync {
    pub(super) peer: Peer,
    pub(super) pull: u64,
}

/// A peer's digest differed; if nothing moves until then, it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    due: Time,
    peer: Peer,
    digest: u64,
}

/// A name for a stream that this node opens.
pub(super) const fn next_conn(last: &mut u64) -> ConnId {
    *last = (*last + 1) & !ConnId::ACCEPTED;
    ConnId(*last)
}

impl Replicator {
    /// Replication of a node that holds nothing yet.
    #[must_use]
    pub fn new(config: ReplicaConfig, me: Actor, mutations: Mutations, rng: Rng) -> Self {
        let mut store = Store::new(me, mutations);
        store.foreign_least = config.foreign_least;
        Self {
            config,
            store,
            rng,
            peers: Vec::new(),
            pulls: Pulls::default(),
            offers: Offers::default(),
            news: News::new(),
            sync: None,
            last_sync: None,
            synced: false,
            doubt: None,
            next_round: Time::ZERO,
            gathering: false,
            last_conn: 0,
            asked: VecDeque::new(),
            streams: Streams::default(),
            answer_time: RoundTrip::default(),
            spare: Spare::FULL,
            aside: Aside::default(),
            epoch_max: crate::swim::limits::EPOCH_MAX,
            mutations,
            counters: ReplicaCounters::default(),
        }
    }

    /// What may be sent from now on, until this is said again.
    pub const fn set_spare(&mut self, spare: Spare) {
        self.spare = spare;
        self.news.spare = spare;
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
            && self.news.is_silent()
            && self.asked.is_empty()
            && self.sync.is_none()
    }

    /// Sets the living members, this node not among them, in order of node.
    pub fn set_peers(&mut self, peers: Vec<Peer>) {
        debug_assert!(peers.is_sorted_by_key(|peer| peer.actor.node));
        self.peers = peers;
    }

    /// Nothing of this node is held or asked for from now on.
    pub fn bar(&mut self, node: NodeId) {
        self.store.bar(node);
        self.pulls.wanted.retain(|actor, _| actor.node != node);
        self.forget_aside(node);
    }

    /// It may be heard again.
    pub fn unbar(&mut self, node: NodeId) {
        self.store.unbar(node);
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

    /// When [`serve_asked`](Self::serve_asked) is due: at the end of the turn in
    /// which a pull came.
    #[must_use]
    pub fn next_answer(&self) -> Time {
        self.asked.front().map_or(Time::NEVER, |asked| asked.at)
    }

    /// The next frame that waits to go out on a stream, and whether it is its
    /// stream's last. Streams take turns.
    pub fn next_frame(&mut self) -> Option<Frame> {
        self.streams.next_frame()
    }

    /// Frames wait to go out on this stream.
    #[must_use]
    pub fn serves(&self, conn: ConnId) -> bool {
        self.streams.serves(conn)
    }

    /// Frames wait to go out on streams.
    #[must_use]
    pub fn has_frames(&self) -> bool {
        self.streams.has_frames()
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
            self.pull_timed_out(now, id, out);
        }
        if self.gathering && self.next_round <= now {
            self.pump(now, out);
        }
        if let Some(doubt) = self.doubt.filter(|doubt| doubt.due <= now) {
            self.doubt = None;
            let still = self.store.digest() == doubt.digest;
            if (still || self.not_synced_for(now, self.config.sync_spacing * 10))
                && self.spare.has(self.sync_class(now))
            {
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
            &mut self.store,
            &self.peers,
            &mut self.rng,
            out,
        );
        self.counters.notifies += (out.len() - before) as u64;
    }

    /// A living member's digest. If it differs from ours for a while, all
    /// claims are compared with it.
    pub fn peer_digest(&mut self, now: Time, peer: Peer, digest: u64) {
        // What is set aside is not compared: it differs for as long as it is.
        if self.is_set_aside(peer.actor) {
            return;
        }
        if digest == self.store.digest() {
            if self.doubt.is_some_and(|doubt| doubt.peer == peer) {
                self.doubt = None;
            }
            return;
        }
        // The less there is to send with, the rarer.
        let missing = 10_u32.saturating_sub(self.spare.tenths());
        let spacing = self.config.sync_spacing * (1 + 2 * missing);
        let early = self.last_sync.is_some_and(|last| now.since(last) < spacing);
        // In a mass event all digests differ, and the news is on its way.
        let busy = self.news.is_busy(now, &self.config)
            && !self.not_synced_for(now, self.config.sync_overdue);
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
        let class = self.sync_class(now);
        self.last_sync = Some(now);
        self.counters.syncs += 1;
        self.sync_from(now, peer, delta::FIRST, class, out);
    }

    /// What a comparison that begins now gives way to. One that is overdue goes
    /// before all news, for news that was missed is told by nobody again.
    fn sync_class(&self, now: Time) -> Class {
        if self.synced && !self.not_synced_for(now, self.config.sync_overdue) {
            Class::Repair
        } else {
            Class::Pull
        }
    }

    fn not_synced_for(&self, now: Time, long: Duration) -> bool {
        self.last_sync.is_none_or(|last| now.since(last) >= long)
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
                self.note_pull(Asked {
                    at: now,
                    from,
                    pull: pull.to_native(),
                    claims,
                    cover,
                });
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
                // What was asked of others meanwhile is not fetched twice.
                let wanted = &self.pulls.wanted;
                let needed = open.cover.is_some()
                    || open.claims.iter().any(|claim| {
                        let want = wanted.get(&claim.actor);
                        want.is_some_and(|want| want.asked.is_none())
                    });
                if open.lapsed && !needed {
                    return;
                }
                open.lapsed = false;
                let conn = next_conn(&mut self.last_conn);
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
            | ArchivedReplica::SetAsk { .. }
            | ArchivedReplica::SetPart { .. }
            | ArchivedReplica::Ask { .. }
            | ArchivedReplica::Opinion { .. }
            | ArchivedReplica::Look { .. }
            | ArchivedReplica::Seen { .. }
            | ArchivedReplica::Weather { .. } => self.counters.refused += 1,
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
                let Offer { claims, cover, .. } = offer;
                self.serve_stream(conn, from.actor, pull, &claims, cover, out);
            }
            ArchivedReplica::Pull { pull, claims, .. } => {
                let claims = rkyv::deserialize::<Vec<Claim>, Failure>(claims);
                let Some(claims) = claims.ok().filter(|claims| {
                    claims.is_sorted_by_key(|claim| claim.actor) && claims.len() <= limits::LOGS
                }) else {
                    self.refuse_bulk(conn, out);
                    return;
                };
                self.counters.answers += 1;
                self.serve_stream(conn, from.actor, pull.to_native(), &claims, None, out);
            }
            _ => self.refuse_bulk(conn, out),
        }
    }

    /// Serves an answer on a stream, unless there are too many.
    fn serve_stream(
        &mut self,
        conn: ConnId,
        to: Actor,
        pull: u64,
        claims: &[Claim],
        cover: Option<Cover>,
        out: &mut Vec<Out>,
    ) {
        if self.streams.len() >= limits::BULK_SERVED {
            self.refuse_bulk(conn, out);
            return;
        }
        let mut answer = self.store.answer(to, claims, cover);
        for head in core::mem::take(&mut answer.behind) {
            self.want(head, to.node, limits::HOPS, false, out);
        }
        self.store.note_fetched(answer.reaches(self.store.me()));
        let parts = serve::parts(
            pull,
            self.rng.u64(),
            answer,
            limits::SLOTS_PER_BULK_FRAME,
            limits::BULK_FRAMES,
        );
        self.counters.bulk_served += 1;
        self.streams.add(conn, parts.unwrap_or_default());
    }

    /// Refuses a bulk stream.
    pub fn refuse_bulk(&mut self, conn: ConnId, out: &mut Vec<Out>) {
        self.counters.bulk_refused += 1;
        out.push(Out::BulkClose { conn });
    }

    /// A bulk stream ended.
    pub fn bulk_closed(&mut self, now: Time, conn: ConnId, out: &mut Vec<Out>) {
        self.streams.remove(conn);
        if let Some(id) = self.pulls.by_conn(conn) {
            self.pull_failed(now, id, out);
        }
    }
}
