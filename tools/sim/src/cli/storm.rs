//! `storm`: a POP whose processors cost time, tried in one way.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use watchfire_sim::agent::Mutation;
use watchfire_sim::cpu::turn::Order;
use watchfire_sim::cpu::{Cores, Costs, CpuOptions};
use watchfire_sim::load::Row;
use watchfire_sim::storm::{self, Scenario, Weathered};
use watchfire_sim::trace::Trace;
use watchfire_sim::workload::Options;

/// Runs a POP on processors on which everything costs what was measured, tries
/// it in one way, and shows in windows of ten seconds what its agents send,
/// probe and spend.
///
/// Ends well if every bound holds and all is calm in the end: nobody is
/// suspected, and each check has one prober.
#[derive(Debug, Args)]
pub(crate) struct Storm {
    /// How the POP is tried: start, cold-start, slow-all, slow-half, slow-one,
    /// hogs, restart-all, reload, kill-third or half-down.
    #[arg(long, default_value = "start")]
    scenario: Scenario,
    /// Nodes of the POP.
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u16).range(2..=1_024))]
    nodes: u16,
    /// Checks, each with an origin of its own.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    checks: u32,
    /// `own`: a core for each node; or how many cores all nodes share.
    #[arg(long, default_value = "2")]
    cores: Cores,
    /// From one probe of a check to the next, milliseconds.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    interval_ms: u64,
    /// The same for a check in doubt.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    fast_ms: u64,
    /// The longest that a probe may take, milliseconds.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    timeout_ms: u64,
    /// From the first start of an agent to the last, milliseconds; 50 for each
    /// node unless said, as a script that starts them takes.
    #[arg(long)]
    start_within_ms: Option<u64>,
    /// When the trial begins, seconds.
    #[arg(long, default_value_t = 30)]
    at_s: u64,
    /// When all ends, seconds.
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u64).range(10..=86_400))]
    until_s: u64,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Read what work costs from here; `costs` writes such a file.
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// Write the readable history here.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Let a turn work off all that lies in the sockets before it looks at
    /// timers, as it once did.
    #[arg(long)]
    sockets_first: bool,
    /// Plant a bug: one of the names that `mutations` lists.
    #[arg(long, value_parser = super::run::mutation)]
    mutation: Option<Mutation>,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl Storm {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let costs = match &self.costs {
            Some(path) => super::costs::read(path)?,
            None => Costs::default(),
        };
        let storm = storm::Storm {
            scenario: self.scenario,
            options: Options {
                nodes: self.nodes.into(),
                checks: self.checks as usize,
                interval_us: self.interval_ms * 1_000,
                timeout_us: Some(self.timeout_ms * 1_000),
                fast_us: Some(self.fast_ms * 1_000),
                mutation: self.mutation,
                ..Options::default()
            },
            cpu: CpuOptions {
                cores: self.cores,
                costs,
                order: if self.sockets_first {
                    Order::SocketsFirst
                } else {
                    Order::default()
                },
            },
            start_within_us: self.start_within_ms.unwrap_or(50 * u64::from(self.nodes)) * 1_000,
            at_s: self.at_s,
            until_s: self.until_s,
        };
        let began = Instant::now();
        let trace = match &self.trace {
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("cannot write the history to {}", path.display()))?;
                Trace::to(Box::new(BufWriter::new(file)))
            }
            None => Trace::default(),
        };
        let (weathered, trace) = storm::run(&storm, self.seed, trace);
        trace.finish().context("cannot write the history")?;
        let took_s = began.elapsed().as_secs_f64();
        if self.json {
            let mut all = serde_json::to_value(&weathered)?;
            let about = json!({
                "scenario": self.scenario.as_str(), "nodes": self.nodes, "checks": self.checks,
                "cores": self.cores.to_string(), "seed": self.seed, "well": weathered.is_well(),
                "took_s": took_s,
            });
            if let (Some(all), Some(about)) = (all.as_object_mut(), about.as_object()) {
                all.extend(about.clone());
            }
            println!("{all}");
        } else {
            println!(
                "{} nodes, {} checks at {} s, cores: {}, {}, seed {} ({took_s:.0} s, {} events)",
                self.nodes,
                self.checks,
                self.interval_ms as f64 / 1e3,
                self.cores,
                self.scenario,
                self.seed,
                weathered.steps,
            );
            show(&weathered);
        }
        Ok(weathered.is_well())
    }
}

fn show(weathered: &Weathered) {
    println!(
        "{:>5} {:>6} {:>6} {:>7} {:>6} {:>6} {:>6} {:>5} {:>12} {:>6} {:>6} {:>5} {:>5} {:>6} {:>5} {:>6} {:>10} {:>6} {:>12}",
        "until",
        "dg/s",
        "peak",
        "B/s",
        "bulk",
        "gossip",
        "probe",
        "busy",
        "probes/want",
        "unmeas",
        "by two",
        "none",
        "susp",
        "died",
        "false",
        "not up",
        "Down good",
        "drop",
        "turn/cpu ms"
    );
    for row in &weathered.rows {
        show_row(row);
    }
    let kinds = weathered.kinds.iter().filter(|(_, rate)| *rate >= 0.05);
    let kinds: Vec<String> = kinds
        .map(|(kind, rate)| format!("{kind} {rate:.1}"))
        .collect();
    println!("datagrams per agent and second: {}", kinds.join(", "));
    let at = |at: Option<f64>| at.map_or("never".to_owned(), |at| format!("at {at:.1} s"));
    println!("formed: {}", at(weathered.formed_s));
    println!(
        "calm to the end: {}",
        match weathered.calm_since_s {
            Some(since_s) => format!("since {since_s:.1} s"),
            None => "never".to_owned(),
        }
    );
    if let Some(ended_s) = weathered.trial_ended_s {
        println!("the trial ended: at {ended_s:.1} s");
    }
    for broken in &weathered.broken {
        println!(
            "bound broken: {} ({} times, first at {:.1} s, worst {:.1})",
            broken.bound, broken.times, broken.first_s, broken.worst
        );
    }
    for (invariant, times) in &weathered.violations {
        let first = weathered
            .first_violations
            .iter()
            .find(|first| first.invariant == invariant);
        let words = first.map_or("", |first| first.words.as_str());
        println!("invariant broken: {invariant} ({times} times): {words}");
    }
    println!(
        "{}",
        if weathered.is_well() {
            "all is well"
        } else {
            "not well"
        }
    );
}

fn show_row(row: &Row) {
    println!(
        "{:>4}s {:>6.1} {:>6} {:>7.0} {:>6.0} {:>5.2}% {:>5.2}% {:>4.0}% {:>6}/{:<5} {:>6} {:>6} {:>5} {:>5} {:>6} {:>5} {:>6} {:>10} {:>6} {:>6.0}/{:<5.1}",
        row.until_s,
        row.datagrams_per_s,
        row.datagrams_peak,
        row.bytes_per_s,
        row.bulk_bytes_per_s,
        row.gossip_cpu_percent,
        row.probe_cpu_percent,
        row.busy_percent,
        row.probes,
        row.wanted,
        row.unmeasured,
        row.by_two,
        row.by_none,
        row.suspected,
        row.died,
        row.false_downs,
        row.table_not_up,
        row.table_down,
        row.dropped,
        row.turn_ms.0,
        row.turn_ms.1,
    );
}
