//! All duties of one node, and what may happen to them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use watchfire_wire::{Actor, CheckId, NodeId, Time, Verdict};

use super::blind::Blind;
use super::duty::{Duty, Measured};
use super::jury::Juries;
use super::opinions::Opinions;
use super::ranks::{CheckIx, Ranks};
use super::timers::Timers;
use super::{OwnershipConfig, OwnershipCounters};
use crate::io::{CheckMeta, Event, Output, Published, Report, ReportKind};
use crate::limits;
use crate::mutations::Mutations;
use crate::replica::{CheckHasher, Store};

/// What ownership needs to know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its present life.
    pub actor: Actor,
    /// It lives, suspected or not.
    pub living: bool,
    /// It is suspected.
    pub suspect: bool,
    /// Its weight; 0 owns nothing.
    pub capacity: u16,
    /// It hands over and takes nothing.
    pub draining: bool,
    /// Its probes can measure.
    pub healthy: bool,
}

impl View {
    /// The weight with which it takes part in the ranking.
    const fn weight(&self) -> u16 {
        if self.living && self.healthy && !self.draining {
            self.capacity
        } else {
            0
        }
    }
}

/// All duties of one node.
#[derive(Clone, Debug)]
pub struct Duties {
    pub(super) config: OwnershipConfig,
    pub(super) me: NodeId,
    pub(super) members: BTreeMap<NodeId, View>,
    /// The suspected ones among them.
    pub(super) suspects: BTreeSet<NodeId>,
    pub(super) ranks: Ranks,
    pub(super) duties: Vec<Duty>,
    by_check: HashMap<CheckId, CheckIx, BuildHasherDefault<CheckHasher>>,
    free: Vec<CheckIx>,
    pub(super) timers: Timers,
    pub(super) juries: Juries,
    pub(super) opinions: Opinions,
    pub(super) blind: Blind,
    pub(super) ready: bool,
    /// Checks that this node probes.
    pub(super) probing: usize,
    /// Checks that nobody has ever had a word on, as far as is known here.
    pub(super) unheard: usize,
    /// When the next brand-new check may be probed first.
    pub(super) pace: Time,
    pub(super) mutations: Mutations,
    pub(super) counters: OwnershipCounters,
}

/// What every change of duties works with.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// The time.
    pub now: Time,
    /// The same on the wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    /// For how long no member was heard, see
    /// [`Swim::silence`](crate::swim::Swim::silence).
    pub silence: Duration,
    /// There are words that this node has heard of and does not hold, see
    /// [`Replicator::is_behind`](crate::replica::Replicator::is_behind).
    pub behind: bool,
    /// The replicated map.
    pub store: &'a mut Store,
    /// Where effects go.
    pub out: &'a mut VecDeque<Output>,
}

impl Duties {
    /// No duty yet.
    #[must_use]
    pub fn new(config: OwnershipConfig, me: Actor, mutations: Mutations) -> Self {
        Self {
            config,
            me: me.node,
            members: BTreeMap::new(),
            suspects: BTreeSet::new(),
            ranks: Ranks::default(),
            duties: Vec::new(),
            by_check: HashMap::default(),
            free: Vec::new(),
            timers: Timers::default(),
            // Half of the numbers are left to count on with.
            juries: Juries::numbered_from(me.boot >> 1),
            opinions: Opinions::default(),
            blind: Blind::default(),
            ready: false,
            probing: 0,
            unheard: 0,
            pace: Time::ZERO,
            mutations,
            counters: OwnershipCounters::default(),
        }
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> OwnershipCounters {
        self.counters
    }

    /// How many checks this node probes.
    #[must_use]
    pub const fn probing(&self) -> usize {
        self.probing
    }

    /// How many checks are configured here.
    #[must_use]
    pub fn configured(&self) -> usize {
        self.by_check.len()
    }

    /// Does this node probe the check?
    #[must_use]
    pub fn is_probing(&self, check: CheckId) -> bool {
        self.ix(check)
            .is_some_and(|ix| self.duties[ix as usize].probing)
    }

    /// The checks that this node probes, in order of their numbers.
    pub fn probed(&self) -> impl Iterator<Item = CheckId> + '_ {
        self.duties
            .iter()
            .filter(|duty| duty.probing)
            .map(|duty| duty.check)
    }

    /// What the table was told of a check.
    #[must_use]
    pub fn published(&self, check: CheckId) -> Option<Published> {
        self.duties[self.ix(check)? as usize].published
    }

    /// The members that are known here, this node among them.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.keys().copied()
    }

    /// The ranks, for status and metrics.
    #[must_use]
    pub const fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// The number of a configured check.
    #[must_use]
    pub fn ix(&self, check: CheckId) -> Option<CheckIx> {
        self.by_check.get(&check).copied()
    }

    /// This node thinks that its own path to the origins is dead.
    #[must_use]
    pub const fn is_blind(&self) -> bool {
        self.blind.is_blind()
    }

    /// When [`tick`](Self::tick) is due.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        self.timers
            .next()
            .min(self.juries.next_timeout())
            .min(self.opinions.next_timeout())
            .min(self.blind.next_timeout())
    }

    /// From now on this node takes part: it has joined, or waited alone.
    pub fn set_ready(&mut self, ctx: &mut Ctx<'_>) {
        if self.ready {
            return;
        }
        self.ready = true;
        for ix in 0..self.duties.len() {
            self.look(ctx, to_ix(ix));
        }
    }

    /// Checks are configured, or their metadata changed.
    pub fn add(&mut self, ctx: &mut Ctx<'_>, checks: &[(CheckId, CheckMeta)]) {
        let mut added = Vec::with_capacity(checks.len());
        for &(check, meta) in checks {
            if let Some(ix) = self.ix(check) {
                self.duties[ix as usize].meta = meta;
                continue;
            }
            if self.by_check.len() >= limits::CHECKS {
                self.counters.checks_refused += 1;
                continue;
            }
            let duty = Duty::new(check, meta);
            let ix = if let Some(ix) = self.free.pop() {
                let generation = self.duties[ix as usize].generation;
                self.duties[ix as usize] = Duty { generation, ..duty };
                ix
            } else {
                self.duties.push(duty);
                to_ix(self.duties.len() - 1)
            };
            self.by_check.insert(check, ix);
            self.ranks.insert(ix, check);
            self.unheard += 1;
            added.push(ix);
        }
        for ix in added {
            self.look(ctx, ix);
        }
    }

    /// Checks are no longer configured: they are released, and the next rank
    /// that still has them goes on.
    pub fn remove(&mut self, ctx: &mut Ctx<'_>, checks: &[CheckId]) {
        for &check in checks {
            let Some(ix) = self.by_check.remove(&check) else {
                continue;
            };
            let duty = &mut self.duties[ix as usize];
            if duty.probing {
                duty.probing = false;
                self.probing -= 1;
                self.counters.stops += 1;
                ctx.out.push_back(Output::Stop { check });
            }
            let contrary = duty.measured.map_or(0, |measured| measured.contrary);
            if duty.published.is_none() {
                self.unheard -= 1;
            }
            duty.measured = None;
            duty.published = None;
            duty.lost_at = None;
            if ctx.store.release(check, contrary, true).is_some() {
                self.counters.releases += 1;
            }
            self.juries.drop_check(ix);
            self.timers.clear(ix);
            self.ranks.remove(ix);
            self.free.push(ix);
        }
    }

    /// A member came, went, was suspected, refuted, or says something new of
    /// itself; `None` if it is forgotten. This node is a member too.
    pub fn set_member(&mut self, ctx: &mut Ctx<'_>, node: NodeId, view: Option<View>) {
        let before = self.members.get(&node).copied();
        if before == view {
            return;
        }
        match view {
            Some(view) => self.members.insert(node, view),
            None => self.members.remove(&node),
        };
        if view.is_some_and(|view| view.suspect) {
            self.suspects.insert(node);
        } else {
            self.suspects.remove(&node);
        }
        let weight = view.map_or(0, |view| view.weight());
        ctx.store.set_view(node, u64::from(weight));
        let mut touched = Vec::new();
        let me = self.me;
        // Who comes shows by its evidence. Who goes makes room for the next
        // rank, which has to act if it is this node; other ranks act when
        // evidence is lost or their patience ends.
        self.ranks.set(node, weight, |ix, first| {
            if first == Some(me) {
                touched.push(ix);
            }
        });
        // What it had evidence on is to be judged anew, in both its lives.
        let lives = [before, view].map(|view| view.map(|view| view.actor));
        let both = lives[0] != lives[1];
        for actor in lives.into_iter().flatten().take(if both { 2 } else { 1 }) {
            let checks = ctx.store.words_by(actor).map(|slot| slot.check);
            touched.extend(checks.filter_map(|check| self.ix(check)));
        }
        if node == self.me {
            touched.extend((0..self.duties.len()).map(to_ix));
        }
        touched.sort_unstable();
        touched.dedup();
        for ix in touched {
            self.look(ctx, ix);
        }
        if view.is_none_or(|view| !view.living) {
            self.drop_juror(ctx, node);
        }
    }

    /// The words on these checks changed in the map.
    pub fn changed(&mut self, ctx: &mut Ctx<'_>, checks: &[CheckId]) {
        for &check in checks {
            if let Some(ix) = self.ix(check) {
                self.look(ctx, ix);
            }
        }
    }

    /// A probe thread speaks.
    pub fn report(&mut self, ctx: &mut Ctx<'_>, report: Report) {
        let Some(ix) = self.ix(report.check) else {
            if let ReportKind::Opinion { ask, .. } = report.kind {
                self.opinion_of_own(ctx, ask, report.kind);
            }
            return;
        };
        if matches!(report.kind, ReportKind::Opinion { .. }) {
            if let ReportKind::Opinion { ask, .. } = report.kind {
                self.opinion_of_own(ctx, ask, report.kind);
            }
            return;
        }
        let duty = &mut self.duties[ix as usize];
        if !duty.probing || duty.generation != report.generation {
            self.counters.stale_reports += 1;
            return;
        }
        match report.kind {
            ReportKind::Measured {
                verdict,
                reason,
                contrary,
                latency_us,
            } => {
                duty.measured = Some(Measured {
                    verdict,
                    reason,
                    contrary,
                    latency_us,
                });
                duty.fresh = true;
                duty.attended = false;
                if verdict != Verdict::Down {
                    duty.confirmed = None;
                    duty.shuns = 0;
                    self.juries.drop_check(ix);
                }
                self.look(ctx, ix);
            }
            ReportKind::Unmeasured { reason, in_a_row } => {
                if in_a_row >= self.config.unmeasured_limit {
                    self.unmeasurable(ctx, ix, reason);
                }
            }
            ReportKind::Opinion { .. } => {}
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(ix) = self.timers.pop(ctx.now) {
            self.look(ctx, ix);
        }
        self.tick_juries(ctx);
        self.opinions.tick(ctx.now);
        self.tick_blind(ctx);
    }

    /// Stops all probing and releases everything: the last thing before this
    /// node leaves.
    pub fn release_all(&mut self, ctx: &mut Ctx<'_>) {
        self.ready = false;
        for ix in 0..self.duties.len() {
            if self.duties[ix].probing {
                self.stop(ctx, to_ix(ix), false);
            }
        }
    }

    /// Looks at a check: what shall this node do about it now, and what is the
    /// table to be told?
    pub(super) fn look(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        self.decide(ctx, ix);
        self.publish(ctx, ix);
    }

    fn publish(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let duty = &self.duties[ix as usize];
        let check = duty.check;
        if self.by_check.get(&check) != Some(&ix) {
            return;
        }
        let what = ctx.store.winner(check).map(|word| {
            let value = word.slot.value;
            let owner = self.members.get(&word.actor.node);
            Published {
                verdict: value.verdict,
                reason: value.reason,
                since_ms: value.since_ms,
                latency_us: value.latency_us,
                owner: word.actor.node,
                frozen: owner.is_some_and(|owner| owner.living && !owner.healthy),
            }
        });
        let duty = &mut self.duties[ix as usize];
        if duty.published != what {
            if duty.published.is_none() {
                self.unheard -= 1;
            } else if what.is_none() {
                self.unheard += 1;
            }
            duty.published = what;
            ctx.out.push_back(Output::Publish { check, what });
        }
    }

    pub(super) fn note_transition(
        &self,
        ctx: &mut Ctx<'_>,
        check: CheckId,
        from: Verdict,
        to: Verdict,
    ) {
        if from != to {
            let event = Event::Transition(check, from, to);
            ctx.out.push_back(Output::Event(event));
        }
    }
}

pub(super) fn to_ix(at: usize) -> CheckIx {
    CheckIx::try_from(at).expect("the limit on checks is below 2^32")
}
