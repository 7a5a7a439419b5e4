//! What cannot be measured: words that say so, and giving checks up or away.

use watchfire_wire::message::replica::Value;
use watchfire_wire::{Time, Unmeasured, Verdict};

use super::duties::{Ctx, Duties, to_ix};
use super::facts::Standing;
use super::ranks::CheckIx;
use super::role::Unmeasurable;

impl Duties {
    /// What time alone makes of a check that is probed.
    pub(super) fn overdue(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let duty = &mut self.duties[ix as usize];
        let next = ctx.now + duty.meta.interval + duty.meta.timeout + self.config.outcome_slack;
        let Some(probing) = duty.probing_mut() else {
            return;
        };
        if probing.outcome_due <= ctx.now {
            probing.outcome_due = next;
            let in_a_row = probing
                .unmeasured
                .map_or(0, |unmeasured| unmeasured.in_a_row)
                + 1;
            self.counters.outcomes_overdue += 1;
            self.unmeasured(ctx, ix, Unmeasured::Late.code(), in_a_row);
        }
        let since = self.duties[ix as usize]
            .probing()
            .and_then(|probing| probing.unmeasured)
            .filter(|unmeasured| !unmeasured.said);
        if let Some(unmeasured) = since
            && ctx.now.since(unmeasured.since) >= self.config.unknown_after
        {
            self.say_unmeasurable(ctx, ix, unmeasured);
        }
    }

    /// A probe measured nothing. This node gives the check up if others could
    /// try: at once if it has never measured it, after a few times otherwise.
    /// Where nobody is known to be at it, it says that it is, and that it cannot
    /// tell.
    pub(super) fn unmeasured(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, reason: u8, in_a_row: u32) {
        let now = ctx.now;
        let measured_before = self.duties[ix as usize].measured_before;
        let Some(probing) = self.duties[ix as usize].probing_mut() else {
            return;
        };
        let before = probing.unmeasured;
        let unmeasured = Unmeasurable {
            since: before.map_or(now, |before| before.since),
            in_a_row,
            reason,
            said: before.is_some_and(|before| before.said),
        };
        probing.unmeasured = Some(unmeasured);
        let limit = if measured_before {
            self.config.unmeasured_limit
        } else {
            1
        };
        let standing = self.standing(ctx, ix);
        let elsewhere = standing.measured_by_other(self.me);
        if in_a_row >= limit
            && (elsewhere || self.alternative(now, ix, &standing))
            && self.may_give_up(ctx)
        {
            self.counters.unmeasurable += 1;
            self.give_up(ctx, ix, &standing, reason, 0);
            return;
        }
        let mine = standing.evidence == Some(self.me);
        let says_so = mine && (standing.is_weak() || in_a_row < self.config.unmeasured_limit);
        if elsewhere || says_so {
            return;
        }
        self.counters.unmeasurable += 1;
        let verdict = standing.verdict();
        self.put_weak(ctx, ix, &standing, verdict, reason);
    }

    /// Somebody else could try.
    pub(super) fn alternative(&self, now: Time, ix: CheckIx, standing: &Standing) -> bool {
        let me = self.me;
        let could = self.candidates(now, ix, standing);
        self.ranks
            .best(ix, |node| node != me && could(node))
            .is_some()
    }

    /// A late node gives up little at a time: its lateness excuses the probes
    /// that it hit.
    fn may_give_up(&mut self, ctx: &Ctx<'_>) -> bool {
        if !ctx.load.late {
            return true;
        }
        if self.give_up_at > ctx.now {
            return false;
        }
        self.give_up_at = ctx.now + self.config.late_pace;
        true
    }

    /// Nobody has been able to measure a check for long: what was known of it
    /// is known no more.
    fn say_unmeasurable(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, unmeasured: Unmeasurable) {
        let standing = self.standing(ctx, ix);
        let weak = standing.evidence == Some(self.me) && standing.is_weak();
        if let Some(probing) = self.duties[ix as usize].probing_mut() {
            probing.unmeasured = Some(Unmeasurable {
                said: true,
                ..unmeasured
            });
        }
        if !weak || standing.verdict() == Verdict::Unknown {
            return;
        }
        let reason = if self.ranks.eligible() > 1 {
            Unmeasured::Nobody.code()
        } else {
            unmeasured.reason
        };
        self.put_weak(ctx, ix, &standing, Verdict::Unknown, reason);
    }

    /// Writes a weak word: this node is at it and cannot tell. The verdict that
    /// stood goes on standing, for that nobody measures now says nothing
    /// against it.
    pub(super) fn put_weak(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: CheckIx,
        standing: &Standing,
        verdict: Verdict,
        reason: u8,
    ) {
        let stood = standing.winner.map(|word| word.slot.value);
        let kept = stood.filter(|value| value.verdict == verdict && verdict != Verdict::Unknown);
        let value = Value {
            verdict,
            reason,
            contrary: 0,
            agreed: kept.map_or(0, |value| value.agreed),
            dissented: kept.map_or(0, |value| value.dissented),
            latency_us: kept.map_or(0, |value| value.latency_us),
            since_ms: kept.map_or(ctx.wall_ms, |value| value.since_ms),
            confirmed_by: kept.map_or(self.me, |value| value.confirmed_by),
        };
        self.put(ctx, ix, value);
        self.counters.weak_words += 1;
        // The next measured outcome is news whatever it says.
        if let Some(probing) = self.duties[ix as usize].probing_mut() {
            probing.measured = None;
        }
        self.attend(ctx, ix);
        self.note_transition(ctx, self.check(ix), standing.verdict(), verdict);
    }

    /// Declines a check for a while that grows with each time.
    pub(super) fn give_up(
        &mut self,
        ctx: &mut Ctx<'_>,
        ix: CheckIx,
        standing: &Standing,
        reason: u8,
        dissented: u8,
    ) {
        self.stop(ctx, ix, true, None);
        let (retry, most) = (self.config.retry, self.config.retry_max);
        let duty = &mut self.duties[ix as usize];
        duty.backoff.begin(ctx.now, retry, most);
        let (check, priority) = (duty.check, self.ranks.score(self.me, duty.check));
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
        if ctx.store.decline(check, priority, value).is_some() {
            self.counters.releases += 1;
        }
        self.act_and_publish(ctx, ix);
    }

    /// The others see the origin: whatever this node sees is its own trouble.
    pub(super) fn overruled(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, dissented: u8) {
        let standing = self.standing(ctx, ix);
        let reason = Unmeasured::Blind.code();
        self.give_up(ctx, ix, &standing, reason, dissented);
    }

    /// A node that stays late gives checks away, one at a time, where somebody
    /// else could take them.
    pub(super) fn give_away(&mut self, ctx: &mut Ctx<'_>) {
        if !ctx.load.late {
            self.late_since = None;
            return;
        }
        let since = *self.late_since.get_or_insert(ctx.now);
        if ctx.now.since(since) < self.config.late_long || self.give_up_at > ctx.now {
            return;
        }
        self.give_up_at = ctx.now + self.config.late_pace;
        for _ in 0..self.duties.len() {
            self.given_away = (self.given_away + 1) % self.duties.len();
            let ix = to_ix(self.given_away);
            if self.duties[ix as usize].probing().is_none() {
                continue;
            }
            let standing = self.standing(ctx, ix);
            if self.alternative(ctx.now, ix, &standing) {
                self.counters.given_away += 1;
                self.give_up(ctx, ix, &standing, Unmeasured::Late.code(), 0);
                return;
            }
        }
    }
}
