//! All members that this node remembers, the order in which it pings them, and
//! digests of who lives.
//!
//! It keeps books and decides nothing: what a rumor is worth is judged
//! elsewhere.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use watchfire_wire::{Actor, NodeId, Time};
use xxhash_rust::xxh3::xxh3_64;

use super::limits::{FLOORS, REMEMBERED};
use super::member::{Member, State};
use super::suspicion::Suspicion;
use crate::rng::Rng;

/// Into so many parts the members are divided, by node id, when two nodes
/// compare their views.
pub(super) const PARTS: usize = 16;

/// The members, this node not among them.
#[derive(Debug)]
pub(super) struct Table {
    members: BTreeMap<NodeId, Member>,
    suspicions: BTreeMap<NodeId, Suspicion>,
    /// The life that a member's present one displaced, and where it was.
    priors: BTreeMap<NodeId, (Actor, SocketAddr)>,
    /// Dead, and still worth a retry.
    dead: BTreeSet<NodeId>,
    living: usize,
    /// The living members still to be pinged in this turn, the next one last.
    ring: Vec<NodeId>,
    /// Digests of the living and of this node itself.
    parts: [u32; PARTS],
    /// Least epoch of a node's next life, for those whose last was forgotten.
    floors: BTreeMap<NodeId, u64>,
}

impl Table {
    /// Nobody but this node, which counts in the digests.
    pub(super) fn new(me: Actor, incarnation: u32) -> Self {
        let mut table = Self {
            members: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            priors: BTreeMap::new(),
            dead: BTreeSet::new(),
            living: 0,
            ring: Vec::new(),
            parts: [0; PARTS],
            floors: BTreeMap::new(),
        };
        table.toggle(me, incarnation);
        table
    }

    /// This node itself has another life or incarnation.
    pub(super) fn renew_me(&mut self, old: (Actor, u32), new: (Actor, u32)) {
        self.toggle(old.0, old.1);
        self.toggle(new.0, new.1);
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Living members, this node not among them.
    pub(super) const fn living(&self) -> usize {
        self.living
    }

    pub(super) fn parts(&self) -> &[u32; PARTS] {
        &self.parts
    }

    /// The part that this node falls into.
    pub(super) const fn part_of(node: NodeId) -> usize {
        (node.0 >> 60) as usize
    }

    /// One digest of all parts.
    pub(super) fn view(&self) -> u64 {
        let mut bytes = [0; PARTS * 4];
        for (at, part) in self.parts.iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&part.to_le_bytes());
        }
        xxh3_64(&bytes)
    }

    /// Puts a member in, in place of what was known of its node. The caller
    /// ends or begins its suspicion.
    pub(super) fn put(&mut self, member: Member, rng: &mut Rng) {
        let node = member.id();
        let was_living = self.take_out(node);
        if member.state.is_living() {
            self.toggle(member.actor, member.incarnation);
            self.living += 1;
            if !was_living {
                // A random place among those still to come: a newcomer is
                // neither pinged by everybody at once nor by nobody.
                let place = rng.below(self.ring.len() + 1);
                self.ring.insert(place, node);
            }
        } else if was_living {
            self.ring.retain(|&other| other != node);
        }
        if member.state == State::Dead {
            self.dead.insert(node);
        }
        if member.state != State::Suspect {
            self.suspicions.remove(&node);
        }
        self.members.insert(node, member);
        if self.members.len() - self.living > REMEMBERED {
            let gone = self.members.values().filter(|m| !m.state.is_living());
            let longest = gone.min_by_key(|m| (m.since, m.id())).map(Member::id);
            if let Some(longest) = longest {
                self.forget(longest);
            }
        }
    }

    /// The running suspicion of a member.
    pub(super) fn suspicion(&mut self, node: NodeId) -> Option<&mut Suspicion> {
        self.suspicions.get_mut(&node)
    }

    /// Begins a suspicion of a member, which is [`State::Suspect`] already.
    pub(super) fn suspect(&mut self, node: NodeId, suspicion: Suspicion) {
        self.suspicions.insert(node, suspicion);
    }

    /// This node is among the accusers of somebody.
    pub(super) fn accuses(&self, me: NodeId) -> bool {
        self.suspicions.values().any(|s| s.is_accuser(me))
    }

    /// Those whom this node accuses.
    pub(super) fn accused_by(&self, me: NodeId) -> Vec<NodeId> {
        let suspicions = self.suspicions.iter();
        suspicions
            .filter(|(_, suspicion)| suspicion.is_accuser(me))
            .map(|(node, _)| *node)
            .collect()
    }

    /// Those who are suspected here and nowhere else.
    pub(super) fn quietly_suspected(&self) -> Vec<Actor> {
        let quiet = self.suspicions.iter().filter(|(_, s)| s.is_quiet());
        quiet
            .filter_map(|(node, _)| self.members.get(node))
            .map(|member| member.actor)
            .collect()
    }

    pub(super) fn suspicions(&mut self) -> impl Iterator<Item = &mut Suspicion> {
        self.suspicions.values_mut()
    }

    /// The earliest end of a suspicion.
    pub(super) fn next_deadline(&self) -> Time {
        self.suspicions
            .values()
            .map(Suspicion::deadline)
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// A member whose suspicion has run out.
    pub(super) fn run_out(&self, now: Time) -> Option<NodeId> {
        self.suspicions
            .iter()
            .find(|(_, suspicion)| suspicion.deadline() <= now)
            .map(|(node, _)| *node)
    }

    /// Puts a member. If it is another life of its node than the one that was
    /// known, that one is remembered as [`prior`](Self::prior).
    pub(super) fn displace(&mut self, member: Member, rng: &mut Rng) {
        let known = self
            .get(member.id())
            .filter(|known| known.actor != member.actor);
        if let Some((actor, addr)) = known.map(|known| (known.actor, known.addr)) {
            self.priors.insert(actor.node, (actor, addr));
        }
        self.put(member, rng);
    }

    /// The life that the present one of this node displaced, and where it was.
    pub(super) fn prior(&self, node: NodeId) -> Option<(Actor, SocketAddr)> {
        self.priors.get(&node).copied()
    }

    /// The next member to ping: each once, in random order, then anew.
    pub(super) fn next_target(&mut self, rng: &mut Rng) -> Option<NodeId> {
        if self.ring.is_empty() {
            let living = self.members.values().filter(|m| m.state.is_living());
            self.ring.extend(living.map(Member::id));
            rng.shuffle(&mut self.ring);
        }
        self.ring.pop()
    }

    /// This living member is pinged next.
    pub(super) fn hasten(&mut self, node: NodeId) {
        self.ring.retain(|&other| other != node);
        self.ring.push(node);
    }

    /// Up to `count` random living members, the excepted not among them.
    pub(super) fn pick(&self, count: usize, except: &[NodeId], rng: &mut Rng) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = self
            .members
            .values()
            .filter(|member| member.state.is_living() && !except.contains(&member.id()))
            .map(Member::id)
            .collect();
        let count = count.min(ids.len());
        for at in 0..count {
            let other = at + rng.below(ids.len() - at);
            ids.swap(at, other);
        }
        ids.truncate(count);
        ids
    }

    /// The living member that comes after this node in the order of ids. If
    /// everybody tells its successor, nobody is left out.
    pub(super) fn successor(&self, me: NodeId) -> Option<NodeId> {
        let after = self.members.range(me..).map(|(_, member)| member);
        let mut round = after.chain(self.members.values());
        round.find(|m| m.state.is_living()).map(Member::id)
    }

    /// A random dead member.
    pub(super) fn pick_dead(&self, rng: &mut Rng) -> Option<NodeId> {
        let at = rng.below(self.dead.len());
        self.dead.iter().nth(at).copied()
    }

    /// The least epoch that a life of this node may have.
    pub(super) fn floor(&self, node: NodeId) -> u64 {
        self.floors.get(&node).copied().unwrap_or(0)
    }

    /// Forgets those who are gone for longer than they are remembered. Their
    /// floors stay.
    pub(super) fn sweep(&mut self, now: Time, keep: impl Fn(State) -> core::time::Duration) {
        let gone = self.members.values().filter(|m| !m.state.is_living());
        let expired: Vec<NodeId> = gone
            .filter(|m| now.since(m.since) >= keep(m.state))
            .map(Member::id)
            .collect();
        for node in expired {
            self.forget(node);
        }
    }

    /// Forgets a node without a trace.
    pub(super) fn erase(&mut self, node: NodeId) -> Option<Member> {
        if self.take_out(node) {
            self.ring.retain(|&other| other != node);
        }
        self.suspicions.remove(&node);
        self.priors.remove(&node);
        self.floors.remove(&node);
        self.members.remove(&node)
    }

    fn forget(&mut self, node: NodeId) {
        self.take_out(node);
        self.suspicions.remove(&node);
        self.priors.remove(&node);
        let Some(member) = self.members.remove(&node) else {
            return;
        };
        if self.floors.len() >= FLOORS
            && let Some(lowest) = self.floors.iter().min_by_key(|(_, floor)| **floor)
        {
            let lowest = *lowest.0;
            self.floors.remove(&lowest);
        }
        self.floors.insert(node, member.actor.epoch + 1);
    }

    /// Takes a node out of all books but its record; true if it was living.
    fn take_out(&mut self, node: NodeId) -> bool {
        self.dead.remove(&node);
        let Some(old) = self.members.get(&node) else {
            return false;
        };
        if !old.state.is_living() {
            return false;
        }
        let (actor, incarnation) = (old.actor, old.incarnation);
        self.toggle(actor, incarnation);
        self.living -= 1;
        true
    }

    /// Adds a life to its part's digest, or takes it away again.
    fn toggle(&mut self, actor: Actor, incarnation: u32) {
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&actor.node.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&actor.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&actor.boot.to_le_bytes());
        bytes[24..].copy_from_slice(&incarnation.to_le_bytes());
        self.parts[Self::part_of(actor.node)] ^= xxh3_64(&bytes) as u32;
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use watchfire_wire::message::swim::Profile;

    use super::*;

    fn member(node: u64, state: State, since: Time) -> Member {
        let addr = ([127, 0, 0, 1], 1).into();
        Member {
            actor: Actor {
                node: NodeId(node.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                epoch: 7,
                boot: 1,
            },
            addr,
            incarnation: 0,
            state,
            since,
            profile: Profile {
                name: String::new(),
                addr,
                capacity: 1,
                draining: false,
                prober_healthy: true,
                braked: false,
                checks: 0,
                protocol_min: 2,
                protocol_max: 2,
            },
        }
    }

    fn table() -> (Table, Rng) {
        let me = member(0, State::Alive, Time::ZERO).actor;
        (Table::new(me, 0), Rng::from_seed([1; 32]))
    }

    #[test]
    fn every_member_is_pinged_once_in_each_turn() {
        let (mut table, mut rng) = table();
        for node in 1..=20 {
            table.put(member(node, State::Alive, Time::ZERO), &mut rng);
        }
        for _ in 0..3 {
            let mut turn: Vec<_> = (0..20)
                .map(|_| table.next_target(&mut rng).expect("some live"))
                .collect();
            turn.sort_unstable();
            turn.dedup();
            assert_eq!(turn.len(), 20);
        }
    }

    #[test]
    fn digests_depend_on_the_living_alone_and_not_on_the_way() {
        let (mut one, mut rng) = table();
        let (mut two, _) = table();
        for node in 1..=10 {
            one.put(member(node, State::Alive, Time::ZERO), &mut rng);
        }
        for node in (1..=12).rev() {
            two.put(member(node, State::Suspect, Time::ZERO), &mut rng);
        }
        assert_ne!(one.view(), two.view());
        for node in [11, 12] {
            two.put(member(node, State::Dead, Time::ZERO), &mut rng);
        }
        assert_eq!(one.view(), two.view());
        assert_eq!((one.living(), two.living()), (10, 10));
    }

    #[test]
    fn the_gone_are_forgotten_behind_a_floor() {
        let (mut table, mut rng) = table();
        let gone = member(1, State::Dead, Time::ZERO);
        table.put(gone.clone(), &mut rng);
        let keep = |_| Duration::from_secs(10);
        table.sweep(Time::from_millis(9_999), keep);
        assert!(table.get(gone.id()).is_some() && !table.dead.is_empty());
        table.sweep(Time::from_millis(10_000), keep);
        assert!(table.get(gone.id()).is_none() && table.dead.is_empty());
        assert_eq!(table.floor(gone.id()), 8);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut table, mut rng) = table();
        for node in 1..=10_000 {
            table.put(member(node, State::Dead, Time::from_millis(node)), &mut rng);
        }
        assert_eq!(table.members.len(), REMEMBERED);
        assert_eq!(table.floors.len(), FLOORS);
        assert_eq!(table.dead.len(), REMEMBERED);
        assert!(table.ring.is_empty());
    }
}
