//! The two sides of a pull: asking and taking in, answering and offering.

use core::time::Duration;
use std::collections::BTreeSet;

use rkyv::rancor::Failure;
use smallvec::SmallVec;
use watchfire_wire::message::replica::{
    ArchivedReplica, Claim, Cover, Delta, Floor, Head, Replica,
};
use watchfire_wire::{Actor, NodeId, Time};

use super::delta::{self, Answer};
use super::join::Applied;
use super::pulls::{Pull, Staged, Want};
use super::replicator::{Out, Peer, Replicator, Sync, next_conn};
use super::serve::{self, Asked, Offer};
use crate::budget::Class;
use crate::io::{ConnId, Implausible};
use crate::limits;
use crate::mutations::Mutation;

impl Replicator {
    /// A pull came. It is answered at the end of the turn, for what keeps
    /// members alive goes first.
    pub(super) fn note_pull(&mut self, asked: Asked) {
        let known = |other: &Asked| other.from == asked.from && other.pull == asked.pull;
        if self.asked.iter().any(known) {
            return;
        }
        if self.asked.len() >= limits::PULLS_WAITING {
            self.asked.pop_front();
            self.counters.pulls_dropped += 1;
        }
        self.asked.push_back(asked);
    }

    /// Answers what was asked, as far as there is room and somebody still waits.
    /// At most [`limits::ANSWERS_PER_TURN`]; more wait for the next turn.
    pub fn serve_asked(&mut self, now: Time, out: &mut Vec<Out>) {
        for _ in 0..limits::ANSWERS_PER_TURN {
            let Some(asked) = self.asked.pop_front() else {
                return;
            };
            let stale = now.since(asked.at) >= limits::PULL_STALE;
            if stale || !self.spare.has(Class::Pull) {
                self.counters.pulls_dropped += 1;
                continue;
            }
            self.serve(now, asked, out);
        }
    }

    fn serve(&mut self, now: Time, asked: Asked, out: &mut Vec<Out>) {
        let Asked {
            from,
            pull,
            claims,
            cover,
            ..
        } = asked;
        // What would take too many datagrams is not built for them.
        let most = self.most_parts() * limits::slots_per_part(self.config.datagram_bytes);
        let slots = self.store.answer_slots(from.actor, &claims, cover, most);
        let fits = slots <= most;
        let mut answer = if fits {
            self.store.answer(from.actor, &claims, cover)
        } else {
            self.store.heads(from.actor, &claims)
        };
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
        let answer = fits.then_some(answer);
        self.send_answer(now, from, pull, answer, claims, cover, out);
        self.pump(now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "one call, one place")]
    fn send_answer(
        &mut self,
        now: Time,
        from: Peer,
        pull: u64,
        answer: Option<Answer>,
        claims: Vec<Claim>,
        cover: Option<Cover>,
        out: &mut Vec<Out>,
    ) {
        let own = answer
            .as_ref()
            .map_or(0, |answer| answer.reaches(self.store.me()));
        let parts = answer.and_then(|answer| {
            serve::parts(
                pull,
                self.rng.u64(),
                answer,
                limits::slots_per_part(self.config.datagram_bytes),
                self.most_parts(),
            )
        });
        let to = from.addr;
        if let Some(parts) = parts {
            self.store.note_fetched(own);
            for body in parts {
                self.spare.spend();
                out.push(Out::Send {
                    class: Class::Pull,
                    to,
                    body,
                });
            }
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
        self.spare.spend();
        out.push(Out::Send {
            class: Class::Pull,
            to,
            body: Replica::BulkOffer { pull, token },
        });
    }

    /// Datagrams that one answer may take. An answer of which one part is
    /// withheld is no answer, and where datagrams run low a stream carries more
    /// for the two that lead to it.
    fn most_parts(&self) -> usize {
        let most = if self.spare.tenths() < limits::STREAM_TENTHS {
            limits::PARTS_LOW
        } else {
            self.config.max_parts
        };
        most.min(self.spare.count(Class::Pull))
    }

    pub(super) fn part(
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
        if open.conn.is_some() {
            open.deadline = now + self.config.bulk_timeout;
        }
        if self.mutations.on(Mutation::MergePerChunk) || self.mutations.on(Mutation::ClaimPerChunk)
        {
            let raise = self.mutations.on(Mutation::ClaimPerChunk);
            for delta in &deltas {
                self.store.apply_part(delta, raise);
            }
        }
        let staged = open.stage(
            answer.to_native(),
            index.to_native(),
            count.to_native(),
            deltas,
            floors,
        );
        self.refuse_overlong(now, id, out);
        match staged {
            Staged::Waiting => {}
            Staged::Malformed => {
                self.counters.refused += 1;
                self.pull_failed(now, id, out);
            }
            Staged::Complete(deltas, floors) => self.complete(now, id, &deltas, &floors, out),
        }
    }

    /// Whoever has sent more of one log than an honest one can hold here: nothing of
    /// it is kept, so that what is refused at last takes no memory until then.
    fn refuse_overlong(&mut self, now: Time, id: u64, out: &mut Vec<Out>) {
        let Some(open) = self.pulls.open.get(&id) else {
            return;
        };
        let overlong = open.longer_than(self.store.log_most());
        if overlong.is_empty() || self.mutations.on(Mutation::ForeignWithoutShare) {
            return;
        }
        for &(actor, hi) in &overlong {
            self.set_aside(now, actor, hi, Implausible::Foreign, out);
        }
        if let Some(open) = self.pulls.open.get_mut(&id) {
            open.refuse(overlong.into_iter().map(|(actor, _)| actor).collect());
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
        match pull.conn {
            Some(conn) => out.push(Out::BulkClose { conn }),
            // By which of two attempts nobody knows: the longer is the safer.
            None => self.answer_time.sample(now.since(pull.sent)),
        }
        self.counters.late_answers += u64::from(pull.lapsed);
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
                Applied::Implausible => {
                    self.set_aside(now, delta.actor, delta.hi, Implausible::Term, out);
                }
                Applied::Foreign => {
                    self.set_aside(now, delta.actor, delta.hi, Implausible::Foreign, out);
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
                Some(next) => self.sync_from(now, sync.peer, next, pull.class, out),
                None => self.synced = true,
            }
        }
        self.pump(now, out);
        self.flush(now, out);
    }

    /// A pull was not answered in time. It is sent once more under its own name,
    /// so that either answer counts; after that others are asked, and a late
    /// answer still counts.
    pub(super) fn pull_timed_out(&mut self, now: Time, id: u64, out: &mut Vec<Out>) {
        let Some(pull) = self.pulls.open.get(&id) else {
            return;
        };
        let drops = self.mutations.on(Mutation::LateAnswersDropped);
        if pull.conn.is_some() || drops {
            return self.pull_failed(now, id, out);
        }
        let lives = self.peer(pull.peer.actor.node) == Some(pull.peer);
        if lives && pull.tries < self.config.pull_tries && self.spare.has(Class::Pull) {
            let wait = self.pull_wait() * 2;
            let Some(pull) = self.pulls.open.get_mut(&id) else {
                return;
            };
            pull.tries += 1;
            pull.deadline = now + wait;
            let pull = pull.clone();
            return self.send_pull(id, &pull, out);
        }
        self.pulls.lapse(id);
        self.give_up(now, id, out);
    }

    /// A pull was answered badly, or its stream broke.
    pub(super) fn pull_failed(&mut self, now: Time, id: u64, out: &mut Vec<Out>) {
        let Some(pull) = self.pulls.open.remove(&id) else {
            return;
        };
        if let Some(conn) = pull.conn {
            out.push(Out::BulkClose { conn });
        }
        self.answered_badly(now, id, pull.peer, out);
    }

    fn give_up(&mut self, now: Time, id: u64, out: &mut Vec<Out>) {
        if let Some(peer) = self.pulls.open.get(&id).map(|pull| pull.peer) {
            self.answered_badly(now, id, peer, out);
        }
    }

    fn answered_badly(&mut self, now: Time, id: u64, peer: Peer, out: &mut Vec<Out>) {
        self.counters.pulls_failed += 1;
        if self.sync.is_some_and(|sync| sync.pull == id) {
            self.sync = None;
        }
        self.pulls.give_back(id, peer.actor.node);
        self.pump(now, out);
    }

    /// Notes that somebody has more of a log than this node.
    pub(super) fn want(
        &mut self,
        head: Head,
        source: NodeId,
        hops: u8,
        repair: bool,
        out: &mut Vec<Out>,
    ) {
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
        let barred = self.store.barred.contains(&actor.node);
        if barred || below_floor || (held && !repair) || self.is_set_aside(actor) {
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
    pub(super) fn pump(&mut self, now: Time, out: &mut Vec<Out>) {
        self.gathering = false;
        if self.pulls.wanted.is_empty() {
            return;
        }
        // The less there is to send with, the more is asked for together.
        let missing = 10_u32.saturating_sub(self.spare.tenths());
        let low = missing > 1;
        if low || self.news.is_busy(now, &self.config) {
            if now < self.next_round {
                self.gathering = true;
                return;
            }
            self.next_round = now + self.config.mass_gathering * (1 + 2 * missing).min(5);
        }
        if !self.spare.has(Class::Pull) {
            self.gathering = true;
            return;
        }
        if self.spare.tenths() < limits::STREAM_TENTHS {
            return self.pump_stream(now, out);
        }
        let most_open = if low { 2 } else { limits::PULLS };
        while self.pulls.waiting() < most_open && self.spare.has(Class::Pull) {
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
            let id = self.ask(now, peer, claims, None, Class::Pull, out);
            for actor in actors {
                if let Some(want) = self.pulls.wanted.get_mut(&actor) {
                    want.asked = Some(id);
                }
            }
        }
    }

    /// Asks one of those who have something that is wanted for all that it has,
    /// on a stream: it takes no datagram there and none back.
    fn pump_stream(&mut self, now: Time, out: &mut Vec<Out>) {
        if self.pulls.waiting() >= limits::STREAM_PULLS {
            return;
        }
        let unasked = |want: &&Want| want.asked.is_none();
        let peers: Vec<Peer> = self
            .pulls
            .wanted
            .values()
            .filter(unasked)
            .filter_map(|want| {
                let living = want.sources.iter().rev();
                living.filter_map(|&node| find(&self.peers, node)).next()
            })
            .filter(|peer| self.pulls.with_peer(peer.actor.node) == 0)
            .collect();
        if peers.is_empty() {
            // Nobody lives who spoke of it: digests will bring it back.
            self.pulls.wanted.retain(|_, want| {
                want.asked.is_some()
                    || want
                        .sources
                        .iter()
                        .any(|&node| find(&self.peers, node).is_some())
            });
            return;
        }
        let peer = peers[self.rng.below(peers.len())];
        // What this node tells of is named too: whoever lacks it learns it so.
        let most = limits::claims_per_pull(limits::BULK_FRAME_BYTES);
        let wanted = self.pulls.wanted.keys().copied();
        let actors: BTreeSet<Actor> = wanted.chain(self.news.told()).collect();
        let claims: Vec<Claim> = actors
            .into_iter()
            .take(most)
            .map(|actor| self.store.claim_on(actor))
            .collect();
        let id = self.rng.u64();
        for claim in &claims {
            if let Some(want) = self.pulls.wanted.get_mut(&claim.actor)
                && want.asked.is_none()
                && want.sources.contains(&peer.actor.node)
            {
                want.asked = Some(id);
            }
        }
        let conn = next_conn(&mut self.last_conn);
        let deadline = now + self.config.bulk_timeout;
        let mut pull = Pull::new(peer, claims, None, Class::Pull, now, deadline);
        pull.conn = Some(conn);
        self.counters.pulls += 1;
        out.push(Out::BulkConnect {
            conn,
            to: peer.addr,
            hello: Replica::Pull {
                pull: id,
                claims: pull.claims.clone(),
                cover: None,
                floors: Vec::new(),
            },
        });
        self.pulls.open.insert(id, pull);
    }

    fn ask(
        &mut self,
        now: Time,
        peer: Peer,
        claims: Vec<Claim>,
        cover: Option<Cover>,
        class: Class,
        out: &mut Vec<Out>,
    ) -> u64 {
        let id = self.rng.u64();
        let deadline = now + self.pull_wait();
        let pull = Pull::new(peer, claims, cover, class, now, deadline);
        self.send_pull(id, &pull, out);
        self.pulls.open.insert(id, pull);
        id
    }

    /// How long to wait for an answer.
    fn pull_wait(&self) -> Duration {
        if self.mutations.on(Mutation::LateAnswersDropped) {
            return Duration::from_millis(25);
        }
        let seen = self.answer_time.mean() * 4;
        seen.clamp(self.config.pull_timeout, limits::PULL_WAIT_MAX)
    }

    fn send_pull(&mut self, id: u64, pull: &Pull, out: &mut Vec<Out>) {
        self.counters.pulls += 1;
        self.spare.spend();
        let floors = pull.cover.map_or_else(Vec::new, |cover| {
            self.store.floors_within(cover, limits::FLOORS_PER_PULL)
        });
        out.push(Out::Send {
            class: pull.class,
            to: pull.peer.addr,
            body: Replica::Pull {
                pull: id,
                claims: pull.claims.clone(),
                cover: pull.cover,
                floors,
            },
        });
    }

    pub(super) fn sync_from(
        &mut self,
        now: Time,
        peer: Peer,
        first: Actor,
        class: Class,
        out: &mut Vec<Out>,
    ) {
        let most = limits::claims_per_pull(self.config.datagram_bytes);
        let most = most.saturating_sub(self.aside_named());
        let (mut claims, cover) = self.store.claims_from(first, most);
        self.name_aside(&mut claims, cover);
        let pull = self.ask(now, peer, claims, Some(cover), class, out);
        self.sync = Some(Sync { peer, pull });
    }

    /// Others say that some lives are gone for good.
    pub(super) fn heed_floors(&mut self, floors: &[Floor], out: &mut Vec<Out>) {
        for floor in floors {
            let known = self.store.floor(floor.node).unwrap_or(0);
            // One that no life could rise above would bury the name for ever.
            let barred = self.store.barred.contains(&floor.node);
            if barred || floor.epoch <= known || floor.epoch > self.epoch_max {
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
