//! Holdings: which member configures which of this node's checks.
//!
//! Each member says the hash of its set of checks ([`Profile::checks`]). Equal
//! hashes are equal sets, hash 0 is the empty one, and the sets that this node
//! itself had of late are known by content. Any other hash is asked about once,
//! whoever bears it: the question carries the sum of each bucket, the answers
//! the checks in the buckets that differ. Until that is known such a member may
//! configure anything: silence is never a no. While all hashes are equal nothing
//! is looked up.
//!
//! What is known of a set is kept as its difference to this node's present one,
//! and follows each change of that.
//!
//! [`Profile::checks`]: watchfire_wire::message::swim::Profile::checks

mod set;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use watchfire_wire::message::replica::Replica;
use watchfire_wire::{CheckId, NodeId, Time};

use self::set::{OwnSet, bucket};
use crate::limits::{
    SET_ANSWERS_BURST, SET_ANSWERS_PER_S, SET_BUCKETS, SETS_ASKED, SETS_OWN, SETS_PREFIXES,
};
use crate::rate::Rate;

/// The waits of holdings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldingsConfig {
    /// Changes of this node's set are told together, so long after the first.
    pub gather: Duration,
    /// A hash must have stood so long before it is asked about.
    pub settle: Duration,
    /// From one question of a series to the next.
    pub pace: Duration,
    /// An unanswered question is repeated after this, and then after twice as
    /// long each time.
    pub repeat: Duration,
    /// The longest of these times.
    pub repeat_max: Duration,
}

impl Default for HoldingsConfig {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(150),
            settle: Duration::from_millis(300),
            pace: Duration::from_millis(20),
            repeat: Duration::from_millis(200),
            repeat_max: Duration::from_secs(10),
        }
    }
}

/// What this node knows of who configures what.
#[derive(Clone, Debug)]
pub struct Holdings {
    config: HoldingsConfig,
    me: NodeId,
    own: OwnSet,
    /// The hash that others were told, and when to tell the present one.
    told: u64,
    tell_at: Time,
    /// The hashes of the other living members.
    members: BTreeMap<NodeId, u64>,
    /// How many of them differ from the present own one.
    unlike: usize,
    /// All configure the same again, which nobody has been told yet.
    alike_again: bool,
    known: BTreeMap<u64, Difference>,
    /// The known ones that this node had itself, the latest last.
    had: VecDeque<u64>,
    asked: BTreeMap<u64, Asked>,
    answers: Rate,
    /// Checks whose order has changed by what became known.
    moved: Vec<CheckId>,
    all_moved: bool,
    out: Vec<(NodeId, Replica)>,
    counters: HoldingsCounters,
}

crate::counters::counters! {
    /// Counters of holdings, since the start.
    pub struct HoldingsCounters as "" {
        /// Questions about other sets sent.
        pub questions: u64 as "set_questions",
        /// Answers given.
        pub answers: u64 as "set_answers",
        /// Questions that were left unanswered, for too many came.
        pub answers_withheld: u64 as "set_answers_withheld",
        /// Sets that became known by asking.
        pub resolved: u64 as "sets_resolved",
        /// Sets that were given up or forgotten, for they differ in too much: who
        /// has them may configure anything.
        pub given_up: u64 as "sets_given_up",
    }
}

/// How a set differs from this node's present one, by prefixes of ids.
/// Ordered, so that one seed gives one history.
#[derive(Clone, Debug, Default)]
struct Difference {
    lacks: BTreeSet<u64>,
    extra: BTreeSet<u64>,
}

impl Difference {
    fn len(&self) -> usize {
        self.lacks.len() + self.extra.len()
    }

    fn own_added(&mut self, prefix: u64) {
        if !self.extra.remove(&prefix) {
            self.lacks.insert(prefix);
        }
    }

    fn own_removed(&mut self, prefix: u64) {
        if !self.lacks.remove(&prefix) {
            self.extra.insert(prefix);
        }
    }
}

/// A set that is being asked about.
#[derive(Clone, Debug)]
struct Asked {
    next: Time,
    tries: u32,
    /// Up to here, not included, the answers are in.
    from: u64,
    /// This node's set when the series began; another one begins it anew.
    base: u64,
    found: Difference,
}

impl Holdings {
    /// Nothing is configured, and nobody else known.
    #[must_use]
    pub fn new(config: HoldingsConfig, me: NodeId) -> Self {
        Self {
            config,
            me,
            own: OwnSet::default(),
            told: 0,
            tell_at: Time::NEVER,
            members: BTreeMap::new(),
            unlike: 0,
            alike_again: false,
            known: BTreeMap::new(),
            had: VecDeque::new(),
            asked: BTreeMap::new(),
            answers: Rate::new(SET_ANSWERS_PER_S, SET_ANSWERS_BURST),
            moved: Vec::new(),
            all_moved: false,
            out: Vec::new(),
            counters: HoldingsCounters::default(),
        }
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> HoldingsCounters {
        self.counters
    }

    /// The hash of this node's set as others are to be told it now.
    #[must_use]
    pub fn to_tell(&mut self, now: Time) -> u64 {
        // The first set is told at once: until then this node counts for
        // nothing.
        if self.tell_at <= now || self.told == 0 {
            self.told = self.own.hash();
            self.tell_at = Time::NEVER;
        }
        self.told
    }

    /// Every living member configures what this node does.
    #[must_use]
    pub const fn all_alike(&self) -> bool {
        self.unlike == 0
    }

    /// May this member configure the check, which this node does? Only a
    /// certain no is a no.
    #[must_use]
    pub fn may_hold(&self, node: NodeId, check: CheckId) -> bool {
        if node == self.me {
            return true;
        }
        let Some(&hash) = self.members.get(&node) else {
            return true;
        };
        if hash == 0 {
            return false;
        }
        self.known
            .get(&hash)
            .is_none_or(|set| !set.lacks.contains(&check.prefix()))
    }

    /// Has this member said that it configures the check, which this node does?
    #[must_use]
    pub fn says_that_it_holds(&self, node: NodeId, check: CheckId) -> bool {
        let hash = self.members.get(&node).copied().unwrap_or(0);
        let known = hash == self.own.hash() || self.known.contains_key(&hash);
        known && self.may_hold(node, check)
    }

    /// This node's set changes.
    pub fn change(&mut self, now: Time, add: &[CheckId], remove: &[CheckId]) {
        let before = self.own.hash();
        if before != 0 && !self.known.contains_key(&before) {
            self.known.insert(before, Difference::default());
            self.had.push_back(before);
        }
        for &check in remove {
            if self.own.remove(check) {
                let prefix = check.prefix();
                self.known
                    .values_mut()
                    .for_each(|set| set.own_removed(prefix));
            }
        }
        for &check in add {
            if self.own.insert(check) {
                let prefix = check.prefix();
                self.known
                    .values_mut()
                    .for_each(|set| set.own_added(prefix));
            }
        }
        if self.own.hash() == before {
            return;
        }
        while self.had.len() > SETS_OWN {
            self.had.pop_front().map(|hash| self.known.remove(&hash));
        }
        self.bound_known();
        self.tell_at = self.tell_at.min(now + self.config.gather);
        self.count_unlike();
        self.look_for_unknown(now);
    }

    /// A member lives and says this of its set; `None` if it is gone.
    pub fn set_member(&mut self, now: Time, node: NodeId, hash: Option<u64>) {
        if node == self.me {
            return;
        }
        let before = match hash {
            Some(hash) => self.members.insert(node, hash),
            None => self.members.remove(&node),
        };
        if before == hash {
            return;
        }
        self.count_unlike();
        let Some(hash) = hash else { return };
        // Who comes without anything takes no part yet; who loses all makes
        // room everywhere.
        self.all_moved |= hash == 0 && before.is_some();
        if let Some(set) = self.known.get(&hash) {
            let lacks = set.lacks.iter();
            self.moved
                .extend(lacks.filter_map(|&prefix| self.own.check(prefix)));
        } else {
            self.look_for_unknown(now);
        }
    }

    /// The checks for which somebody turned out not to be a candidate since the
    /// last time; `None` if that may be any of them.
    pub fn take_moved(&mut self) -> Option<Vec<CheckId>> {
        let moved = core::mem::take(&mut self.moved);
        if core::mem::take(&mut self.all_moved) {
            return None;
        }
        Some(moved)
    }

    /// Since the last time this was asked all have come to configure the same.
    pub const fn take_alike_again(&mut self) -> bool {
        core::mem::replace(&mut self.alike_again, false)
    }

    /// The messages that are to be sent now.
    pub fn take_out(&mut self) -> Vec<(NodeId, Replica)> {
        core::mem::take(&mut self.out)
    }

    /// When [`tick`](Self::tick) is due, or the hash is to be told.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        let asks = self.asked.values().map(|asked| asked.next).min();
        asks.unwrap_or(Time::NEVER).min(self.tell_at)
    }

    /// Time has passed: puts the questions that are due.
    pub fn tick(&mut self, now: Time) {
        let borne: BTreeSet<u64> = self.members.values().copied().collect();
        self.asked.retain(|hash, _| borne.contains(hash));
        let had = &self.had;
        self.known
            .retain(|hash, _| borne.contains(hash) || had.contains(hash));
        let due: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.next <= now)
            .map(|(&hash, _)| hash)
            .collect();
        for hash in due {
            self.ask(now, hash);
        }
    }

    fn ask(&mut self, now: Time, set: u64) {
        let holders: Vec<NodeId> = self
            .members
            .iter()
            .filter(|&(_, &hash)| hash == set)
            .map(|(&node, _)| node)
            .collect();
        let base = self.own.hash();
        let Some(asked) = self.asked.get_mut(&set) else {
            return;
        };
        if asked.base != base {
            asked.base = base;
            asked.from = 0;
            asked.found = Difference::default();
        }
        // Askers spread over the holders, and each goes on to another one.
        let at = (self.me.0 as usize).wrapping_add(asked.tries as usize) % holders.len().max(1);
        let Some(&holder) = holders.get(at) else {
            return;
        };
        let wait = self.config.repeat * (1 << asked.tries.min(8));
        asked.next = now + wait.min(self.config.repeat_max);
        asked.tries += 1;
        let from = asked.from;
        self.counters.questions += 1;
        let sums = self.own.sums().to_vec();
        self.out.push((holder, Replica::SetAsk { set, from, sums }));
    }

    /// A member asks about this node's set. At most `most` prefixes fit one
    /// answer; the asker comes back for the rest.
    pub fn asked(&mut self, now: Time, by: NodeId, set: u64, from: u64, sums: &[u64], most: usize) {
        // It speaks of a set that this node no longer has: its news is on its
        // way.
        if set != self.own.hash() || sums.len() != SET_BUCKETS {
            return;
        }
        if !self.answers.take(now) {
            self.counters.answers_withheld += 1;
            return;
        }
        let mut differ = 0_u64;
        for (bucket, (&theirs, &ours)) in sums.iter().zip(self.own.sums()).enumerate() {
            differ |= u64::from(theirs != ours) << bucket;
        }
        let mut prefixes = Vec::new();
        let mut last = u64::MAX;
        for number in bucket(from)..SET_BUCKETS {
            if differ & (1 << number) == 0 {
                continue;
            }
            let (low, high) = bounds(number);
            prefixes.extend(
                self.own
                    .within(low.max(from), high)
                    .take(most + 1 - prefixes.len()),
            );
            if prefixes.len() > most {
                prefixes.truncate(most);
                last = prefixes.last().copied().unwrap_or(from);
                break;
            }
        }
        self.counters.answers += 1;
        let part = Replica::SetPart {
            set,
            from,
            last,
            differ,
            prefixes,
        };
        self.out.push((by, part));
    }

    /// A member answers a question of this node's.
    pub fn answered(
        &mut self,
        now: Time,
        set: u64,
        from: u64,
        last: u64,
        differ: u64,
        prefixes: &[u64],
    ) {
        let base = self.own.hash();
        let Some(asked) = self.asked.get_mut(&set) else {
            return;
        };
        if asked.base != base || asked.from != from || last < from {
            return;
        }
        let theirs: BTreeSet<u64> = prefixes
            .iter()
            .copied()
            .filter(|&prefix| prefix >= from && prefix <= last)
            .collect();
        for number in bucket(from)..=bucket(last) {
            if differ & (1 << number) == 0 {
                continue;
            }
            let (low, high) = bounds(number);
            let ours = self.own.within(low.max(from), high.min(last));
            asked
                .found
                .lacks
                .extend(ours.filter(|prefix| !theirs.contains(prefix)));
        }
        let own = &self.own;
        let extra = theirs.into_iter().filter(|&prefix| !own.contains(prefix));
        asked.found.extra.extend(extra);
        if asked.found.len() > SETS_PREFIXES {
            asked.next = Time::NEVER;
            asked.found = Difference::default();
            self.counters.given_up += 1;
            return;
        }
        if last < u64::MAX {
            asked.from = last + 1;
            asked.tries = 0;
            asked.next = now + self.config.pace;
            return;
        }
        if let Some(asked) = self.asked.remove(&set) {
            let lacks = asked.found.lacks.iter();
            self.moved
                .extend(lacks.filter_map(|&prefix| self.own.check(prefix)));
            self.known.insert(set, asked.found);
            self.counters.resolved += 1;
            self.bound_known();
        }
    }

    fn count_unlike(&mut self) {
        let own = self.own.hash();
        let unlike = self.members.values().filter(|&&hash| hash != own).count();
        let before = core::mem::replace(&mut self.unlike, unlike);
        self.alike_again = unlike == 0 && (self.alike_again || before > 0);
    }

    /// Begins to ask about the hashes that nothing is known of.
    fn look_for_unknown(&mut self, now: Time) {
        let own = self.own.hash();
        for &hash in self.members.values() {
            let open = hash != 0 && hash != own && !self.known.contains_key(&hash);
            if open && self.asked.len() < SETS_ASKED && !self.asked.contains_key(&hash) {
                let asked = Asked {
                    next: now + self.config.settle,
                    tries: 0,
                    from: 0,
                    base: own,
                    found: Difference::default(),
                };
                self.asked.insert(hash, asked);
            }
        }
    }

    /// Forgets what differs most, until the rest is within the limit.
    fn bound_known(&mut self) {
        while self.known.values().map(Difference::len).sum::<usize>() > SETS_PREFIXES {
            let most = self.known.iter().max_by_key(|(_, set)| set.len());
            let Some((&hash, _)) = most else { return };
            self.known.remove(&hash);
            self.had.retain(|&had| had != hash);
            self.counters.given_up += 1;
        }
    }
}

/// The first and the last prefix of a bucket.
const fn bounds(number: usize) -> (u64, u64) {
    let shift = u64::BITS - SET_BUCKETS.trailing_zeros();
    let low = (number as u64) << shift;
    (low, low | ((1 << shift) - 1))
}

#[cfg(test)]
mod tests;
