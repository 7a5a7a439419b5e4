//! Where second opinions and self-doubt meet duty: who is asked, and what their
//! answers mean for a check.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::message::replica::{Answer, Opinion, Question};
use watchfire_wire::{Actor, CheckId, NodeId, Verdict};

use super::answering::{For, Taken};
use super::asking::{Asked, Asking, Heard, Subject};
use super::doubt::{Finding, LOOKS, Pop, judge};
use super::duties::{Ctx, Duties, to_ix};
use super::ranks::CheckIx;
use super::role::Backoff;
use crate::io::{Event, Output};

impl Duties {
    /// A living member asks for a second opinion.
    pub fn asked(&mut self, ctx: &mut Ctx<'_>, from: Actor, question: Question) {
        if self.answering.is_crowded() {
            let members = &self.members;
            self.answering
                .forget_strangers(|node| members.get(node).is_some());
        }
        let healthy = self.members.get(self.me).is_some_and(|me| me.healthy);
        let able = self.ready && healthy && self.ix(question.check).is_some();
        let linger = self.config.opinion_bound;
        let check = question.check;
        match self.answering.asked(ctx.now, from, question, able, linger) {
            Taken::Probe(ask) => ctx.out.push_back(Output::Ask { check, ask }),
            Taken::Refused => self.counters.opinions_refused += 1,
            Taken::Known => {}
        }
    }

    /// A probe thread answers a question.
    pub(super) fn probed_once(&mut self, ctx: &mut Ctx<'_>, ask: u64, answer: Answer) {
        match self.answering.probed(ask, answer) {
            Some(For::Peer) => self.counters.opinions += 1,
            Some(For::Me) if self.doubt.saw(answer) => self.see_again(ctx),
            Some(For::Me) | None => {}
        }
    }

    /// A peer answers a question of this node's.
    pub fn opinion(&mut self, ctx: &mut Ctx<'_>, from: NodeId, opinion: Opinion) {
        let mut heard = None;
        self.with_asking(ctx, |asking, this, ctx, peers| {
            heard = asking.answer(ctx.now, from, opinion, &this.config, peers);
        });
        if let Some(heard) = heard {
            self.heard(ctx, heard);
        }
    }

    /// A peer has gone.
    pub(super) fn drop_peer(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let mut over = Vec::new();
        self.with_asking(ctx, |asking, this, ctx, peers| {
            over = asking.drop_peer(ctx.now, node, &this.config, peers);
        });
        for heard in over {
            self.heard(ctx, heard);
        }
    }

    /// Time has passed.
    pub(super) fn tick_asking(&mut self, ctx: &mut Ctx<'_>) {
        let mut over = Vec::new();
        self.with_asking(ctx, |asking, this, ctx, peers| {
            over = asking.tick(ctx.now, &this.config, peers);
        });
        for heard in over {
            self.heard(ctx, heard);
        }
    }

    /// Questions or answers wait to be sent.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        self.asking.has_questions() || self.answering.has_answers()
    }

    /// The questions that are to be sent now, by peer.
    pub fn take_questions(&mut self) -> BTreeMap<NodeId, Vec<Question>> {
        self.asking.take_questions()
    }

    /// The answers that are to be sent now, by asker.
    pub fn take_answers(&mut self) -> BTreeMap<Actor, Vec<Opinion>> {
        self.answering.take_answers()
    }

    /// Asks whether a check is Down, unless that is being asked. With nobody to
    /// ask the Down stands confirmed at once, unless this node doubts itself.
    pub(super) fn ask_whether_down(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let subject = self.subject(ix);
        let mut asked = Asked::Nobody;
        self.with_asking(ctx, |asking, this, ctx, peers| {
            asked = asking.ask(ctx.now, subject, &this.config, peers);
        });
        match asked {
            Asked::Out { new } => self.counters.second_opinions += u64::from(new),
            Asked::Nobody if self.doubts_itself(ctx, self.config.patience) => {
                self.asking.ask_later(ctx.now, subject, &self.config);
            }
            Asked::Nobody => self.confirm(ix, (0, 0)),
        }
    }

    /// A round is over.
    fn heard(&mut self, ctx: &mut Ctx<'_>, mut heard: Heard) {
        let ix = heard.ix;
        let said = core::mem::take(&mut heard.said);
        let event = Event::Opinions(self.check(ix), said);
        ctx.out.push_back(Output::Event(event));
        if heard.agreed == 0 && heard.dissented == 0 {
            self.counters.second_opinions_silent += 1;
        }
        let said = heard.agreed + heard.dissented > 0;
        self.doubt
            .heard(ctx.now, said || heard.complete, heard.agreed > 0);
        // Whoever was answered is not deaf.
        let deaf_after = if heard.answered {
            Duration::MAX
        } else {
            ctx.now.since(heard.asked_at).max(self.config.patience)
        };
        if heard.dissented > 0 {
            let event = Event::Dissent(self.check(ix));
            ctx.out.push_back(Output::Event(event));
        }
        match judge(&heard, self.doubts_itself(ctx, deaf_after)) {
            Finding::Held => {
                self.counters.downs_held += 1;
                let subject = self.subject(ix);
                self.asking.ask_later(ctx.now, subject, &self.config);
            }
            Finding::Confirmed(votes) => {
                self.confirm(ix, votes);
                self.consider(ctx, ix);
            }
            Finding::Overruled(dissented) => {
                self.counters.overruled += 1;
                self.overruled(ctx, ix, dissented);
                let check = self.check(ix);
                let probing = self.probing;
                if self.doubt.overruled(ctx.now, check, probing, &self.config) {
                    ctx.out.push_back(Output::Event(Event::Blind(true)));
                }
            }
        }
    }

    /// Looks again, if this node is blind and it is time to.
    pub(super) fn tick_doubt(&mut self, ctx: &mut Ctx<'_>) {
        let Some(overruled) = self.doubt.look(ctx.now, &self.config) else {
            return;
        };
        let overruled: Vec<CheckId> = overruled.collect();
        let is_up = |check: CheckId| {
            let winner = self.reading(ctx, check);
            winner.is_some_and(|word| word.slot.value.verdict == Verdict::Up)
        };
        let up: Vec<CheckId> = overruled
            .into_iter()
            .filter(|&check| self.ix(check).is_some() && is_up(check))
            .take(LOOKS)
            .collect();
        if up.is_empty() {
            // Nothing is left to be wrong about.
            return self.see_again(ctx);
        }
        self.doubt.looks_at(up.len());
        let expires = ctx.now + self.config.blind_retry;
        for check in up {
            let ask = self.answering.ask_self(check, expires);
            ctx.out.push_back(Output::Ask { check, ask });
        }
    }

    fn see_again(&mut self, ctx: &mut Ctx<'_>) {
        self.doubt.end();
        ctx.out.push_back(Output::Event(Event::Blind(false)));
        // What was given up for this reason may be taken up again.
        for ix in 0..self.duties.len() {
            if self.duties[ix].backoff.until.is_some() {
                self.duties[ix].backoff = Backoff::default();
                self.consider(ctx, to_ix(ix));
            }
        }
    }

    fn doubts_itself(&self, ctx: &Ctx<'_>, deaf_after: Duration) -> bool {
        let pop = Pop {
            silence: ctx.silence,
            living: self.members.living(),
            suspects: self.members.suspects(),
        };
        self.doubt
            .has_reason(ctx.now, pop, deaf_after, &self.config)
    }

    fn subject(&self, ix: CheckIx) -> Subject {
        let duty = &self.duties[ix as usize];
        Subject {
            ix,
            check: duty.check,
            timeout: duty.meta.timeout,
        }
    }

    fn confirm(&mut self, ix: CheckIx, votes: (u8, u8)) {
        if let Some(probing) = self.duties[ix as usize].probing_mut() {
            probing.confirmed = Some(votes);
        }
    }

    /// Lets the asking machine work with the peers of each check: the others
    /// that could probe it, in the order of their ranks. Suspected members are
    /// asked only if there are not enough others: a node that suspects
    /// everybody may be the one with the trouble.
    fn with_asking(
        &mut self,
        ctx: &Ctx<'_>,
        act: impl FnOnce(&mut Asking, &Self, &Ctx<'_>, super::asking::Peers<'_>),
    ) {
        let mut asking = core::mem::take(&mut self.asking);
        let this = &*self;
        let peers = |ix: CheckIx, asked: &dyn Fn(NodeId) -> bool, room: usize| {
            let declined = this.declined(ctx, ix);
            let mut found = Vec::with_capacity(room);
            for suspects in [false, true] {
                if found.len() == room {
                    break;
                }
                let _ = this.ranks.first(ix, |node| {
                    if node != this.me
                        && this.members.is_suspect(node) == suspects
                        && !declined.contains(&node)
                        && !asked(node)
                    {
                        found.push(node);
                    }
                    found.len() == room
                });
            }
            found
        };
        act(&mut asking, this, ctx, &peers);
        self.asking = asking;
    }
}
