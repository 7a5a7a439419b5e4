//! What agents send, probe and spend: per second, per window, and against the
//! bounds that hold in every state. It watches and never interferes.

mod kinds;
mod meter;

pub use kinds::KINDS;
pub(crate) use kinds::Kinds;
pub(crate) use meter::{Bucket, Peak};

use std::collections::VecDeque;

use serde::Serialize;

use crate::limits;
use crate::workload::{Options, SECOND_US};

/// The length of a window, seconds.
pub const WINDOW_S: u64 = 10;

/// All that is watched of one run's load.
#[derive(Debug)]
pub(crate) struct Load {
    hosts: Vec<Sender>,
    kinds: Kinds,
    /// Datagrams of each kind since the beginning.
    pub(crate) by_kind: [u64; KINDS.len()],
    /// Probes that were begun, second opinions apart, and those.
    pub(crate) probes: u64,
    pub(crate) asked: u64,
    /// Suspicions raised, living members declared dead, each at each node.
    pub(crate) suspected: u64,
    pub(crate) died: u64,
    /// Downs written of origins that are good.
    pub(crate) false_downs: u64,
    /// Who probed each check first in this window, and who else did.
    first: Vec<u32>,
    second: Vec<bool>,
    pub(crate) by_two: usize,
    /// Probes that had been begun by the end of each of the last seconds.
    pub(crate) seconds: VecDeque<u64>,
    /// When the POP was last started as a whole.
    pub(crate) began_us: u64,
    pub(crate) loaded: Option<(u64, Option<u64>)>,
    pub(crate) calm: Calm,
    pub(crate) broken: Vec<Broken>,
    pub(crate) rows: Vec<Row>,
    pub(crate) last: Totals,
    /// Checks that too many nodes probe, and since when.
    pub(crate) crowded: std::collections::BTreeMap<u32, u64>,
    /// Checks that not exactly one node probes, and those that none does.
    pub(crate) uneven: usize,
    pub(crate) unprobed: usize,
}

#[derive(Debug)]
struct Sender {
    datagrams: Bucket,
    bytes: Bucket,
    bulk: Bucket,
    peak: Peak,
    peak_bytes: Peak,
    sent: u64,
    sent_bytes: u64,
    bulk_bytes: u64,
}

/// When the POP was formed and calm.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calm {
    pub(crate) formed_us: Option<u64>,
    pub(crate) since_us: Option<u64>,
    /// Suspicions at the last look.
    pub(crate) suspected: u64,
}

/// A bound that did not hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Broken {
    /// Which.
    pub bound: &'static str,
    /// How often, counted where it was looked at.
    pub times: u64,
    /// When first, seconds.
    pub first_s: f64,
    /// The worst value that was seen, in the bound's own unit.
    pub worst: f64,
}

/// Sums at the beginning of a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) bytes: u64,
    pub(crate) bulk: u64,
    pub(crate) probes: u64,
    pub(crate) asked: u64,
    pub(crate) suspected: u64,
    pub(crate) died: u64,
    pub(crate) false_downs: u64,
    pub(crate) gossip_ns: u64,
    pub(crate) probe_ns: u64,
    pub(crate) unmeasured: u64,
    pub(crate) dropped: u64,
}

/// One window of ten seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// When it ended, seconds.
    pub until_s: u64,
    /// Living agents at its end.
    pub agents: usize,
    /// Per agent and second, acks included.
    pub datagrams_per_s: f64,
    /// The most that one agent sent within one second.
    pub datagrams_peak: u64,
    /// Per agent and second, headers included.
    pub bytes_per_s: f64,
    /// The most that one agent sent within one second.
    pub bytes_peak: u64,
    /// Per agent and second, on bulk streams.
    pub bulk_bytes_per_s: f64,
    /// Of one core, per agent, percent.
    pub gossip_cpu_percent: f64,
    /// The same of probe threads.
    pub probe_cpu_percent: f64,
    /// Of all cores, percent.
    pub busy_percent: f64,
    /// Begun in it, second opinions apart.
    pub probes: u64,
    /// What the checks want.
    pub wanted: u64,
    /// For second opinions.
    pub asked: u64,
    /// That measured nothing.
    pub unmeasured: u64,
    /// Checks that two or more agents probed.
    pub by_two: usize,
    /// Checks that nobody is said to probe at its end.
    pub by_none: usize,
    /// Suspicions raised, at each agent.
    pub suspected: u64,
    /// Living members declared dead, at each agent.
    pub died: u64,
    /// Downs written of origins that are good.
    pub false_downs: u64,
    /// Checks that one agent's table calls Down though their origins are good.
    pub table_down: usize,
    /// Checks that it does not call Up.
    pub table_not_up: usize,
    /// Datagrams that found no room in a socket.
    pub dropped: u64,
    /// The oldest datagram that was read, milliseconds since it came.
    pub oldest_ms: f64,
    /// The longest turn of a gossip thread in it, milliseconds by the wall and
    /// of CPU.
    pub turn_ms: (f64, f64),
}

impl Load {
    pub(crate) fn new(options: &Options) -> Self {
        let sender = || Sender {
            datagrams: Bucket::new(limits::DATAGRAMS_PER_S, limits::DATAGRAM_BURST),
            bytes: Bucket::new(limits::DATAGRAM_BYTES_PER_S, limits::DATAGRAM_BYTES_BURST),
            bulk: Bucket::new(limits::BULK_BYTES_PER_S, limits::BULK_BYTES_BURST),
            peak: Peak::default(),
            peak_bytes: Peak::default(),
            sent: 0,
            sent_bytes: 0,
            bulk_bytes: 0,
        };
        Self {
            hosts: (0..options.nodes).map(|_| sender()).collect(),
            kinds: Kinds::default(),
            by_kind: [0; KINDS.len()],
            probes: 0,
            asked: 0,
            suspected: 0,
            died: 0,
            false_downs: 0,
            first: vec![0; options.checks],
            second: vec![false; options.checks],
            by_two: 0,
            seconds: VecDeque::new(),
            began_us: 0,
            loaded: None,
            calm: Calm::default(),
            broken: Vec::new(),
            rows: Vec::new(),
            last: Totals::default(),
            crowded: std::collections::BTreeMap::new(),
            uneven: 0,
            unprobed: 0,
        }
    }

    /// An agent sent a datagram.
    pub(crate) fn sent(&mut self, now_us: u64, host: usize, bytes: &[u8], headers: u64) {
        let kind = self.kinds.of(bytes);
        self.by_kind[kind] += 1;
        let size = bytes.len() as u64 + headers;
        let it = &mut self.hosts[host];
        it.sent += 1;
        it.sent_bytes += size;
        it.peak.add(now_us, 1);
        it.peak_bytes.add(now_us, size);
        let over = it.datagrams.take(now_us, 1.0);
        let over_bytes = it.bytes.take(now_us, bytes.len() as f64);
        self.break_bound(now_us, "datagrams", over);
        self.break_bound(now_us, "datagram bytes", over_bytes);
    }

    /// A process begins: what the one before it had sent is not its own.
    pub(crate) fn booted(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        it.datagrams.fill();
        it.bytes.fill();
        it.bulk.fill();
    }

    /// An agent sent a frame on a bulk stream, with headers.
    pub(crate) fn sent_bulk(&mut self, now_us: u64, host: usize, frame: usize, headers: u64) {
        let it = &mut self.hosts[host];
        it.bulk_bytes += frame as u64 + headers;
        let over = it.bulk.take(now_us, frame as f64);
        self.break_bound(now_us, "bulk bytes", over);
    }

    /// A check was probed.
    pub(crate) fn probed(&mut self, host: usize, check: u32) {
        self.probes += 1;
        let (host, check) = (host as u32 + 1, check as usize);
        let first = &mut self.first[check];
        if *first == 0 {
            *first = host;
        } else if *first != host && !std::mem::replace(&mut self.second[check], true) {
            self.by_two += 1;
        }
    }

    /// A load from outside begins, or ends.
    pub(crate) fn loaded(&mut self, now_us: u64, on: bool) {
        match &mut self.loaded {
            Some((_, ended)) if !on => *ended = Some(now_us),
            loaded => *loaded = Some((now_us, None)),
        }
    }

    /// A bound was exceeded by so much, if it was.
    pub(crate) fn break_bound(&mut self, now_us: u64, bound: &'static str, over: Option<f64>) {
        let Some(worst) = over else { return };
        match self.broken.iter_mut().find(|known| known.bound == bound) {
            Some(known) => {
                known.times += 1;
                known.worst = known.worst.max(worst);
            }
            None => self.broken.push(Broken {
                bound,
                times: 1,
                first_s: now_us as f64 / SECOND_US as f64,
                worst,
            }),
        }
    }

    /// Sums of all that was sent: datagrams, their bytes, bytes of streams.
    pub(crate) fn sums(&self) -> (u64, u64, u64) {
        self.hosts
            .iter()
            .fold((0, 0, 0), |(sent, bytes, bulk), it| {
                (sent + it.sent, bytes + it.sent_bytes, bulk + it.bulk_bytes)
            })
    }

    /// The most that one agent sent within a second of this window; a new one
    /// begins.
    pub(crate) fn take_peaks(&mut self) -> (u64, u64) {
        let mut most = (0, 0);
        for it in &mut self.hosts {
            most.0 = most.0.max(it.peak.take());
            most.1 = most.1.max(it.peak_bytes.take());
        }
        self.first.fill(0);
        self.second.fill(false);
        self.by_two = 0;
        most
    }
}
