//! `run`: seeds of the standard workload.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use clap::Args;
use watchfire_sim::agent::Mutation;
use watchfire_sim::cpu::{Cores, CpuOptions};
use watchfire_sim::faults::{Fault, FaultSet};
use watchfire_sim::run::{self, Summary, Verdict};
use watchfire_sim::stats::Sample;
use watchfire_sim::trace::Trace;
use watchfire_sim::uplink::Uplink;
use watchfire_sim::workload::Options;

use super::{all_threads, progress};

/// Every run plays the same workload: nodes start and settle, one origin fails
/// and recovers, half of all origins do, one process is killed and started
/// again, and nothing happens for a minute. Faults come on top: some last (a
/// lossy network), some happen in a stretch of turmoil before the workload.
#[derive(Debug, Args)]
#[command(after_long_help = faults_help())]
pub(crate) struct Run {
    /// Nodes of the POP.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(2..=1_024))]
    nodes: u16,
    /// Checks, each with an origin of its own.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    checks: u32,
    /// How many seeds to run.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// all, none, or names with commas between them; -NAME takes one away.
    #[arg(long, default_value = "none", allow_hyphen_values = true)]
    faults: FaultSet,
    /// The share of datagrams lost, with the fault `loss`.
    #[arg(long, default_value_t = 0.05, value_parser = share)]
    loss: f64,
    /// From one probe of a check to the next, milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    interval_ms: u64,
    /// The length of the quiet minute, seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    quiet_s: u64,
    /// Seal frames with a real key instead of a checksum.
    #[arg(long)]
    sealed: bool,
    /// Operators decide about origins all the while, and one wall clock is an
    /// hour off.
    #[arg(long)]
    overrides: bool,
    /// Instead of the standard workload: the way to the origins fails, or many
    /// origins really do.
    #[arg(long, value_enum)]
    uplink: Option<Uplink>,
    /// Let processors cost time: `own`, a core for each node, or how many cores
    /// all nodes share. The production probe engine probes then, and what
    /// agents may send, probe and spend is bounded.
    #[arg(long)]
    cores: Option<Cores>,
    /// Plant a bug: one of the names that `mutations` lists.
    #[arg(long, value_parser = mutation)]
    mutation: Option<Mutation>,
    /// Write the readable history of the first seed here.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Threads; all processors unless said.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let options = Options {
            nodes: self.nodes.into(),
            checks: self.checks as usize,
            faults: self.faults,
            loss: self.loss,
            interval_us: self.interval_ms * 1_000,
            quiet_s: self.quiet_s,
            sealed: self.sealed,
            mutation: self.mutation,
            uplink: self.uplink,
            overrides: self.overrides,
            cpu: self.cores.map(CpuOptions::of),
            ..Options::default()
        };
        let verdicts = match &self.trace {
            Some(path) => vec![traced(options, self.first_seed, path)?],
            None => self.all(options),
        };
        let summary = Summary::of(&options, &verdicts);
        if self.json {
            println!("{}", summary.to_json());
        } else {
            show(&options, &summary);
        }
        Ok(summary.violations == 0)
    }

    fn all(&self, options: Options) -> Vec<Verdict> {
        let seeds = self.first_seed..self.first_seed.saturating_add(self.seeds);
        let bar = progress::bar(self.seeds, "seeds");
        let failed = AtomicUsize::new(0);
        let done = |verdict: &Verdict| {
            bar.inc(1);
            for violation in verdict.violations.iter().take(1) {
                let failed = failed.fetch_add(1, Ordering::Relaxed) + 1;
                bar.set_prefix(format!("{failed} failed"));
                bar.suspend(|| describe(&options, verdict.seed, violation));
            }
            true
        };
        let threads = self.threads.unwrap_or_else(all_threads);
        let verdicts = run::many(options, seeds, threads, &done);
        bar.finish_and_clear();
        verdicts
    }
}

fn traced(options: Options, seed: u64, path: &PathBuf) -> anyhow::Result<Verdict> {
    let file = File::create(path)
        .with_context(|| format!("cannot write the history to {}", path.display()))?;
    let (verdict, trace) = run::one(options, seed, Trace::to(Box::new(BufWriter::new(file))));
    trace
        .finish()
        .with_context(|| format!("cannot write the history to {}", path.display()))?;
    for violation in &verdict.violations {
        describe(&options, seed, violation);
    }
    Ok(verdict)
}

fn describe(options: &Options, seed: u64, violation: &watchfire_sim::oracle::Violation) {
    let at_s = violation.at_us as f64 / 1e6;
    let node = violation
        .node
        .map_or(String::new(), |node| format!(" n{node}"));
    eprintln!(
        "seed {seed} at {at_s:.3} s{node}: {}: {}\n  {}",
        violation.invariant,
        violation.words,
        run::replay(options, seed)
    );
}

fn show(options: &Options, summary: &Summary) {
    let m = &summary.measures;
    println!(
        "{} nodes, {} checks, {} seeds, faults: {}",
        options.nodes, options.checks, summary.seeds, options.faults
    );
    let line = |name: &str, sample: &Sample| {
        let at = |share| {
            sample
                .percentile(share)
                .map_or("-".to_owned(), |ms| format!("{ms:.1}"))
        };
        println!(
            "  {name:<44} p50 {:>9}  p99 {:>9}  max {:>9} ms  ({} values)",
            at(0.5),
            at(0.99),
            at(1.0),
            sample.len()
        );
    };
    line("crash to the first member that knows", &m.detect_first_ms);
    line("crash to the last", &m.detect_all_ms);
    line("takeover gap beyond the interval", &m.takeover_gap_ms);
    line("one transition, written to in every table", &m.spread_ms);
    line("a mass of them, each", &m.mass_spread_ms);
    println!("  living members held for dead: {}", m.false_positives);
    println!("  good origins called Down: {}", m.false_downs);
    println!(
        "  second probes in the quiet minute: {} of {}",
        m.quiet_duplicates, m.quiet_probes
    );
    println!(
        "  idle: {:.0} bytes/s and {:.1} packets/s per node, headers counted",
        m.idle_bytes_per_node_s(),
        m.idle_packets_per_node_s()
    );
    println!(
        "  mass transition: {:.0} bytes per transition and replica",
        m.mass_bytes_per_slot(options.nodes)
    );
    if !options.faults.is_empty() {
        println!("  faults fired: {:?}", summary.fired.by_name());
    }
    match &summary.replay {
        None => println!("no violation in {} events", m.steps),
        Some(replay) => println!(
            "{} violations in {} seeds; the first again: {replay}",
            summary.violations,
            summary.failed.len()
        ),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let is_share = (0.0..=1.0).contains(&share);
    is_share
        .then_some(share)
        .ok_or_else(|| "a share lies between 0 and 1".to_owned())
}

pub(super) fn mutation(name: &str) -> Result<Mutation, String> {
    Mutation::ALL
        .iter()
        .copied()
        .find(|mutation| mutation.as_str() == name)
        .ok_or_else(|| {
            let known: Vec<_> = Mutation::ALL
                .iter()
                .map(|mutation| mutation.as_str())
                .collect();
            format!("there is no such bug; the names are {}", known.join(", "))
        })
}

fn faults_help() -> String {
    let lines = Fault::ALL
        .iter()
        .map(|fault| format!("  {:<16} {}\n", fault.key(), fault.words()));
    format!("Faults:\n{}", lines.collect::<String>())
}
