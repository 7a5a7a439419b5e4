//! The blind agent: when juries overrule this node on many unrelated checks,
//! the fault is its own path to the origins.
//!
//! A blind node stops judging: it stops probing, is not eligible, and says so.
//! From time to time it probes a few of those checks for itself; when it sees
//! what the others see, it takes part again.

use core::time::Duration;
use std::collections::VecDeque;

use watchfire_wire::message::replica::Answer;
use watchfire_wire::{CheckId, Time, Verdict};

use super::duties::{Ctx, Duties};
use super::ranks::CheckIx;
use super::role::Backoff;
use crate::io::{Event, Output};

/// What this node knows of its own sight.
#[derive(Clone, Debug, Default)]
pub(super) struct Blind {
    blind: bool,
    /// Overruled checks, each once, oldest first; at most [`REMEMBERED`].
    overruled: VecDeque<(Time, CheckId)>,
    /// When to look again.
    look_at: Option<Time>,
    seen: usize,
    looked: usize,
}

/// Overruled checks that are remembered; the oldest gives way.
const REMEMBERED: usize = 256;

/// Checks probed in one look.
const LOOKS: usize = 5;

impl Blind {
    pub(super) const fn is_blind(&self) -> bool {
        self.blind
    }

    pub(super) fn next_timeout(&self) -> Time {
        self.look_at.unwrap_or(Time::NEVER)
    }
}

impl Duties {
    /// A jury overruled this node on a check.
    pub(super) fn dissent(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) {
        let check = self.check(ix);
        let now = ctx.now;
        let window = self.config.blind_window;
        let blind = &mut self.blind;
        blind
            .overruled
            .retain(|&(at, other)| now.since(at) < window && other != check);
        if blind.overruled.len() >= REMEMBERED {
            blind.overruled.pop_front();
        }
        blind.overruled.push_back((now, check));
        let many = self
            .config
            .blind_checks
            .max((self.probing / 10).min(REMEMBERED / 2));
        if !blind.blind && blind.overruled.len() >= many {
            blind.blind = true;
            blind.look_at = Some(now + self.config.blind_retry);
            ctx.out.push_back(Output::Event(Event::Blind(true)));
        }
    }

    /// This node has reason to doubt what it sees: it was overruled of late,
    /// most of the POP fell silent at once, or it has heard nobody at all for
    /// `deaf_after`, which are more likely to be its own network's doing than
    /// theirs. All of that passes: dissents after
    /// [`blind_window`](super::OwnershipConfig::blind_window), suspects live or
    /// die, and a long silence means that they are gone.
    pub(super) fn doubts_itself(&self, ctx: &Ctx<'_>, deaf_after: Duration) -> bool {
        let window = self.config.blind_window;
        let mut overruled = self.blind.overruled.iter();
        if overruled.any(|&(at, _)| ctx.now.since(at) < window) {
            return true;
        }
        if !ctx.silence.is_zero() && ctx.silence >= deaf_after {
            return true;
        }
        let living = self.members.living();
        // This node is one of them, and in a POP of two the other's silence is
        // no sign of anything.
        let others = living.saturating_sub(1);
        others > 1 && 2 * self.members.suspects() > others
    }

    pub(super) fn tick_blind(&mut self, ctx: &mut Ctx<'_>) {
        if self.blind.look_at.is_none_or(|at| at > ctx.now) {
            return;
        }
        self.blind.look_at = Some(ctx.now + self.config.blind_retry);
        self.blind.seen = 0;
        self.blind.looked = 0;
        let expires = ctx.now + self.config.blind_retry;
        let up: Vec<CheckId> = self
            .blind
            .overruled
            .iter()
            .map(|&(_, check)| check)
            .filter(|&check| {
                let winner = ctx.store.winner(check);
                self.ix(check).is_some()
                    && winner.is_some_and(|word| word.slot.value.verdict == Verdict::Up)
            })
            .take(LOOKS)
            .collect();
        if up.is_empty() {
            // Nothing is left to be wrong about.
            self.sees_again(ctx);
            return;
        }
        self.blind.looked = up.len();
        for check in up {
            self.ask_self(ctx, check, expires);
        }
    }

    /// A probe for this node's own sake ended.
    pub(super) fn saw(&mut self, ctx: &mut Ctx<'_>, answer: Answer) {
        if answer == Answer::Pass {
            self.blind.seen += 1;
        }
        if self.blind.blind && 2 * self.blind.seen > self.blind.looked {
            self.sees_again(ctx);
        }
    }

    fn sees_again(&mut self, ctx: &mut Ctx<'_>) {
        self.blind = Blind::default();
        ctx.out.push_back(Output::Event(Event::Blind(false)));
        // What was given up for this reason may be taken up again.
        for ix in 0..self.duties.len() {
            if self.duties[ix].backoff.until.is_some() {
                self.duties[ix].backoff = Backoff::default();
                self.consider(ctx, super::duties::to_ix(ix));
            }
        }
    }
}
