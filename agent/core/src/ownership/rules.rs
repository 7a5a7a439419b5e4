//! The rules of duty: start, stop, write.
//!
//! 1. Rank 0 among the eligible starts at once. Any other rank starts when
//!    there has been no evidence for as long as its patience.
//! 2. When the owner is suspected, the first rank that is not probes in its
//!    shadow, at first silently unless the verdict changes. If nobody is heard
//!    of, other ranks follow by their patience.
//! 3. A prober stops when evidence ranks above it, and not before.
//! 4. A prober writes after a measured outcome of its own: when it has no live
//!    slot, when the value changed, or when the winner is another's.

use core::time::Duration;

use smallvec::SmallVec;
use watchfire_wire::message::replica::{Hold, Value};
use watchfire_wire::{Actor, CheckId, NodeId, Unmeasured, Verdict};

use super::duties::{Ctx, Duties};
use super::ranks::CheckIx;
use crate::io::{Inherit, Output};
use crate::mutations::Mutation;
use crate::replica::Word;

/// What the words on a check amount to.
struct Standing {
    winner: Option<Word>,
    /// Who is at it, by the winning word.
    evidence: Option<NodeId>,
    /// Who has said that it cannot or will not probe this check.
    declined: SmallVec<[NodeId; 4]>,
}

impl Standing {
    /// What the POP holds of the check.
    fn verdict(&self) -> Verdict {
        self.winner
            .map_or(Verdict::Unknown, |word| word.slot.value.verdict)
    }

    /// Somebody is at it and cannot measure it either. Whoever has not just
    /// tried may try, and need not stop for that one.
    fn is_weak(&self) -> bool {
        self.winner.is_some_and(|word| {
            let value = word.slot.value;
            value.verdict == Verdict::Unknown && Unmeasured::from_code(value.reason).is_some()
        })
    }
}

impl Duties {
    /// Applies the rules to one check.
    pub(super) fn decide(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        if !self.is_configured(ix) {
            return;
        }
        let standing = self.standing(ctx, ix);
        if self.duties[ix as usize].probing {
            self.decide_probing(ctx, ix, &standing);
        } else {
            self.decide_idle(ctx, ix, &standing);
        }
    }

    /// A check that this node does not probe.
    fn decide_idle(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, standing: &Standing) {
        if !self.ready || !self.ranks.is_eligible(self.me) {
            self.duties[ix as usize].lost_at = None;
            self.timers.clear(ix);
            return;
        }
        let duty = &self.duties[ix as usize];
        let shunned = duty.is_shunned(ctx.now);
        let me = self.me;
        let may_probe = |node: NodeId| {
            if node == me {
                !shunned
            } else {
                !standing.declined.contains(&node)
            }
        };
        let suspected = standing
            .evidence
            .is_some_and(|owner| self.is_suspect(owner));
        if standing.evidence.is_some() && !suspected {
            self.duties[ix as usize].lost_at = None;
            if let Some(until) = self.duties[ix as usize].shunned_until.filter(|_| shunned) {
                self.timers.set(ix, until);
                return;
            }
            self.timers.clear(ix);
            if standing.is_weak() || self.ranks.first(ix, may_probe) == Some(me) {
                self.counters.overlaps += 1;
                self.start(ctx, ix, standing, First::AtPhase);
            }
            return;
        }
        let lost_at = *self.duties[ix as usize].lost_at.get_or_insert(ctx.now);
        let first = self.ranks.first(ix, |node| {
            may_probe(node) && !(suspected && self.is_suspect(node))
        }) == Some(me);
        let wait = if first {
            Duration::ZERO
        } else {
            self.patience(ix, standing, shunned)
        };
        let due = lost_at + wait;
        if due > ctx.now {
            self.timers.set(ix, due);
            return;
        }
        // A whole POP that starts must not take its own slow news for absence:
        // every rank would begin, and what they write delays the news further.
        let last = due + self.config.behind_patience;
        if !first && standing.winner.is_none() && ctx.behind && last > ctx.now {
            let again = ctx.now + self.config.patience;
            self.timers.set(ix, again.min(last));
            return;
        }
        self.duties[ix as usize].shunned_until = None;
        if suspected {
            self.counters.shadows += 1;
            self.start(ctx, ix, standing, First::CatchUp(self.config.shadow_grace));
            let aloud_at = ctx.now + self.config.shadow_silence;
            self.duties[ix as usize].silent_until = Some(aloud_at);
            self.timers.set(ix, aloud_at);
            return;
        }
        let first = match &standing.winner {
            None => First::Paced,
            Some(word) if self.hands_over(ix, word) => First::AtPhase,
            Some(_) => {
                self.counters.takeovers += 1;
                First::CatchUp(Duration::ZERO)
            }
        };
        self.start(ctx, ix, standing, first);
    }

    /// A check that this node probes.
    fn decide_probing(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, standing: &Standing) {
        let me = self.me;
        let my_view = self.members.get(&me).copied();
        if !my_view.is_some_and(|view| view.healthy) {
            self.stop(ctx, ix, false);
            return;
        }
        let other = standing.evidence.filter(|&owner| owner != me);
        if let Some(owner) = other
            && !self.is_suspect(owner)
            && !standing.is_weak()
            && !self.mutations.on(Mutation::TakeoverNeverStops)
        {
            let check = self.duties[ix as usize].check;
            if !self.ranks.is_eligible(me) || self.ranks.is_above(owner, me, check) {
                self.stop(ctx, ix, false);
                return;
            }
        }
        if !other.is_some_and(|owner| self.is_suspect(owner)) {
            self.duties[ix as usize].silent_until = None;
        }
        self.write(ctx, ix, standing);
    }

    /// Writes if rule 4 says so, and asks for the next outcome if it would but
    /// there is none.
    fn write(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, standing: &Standing) {
        let duty = &self.duties[ix as usize];
        let check = duty.check;
        let own_wins = standing
            .winner
            .is_some_and(|word| word.actor == ctx.store.me());
        let held = ctx.store.word_of(ctx.store.me(), check);
        let live = held.is_some_and(|slot| slot.hold == Hold::Live);
        let published = standing.verdict();
        let Some(measured) = duty.measured else {
            return;
        };
        let same = match held {
            Some(slot) => slot.value.verdict == measured.verdict,
            None => false,
        };
        if own_wins && live && same {
            return;
        }
        let silent = duty.silent_until.is_some_and(|until| until > ctx.now);
        if silent && published == measured.verdict {
            return;
        }
        let overturns = published != Verdict::Unknown || measured.verdict == Verdict::Down;
        if measured.contrary > 0 && published != measured.verdict && overturns {
            // The last outcome contradicts this prober's own verdict: it was
            // stopped, cut off or could not measure, while others saw the
            // change. That is no ground to overturn the POP's word, nor to call
            // an origin Down that has just passed; it begins anew.
            self.juries.drop_check(ix);
            self.probing -= 1;
            ctx.out.push_back(Output::Stop { check });
            self.start(ctx, ix, standing, First::AtPhase);
            return;
        }
        if !duty.fresh && !self.mutations.on(Mutation::WriteOnPull) {
            if !duty.attended {
                self.duties[ix as usize].attended = true;
                ctx.out.push_back(Output::Attend { check });
            }
            return;
        }
        let mut votes = (0, 0);
        if measured.verdict == Verdict::Down && published != Verdict::Down {
            match duty.confirmed {
                Some(confirmed) => votes = confirmed,
                None => {
                    self.summon(ctx, ix, standing.declined.as_slice());
                    if let Some(confirmed) = self.duties[ix as usize].confirmed {
                        votes = confirmed;
                    } else {
                        return;
                    }
                }
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
        let priority = self.ranks.score(self.me, check);
        ctx.store.write(check, priority, value);
        self.counters.writes += 1;
        let duty = &mut self.duties[ix as usize];
        duty.fresh = false;
        duty.silent_until = None;
        // Another Down is another question.
        duty.confirmed = None;
        self.note_transition(ctx, check, published, measured.verdict);
    }

    /// Probing begins.
    fn start(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, standing: &Standing, first: First) {
        let now = ctx.now;
        let first = match first {
            First::AtPhase => None,
            First::CatchUp(grace) => {
                let spread_us = u64::try_from(self.config.spread.as_micros()).unwrap_or(u64::MAX);
                let check = self.duties[ix as usize].check;
                let within_us =
                    spread_us.saturating_sub(u64::try_from(grace.as_micros()).unwrap_or(u64::MAX));
                let offset_us = (u128::from(check.prefix()) * u128::from(within_us)) >> 64;
                let offset_us = u64::try_from(offset_us).unwrap_or(0);
                Some(now + grace + Duration::from_micros(offset_us))
            }
            First::Paced => {
                let at = now.max(self.pace);
                self.pace = at + self.config.pace;
                Some(at)
            }
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
        self.counters.starts += 1;
        self.timers.clear(ix);
        let duty = &mut self.duties[ix as usize];
        duty.probing = true;
        duty.silent_until = None;
        duty.generation = duty.generation.wrapping_add(1);
        duty.measured = None;
        duty.confirmed = None;
        duty.fresh = false;
        duty.attended = false;
        duty.lost_at = None;
        ctx.out.push_back(Output::Start {
            check: duty.check,
            generation: duty.generation,
            inherit,
            first,
        });
    }

    /// Probing ends, and the check is released.
    pub(super) fn stop(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, declined: bool) {
        let duty = &mut self.duties[ix as usize];
        let check = duty.check;
        let contrary = duty.measured.map_or(0, |measured| measured.contrary);
        duty.probing = false;
        duty.silent_until = None;
        duty.fresh = false;
        duty.confirmed = None;
        duty.measured = None;
        self.probing -= 1;
        self.counters.stops += 1;
        self.juries.drop_check(ix);
        ctx.out.push_back(Output::Stop { check });
        if ctx.store.release(check, contrary, declined).is_some() {
            self.counters.releases += 1;
        }
        if !declined && self.ready {
            // Whether somebody else is at it is now a question of its own.
            let standing = self.standing(ctx, ix);
            if standing.evidence.is_none() {
                self.duties[ix as usize].lost_at = Some(ctx.now);
                let wait = self.patience(ix, &standing, false);
                self.timers.set(ix, ctx.now + wait);
            }
        }
    }

    /// The check is given up here for a while: others shall try. If there is
    /// nobody else this node goes on, and the verdict says that nobody can.
    pub(super) fn unmeasurable(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, reason: u8) {
        self.counters.unmeasurable += 1;
        let standing = self.standing(ctx, ix);
        let me = self.me;
        let elsewhere = standing.evidence.is_some_and(|owner| owner != me);
        let says_so = standing.evidence == Some(me) && standing.is_weak();
        if says_so {
            return;
        }
        let alternative = self
            .ranks
            .first(ix, |node| node != me && !standing.declined.contains(&node));
        if elsewhere || alternative.is_some() {
            self.give_up(ctx, ix, &standing, reason, 0);
            return;
        }
        let check = self.duties[ix as usize].check;
        let before = standing.verdict();
        let value = Value {
            verdict: Verdict::Unknown,
            reason: if self.ranks.eligible() > 1 {
                Unmeasured::Nobody.code()
            } else {
                reason
            },
            contrary: 0,
            agreed: 0,
            dissented: 0,
            latency_us: 0,
            since_ms: ctx.wall_ms,
            confirmed_by: self.me,
        };
        let priority = self.ranks.score(self.me, check);
        ctx.store.write(check, priority, value);
        self.counters.writes += 1;
        // The next measured outcome is news whatever it says.
        let duty = &mut self.duties[ix as usize];
        duty.measured = None;
        if !duty.attended {
            duty.attended = true;
            ctx.out.push_back(Output::Attend { check });
        }
        self.note_transition(ctx, check, before, Verdict::Unknown);
        self.look(ctx, ix);
    }

    /// Declines a check for a while that grows with each time.
    fn give_up(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: CheckIx,
        standing: &Standing,
        reason: u8,
        dissented: u8,
    ) {
        self.stop(ctx, ix, true);
        let priority = self.ranks.score(self.me, self.duties[ix as usize].check);
        let duty = &mut self.duties[ix as usize];
        let wait = self.config.retry * (1_u32 << duty.shuns.min(8));
        let until = ctx.now + wait.min(self.config.retry_max);
        duty.shunned_until = Some(until);
        duty.shuns = duty.shuns.saturating_add(1);
        let value = Value {
            verdict: standing.verdict(),
            reason: standing
                .winner
                .map_or(reason, |word| word.slot.value.reason),
            contrary: 0,
            agreed: 0,
            dissented,
            latency_us: 0,
            since_ms: standing
                .winner
                .map_or(ctx.wall_ms, |word| word.slot.value.since_ms),
            confirmed_by: self.me,
        };
        if ctx.store.decline(duty.check, priority, value).is_some() {
            self.counters.releases += 1;
        }
        self.look(ctx, ix);
    }

    /// A jury dissents: whatever this node sees is its own trouble.
    pub(super) fn overruled(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, dissented: u8) {
        let standing = self.standing(ctx, ix);
        let reason = Unmeasured::Blind.code();
        self.give_up(ctx, ix, &standing, reason, dissented);
    }

    /// How long this node waits without evidence before it starts.
    fn patience(&self, ix: CheckIx, standing: &Standing, shunned: bool) -> Duration {
        let duty = &self.duties[ix as usize];
        let check = duty.check;
        let above = standing
            .declined
            .iter()
            .filter(|&&node| self.ranks.is_eligible(node))
            .filter(|&&node| !self.is_suspect(node))
            .filter(|&&node| node != self.me && self.ranks.is_above(node, self.me, check))
            .count()
            + self
                .suspects()
                .filter(|&node| self.ranks.is_eligible(node))
                .filter(|&node| self.ranks.is_above(node, self.me, check))
                .count();
        let rank = self.ranks.rank(ix, self.me).saturating_sub(above);
        let base = duty.meta.timeout + self.config.patience;
        let bound = self.config.takeover_bound;
        let full = base * ceil_log2(1 + rank).max(1);
        let mut wait = if full < bound {
            full
        } else {
            // Those who are capped do not all start in the same instant: the
            // first one's evidence stops the others.
            let eligible = u32::try_from(self.ranks.eligible().max(1)).unwrap_or(u32::MAX);
            let rank = u32::try_from(rank).unwrap_or(u32::MAX).min(eligible);
            let window = base.min(bound) / 2;
            bound - window + window / eligible * rank
        };
        if standing.winner.is_none() {
            // Whoever comes before this node may have many new checks to begin.
            let each = u32::try_from(self.unheard / self.ranks.eligible().max(1));
            wait += (self.config.pace * each.unwrap_or(u32::MAX)).min(bound);
        }
        if shunned {
            // Others come first; if nobody can, this node tries again.
            wait += bound;
        }
        wait
    }

    fn standing(&self, ctx: &Ctx<'_>, ix: CheckIx) -> Standing {
        let check = self.duties[ix as usize].check;
        let winner = ctx.store.winner(check);
        let evidence = winner
            .filter(|word| word.slot.hold == Hold::Live && self.is_evidence_of(word.actor))
            .map(|word| word.actor.node);
        Standing {
            winner,
            evidence,
            declined: self.declined(ctx, ix),
        }
    }

    /// Who has said that it cannot or will not probe this check.
    pub(super) fn declined(&self, ctx: &Ctx<'_>, ix: CheckIx) -> SmallVec<[NodeId; 4]> {
        let words = ctx.store.words(self.check(ix));
        words
            .filter(|word| word.slot.hold == Hold::Declined && self.is_current(word.actor))
            .map(|word| word.actor.node)
            .collect()
    }

    /// Is this actor the present life of an eligible member? This node's own
    /// word is evidence to itself as long as it probes.
    fn is_evidence_of(&self, actor: Actor) -> bool {
        if self.mutations.on(Mutation::StaleSlotIsEvidence) {
            return true;
        }
        self.is_current(actor) && self.ranks.is_eligible(actor.node)
    }

    fn is_current(&self, actor: Actor) -> bool {
        self.members
            .get(&actor.node)
            .is_some_and(|view| view.actor == actor && view.living)
    }

    fn suspects(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.suspects.iter().copied()
    }

    pub(super) fn is_suspect(&self, node: NodeId) -> bool {
        self.suspects.contains(&node)
    }

    /// The winner is a living member's that hands the check over in time: its
    /// phase has not been missed.
    fn hands_over(&self, ix: CheckIx, word: &Word) -> bool {
        let interval = self.duties[ix as usize].meta.interval;
        self.is_current(word.actor)
            && !self.is_suspect(word.actor.node)
            && (word.slot.hold.is_released() || interval < self.config.handover_bound / 2)
    }

    fn is_configured(&self, ix: CheckIx) -> bool {
        self.duties
            .get(ix as usize)
            .is_some_and(|duty| self.ix(duty.check) == Some(ix))
    }

    /// The check's id.
    pub(super) fn check(&self, ix: CheckIx) -> CheckId {
        self.duties[ix as usize].check
    }
}

/// When the first probe after a start goes out.
enum First {
    /// At the check's phase, as before.
    AtPhase,
    /// Soon, for the phase may have passed unprobed.
    CatchUp(Duration),
    /// Soon, one new check after the other.
    Paced,
}

fn ceil_log2(n: usize) -> u32 {
    n.next_power_of_two().trailing_zeros()
}
