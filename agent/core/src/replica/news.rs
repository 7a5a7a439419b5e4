//! Telling others that a log has grown: a few short rounds, then silence.
//!
//! The first round runs along a tree that is rooted at the author and laid over
//! the members in order of their ids, so that without loss every member is told
//! once; a few random peers beside it, and two echoes later on, cover for lost
//! datagrams and for views that differ. When many logs grow at once the tree
//! gives way to rounds among random peers at a slower pace, and each datagram
//! carries many heads. What all that misses, the digests on pings find.

use std::collections::BTreeMap;

use watchfire_wire::message::replica::{Head, Replica};
use watchfire_wire::{Actor, NodeId, Time};

use super::config::ReplicaConfig;
use super::replicator::{Out, Peer};
use super::store::Store;
use crate::budget::{Class, Spare};
use crate::limits;
use crate::rng::Rng;

/// Heads that are still being told.
#[derive(Clone, Debug)]
pub(super) struct News {
    told: BTreeMap<Actor, Telling>,
    /// When the first of them is due, or earlier.
    due: Time,
    last_flush: Option<Time>,
    /// Heads that were new lately: halved with every mass spacing that passes.
    activity: usize,
    /// There was no room: not before this again.
    held_until: Time,
    /// What may be sent at this moment.
    pub(super) spare: Spare,
}

#[derive(Clone, Copy, Debug)]
struct Telling {
    round: u8,
    hops: u8,
    due: Time,
}

/// What one peer is told in one flush.
#[derive(Debug)]
struct Told {
    class: Class,
    hops: u8,
    heads: Vec<Head>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            class: Class::Echo,
            hops: 0,
            heads: Vec::new(),
        }
    }
}

/// Rounds in which a head is told.
const ROUNDS: u8 = 3;

/// The same in a mass event.
const MASS_ROUNDS: u8 = 2;

/// With fewer tenths of what a node may send there are no trees.
const TREE_TENTHS: u32 = 8;

impl News {
    pub(super) const fn new() -> Self {
        Self {
            told: BTreeMap::new(),
            due: Time::NEVER,
            last_flush: None,
            activity: 0,
            held_until: Time::ZERO,
            spare: Spare::FULL,
        }
    }

    /// This log grew, by news that has travelled `hops` rounds so far.
    pub(super) fn learn(&mut self, now: Time, actor: Actor, hops: u8) {
        if hops >= limits::HOPS || self.told.len() >= limits::LOGS {
            return;
        }
        let telling = Telling {
            round: 0,
            hops,
            due: now,
        };
        self.due = self.due.min(now);
        match self.told.get_mut(&actor) {
            Some(known) if known.round == 0 => known.hops = known.hops.min(hops),
            Some(known) => *known = telling,
            None => {
                self.told.insert(actor, telling);
            }
        }
    }

    /// Many logs grow at once.
    pub(super) fn is_busy(&self, now: Time, config: &ReplicaConfig) -> bool {
        self.faded(now, config) > limits::TREE_HEADS
    }

    /// Whose logs are being told of.
    pub(super) fn told(&self) -> impl Iterator<Item = Actor> + '_ {
        self.told.keys().copied()
    }

    /// Nothing is being told.
    pub(super) fn is_silent(&self) -> bool {
        self.told.is_empty()
    }

    /// When there is something to tell.
    pub(super) fn next_timeout(&self, config: &ReplicaConfig) -> Time {
        if self.told.is_empty() {
            return Time::NEVER;
        }
        self.due.max(self.open_at(config))
    }

    /// Before this nothing more is told. The less there is to send with, the
    /// longer it is, and the more goes together.
    fn open_at(&self, config: &ReplicaConfig) -> Time {
        let Some(last) = self.last_flush else {
            return self.held_until;
        };
        let missing = 10_u32.saturating_sub(self.spare.tenths());
        let spacing = if self.is_mass() {
            config.mass_spacing + config.mass_spacing / 4 * missing
        } else {
            config.notify_spacing * (1 + 2 * missing)
        };
        (last + spacing).max(self.held_until)
    }

    /// Many logs grow at once, or there is too little to send with for a tree
    /// of each.
    fn is_mass(&self) -> bool {
        self.activity > limits::TREE_HEADS || self.spare.tenths() < TREE_TENTHS
    }

    fn faded(&self, now: Time, config: &ReplicaConfig) -> usize {
        let Some(last) = self.last_flush else {
            return 0;
        };
        let halvings = now.since(last).as_micros() / config.mass_spacing.as_micros().max(1);
        let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
        self.activity.checked_shr(halvings).unwrap_or(0)
    }

    /// Tells what is due.
    pub(super) fn flush(
        &mut self,
        now: Time,
        config: &ReplicaConfig,
        store: &mut Store,
        peers: &[Peer],
        rng: &mut Rng,
        out: &mut Vec<Out>,
    ) {
        if now < self.open_at(config).max(self.due) {
            return;
        }
        if !self.spare.has(Class::News) {
            self.held_until = now + config.mass_spacing;
            return;
        }
        let due: Vec<(Actor, Telling)> = self
            .told
            .iter()
            .filter(|(_, telling)| telling.due <= now)
            .map(|(&actor, &telling)| (actor, telling))
            .collect();
        let rounds = if self.is_mass() { MASS_ROUNDS } else { ROUNDS };
        for &(actor, telling) in &due {
            if telling.round + 1 < rounds {
                let wait = config.echo_spacing * (1 << telling.round);
                self.told.insert(
                    actor,
                    Telling {
                        round: telling.round + 1,
                        due: now + wait,
                        ..telling
                    },
                );
            } else {
                self.told.remove(&actor);
            }
        }
        let dues = self.told.values().map(|telling| telling.due);
        self.due = dues.min().unwrap_or(Time::NEVER);
        if due.is_empty() {
            return;
        }
        let fresh = due.iter().filter(|(_, telling)| telling.round == 0).count();
        self.activity = self.faded(now, config) + fresh;
        self.last_flush = Some(now);
        if peers.is_empty() {
            return;
        }
        let heads = due.iter().filter_map(|&(actor, telling)| {
            let (seq, _) = store.claim(actor)?;
            Some((Head { actor, seq }, telling))
        });
        let mut by_peer: BTreeMap<usize, Told> = BTreeMap::new();
        if self.is_mass() {
            let class = if fresh > 0 { Class::News } else { Class::Echo };
            let (heads, hops) = heads.fold((Vec::new(), 0), |(mut heads, hops), (head, t)| {
                heads.push(head);
                (heads, t.hops.max(hops))
            });
            for _ in 0..limits::MASS_PEERS {
                let peer = rng.below(peers.len());
                let heads = heads.clone();
                by_peer.insert(peer, Told { class, hops, heads });
            }
        } else {
            for (head, telling) in heads {
                let mut tell = |peer: usize, class: Class| {
                    let told = by_peer.entry(peer).or_default();
                    told.class = told.class.max(class);
                    told.hops = told.hops.max(telling.hops);
                    if told.heads.last() != Some(&head) {
                        told.heads.push(head);
                    }
                };
                let randoms = if telling.round == 0 {
                    for child in children(store.me().node, head.actor.node, peers) {
                        tell(child, Class::News);
                    }
                    limits::RANDOM_PEERS
                } else {
                    1
                };
                if peers.len() > limits::TREE_WIDTH {
                    for _ in 0..randoms {
                        tell(rng.below(peers.len()), Class::Echo);
                    }
                } else if telling.round > 0 {
                    tell(rng.below(peers.len()), Class::Echo);
                }
            }
        }
        // Whoever was overtaken goes on probing until it hears of it.
        let me = store.me();
        if let Some((seq, _)) = store.claim(me) {
            for node in store.take_overtaken() {
                let peer = peers.binary_search_by_key(&node, |peer| peer.actor.node);
                let Ok(peer) = peer else { continue };
                let told = by_peer.entry(peer).or_default();
                told.class = told.class.max(Class::News);
                if told.heads.iter().all(|head| head.actor != me) {
                    told.heads.push(Head { actor: me, seq });
                }
            }
        }
        for (peer, Told { class, hops, heads }) in by_peer {
            for heads in heads.chunks(limits::heads_per_notify(config.datagram_bytes)) {
                out.push(Out::Send {
                    class,
                    to: peers[peer].addr,
                    body: Replica::Notify {
                        heads: heads.to_vec(),
                        hops: hops + 1,
                    },
                });
            }
        }
    }
}

/// This node's children in the tree rooted at the author. The ring is the peers
/// and this node, in order of their ids; places count from the author's.
pub(crate) fn children(
    me: NodeId,
    author: NodeId,
    peers: &[Peer],
) -> impl Iterator<Item = usize> + '_ {
    let ring = peers.len() + 1;
    // Peers are sorted and this node is not among them: a place on the ring is
    // the number of peers below, plus one beyond this node.
    let my_place = peers.partition_point(|peer| peer.actor.node < me);
    let below = peers.partition_point(|peer| peer.actor.node < author);
    let root = if author > me { below + 1 } else { below };
    let at = (my_place + ring - root % ring) % ring;
    (1..=limits::TREE_WIDTH)
        .map(move |child| at * limits::TREE_WIDTH + child)
        .take_while(move |&child| child < ring)
        .filter_map(move |child| {
            let place = (root + child) % ring;
            match place.cmp(&my_place) {
                core::cmp::Ordering::Less => Some(place),
                core::cmp::Ordering::Equal => None,
                core::cmp::Ordering::Greater => Some(place - 1),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_reaches_every_member_once_and_ends() {
        for n in [2_u64, 3, 5, 24, 168] {
            for author in [1, n / 2 + 1, n] {
                let mut seen = vec![0; n as usize + 1];
                let mut queue = vec![author];
                seen[author as usize] = 1;
                while let Some(me) = queue.pop() {
                    let peers: Vec<Peer> = (1..=n).filter(|&node| node != me).map(peer).collect();
                    for child in children(NodeId(me), NodeId(author), &peers) {
                        let child = peers[child].actor.node.0;
                        seen[child as usize] += 1;
                        queue.push(child);
                    }
                }
                assert!(seen[1..].iter().all(|&times| times == 1), "{n} {author}");
            }
        }
    }

    fn peer(node: u64) -> Peer {
        Peer {
            actor: Actor {
                node: NodeId(node),
                epoch: 1,
                boot: 1,
            },
            addr: ([127, 0, 0, 1], 1).into(),
        }
    }
}
