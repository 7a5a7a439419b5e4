//! Asking for a second opinion: before a check turns Down, the next ranks probe
//! it once.
//!
//! One round per check. A peer that cannot say makes room for the next rank,
//! and peers that contradict each other call one more. The questions that are
//! asked in a second are bounded; a round that may ask nobody waits, and then
//! counts as one in which nobody answered. What a round comes to is not decided
//! here.

use core::time::Duration;
use std::collections::BTreeMap;

use smallvec::SmallVec;
use watchfire_wire::message::replica::{Answer, Opinion, Question};
use watchfire_wire::{CheckId, NodeId, Time};

use super::OwnershipConfig;
use super::ranks::CheckIx;
use crate::limits;
use crate::rate::Rate;
use crate::swim::limits::LATE;

/// The rounds that are out.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    rounds: BTreeMap<CheckIx, Round>,
    by_ask: BTreeMap<u64, CheckIx>,
    by_time: BTreeMap<(Time, CheckIx), ()>,
    next_ask: u64,
    rate: Rate,
    /// Questions to be sent, by peer.
    questions: BTreeMap<NodeId, Vec<Question>>,
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) ix: CheckIx,
    pub(super) check: CheckId,
    pub(super) timeout: Duration,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is out, now or since before.
    Out {
        /// It was not out before.
        new: bool,
    },
    /// There is nobody to ask.
    Nobody,
}

/// What a round came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) ix: CheckIx,
    pub(super) agreed: u8,
    pub(super) dissented: u8,
    /// Somebody answered, if only that it cannot say.
    pub(super) answered: bool,
    /// All who were asked answered.
    pub(super) complete: bool,
    pub(super) asked_at: Time,
    /// Who was asked, and what they said.
    pub(super) said: Vec<(NodeId, Option<Answer>)>,
}

/// Gives further peers to ask about a check, in the order in which to ask them:
/// none of those asked already, and at most so many.
pub(super) type Peers<'a> = &'a dyn Fn(CheckIx, &dyn Fn(NodeId) -> bool, usize) -> Vec<NodeId>;

#[derive(Clone, Debug)]
struct Round {
    subject: Subject,
    ask: u64,
    /// All that were asked, and what they said.
    peers: SmallVec<[(NodeId, Option<Answer>); limits::PEERS_ASKED]>,
    asked_at: Time,
    ends: Time,
    due: Time,
    /// Its end was put off once, for this node came late to it.
    graced: bool,
}

impl Round {
    /// How many have answered so.
    fn count(&self, what: Answer) -> usize {
        let given = self.peers.iter().filter(|(_, given)| *given == Some(what));
        given.count()
    }

    /// As many saw the origin fail as saw it pass.
    fn is_split(&self) -> bool {
        let (agreed, dissented) = (self.count(Answer::Fail), self.count(Answer::Pass));
        agreed > 0 && agreed == dissented && !self.waits()
    }

    fn waits(&self) -> bool {
        self.peers.iter().any(|(_, given)| given.is_none())
    }

    fn heard(&self) -> Heard {
        let count = |what| u8::try_from(self.count(what)).unwrap_or(u8::MAX);
        Heard {
            ix: self.subject.ix,
            agreed: count(Answer::Fail),
            dissented: count(Answer::Pass),
            answered: self.peers.iter().any(|(_, given)| given.is_some()),
            complete: !self.waits(),
            asked_at: self.asked_at,
            said: self.peers.to_vec(),
        }
    }
}

impl Default for Asking {
    fn default() -> Self {
        Self::numbered_from(0)
    }
}

/// From one repetition to the next it is at most so many times
/// [`opinion_repeat`](OwnershipConfig::opinion_repeat).
const REPEAT_SLOWER: u32 = 4;

impl Asking {
    /// Questions are numbered from here on: no two lives of any node share
    /// numbers, so that an answer to one is none to another.
    pub(super) const fn numbered_from(first: u64) -> Self {
        Self {
            rounds: BTreeMap::new(),
            by_ask: BTreeMap::new(),
            by_time: BTreeMap::new(),
            next_ask: first,
            rate: Rate::new(limits::QUESTIONS_PER_S, limits::QUESTIONS_BURST),
            questions: BTreeMap::new(),
        }
    }

    pub(super) fn next_timeout(&self) -> Time {
        self.by_time
            .first_key_value()
            .map_or(Time::NEVER, |(&(at, _), ())| at)
    }

    /// Asks about a check, unless that is being done.
    pub(super) fn ask(
        &mut self,
        now: Time,
        subject: Subject,
        config: &OwnershipConfig,
        peers: Peers<'_>,
    ) -> Asked {
        if self.rounds.contains_key(&subject.ix) {
            return Asked::Out { new: false };
        }
        let mut round = self.empty(now, subject, config.opinion_bound, config);
        if !self.call(now, &mut round, config, peers) {
            return Asked::Nobody;
        }
        self.put(round);
        Asked::Out { new: true }
    }

    /// Asks again in a moment: there was nobody, or nobody answered.
    pub(super) fn ask_later(&mut self, now: Time, subject: Subject, config: &OwnershipConfig) {
        if !self.rounds.contains_key(&subject.ix) {
            let round = self.empty(now, subject, config.opinion_repeat, config);
            self.put(round);
        }
    }

    /// The question is moot.
    pub(super) fn drop_check(&mut self, ix: CheckIx) {
        let _ = self.take(ix);
    }

    /// A peer answers. What the round came to, if that was the last one.
    pub(super) fn answer(
        &mut self,
        now: Time,
        from: NodeId,
        opinion: Opinion,
        config: &OwnershipConfig,
        peers: Peers<'_>,
    ) -> Option<Heard> {
        let &ix = self.by_ask.get(&opinion.ask)?;
        if self.rounds.get(&ix)?.subject.check != opinion.check {
            return None;
        }
        self.say(now, ix, from, opinion.answer, config, peers)
    }

    /// A peer has gone: it will not answer.
    pub(super) fn drop_peer(
        &mut self,
        now: Time,
        node: NodeId,
        config: &OwnershipConfig,
        peers: Peers<'_>,
    ) -> Vec<Heard> {
        let waits = |round: &Round| round.peers.contains(&(node, None));
        let rounds = self.rounds.iter().filter(|(_, round)| waits(round));
        let waiting: Vec<CheckIx> = rounds.map(|(&ix, _)| ix).collect();
        waiting
            .into_iter()
            .filter_map(|ix| self.say(now, ix, node, Answer::Silent, config, peers))
            .collect()
    }

    /// Time has passed: repeats what is unanswered, and says which rounds are
    /// over.
    pub(super) fn tick(
        &mut self,
        now: Time,
        config: &OwnershipConfig,
        peers: Peers<'_>,
    ) -> Vec<Heard> {
        let mut over = Vec::new();
        while let Some((&(at, ix), ())) = self.by_time.first_key_value() {
            if at > now {
                break;
            }
            let Some(mut round) = self.take(ix) else {
                self.by_time.remove(&(at, ix));
                continue;
            };
            if round.peers.is_empty() {
                let found = self.call(now, &mut round, config, peers);
                if !found || round.peers.is_empty() && round.ends <= now {
                    over.push(round.heard());
                } else {
                    self.put(round);
                }
                continue;
            }
            if round.waits() && round.ends <= now && now.since(at) >= LATE && !round.graced {
                // This node was stopped, or is behind: the answers may be right
                // behind what it looks at now.
                round.graced = true;
                round.ends = now + config.opinion_wait;
            }
            if round.ends <= now || !round.waits() {
                over.push(round.heard());
                continue;
            }
            // A probe that hangs answers when it has timed out: until then every
            // repetition of a mass of questions is room that its words lack.
            let asked_for = now.since(round.asked_at);
            let most = config.opinion_repeat * REPEAT_SLOWER;
            let wait = asked_for.clamp(config.opinion_repeat, most);
            round.due = round.ends.min(now + wait);
            self.question(now, &round, 0);
            self.put(round);
        }
        over
    }

    /// Questions wait to be sent.
    pub(super) fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// The questions that are to be sent now, by peer.
    pub(super) fn take_questions(&mut self) -> BTreeMap<NodeId, Vec<Question>> {
        core::mem::take(&mut self.questions)
    }

    fn empty(
        &mut self,
        now: Time,
        subject: Subject,
        lasts: Duration,
        config: &OwnershipConfig,
    ) -> Round {
        self.next_ask += 1;
        Round {
            subject,
            ask: self.next_ask,
            peers: SmallVec::new(),
            asked_at: now,
            ends: now + lasts,
            due: now + config.opinion_repeat.min(lasts),
            graced: false,
        }
    }

    fn take(&mut self, ix: CheckIx) -> Option<Round> {
        let round = self.rounds.remove(&ix)?;
        self.by_ask.remove(&round.ask);
        self.by_time.remove(&(round.due, ix));
        Some(round)
    }

    fn put(&mut self, round: Round) {
        let ix = round.subject.ix;
        self.by_ask.insert(round.ask, ix);
        self.by_time.insert((round.due, ix), ());
        self.rounds.insert(ix, round);
    }

    /// Asks further peers until there are enough. False if there is nobody; if
    /// this node has asked too much already the round waits.
    fn call(
        &mut self,
        now: Time,
        round: &mut Round,
        config: &OwnershipConfig,
        peers: Peers<'_>,
    ) -> bool {
        let wanted = config.opinions.min(limits::PEERS_ASKED) + usize::from(round.is_split());
        let before = round.peers.len();
        let silent = round.count(Answer::Silent);
        let room = wanted
            .saturating_sub(before - silent)
            .min(limits::PEERS_CALLED - before);
        let asked = |node| round.peers.iter().any(|&(peer, _)| peer == node);
        let found = peers(round.subject.ix, &asked, room);
        if found.is_empty() {
            return false;
        }
        for peer in found {
            if self.rate.take(now) {
                round.peers.push((peer, None));
            }
        }
        if round.peers.len() == before {
            round.due = (now + config.opinion_repeat).min(round.ends);
            return true;
        }
        if before == 0 {
            round.asked_at = now;
        }
        let wait = round.subject.timeout + config.opinion_wait;
        round.ends = (now + wait).min(round.asked_at + config.opinion_bound);
        round.due = (now + config.opinion_repeat).min(round.ends);
        self.question(now, round, before);
        true
    }

    /// A peer has said what it will say.
    fn say(
        &mut self,
        now: Time,
        ix: CheckIx,
        from: NodeId,
        answer: Answer,
        config: &OwnershipConfig,
        peers: Peers<'_>,
    ) -> Option<Heard> {
        let mut round = self.take(ix)?;
        for (peer, given) in &mut round.peers {
            if *peer == from && given.is_none() {
                *given = Some(answer);
            }
        }
        if answer == Answer::Silent || round.is_split() {
            let _ = self.call(now, &mut round, config, peers);
        }
        if round.waits() {
            self.put(round);
            return None;
        }
        Some(round.heard())
    }

    /// Puts the question to the peers from number `from` on that have not
    /// answered.
    fn question(&mut self, now: Time, round: &Round, from: usize) {
        let question = Question {
            ask: round.ask,
            check: round.subject.check,
            wait_ms: to_ms(round.ends.since(now)),
        };
        for &(peer, given) in &round.peers[from..] {
            if given.is_none() {
                let questions = self.questions.entry(peer).or_default();
                // One that still waits is not put twice.
                questions.retain(|other| other.ask != question.ask);
                questions.push(question);
            }
        }
    }
}

fn to_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject {
        ix: 7,
        check: CheckId([1; 16]),
        timeout: Duration::from_millis(500),
    };

    fn peers(of: u64) -> impl Fn(CheckIx, &dyn Fn(NodeId) -> bool, usize) -> Vec<NodeId> {
        move |_, asked, room| {
            let all = (1..=of).map(NodeId);
            all.filter(|&node| !asked(node)).take(room).collect()
        }
    }

    fn opinion(asking: &Asking, answer: Answer) -> Opinion {
        Opinion {
            ask: asking.next_ask,
            check: SUBJECT.check,
            answer,
        }
    }

    #[test]
    fn who_cannot_say_makes_room_and_who_contradicts_calls_one_more() {
        let config = OwnershipConfig::default();
        let mut asking = Asking::numbered_from(0);
        let now = Time::from_millis(1_000);
        let peers = peers(5);
        let say = |asking: &mut Asking, node, answer| {
            let opinion = opinion(asking, answer);
            let heard = asking.answer(now, NodeId(node), opinion, &config, &peers);
            let asked: Vec<u64> = asking.take_questions().keys().map(|node| node.0).collect();
            (heard, asked)
        };
        let asked = asking.ask(now, SUBJECT, &config, &peers_of(5));
        assert_eq!(asked, Asked::Out { new: true });
        let first: Vec<u64> = asking.take_questions().keys().map(|node| node.0).collect();
        assert_eq!(first, [1, 2]);
        assert_eq!(say(&mut asking, 1, Answer::Silent), (None, vec![3]));
        assert_eq!(say(&mut asking, 2, Answer::Fail), (None, vec![]));
        assert_eq!(say(&mut asking, 3, Answer::Pass), (None, vec![4]));
        let (heard, _) = say(&mut asking, 4, Answer::Fail);
        let heard = heard.expect("all have said what they will");
        assert_eq!((heard.agreed, heard.dissented), (2, 1));
        assert_eq!(asking.next_timeout(), Time::NEVER);
    }

    fn peers_of(of: u64) -> impl Fn(CheckIx, &dyn Fn(NodeId) -> bool, usize) -> Vec<NodeId> {
        peers(of)
    }

    #[test]
    fn too_many_questions_wait_and_then_count_as_unanswered() {
        let config = OwnershipConfig::default();
        let mut asking = Asking::numbered_from(0);
        let mut now = Time::from_millis(1_000);
        let peers = peers(5);
        for ix in 0..10_000 {
            let subject = Subject { ix, ..SUBJECT };
            assert_eq!(
                asking.ask(now, subject, &config, &peers),
                Asked::Out { new: true }
            );
        }
        let questions: usize = asking.take_questions().values().map(Vec::len).sum();
        assert_eq!(questions, limits::QUESTIONS_BURST as usize);
        let mut over = 0;
        let mut questions = 0;
        while asking.next_timeout() <= Time::from_millis(8_000) {
            now = asking.next_timeout();
            over += asking.tick(now, &config, &peers).len();
            let repeats: usize = asking.take_questions().values().map(Vec::len).sum();
            questions += repeats;
        }
        assert_eq!(over, 10_000);
        // Each is repeated a few times within its half second.
        assert!(
            questions < 8 * limits::QUESTIONS_BURST as usize,
            "{questions}"
        );
    }

    #[test]
    fn with_nobody_to_ask_it_says_so() {
        let config = OwnershipConfig::default();
        let mut asking = Asking::numbered_from(0);
        let now = Time::from_millis(1_000);
        assert_eq!(asking.ask(now, SUBJECT, &config, &peers(0)), Asked::Nobody);
        asking.ask_later(now, SUBJECT, &config);
        let later = asking.next_timeout();
        assert_eq!(later, now + config.opinion_repeat);
        let heard = asking.tick(later, &config, &peers(0));
        assert_eq!(heard.len(), 1);
        assert!(!heard[0].answered);
    }
}
