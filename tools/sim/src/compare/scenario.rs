//! What contestants go through: a crash, slow members, losses, an idle minute.
//! The same for all, and measured by what members come to believe.

use super::net::{Arena, Belief, Member, Weather, What};
use crate::rng::Rng;
use crate::stats::Sample;

/// Time for a contestant to form and to calm down, microseconds.
const SETTLE_US: u64 = 20_000_000;
/// A crash that is not known to all by then counts as never known.
const DETECT_LIMIT_US: u64 = 120_000_000;

/// How long a slow member is blocked, and how long it runs in between: one of
/// the settings of the Lifeguard paper (arXiv 1707.00788, section V).
#[derive(Clone, Copy, Debug)]
pub struct Slowness {
    /// Members that are slow at the same time.
    pub members: usize,
    /// Blocked for this long, microseconds.
    pub blocked_us: u64,
    /// Running for this long in between, microseconds.
    pub running_us: u64,
}

/// Makes member `me` of `n`.
pub trait Maker<T>: Fn(usize, usize, Rng) -> T {}
impl<T, F: Fn(usize, usize, Rng) -> T> Maker<T> for F {}

/// How long a crash took to be known.
#[derive(Clone, Debug, Default)]
pub struct Detection {
    /// To the first member that held it for dead, milliseconds.
    pub first_ms: Sample,
    /// To the last, milliseconds.
    pub all_ms: Sample,
    /// Crashes that some member never learnt of.
    pub missed: u32,
}

/// Beliefs that were wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    /// Healthy members held for dead, counted at each member that did.
    pub false_positives: u64,
    /// Of those, the ones held by a member that was itself healthy.
    pub at_healthy: u64,
    /// Suspicions of healthy members, counted at each member.
    pub suspicions: u64,
}

/// What an idle member sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle {
    /// Packets per second and member.
    pub packets_per_s: f64,
    /// Bytes per second and member, headers counted.
    pub bytes_per_s: f64,
}

/// One crash per seed.
pub fn detection<T: Member>(
    make: &impl Maker<T>,
    n: usize,
    weather: Weather,
    seeds: std::ops::Range<u64>,
) -> Detection {
    let mut found = Detection::default();
    for seed in seeds {
        let (mut arena, mut rng) = settled(make, n, weather, seed);
        let victim = rng.index(n);
        arena.run_until(SETTLE_US + rng.below(1_000_000));
        let crashed_us = arena.now_us();
        arena.crash(victim);
        arena.take_beliefs();
        let mut told = vec![None; n];
        while arena.now_us() < crashed_us + DETECT_LIMIT_US && told.iter().flatten().count() < n - 1
        {
            let next_us = arena.now_us() + 100_000;
            arena.run_until(next_us);
            for belief in arena.take_beliefs() {
                if belief.subject == victim {
                    told[belief.observer] = (belief.what == What::Dead).then_some(belief.at_us);
                }
            }
        }
        let times = || {
            told.iter()
                .flatten()
                .map(|at_us| (at_us - crashed_us) as f64 / 1e3)
        };
        if times().count() == n - 1 {
            found.first_ms.push(times().fold(f64::INFINITY, f64::min));
            found.all_ms.push(times().fold(0.0, f64::max));
        } else {
            found.missed += 1;
        }
    }
    found
}

/// Slow members among healthy ones, and losses, for a while.
pub fn mistakes<T: Member>(
    make: &impl Maker<T>,
    n: usize,
    weather: Weather,
    slowness: Slowness,
    seconds: u64,
    seed: u64,
) -> Mistakes {
    let (mut arena, mut rng) = settled(make, n, weather, seed);
    arena.take_beliefs();
    let mut slow = vec![false; n];
    for i in rng.sample(n, slowness.members) {
        slow[i] = true;
    }
    let end_us = arena.now_us() + seconds * 1_000_000;
    let mut mistakes = Mistakes::default();
    while arena.now_us() < end_us {
        let now_us = arena.now_us();
        for i in (0..n).filter(|&i| slow[i]) {
            arena.block(i, now_us + slowness.blocked_us);
        }
        let period_us = (slowness.blocked_us + slowness.running_us).max(100_000);
        arena.run_until(now_us + period_us);
        mistakes.count(&arena.take_beliefs(), &slow);
    }
    mistakes
}

/// Nothing happens; what does it cost?
pub fn idle<T: Member>(make: &impl Maker<T>, n: usize, weather: Weather, seed: u64) -> Idle {
    const WINDOW_S: u64 = 60;
    let (mut arena, _) = settled(make, n, weather, seed);
    arena.take_traffic();
    arena.run_until(SETTLE_US + WINDOW_S * 1_000_000);
    let traffic = arena.take_traffic();
    let share = |total: u64| total as f64 / (n as u64 * WINDOW_S) as f64;
    Idle {
        packets_per_s: share(traffic.iter().map(|t| t.packets).sum()),
        bytes_per_s: share(traffic.iter().map(|t| t.bytes).sum()),
    }
}

fn settled<T: Member>(
    make: &impl Maker<T>,
    n: usize,
    weather: Weather,
    seed: u64,
) -> (Arena<T>, Rng) {
    let rng = Rng::new(seed);
    let members = (0..n).map(|i| make(i, n, rng.fork(i as u64))).collect();
    // Everybody forms in fair weather, so that all start from the same place.
    let fair = Weather {
        loss: 0.0,
        ..weather
    };
    let mut arena = Arena::new(members, fair, rng.fork(u64::MAX));
    arena.run_until(SETTLE_US);
    arena.set_weather(weather);
    (arena, rng.fork(u64::MAX - 1))
}

impl Mistakes {
    fn count(&mut self, beliefs: &[Belief], slow: &[bool]) {
        for belief in beliefs.iter().filter(|belief| !slow[belief.subject]) {
            match belief.what {
                What::Dead => {
                    self.false_positives += 1;
                    self.at_healthy += u64::from(!slow[belief.observer]);
                }
                What::Suspect => self.suspicions += 1,
                What::Alive => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memberlist::Memberlist;
    use super::*;

    #[test]
    fn the_memberlist_model_detects_a_crash_when_memberlist_does() {
        // The real one, 64 members: last to know after 10.2 s in the median,
        // 13.5 s at worst.
        let found = detection(&Memberlist::new, 64, Weather::default(), 0..5);
        assert_eq!(found.missed, 0);
        let median = found.all_ms.median().unwrap();
        assert!((8_000.0..13_500.0).contains(&median), "{median} ms");
    }

    #[test]
    fn the_memberlist_model_suspects_nobody_in_fair_weather() {
        let none = Slowness {
            members: 0,
            blocked_us: 0,
            running_us: 0,
        };
        let mistakes = mistakes(&Memberlist::new, 32, Weather::default(), none, 60, 1);
        assert_eq!(mistakes, Mistakes::default());
    }
}
