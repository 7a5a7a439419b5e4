//! Giving second opinions: one probe for another's question.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::message::replica::{Answer, Opinion, Question};
use watchfire_wire::{Actor, CheckId, NodeId, Time};

use crate::limits;
use crate::rate::Rate;

/// The questions that this node's probe threads work on, and those that they
/// have answered: each origin is probed once for one question, however often
/// the question comes. How many are probed in a second is bounded; beyond that
/// the answer is silence.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    pending: BTreeMap<u64, Pending>,
    /// With the answer, once there is one: the datagram that carried it may be
    /// lost, and then the question comes again. A peer may also be called late,
    /// so these outlive the question by the longest life of a round.
    known: BTreeMap<(Actor, u64), Option<Answer>>,
    /// Of each asker's present life the greatest question that has expired.
    /// Lives number their questions upwards, so nothing up to it is news: it
    /// came late, or somebody sent a captured datagram again.
    spent: BTreeMap<NodeId, (Actor, u64)>,
    /// Who asked what, until it expires.
    askers: BTreeMap<u64, (Actor, u64)>,
    by_time: BTreeMap<(Time, u64), ()>,
    next: u64,
    rate: Rate,
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

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Probe its check once, under this number.
    Probe(u64),
    /// It is being probed, was answered, or nobody waits for it.
    Known,
    /// It was answered with silence.
    Refused,
}

/// Whose question a probe was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// A peer's, which has its answer.
    Peer,
    /// This node's own.
    Me,
}

impl Default for Answering {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
            known: BTreeMap::new(),
            spent: BTreeMap::new(),
            askers: BTreeMap::new(),
            by_time: BTreeMap::new(),
            next: 0,
            rate: Rate::new(limits::OPINIONS_PER_S, limits::OPINIONS_BURST),
            answers: BTreeMap::new(),
        }
    }
}

impl Answering {
    pub(super) fn next_timeout(&self) -> Time {
        self.by_time
            .first_key_value()
            .map_or(Time::NEVER, |(&(at, _), ())| at)
    }

    /// A living member asks. `able` says that this node could probe the check,
    /// `linger` how long the asker may go on to call peers.
    pub(super) fn asked(
        &mut self,
        now: Time,
        from: Actor,
        question: Question,
        able: bool,
        linger: Duration,
    ) -> Taken {
        let Question {
            ask,
            check,
            wait_ms,
        } = question;
        match self.known.get(&(from, ask)) {
            Some(Some(answer)) => {
                let answer = *answer;
                self.answer(from, ask, check, answer);
                return Taken::Known;
            }
            Some(None) => return Taken::Known,
            None if self.is_spent(from, ask) => return Taken::Known,
            None => {}
        }
        let full = self.by_time.len() >= limits::OPINIONS;
        if !able || full || !self.rate.take(now) {
            self.answer(from, ask, check, Answer::Silent);
            return Taken::Refused;
        }
        let pending = Pending {
            asker: Some((from, ask)),
            check,
            expires: now + Duration::from_millis(u64::from(wait_ms)),
        };
        Taken::Probe(self.add(pending, linger))
    }

    /// This node asks itself: the number of the probe.
    pub(super) fn ask_self(&mut self, check: CheckId, expires: Time) -> u64 {
        let pending = Pending {
            asker: None,
            check,
            expires,
        };
        self.add(pending, Duration::ZERO)
    }

    /// A probe thread answers. Whose question that was, if anybody still waits.
    pub(super) fn probed(&mut self, id: u64, answer: Answer) -> Option<For> {
        let pending = self.pending.remove(&id)?;
        let Some((asker, ask)) = pending.asker else {
            return Some(For::Me);
        };
        self.known.insert((asker, ask), Some(answer));
        self.answer(asker, ask, pending.check, answer);
        Some(For::Peer)
    }

    /// Answers wait to be sent.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// The answers that are to be sent now, by asker.
    pub(super) fn take_answers(&mut self) -> BTreeMap<Actor, Vec<Opinion>> {
        core::mem::take(&mut self.answers)
    }

    /// More askers are remembered than there may be members.
    pub(super) fn is_crowded(&self) -> bool {
        self.spent.len() > limits::ASKERS
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
            // Its number is spent only when no round that began before it can
            // still be calling peers.
            until += linger;
        }
        self.by_time.insert((until, id), ());
        self.pending.insert(id, pending);
        id
    }

    /// Forgets what was asked by nodes that are members no more.
    pub(super) fn forget_strangers(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.spent.retain(|&node, _| is_member(node));
    }

    fn answer(&mut self, to: Actor, ask: u64, check: CheckId, answer: Answer) {
        let opinion = Opinion { ask, check, answer };
        self.answers.entry(to).or_default().push(opinion);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: CheckId = CheckId([3; 16]);
    const LINGER: Duration = Duration::from_secs(2);

    fn actor(node: u64) -> Actor {
        Actor {
            node: NodeId(node),
            epoch: 1,
            boot: 1,
        }
    }

    const fn question(ask: u64) -> Question {
        Question {
            ask,
            check: CHECK,
            wait_ms: 500,
        }
    }

    #[test]
    fn a_question_that_comes_again_is_probed_once() {
        let mut answering = Answering::default();
        let mut probes = Vec::new();
        let mut answered = Vec::new();
        for at_ms in [0, 100, 300, 499, 600, 5_000] {
            let now = Time::from_millis(at_ms);
            answering.tick(now);
            if let Taken::Probe(id) = answering.asked(now, actor(2), question(7), true, LINGER) {
                probes.push(at_ms);
                assert_eq!(answering.probed(id, Answer::Pass), Some(For::Peer));
            }
            if !answering.take_answers().is_empty() {
                answered.push(at_ms);
            }
        }
        assert_eq!(probes, [0], "one probe");
        assert_eq!(answered, [0, 100, 300, 499, 600], "an answer may be lost");
        let now = Time::from_millis(6_000);
        let taken = answering.asked(now, actor(2), question(8), true, LINGER);
        assert!(matches!(taken, Taken::Probe(_)));
    }

    #[test]
    fn who_is_not_able_or_asked_too_much_is_silent() {
        let mut answering = Answering::default();
        let now = Time::from_millis(1_000);
        let taken = answering.asked(now, actor(2), question(1), false, LINGER);
        assert_eq!(taken, Taken::Refused);
        let answers = answering.take_answers();
        assert_eq!(answers[&actor(2)][0].answer, Answer::Silent);
        let probes = (2..5_000)
            .filter(|&ask| {
                let taken = answering.asked(now, actor(2), question(ask), true, LINGER);
                matches!(taken, Taken::Probe(_))
            })
            .count();
        assert_eq!(probes, limits::OPINIONS_BURST as usize);
    }
}
