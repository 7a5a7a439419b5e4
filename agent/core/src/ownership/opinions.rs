//! Giving second opinions: one probe for another's question.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::message::replica::{Answer, Opinion, Question};
use watchfire_wire::{Actor, CheckId, NodeId, Time};

use super::duties::{Ctx, Duties};
use crate::io::{Output, ReportKind};
use crate::limits;

/// The questions that this node's probe threads work on, and those that they
/// have answered: each origin is probed once for one question, however often
/// the question comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Opinions {
    pending: BTreeMap<u64, Pending>,
    /// With the answer, once there is one: the datagram that carried it may be
    /// lost, and then the question comes again. A juror may also be called late,
    /// so these outlive the question by the longest life of a jury.
    known: BTreeMap<(Actor, u64), Option<Answer>>,
    /// Of each asker's present life the greatest question that has expired.
    /// Lives number their questions upwards, so nothing up to it is news: it
    /// came late, or somebody sent a captured datagram again.
    spent: BTreeMap<NodeId, (Actor, u64)>,
    /// Who asked what, until it expires.
    askers: BTreeMap<u64, (Actor, u64)>,
    by_time: BTreeMap<(Time, u64), ()>,
    next: u64,
    /// Answers to be sent, by asker.
    answers: BTreeMap<Actor, Vec<Opinion>>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    /// Nobody: this node asks itself.
    asker: Option<(Actor, u64)>,
    check: CheckId,
    expires: Time,
}

impl Opinions {
    pub(super) fn next_timeout(&self) -> Time {
        self.by_time
            .first_key_value()
            .map_or(Time::NEVER, |(&(at, _), ())| at)
    }

    /// Answers wait to be sent.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Forgets questions that nobody waits for any more.
    pub(super) fn tick(&mut self, now: Time) {
        while let Some((&(at, id), ())) = self.by_time.first_key_value() {
            if at > now {
                return;
            }
            self.by_time.remove(&(at, id));
            self.pending.remove(&id);
            if let Some((asker, ask)) = self.askers.remove(&id) {
                self.known.remove(&(asker, ask));
                self.spend(asker, ask);
            }
        }
    }

    /// The question is of an age in which nobody waits for its answer.
    fn is_spent(&self, asker: Actor, ask: u64) -> bool {
        let spent = self.spent.get(&asker.node);
        spent.is_some_and(|&(actor, last)| actor == asker && ask <= last)
    }

    fn spend(&mut self, asker: Actor, ask: u64) {
        let spent = self.spent.entry(asker.node).or_insert((asker, ask));
        if spent.0 == asker {
            spent.1 = spent.1.max(ask);
        } else {
            *spent = (asker, ask);
        }
    }

    /// Takes a question on; it is remembered for `linger` after it expired.
    fn add(&mut self, pending: Pending, linger: Duration) -> u64 {
        self.next += 1;
        let id = self.next;
        let mut until = pending.expires;
        if let Some(asker) = pending.asker {
            self.known.insert(asker, None);
            self.askers.insert(id, asker);
            // Its number is spent only when no jury that was summoned before it
            // can still be calling members.
            until += linger;
        }
        self.by_time.insert((until, id), ());
        self.pending.insert(id, pending);
        id
    }

    /// Forgets what was asked by nodes that are members no more.
    fn forget_strangers(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.spent.retain(|&node, _| is_member(node));
    }
}

impl Duties {
    /// A living member asks for a second opinion.
    pub fn asked(&mut self, ctx: &mut Ctx<'_>, from: Actor, question: Question) {
        let Question {
            ask,
            check,
            wait_ms,
        } = question;
        match self.opinions.known.get(&(from, ask)) {
            Some(Some(answer)) => {
                let answer = *answer;
                self.answer(from, ask, check, answer);
                return;
            }
            Some(None) => return,
            None if self.opinions.is_spent(from, ask) => return,
            None => {}
        }
        if self.opinions.spent.len() > limits::ASKERS {
            let members = &self.members;
            self.opinions
                .forget_strangers(|node| members.contains_key(&node));
        }
        let healthy = self.members.get(&self.me).is_some_and(|me| me.healthy);
        let able = self.ready && healthy && self.ix(check).is_some();
        if !able || self.opinions.by_time.len() >= limits::OPINIONS {
            self.counters.opinions_refused += 1;
            self.answer(from, ask, check, Answer::Silent);
            return;
        }
        let pending = Pending {
            asker: Some((from, ask)),
            check,
            expires: ctx.now + Duration::from_millis(u64::from(wait_ms)),
        };
        let id = self.opinions.add(pending, self.config.takeover_bound);
        ctx.out.push_back(Output::Ask { check, ask: id });
    }

    /// The answers that are to be sent now, by asker.
    pub fn take_answers(&mut self) -> BTreeMap<Actor, Vec<Opinion>> {
        core::mem::take(&mut self.opinions.answers)
    }

    /// A probe thread answers.
    pub(super) fn opinion_of_own(&mut self, ctx: &mut Ctx<'_>, id: u64, kind: ReportKind) {
        let ReportKind::Opinion { answer, .. } = kind else {
            return;
        };
        let Some(pending) = self.opinions.pending.remove(&id) else {
            return;
        };
        match pending.asker {
            Some((asker, ask)) => {
                self.counters.opinions += 1;
                self.opinions.known.insert((asker, ask), Some(answer));
                self.answer(asker, ask, pending.check, answer);
            }
            None => self.saw(ctx, answer),
        }
    }

    /// Probes a check once for this node's own sake.
    pub(super) fn ask_self(&mut self, ctx: &mut Ctx<'_>, check: CheckId, expires: Time) {
        let pending = Pending {
            asker: None,
            check,
            expires,
        };
        let id = self.opinions.add(pending, Duration::ZERO);
        ctx.out.push_back(Output::Ask { check, ask: id });
    }

    fn answer(&mut self, to: Actor, ask: u64, check: CheckId, answer: Answer) {
        let opinion = Opinion { ask, check, answer };
        self.opinions.answers.entry(to).or_default().push(opinion);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::io::{CheckMeta, Report};
    use crate::mutations::Mutations;
    use crate::ownership::{OwnershipConfig, View};
    use crate::replica::Store;

    fn actor(node: u64) -> Actor {
        Actor {
            node: NodeId(node),
            epoch: 1,
            boot: 1,
        }
    }

    #[test]
    fn a_question_that_comes_again_is_probed_once() {
        let me = actor(1);
        let mut duties = Duties::new(OwnershipConfig::default(), me, Mutations::NONE);
        let mut store = Store::new(me, Mutations::NONE);
        let mut out = VecDeque::new();
        let check = CheckId::of_canonical(b"asked");
        let view = View {
            actor: me,
            living: true,
            suspect: false,
            capacity: 0,
            draining: false,
            healthy: true,
        };
        let meta = CheckMeta {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
        };
        let question = |ask| Question {
            ask,
            check,
            wait_ms: 500,
        };
        let mut asks = Vec::new();
        let mut answered = Vec::new();
        for at_ms in [0, 100, 300, 499, 600, 5_000] {
            let mut ctx = Ctx {
                now: Time::from_millis(at_ms),
                wall_ms: at_ms,
                silence: Duration::ZERO,
                behind: false,
                store: &mut store,
                out: &mut out,
            };
            if at_ms == 0 {
                duties.set_member(&mut ctx, me.node, Some(view));
                duties.add(&mut ctx, &[(check, meta)]);
                duties.set_ready(&mut ctx);
            }
            duties.tick(&mut ctx);
            duties.asked(&mut ctx, actor(2), question(7));
            while let Some(output) = out.pop_front() {
                let Output::Ask { check, ask } = output else {
                    continue;
                };
                asks.push(at_ms);
                let mut ctx = Ctx {
                    now: Time::from_millis(at_ms),
                    wall_ms: at_ms,
                    silence: Duration::ZERO,
                    behind: false,
                    store: &mut store,
                    out: &mut out,
                };
                let kind = ReportKind::Opinion {
                    ask,
                    answer: Answer::Pass,
                };
                let report = Report {
                    check,
                    generation: 0,
                    kind,
                };
                duties.report(&mut ctx, report);
            }
            if !duties.take_answers().is_empty() {
                answered.push(at_ms);
            }
        }
        assert_eq!(asks, [0], "one probe");
        assert_eq!(answered, [0, 100, 300, 499, 600], "an answer may be lost");
        let mut ctx = Ctx {
            now: Time::from_millis(6_000),
            wall_ms: 6_000,
            silence: Duration::ZERO,
            behind: false,
            store: &mut store,
            out: &mut out,
        };
        duties.asked(&mut ctx, actor(2), question(8));
        assert!(matches!(out.pop_front(), Some(Output::Ask { .. })));
    }
}
