//! Self-doubt: when others overrule this node, or it hears nobody, the fault may
//! be its own path to the origins or to the POP.
//!
//! A node that is overruled on many unrelated checks is *blind*. It stops
//! probing, is not eligible, and says so. From time to time it probes a few of
//! those checks for itself; when it sees what the others see, it takes part
//! again.

use core::time::Duration;
use std::collections::VecDeque;

use watchfire_wire::message::replica::Answer;
use watchfire_wire::{CheckId, Time};

use super::OwnershipConfig;
use super::asking::Heard;

/// What this node knows of its own sight.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubt {
    blind: bool,
    /// Overruled checks, each once, oldest first; at most [`REMEMBERED`].
    overruled: VecDeque<(Time, CheckId)>,
    /// When to look again.
    look_at: Option<Time>,
    seen: usize,
    looked: usize,
    /// Since when nobody has answered any question.
    unanswered: Option<Time>,
    /// When somebody last saw what this node saw.
    agreed: Option<Time>,
}

/// How the rest of the POP looks from here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pop {
    /// For how long no member was heard.
    pub(super) silence: Duration,
    /// Living members, this node among them.
    pub(super) living: usize,
    /// Those of them that are suspected.
    pub(super) suspects: usize,
}

/// What a second opinion means for a Down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It stands, with so many agreeing and dissenting.
    Confirmed((u8, u8)),
    /// The others see the origin.
    Overruled(u8),
    /// Nobody answered, and this node has reason to doubt itself.
    Held,
}

/// Overruled checks that are remembered; the oldest gives way.
const REMEMBERED: usize = 256;

/// Where members live that could answer, and none does, this node waits so long
/// before it decides alone: its questions or their answers were lost.
const UNANSWERED_MAX: Duration = Duration::from_secs(6);

/// So long does one who agreed speak for those who could not.
const SPOKEN_FOR: Duration = Duration::from_secs(3);

/// Checks probed in one look.
pub(super) const LOOKS: usize = 5;

/// The majority of those who answered decides, this node's own finding among
/// them unless it doubts itself; a tie leaves the verdict as it is.
pub(super) const fn judge(heard: &Heard, doubts: bool) -> Finding {
    if heard.agreed == 0 && heard.dissented == 0 && doubts {
        return Finding::Held;
    }
    let own = if doubts { 0 } else { 1 };
    if heard.dissented > 0 && heard.dissented >= heard.agreed.saturating_add(own) {
        return Finding::Overruled(heard.dissented);
    }
    Finding::Confirmed((heard.agreed, heard.dissented))
}

impl Doubt {
    pub(super) const fn is_blind(&self) -> bool {
        self.blind
    }

    pub(super) fn next_timeout(&self) -> Time {
        self.look_at.unwrap_or(Time::NEVER)
    }

    /// This node, which probes so many checks, was overruled on one. True if it
    /// is blind from now on.
    pub(super) fn overruled(
        &mut self,
        now: Time,
        check: CheckId,
        probing: usize,
        config: &OwnershipConfig,
    ) -> bool {
        self.overruled
            .retain(|&(at, other)| now.since(at) < config.blind_window && other != check);
        if self.overruled.len() >= REMEMBERED {
            self.overruled.pop_front();
        }
        self.overruled.push_back((now, check));
        let many = config.blind_checks.max((probing / 10).min(REMEMBERED / 2));
        if self.blind || self.overruled.len() < many {
            return false;
        }
        self.blind = true;
        self.look_at = Some(now + config.blind_retry);
        true
    }

    /// A round is over, in which somebody answered or nobody did.
    pub(super) fn heard(&mut self, now: Time, answered: bool, agreed: bool) {
        if agreed {
            self.agreed = Some(now);
        }
        // In a mass event some go unanswered, and others speak for them.
        let spoken_for = self.agreed.is_some_and(|at| now.since(at) < SPOKEN_FOR);
        if answered || spoken_for {
            self.unanswered = None;
        } else {
            self.unanswered.get_or_insert(now);
        }
    }

    /// This node has reason to doubt what it sees: it was overruled of late,
    /// most of the POP fell silent at once, or it has heard nobody at all for
    /// `deaf_after`, which are more likely to be its own network's doing than
    /// theirs. All of that passes: dissents after
    /// [`blind_window`](OwnershipConfig::blind_window), suspects live or die,
    /// and a long silence means that they are gone.
    pub(super) fn has_reason(
        &self,
        now: Time,
        pop: Pop,
        deaf_after: Duration,
        config: &OwnershipConfig,
    ) -> bool {
        let reachable = pop.living.saturating_sub(1) > pop.suspects;
        let lost = |since: Time| now.since(since) < UNANSWERED_MAX;
        if reachable && self.unanswered.is_some_and(lost) {
            return true;
        }
        let mut overruled = self.overruled.iter();
        if overruled.any(|&(at, _)| now.since(at) < config.blind_window) {
            return true;
        }
        if !pop.silence.is_zero() && pop.silence >= deaf_after {
            return true;
        }
        // In a POP of two the other's silence is no sign of anything.
        let others = pop.living.saturating_sub(1);
        others > 1 && 2 * pop.suspects > others
    }

    /// It is time to look again: the checks on which this node was overruled.
    pub(super) fn look(
        &mut self,
        now: Time,
        config: &OwnershipConfig,
    ) -> Option<impl Iterator<Item = CheckId> + '_> {
        if self.look_at.is_none_or(|at| at > now) {
            return None;
        }
        self.look_at = Some(now + config.blind_retry);
        self.seen = 0;
        self.looked = 0;
        Some(self.overruled.iter().map(|&(_, check)| check))
    }

    /// So many of them are being probed.
    pub(super) const fn looks_at(&mut self, checks: usize) {
        self.looked = checks;
    }

    /// One of those probes ended. True if this node sees again.
    pub(super) fn saw(&mut self, answer: Answer) -> bool {
        self.seen += usize::from(answer == Answer::Pass);
        self.blind && 2 * self.seen > self.looked
    }

    /// Whatever there was to doubt is over.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_decides_and_a_tie_changes_nothing() {
        let rows = [
            // Agreed, dissented, in doubt.
            (2, 0, false, Finding::Confirmed((2, 0))),
            (1, 1, false, Finding::Confirmed((1, 1))),
            (0, 1, false, Finding::Overruled(1)),
            (0, 0, false, Finding::Confirmed((0, 0))),
            (0, 0, true, Finding::Held),
            (1, 1, true, Finding::Overruled(1)),
            (2, 1, true, Finding::Confirmed((2, 1))),
        ];
        for (agreed, dissented, doubts, expected) in rows {
            let heard = Heard {
                ix: 0,
                agreed,
                dissented,
                answered: true,
                complete: true,
                asked_at: Time::ZERO,
                said: Vec::new(),
            };
            assert_eq!(judge(&heard, doubts), expected, "{heard:?} {doubts}");
        }
    }

    #[test]
    fn many_dissents_are_blindness_and_what_it_sees_again_ends_it() {
        let config = OwnershipConfig::default();
        let mut doubt = Doubt::default();
        let now = Time::from_millis(1_000);
        let pop = Pop {
            silence: Duration::ZERO,
            living: 5,
            suspects: 0,
        };
        assert!(!doubt.has_reason(now, pop, Duration::MAX, &config));
        for n in 1..config.blind_checks {
            let check = CheckId([u8::try_from(n).unwrap(); 16]);
            assert!(!doubt.overruled(now, check, 20, &config));
            assert!(!doubt.overruled(now, check, 20, &config), "it counts once");
        }
        assert!(doubt.has_reason(now, pop, Duration::MAX, &config));
        assert!(doubt.overruled(now, CheckId([9; 16]), 20, &config));
        let later = doubt.next_timeout();
        let checks = doubt.look(later, &config).map(Iterator::count);
        assert_eq!(checks, Some(config.blind_checks));
        doubt.looks_at(3);
        assert!(!doubt.saw(Answer::Pass));
        assert!(!doubt.saw(Answer::Fail));
        assert!(doubt.saw(Answer::Pass));
        doubt.end();
        assert!(!doubt.is_blind());
        assert!(!doubt.has_reason(later, pop, Duration::MAX, &config));
    }

    #[test]
    fn silence_of_all_and_suspicion_of_most_are_reasons() {
        let config = OwnershipConfig::default();
        let doubt = Doubt::default();
        let of = |silence_ms, living, suspects| {
            let pop = Pop {
                silence: Duration::from_millis(silence_ms),
                living,
                suspects,
            };
            doubt.has_reason(Time::ZERO, pop, Duration::from_millis(300), &config)
        };
        assert!(!of(0, 6, 2));
        assert!(of(400, 6, 0));
        assert!(of(0, 6, 3));
        assert!(!of(0, 2, 1), "in a POP of two that says nothing");
    }
}
