//! Doing what was decided: the one place that starts, stops and writes.

use core::time::Duration;

use watchfire_wire::message::replica::{Hold, Value};
use watchfire_wire::{First, NodeId, Reason, Time, Unmeasured, Verdict};

use super::budget::{BACKUP_START, SHADOW_START};
use super::decide::{Decision, decide};
use super::duties::{Ctx, Duties};
use super::facts::{Standing, is_weak};
use super::ranks::CheckIx;
use super::role::{Basis, Measured, Probing, Role, Standby};
use crate::io::{Inherit, Output};
use crate::mutations::Mutation;
use crate::replica::Word;

impl Duties {
    /// Considers a check: what shall this node do about it now, and what is the
    /// table to be told?
    pub(super) fn consider(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        if !self.is_configured(ix) {
            return;
        }
        self.overdue(ctx, ix);
        self.act_and_publish(ctx, ix);
    }

    pub(super) fn act_and_publish(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let waits = !self.ready && self.duties[ix as usize].probing().is_none();
        // Who does not take part yet has nothing to decide: all is looked at when it does.
        let reading = if waits {
            self.reading(ctx, self.check(ix))
        } else {
            self.act(ctx, ix)
        };
        self.publish(ctx, ix, reading);
    }

    /// Does what is to be done about a check, and gives the word that counts on it then.
    fn act(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) -> Option<Word> {
        // Whoever stops looks once more: it may have to come back.
        for _ in 0..2 {
            let standing = self.standing(ctx, ix);
            let facts = self.facts(ctx, ix, &standing);
            let role = &self.duties[ix as usize].role;
            match decide(&facts, role, &self.config) {
                Decision::Rest { standby, until } => {
                    self.duties[ix as usize].role = Role::Standby(standby);
                    self.timers.set(ctx.now, ix, until);
                    return standing.winner;
                }
                Decision::Start { basis, overlap } => {
                    let first = self.first_probe(ix, &standing, basis, overlap);
                    self.note_start(&standing, basis, overlap);
                    self.start(ctx, ix, &standing, basis, first);
                    self.set_probing_timer(ctx.now, ix, Time::NEVER);
                    break;
                }
                Decision::GoOn { basis, pays, until } => {
                    self.go_on(ctx.now, ix, basis, pays);
                    self.write(ctx, ix, &standing);
                    self.set_probing_timer(ctx.now, ix, until);
                    break;
                }
                Decision::Stop => {
                    let successor = standing.evidence.filter(|&owner| owner != self.me);
                    self.stop(ctx, ix, false, successor);
                }
            }
        }
        self.reading(ctx, self.check(ix))
    }

    fn note_start(&mut self, standing: &Standing, basis: Basis, overlap: bool) {
        self.counters.starts += 1;
        match basis {
            Basis::Shadow => self.counters.shadows += 1,
            Basis::Backup => self.counters.backups += 1,
            Basis::Owner if overlap => self.counters.overlaps += 1,
            Basis::Owner => {
                let handed_over = standing.winner.is_none_or(|word| self.hands_over(&word));
                self.counters.takeovers += u64::from(!handed_over);
            }
        }
    }

    fn go_on(&mut self, now: Time, ix: CheckIx, basis: Basis, pays: bool) {
        let duty = &mut self.duties[ix as usize];
        let interval = duty.meta.interval;
        let Some(probing) = duty.probing_mut() else {
            return;
        };
        let before = core::mem::replace(&mut probing.basis, basis);
        if basis != Basis::Shadow {
            probing.silent_until = None;
        }
        if pays {
            probing.paid_until = now + interval;
            let _ = if basis == Basis::Shadow {
                self.shadow_budget.take(now, 1)
            } else {
                self.budget.take(now, 1)
            };
        }
        self.account(now, interval, Some(before), Some(basis));
    }

    /// Keeps the budget's account of what is owned.
    fn account(
        &mut self,
        now: Time,
        interval: Duration,
        before: Option<Basis>,
        after: Option<Basis>,
    ) {
        match (before == Some(Basis::Owner), after == Some(Basis::Owner)) {
            (false, true) => {
                self.budget.own(now, interval);
                self.shadow_budget.own(now, interval);
            }
            (true, false) => {
                self.budget.disown(now, interval);
                self.shadow_budget.disown(now, interval);
            }
            _ => {}
        }
    }

    fn set_probing_timer(&mut self, now: Time, ix: CheckIx, until: Time) {
        let Some(probing) = self.duties[ix as usize].probing() else {
            return;
        };
        let mut at = until.min(probing.outcome_due);
        if let Some(aloud_at) = probing.silent_until {
            at = at.min(aloud_at);
        }
        let held_until = probing
            .held_since
            .map(|since| since + self.config.late_hold);
        if let Some(held_until) = held_until.filter(|&until| until > now) {
            at = at.min(held_until);
        }
        if let Some(until) = probing.waits_until.filter(|&until| until > now) {
            at = at.min(until);
        }
        if let Some(unmeasured) = probing.unmeasured
            && !unmeasured.said
        {
            at = at.min(unmeasured.since + self.config.unknown_after);
        }
        self.timers.set(now, ix, at);
    }

    /// Writes if there is something to say: no live word of this node's, one
    /// that could not be measured, another verdict, that it is degraded or is so
    /// no more, or another's winner. Asks
    /// for the next outcome if there is none to say it by.
    fn write(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, standing: &Standing) {
        let duty = &self.duties[ix as usize];
        let check = duty.check;
        let Some(&probing) = duty.probing() else {
            return;
        };
        if let Some(probing) = self.duties[ix as usize].probing_mut() {
            probing.silent_until = probing.silent_until.filter(|&until| until > ctx.now);
            probing.held_since = None;
            probing.waits_until = None;
        }
        let Some(measured) = probing.measured else {
            return;
        };
        let me = ctx.store.me();
        // Over a dead one's word too, though that counts for nothing now: it would
        // again once this node is dead.
        let own_wins = ctx.store.winner(check).is_some_and(|word| word.actor == me);
        let held = ctx.store.word_of(me, check);
        let same = held.is_some_and(|slot| {
            slot.hold == Hold::Live
                && slot.value.verdict == measured.verdict
                && !tells_degraded(&measured, slot.value.reason)
                && !is_weak(Word { actor: me, slot })
        });
        if own_wins && same {
            return;
        }
        let published = standing.verdict();
        let silent = probing.silent_until.is_some_and(|until| until > ctx.now);
        if silent && published == measured.verdict {
            return;
        }
        let overturns = published != Verdict::Unknown || measured.verdict == Verdict::Down;
        if measured.contrary > 0 && published != measured.verdict && overturns {
            // The last outcome contradicts this prober's own verdict: it was
            // stopped, cut off or could not measure, while others saw the
            // change. That is no ground to overturn the POP's word, nor to call
            // an origin Down that has just passed; it begins anew.
            self.begin_anew(ctx, ix);
            return;
        }
        if !probing.fresh && !self.mutations.on(Mutation::WriteOnPull) {
            self.attend(ctx, ix);
            return;
        }
        let mut votes = (0, 0);
        if measured.verdict == Verdict::Down && published != Verdict::Down {
            if self.holds_back(ctx, ix, probing.held_since) {
                return;
            }
            if self.is_held(ctx, ix) {
                // Others must know that somebody is at it.
                if standing.evidence.is_none() && published != Verdict::Unknown {
                    let reason = Unmeasured::Blind.code();
                    self.put_weak(ctx, ix, standing, published, reason);
                }
                return;
            }
            if probing.confirmed.is_none() {
                self.ask_whether_down(ctx, ix);
            }
            match self.confirmed(ix) {
                Some(confirmed) => votes = confirmed,
                None => return,
            }
        }
        let before = standing.winner.map(|word| word.slot.value);
        let kept = before.filter(|value| value.verdict == measured.verdict);
        let value = Value {
            verdict: measured.verdict,
            reason: measured.reason,
            contrary: 0,
            agreed: kept.map_or(votes.0, |value| value.agreed),
            dissented: kept.map_or(votes.1, |value| value.dissented),
            latency_us: measured.latency_us,
            since_ms: kept.map_or(ctx.wall_ms, |value| value.since_ms),
            confirmed_by: kept.map_or(self.me, |value| value.confirmed_by),
        };
        self.put(ctx, ix, value);
        if let Some(probing) = self.duties[ix as usize].probing_mut() {
            probing.fresh = false;
            probing.silent_until = None;
            // Another Down is another question.
            probing.confirmed = None;
        }
        self.note_transition(ctx, check, published, measured.verdict);
    }

    /// Stops and starts the prober: what it knew of the check counts no more,
    /// its phase stays.
    pub(super) fn begin_anew(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let duty = &self.duties[ix as usize];
        let (check, interval) = (duty.check, duty.meta.interval);
        let Some(&Probing { basis, .. }) = duty.probing() else {
            return;
        };
        let standing = self.standing(ctx, ix);
        self.asking.drop_check(ix);
        self.probing -= 1;
        self.account(ctx.now, interval, Some(basis), None);
        ctx.out.push_back(Output::Stop { check });
        self.counters.starts += 1;
        self.start(ctx, ix, &standing, basis, Beginning::AtPhase);
        self.set_probing_timer(ctx.now, ix, Time::NEVER);
    }

    /// A late node says nothing bad of an origin, and asks nobody to: what it
    /// saw may be its own lateness. But if all are late the origin may be dead
    /// all the same, so this lasts only so long.
    fn holds_back(&mut self, ctx: &Ctx<'_>, ix: CheckIx, since: Option<Time>) -> bool {
        if !ctx.load.late {
            return false;
        }
        self.counters.downs_held += u64::from(since.is_none());
        let since = since.unwrap_or(ctx.now);
        if let Some(probing) = self.duties[ix as usize].probing_mut() {
            probing.held_since = Some(since);
        }
        ctx.now.since(since) < self.config.late_hold
    }

    fn confirmed(&self, ix: CheckIx) -> Option<(u8, u8)> {
        self.duties[ix as usize].probing()?.confirmed
    }

    pub(super) fn attend(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let duty = &mut self.duties[ix as usize];
        let (check, wait) = (duty.check, duty.meta.interval + duty.meta.timeout);
        let due = ctx.now + wait + self.config.outcome_slack;
        if let Some(probing) = duty.probing_mut()
            && !probing.attended
        {
            probing.attended = true;
            probing.outcome_due = due;
            ctx.out.push_back(Output::Attend { check });
        }
    }

    pub(super) fn put(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, value: Value) {
        let check = self.check(ix);
        let priority = self.ranks.score(self.me, check);
        ctx.store.write(check, priority, value);
        self.counters.writes += 1;
    }

    /// When to probe first.
    fn first_probe(
        &self,
        ix: CheckIx,
        standing: &Standing,
        basis: Basis,
        overlap: bool,
    ) -> Beginning {
        let carried = self.duties[ix as usize].meta.carried;
        match (&standing.winner, basis) {
            (_, Basis::Backup | Basis::Shadow) => Beginning::CatchUp,
            (None, Basis::Owner) if carried => Beginning::AtPhase,
            (None, Basis::Owner) => Beginning::New,
            (Some(_), Basis::Owner) if overlap && !standing.is_weak() => Beginning::Aside,
            (Some(word), Basis::Owner) if self.is_in_time(ix, word) => Beginning::AtPhase,
            (Some(_), Basis::Owner) => Beginning::CatchUp,
        }
    }

    /// The winner is a living member's that hands the check over.
    fn hands_over(&self, word: &Word) -> bool {
        self.members.is_current(word.actor) && !self.members.is_suspect(word.actor.node)
    }

    /// It does so in time: the check's phase has not been missed.
    pub(super) fn is_in_time(&self, ix: CheckIx, word: &Word) -> bool {
        let interval = self.duties[ix as usize].meta.interval;
        self.hands_over(word)
            && match word.slot.hold {
                Hold::Live => interval < self.config.handover_bound / 2,
                // Another's release took its time to come here.
                Hold::Released => word.actor.node == self.me,
                Hold::Declined => false,
            }
    }

    /// How long the first probe of a check without any verdict may wait.
    pub(super) fn first_within(&self, interval: Duration) -> Duration {
        let many = u32::try_from(self.unheard).unwrap_or(u32::MAX);
        let paced = self.config.pace.saturating_mul(many);
        interval.min(self.config.first_within.max(paced))
    }

    /// Probing begins.
    fn start(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: CheckIx,
        standing: &Standing,
        basis: Basis,
        beginning: Beginning,
    ) {
        let now = ctx.now;
        let meta = self.duties[ix as usize].meta;
        let part = self.check(ix).prefix();
        let first = match beginning {
            Beginning::AtPhase => First::PHASE,
            Beginning::Aside => {
                let aside = (meta.interval / 10).min(self.config.aside);
                if self.members.many_came() {
                    First::AfterPhase(aside)
                } else {
                    First::Phase { ahead: aside }
                }
            }
            Beginning::New => First::At(now + share(self.first_within(meta.interval), part)),
            Beginning::CatchUp => First::At(self.catch_up(now, meta.interval, part)),
        };
        let inherit = standing
            .winner
            .map(|word| word.slot)
            .filter(|slot| slot.value.verdict != Verdict::Unknown)
            .map(|slot| Inherit {
                verdict: slot.value.verdict,
                contrary: if slot.hold.is_released() {
                    slot.value.contrary
                } else {
                    0
                },
            });
        self.probing += 1;
        self.account(now, meta.interval, None, Some(basis));
        let (cost, paid_for) = match basis {
            Basis::Owner => (0, Duration::ZERO),
            Basis::Backup => (BACKUP_START, meta.interval),
            Basis::Shadow => (SHADOW_START, meta.interval / 2),
        };
        let _ = if basis == Basis::Shadow {
            self.shadow_budget.take(now, cost)
        } else {
            self.budget.take(now, cost)
        };
        let paid_until = now + paid_for;
        let latest = match first {
            First::At(first) => first,
            First::Phase { .. } => now + meta.interval,
            First::AfterPhase(delay) => now + meta.interval + delay,
        };
        let outcome_due = latest + meta.timeout + self.config.outcome_slack;
        let mut probing = Probing::new(basis, paid_until, outcome_due);
        if basis == Basis::Shadow {
            probing.silent_until = Some(now + self.config.shadow_silence);
        }
        let duty = &mut self.duties[ix as usize];
        duty.role = Role::Probing(probing);
        duty.backoff.until = None;
        duty.generation = duty.generation.wrapping_add(1);
        ctx.out.push_back(Output::Start {
            check: duty.check,
            generation: duty.generation,
            inherit,
            first,
        });
    }

    /// When to probe a check whose phase may have passed: soon, but many at
    /// once not much faster than this node probes anyway.
    fn catch_up(&mut self, now: Time, interval: Duration, part: u64) -> Time {
        let soon = now + share(self.config.spread, part);
        let at = soon.max(self.catch_up_at);
        let last = now + self.config.catch_up_within.min(interval);
        let per_second = 10 + self.budget.own_rate() / 1_000_000;
        self.catch_up_at = at.min(last) + Duration::from_micros(1_000_000 / per_second);
        if at > last {
            return now + share(last.since(now), part);
        }
        at
    }

    /// Probing ends, and the check is released to whoever goes on.
    pub(super) fn stop(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: CheckIx,
        declined: bool,
        successor: Option<NodeId>,
    ) {
        let duty = &mut self.duties[ix as usize];
        let (check, interval) = (duty.check, duty.meta.interval);
        let Role::Probing(probing) = duty.role else {
            return;
        };
        duty.role = Role::Standby(Standby::default());
        self.account(ctx.now, interval, Some(probing.basis), None);
        let contrary = probing.measured.map_or(0, |measured| measured.contrary);
        self.probing -= 1;
        self.counters.stops += 1;
        self.asking.drop_check(ix);
        ctx.out.push_back(Output::Stop { check });
        let released = ctx.store.release(check, contrary, declined, successor);
        if released.is_some() {
            self.counters.releases += 1;
        }
    }
}

/// When the first probe after a start goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// At the check's phase, as before.
    AtPhase,
    /// A little ahead of it, for somebody else probes it then until it hears of
    /// this; or a little after it, while so much moves that this takes longer.
    Aside,
    /// Soon, for the phase may have passed unprobed.
    CatchUp,
    /// Within a window, for no verdict is known at all.
    New,
}

/// A part of a window that differs from check to check.
pub(super) fn share(window: Duration, part: u64) -> Duration {
    let offset_us = (u128::from(part) * window.as_micros()) >> 64;
    Duration::from_micros(u64::try_from(offset_us).unwrap_or(0))
}

/// Whether an outcome that agrees with the verdict says otherwise than the last
/// word whether the origin is degraded.
fn tells_degraded(measured: &Measured, said: u8) -> bool {
    let degraded = |reason| reason == Reason::Degraded.code();
    measured.contrary == 0
        && measured.verdict == Verdict::Up
        && degraded(measured.reason) != degraded(said)
}
