//! The command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use nix::unistd::geteuid;

use crate::cleanup;
use crate::report::{Machine, Report};
use crate::runner::{self, Options, Run};
use crate::scenario::{Layout, Scenario};
use crate::soak;

/// Real POPs in network namespaces of this machine, judged from outside.
#[derive(Parser)]
#[command(
    name = "watchfire-lab",
    version,
    after_help = "It needs root, nftables, iproute2, util-linux and nginx-light, and what it \
                  judges:\n  cargo build --release -p watchfire -p watchfire-lab\n  \
                  watchfire-lab list\n  watchfire-lab run steady-16\n  \
                  watchfire-lab run mustshow-1 --runs 5 --out report\n\n\
                  It takes what processors there are: nothing else should run beside it.\n\
                  Exit status: 0 every bound held, 1 one did not, 2 it could not be played."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Play scenarios and hold what is measured against their bounds
    Run(RunOptions),
    /// Name the scenarios that come with the lab
    List {
        /// Print one JSON object on the last line instead of text for people
        #[arg(long)]
        json: bool,
    },
    /// Play the short scenarios that guard every change
    Ci(Common),
    /// Random faults for hours: calm after each, memory and descriptors flat
    Soak {
        /// For how long
        #[arg(long, default_value_t = 1.0)]
        hours: f64,
        /// With so many agents
        #[arg(long, default_value_t = 16)]
        agents: usize,
        /// With so many checks
        #[arg(long, default_value_t = 1_000)]
        checks: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Remove what labs that are no more have left behind
    Clean {
        /// Print one JSON object on the last line instead of text for people
        #[arg(long)]
        json: bool,
    },
    /// Clean up after a lab once standard input ends
    #[command(hide = true)]
    Reap { id: String },
}

#[derive(Args)]
struct RunOptions {
    /// Names of scenarios that come with the lab, or files
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Play each so many times, each with the next seed
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Play it with so many agents
    #[arg(long)]
    agents: Option<usize>,
    /// Play it with so many checks
    #[arg(long)]
    checks: Option<usize>,
    /// Play it with namespaces that lie so
    #[arg(long, value_enum)]
    layout: Option<Layout>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// What random picks are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The agents' program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    watchfire: Option<PathBuf>,
    /// Write a JSON report of all scenarios to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots per scenario into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep the agents' text and the origins' log in --out
    #[arg(long, requires = "out")]
    keep: bool,
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(options) => run(&options),
        Verb::Ci(common) => ci(&common),
        Verb::Soak {
            hours,
            agents,
            checks,
            common,
        } => soak(hours, agents, checks, &common),
        Verb::List { json } => list(json).map(|()| true),
        Verb::Clean { json } => {
            clean(json);
            Ok(true)
        }
        Verb::Reap { id } => {
            cleanup::reap(&id);
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &RunOptions) -> Result<bool> {
    let mut scenarios = Vec::new();
    for name in &options.scenarios {
        let mut scenario = Scenario::load(name)?;
        scenario.pop.agents = options.agents.unwrap_or(scenario.pop.agents);
        scenario.pop.checks = options.checks.unwrap_or(scenario.pop.checks);
        scenario.pop.layout = options.layout.unwrap_or(scenario.pop.layout);
        scenario.check()?;
        scenarios.push(scenario);
    }
    play(&scenarios, options.runs, &options.common)
}

fn ci(common: &Common) -> Result<bool> {
    let mut scenarios = Scenario::all()?;
    scenarios.retain(|scenario| scenario.ci);
    play(&scenarios, 1, common)
}

fn soak(hours: f64, agents: usize, checks: usize, common: &Common) -> Result<bool> {
    let length = Duration::try_from_secs_f64(hours * 3_600.0)
        .context("--hours must be a length of time, like 0.5")?;
    let scenario = soak::scenario(agents, checks)?;
    play_by(&[scenario], 1, common, |scenario, options, seed| {
        runner::with_lab(scenario, options, seed, |lab| soak::play(lab, length))
    })
}

fn play(scenarios: &[Scenario], runs: u64, common: &Common) -> Result<bool> {
    play_by(scenarios, runs, common, runner::play)
}

/// Plays scenarios in a way of its own, and reports.
fn play_by(
    scenarios: &[Scenario],
    runs: u64,
    common: &Common,
    by: impl Fn(&Scenario, &Options<'_>, u64) -> Run,
) -> Result<bool> {
    if !geteuid().is_root() {
        bail!("namespaces need root: run it as root, or with sudo");
    }
    let program = program(common.watchfire.as_deref())?;
    let machine = Machine::here(&program);
    let mut reports = Vec::new();
    for scenario in scenarios {
        let mut played = Vec::new();
        for number in 0..runs {
            let seed = common.seed + number;
            eprintln!(
                "{}: {} agents, {} checks, run {} of {runs}",
                scenario.name,
                scenario.pop.agents,
                scenario.pop.checks,
                number + 1
            );
            let text = common.out.as_deref().filter(|_| common.keep);
            let text = text.map(|dir| dir.join(format!("{}-{}", scenario.name, number + 1)));
            let options = Options {
                program: &program,
                keep: text.as_deref(),
            };
            played.push(by(scenario, &options, seed));
        }
        let report = Report::of(scenario, &machine, played);
        for line in report.lines() {
            println!("{line}");
        }
        if let Some(dir) = &common.out {
            report.write(dir)?;
        }
        reports.push(report);
    }
    if let Some(file) = &common.json {
        fs::write(file, serde_json::to_string_pretty(&reports)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(reports.iter().all(|report| report.passed))
}

/// The agents' program: the one named, or the one that was built beside this.
fn program(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("watchfire"),
    };
    let path = fs::canonicalize(&path).with_context(|| {
        format!(
            "there is no agent at {}: cargo build --release -p watchfire, or name one with \
             --watchfire",
            path.display()
        )
    })?;
    Ok(path)
}

fn list(json: bool) -> Result<()> {
    let all = Scenario::all()?;
    if json {
        let rows: Vec<_> = all
            .iter()
            .map(|scenario| {
                serde_json::json!({
                    "name": scenario.name,
                    "about": scenario.about,
                    "agents": scenario.pop.agents,
                    "checks": scenario.pop.checks,
                    "ci": scenario.ci,
                })
            })
            .collect();
        println!("{}", serde_json::Value::from(rows));
        return Ok(());
    }
    for scenario in &all {
        println!(
            "{:<20} {:>4} agents {:>6} checks{}  {}",
            scenario.name,
            scenario.pop.agents,
            scenario.pop.checks,
            if scenario.ci { "  ci" } else { "    " },
            scenario.about
        );
    }
    Ok(())
}

fn clean(json: bool) {
    let left = cleanup::left_over();
    for id in &left {
        cleanup::remove(id);
    }
    if json {
        println!("{}", serde_json::json!({ "removed": left }));
    } else if left.is_empty() {
        println!("nothing was left behind");
    } else {
        println!("removed what was left of {}", left.join(", "));
    }
}
