//! One look at a check by every living member, because a person asks: each probes
//! it once and says all that it found. It decides nothing.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use watchfire_wire::message::replica::{Question, Sight};
use watchfire_wire::{Actor, CheckId, NodeId, Time, Unmeasured};

use crate::limits::{
    LOOK_AGAIN, LOOK_GAP, LOOK_PATIENCE, LOOKS, LOOKS_ANSWERED, LOOKS_BURST, LOOKS_PER_S,
};
use crate::rate::Rate;

/// Set in the numbers of [`Output::Ask`](crate::io::Output::Ask) that are answered
/// by [`ReportKind::Sight`](crate::io::ReportKind::Sight).
pub const LOOK: u64 = 1 << 63;

/// Why nobody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooManyLooks {
    /// At the limit.
    #[error("{LOOKS} checks are being looked at everywhere already; wait for their answers")]
    AtOnce,
}

/// What every member said, by its id; nothing of one that said nothing.
pub type Said = Vec<(NodeId, Option<Sight>)>;

/// Looks that this node's operators asked for, and those that it takes part in.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    rounds: BTreeMap<u64, Round>,
    next: u64,
    /// Questions, with their answers once there are any: a datagram may be lost,
    /// and then the question comes again. The oldest first.
    taken: VecDeque<Taken>,
    rate: Rate,
    /// Answers to be sent.
    answers: Vec<(Actor, u64, CheckId, Sight)>,
    send_at: Time,
}

#[derive(Clone, Debug)]
struct Round {
    check: CheckId,
    ends: Time,
    said: Said,
    /// Whom to ask next; round and round while answers are missing.
    turn: usize,
    /// When this time round began, and nobody is asked before that.
    turns_at: Time,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    number: u64,
    /// Who asks, by which number; this node itself where nobody.
    asker: Option<Actor>,
    look: u64,
    check: CheckId,
    expires: Time,
    sight: Option<Sight>,
}

impl Looks {
    /// Looks are numbered from here on, which no other life of any node does.
    pub(crate) const fn numbered_from(first: u64) -> Self {
        Self {
            rounds: BTreeMap::new(),
            next: first,
            taken: VecDeque::new(),
            rate: Rate::new(LOOKS_PER_S, LOOKS_BURST),
            answers: Vec::new(),
            send_at: Time::ZERO,
        }
    }

    /// Everybody is to look. The number of the look, and of this node's own probe.
    pub(crate) fn begin(
        &mut self,
        now: Time,
        check: CheckId,
        timeout: Duration,
        me: NodeId,
        others: impl Iterator<Item = NodeId>,
    ) -> Result<(u64, u64), TooManyLooks> {
        if self.rounds.len() >= LOOKS {
            return Err(TooManyLooks::AtOnce);
        }
        self.next += 1;
        let look = self.next;
        let mut said: Said = vec![(me, None)];
        said.extend(others.map(|node| (node, None)));
        // Each is asked in its turn, twice, before the first one's time is up.
        let round_trip = LOOK_GAP * u32::try_from(said.len()).unwrap_or(u32::MAX);
        let ends = now + timeout * 2 + LOOK_PATIENCE + round_trip * 2;
        let round = Round {
            check,
            ends,
            said,
            turn: 1,
            turns_at: now,
        };
        self.rounds.insert(look, round);
        self.send_at = now;
        Ok((look, self.take(now, None, look, check, ends)))
    }

    /// A living member asks; `able` says whether this node could probe the check.
    /// The number of the probe, if there is to be one.
    pub(crate) fn asked(
        &mut self,
        now: Time,
        from: Actor,
        question: Question,
        able: bool,
    ) -> Option<u64> {
        let Question {
            ask: look,
            check,
            wait_ms,
        } = question;
        self.forget(now);
        let known = self
            .taken
            .iter()
            .find(|it| it.asker == Some(from) && it.look == look);
        if let Some(known) = known {
            if let Some(sight) = known.sight {
                self.answers.push((from, look, check, sight));
            }
            return None;
        }
        let refused = if !able {
            Some(Unmeasured::NotYet)
        } else if self.taken.len() >= LOOKS_ANSWERED || !self.rate.take(now) {
            Some(Unmeasured::RateCapped)
        } else {
            None
        };
        if let Some(why) = refused {
            self.answers
                .push((from, look, check, Sight::of_code(why.code())));
            return None;
        }
        let wait = Duration::from_millis(u64::from(wait_ms)).min(LOOK_PATIENCE * 10);
        Some(self.take(now, Some(from), look, check, now + wait))
    }

    /// A probe thread answers.
    pub(crate) fn probed(&mut self, number: u64, sight: Sight) {
        let Some(taken) = self.taken.iter_mut().find(|it| it.number == number) else {
            return;
        };
        taken.sight = Some(sight);
        let Taken {
            asker, look, check, ..
        } = *taken;
        match asker {
            Some(asker) => self.answers.push((asker, look, check, sight)),
            None => {
                if let Some(first) = self
                    .rounds
                    .get_mut(&look)
                    .and_then(|it| it.said.first_mut())
                {
                    first.1 = Some(sight);
                }
            }
        }
    }

    /// A member says what it saw.
    pub(crate) fn seen(&mut self, from: NodeId, look: u64, check: CheckId, sight: Sight) {
        let round = self.rounds.get_mut(&look);
        if let Some(round) = round.filter(|round| round.check == check)
            && let Some((_, said)) = round.said.iter_mut().skip(1).find(|it| it.0 == from)
        {
            said.get_or_insert(sight);
        }
    }

    /// The looks that are over, because all have answered or none is waited for
    /// any longer.
    pub(crate) fn take_over(&mut self, now: Time) -> Vec<(u64, Said)> {
        let over = self.rounds.iter().filter(|(_, round)| {
            round.ends <= now || round.said.iter().all(|(_, sight)| sight.is_some())
        });
        let over: Vec<u64> = over.map(|(&look, _)| look).collect();
        let taken = over.into_iter().filter_map(|look| {
            let round = self.rounds.remove(&look)?;
            Some((look, round.said))
        });
        taken.collect()
    }

    /// One question and all answers that are to be sent now.
    pub(crate) fn take_question(&mut self, now: Time) -> Option<(NodeId, Question)> {
        if now < self.send_at {
            return None;
        }
        self.send_at = now + LOOK_GAP;
        for (&look, round) in &mut self.rounds {
            while round.turns_at <= now {
                let at = round.turn % round.said.len();
                round.turn = at + 1;
                if at == 0 {
                    // This node itself, who is not asked: once round.
                    round.turns_at = now.max(round.turns_at + LOOK_AGAIN);
                    continue;
                }
                let (node, sight) = round.said[at];
                if sight.is_none() {
                    let wait = u32::try_from(round.ends.since(now).as_millis());
                    let question = Question {
                        ask: look,
                        check: round.check,
                        wait_ms: wait.unwrap_or(u32::MAX),
                    };
                    return Some((node, question));
                }
            }
        }
        None
    }

    pub(crate) fn take_answers(&mut self) -> Vec<(Actor, u64, CheckId, Sight)> {
        core::mem::take(&mut self.answers)
    }

    pub(crate) fn next_timeout(&self) -> Time {
        let rounds = self.rounds.values();
        let next = rounds.map(|round| round.ends.min(round.turns_at.max(self.send_at)));
        next.min().unwrap_or(Time::NEVER)
    }

    fn take(
        &mut self,
        now: Time,
        asker: Option<Actor>,
        look: u64,
        check: CheckId,
        expires: Time,
    ) -> u64 {
        self.forget(now);
        self.next += 1;
        let number = self.next | LOOK;
        self.taken.push_back(Taken {
            number,
            asker,
            look,
            check,
            expires,
            sight: None,
        });
        number
    }

    fn forget(&mut self, now: Time) {
        self.taken.retain(|it| it.expires > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: CheckId = CheckId([7; 16]);

    fn actor(node: u64) -> Actor {
        Actor {
            node: NodeId(node),
            epoch: 1,
            boot: 1,
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn begin(looks: &mut Looks) -> (u64, u64) {
        let others = [NodeId(2), NodeId(3)].into_iter();
        let second = Duration::from_secs(1);
        looks
            .begin(at(0), CHECK, second, NodeId(1), others)
            .unwrap()
    }

    #[test]
    fn all_are_asked_until_they_answer_and_those_that_do_not_are_named() {
        let mut looks = Looks::numbered_from(0);
        let (look, own) = begin(&mut looks);
        assert_ne!(own & LOOK, 0);
        let mut asked = Vec::new();
        let mut now = at(0);
        while asked.len() < 4 {
            now = now.max(looks.next_timeout());
            asked.extend(looks.take_question(now).map(|(node, _)| node.0));
        }
        assert_eq!(asked, [2, 3, 2, 3], "again, for datagrams get lost");
        assert!(now >= at(500), "and not all the time: {now:?}");
        looks.probed(own, Sight::of_code(0));
        looks.seen(NodeId(3), look, CHECK, Sight::of_code(5));
        looks.seen(NodeId(9), look, CHECK, Sight::of_code(5));
        looks.seen(NodeId(2), look, CheckId([8; 16]), Sight::of_code(5));
        assert_eq!(looks.take_over(now), []);
        let ends = at(60_000);
        let said = vec![
            (NodeId(1), Some(Sight::of_code(0))),
            (NodeId(2), None),
            (NodeId(3), Some(Sight::of_code(5))),
        ];
        assert_eq!(looks.take_over(ends), [(look, said)]);
        assert_eq!(looks.next_timeout(), Time::NEVER, "nothing stays behind");
    }

    #[test]
    fn a_question_that_comes_again_is_answered_again_and_probed_once() {
        let mut looks = Looks::numbered_from(0);
        let question = Question {
            ask: 5,
            check: CHECK,
            wait_ms: 3_000,
        };
        let number = looks.asked(at(0), actor(2), question, true).unwrap();
        assert_eq!(looks.asked(at(1), actor(2), question, true), None);
        assert_eq!(looks.take_answers(), []);
        looks.probed(number, Sight::of_code(0));
        looks.asked(at(2), actor(2), question, true);
        let answer = (actor(2), 5, CHECK, Sight::of_code(0));
        assert_eq!(looks.take_answers(), [answer, answer]);
    }

    #[test]
    fn how_much_is_probed_and_remembered_is_bounded() {
        let mut looks = Looks::numbered_from(0);
        let mut probes = 0;
        for ask in 0..10_000 {
            let question = Question {
                ask,
                check: CHECK,
                wait_ms: u32::MAX,
            };
            let now = at(ask * 10);
            probes += usize::from(looks.asked(now, actor(2), question, true).is_some());
            let _ = looks.take_answers();
            assert!(looks.taken.len() <= LOOKS_ANSWERED);
        }
        let most = LOOKS_BURST as usize + 100 * LOOKS_PER_S as usize;
        assert!(probes <= most, "{probes}");
        let mut looks = Looks::numbered_from(0);
        for _ in 0..LOOKS {
            begin(&mut looks);
        }
        let none = core::iter::empty();
        let refused = looks.begin(at(0), CHECK, Duration::ZERO, NodeId(1), none);
        assert_eq!(refused, Err(TooManyLooks::AtOnce));
    }
}
