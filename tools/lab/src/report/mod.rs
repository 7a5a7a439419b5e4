//! Reports: JSON for programs, one Markdown page with plots for people.

mod plots;
pub(crate) mod series;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::analysis::stats;
use crate::runner::Run;
use crate::scenario::{Layout, Scenario};

/// A scenario and its runs.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Its name.
    pub(crate) scenario: String,
    /// What it shows.
    pub(crate) about: String,
    /// Whether every run passed.
    pub(crate) passed: bool,
    /// Agents, checks, seconds from one probe to the next.
    pub(crate) agents: usize,
    /// Checks.
    pub(crate) checks: usize,
    /// From one probe to the next, seconds.
    pub(crate) interval_s: f64,
    /// How the namespaces lay.
    pub(crate) layout: Layout,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// All runs.
    pub(crate) runs: Vec<Run>,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Processors.
    pub(crate) processors: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// What the agents' program says of itself.
    pub(crate) program: String,
}

impl Machine {
    /// This one.
    pub(crate) fn here(program: &Path) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let version = std::process::Command::new(program)
            .arg("--version")
            .output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        Self {
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.trim().to_owned(),
            program: version.unwrap_or_default().trim().to_owned(),
        }
    }
}

impl Report {
    /// Of a scenario that was played.
    pub(crate) fn of(scenario: &Scenario, machine: &Machine, runs: Vec<Run>) -> Self {
        Self {
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            passed: !runs.is_empty() && runs.iter().all(|run| run.passed),
            agents: scenario.pop.agents,
            checks: scenario.pop.checks,
            interval_s: scenario.pop.interval.0.as_secs_f64(),
            layout: scenario.pop.layout,
            machine: machine.clone(),
            runs,
        }
    }

    /// What to tell at the end, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let word = if self.passed { "passed" } else { "FAILED" };
        lines.push(format!("{}: {word}", self.scenario));
        for (number, run) in self.runs.iter().enumerate() {
            if let Some(error) = &run.error {
                lines.push(format!("  run {}: {error}", number + 1));
            }
            if run.void {
                lines.push(format!(
                    "  run {}: the machine stood still for too long",
                    number + 1
                ));
            }
            for verdict in &run.verdicts {
                let word = if verdict.holds { "ok " } else { "NOT" };
                lines.push(format!(
                    "  run {} {word} {:<44} {:>12}   must be {}",
                    number + 1,
                    verdict.metric,
                    figure(verdict.value),
                    verdict.bound
                ));
            }
        }
        lines
    }

    /// Writes JSON, page and plots into a folder.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let json = dir.join(format!("{}.json", self.scenario));
        fs::write(json, serde_json::to_string_pretty(self)?)?;
        let page = self.page(dir)?;
        fs::write(dir.join(format!("{}.md", self.scenario)), page)?;
        Ok(())
    }

    fn page(&self, dir: &Path) -> Result<String> {
        let mut page = String::new();
        let word = if self.passed { "passed" } else { "failed" };
        let _ = write!(
            page,
            "# {}: {word}\n\n{}\n\n{} agents, {} checks at {} s, namespaces {:?}; {} processors, \
             kernel {}, {}.\n\n",
            self.scenario,
            self.about,
            self.agents,
            self.checks,
            self.interval_s,
            self.layout,
            self.machine.processors,
            self.machine.kernel,
            self.machine.program,
        );
        self.bounds(&mut page);
        self.metrics(&mut page);
        for (number, run) in self.runs.iter().enumerate() {
            let prefix = format!("{}-{}", self.scenario, number + 1);
            let _ = writeln!(page, "\n## Run {} (seed {})\n", number + 1, run.seed);
            for (file, caption) in plots::draw(&run.series, dir, &prefix)? {
                let _ = writeln!(page, "![{caption}]({file})");
            }
            let _ = writeln!(page, "\n| s | what happened |\n| ---: | --- |");
            for (at, what) in &run.timeline {
                let _ = writeln!(page, "| {at:.2} | {} |", what.replace('\n', " / "));
            }
            if !run.voids.is_empty() {
                let _ = writeln!(page, "\nThe machine stood still {} times.", run.voids.len());
            }
        }
        Ok(page)
    }

    fn bounds(&self, page: &mut String) {
        let _ = writeln!(page, "| metric | must be | {} |", self.heads());
        let _ = writeln!(page, "| --- | --- |{}", " ---: |".repeat(self.runs.len()));
        let Some(first) = self.runs.first() else {
            return;
        };
        for (index, verdict) in first.verdicts.iter().enumerate() {
            let cells: Vec<String> = self
                .runs
                .iter()
                .map(|run| {
                    run.verdicts.get(index).map_or(String::new(), |verdict| {
                        let value = figure(verdict.value);
                        if verdict.holds {
                            value
                        } else {
                            format!("**{value}**")
                        }
                    })
                })
                .collect();
            let _ = writeln!(
                page,
                "| {} | {} | {} |",
                verdict.metric,
                verdict.bound,
                cells.join(" | ")
            );
        }
    }

    fn metrics(&self, page: &mut String) {
        let _ = writeln!(page, "\n| everything measured | least | median | most |");
        let _ = writeln!(page, "| --- | ---: | ---: | ---: |");
        for (metric, values) in self.gathered() {
            let cell = |share| figure(stats::percentile(&values, share));
            let _ = writeln!(
                page,
                "| {metric} | {} | {} | {} |",
                cell(0.0),
                cell(0.5),
                cell(1.0)
            );
        }
    }

    fn heads(&self) -> String {
        let heads: Vec<String> = (1..=self.runs.len())
            .map(|run| format!("run {run}"))
            .collect();
        heads.join(" | ")
    }

    /// Every metric with its values over the runs.
    fn gathered(&self) -> BTreeMap<&str, Vec<f64>> {
        let mut gathered: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (metric, value) in self.runs.iter().flat_map(|run| &run.metrics) {
            gathered.entry(metric).or_default().push(*value);
        }
        gathered
    }
}

/// A figure for people.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "not measured".to_owned(),
        Some(value) if value.fract() == 0.0 && value.abs() < 1e12 => format!("{value}"),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.3}"),
    }
}
