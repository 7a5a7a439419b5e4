//! Operators' decisions, as one node of the POP holds and spreads them.
//!
//! A small convergent [map](Map) of its own: it belongs to names and to nobody's
//! log, so it outlives whoever decided. News of a decision is pushed along the
//! tree that news of logs takes; what is lost is found by its digest, which is
//! mixed into the one that pings carry. In the calm it costs no byte.

mod clock;
mod decision;
mod map;
mod tell;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rkyv::rancor::Failure;
use watchfire_wire::limits::{WHO_BYTES, WHY_BYTES};
use watchfire_wire::message::overrides::{ArchivedOverrides, Decision as Said, Overrides as Body};
use watchfire_wire::{Actor, NodeId, Time};

pub use self::clock::{CLOCKS, PopClock, Wall};
pub use self::decision::{
    Decided, Decision, DecisionId, Kept, Op, POP, Refused, Request, member_key, member_of,
};
pub use self::map::{Joined, Map};
use crate::budget::Class;
use crate::io::{Event, Output};
use crate::limits::{
    COUNTER_AHEAD_MS, HOPS, NAMES_PER_DECISION, OVERRIDE_BUCKETS, OVERRIDE_DATAGRAMS,
};
use crate::mutations::Mutations;
use crate::replica::Peer;
use crate::rng::Rng;

/// A difference of digests that has lasted so long may be one of decisions:
/// words on checks are mostly on their way.
const PATIENCE: Duration = Duration::from_millis(200);

/// From one comparison to the next.
const COMPARE_EVERY: Duration = Duration::from_millis(500);

/// The same while comparisons bring something.
const COMPARE_ON: Duration = Duration::from_millis(100);

/// What others decided is written to disk at most so often.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Something to send, if its class may.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// What gives way before it and after it.
    pub class: Class,
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub body: Body,
}

crate::counters::counters! {
    /// What is counted.
    pub struct OverrideCounters as "overrides_" {
        /// Decisions that operators gave to this node.
        pub given: u64,
        /// Names that a decision of another node was taken for.
        pub heard: u64,
        /// Comparisons with a peer.
        pub compared: u64,
        /// Decisions that no agent can have made, dropped.
        pub refused: u64,
        /// Names that found no room, or were forgotten to make some.
        pub forgotten: u64,
    }
}

/// The room of a node that holds operators' decisions.
#[derive(Debug)]
pub struct Overrides {
    map: Map,
    clock: PopClock,
    news: tell::News,
    peers: Vec<Peer>,
    datagram_bytes: usize,
    /// Since when a peer's state differs from this node's.
    differs_since: Option<Time>,
    next_compare: Time,
    next_answer: Time,
    /// The map changed, and the disk does not know.
    unkept: bool,
    next_keep: Time,
    version: u64,
    /// The shell knows what is in force without end.
    began: bool,
    /// The shell knows all that is in force: POP time is known, or nothing rests
    /// on it.
    settled: bool,
    /// Members whose decisions changed since the node last looked.
    members: Vec<Arc<str>>,
    rng: Rng,
    out: Vec<Send>,
    counters: OverrideCounters,
}

impl Overrides {
    /// That of a node that starts now, from what was on its disk.
    #[must_use]
    pub fn new(
        kept: &Kept,
        own: Wall,
        datagram_bytes: usize,
        mutations: Mutations,
        now: Time,
        rng: Rng,
    ) -> Self {
        let mut map = Map::new(mutations);
        map.saw(kept.counter);
        for (decision, names) in &kept.decisions {
            for name in names.iter().filter(|name| decision.suits(name)) {
                map.join(name, decision, None);
            }
        }
        Self {
            clock: PopClock::new(own, now),
            news: tell::News::default(),
            peers: Vec::new(),
            datagram_bytes,
            differs_since: None,
            next_compare: now,
            next_answer: now,
            unkept: false,
            next_keep: now,
            version: 0,
            began: false,
            settled: false,
            members: map
                .all()
                .map(|(name, _, _)| Arc::clone(name))
                .filter(|name| member_of(name).is_some())
                .collect(),
            map,
            rng,
            out: Vec::new(),
            counters: OverrideCounters::default(),
        }
    }

    /// The decisions.
    #[must_use]
    pub const fn map(&self) -> &Map {
        &self.map
    }

    /// POP time.
    #[must_use]
    pub const fn clock(&self) -> &PopClock {
        &self.clock
    }

    /// POP time, to be told of clocks.
    pub const fn clock_mut(&mut self) -> &mut PopClock {
        &mut self.clock
    }

    /// What it counted.
    #[must_use]
    pub const fn counters(&self) -> &OverrideCounters {
        &self.counters
    }

    /// It is known what is in force.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.settled
    }

    /// Of all decisions; 0 for none.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.map.digest()
    }

    /// Everything that must be on disk.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let mut by_decision: BTreeMap<&Arc<Decision>, Vec<Arc<str>>> = BTreeMap::new();
        for (name, decision, _) in self.map.all() {
            let names = by_decision.entry(decision).or_default();
            names.push(Arc::clone(name));
        }
        Kept {
            version: self.version,
            counter: self.map.greatest(),
            decisions: by_decision
                .into_iter()
                .map(|(decision, names)| (Arc::clone(decision), names))
                .collect(),
        }
    }

    /// Members about whom something was decided or ended, by their keys, each with
    /// the last decision and whether it is in force.
    pub fn take_members(&mut self) -> Vec<(Arc<str>, Arc<Decision>, bool)> {
        let changed = core::mem::take(&mut self.members);
        let with = |name: Arc<str>| {
            let (decision, in_force) = self.map.last(&name)?;
            Some((name, Arc::clone(decision), in_force))
        };
        changed.into_iter().filter_map(with).collect()
    }

    /// The body that tells a member of the decision about it.
    #[must_use]
    pub fn telling(&self, key: &Arc<str>, decision: &Arc<Decision>) -> Option<Body> {
        let names = core::slice::from_ref(key);
        let bodies = tell::pack([(decision, names)].into_iter(), HOPS, self.datagram_bytes);
        bodies.into_iter().next()
    }

    /// Takes the living members, in order of their ids.
    pub fn set_peers(&mut self, peers: Vec<Peer>) {
        self.peers = peers;
        let peers = &self.peers;
        let lives = |node| peers.binary_search_by_key(&node, |peer| peer.actor.node);
        self.clock.set_living(|node| lives(node).is_ok());
    }

    /// An operator decides, at the node that is this actor now.
    ///
    /// # Errors
    /// What cannot be decided; then nothing changed.
    pub fn decide(
        &mut self,
        now: Time,
        me: Actor,
        request: Request,
        out: &mut VecDeque<Output>,
    ) -> Result<Decided, Refused> {
        let Request {
            op,
            mut names,
            for_ms,
            who,
            why,
        } = request;
        names.sort_unstable();
        names.dedup();
        let pop_ms = self.clock.guess_ms(now);
        let decision = Decision {
            id: DecisionId {
                counter: self.map.greatest().saturating_add(1),
                by: me,
            },
            op,
            at_ms: pop_ms,
            until_ms: for_ms.map(|lasts| pop_ms.saturating_add(lasts)),
            who: printable(&who, WHO_BYTES).into(),
            why: why.as_str().into(),
        };
        if names.is_empty() {
            return Err(Refused::Nothing);
        }
        if names.len() > NAMES_PER_DECISION {
            return Err(Refused::TooMany(names.len()));
        }
        if let Some(name) = names.iter().find(|name| !decision.suits(name)) {
            return Err(Refused::Name(name.to_string()));
        }
        if why.len() > WHY_BYTES {
            return Err(Refused::Why(why.len()));
        }
        if why.chars().any(char::is_control) {
            return Err(Refused::Unprintable);
        }
        if !self.map.has_room(names.iter()) {
            return Err(Refused::Full);
        }
        self.counters.given += 1;
        let decision = Arc::new(decision);
        self.take(now, &decision, names, 0, out);
        self.keep(now, out);
        Ok(Decided {
            decision,
            clocks: self.clock.clocks().max(1),
            version: self.version,
        })
    }

    /// A living member speaks, from its own address.
    pub fn handle(
        &mut self,
        now: Time,
        from: Peer,
        body: &ArchivedOverrides,
        out: &mut VecDeque<Output>,
    ) {
        match body {
            ArchivedOverrides::Digest { digest } => {
                if digest.to_native() != self.map.digest() && now >= self.next_answer {
                    self.next_answer = now + COMPARE_ON / 10;
                    self.compare(from, false);
                }
            }
            ArchivedOverrides::Compare { sums, answer } => {
                if sums.len() == OVERRIDE_BUCKETS {
                    let mut theirs = [0; OVERRIDE_BUCKETS];
                    for (sum, sent) in theirs.iter_mut().zip(sums.iter()) {
                        *sum = sent.to_native();
                    }
                    self.compared(now, from, &theirs, *answer);
                }
            }
            ArchivedOverrides::Decisions { hops, decisions } => {
                let Ok(decisions) = rkyv::deserialize::<Vec<Said>, Failure>(decisions) else {
                    return;
                };
                for said in decisions {
                    self.hear(now, &said, *hops, out);
                }
            }
        }
    }

    /// A living member's digest of its whole state came, and is this node's or
    /// not.
    pub fn peer_digest(&mut self, now: Time, from: Peer, equal: bool) {
        if equal {
            self.differs_since = None;
            return;
        }
        let since = *self.differs_since.get_or_insert(now);
        if now.since(since) >= PATIENCE && now >= self.next_compare {
            self.next_compare = now + COMPARE_EVERY;
            self.counters.compared += 1;
            let digest = self.map.digest();
            self.send(Class::Pull, from.addr, Body::Digest { digest });
        }
    }

    /// When there is something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        let end = self.map.next_end();
        let ends = end.map_or(Time::NEVER, |end| self.clock.when(end));
        let waits = if end.is_some() {
            self.clock.patience()
        } else {
            Time::NEVER
        };
        let keeps = if self.unkept {
            self.next_keep
        } else {
            Time::NEVER
        };
        self.news.next_timeout().min(ends).min(waits).min(keeps)
    }

    /// Does what is due. `others`: how many other members live, once this node
    /// knows who does.
    pub fn tick(
        &mut self,
        now: Time,
        me: Actor,
        others: Option<usize>,
        out: &mut VecDeque<Output>,
    ) {
        self.clock.settle(now, others);
        if let Some(pop_ms) = self.clock.now_ms(now) {
            self.end(pop_ms, out);
        }
        self.settle(out);
        if self.unkept && now >= self.next_keep {
            self.keep(now, out);
        }
        if self.news.next_timeout() <= now {
            let bytes = self.datagram_bytes;
            let (peers, rng) = (&self.peers, &mut self.rng);
            self.news
                .flush(now, me.node, peers, bytes, rng, &mut self.out);
        }
    }

    /// What is to be sent.
    pub fn take_sends(&mut self) -> Vec<Send> {
        core::mem::take(&mut self.out)
    }

    /// Somebody says that this node was put out.
    pub fn hear_own(&mut self, now: Time, said: &Said, out: &mut VecDeque<Output>) {
        self.hear(now, said, HOPS - 1, out);
    }

    /// A member says that this was decided.
    fn hear(&mut self, now: Time, said: &Said, hops: u8, out: &mut VecDeque<Output>) {
        let bound = self.clock.guess_ms(now).saturating_add(COUNTER_AHEAD_MS);
        let plausible = said.counter <= bound;
        let decision = Decision::of_wire(said).filter(|_| plausible);
        let Some(decision) = decision.map(Arc::new) else {
            self.counters.refused += 1;
            return;
        };
        let names = said.names.iter().map(String::as_str);
        let suits = |name: &&str| decision.suits(name);
        let names: Vec<Arc<str>> = names.filter(suits).map(Into::into).collect();
        self.take(now, &decision, names, hops, out);
    }

    /// Joins a decision about these names, and tells of what is new.
    fn take(
        &mut self,
        now: Time,
        decision: &Arc<Decision>,
        names: Vec<Arc<str>>,
        hops: u8,
        out: &mut VecDeque<Output>,
    ) {
        let pop_ms = self.clock.now_ms(now);
        let mut taken = Vec::new();
        for name in names {
            match self.map.join(&name, decision, pop_ms) {
                Joined::Known => continue,
                Joined::Full => self.counters.forgotten += 1,
                Joined::Taken(gone) => {
                    self.counters.forgotten += u64::from(gone.is_some());
                    if let Some(gone) = gone {
                        self.show(&gone, out);
                    }
                    self.show(&name, out);
                    taken.push(name);
                }
            }
        }
        if taken.is_empty() {
            return;
        }
        self.unkept = true;
        self.version += 1;
        self.counters.heard += if hops > 0 { taken.len() as u64 } else { 0 };
        self.next_compare = self.next_compare.min(now + COMPARE_ON);
        // What is over is no news to who was away.
        if hops < HOPS || !decision.is_over(pop_ms) {
            out.push_back(Output::Event(Event::Decided {
                decision: Arc::clone(decision),
                names: taken.clone(),
            }));
        }
        self.news.learn(now, decision, taken, hops);
    }

    /// Tells the shell what is in force of a name, as far as that is known.
    fn show(&mut self, name: &Arc<str>, out: &mut VecDeque<Output>) {
        if member_of(name).is_some() {
            self.members.push(Arc::clone(name));
            return;
        }
        let what = self.map.in_force(name).cloned();
        let timed = what.as_ref().is_some_and(|what| what.until_ms.is_some());
        if timed && self.clock.clocks() == 0 {
            // It may have ended long ago.
            self.settled = false;
            return;
        }
        let name = Arc::clone(name);
        out.push_back(Output::Override { name, what });
    }

    /// Ends what has lasted for as long as it was meant to.
    fn end(&mut self, pop_ms: u64, out: &mut VecDeque<Output>) {
        let ended = self.map.end(pop_ms);
        let mut names: BTreeMap<Arc<Decision>, Vec<Arc<str>>> = BTreeMap::new();
        for (name, decision) in ended {
            self.show(&name, out);
            names.entry(decision).or_default().push(name);
        }
        for (decision, names) in names {
            out.push_back(Output::Event(Event::DecisionEnded { decision, names }));
        }
    }

    /// Says, as soon as it is known, all that is in force.
    fn settle(&mut self, out: &mut VecDeque<Output>) {
        let unknown = self.clock.clocks() == 0;
        let waits = unknown && self.map.next_end().is_some();
        if self.settled || waits && self.began {
            return;
        }
        let of_origins = |name: &Arc<str>| member_of(name).is_none();
        for (name, decision, in_force) in self.map.all().filter(|it| of_origins(it.0)) {
            let known = decision.until_ms.is_none() || !unknown;
            if in_force && known {
                out.push_back(Output::Override {
                    name: Arc::clone(name),
                    what: Some(Arc::clone(decision)),
                });
            }
        }
        self.began = true;
        if !waits {
            self.settled = true;
            out.push_back(Output::OverridesSettled);
        }
    }

    fn keep(&mut self, now: Time, out: &mut VecDeque<Output>) {
        self.unkept = false;
        self.next_keep = now + KEEP_EVERY;
        out.push_back(Output::KeepOverrides(Arc::new(self.kept())));
    }

    fn compare(&mut self, to: Peer, answer: bool) {
        let sums = self.map.sums().to_vec();
        self.send(Class::Pull, to.addr, Body::Compare { sums, answer });
    }

    /// Gives a peer what it may lack, and asks for what it may have.
    fn compared(&mut self, now: Time, from: Peer, theirs: &[u64; OVERRIDE_BUCKETS], answer: bool) {
        let differs = |bucket: usize| theirs[bucket] != self.map.sums()[bucket];
        if !(0..OVERRIDE_BUCKETS).any(differs) {
            return;
        }
        if !answer {
            if now < self.next_answer {
                return;
            }
            self.next_answer = now + COMPARE_ON / 10;
            self.compare(from, true);
        }
        // Where not all fits, each time another part of it goes first.
        let mut by_decision: BTreeMap<&Arc<Decision>, Vec<Arc<str>>> = BTreeMap::new();
        let first = self.rng.below(OVERRIDE_BUCKETS);
        let rank = |bucket: usize| (bucket + OVERRIDE_BUCKETS - first) % OVERRIDE_BUCKETS;
        let mut names: Vec<_> = self
            .map
            .all()
            .map(|(name, decision, _)| (Map::bucket(name), name, decision))
            .filter(|(bucket, _, _)| theirs[*bucket] != self.map.sums()[*bucket])
            .collect();
        names.sort_unstable_by_key(|(bucket, _, _)| rank(*bucket));
        // A datagram holds less than this many of the shortest names.
        names.truncate(OVERRIDE_DATAGRAMS * self.datagram_bytes / 8);
        for (_, name, decision) in names {
            by_decision
                .entry(decision)
                .or_default()
                .push(Arc::clone(name));
        }
        let all = by_decision
            .iter()
            .map(|(decision, names)| (*decision, names.as_slice()));
        let mut bodies = tell::pack(all, HOPS, self.datagram_bytes);
        let first = self.rng.below(bodies.len().max(1));
        bodies.rotate_left(first);
        bodies.truncate(OVERRIDE_DATAGRAMS);
        for body in bodies {
            self.send(Class::Pull, from.addr, body);
        }
    }

    fn send(&mut self, class: Class, to: SocketAddr, body: Body) {
        self.out.push(Send { class, to, body });
    }

    /// Who a member is to this room, by its node.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<Peer> {
        let at = self
            .peers
            .binary_search_by_key(&node, |peer| peer.actor.node);
        at.ok().map(|at| self.peers[at])
    }
}

/// As much of a text as fits and can be printed.
fn printable(text: &str, most: usize) -> String {
    let mut printed = String::new();
    for char in text.chars().filter(|char| !char.is_control()) {
        if printed.len() + char.len_utf8() > most {
            break;
        }
        printed.push(char);
    }
    printed
}
