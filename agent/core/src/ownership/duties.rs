//! All duties of one node, and what may happen to them.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use watchfire_wire::message::replica::{Replica, Weather};
use watchfire_wire::{Actor, CheckId, NodeId, Time, Verdict};

use super::answering::Answering;
use super::asking::Asking;
use super::brake::Brake;
use super::budget::Budget;
use super::doubt::Doubt;
use super::members::Members;
use super::ranks::{CheckIx, Ranks};
use super::role::{Backoff, Duty, Measured, Role, Standby};
use super::timers::Timers;
use super::{OwnershipConfig, OwnershipCounters};
use crate::holdings::{Holdings, HoldingsConfig, HoldingsCounters};
use crate::io::{CheckMeta, Event, Output, Published, Report, ReportKind};
use crate::limits;
use crate::mutations::{Mutation, Mutations};
use crate::replica::{CheckHasher, Store, Word};

/// All duties of one node.
#[derive(Clone, Debug)]
pub struct Duties {
    pub(super) config: OwnershipConfig,
    pub(super) me: NodeId,
    pub(super) members: Members,
    pub(super) holdings: Holdings,
    pub(super) ranks: Ranks,
    pub(super) budget: Budget,
    pub(super) shadow_budget: Budget,
    pub(super) duties: Vec<Duty>,
    by_check: HashMap<CheckId, CheckIx, BuildHasherDefault<CheckHasher>>,
    free: Vec<CheckIx>,
    pub(super) timers: Timers,
    pub(super) asking: Asking,
    pub(super) answering: Answering,
    pub(super) doubt: Doubt,
    pub(super) brake: Brake,
    pub(super) weather_out: Option<Weather>,
    /// Checks that say whether the POP reaches the world.
    pub(super) references: Vec<CheckIx>,
    pub(super) ready: bool,
    /// Checks that this node probes.
    pub(super) probing: usize,
    /// Checks that nobody has ever had a word on, as far as is known here.
    pub(super) unheard: usize,
    /// Before this no further check that was taken over is to be probed first.
    pub(super) catch_up_at: Time,
    /// From when until when the POP counts as strained.
    pub(super) strained: (Time, Time),
    /// Since when this node has been late.
    pub(super) late_since: Option<Time>,
    /// Before this a late node gives nothing more up.
    pub(super) give_up_at: Time,
    /// Where the search for the next check to give away begins.
    pub(super) given_away: usize,
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
    /// How this node fares.
    pub load: Load,
    /// The replicated map.
    pub store: &'a mut Store,
    /// Where effects go.
    pub out: &'a mut VecDeque<Output>,
}

/// How loaded this node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Its turns, the datagrams that it reads or its probes are late: it begins
    /// nothing on the strength of what it sees or does not hear.
    pub late: bool,
}

impl Duties {
    /// No duty yet.
    #[must_use]
    pub fn new(mut config: OwnershipConfig, me: Actor, mutations: Mutations) -> Self {
        if mutations.on(Mutation::BrakeHidesAThird) {
            config.brake.share = 250;
            config.brake.share_to_let_go = 200;
        }
        config.brake.enabled &= !mutations.on(Mutation::NoBrake);
        Self {
            config,
            me: me.node,
            members: Members::new(),
            holdings: Holdings::new(HoldingsConfig::default(), me.node),
            ranks: Ranks::default(),
            budget: Budget::new(),
            shadow_budget: Budget::of_shadows(),
            duties: Vec::new(),
            by_check: HashMap::default(),
            free: Vec::new(),
            timers: Timers::default(),
            // Half of the numbers are left to count on with.
            asking: Asking::numbered_from(me.boot >> 1),
            answering: Answering::default(),
            doubt: Doubt::default(),
            brake: Brake::default(),
            weather_out: None,
            references: Vec::new(),
            ready: false,
            probing: 0,
            unheard: 0,
            catch_up_at: Time::ZERO,
            strained: (Time::ZERO, Time::ZERO),
            late_since: None,
            give_up_at: Time::ZERO,
            given_away: 0,
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
            .is_some_and(|ix| self.duties[ix as usize].probing().is_some())
    }

    /// The checks that this node probes, in order of their numbers.
    pub fn probed(&self) -> impl Iterator<Item = CheckId> + '_ {
        self.duties
            .iter()
            .filter(|duty| duty.probing().is_some())
            .map(|duty| duty.check)
    }

    /// What the table was told of a check.
    #[must_use]
    pub fn published(&self, check: CheckId) -> Option<Published> {
        self.duties[self.ix(check)? as usize].published
    }

    /// The members that are known here, this node among them.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.ids()
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

    /// This node configures the check and can probe it.
    #[must_use]
    pub fn is_able(&self, check: CheckId) -> bool {
        let ix = self.ix(check);
        ix.is_some_and(|ix| self.duties[ix as usize].meta.able)
    }

    /// This node thinks that its own path to the origins is dead.
    #[must_use]
    pub const fn is_blind(&self) -> bool {
        self.doubt.is_blind()
    }

    /// When [`tick`](Self::tick) is due.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        self.timers
            .next()
            .min(self.asking.next_timeout())
            .min(self.answering.next_timeout())
            .min(self.doubt.next_timeout())
            .min(self.brake.next_timeout())
            .min(self.members.due())
            .min(self.holdings.next_timeout())
            .min(self.late_due())
    }

    /// From now on this node takes part: it has joined, or waited alone.
    pub fn set_ready(&mut self, ctx: &mut Ctx<'_>) {
        if self.ready {
            return;
        }
        self.ready = true;
        for ix in 0..self.duties.len() {
            self.consider(ctx, to_ix(ix));
        }
    }

    /// Checks are configured, or their metadata changed. Whether this node is
    /// able to probe one changes by its removal.
    pub fn add(&mut self, ctx: &mut Ctx<'_>, checks: &[(CheckId, CheckMeta)]) {
        let mut added = Vec::with_capacity(checks.len());
        for &(check, meta) in checks {
            if let Some(ix) = self.ix(check) {
                self.duties[ix as usize].meta = meta;
                self.references.retain(|&other| other != ix);
                if meta.reference {
                    self.references.push(ix);
                }
                continue;
            }
            if self.by_check.len() >= limits::CHECKS {
                self.counters.checks_refused += 1;
                continue;
            }
            let duty = Duty::new(check, meta, ctx.now);
            let ix = if let Some(ix) = self.free.pop() {
                let generation = self.duties[ix as usize].generation;
                self.duties[ix as usize] = Duty { generation, ..duty };
                ix
            } else {
                self.duties.push(duty);
                to_ix(self.duties.len() - 1)
            };
            self.by_check.insert(check, ix);
            ctx.store.configure(check, true);
            self.ranks.insert(ix, check);
            if meta.reference {
                self.references.push(ix);
            }
            self.unheard += 1;
            added.push(ix);
        }
        let able = added.iter().map(|&ix| &self.duties[ix as usize]);
        let able = able.filter(|duty| duty.meta.able);
        let new: Vec<CheckId> = able.map(|duty| duty.check).collect();
        self.holdings.change(ctx.now, &new, &[]);
        for ix in added {
            self.consider(ctx, ix);
        }
    }

    /// Checks are no longer configured: they are released, and the next rank
    /// that still has them goes on.
    pub fn remove(&mut self, ctx: &mut Ctx<'_>, checks: &[CheckId]) {
        self.holdings.change(ctx.now, &[], checks);
        for &check in checks {
            let Some(ix) = self.by_check.remove(&check) else {
                continue;
            };
            if self.duties[ix as usize].probing().is_some() {
                self.stop(ctx, ix, true, None);
            } else if ctx.store.release(check, 0, true, None).is_some() {
                self.counters.releases += 1;
            }
            ctx.store.configure(check, false);
            let duty = &mut self.duties[ix as usize];
            if duty.published.is_none() {
                self.unheard -= 1;
            }
            duty.published = None;
            duty.role = Role::Standby(Standby::default());
            self.references.retain(|&other| other != ix);
            self.asking.drop_check(ix);
            self.timers.clear(ix);
            self.ranks.remove(ix);
            self.free.push(ix);
        }
    }

    /// The words on these checks changed in the map.
    pub fn changed(&mut self, ctx: &mut Ctx<'_>, checks: &[CheckId]) {
        for &check in checks {
            if let Some(ix) = self.ix(check) {
                self.consider(ctx, ix);
            }
        }
    }

    /// A probe thread speaks.
    pub fn report(&mut self, ctx: &mut Ctx<'_>, report: Report) {
        if let ReportKind::Opinion { ask, answer } = report.kind {
            return self.probed_once(ctx, ask, answer);
        }
        let Some(ix) = self.ix(report.check) else {
            return;
        };
        let duty = &mut self.duties[ix as usize];
        let current = duty.generation == report.generation;
        let good = duty
            .published
            .is_none_or(|published| published.verdict != Verdict::Down);
        let next = ctx.now + duty.meta.interval + duty.meta.timeout + self.config.outcome_slack;
        let Some(probing) = duty.probing_mut().filter(|_| current) else {
            self.counters.stale_reports += 1;
            return;
        };
        match report.kind {
            ReportKind::Measured {
                verdict,
                reason,
                contrary,
                latency_us,
            } => {
                let took = Duration::from_micros(latency_us.into());
                if probing.sight.see(ctx.now, good, reason, took) {
                    self.brake.failed(ctx.now, &self.config.brake);
                }
                probing.measured = Some(Measured {
                    verdict,
                    reason,
                    contrary,
                    latency_us,
                });
                probing.fresh = true;
                probing.attended = false;
                probing.outcome_due = Time::NEVER;
                probing.unmeasured = None;
                if verdict != Verdict::Down {
                    probing.confirmed = None;
                }
                duty.measured_before = true;
                if verdict != Verdict::Down {
                    duty.backoff = Backoff::default();
                    self.asking.drop_check(ix);
                }
            }
            ReportKind::Unmeasured { reason, in_a_row } => {
                if probing.outcome_due != Time::NEVER {
                    probing.outcome_due = next;
                }
                self.unmeasured(ctx, ix, reason, in_a_row);
            }
            ReportKind::Opinion { .. } | ReportKind::Sight { .. } => {}
        }
        self.consider(ctx, ix);
    }

    /// Time has passed.
    pub fn tick(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.load.late || 8 * self.members.suspects() > self.members.living() {
            if self.strained.1 <= ctx.now {
                self.strained.0 = ctx.now;
            }
            self.strained.1 = ctx.now + self.config.strained;
        }
        self.look_at_members(ctx);
        self.holdings.tick(ctx.now);
        self.consider_moved(ctx);
        self.give_away(ctx);
        while let Some(ix) = self.timers.pop(ctx.now) {
            self.consider(ctx, ix);
        }
        self.tick_asking(ctx);
        self.answering.tick(ctx.now);
        self.tick_doubt(ctx);
        self.tick_brake(ctx);
    }

    /// Stops all probing and releases everything: the last thing before this
    /// node leaves.
    pub fn release_all(&mut self, ctx: &mut Ctx<'_>) {
        self.ready = false;
        for ix in 0..self.duties.len() {
            if self.duties[ix].probing().is_some() {
                self.stop(ctx, to_ix(ix), false, None);
            }
        }
    }

    /// A late node looks after its lateness from time to time.
    fn late_due(&self) -> Time {
        self.late_since.map_or(Time::NEVER, |since| {
            (since + self.config.late_long).max(self.give_up_at)
        })
    }

    /// The hash of what this node configures, as others are to be told it now.
    #[must_use]
    pub fn checks_to_tell(&mut self, now: Time) -> u64 {
        self.holdings.to_tell(now)
    }

    /// A peer asks what this node configures.
    pub fn set_asked(
        &mut self,
        now: Time,
        by: NodeId,
        set: u64,
        from: u64,
        sums: &[u64],
        most: usize,
    ) {
        self.holdings.asked(now, by, set, from, sums, most);
    }

    /// A peer says what it configures.
    pub fn set_answered(
        &mut self,
        ctx: &mut Ctx<'_>,
        set: u64,
        from: u64,
        last: u64,
        differ: u64,
        prefixes: &[u64],
    ) {
        self.holdings
            .answered(ctx.now, set, from, last, differ, prefixes);
        self.consider_moved(ctx);
    }

    /// What is to be sent about who configures what.
    pub fn take_set_messages(&mut self) -> Vec<(NodeId, Replica)> {
        self.holdings.take_out()
    }

    /// What was counted of who configures what.
    #[must_use]
    pub const fn holdings_counters(&self) -> HoldingsCounters {
        self.holdings.counters()
    }

    /// The check's id.
    pub(super) fn check(&self, ix: CheckIx) -> CheckId {
        self.duties[ix as usize].check
    }

    pub(super) fn is_configured(&self, ix: CheckIx) -> bool {
        self.duties
            .get(ix as usize)
            .is_some_and(|duty| self.ix(duty.check) == Some(ix))
    }

    /// Tells the table of the word that counts on a check, if that is news to it.
    pub(super) fn publish(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, reading: Option<Word>) {
        let duty = &self.duties[ix as usize];
        let check = duty.check;
        if self.by_check.get(&check) != Some(&ix) {
            return;
        }
        let what = reading.map(|word| {
            let value = word.slot.value;
            let owner = self.members.get(word.actor.node);
            Published {
                verdict: value.verdict,
                reason: value.reason,
                since_ms: value.since_ms,
                latency_us: value.latency_us,
                owner: word.actor.node,
                frozen: owner.is_some_and(|owner| owner.living && (!owner.healthy || owner.braked)),
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
            duty.was_up |= what.is_some_and(|what| what.verdict == Verdict::Up);
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
