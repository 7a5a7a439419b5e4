//! The second opinion: before a check turns Down, the next ranks probe it once.
//!
//! The majority of those who answer decides, this node's own finding among
//! them; a tie leaves the verdict as it is. Silence counts as no opinion, so a
//! node that is alone decides alone. An overruled node gives the check up: the
//! others see the origin, so one of them shall watch it.

use core::time::Duration;
use std::collections::BTreeMap;

use smallvec::SmallVec;
use watchfire_wire::message::replica::{Answer, Question};
use watchfire_wire::{NodeId, Time};

use super::duties::{Ctx, Duties};
use super::ranks::CheckIx;
use crate::io::{Event, Output};
use crate::limits;

/// The juries that are out. At most one per check.
#[derive(Clone, Debug, Default)]
pub(super) struct Juries {
    out: BTreeMap<CheckIx, Jury>,
    by_ask: BTreeMap<u64, CheckIx>,
    by_time: BTreeMap<(Time, CheckIx), ()>,
    next_ask: u64,
    /// Questions to be sent, by juror.
    questions: BTreeMap<NodeId, Vec<Question>>,
}

#[derive(Clone, Debug)]
struct Jury {
    ask: u64,
    jurors: SmallVec<[(NodeId, Option<Answer>); limits::JURORS]>,
    ends: Time,
    due: Time,
}

impl Juries {
    pub(super) fn next_timeout(&self) -> Time {
        self.by_time
            .first_key_value()
            .map_or(Time::NEVER, |(&(at, _), ())| at)
    }

    /// The question is moot.
    pub(super) fn drop_check(&mut self, ix: CheckIx) {
        if let Some(jury) = self.out.remove(&ix) {
            self.by_ask.remove(&jury.ask);
            self.by_time.remove(&(jury.due, ix));
        }
    }

    /// A juror has gone: it will not answer. Juries that wait for nobody else
    /// become due.
    pub(super) fn drop_juror(&mut self, now: Time, node: NodeId) {
        for (&ix, jury) in &mut self.out {
            for (juror, answer) in &mut jury.jurors {
                if *juror == node && answer.is_none() {
                    *answer = Some(Answer::Silent);
                }
            }
            if jury.jurors.iter().all(|(_, answer)| answer.is_some()) {
                self.by_time.remove(&(jury.due, ix));
                jury.due = now;
                self.by_time.insert((now, ix), ());
            }
        }
    }

    fn put(&mut self, ix: CheckIx, jury: Jury) {
        self.by_ask.insert(jury.ask, ix);
        self.by_time.insert((jury.due, ix), ());
        self.out.insert(ix, jury);
    }
}

impl Duties {
    /// Sends a check that looks Down to a jury, unless one is out. With nobody
    /// to ask, the Down stands confirmed at once.
    pub(super) fn summon(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, declined: &[NodeId]) {
        if self.juries.out.contains_key(&ix) {
            return;
        }
        let mut jurors: SmallVec<[(NodeId, Option<Answer>); limits::JURORS]> = SmallVec::new();
        let wanted = self.config.jurors.min(limits::JURORS);
        let me = self.me;
        if wanted > 0 {
            // Suspected members are asked only if there are not enough others:
            // a node that suspects everybody may be the one with the trouble.
            for suspects in [false, true] {
                let _ = self.ranks.first(ix, |node| {
                    if jurors.len() < wanted
                        && node != me
                        && self.is_suspect(node) == suspects
                        && !declined.contains(&node)
                    {
                        jurors.push((node, None));
                    }
                    jurors.len() == wanted
                });
            }
        }
        if jurors.is_empty() {
            self.duties[ix as usize].confirmed = Some((0, 0));
            return;
        }
        self.counters.juries += 1;
        self.juries.next_ask += 1;
        let timeout = self.duties[ix as usize].meta.timeout;
        let wait = (timeout + self.config.jury_wait).min(self.config.takeover_bound);
        let jury = Jury {
            ask: self.juries.next_ask,
            jurors,
            ends: ctx.now + wait,
            due: ctx.now + self.config.jury_repeat.min(wait),
        };
        self.question(ctx.now, ix, &jury);
        self.juries.put(ix, jury);
    }

    /// A peer answers a question of this node's.
    pub fn opinion(&mut self, ctx: &mut Ctx<'_>, from: NodeId, ask: u64, answer: Answer) {
        let Some(&ix) = self.juries.by_ask.get(&ask) else {
            return;
        };
        let Some(jury) = self.juries.out.get_mut(&ix) else {
            return;
        };
        for (juror, given) in &mut jury.jurors {
            if *juror == from && given.is_none() {
                *given = Some(answer);
            }
        }
        if jury.jurors.iter().all(|(_, given)| given.is_some()) {
            self.verdict(ctx, ix);
        }
    }

    /// The questions that are to be sent now, by juror.
    pub fn take_questions(&mut self) -> BTreeMap<NodeId, Vec<Question>> {
        core::mem::take(&mut self.juries.questions)
    }

    pub(super) fn tick_juries(&mut self, ctx: &mut Ctx<'_>) {
        while let Some((&(at, ix), ())) = self.juries.by_time.first_key_value() {
            if at > ctx.now {
                return;
            }
            self.juries.by_time.remove(&(at, ix));
            let Some(mut jury) = self.juries.out.remove(&ix) else {
                continue;
            };
            let waiting = jury.jurors.iter().any(|(_, given)| given.is_none());
            let over = jury.ends <= ctx.now || !waiting;
            jury.due = jury.ends.min(ctx.now + self.config.jury_repeat);
            if !over {
                self.question(ctx.now, ix, &jury);
            }
            self.juries.put(ix, jury);
            if over {
                self.verdict(ctx, ix);
            }
        }
    }

    fn question(&mut self, now: Time, ix: CheckIx, jury: &Jury) {
        let question = Question {
            ask: jury.ask,
            check: self.check(ix),
            wait_ms: to_ms(jury.ends.since(now)),
        };
        for &(juror, given) in &jury.jurors {
            if given.is_none() {
                let questions = self.juries.questions.entry(juror).or_default();
                questions.push(question);
            }
        }
    }

    /// The jury is back, or its time is over.
    fn verdict(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let Some(jury) = self.juries.out.get(&ix) else {
            return;
        };
        let count = |what: Answer| {
            let given = jury.jurors.iter().filter(|(_, given)| *given == Some(what));
            u8::try_from(given.count()).unwrap_or(u8::MAX)
        };
        let (agreed, dissented) = (count(Answer::Fail), count(Answer::Pass));
        self.juries.drop_check(ix);
        if agreed == 0 && dissented == 0 {
            self.counters.silent_juries += 1;
        }
        if dissented > 0 {
            let event = Event::Dissent(self.check(ix));
            ctx.out.push_back(Output::Event(event));
        }
        if dissented > agreed {
            self.counters.overruled += 1;
            self.overruled(ctx, ix, dissented);
            self.dissent(ctx, ix);
        } else {
            self.duties[ix as usize].confirmed = Some((agreed, dissented));
            self.look(ctx, ix);
        }
    }
}

fn to_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
