//! The report: what the simulator measures, as tables and charts in `docs/`,
//! with the seeds, so that anybody can repeat it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::compare::net::Weather;
use crate::compare::scenario::Slowness;
use crate::compare::{Contestant, change, scenario};
use crate::faults::{Fault, FaultSet};
use crate::plot::{self, Chart, PlotError, Series, distribution};
use crate::run::{self, Summary};
use crate::stats::Sample;
use crate::workload::Options;

/// How much is run.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Nodes and checks of the main runs.
    pub main: (usize, usize),
    /// Seeds of each of them.
    pub main_seeds: u64,
    /// Checks of the one large run; 0 for none.
    pub large_checks: usize,
    /// Sizes for "against N".
    pub sizes: Vec<usize>,
    /// Sizes for idleness.
    pub idle_sizes: Vec<usize>,
    /// Seeds for each size.
    pub size_seeds: u64,
    /// Crashes per contestant.
    pub crashes: u64,
    /// Numbers of slow members, among [`Scale::mistakes_nodes`].
    pub slow: Vec<usize>,
    /// Members of the runs with slow members and losses.
    pub mistakes_nodes: usize,
    /// Their length, seconds.
    pub mistakes_s: u64,
    /// Changes that are spread beside chitchat.
    pub changes: usize,
    /// Threads.
    pub threads: usize,
}

impl Scale {
    /// What the committed report was made with: some minutes of two cores,
    /// without the one large run.
    #[must_use]
    pub fn full(threads: usize) -> Self {
        Self {
            main: (168, 5_000),
            main_seeds: 3,
            large_checks: 0,
            sizes: vec![4, 8, 16, 32, 64, 128, 168],
            idle_sizes: vec![4, 16, 64, 168, 500, 1_000],
            size_seeds: 3,
            crashes: 12,
            slow: vec![1, 4, 8, 16, 24],
            mistakes_nodes: 64,
            mistakes_s: 300,
            changes: 30,
            threads,
        }
    }

    /// A glance, to see that the report can be made.
    #[must_use]
    pub fn quick(threads: usize) -> Self {
        Self {
            main: (16, 200),
            main_seeds: 2,
            large_checks: 0,
            sizes: vec![4, 16],
            idle_sizes: vec![4, 16],
            size_seeds: 1,
            crashes: 3,
            slow: vec![1, 4],
            mistakes_nodes: 16,
            mistakes_s: 60,
            changes: 3,
            threads,
        }
    }
}

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A chart.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The text.
    #[error("cannot write {}: {source}; check that its folder exists and can be written", path.display())]
    Text {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another's library did not start.
    #[error("chitchat did not start: {0}")]
    Peer(anyhow::Error),
}

/// How slow a slow member of the report is: the harshest setting in which
/// Lifeguard's authors ran theirs for this long (arXiv 1707.00788).
pub const SLOW: (u64, u64) = (8_192_000, 64_000);

/// Runs everything and writes `simulation.md` and its charts into `folder`;
/// `step` hears what is being done.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write(folder: &Path, scale: &Scale, step: &dyn Fn(&str)) -> Result<(), ReportError> {
    let mut report = Report {
        folder,
        scale,
        step,
        text: String::new(),
    };
    report.opening();
    report.workload()?;
    report.against_n()?;
    report.idle()?;
    report.contest()?;
    report.mistakes()?;
    report.changes()?;
    let path = folder.join("simulation.md");
    std::fs::write(&path, &report.text).map_err(|source| ReportError::Text { path, source })
}

struct Report<'a> {
    folder: &'a Path,
    scale: &'a Scale,
    step: &'a dyn Fn(&str),
    text: String,
}

impl Report<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn chart(&mut self, file: &str, chart: Chart<'_>, series: &[Series]) -> Result<(), PlotError> {
        plot::lines(&self.folder.join(file), chart, series)?;
        self.line(&format!("\n![{}]({file})\n", chart.title));
        Ok(())
    }

    fn opening(&mut self) {
        self.line("# What the simulator measures");
        self.line("");
        self.line("Written by `cargo run --release -p watchfire-sim -- report`. The production core runs in virtual time over a simulated network: 0.2 ms round trip, a membership period of 200 ms, an interval of 1 s, all defaults. Every figure can be had again from its seeds, on any machine.");
    }

    fn summary(&self, options: &Options, seeds: u64) -> Summary {
        let verdicts = run::many(*options, 0..seeds, self.scale.threads, &|_| true);
        Summary::of(options, &verdicts)
    }

    fn workload(&mut self) -> Result<(), ReportError> {
        let (nodes, checks) = self.scale.main;
        let seeds = self.scale.main_seeds;
        self.line(&format!(
            "\n## The standard workload: {nodes} nodes, {checks} checks, seeds 0 to {}\n",
            seeds - 1
        ));
        self.line("Settle, one transition, half of all origins down and up, a crash, a restart, a quiet minute. Times in milliseconds, p50 / p99 / worst.\n");
        self.line("| | loss 0 | loss 5 % | loss 20 % |");
        self.line("| --- | --- | --- | --- |");
        let runs: Vec<Summary> = [0.0, 0.05, 0.2]
            .into_iter()
            .map(|loss| {
                (self.step)(&format!("{nodes} nodes, {checks} checks, loss {loss}"));
                self.summary(&lossy(nodes, checks, loss), seeds)
            })
            .collect();
        let row = |name: &str, cell: &dyn Fn(&Summary) -> String| {
            let cells: Vec<String> = runs.iter().map(cell).collect();
            format!("| {name} | {} |", cells.join(" | "))
        };
        let lines = [
            row("crash known to the first member", &|s| {
                times(&s.measures.detect_first_ms)
            }),
            row("crash known to all", &|s| times(&s.measures.detect_all_ms)),
            row("takeover gap beyond the interval", &|s| {
                times(&s.measures.takeover_gap_ms)
            }),
            row("one transition in every table", &|s| {
                times(&s.measures.spread_ms)
            }),
            row("each of a mass of transitions in every table", &|s| {
                times(&s.measures.mass_spread_ms)
            }),
            row("bytes per mass transition and replica", &|s| {
                format!("{:.0}", s.measures.mass_bytes_per_slot(nodes))
            }),
            row("second probes in the quiet minute", &|s| {
                format!(
                    "{} of {}",
                    s.measures.quiet_duplicates, s.measures.quiet_probes
                )
            }),
            row("idle bytes/s per node, headers counted", &|s| {
                format!("{:.0}", s.measures.idle_bytes_per_node_s())
            }),
            row("living members held for dead", &|s| {
                s.measures.false_positives.to_string()
            }),
            row("good origins called Down", &|s| {
                s.measures.false_downs.to_string()
            }),
            row("violations of an invariant", &|s| s.violations.to_string()),
        ];
        for line in lines {
            self.line(&line);
        }
        let names = ["loss 0", "loss 5 %", "loss 20 %"];
        let spread = |of: &dyn Fn(&Summary) -> &Sample| -> Vec<Series> {
            names
                .iter()
                .zip(&runs)
                .map(|(name, s)| distribution(name, of(s).values()))
                .collect()
        };
        let chart = Chart {
            title: "Takeover after a crash",
            x_label: "first probe by another node, ms beyond the interval",
            y_label: "share of checks",
            log_x: false,
        };
        self.chart(
            "takeover.svg",
            chart,
            &spread(&|s| &s.measures.takeover_gap_ms),
        )?;
        if self.scale.large_checks > 0 {
            let checks = self.scale.large_checks;
            (self.step)(&format!("{nodes} nodes, {checks} checks"));
            let s = self.summary(&lossy(nodes, checks, 0.0), 1);
            self.line(&format!(
                "Once with {checks} checks (seed 0, loss 0): crash known to all after {} ms, takeover gap {}, one transition everywhere {}, each of a mass everywhere {}, {} second probes in the quiet minute, {} violations.",
                times(&s.measures.detect_all_ms),
                times(&s.measures.takeover_gap_ms),
                times(&s.measures.spread_ms),
                times(&s.measures.mass_spread_ms),
                s.measures.quiet_duplicates,
                s.violations,
            ));
        }
        Ok(())
    }

    fn against_n(&mut self) -> Result<(), ReportError> {
        let seeds = self.scale.size_seeds;
        self.line(&format!(
            "\n## Against the number of nodes (10 checks per node, loss 0, seeds 0 to {})\n",
            seeds - 1
        ));
        self.line("| nodes | crash known to all, ms | takeover gap, ms | one transition everywhere, ms | mass, each, ms |");
        self.line("| --- | --- | --- | --- | --- |");
        let mut spread = Vec::new();
        let mut mass = Vec::new();
        for n in self.scale.sizes.clone() {
            (self.step)(&format!("{n} nodes"));
            let m = self.summary(&lossy(n, 10 * n, 0.0), seeds).measures;
            self.line(&format!(
                "| {n} | {} | {} | {} | {} |",
                times(&m.detect_all_ms),
                times(&m.takeover_gap_ms),
                times(&m.spread_ms),
                times(&m.mass_spread_ms)
            ));
            spread.push((n as f64, m.spread_ms.percentile(0.99).unwrap_or(0.0)));
            mass.push((n as f64, m.mass_spread_ms.percentile(0.99).unwrap_or(0.0)));
        }
        let chart = Chart {
            title: "A transition in every table, against the number of nodes",
            x_label: "nodes",
            y_label: "p99, ms",
            log_x: false,
        };
        let series = [
            Series {
                name: "one transition".into(),
                points: spread,
            },
            Series {
                name: "each of a mass".into(),
                points: mass,
            },
        ];
        Ok(self.chart("convergence.svg", chart, &series)?)
    }

    fn idle(&mut self) -> Result<(), ReportError> {
        self.line("\n## What idleness costs (seed 0, a minute, headers counted)\n");
        self.line("| members | watchfire | memberlist (model) | foca |");
        self.line("| --- | --- | --- | --- |");
        let mut series: Vec<Series> = Contestant::ALL
            .iter()
            .map(|who| Series {
                name: who.as_str().into(),
                points: Vec::new(),
            })
            .collect();
        for n in self.scale.idle_sizes.clone() {
            let mut cells = String::new();
            for (who, line) in Contestant::ALL.iter().zip(&mut series) {
                (self.step)(&format!("{n} idle members, {}", who.as_str()));
                let idle = who.idle(n, Weather::default(), 0);
                line.points.push((n as f64, idle.bytes_per_s));
                let _ = write!(
                    cells,
                    " {:.0} B/s in {:.1} packets/s |",
                    idle.bytes_per_s, idle.packets_per_s
                );
            }
            self.line(&format!("| {n} |{cells}"));
        }
        self.line("\nWatchfire's period is a fifth of the others'.");
        let chart = Chart {
            title: "Bytes sent per idle member and second",
            x_label: "members",
            y_label: "bytes/s",
            log_x: true,
        };
        Ok(self.chart("idle.svg", chart, &series)?)
    }

    fn contest(&mut self) -> Result<(), ReportError> {
        let n = self.scale.main.0;
        let crashes = self.scale.crashes;
        self.line(&format!(
            "\n## A crash among {n} members, beside others (seeds 0 to {})\n",
            crashes - 1
        ));
        self.line("| | first member knows, ms | all know, ms | never known to all |");
        self.line("| --- | --- | --- | --- |");
        let mut series = Vec::new();
        for who in Contestant::ALL {
            (self.step)(&format!("{crashes} crashes, {}", who.as_str()));
            let found = who.detection(n, Weather::default(), 0..crashes);
            self.line(&format!(
                "| {} | {} | {} | {} |",
                who.as_str(),
                times(&found.first_ms),
                times(&found.all_ms),
                found.missed
            ));
            series.push(distribution(who.as_str(), found.all_ms.values()));
        }
        self.line("\nThe memberlist model was checked against the real one (0.2.2, LAN defaults): the median time until the last member knows is 10.2, 11.8 and 13.2 s at 64, 168 and 500 members there.");
        let chart = Chart {
            title: "Crash known to all members",
            x_label: "ms after the crash",
            y_label: "share of crashes",
            log_x: false,
        };
        Ok(self.chart("detection.svg", chart, &series)?)
    }

    fn mistakes(&mut self) -> Result<(), ReportError> {
        let (n, seconds) = (self.scale.mistakes_nodes, self.scale.mistakes_s);
        self.line(&format!(
            "\n## Healthy members held for dead ({n} members, {seconds} s, seed 0)\n"
        ));
        self.line(&format!(
            "Slow members are blocked for {} ms and run for {} ms, over and over. Counted at each member that held a healthy one for dead; in brackets, at healthy members only.\n",
            SLOW.0 / 1_000,
            SLOW.1 / 1_000
        ));
        self.line("| | watchfire | memberlist (model) | foca |");
        self.line("| --- | --- | --- | --- |");
        let mut series: Vec<Series> = Contestant::ALL
            .iter()
            .map(|who| Series {
                name: who.as_str().into(),
                points: Vec::new(),
            })
            .collect();
        let slow = self.scale.slow.iter().map(|&members| (members, 0.0));
        let settings: Vec<_> = slow.chain([(0, 0.05), (0, 0.2), (4, 0.05)]).collect();
        for (members, loss) in settings {
            let mut cells = String::new();
            for (who, line) in Contestant::ALL.iter().zip(&mut series) {
                (self.step)(&format!("{members} slow, loss {loss}, {}", who.as_str()));
                let slowness = Slowness {
                    members,
                    blocked_us: SLOW.0,
                    running_us: SLOW.1,
                };
                let weather = Weather {
                    loss,
                    ..Weather::default()
                };
                let found: scenario::Mistakes = who.mistakes(n, weather, slowness, seconds, 0);
                let _ = write!(cells, " {} ({}) |", found.false_positives, found.at_healthy);
                if loss == 0.0 {
                    line.points
                        .push((members as f64, found.false_positives as f64));
                }
            }
            self.line(&format!(
                "| {members} slow, {:.0} % loss |{cells}",
                loss * 100.0
            ));
        }
        let chart = Chart {
            title: "Healthy members held for dead, against slow members",
            x_label: "slow members",
            y_label: "false deaths",
            log_x: false,
        };
        Ok(self.chart("mistakes.svg", chart, &series)?)
    }
}

impl Report<'_> {
    /// Replication beside chitchat's.
    fn changes(&mut self) -> Result<(), ReportError> {
        let (nodes, changes) = (self.scale.main.0, self.scale.changes);
        let values = 10 * nodes;
        self.line(&format!(
            "\n## One change after another, beside chitchat ({nodes} nodes, {values} values, {changes} changes, seed 0)\n"
        ));
        self.line("A change of Watchfire's is an origin that turns Down; the two second opinions it takes are among its bytes. chitchat (the crate, 0.13) gossips in rounds: its own period of 1 s, and the 200 ms of Watchfire's.\n");
        self.line("| | change in every replica, ms | idle, bytes/s per node | bytes per change and replica |");
        self.line("| --- | --- | --- | --- |");
        (self.step)(&format!("{changes} changes, watchfire"));
        let mut rows = vec![(
            "watchfire".to_owned(),
            change::watchfire(nodes, values, changes, 0),
        )];
        for period in [Duration::from_secs(1), Duration::from_millis(200)] {
            let name = format!("chitchat, a round per {} ms", period.as_millis());
            (self.step)(&format!("{changes} changes, {name}"));
            let found = change::chitchat(nodes, values, changes, period);
            rows.push((name, found.map_err(ReportError::Peer)?));
        }
        for (name, found) in rows {
            self.line(&format!(
                "| {name} | {} | {:.0} | {:.0} |",
                times(&found.spread_ms),
                found.idle_bytes_per_s,
                found.bytes_per_change
            ));
        }
        Ok(())
    }
}

fn lossy(nodes: usize, checks: usize, loss: f64) -> Options {
    let faults = if loss > 0.0 {
        FaultSet::NONE.with(Fault::Loss)
    } else {
        FaultSet::NONE
    };
    Options {
        nodes,
        checks,
        faults,
        loss,
        ..Options::default()
    }
}

fn times(sample: &Sample) -> String {
    let at = |share| {
        sample
            .percentile(share)
            .map_or("-".to_owned(), |ms| format!("{ms:.1}"))
    };
    format!("{} / {} / {}", at(0.5), at(0.99), at(1.0))
}
