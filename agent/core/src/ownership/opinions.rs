//! Giving second opinions: one probe for another's question.

use std::collections::BTreeMap;

use watchfire_wire::message::replica::{Answer, Opinion, Question};
use watchfire_wire::{Actor, CheckId, Time};

use super::duties::{Ctx, Duties};
use crate::io::{Output, ReportKind};
use crate::limits;

/// The questions that this node's probe threads work on.
#[derive(Clone, Debug, Default)]
pub(super) struct Opinions {
    pending: BTreeMap<u64, Pending>,
    known: BTreeMap<(Actor, u64), u64>,
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

    /// Forgets questions that nobody waits for any more.
    pub(super) fn tick(&mut self, now: Time) {
        while let Some((&(at, id), ())) = self.by_time.first_key_value() {
            if at > now {
                return;
            }
            self.take(id);
        }
    }

    fn add(&mut self, pending: Pending) -> u64 {
        self.next += 1;
        let id = self.next;
        if let Some(asker) = pending.asker {
            self.known.insert(asker, id);
        }
        self.by_time.insert((pending.expires, id), ());
        self.pending.insert(id, pending);
        id
    }

    fn take(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.by_time.remove(&(pending.expires, id));
        if let Some(asker) = pending.asker {
            self.known.remove(&asker);
        }
        Some(pending)
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
        if self.opinions.known.contains_key(&(from, ask)) {
            return;
        }
        let healthy = self.members.get(&self.me).is_some_and(|me| me.healthy);
        let able = self.ready && healthy && self.ix(check).is_some();
        if !able || self.opinions.pending.len() >= limits::OPINIONS {
            self.counters.opinions_refused += 1;
            self.answer(from, ask, check, Answer::Silent);
            return;
        }
        let id = self.opinions.add(Pending {
            asker: Some((from, ask)),
            check,
            expires: ctx.now + core::time::Duration::from_millis(u64::from(wait_ms)),
        });
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
        let Some(pending) = self.opinions.take(id) else {
            return;
        };
        match pending.asker {
            Some((asker, ask)) => {
                self.counters.opinions += 1;
                self.answer(asker, ask, pending.check, answer);
            }
            None => self.saw(ctx, answer),
        }
    }

    /// Probes a check once for this node's own sake.
    pub(super) fn ask_self(&mut self, ctx: &mut Ctx<'_>, check: CheckId, expires: Time) {
        let id = self.opinions.add(Pending {
            asker: None,
            check,
            expires,
        });
        ctx.out.push_back(Output::Ask { check, ask: id });
    }

    fn answer(&mut self, to: Actor, ask: u64, check: CheckId, answer: Answer) {
        let opinion = Opinion { ask, check, answer };
        self.opinions.answers.entry(to).or_default().push(opinion);
    }
}
