//! `watchfire table`: reads the shared-memory file as a proxy would. No agent
//! is asked, and none need be running.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use glob::Pattern;
use serde_json::json;
use watchfire_table::{Condition, Entry, Freshness, Lookup, PopState, Reader};

use super::text::{ago, columns};
use super::{Failure, Format, print_json};
use crate::clock;
use crate::config::{AgentConfig, TABLE};
use crate::gossip::{reason_key, reason_words};

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Look up one origin; exit status 1 says that it is not in the table.
    Get(GetOptions),
    /// Show every origin, or those of a verdict or name.
    Dump(DumpOptions),
    /// Show every change until interrupted.
    Watch(WatchOptions),
    /// Show how full, how busy and how fresh the table is.
    Stat(Options),
    /// Check every entry; exit status 1 says that something is broken.
    Verify(Options),
}

#[derive(Args)]
pub(super) struct Options {
    /// The table's file [default: /run/watchfire/table]
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    table: Option<PathBuf>,
    /// The agent's configuration file, which names the table
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

#[derive(Args)]
pub(super) struct GetOptions {
    /// The origin's name, as in the origins file
    name: String,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
pub(super) struct WatchOptions {
    /// Milliseconds from one look to the next
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    every_ms: u64,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
pub(super) struct DumpOptions {
    /// Only origins of this verdict, or of these, like down,unknown
    #[arg(long, value_name = "VERDICT", value_delimiter = ',', value_parser = ["up", "down", "unknown"])]
    verdict: Vec<String>,
    /// Only origins of such a name, like 'shop-*'
    #[arg(long, value_name = "GLOB", value_parser = Pattern::new)]
    name: Option<Pattern>,
    #[command(flatten)]
    options: Options,
}

impl DumpOptions {
    fn wants(&self, name: &[u8], entry: &Entry) -> bool {
        let verdict = entry.verdict.as_str();
        let named = |glob: &Pattern| glob.matches(&String::from_utf8_lossy(name));
        (self.verdict.is_empty() || self.verdict.iter().any(|it| it == verdict))
            && self.name.as_ref().is_none_or(named)
    }
}

pub(super) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Get(options) => get(options),
        Verb::Dump(options) => dump(options),
        Verb::Watch(options) => watch(options),
        Verb::Stat(options) => stat(options),
        Verb::Verify(options) => verify(options),
    }
}

impl Options {
    fn open(&self) -> Result<Reader, Failure> {
        let path = match (&self.table, &self.config) {
            (Some(table), _) => table.clone(),
            (None, Some(file)) => AgentConfig::load(file)?.table.path,
            (None, None) => TABLE.into(),
        };
        Ok(Reader::open(&path)?)
    }
}

fn get(options: &GetOptions) -> Result<(), Failure> {
    let reader = options.options.open()?;
    let name = options.name.as_bytes();
    let freshness = match reader.get(name, clock::now_ns()) {
        Lookup::Found { entry, freshness } => {
            if options.options.format.json {
                print_json(&json_entry(&reader, name, &entry, Some(freshness)))?;
            } else {
                say!("{}", line(&reader, name, &entry).join("  "));
                warn_if_stale(freshness);
            }
            return Ok(());
        }
        Lookup::NotInTable { freshness } => freshness,
        Lookup::Busy { .. } => {
            return Err("the writer overtook every attempt to read; try again".into());
        }
    };
    if options.options.format.json {
        print_json(
            &json!({ "name": options.name, "verdict": "not_in_table", "fresh": freshness.fresh }),
        )?;
    } else {
        say!("{} is not in the table", options.name);
        warn_if_stale(freshness);
    }
    Err(Failure::No)
}

fn dump(dump: &DumpOptions) -> Result<(), Failure> {
    let options = &dump.options;
    let reader = options.open()?;
    let freshness = reader.freshness(clock::now_ns());
    let mut entries = sorted(&reader);
    entries.retain(|(name, entry)| dump.wants(name, entry));
    if options.format.json {
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, entry)| json_entry(&reader, name, entry, None))
            .collect();
        return print_json(&json!({ "fresh": freshness.fresh, "origins": entries }));
    }
    let head = ["ORIGIN", "VERDICT", "FOR", "LATENCY", "OWNER", "BECAUSE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(
        entries
            .iter()
            .map(|(name, entry)| line(&reader, name, entry)),
    );
    say!("{}", columns(&rows).trim_end());
    warn_if_stale(freshness);
    Ok(())
}

fn watch(options: &WatchOptions) -> Result<(), Failure> {
    let reader = options.options.open()?;
    let mut known: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    let mut was_fresh = true;
    loop {
        let freshness = reader.freshness(clock::now_ns());
        if freshness.fresh != was_fresh {
            was_fresh = freshness.fresh;
            eprintln!(
                "the table is {}",
                if was_fresh {
                    "fresh again"
                } else {
                    "stale: no agent writes it"
                }
            );
        }
        let now: BTreeMap<_, _> = reader.entries().into_iter().collect();
        for (name, entry) in &now {
            let same = |old: &Entry| {
                (old.verdict, old.flags, old.reason) == (entry.verdict, entry.flags, entry.reason)
            };
            if known.get(name).is_some_and(same) {
                continue;
            }
            if options.options.format.json {
                print_json(&json_entry(&reader, name, entry, None))?;
            } else {
                say!("{}", line(&reader, name, entry).join("  "));
            }
        }
        for name in known.keys().filter(|name| !now.contains_key(*name)) {
            if options.options.format.json {
                print_json(
                    &json!({ "name": String::from_utf8_lossy(name), "verdict": "not_in_table" }),
                )?;
            } else {
                say!("{}  removed", String::from_utf8_lossy(name));
            }
        }
        known = now;
        std::thread::sleep(Duration::from_millis(options.every_ms));
        // A table that moved or was replaced is followed by the next read.
        reader.refresh()?;
    }
}

fn stat(options: &Options) -> Result<(), Failure> {
    let reader = options.open()?;
    let Some(stat) = reader.stat(clock::now_ns()) else {
        return Err("the table moves too fast to be read; try again".into());
    };
    let heartbeat_ms =
        (stat.freshness.age_ns != u64::MAX).then_some(stat.freshness.age_ns / 1_000_000);
    let owner = reader
        .owner_name(stat.node)
        .unwrap_or_else(|| stat.node.to_string());
    if options.format.json {
        return print_json(&json!({
            "file_bytes": stat.file_bytes,
            "generation": stat.generation,
            "slots": stat.slots,
            "capacity": stat.capacity,
            "names": stat.live,
            "used_slots": stat.used,
            "load_factor": stat.load_factor,
            "probe_length_mean": stat.probe_length_mean,
            "probe_length_max": stat.probe_length_max,
            "arena_used_bytes": stat.arena_used_bytes,
            "arena_bytes": stat.arena_bytes,
            "owners": stat.owners,
            "writes": stat.writes,
            "writes_per_s": stat.writes_per_s,
            "fresh": stat.freshness.fresh,
            "heartbeat_age_ms": heartbeat_ms,
            "pop": reader.pop_state().condition.as_str(),
            "writer": owner,
            "writer_epoch": stat.epoch,
            "writer_pid": stat.pid,
        }));
    }
    let heartbeat = heartbeat_ms.map_or_else(|| "never".to_owned(), |age| format!("{age} ms ago"));
    let rows = [
        ("names", format!("{} of {}", stat.live, stat.capacity)),
        (
            "slots",
            format!(
                "{} of {} used (load {:.2})",
                stat.used, stat.slots, stat.load_factor
            ),
        ),
        (
            "hash probes",
            format!(
                "{:.2} on average, {} at most",
                stat.probe_length_mean, stat.probe_length_max
            ),
        ),
        (
            "long names",
            format!("{} of {} bytes", stat.arena_used_bytes, stat.arena_bytes),
        ),
        (
            "file",
            format!("{} bytes, generation {}", stat.file_bytes, stat.generation),
        ),
        (
            "writes",
            format!(
                "{} since it was made, {} a second now",
                stat.writes, stat.writes_per_s
            ),
        ),
        (
            "writer",
            format!("{owner}, epoch {}, process {}", stat.epoch, stat.pid),
        ),
        ("POP", pop_words(reader.pop_state())),
        (
            "heartbeat",
            format!(
                "{heartbeat} ({})",
                if stat.freshness.fresh {
                    "fresh"
                } else {
                    "stale"
                }
            ),
        ),
    ];
    let rows: Vec<_> = rows
        .map(|(name, value)| vec![name.to_owned(), value])
        .into();
    say!("{}", columns(&rows).trim_end());
    Ok(())
}

/// How the POP is, and since when.
fn pop_words(state: PopState) -> String {
    match state.condition {
        Condition::Normal => state.condition.to_string(),
        Condition::Braked | Condition::Frozen => {
            format!("{}, {}", state.condition, ago(state.since_ms))
        }
    }
}

fn verify(options: &Options) -> Result<(), Failure> {
    let reader = options.open()?;
    let Some(found) = reader.verify() else {
        return Err("the table moves too fast to be read; try again".into());
    };
    if options.format.json {
        print_json(&json!({
            "live": found.live,
            "removed": found.removed,
            "busy": found.busy,
            "problems": found.problems,
        }))?;
    } else {
        say!(
            "{} names, {} removed, {} being written, {} problems",
            found.live,
            found.removed,
            found.busy,
            found.problems.len()
        );
        for problem in &found.problems {
            say!("  {problem}");
        }
    }
    if found.problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::No)
    }
}

fn sorted(reader: &Reader) -> Vec<(Vec<u8>, Entry)> {
    let mut entries = reader.entries();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

fn line(reader: &Reader, name: &[u8], entry: &Entry) -> Vec<String> {
    let flags = entry.flags.to_string();
    let verdict = if flags.is_empty() {
        entry.verdict.to_string()
    } else {
        format!("{} ({flags})", entry.verdict)
    };
    vec![
        String::from_utf8_lossy(name).into_owned(),
        verdict,
        ago(entry.since_ms),
        format!("{:.1} ms", f64::from(entry.latency_us) / 1_000.0),
        owner(reader, entry),
        reason_words(entry.reason).to_owned(),
    ]
}

fn json_entry(
    reader: &Reader,
    name: &[u8],
    entry: &Entry,
    freshness: Option<Freshness>,
) -> serde_json::Value {
    let mut value = json!({
        "name": String::from_utf8_lossy(name),
        "verdict": entry.verdict.as_str(),
        "flags": entry.flags.to_string(),
        "reason": reason_key(entry.reason),
        "because": reason_words(entry.reason),
        "since_ms": entry.since_ms,
        "latency_us": entry.latency_us,
        "owner": owner(reader, entry),
    });
    if let Some(freshness) = freshness {
        value["fresh"] = freshness.fresh.into();
    }
    value
}

fn owner(reader: &Reader, entry: &Entry) -> String {
    entry.owner.map_or_else(
        || "-".to_owned(),
        |id| reader.owner_name(id).unwrap_or_else(|| id.to_string()),
    )
}

fn warn_if_stale(freshness: Freshness) {
    if !freshness.fresh {
        eprintln!("warning: the table is stale: no agent has written it lately");
    }
}
