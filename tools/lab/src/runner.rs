//! Plays scenarios and judges them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::analysis::span::Span;
use crate::analysis::stats;
use crate::cleanup::{self, Reaper};
use crate::clock::{self, Us};
use crate::lab::{self, Lab};
use crate::report::series::Series;
use crate::sampler;
use crate::scenario::{Bound, Scenario};
use crate::steps;

/// How often a run is repeated in which the machine stood still.
const REPEATS: usize = 2;

/// One run, judged.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// What its picks were drawn from.
    pub(crate) seed: u64,
    /// Whether every bound held.
    pub(crate) passed: bool,
    /// Why it ended early, if it did.
    pub(crate) error: Option<String>,
    /// Whether the machine stood still so long that the run says nothing.
    pub(crate) void: bool,
    /// Every bound and what was measured.
    pub(crate) verdicts: Vec<Verdict>,
    /// Everything that was measured.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// What happened when, seconds from the beginning.
    pub(crate) timeline: Vec<(f64, String)>,
    /// When the machine stood still.
    pub(crate) voids: Vec<Span>,
    /// Agents that ended by themselves: which, how, last words.
    pub(crate) exits: Vec<(usize, String, String)>,
    /// For the plots.
    #[serde(skip)]
    pub(crate) series: Series,
}

/// One bound and what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    /// The metric.
    pub(crate) metric: String,
    /// What it must be.
    pub(crate) bound: String,
    /// What it is.
    pub(crate) value: Option<f64>,
    /// Whether that is within.
    pub(crate) holds: bool,
}

/// What a run is played with.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a> {
    /// The agents' program.
    pub(crate) program: &'a Path,
    /// Where the agents' text is kept, if it is.
    pub(crate) keep: Option<&'a Path>,
}

/// Plays a scenario; again if the machine stood still.
pub(crate) fn play(scenario: &Scenario, options: &Options<'_>, seed: u64) -> Run {
    let mut run = once(scenario, options, seed);
    for _ in 0..REPEATS {
        if !run.void {
            break;
        }
        eprintln!("  the machine stood still: playing it again");
        run = once(scenario, options, seed);
    }
    run
}

fn once(scenario: &Scenario, options: &Options<'_>, seed: u64) -> Run {
    with_lab(scenario, options, seed, |lab| steps_of(lab, scenario))
}

/// Sets a lab up, does something in it, judges it and cleans up.
pub(crate) fn with_lab(
    scenario: &Scenario,
    options: &Options<'_>,
    seed: u64,
    act: impl FnOnce(&mut Lab) -> Result<()>,
) -> Run {
    static RUNS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let id = lab::run_id(number);
    let played = Reaper::start(&id).and_then(|reaper| {
        let mut lab = Lab::set_up(scenario, options.program, &id, seed)?;
        let failed = act(&mut lab).err();
        let run = judge(&mut lab, scenario, seed, failed.map(|e| format!("{e:#}")));
        if let Some(dir) = options.keep {
            keep(&lab, dir);
        }
        drop(lab);
        cleanup::remove(&id);
        drop(reaper);
        Ok(run)
    });
    played.unwrap_or_else(|error| Run {
        seed,
        passed: false,
        error: Some(format!("{error:#}")),
        void: false,
        verdicts: Vec::new(),
        metrics: BTreeMap::new(),
        timeline: Vec::new(),
        voids: Vec::new(),
        exits: Vec::new(),
        series: Series::default(),
    })
}

fn steps_of(lab: &mut Lab, scenario: &Scenario) -> Result<()> {
    for step in &scenario.steps {
        steps::play(lab, step)?;
        if let Some(missed) = lab.missed.take() {
            bail!("{missed}; the steps after it were not played");
        }
    }
    // The last second, for the log and the last sweep.
    lab.pass(Duration::from_millis(700))
}

fn judge(lab: &mut Lab, scenario: &Scenario, seed: u64, error: Option<String>) -> Run {
    whole_run(lab);
    let verdicts = verdicts(&scenario.expect, &lab.metrics);
    let begun = lab.begun;
    Run {
        seed,
        passed: error.is_none() && !lab.void && verdicts.iter().all(|verdict| verdict.holds),
        error,
        void: lab.void,
        verdicts,
        metrics: lab.metrics.clone(),
        timeline: lab
            .timeline
            .iter()
            .map(|(at, text)| (clock::seconds(at - begun), text.clone()))
            .collect(),
        voids: lab.canary.voids(),
        exits: lab
            .exits
            .iter()
            .map(|exit| (exit.agent, exit.how.clone(), exit.said.clone()))
            .collect(),
        series: Series::of(lab),
    }
}

/// Holds what was measured against the bounds.
fn verdicts(expect: &BTreeMap<String, Bound>, metrics: &BTreeMap<String, f64>) -> Vec<Verdict> {
    let verdict = |(metric, bound): (&String, &Bound)| {
        let value = metrics.get(metric).copied();
        Verdict {
            metric: metric.clone(),
            bound: bound.to_string(),
            value,
            holds: bound.holds(value),
        }
    };
    expect.iter().map(verdict).collect()
}

/// Metrics of the run as a whole.
fn whole_run(lab: &mut Lab) {
    let end = clock::now();
    let length = clock::seconds(end - lab.begun);
    let (false_downs, lost) = {
        let board = lab.observer.board();
        (board.false_downs.len(), board.lost.len())
    };
    lab.metric("run", "false_downs", false_downs as f64);
    lab.metric("run", "verdicts_lost", lost as f64);
    lab.metric("run", "exits", lab.exits.len() as f64);
    lab.metric("run", "seconds", length);
    lab.metric("run", "voided", lab.voided as f64);
    let still: Us = lab.canary.voids().iter().map(|void| void.length()).sum();
    lab.metric("run", "still_s", clock::seconds(still));
    let seconds = sampler::seconds(&lab.samples());
    let worst = |of: fn(&sampler::Second) -> &Vec<f64>| {
        let all: Vec<f64> = seconds
            .iter()
            .flat_map(|second| of(second).clone())
            .collect();
        stats::percentile(&all, 1.0).unwrap_or(0.0)
    };
    let (packets, bytes, bulk) = (
        worst(|second| &second.packets),
        worst(|second| &second.bytes),
        worst(|second| &second.bulk),
    );
    lab.metric("run", "packets_worst_s", packets);
    lab.metric("run", "bytes_worst_s", bytes);
    lab.metric("run", "bulk_worst_s", bulk);
    let observer = lab.observer.cpu_ns() as f64 / 1e9 / length * 100.0;
    lab.metric("run", "observer_percent", observer);
    let told = {
        let record = lab.journal.record();
        let count = |word| record.told.iter().filter(|told| told.what == word).count() as f64;
        [
            ("suspicions_told", count(crate::journal::Word::Suspected)),
            ("deaths_told", count(crate::journal::Word::Died)),
            ("downs_told", record.downs_told as f64),
            ("probes", record.probes.len() as f64),
        ]
    };
    for (what, value) in told {
        lab.metric("run", what, value);
    }
}

/// Copies the agents' text and the origins' log to where they outlive the run.
fn keep(lab: &Lab, dir: &Path) {
    let copy = |from: &Path, to: String| {
        if let Err(error) = std::fs::copy(from, dir.join(&to)) {
            eprintln!("  cannot keep {to}: {error}");
        }
    };
    if let Err(error) = std::fs::create_dir_all(dir) {
        eprintln!("  cannot make {}: {error}", dir.display());
        return;
    }
    for agent in 0..lab.agents.len() {
        if lab.agents.log(agent).exists() {
            copy(&lab.agents.log(agent), format!("n{agent}.log"));
        }
    }
    copy(&lab.origins.log(), "access.log".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(expect: &str) -> Scenario {
        let text = format!(
            "about = \"x\"\nstep = []\n[pop]\nagents = 1\nchecks = 1\ninterval = \"1s\"\n\
             [expect]\n{expect}\n"
        );
        Scenario::parse(&text, Path::new("x.toml")).unwrap()
    }

    #[test]
    fn an_expectation_can_fail() {
        let expect = scenario("\"steady.ratio\" = \"0.995..1.005\"").expect;
        let held = |value: f64| {
            let metrics = BTreeMap::from([("steady.ratio".to_owned(), value)]);
            verdicts(&expect, &metrics)[0].holds
        };
        assert!(held(1.0));
        assert!(!held(1.006));
        assert!(!held(0.99));
    }

    #[test]
    fn an_expectation_of_what_was_not_measured_fails() {
        let expect = scenario("\"steady.ratio\" = \"0..\"").expect;
        let judged = verdicts(&expect, &BTreeMap::new());
        assert!(!judged[0].holds);
    }
}
