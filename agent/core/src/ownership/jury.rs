//! The second opinion: before a check turns Down, the next ranks probe it once.
//!
//! The majority of those who answer decides, this node's own finding among
//! them; a tie leaves the verdict as it is. A juror that cannot say makes room
//! for the next rank, and jurors that contradict each other call one more.
//! Silence counts as no opinion, so a node that is alone decides alone, unless
//! it has reason to doubt itself ([`doubts_itself`](Duties::doubts_itself)):
//! then its own finding does not count, and it asks until somebody answers. An
//! overruled node gives the check up: the others see the origin, so one of them
//! shall watch it.

use core::time::Duration;
use std::collections::BTreeMap;

use smallvec::SmallVec;
use watchfire_wire::message::replica::{Answer, Opinion, Question};
use watchfire_wire::{NodeId, Time};

use super::duties::{Ctx, Duties};
use super::ranks::CheckIx;
use crate::io::{Event, Output};
use crate::limits;
use crate::swim::limits::LATE;

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
    /// All that were called, and what they said.
    jurors: SmallVec<[(NodeId, Option<Answer>); limits::JURORS]>,
    summoned: Time,
    ends: Time,
    due: Time,
    /// Its end was put off once, for this node came late to it.
    graced: bool,
}

impl Jury {
    /// How many have answered so.
    fn count(&self, what: Answer) -> usize {
        let given = self.jurors.iter().filter(|(_, given)| *given == Some(what));
        given.count()
    }

    /// Those who have said something or still may.
    fn sitting(&self) -> usize {
        self.jurors.len() - self.count(Answer::Silent)
    }

    /// As many saw the origin fail as saw it pass.
    fn is_split(&self) -> bool {
        let (agreed, dissented) = (self.count(Answer::Fail), self.count(Answer::Pass));
        agreed > 0 && agreed == dissented && !self.waits()
    }

    fn has_called(&self, node: NodeId) -> bool {
        self.jurors.iter().any(|&(juror, _)| juror == node)
    }

    fn waits(&self) -> bool {
        self.jurors.iter().any(|(_, given)| given.is_none())
    }
}

impl Juries {
    /// Questions are numbered from here on: no two lives of any node share
    /// numbers, so that an answer to one is none to another.
    pub(super) fn numbered_from(first: u64) -> Self {
        Self {
            next_ask: first,
            ..Self::default()
        }
    }

    pub(super) fn next_timeout(&self) -> Time {
        self.by_time
            .first_key_value()
            .map_or(Time::NEVER, |(&(at, _), ())| at)
    }

    /// The question is moot.
    pub(super) fn drop_check(&mut self, ix: CheckIx) {
        let _ = self.take(ix);
    }

    fn take(&mut self, ix: CheckIx) -> Option<Jury> {
        let jury = self.out.remove(&ix)?;
        self.by_ask.remove(&jury.ask);
        self.by_time.remove(&(jury.due, ix));
        Some(jury)
    }

    /// Juries that still wait for this member.
    fn waiting_for(&self, node: NodeId) -> Vec<CheckIx> {
        let waits = |jury: &Jury| jury.jurors.contains(&(node, None));
        let waiting = self.out.iter().filter(|(_, jury)| waits(jury));
        waiting.map(|(&ix, _)| ix).collect()
    }

    fn put(&mut self, ix: CheckIx, jury: Jury) {
        self.by_ask.insert(jury.ask, ix);
        self.by_time.insert((jury.due, ix), ());
        self.out.insert(ix, jury);
    }
}

impl Duties {
    /// Sends a check that looks Down to a jury, unless one is out. With nobody
    /// to ask, the Down stands confirmed at once, unless this node doubts
    /// itself.
    pub(super) fn summon(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, declined: &[NodeId]) {
        if self.juries.out.contains_key(&ix) {
            return;
        }
        let mut jury = self.empty_jury(ctx.now);
        if self.call_up(ctx.now, ix, &mut jury, declined) {
            self.counters.juries += 1;
        } else if !self.doubts_itself(ctx, self.config.patience) {
            self.duties[ix as usize].confirmed = Some((0, 0));
            return;
        }
        self.juries.put(ix, jury);
    }

    /// A jury that nobody was called to: it ends in a moment, and then another
    /// one is summoned.
    fn empty_jury(&mut self, now: Time) -> Jury {
        self.juries.next_ask += 1;
        let again = now + self.config.jury_repeat;
        Jury {
            ask: self.juries.next_ask,
            jurors: SmallVec::new(),
            summoned: now,
            ends: again,
            due: again,
            graced: false,
        }
    }

    /// Calls members to a jury, in the order of their ranks, until it is full,
    /// and puts the question to the new ones. Whether there were any.
    fn call_up(&mut self, now: Time, ix: CheckIx, jury: &mut Jury, declined: &[NodeId]) -> bool {
        let wanted = self.config.jurors.min(limits::JURORS) + usize::from(jury.is_split());
        let me = self.me;
        let before = jury.jurors.len();
        let room = wanted
            .saturating_sub(jury.sitting())
            .min(limits::JURORS_CALLED - before);
        // Suspected members are asked only if there are not enough others: a
        // node that suspects everybody may be the one with the trouble.
        for suspects in [false, true] {
            if jury.jurors.len() == before + room {
                break;
            }
            let _ = self.ranks.first(ix, |node| {
                if node != me
                    && self.is_suspect(node) == suspects
                    && !declined.contains(&node)
                    && !jury.has_called(node)
                {
                    jury.jurors.push((node, None));
                }
                jury.jurors.len() == before + room
            });
        }
        if jury.jurors.len() == before {
            return false;
        }
        let timeout = self.duties[ix as usize].meta.timeout;
        let wait = timeout + self.config.jury_wait;
        let last = jury.summoned + self.config.takeover_bound;
        jury.ends = (now + wait).min(last);
        jury.due = (now + self.config.jury_repeat).min(jury.ends);
        self.question(now, ix, jury, before);
        true
    }

    /// A peer answers a question of this node's.
    pub fn opinion(&mut self, ctx: &mut Ctx<'_>, from: NodeId, opinion: Opinion) {
        let Some(&ix) = self.juries.by_ask.get(&opinion.ask) else {
            return;
        };
        if self.check(ix) == opinion.check {
            self.say(ctx, ix, from, opinion.answer);
        }
    }

    /// A juror has gone: it will not answer.
    pub(super) fn drop_juror(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        for ix in self.juries.waiting_for(node) {
            self.say(ctx, ix, node, Answer::Silent);
        }
    }

    /// A juror has said what it will say.
    fn say(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx, from: NodeId, answer: Answer) {
        let Some(mut jury) = self.juries.take(ix) else {
            return;
        };
        for (juror, given) in &mut jury.jurors {
            if *juror == from && given.is_none() {
                *given = Some(answer);
            }
        }
        if answer == Answer::Silent || jury.is_split() {
            let declined = self.declined(ctx, ix);
            self.call_up(ctx.now, ix, &mut jury, &declined);
        }
        let over = !jury.waits();
        self.juries.put(ix, jury);
        if over {
            self.verdict(ctx, ix);
        }
    }

    /// Questions or answers wait to be sent.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        !self.juries.questions.is_empty() || self.opinions.has_answers()
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
            let Some(mut jury) = self.juries.take(ix) else {
                continue;
            };
            if jury.waits() && jury.ends <= ctx.now && ctx.now.since(at) >= LATE && !jury.graced {
                // This node was stopped, or is behind: the answers may be right
                // behind what it looks at now.
                jury.graced = true;
                jury.ends = ctx.now + self.config.jury_wait;
            }
            let over = jury.ends <= ctx.now || !jury.waits();
            jury.due = jury.ends.min(ctx.now + self.config.jury_repeat);
            if !over {
                self.question(ctx.now, ix, &jury, 0);
            }
            self.juries.put(ix, jury);
            if over {
                self.verdict(ctx, ix);
            }
        }
    }

    /// Puts the question to the jurors from number `from` on that have not
    /// answered.
    fn question(&mut self, now: Time, ix: CheckIx, jury: &Jury, from: usize) {
        let question = Question {
            ask: jury.ask,
            check: self.check(ix),
            wait_ms: to_ms(jury.ends.since(now)),
        };
        for &(juror, given) in &jury.jurors[from..] {
            if given.is_none() {
                let questions = self.juries.questions.entry(juror).or_default();
                questions.retain(|other| other.ask != question.ask);
                questions.push(question);
            }
        }
    }

    /// The jury is back, or its time is over.
    fn verdict(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let Some(jury) = self.juries.take(ix) else {
            return;
        };
        if jury.jurors.is_empty() {
            let declined = self.declined(ctx, ix);
            self.summon(ctx, ix, &declined);
            return self.look(ctx, ix);
        }
        let count = |what| u8::try_from(jury.count(what)).unwrap_or(u8::MAX);
        let (agreed, dissented) = (count(Answer::Fail), count(Answer::Pass));
        // Whoever was answered is not deaf.
        let deaf_after = if jury.jurors.iter().any(|(_, given)| given.is_some()) {
            Duration::MAX
        } else {
            ctx.now.since(jury.summoned)
        };
        let doubts_itself = self.doubts_itself(ctx, deaf_after);
        if agreed == 0 && dissented == 0 {
            self.counters.silent_juries += 1;
            if doubts_itself {
                self.counters.downs_held += 1;
                let recess = self.empty_jury(ctx.now);
                return self.juries.put(ix, recess);
            }
        }
        if dissented > 0 {
            let event = Event::Dissent(self.check(ix));
            ctx.out.push_back(Output::Event(event));
        }
        let own = u8::from(!doubts_itself);
        if dissented > 0 && dissented >= agreed + own {
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
