//! Many seeds, on all cores, and what they add up to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::faults::Fired;
use crate::measure::Measures;
use crate::oracle::Violation;
use crate::stats::Sample;
use crate::trace::Trace;
use crate::workload::Options;
use crate::world::World;

/// What one seed came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// The figures.
    pub measures: Measures,
    /// The faults that happened.
    pub fired: Fired,
    /// Of the whole history: equal for equal seeds.
    pub fingerprint: u64,
}

/// Runs one seed to its end.
#[must_use]
pub fn one(options: Options, seed: u64, trace: Trace) -> (Verdict, Trace) {
    let mut world = World::new(options, seed, trace);
    world.run();
    world.into_verdict(seed)
}

/// Runs many seeds on `threads` threads, in no particular order; the verdicts
/// come back in order. `done` hears of each one as it ends; when it says
/// false, no further seed is begun.
pub fn many(
    options: Options,
    seeds: std::ops::Range<u64>,
    threads: usize,
    done: &(dyn Fn(&Verdict) -> bool + Sync),
) -> Vec<Verdict> {
    let next = AtomicU64::new(seeds.start);
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let (verdict, _) = one(options, seed, Trace::default());
                    if !done(&verdict) {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                    verdicts
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(verdict);
                }
            });
        }
    });
    let mut verdicts = verdicts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    verdicts.sort_by_key(|verdict| verdict.seed);
    verdicts
}

/// What many seeds add up to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How many seeds ran.
    pub seeds: usize,
    /// All figures.
    pub measures: Measures,
    /// All faults.
    pub fired: Fired,
    /// Seeds with violations, and their first one.
    pub failed: Vec<(u64, Violation)>,
    /// Violations in total.
    pub violations: usize,
    /// The command that replays the first failing seed.
    pub replay: Option<String>,
}

impl Summary {
    /// Adds up.
    #[must_use]
    pub fn of(options: &Options, verdicts: &[Verdict]) -> Self {
        let mut summary = Self {
            seeds: verdicts.len(),
            measures: Measures::default(),
            fired: Fired::default(),
            failed: Vec::new(),
            violations: 0,
            replay: None,
        };
        for verdict in verdicts {
            summary.measures.add(&verdict.measures);
            summary.fired.add(&verdict.fired);
            summary.violations += verdict.violations.len();
            if let Some(first) = verdict.violations.first() {
                summary.failed.push((verdict.seed, first.clone()));
            }
        }
        summary.replay = summary
            .failed
            .first()
            .map(|(seed, _)| replay(options, *seed));
        summary
    }

    /// The object that tools read.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let m = &self.measures;
        let at = |sample: &Sample, share| sample.percentile(share).map(round);
        json!({
            "seeds": self.seeds,
            "violations": self.violations,
            "detect_all_ms_p50": at(&m.detect_all_ms, 0.5),
            "detect_all_ms_p99": at(&m.detect_all_ms, 0.99),
            "takeover_gap_ms_p50": at(&m.takeover_gap_ms, 0.5),
            "takeover_gap_ms_p99": at(&m.takeover_gap_ms, 0.99),
            "spread_ms_p50": at(&m.spread_ms, 0.5),
            "spread_ms_p99": at(&m.spread_ms, 0.99),
            "mass_spread_ms_p99": at(&m.mass_spread_ms, 0.99),
            "false_positives": m.false_positives,
            "false_downs": m.false_downs,
            "duplicate_probe_ratio": m.duplicate_ratio(),
            "idle_bytes_per_node_s": round(m.idle_bytes_per_node_s()),
            "faults_fired": self.fired.by_name(),
            "replay": self.replay,
        })
    }
}

/// The command that replays one seed and writes its history.
#[must_use]
pub fn replay(options: &Options, seed: u64) -> String {
    let defaults = Options::default();
    let mut command = format!(
        "cargo run --release -p watchfire-sim -- run --nodes {} --checks {} --seeds 1 --first-seed {seed} --faults {}",
        options.nodes, options.checks, options.faults
    );
    let mut option = |differs: bool, text: String| {
        if differs {
            command.push_str(&text);
        }
    };
    option(
        options.loss != defaults.loss,
        format!(" --loss {}", options.loss),
    );
    option(
        options.interval_us != defaults.interval_us,
        format!(" --interval-ms {}", options.interval_us / 1_000),
    );
    option(
        options.quiet_s != defaults.quiet_s,
        format!(" --quiet-s {}", options.quiet_s),
    );
    option(options.sealed, " --sealed".to_owned());
    option(options.overrides, " --overrides".to_owned());
    if let Some(uplink) = options.uplink {
        option(true, format!(" --uplink {uplink}"));
    }
    if let Some(cpu) = options.cpu {
        option(true, format!(" --cores {}", cpu.cores));
    }
    if let Some(mutation) = options.mutation {
        option(true, format!(" --mutation {}", mutation.as_str()));
    }
    command.push_str(" --trace history.txt");
    command
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FaultSet;
    use crate::uplink::Uplink;

    #[test]
    fn the_replay_command_names_what_differs() {
        let options = Options {
            loss: 0.2,
            faults: FaultSet::ALL,
            uplink: Some(Uplink::HalfOfPop),
            ..Options::default()
        };
        let command = replay(&options, 17);
        assert!(
            command
                .contains("--first-seed 17 --faults all --loss 0.2 --uplink half-of-pop --trace"),
            "{command}"
        );
    }
}
