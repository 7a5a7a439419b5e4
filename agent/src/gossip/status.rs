//! What an agent says of itself: the shape of `watchfire status --json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watchfire_core::counters::Counter;
use watchfire_core::gate::Keys;
use watchfire_probe::{CheckSpec, KIND_KEYS, Stats};
use watchfire_wire::{Reason, Unmeasured};

use crate::config::ConfigErrors;
use crate::files::Held;
use crate::names::{NameStatus, NamesStatus};
use crate::recorder::{AnswerRecord, ProbeRecord, Record};

use super::overrides::{OverrideStatus, OverridesStatus};

/// The whole of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Status {
    /// The agent's version.
    pub(crate) version: String,
    /// The node's configured name.
    pub(crate) node: String,
    /// Its id, 16 hexadecimal digits.
    pub(crate) node_id: String,
    /// The epoch of this start.
    pub(crate) epoch: u64,
    /// Seconds since the start.
    pub(crate) uptime_s: u64,
    /// Whether it hands over what it owns.
    pub(crate) draining: bool,
    /// Since when this agent holds new Downs back, because so much fails at
    /// once, and for how many checks; nothing if it does not.
    pub(crate) braked: Option<Braked>,
    /// Members of the POP, this one included, by name.
    pub(crate) members: Vec<MemberStatus>,
    /// Origins configured here.
    pub(crate) origins: usize,
    /// Checks behind them.
    pub(crate) checks: usize,
    /// Checks of those that this agent does not take part in, by its own file.
    pub(crate) checks_refused: usize,
    /// Checks that this agent probes.
    pub(crate) checks_probed: usize,
    /// Origins by verdict.
    pub(crate) up: usize,
    /// Origins by verdict.
    pub(crate) down: usize,
    /// Origins by verdict.
    pub(crate) unknown: usize,
    /// Origins that an operator drains.
    #[serde(default)]
    pub(crate) origins_draining: usize,
    /// Origins, among all of these, whose verdict is an operator's.
    #[serde(default)]
    pub(crate) origins_forced: usize,
    /// What operators decided.
    #[serde(default)]
    pub(crate) overrides: OverridesStatus,
    /// Members that operators put out of the POP.
    #[serde(default)]
    pub(crate) evictions: Vec<OverrideStatus>,
    /// Who put this agent itself out, if somebody did.
    #[serde(default)]
    pub(crate) evicted: Option<OverrideStatus>,
    /// Digest of the replicated state: equal on all members when calm.
    pub(crate) digest: String,
    /// Places that probes hold, connections kept open among them.
    pub(crate) places_used: u64,
    /// Checks that are due and wait for a place.
    pub(crate) places_waiting: u64,
    /// The driver in use.
    pub(crate) backend: String,
    /// Table file.
    pub(crate) table: String,
    /// When the configuration in force was read, milliseconds since 1970.
    pub(crate) config_loaded_ms: u64,
    /// Why the last reload was refused, in whole or in part, if it was.
    pub(crate) config_error: Option<String>,
    /// Files that do not count as they are.
    pub(crate) files_held: Vec<HeldStatus>,
    /// Counters by name, since the start.
    pub(crate) counters: BTreeMap<String, u64>,
    /// Histograms by name.
    pub(crate) latencies: BTreeMap<String, Latency>,
    /// Which living members hold which configuration, the newest first: a digest of
    /// the checks that they can take part in.
    pub(crate) generations: Vec<Generation>,
    /// The key that seals and those that open; none without keys.
    pub(crate) keys: KeysStatus,
    /// When the certificates of origins end that this agent probes, milliseconds
    /// since 1970: those that end first.
    #[serde(default)]
    pub(crate) certificates: BTreeMap<String, u64>,
    /// Checks with a certificate that ends later than those.
    #[serde(default)]
    pub(crate) certificates_left_out: usize,
    /// The names that checks have.
    #[serde(default)]
    pub(crate) names: NamesStatus,
    /// Why this agent cannot probe, if it cannot: ended, stuck or failing.
    pub(crate) prober_ailment: Option<String>,
    /// The counters with their explanations, for metrics.
    #[serde(skip)]
    pub(crate) counted: Vec<Counter>,
}

/// A file that does not count as it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct HeldStatus {
    /// The file.
    pub(crate) file: String,
    /// What is wrong with it.
    pub(crate) why: String,
    /// Since when, milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Whether an earlier content of it is in force.
    pub(crate) has_last_good: bool,
}

impl HeldStatus {
    pub(crate) fn of(held: &Held) -> Self {
        Self {
            file: held.file.display().to_string(),
            why: ConfigErrors(held.errors.clone()).to_string(),
            since_ms: held.since_ms,
            has_last_good: held.has_last_good,
        }
    }
}

/// How this agent holds new Downs back.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Braked {
    /// For so long, seconds.
    pub(crate) for_s: u64,
    /// Checks that it probes, that fail, and that are not called Down.
    pub(crate) held: usize,
}

/// One member as this agent sees it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct MemberStatus {
    /// Configured name.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) addr: String,
    /// alive, suspect, dead or left.
    pub(crate) state: String,
    /// Weight in rendezvous hashing.
    pub(crate) capacity: u16,
    /// Whether it hands over what it owns.
    pub(crate) draining: bool,
    /// Whether it holds new Downs back.
    pub(crate) braked: bool,
    /// Whether it can measure.
    pub(crate) prober_healthy: bool,
    /// The epoch of its start.
    pub(crate) epoch: u64,
    /// By how much its wall clock is off beside the POP's median, milliseconds, as
    /// its last ack to this agent told; nothing if none did.
    #[serde(default)]
    pub(crate) clock_off_ms: Option<i64>,
    /// How long ago it last acked a ping of this agent's own, milliseconds: then both
    /// directions were open.
    #[serde(default)]
    pub(crate) answered_ms_ago: Option<u64>,
}

/// A configuration that members of the POP hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Generation {
    /// Its digest in short, 8 hexadecimal digits.
    pub(crate) digest: String,
    /// For how long somebody has held it, seconds, as seen from here.
    pub(crate) for_s: u64,
    /// Who does.
    pub(crate) members: Vec<String>,
}

/// This agent's keys.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct KeysStatus {
    /// The id of the one that seals.
    pub(crate) seals: Option<u32>,
    /// The ids of those that open.
    pub(crate) opens: Vec<u32>,
}

impl KeysStatus {
    pub(super) fn of(keys: &Keys) -> Self {
        match keys {
            Keys::Insecure => Self::default(),
            Keys::Sealed(ring) => Self {
                seals: Some(ring.primary().0.0),
                opens: ring.ids().map(|id| id.0).collect(),
            },
        }
    }
}

/// A histogram in short, microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Latency {
    /// Values recorded.
    pub(crate) count: u64,
    /// Half are at most this.
    pub(crate) p50_us: u64,
    /// 99 of 100 are at most this.
    pub(crate) p99_us: u64,
    /// The greatest.
    pub(crate) max_us: u64,
}

/// Why an origin has its verdict: the shape of `watchfire why --json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Why {
    /// The origin's name.
    pub(crate) origin: String,
    /// Its check, 32 hexadecimal digits.
    pub(crate) check: String,
    /// The check in words.
    pub(crate) definition: String,
    /// up, down or unknown.
    pub(crate) verdict: String,
    /// The reason's stable name.
    pub(crate) reason: String,
    /// The reason in words.
    pub(crate) because: String,
    /// Since when, milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Who said so.
    pub(crate) owner: String,
    /// Whether this agent probes it.
    pub(crate) probed_here: bool,
    /// When the origin's certificate ends that the last full TLS handshake showed,
    /// milliseconds since 1970; nothing if another agent probes it.
    #[serde(default)]
    pub(crate) certificate_ends_ms: Option<u64>,
    /// Members in the order in which they would probe it.
    pub(crate) ranks: Vec<String>,
    /// What an operator decided of it, which counts whatever the probes find.
    #[serde(default, rename = "override")]
    pub(crate) operator: Option<OverrideStatus>,
    /// The freeze of the POP, if it is frozen: the table keeps what it shows.
    #[serde(default)]
    pub(crate) frozen: Option<OverrideStatus>,
    /// Other origins with the same check.
    pub(crate) shared_with: Vec<String>,
    /// Its name and where that is; nothing if it has an address.
    #[serde(default)]
    pub(crate) resolved: Option<NameStatus>,
    /// The head of what a probe sends, without secrets; nothing where they could stand
    /// anywhere in it.
    #[serde(default)]
    pub(crate) sent: Option<String>,
    /// The last probes of this agent, the oldest first.
    #[serde(default)]
    pub(crate) probes: Vec<ProbeRecord>,
    /// What came when its last probes turned the verdict, the oldest first.
    #[serde(default)]
    pub(crate) answers: Vec<AnswerRecord>,
    /// Its check, for who looks further.
    #[serde(skip)]
    pub(crate) spec: Option<Arc<CheckSpec>>,
    /// Its last transitions, POP-wide, the oldest first.
    #[serde(default)]
    pub(crate) history: Vec<Record>,
}

/// What the probe threads counted, outcomes aside.
pub(crate) fn of_stats(stats: &Stats) -> [Counter; 4] {
    [
        Counter::new("probes_started", "Probes started.", stats.started),
        Counter::new(
            "probes_skipped",
            "Times that a probe was due and left out because an earlier one was late.",
            stats.skipped,
        ),
        Counter::new(
            "probe_transitions",
            "Changes of verdict that the probe threads saw, before any second opinion.",
            stats.transitions,
        ),
        Counter::new(
            "probe_connections_reopened",
            "Kept connections that the origin had closed, opened anew without a fail.",
            stats.reopened,
        ),
    ]
}

/// What the probe threads counted and timed, by name.
pub(crate) fn of_probes(stats: &Stats) -> (BTreeMap<String, u64>, BTreeMap<String, Latency>) {
    let plain = of_stats(stats).into_iter();
    let mut counters: BTreeMap<String, u64> = plain
        .map(|counter| (counter.name.to_owned(), counter.count))
        .collect();
    for (reason, count) in Reason::ALL.iter().zip(stats.by_reason) {
        counters.insert(format!("probes_{}", reason.key()), count);
    }
    for (reason, count) in Unmeasured::ALL.iter().zip(stats.by_unmeasured) {
        counters.insert(format!("probes_not_measured_{}", reason.key()), count);
    }
    let mut latencies = BTreeMap::from([("lateness".to_owned(), latency(&stats.lateness_us))]);
    for (kind, times) in KIND_KEYS.iter().zip(&stats.kinds) {
        let phases = [
            ("connect", &times.connect_us),
            ("tls", &times.tls_us),
            ("first_byte", &times.first_byte_us),
            ("total", &times.total_us),
        ];
        for (phase, histogram) in phases {
            latencies.insert(format!("{kind}_{phase}"), latency(histogram));
        }
    }
    (counters, latencies)
}

/// A histogram of microseconds in short.
pub(crate) fn latency(histogram: &Histogram<u64>) -> Latency {
    Latency {
        count: histogram.len(),
        p50_us: histogram.value_at_quantile(0.5),
        p99_us: histogram.value_at_quantile(0.99),
        max_us: histogram.max(),
    }
}
