//! `compare`: membership beside memberlist's and foca's.

use clap::Args;
use serde_json::{Value, json};
use watchfire_sim::compare::Contestant;
use watchfire_sim::compare::net::Weather;
use watchfire_sim::compare::scenario::Slowness;

use super::progress;

/// Puts Watchfire's membership, a model of memberlist 0.2.2 and the crate foca
/// into one network: crashes, slow members, losses, an idle minute. Each runs
/// with its own LAN defaults.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Members, once or several times.
    #[arg(long, value_delimiter = ',', default_value = "16,64,168")]
    nodes: Vec<usize>,
    /// Crashes per size and contestant.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Members for the runs with slow members and losses.
    #[arg(long, default_value_t = 64)]
    mistakes_nodes: usize,
    /// How long those runs last, seconds.
    #[arg(long, default_value_t = 300)]
    mistakes_s: u64,
    /// Slow members, once or several times.
    #[arg(long, value_delimiter = ',', default_value = "1,4,8,16")]
    slow: Vec<usize>,
    /// A slow member is blocked for this long, milliseconds.
    #[arg(long, default_value_t = 8_192)]
    blocked_ms: u64,
    /// It runs for this long in between, milliseconds.
    #[arg(long, default_value_t = 64)]
    running_ms: u64,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let weathers = [0.05, 0.2];
        let each = self.nodes.len() * 2 + self.slow.len() + weathers.len();
        let bar = progress::bar((each * Contestant::ALL.len()) as u64, "runs");
        let mut rows = Vec::new();
        let mut add = |line: String, row: Value| {
            bar.inc(1);
            bar.suspend(|| println!("{line}"));
            rows.push(row);
        };
        for contestant in Contestant::ALL {
            let who = contestant.as_str();
            for &n in &self.nodes {
                let found = contestant.detection(n, Weather::default(), 0..self.seeds);
                let ms = |sample: &watchfire_sim::stats::Sample, share| {
                    sample.percentile(share).map(f64::round)
                };
                let row = json!({
                    "contestant": contestant, "scenario": "crash", "nodes": n,
                    "first_ms_p50": ms(&found.first_ms, 0.5), "all_ms_p50": ms(&found.all_ms, 0.5),
                    "all_ms_max": ms(&found.all_ms, 1.0), "missed": found.missed,
                });
                add(
                    format!(
                        "{who:<20} {n:>5} members, crash: first {} ms, all {} ms (worst {} ms), missed {}",
                        row["first_ms_p50"], row["all_ms_p50"], row["all_ms_max"], found.missed
                    ),
                    row,
                );
                let idle = contestant.idle(n, Weather::default(), 0);
                add(
                    format!(
                        "{who:<20} {n:>5} members, idle: {:.1} packets/s, {:.0} bytes/s",
                        idle.packets_per_s, idle.bytes_per_s
                    ),
                    json!({
                        "contestant": contestant, "scenario": "idle", "nodes": n,
                        "packets_per_s": idle.packets_per_s, "bytes_per_s": idle.bytes_per_s,
                    }),
                );
            }
            let n = self.mistakes_nodes;
            let settings = self.slow.iter().map(|&members| (members, 0.0));
            for (members, loss) in settings.chain(weathers.map(|loss| (0, loss))) {
                let slowness = Slowness {
                    members,
                    blocked_us: self.blocked_ms * 1_000,
                    running_us: self.running_ms * 1_000,
                };
                let weather = Weather {
                    loss,
                    ..Weather::default()
                };
                let mistakes = contestant.mistakes(n, weather, slowness, self.mistakes_s, 0);
                add(
                    format!(
                        "{who:<20} {n:>5} members, {members} slow, {:.0} % loss, {} s: {} suspicions, {} deaths of healthy members ({} at healthy ones)",
                        loss * 100.0,
                        self.mistakes_s,
                        mistakes.suspicions,
                        mistakes.false_positives,
                        mistakes.at_healthy
                    ),
                    json!({
                        "contestant": contestant, "scenario": "mistakes", "nodes": n,
                        "slow": members, "loss": loss, "seconds": self.mistakes_s,
                        "suspicions": mistakes.suspicions,
                        "false_positives": mistakes.false_positives,
                        "at_healthy": mistakes.at_healthy,
                    }),
                );
            }
        }
        bar.finish_and_clear();
        if self.json {
            println!("{}", json!({ "rows": rows }));
        }
        Ok(true)
    }
}
