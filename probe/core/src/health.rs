//! Outcomes in, verdict out: rise and fall, or so many of the last so many.
//!
//! Only measured outcomes come here. A probe that measured nothing neither
//! confirms nor contradicts anything.

use watchfire_wire::Verdict;

use crate::check::HealthRule;

/// A change of verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: Verdict,
    /// What it is now.
    pub to: Verdict,
}

impl Transition {
    /// Whether anybody will ask what the origin had answered. Of the first Up
    /// nobody does, and at a start every check has one.
    #[must_use]
    pub const fn is_news(self) -> bool {
        !matches!((self.from, self.to), (Verdict::Unknown, Verdict::Up))
    }
}

/// What is remembered of one check's outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    rule: HealthRule,
    verdict: Verdict,
    /// Equal outcomes in a row, up to now.
    run: u8,
    /// Whether that run is one of passes.
    passing: bool,
    /// The last outcomes, newest in bit 0; window rule only.
    bits: u64,
    /// How many of them are outcomes.
    seen: u8,
}

impl Health {
    /// Nothing is known yet: Unknown, or the window rule's initial verdict.
    #[must_use]
    pub fn new(rule: HealthRule) -> Self {
        let verdict = match rule {
            HealthRule::RiseFall { .. } => Verdict::Unknown,
            HealthRule::Window { initial, .. } => initial,
        };
        Self {
            rule,
            verdict,
            run: 0,
            passing: false,
            bits: 0,
            seen: 0,
        }
    }

    /// Goes on where a predecessor ended: with its verdict, and with so many
    /// outcomes in a row already contrary to it (0 unless it handed over
    /// gracefully).
    #[must_use]
    pub fn inherited(rule: HealthRule, verdict: Verdict, contrary: u8) -> Self {
        if verdict == Verdict::Unknown {
            return Self::new(rule);
        }
        let up = verdict == Verdict::Up;
        let mut health = Self {
            verdict,
            passing: up,
            ..Self::new(rule)
        };
        let most = match rule {
            HealthRule::RiseFall { rise, fall } => {
                if up {
                    fall
                } else {
                    rise
                }
            }
            HealthRule::Window {
                window, threshold, ..
            } => {
                health.bits = if up { u64::MAX } else { 0 };
                health.seen = window;
                if up {
                    window - threshold + 1
                } else {
                    threshold
                }
            }
        };
        // One outcome short of the change: it takes one of our own to turn.
        for _ in 0..contrary.min(most.saturating_sub(1)) {
            health.record(!up);
        }
        health
    }

    /// The verdict as of the last outcome.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How many outcomes in a row contradict the verdict. While the verdict is
    /// Unknown nothing does.
    #[must_use]
    pub const fn contrary(&self) -> u8 {
        match (self.verdict, self.passing) {
            (Verdict::Up, false) | (Verdict::Down, true) => self.run,
            _ => 0,
        }
    }

    /// Whether the verdict is Unknown or contradicted: time to look faster.
    #[must_use]
    pub const fn in_doubt(&self) -> bool {
        matches!(self.verdict, Verdict::Unknown) || self.contrary() > 0
    }

    /// Whether one more outcome may change the verdict in a way that is news.
    #[must_use]
    pub fn may_turn(&self) -> bool {
        let turns = |pass| self.clone().record(pass).is_some_and(Transition::is_news);
        turns(false) || turns(true)
    }

    /// Takes one measured outcome.
    pub fn record(&mut self, pass: bool) -> Option<Transition> {
        if pass == self.passing {
            self.run = self.run.saturating_add(1);
        } else {
            self.passing = pass;
            self.run = 1;
        }
        let to = match self.rule {
            HealthRule::RiseFall { rise, fall } => {
                if pass && self.run >= rise {
                    Verdict::Up
                } else if !pass && self.run >= fall {
                    Verdict::Down
                } else {
                    self.verdict
                }
            }
            HealthRule::Window {
                window, threshold, ..
            } => self.slide(pass, window, threshold),
        };
        let from = core::mem::replace(&mut self.verdict, to);
        (from != to).then_some(Transition { from, to })
    }

    /// Takes a fail that makes it Down at once, whatever the rule: the origin
    /// said so itself. It rises again by the rule.
    pub fn record_down(&mut self) -> Option<Transition> {
        self.passing = false;
        self.run = match self.rule {
            HealthRule::RiseFall { fall, .. } => self.run.saturating_add(1).max(fall),
            HealthRule::Window { window, .. } => window,
        };
        self.bits = 0;
        self.seen = match self.rule {
            HealthRule::RiseFall { .. } => 0,
            HealthRule::Window { window, .. } => window,
        };
        let from = core::mem::replace(&mut self.verdict, Verdict::Down);
        let to = Verdict::Down;
        (from != to).then_some(Transition { from, to })
    }

    /// Shifts one outcome into the window and judges it. While it fills, the
    /// verdict changes as soon as what is still missing cannot matter.
    fn slide(&mut self, pass: bool, window: u8, threshold: u8) -> Verdict {
        let mask = u64::MAX >> (u64::BITS - u32::from(window));
        self.bits = ((self.bits << 1) | u64::from(pass)) & mask;
        self.seen = self.seen.saturating_add(1).min(window);
        let passes = self.bits.count_ones();
        let fails = u32::from(self.seen) - passes;
        if passes >= u32::from(threshold) {
            Verdict::Up
        } else if fails > u32::from(window - threshold) {
            Verdict::Down
        } else {
            self.verdict
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: HealthRule = HealthRule::RiseFall { rise: 2, fall: 3 };

    fn feed(health: &mut Health, outcomes: &str) -> Vec<Transition> {
        outcomes
            .chars()
            .filter_map(|outcome| health.record(outcome == '+'))
            .collect()
    }

    #[test]
    fn rise_and_fall_count_in_a_row() {
        let mut health = Health::new(RULE);
        assert!(health.in_doubt());
        assert!(feed(&mut health, "+-+").is_empty());
        let up = Transition {
            from: Verdict::Unknown,
            to: Verdict::Up,
        };
        assert_eq!(feed(&mut health, "+"), [up]);
        assert!(!health.in_doubt());
        assert!(feed(&mut health, "--+--").is_empty());
        assert_eq!((health.verdict(), health.contrary()), (Verdict::Up, 2));
        assert_eq!(feed(&mut health, "-").len(), 1);
        assert_eq!((health.verdict(), health.contrary()), (Verdict::Down, 0));
        assert!(feed(&mut health, "+-+").is_empty());
        assert_eq!(health.contrary(), 1);
        assert_eq!(feed(&mut health, "+")[0].to, Verdict::Up);
    }

    #[test]
    fn a_graceful_handover_keeps_the_count_and_a_crash_does_not() {
        let mut kept = Health::inherited(RULE, Verdict::Up, 2);
        assert_eq!(feed(&mut kept, "-")[0].to, Verdict::Down);
        let mut lost = Health::inherited(RULE, Verdict::Up, 0);
        assert!(feed(&mut lost, "--").is_empty());
    }

    #[test]
    fn inheriting_alone_never_changes_a_verdict() {
        for contrary in 0..=u8::MAX {
            for rule in [
                RULE,
                HealthRule::RiseFall { rise: 1, fall: 1 },
                HealthRule::Window {
                    window: 5,
                    threshold: 3,
                    initial: Verdict::Unknown,
                },
            ] {
                for verdict in [Verdict::Up, Verdict::Down, Verdict::Unknown] {
                    assert_eq!(
                        Health::inherited(rule, verdict, contrary).verdict(),
                        verdict
                    );
                }
            }
        }
    }

    #[test]
    fn an_origin_that_says_so_is_down_at_once_and_rises_by_the_rule() {
        let window = HealthRule::Window {
            window: 5,
            threshold: 3,
            initial: Verdict::Up,
        };
        for (rule, passes) in [(RULE, "+"), (window, "++")] {
            let mut health = Health::inherited(rule, Verdict::Up, 0);
            assert_eq!(health.record_down().unwrap().to, Verdict::Down);
            assert!(health.record_down().is_none());
            assert!(feed(&mut health, passes).is_empty(), "{rule}");
            assert_eq!(feed(&mut health, "+")[0].to, Verdict::Up, "{rule}");
        }
    }

    #[test]
    fn a_window_is_decided_as_soon_as_the_rest_cannot_matter() {
        let rule = HealthRule::Window {
            window: 5,
            threshold: 3,
            initial: Verdict::Up,
        };
        let mut health = Health::new(rule);
        assert_eq!(health.verdict(), Verdict::Up);
        assert!(feed(&mut health, "--").is_empty());
        assert_eq!(feed(&mut health, "-")[0].to, Verdict::Down);
        assert!(feed(&mut health, "++").is_empty());
        assert_eq!(feed(&mut health, "+")[0].to, Verdict::Up);
    }

    proptest! {
        #[test]
        fn the_window_rule_agrees_with_counting(
            window in 1_u8..=64,
            threshold in 1_u8..=64,
            outcomes in proptest::collection::vec(any::<bool>(), 0..200),
        ) {
            let threshold = threshold.min(window);
            let rule = HealthRule::Window { window, threshold, initial: Verdict::Unknown };
            let mut health = Health::new(rule);
            for (index, &pass) in outcomes.iter().enumerate() {
                health.record(pass);
                if index + 1 >= usize::from(window) {
                    let last = &outcomes[index + 1 - usize::from(window)..=index];
                    let passes = last.iter().filter(|&&pass| pass).count();
                    let wanted =
                        if passes >= usize::from(threshold) { Verdict::Up } else { Verdict::Down };
                    prop_assert_eq!(health.verdict(), wanted);
                }
            }
        }

        #[test]
        fn rise_and_fall_agree_with_counting(
            rise in 1_u8..5,
            fall in 1_u8..5,
            outcomes in proptest::collection::vec(any::<bool>(), 0..100),
        ) {
            let mut health = Health::new(HealthRule::RiseFall { rise, fall });
            let mut wanted = Verdict::Unknown;
            for index in 0..outcomes.len() {
                health.record(outcomes[index]);
                let run = |pass: bool| {
                    outcomes[..=index].iter().rev().take_while(|&&outcome| outcome == pass).count()
                };
                if run(true) >= usize::from(rise) {
                    wanted = Verdict::Up;
                } else if run(false) >= usize::from(fall) {
                    wanted = Verdict::Down;
                }
                prop_assert_eq!(health.verdict(), wanted);
            }
        }
    }
}
