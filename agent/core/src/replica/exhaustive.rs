//! Every schedule of a small world, over the real [`Store`].
//!
//! Three actors, one check, at most two messages under way. From the empty
//! world every interleaving of write, release, pull (its request and its answer
//! apart, each delivered, lost, duplicated or overtaken), restart, collection
//! and forgetting is walked to a given depth; worlds that were met before at no
//! greater depth are not walked again. In every world equal claims must imply
//! equal state, and from a share of them a calm exchange must make all maps
//! equal.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use watchfire_wire::message::replica::{Claim, Delta, Floor, Value};
use watchfire_wire::{Actor, CheckId, NodeId, Verdict};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::delta::{FIRST, LAST};
use super::{Applied, Collect, Store};
use crate::mutations::Mutations;

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Distinct worlds met.
    pub states: u64,
    /// Worlds in which equal claims hid unequal state, or from which a calm
    /// exchange did not make all maps equal.
    pub divergences: u64,
    /// Steps from the empty world to the farthest.
    pub depth: u32,
    /// All worlds within that depth were met: the bound on states did not end
    /// the walk.
    pub complete: bool,
    /// The steps to the first divergence.
    pub witness: Vec<Step>,
}

/// Walks all worlds within `depth` steps, but meets no more than `max_states`.
/// Memory grows by 24 bytes a state.
#[must_use]
pub fn walk(depth: u32, max_states: u64, mutations: Mutations) -> Walk {
    let mut walker = Walker {
        met: HashMap::default(),
        max_states,
        path: Vec::new(),
        walk: Walk {
            states: 0,
            divergences: 0,
            depth,
            complete: true,
            witness: Vec::new(),
        },
    };
    walker.visit(&World::new(mutations), depth);
    walker.walk
}

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node writes, flipping what it holds.
    Write(u8),
    /// A node releases the check.
    Release(u8),
    /// A node collects what it released and what no longer wins.
    Collect(u8),
    /// A node collects all that it released.
    CollectAll(u8),
    /// The first node asks the second for all that it lacks.
    Ask(u8, u8),
    /// A message under way arrives.
    Deliver(u8),
    /// A message under way arrives, and will arrive again.
    Duplicate(u8),
    /// A message under way is lost.
    Lose(u8),
    /// A node restarts with nothing; its epoch grows.
    Restart(u8),
    /// A node restarts with nothing, not even its epoch.
    RestartForgetful(u8),
    /// The first node forgets what the second wrote before its present life.
    Forget(u8, u8),
}

const NODES: u8 = 3;
const UNDER_WAY: usize = 2;
const WRITES: u8 = 2;
const RESTARTS: u8 = 1;
/// One in so many worlds is tried for convergence; the others only for equal
/// state at equal claims.
const CALM_SHARE: u64 = 16;

struct Walker {
    met: HashMap<u64, u8, BuildHasherDefault<Xxh3Default>>,
    max_states: u64,
    path: Vec<Step>,
    walk: Walk,
}

impl Walker {
    fn visit(&mut self, world: &World, left: u32) {
        let print = world.fingerprint();
        let left8 = u8::try_from(left).unwrap_or(u8::MAX);
        match self.met.get_mut(&print) {
            Some(known) if *known >= left8 => return,
            Some(known) => *known = left8,
            None => {
                if self.walk.states >= self.max_states {
                    self.walk.complete = false;
                    return;
                }
                self.met.insert(print, left8);
                self.walk.states += 1;
                let calm = print.is_multiple_of(CALM_SHARE);
                if world.contradicts_itself() || (calm && !world.converges()) {
                    self.walk.divergences += 1;
                    if self.walk.witness.is_empty() {
                        self.walk.witness.clone_from(&self.path);
                    }
                    return;
                }
            }
        }
        if left == 0 {
            return;
        }
        for step in world.steps() {
            if let Some(next) = world.after(step) {
                self.path.push(step);
                self.visit(&next, left - 1);
                self.path.pop();
            }
        }
    }
}

/// The whole state of the small world.
#[derive(Clone)]
struct World {
    stores: [Store; NODES as usize],
    under_way: Vec<Message>,
    writes: [u8; NODES as usize],
    restarts: [u8; NODES as usize],
}

#[derive(Clone, Debug)]
enum Message {
    Request {
        from: u8,
        to: u8,
        claims: Vec<Claim>,
        floors: Vec<Floor>,
    },
    Answer {
        to: u8,
        deltas: Vec<Delta>,
        floors: Vec<Floor>,
    },
}

impl World {
    fn new(mutations: Mutations) -> Self {
        let store = |node: u8| {
            let mut store = Store::new(actor(node, 1, 1), mutations);
            // Views differ: each node thinks most of itself.
            for other in 0..NODES {
                store.set_view(id(other), if other == node { 9 } else { 1 });
            }
            store
        };
        Self {
            stores: [store(0), store(1), store(2)],
            under_way: Vec::new(),
            writes: [0; NODES as usize],
            restarts: [0; NODES as usize],
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::with_capacity(32);
        for (at, _) in (0..).zip(&self.under_way) {
            steps.extend([Step::Deliver(at), Step::Duplicate(at), Step::Lose(at)]);
        }
        for node in 0..NODES {
            if self.writes[usize::from(node)] < WRITES {
                steps.push(Step::Write(node));
            }
            steps.extend([
                Step::Release(node),
                Step::Collect(node),
                Step::CollectAll(node),
            ]);
            if self.restarts[usize::from(node)] < RESTARTS {
                steps.extend([Step::Restart(node), Step::RestartForgetful(node)]);
            }
            for other in 0..NODES {
                if other != node {
                    steps.push(Step::Forget(node, other));
                    if self.under_way.len() < UNDER_WAY {
                        steps.push(Step::Ask(node, other));
                    }
                }
            }
        }
        steps
    }

    /// The world after a step, if it changes anything.
    fn after(&self, step: Step) -> Option<Self> {
        let mut next = self.clone();
        let changed = match step {
            Step::Write(node) => {
                next.writes[usize::from(node)] += 1;
                let flip = next.writes[usize::from(node)] % 2;
                next.store(node)
                    .write(check(), 10 + u64::from(node), value(node, flip));
                true
            }
            Step::Release(node) => next.store(node).release(check(), 0, false, None).is_some(),
            Step::Collect(node) => {
                let before = next.store(node).digest();
                next.store(node).collect(
                    |_, wins| {
                        if wins { Collect::Renew } else { Collect::Drop }
                    },
                );
                next.store(node).digest() != before
            }
            Step::CollectAll(node) => {
                let before = next.store(node).digest();
                next.store(node).collect(|_, _| Collect::Drop);
                next.store(node).digest() != before
            }
            Step::Ask(from, to) => {
                let request = next.request(from, to);
                next.under_way.push(request);
                true
            }
            Step::Deliver(at) => {
                let message = next.under_way.remove(usize::from(at));
                if let Some(answer) = next.deliver(message) {
                    next.under_way.push(answer);
                }
                true
            }
            Step::Duplicate(at) => {
                let message = next.under_way[usize::from(at)].clone();
                let answer = next.deliver(message);
                match answer {
                    Some(answer) if next.under_way.len() < UNDER_WAY => {
                        next.under_way.push(answer);
                        true
                    }
                    Some(_) => false,
                    None => true,
                }
            }
            Step::Lose(at) => {
                next.under_way.remove(usize::from(at));
                true
            }
            Step::Restart(node) => {
                let me = next.store(node).me();
                next.restart(node, me.epoch + 1, me.boot + 1);
                true
            }
            Step::RestartForgetful(node) => {
                let me = next.store(node).me();
                next.restart(node, me.epoch, me.boot + 1);
                true
            }
            Step::Forget(node, other) => {
                let living = next.store(other).me();
                next.store(node).raise_floor(id(other), living.epoch) > 0
            }
        };
        changed.then_some(next)
    }

    fn store(&mut self, node: u8) -> &mut Store {
        &mut self.stores[usize::from(node)]
    }

    fn restart(&mut self, node: u8, epoch: u64, boot: u64) {
        self.restarts[usize::from(node)] += 1;
        let mutations = self.store(node).mutations;
        let mut store = Store::new(actor(node, epoch, boot), mutations);
        for other in 0..NODES {
            store.set_view(id(other), if other == node { 9 } else { 1 });
        }
        *self.store(node) = store;
    }

    fn request(&mut self, from: u8, to: u8) -> Message {
        let (claims, cover) = self.store(from).claims_from(FIRST, usize::MAX);
        Message::Request {
            from,
            to,
            claims,
            floors: self.store(from).floors_within(cover, usize::MAX),
        }
    }

    fn deliver(&mut self, message: Message) -> Option<Message> {
        match message {
            Message::Request {
                from,
                to,
                claims,
                floors,
            } => {
                self.heed(to, &floors);
                let requester = self.stores[usize::from(from)].me();
                let cover = super::delta::cover(FIRST, LAST);
                let answer = self.store(to).answer(requester, &claims, Some(cover));
                if answer.beyond_own {
                    let me = self.store(to).me();
                    self.renew(to, me.epoch + 1);
                }
                Some(Message::Answer {
                    to: from,
                    deltas: answer.deltas,
                    floors: answer.floors,
                })
            }
            Message::Answer { to, deltas, floors } => {
                self.heed(to, &floors);
                for delta in deltas {
                    let applied = self.store(to).apply(&delta);
                    let me = self.store(to).me();
                    let own = self.store(to).claim(me).map_or(0, |(seq, _)| seq);
                    if let Applied::Own(seq) = applied
                        && seq > own
                    {
                        self.renew(to, me.epoch + 1);
                    }
                }
                None
            }
        }
    }

    fn heed(&mut self, node: u8, floors: &[Floor]) {
        for floor in floors {
            let me = self.store(node).me();
            self.store(node).raise_floor(floor.node, floor.epoch);
            if floor.node == me.node && floor.epoch > me.epoch {
                self.renew(node, floor.epoch);
            }
        }
    }

    fn renew(&mut self, node: u8, epoch: u64) {
        let me = self.store(node).me();
        self.store(node).become_actor(Actor { epoch, ..me });
    }

    /// Do two maps differ in what they hold of an actor at the same claim?
    fn contradicts_itself(&self) -> bool {
        let [a, b, c] = &self.stores;
        [(a, b), (b, c), (a, c)].into_iter().any(|(left, right)| {
            left.claims().any(|(actor, seq)| {
                let ours = left.claim(actor);
                right
                    .claim(actor)
                    .is_some_and(|theirs| theirs.0 == seq && ours != Some(theirs))
            })
        })
    }

    /// Do all maps become equal when everybody asks everybody, with nothing
    /// lost and nothing written?
    fn converges(&self) -> bool {
        let mut calm = self.clone();
        calm.under_way.clear();
        for _ in 0..6 {
            for from in 0..NODES {
                for to in 0..NODES {
                    if from != to {
                        let request = calm.request(from, to);
                        let answer = calm.deliver(request);
                        calm.deliver(answer.expect("a request is answered"));
                    }
                }
            }
            let [a, b, c] = &calm.stores;
            if a.digest() == b.digest() && b.digest() == c.digest() {
                return a.winner(check()) == b.winner(check())
                    && b.winner(check()) == c.winner(check());
            }
        }
        false
    }

    fn fingerprint(&self) -> u64 {
        let mut bytes = Vec::with_capacity(128);
        for store in &self.stores {
            bytes.extend_from_slice(&store.fingerprint().to_le_bytes());
        }
        let mut messages: Vec<u64> = self.under_way.iter().map(Message::fingerprint).collect();
        messages.sort_unstable();
        for message in messages {
            bytes.extend_from_slice(&message.to_le_bytes());
        }
        bytes.extend_from_slice(&self.writes);
        bytes.extend_from_slice(&self.restarts);
        xxh3_64(&bytes)
    }
}

impl Message {
    fn fingerprint(&self) -> u64 {
        let mut words: Vec<u64> = Vec::with_capacity(64);
        let floors = match self {
            Self::Request {
                from,
                to,
                claims,
                floors,
            } => {
                words.extend([1, u64::from(*from), u64::from(*to)]);
                for claim in claims {
                    put(&mut words, claim.actor);
                    words.extend([claim.seq, claim.digest]);
                }
                floors
            }
            Self::Answer { to, deltas, floors } => {
                words.extend([2, u64::from(*to)]);
                for delta in deltas {
                    put(&mut words, delta.actor);
                    words.extend([delta.lo, delta.hi, delta.trim, u64::from(delta.snapshot)]);
                    for slot in &delta.slots {
                        let value = slot.value;
                        words.extend([slot.seq, slot.term, slot.priority, slot.hold as u64]);
                        words.extend([u64::from(value.verdict.code()), value.confirmed_by.0]);
                    }
                }
                floors
            }
        };
        for floor in floors {
            words.extend([floor.node.0, floor.epoch]);
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        xxh3_64(&bytes)
    }
}

fn put(words: &mut Vec<u64>, actor: Actor) {
    words.extend([actor.node.0, actor.epoch, actor.boot]);
}

const fn id(node: u8) -> NodeId {
    NodeId(node as u64 + 1)
}

const fn actor(node: u8, epoch: u64, boot: u64) -> Actor {
    Actor {
        node: id(node),
        epoch,
        boot,
    }
}

const fn check() -> CheckId {
    CheckId([7; 16])
}

const fn value(node: u8, flip: u8) -> Value {
    Value {
        verdict: if flip == 1 {
            Verdict::Down
        } else {
            Verdict::Up
        },
        reason: 0,
        contrary: 0,
        agreed: 0,
        dissented: 0,
        latency_us: 0,
        since_ms: 0,
        confirmed_by: id(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_world_within_five_steps_contradicts_itself() {
        let walk = walk(5, u64::MAX, Mutations::NONE);
        assert_eq!(walk.divergences, 0, "{:?}", walk.witness);
        assert!(walk.complete);
        assert!(walk.states > 10_000, "{}", walk.states);
    }

    #[cfg(feature = "mutations")]
    #[test]
    fn a_rule_taken_out_is_noticed() {
        use crate::mutations::Mutation;
        for mutation in [
            Mutation::TalkMerge,
            Mutation::CollectWithoutTrim,
            Mutation::ViewPriority,
        ] {
            let walk = walk(7, 400_000, Mutations::only(mutation));
            assert!(walk.divergences > 0, "{mutation:?}");
        }
    }
}
