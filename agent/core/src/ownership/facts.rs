//! What is known about a check: the words on it, and who could probe it.

use core::time::Duration;

use smallvec::SmallVec;
use watchfire_wire::message::replica::Hold;
use watchfire_wire::{Actor, CheckId, NodeId, Time, Unmeasured, Verdict};

use super::budget::{BACKUP_START, SHADOW_START};
use super::decide::{Evidence, Facts};
use super::duties::{Ctx, Duties};
use super::ranks::CheckIx;
use crate::limits::RANKS_WITHOUT_EVIDENCE;
use crate::mutations::Mutation;
use crate::replica::Word;

/// What the words on a check amount to.
pub(super) struct Standing {
    pub(super) winner: Option<Word>,
    /// Who is at it, by the winning word.
    pub(super) evidence: Option<NodeId>,
    /// Who has said that it cannot or will not probe this check.
    pub(super) declined: SmallVec<[NodeId; 4]>,
}

impl Standing {
    /// What the POP holds of the check.
    pub(super) fn verdict(&self) -> Verdict {
        self.winner
            .map_or(Verdict::Unknown, |word| word.slot.value.verdict)
    }

    /// The winning word says that its writer could not measure.
    pub(super) fn is_weak(&self) -> bool {
        self.winner.is_some_and(is_weak)
    }

    /// Somebody else is at it and measures.
    pub(super) fn measured_by_other(&self, me: NodeId) -> bool {
        !self.is_weak() && self.evidence.is_some_and(|owner| owner != me)
    }
}

/// A weak word keeps the verdict that stood and says why nobody can confirm it.
pub(super) fn is_weak(word: Word) -> bool {
    Unmeasured::from_code(word.slot.value.reason).is_some()
}

impl Duties {
    pub(super) fn standing(&self, ctx: &Ctx<'_>, ix: CheckIx) -> Standing {
        let check = self.check(ix);
        let winner = self.reading(ctx, check);
        let evidence = winner
            .filter(|word| word.slot.hold == Hold::Live && self.is_evidence_of(word.actor))
            .map(|word| word.actor.node);
        Standing {
            winner,
            evidence,
            declined: self.declined(ctx, ix),
        }
    }

    /// The word on a check that counts here.
    pub(super) fn reading(&self, ctx: &Ctx<'_>, check: CheckId) -> Option<Word> {
        let lives = |actor| self.members.is_current(actor);
        ctx.store.reading(check, lives)
    }

    pub(super) fn facts(&self, ctx: &Ctx<'_>, ix: CheckIx, standing: &Standing) -> Facts {
        let duty = &self.duties[ix as usize];
        let (now, me) = (ctx.now, self.me);
        let eligible = self.ranks.is_eligible(me);
        let (place, place_at) = if eligible {
            self.place(now, ix, standing)
        } else {
            (RANKS_WITHOUT_EVIDENCE, Time::NEVER)
        };
        let evidence = match standing.evidence {
            None => Evidence::None,
            Some(owner) if owner == me => Evidence::Mine,
            Some(_) if standing.is_weak() => Evidence::Weak,
            Some(owner) => Evidence::Other {
                above: self.ranks.is_above(owner, me, duty.check),
                suspected: self.members.suspected_since(owner),
            },
        };
        let suspected = matches!(
            evidence,
            Evidence::Other {
                suspected: Some(_),
                ..
            }
        );
        let (budget, cost) = if suspected {
            (&self.shadow_budget, SHADOW_START)
        } else {
            (&self.budget, BACKUP_START)
        };
        let others = self.members.living().saturating_sub(1);
        let cut_off = !ctx.load.late && others > 1 && 2 * self.members.suspects() > others;
        let free = cut_off;
        Facts {
            now,
            ready: self.ready && duty.meta.able,
            eligible,
            healthy: self.members.get(me).is_some_and(|view| view.healthy),
            late: ctx.load.late,
            place,
            place_at,
            given_up: duty.backoff.lasts(now),
            evidence,
            told: standing
                .winner
                .is_some_and(|word| word.slot.seq <= ctx.store.fetched()),
            cut_off,
            follows: ((suspected || cut_off) && eligible).then(|| {
                let could = self.candidates(now, ix, standing);
                let heard = |node| could(node) && !self.members.is_suspect(node);
                self.ranks.place(ix, me, RANKS_WITHOUT_EVIDENCE, heard)
            }),
            settled_at: self
                .members
                .settled_at(self.holdings.all_alike(), &self.config),
            lead: self.lead(ix, standing),
            patience: duty.meta.timeout + self.config.patience,
            afforded_at: if free { now } else { budget.next(now, 1) },
            start_afforded_at: if free { now } else { budget.next(now, cost) },
            interval: duty.meta.interval,
            bugs: self.mutations,
        }
    }

    /// When the first of all may probe for the first time.
    fn lead(&self, ix: CheckIx, standing: &Standing) -> Duration {
        let meta = self.duties[ix as usize].meta;
        match &standing.winner {
            None if meta.carried => meta.interval,
            None => self.first_within(meta.interval),
            Some(word) if self.goes_on_elsewhere(standing, word) => self.config.handover_news,
            Some(word) if self.is_in_time(ix, word) => meta.interval,
            Some(_) => self.config.spread,
        }
    }

    /// The last prober stopped because somebody else was at it, whose word is
    /// still on its way here.
    fn goes_on_elsewhere(&self, standing: &Standing, word: &Word) -> bool {
        let successor = word.slot.value.confirmed_by;
        word.slot.hold == Hold::Released
            && successor != word.actor.node
            && successor != self.me
            && self.ranks.is_eligible(successor)
            && !self.members.is_suspect(successor)
            && !standing.declined.contains(&successor)
    }

    /// How many that could probe the check rank above this node, and when more
    /// may be known of that.
    fn place(&self, now: Time, ix: CheckIx, standing: &Standing) -> (usize, Time) {
        let duty = &self.duties[ix as usize];
        let me = self.me;
        let mut again = Time::NEVER;
        let news_at = self.news_at(now, duty.learnt_at);
        if news_at > now && !self.holdings.all_alike() {
            again = news_at;
        }
        let most = RANKS_WITHOUT_EVIDENCE;
        let could = self.candidates(now, ix, standing);
        if could(me) {
            return (self.ranks.place(ix, me, most, &could), again);
        }
        if let Some(until) = duty.backoff.until {
            again = again.min(until);
        }
        // Where all have declined that says nothing: the first of all goes on.
        if self.ranks.best(ix, &could).is_some() {
            return (most, again);
        }
        let holds = |node| self.may_hold(now, ix, node);
        (self.ranks.place(ix, me, most, holds), again)
    }

    /// Who could probe the check, as far as is known here.
    pub(super) fn candidates<'a>(
        &'a self,
        now: Time,
        ix: CheckIx,
        standing: &'a Standing,
    ) -> impl Fn(NodeId) -> bool + 'a {
        let duty = &self.duties[ix as usize];
        let able = duty.probing().is_some() || !duty.backoff.lasts(now);
        move |node| {
            if node == self.me {
                able
            } else {
                !standing.declined.contains(&node) && self.may_hold(now, ix, node)
            }
        }
    }

    /// May this member configure the check? A reload reaches all members at
    /// once and the news of it takes its time: whoever did not say so yet may
    /// have learnt of the check when this node did.
    fn may_hold(&self, now: Time, ix: CheckIx, node: NodeId) -> bool {
        let duty = &self.duties[ix as usize];
        if self.mutations.on(Mutation::SilenceIsANo) {
            return self.holdings.says_that_it_holds(node, duty.check);
        }
        self.holdings.all_alike()
            || now < self.news_at(now, duty.learnt_at)
            || self.holdings.may_hold(node, duty.check)
    }

    /// When the news of who configures what this node learnt then is here.
    fn news_at(&self, now: Time, learnt_at: Time) -> Time {
        let (from, until) = self.strained;
        let in_time = learnt_at + self.config.news_grace;
        // What was here before the strain began stays known.
        if from < in_time && until > now {
            learnt_at + self.config.news_grace_strained
        } else {
            in_time
        }
    }

    /// Who has said that it cannot or will not probe this check.
    pub(super) fn declined(&self, ctx: &Ctx<'_>, ix: CheckIx) -> SmallVec<[NodeId; 4]> {
        let decliners = ctx.store.decliners(self.check(ix));
        decliners
            .filter(|&actor| self.members.is_current(actor))
            .map(|actor| actor.node)
            .collect()
    }

    /// Is this actor the present life of an eligible member? This node's own
    /// word is evidence to itself as long as it probes.
    fn is_evidence_of(&self, actor: Actor) -> bool {
        if self.mutations.on(Mutation::StaleSlotIsEvidence) {
            return true;
        }
        self.members.is_current(actor) && self.ranks.is_eligible(actor.node)
    }
}
