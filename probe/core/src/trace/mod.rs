//! The last probes of each check, as one probe thread remembers them: when, how
//! long each phase took and what came of it, up to [`TRACED_PROBES`] of each; and
//! of the last turns what the origin had answered.
//!
//! All probes lie in one arena, ten bytes each, at the place that the engine gave
//! to their check: to remember one costs no search and no allocation. A check that
//! is probed no more is remembered until another takes its place.

mod cell;
mod shown;

use std::collections::{HashMap, VecDeque};

use watchfire_wire::{CheckId, Time, Verdict};

use self::cell::{Cell, Facts};
use crate::limits::{TRACED_ANSWERS, TRACED_PROBES};
use crate::outcome::{Outcome, Phases};

pub(crate) use self::shown::shown;

/// A probe that has ended, as the engine tells it.
#[derive(Debug)]
pub struct Probed {
    /// Where the engine keeps the check: below the number of checks that it holds.
    pub place: u32,
    /// Which check.
    pub check: CheckId,
    /// When it ended.
    pub at: Time,
    /// What came of it.
    pub outcome: Outcome,
    /// What it took.
    pub phases: Phases,
    /// It turned the check's verdict.
    pub turned: Option<Box<Turned>>,
}

/// What a probe saw that turned a verdict.
#[derive(Debug, PartialEq, Eq)]
pub struct Turned {
    /// What the verdict is now, before any second opinion.
    pub to: Verdict,
    /// The head of what the origin answered, without secrets, escaped, line by line.
    /// Empty if it said nothing.
    pub answer: String,
    /// What the TLS library said, if it failed there.
    pub tls: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Trace {
    pages: Vec<Page>,
    /// By place.
    rings: Vec<Ring>,
    places: HashMap<CheckId, u32>,
    answers: VecDeque<Answer>,
    /// Checks that are remembered at most.
    most: u32,
}

/// Rings of a page, so that the arena grows without being copied.
const RINGS: usize = 16;

type Page = Box<[Cell; RINGS * TRACED_PROBES]>;

/// Where a check's probes lie.
#[derive(Debug)]
struct Ring {
    check: CheckId,
    /// When the last one ended.
    last: Time,
    /// Where the next one goes.
    next: u8,
    count: u8,
}

/// What is remembered of one probe. Times are true to within a part in a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// When it ended.
    pub at: Time,
    /// The number of its reason, as reports and records carry it.
    pub code: u8,
    /// What it took.
    pub phases: Phases,
}

/// What an origin answered when its verdict turned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    check: CheckId,
    /// When.
    pub at: Time,
    /// What the verdict became, before any second opinion.
    pub to: Verdict,
    /// The number of the probe's reason.
    pub code: u8,
    /// See [`Turned::answer`].
    pub answer: Box<str>,
    /// See [`Turned::tls`].
    pub tls: Option<Box<str>>,
}

/// All that is remembered of one check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Its last probes, the oldest first.
    pub probes: Vec<Past>,
    /// The last answer that turned it to each verdict, the oldest first; of a first
    /// Up nothing is kept.
    pub answers: Vec<Answer>,
}

impl Trace {
    /// Remembers so many checks at most; of one at a place beyond that nothing is
    /// kept.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Remembers a probe.
    pub fn record(&mut self, probed: Probed) {
        let Probed {
            place,
            check,
            at,
            outcome,
            phases,
            turned,
        } = probed;
        if let Some(turned) = turned {
            self.answered(check, at, outcome.code(), *turned);
        }
        if place >= self.most {
            return;
        }
        let place_of = place as usize;
        while self.rings.len() <= place_of {
            if self.rings.len().is_multiple_of(RINGS) {
                self.pages
                    .push(Box::new([Cell::default(); RINGS * TRACED_PROBES]));
            }
            self.rings.push(Ring::of(CheckId([0; 16]), at));
        }
        let ring = &mut self.rings[place_of];
        if ring.check != check {
            if self.places.get(&ring.check) == Some(&place) {
                self.places.remove(&ring.check);
            }
            *ring = Ring::of(check, at);
            self.places.insert(check, place);
        }
        let facts = Facts {
            ago_ms: at.0.saturating_sub(ring.last.0) / 1_000,
            code: outcome.code(),
            phases,
        };
        let cells = &mut self.pages[place_of / RINGS];
        cells[place_of % RINGS * TRACED_PROBES + usize::from(ring.next)] = Cell::pack(&facts);
        ring.last = at;
        ring.next = (ring.next + 1) % TRACED_PROBES as u8;
        ring.count = (ring.count + 1).min(TRACED_PROBES as u8);
    }

    fn answered(&mut self, check: CheckId, at: Time, code: u8, turned: Turned) {
        let same = |it: &Answer| it.check == check && it.to == turned.to;
        if let Some(before) = self.answers.iter().position(same) {
            self.answers.remove(before);
        } else if self.answers.len() >= TRACED_ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(Answer {
            check,
            at,
            to: turned.to,
            code,
            answer: turned.answer.into(),
            tls: turned.tls.map(Into::into),
        });
    }

    /// What is remembered of a check; nothing if it is not known here.
    #[must_use]
    pub fn of(&self, check: CheckId) -> Option<Traced> {
        let place = *self.places.get(&check)? as usize;
        let ring = &self.rings[place];
        let cells = &self.pages[place / RINGS][place % RINGS * TRACED_PROBES..][..TRACED_PROBES];
        let mut at = ring.last;
        let mut probes: Vec<Past> = (1..=usize::from(ring.count))
            .map(|back| {
                let which = (usize::from(ring.next) + TRACED_PROBES - back) % TRACED_PROBES;
                let Facts {
                    ago_ms,
                    code,
                    phases,
                } = cells[which].unpack();
                let past = Past { at, code, phases };
                at = Time(at.0.saturating_sub(ago_ms.saturating_mul(1_000)));
                past
            })
            .collect();
        probes.reverse();
        let answers = self.answers.iter().filter(|it| it.check == check);
        Some(Traced {
            probes,
            answers: answers.cloned().collect(),
        })
    }

    /// Memory that it holds, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = |it: &Answer| it.answer.len() + it.tls.as_ref().map_or(0, |tls| tls.len());
        self.pages.len() * size_of::<[Cell; RINGS * TRACED_PROBES]>()
            + self.pages.capacity() * size_of::<Page>()
            + self.rings.capacity() * size_of::<Ring>()
            // A table of this kind is filled to seven eighths, and has a byte for each.
            + self.places.capacity() * 8 / 7 * (size_of::<(CheckId, u32)>() + 1)
            + self.answers.capacity() * size_of::<Answer>()
            + self.answers.iter().map(texts).sum::<usize>()
    }
}

impl Ring {
    const fn of(check: CheckId, at: Time) -> Self {
        Self {
            check,
            last: at,
            next: 0,
            count: 0,
        }
    }
}

const _: () = assert!(TRACED_PROBES <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use watchfire_wire::Reason;

    use super::*;
    use crate::limits::{TRACED_CHECKS, TRACED_TEXT_BYTES};

    fn id(n: u32) -> CheckId {
        CheckId::of_canonical(&n.to_le_bytes())
    }

    fn probed(place: u32, check: CheckId, at_ms: u64, outcome: Outcome) -> Probed {
        Probed {
            place,
            check,
            at: Time(at_ms * 1_000),
            outcome,
            phases: Phases {
                total_us: at_ms as u32,
                ..Phases::default()
            },
            turned: None,
        }
    }

    #[test]
    fn the_last_probes_of_a_check_are_there_in_order_with_their_times() {
        let mut trace = Trace::new(100);
        for n in 0..200_u64 {
            let outcome = match n % 2 {
                0 => Outcome::Pass,
                _ => Outcome::Fail(Reason::BadStatus),
            };
            trace.record(probed(7, id(7), 5_000 + 1_000 * n, outcome));
            trace.record(probed(8, id(8), 5_000 + 1_000 * n, Outcome::Pass));
        }
        let Traced { probes, answers } = trace.of(id(7)).unwrap();
        assert_eq!((probes.len(), answers.len()), (TRACED_PROBES, 0));
        assert_eq!(probes[63].at, Time(204_000_000));
        for (n, probe) in probes.iter().enumerate() {
            let exact = 141_000 + 1_000 * n as u64;
            assert!(
                probe.at.as_millis().abs_diff(exact) <= 130,
                "{n}: {probe:?}"
            );
            assert_eq!(probe.code, if n % 2 == 1 { 10 } else { 0 });
        }
        assert!(trace.of(id(9)).is_none());
    }

    #[test]
    fn a_place_changes_hands_and_a_place_too_many_has_nothing() {
        let mut trace = Trace::new(20);
        trace.record(probed(3, id(1), 10, Outcome::Pass));
        trace.record(probed(3, id(2), 20, Outcome::Pass));
        assert!(trace.of(id(1)).is_none());
        assert_eq!(trace.of(id(2)).unwrap().probes.len(), 1);
        // It comes back at another place, and the old one is given away.
        trace.record(probed(4, id(2), 30, Outcome::Pass));
        trace.record(probed(3, id(3), 40, Outcome::Pass));
        assert_eq!(trace.of(id(2)).unwrap().probes[0].at, Time(30_000));
        trace.record(probed(20, id(4), 40, Outcome::Pass));
        assert!(trace.of(id(4)).is_none());
    }

    #[test]
    fn all_of_it_at_twenty_thousand_checks_stays_within_its_memory() {
        let mut trace = Trace::new(TRACED_CHECKS);
        for n in 0..20_000 {
            for at in 0..2 {
                let mut it = probed(n, id(n), at, Outcome::Pass);
                it.turned = Some(Box::new(Turned {
                    to: Verdict::Up,
                    answer: "x".repeat(TRACED_TEXT_BYTES),
                    tls: None,
                }));
                trace.record(it);
            }
        }
        assert_eq!(trace.answers.len(), TRACED_ANSWERS);
        // Beside it stand at most 8.2 MB of transitions: 24 MB in all.
        assert!(trace.bytes() < 15_700_000, "{} bytes", trace.bytes());
    }

    #[test]
    fn an_answer_to_each_verdict_is_kept() {
        let mut trace = Trace::new(20);
        for (at, to) in [Verdict::Up, Verdict::Down, Verdict::Up, Verdict::Down]
            .into_iter()
            .enumerate()
        {
            let mut it = probed(0, id(0), at as u64, Outcome::Pass);
            it.turned = Some(Box::new(Turned {
                to,
                answer: format!("{at}\n"),
                tls: None,
            }));
            trace.record(it);
        }
        let answers = trace.of(id(0)).unwrap().answers;
        let said: Vec<_> = answers.iter().map(|it| (it.to, &*it.answer)).collect();
        assert_eq!(said, [(Verdict::Up, "2\n"), (Verdict::Down, "3\n")]);
    }
}
