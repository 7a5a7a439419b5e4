//! A whole POP in one thread and virtual time: nodes, a network that delays and
//! loses, and origins that pass or fail.

#![allow(dead_code, unreachable_pub, reason = "each test uses its share")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use watchfire_core::io::{
    BulkEvent, CheckMeta, ConnId, Event, Inherit, Input, Output, Published, Report, ReportKind,
};
use watchfire_core::node::{Node, NodeConfig};
use watchfire_core::overrides::{Decided, Decision, Kept, Op, Request};
use watchfire_core::rng::Rng;
use watchfire_wire::frame::{FrameBuf, HEADER_BYTES, TAG_BYTES};
use watchfire_wire::message::replica::Answer;
use watchfire_wire::message::{ArchivedBody, access};
use watchfire_wire::{CheckId, First, NodeId, Reason, Time, Verdict};

pub const INTERVAL: Duration = Duration::from_secs(1);
pub const TIMEOUT: Duration = Duration::from_millis(500);
const RISE: u8 = 2;
const FALL: u8 = 3;
const WALL_MS: u64 = 1_800_000_000_000;

/// A POP.
pub struct Pop {
    pub now: Time,
    pub hosts: Vec<Host>,
    pub loss_percent: usize,
    pub cut: BTreeSet<(usize, usize)>,
    pub down: BTreeSet<CheckId>,
    pub blind: BTreeSet<usize>,
    pub unmeasurable: BTreeSet<(usize, CheckId)>,
    /// Hosts whose probe threads tell of nothing.
    pub stuck: BTreeSet<usize>,
    /// Everything that replication says is lost; membership is not.
    pub words_lost: bool,
    /// What is started, whether or not it measures anything.
    pub tries: Vec<Probed>,
    pub probes: Vec<Probed>,
    pub bytes: u64,
    pub bulk_bytes: u64,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: HashMap<u64, Happening>,
    next: u64,
    rng: Rng,
    configure: Box<dyn Fn(&mut NodeConfig)>,
}

/// One probe that reached an origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probed {
    pub at: Time,
    pub by: usize,
    pub check: CheckId,
}

/// One server.
pub struct Host {
    pub node: Option<Node>,
    pub checks: BTreeSet<CheckId>,
    pub table: BTreeMap<CheckId, Published>,
    pub table_at: BTreeMap<CheckId, Time>,
    pub events: Vec<(Time, Event)>,
    pub left: bool,
    pub conflict: bool,
    pub epoch: u64,
    /// What is on its disk.
    pub kept: Kept,
    /// What operators' decisions make of names.
    pub forced: BTreeMap<String, Arc<Decision>>,
    /// Its wall clock is off by this.
    pub wall_off_ms: i64,
    starts: u64,
    probers: BTreeMap<CheckId, Prober>,
    streams: BTreeMap<u64, (usize, u64)>,
    wake: Time,
}

struct Prober {
    generation: u32,
    verdict: Verdict,
    run: u8,
    failing: u8,
    attend: bool,
    unmeasured: u32,
}

enum Happening {
    Datagram {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    Stream {
        to: usize,
        conn: u64,
        bytes: Option<Vec<u8>>,
    },
    Wake {
        host: usize,
    },
    Probe {
        host: usize,
        check: CheckId,
        generation: u32,
        start: u64,
    },
    Opinion {
        host: usize,
        check: CheckId,
        ask: u64,
        start: u64,
    },
}

pub fn check(n: u32) -> CheckId {
    CheckId::of_canonical(&n.to_le_bytes())
}

pub fn checks(n: u32) -> Vec<CheckId> {
    (0..n).map(check).collect()
}

pub fn addr(host: usize) -> SocketAddr {
    let [_, _, high, low] = u32::try_from(host + 1).unwrap().to_be_bytes();
    SocketAddr::from(([127, 1, high, low], 7_946))
}

fn host_of(addr: SocketAddr) -> usize {
    let SocketAddr::V4(addr) = addr else {
        unreachable!("hosts have IPv4 addresses")
    };
    usize::from(addr.ip().octets()[2]) * 256 + usize::from(addr.ip().octets()[3]) - 1
}

impl Pop {
    pub fn new(hosts: usize, seed: u8) -> Self {
        Self::with(hosts, seed, |_| {})
    }

    pub fn with(hosts: usize, seed: u8, configure: impl Fn(&mut NodeConfig) + 'static) -> Self {
        Self {
            now: Time::from_millis(1_000),
            hosts: (0..hosts).map(|_| Host::new()).collect(),
            loss_percent: 0,
            cut: BTreeSet::new(),
            down: BTreeSet::new(),
            blind: BTreeSet::new(),
            unmeasurable: BTreeSet::new(),
            stuck: BTreeSet::new(),
            words_lost: false,
            tries: Vec::new(),
            probes: Vec::new(),
            bytes: 0,
            bulk_bytes: 0,
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            next: 0,
            rng: Rng::from_seed([seed; 32]),
            configure: Box::new(configure),
        }
    }

    /// Starts all hosts with all checks and lets them settle.
    pub fn settled(hosts: usize, n: u32, seed: u8) -> Self {
        let mut pop = Self::new(hosts, seed);
        pop.start_all(&checks(n));
        pop.run(Duration::from_secs(8));
        pop
    }

    pub fn start_all(&mut self, checks: &[CheckId]) {
        for host in 0..self.hosts.len() {
            self.start(host, checks);
        }
    }

    pub fn name(host: usize) -> String {
        format!("edge-{host}")
    }

    pub fn id(host: usize) -> NodeId {
        NodeId::of_name(&Self::name(host))
    }

    /// Starts, or starts again, the agent of a host.
    pub fn start(&mut self, host: usize, checks: &[CheckId]) {
        let seeds = (0..self.hosts.len().min(3))
            .filter(|&seed| seed != host)
            .map(addr)
            .collect();
        let mut config = NodeConfig {
            boot: self.rng.u64(),
            persisted_epoch: self.hosts[host].epoch,
            wall_at_zero_ms: WALL_MS.saturating_add_signed(self.hosts[host].wall_off_ms),
            overrides: self.hosts[host].kept.clone(),
            seeds,
            rng_seed: self.rng.bytes(),
            ..NodeConfig::new(Self::name(host), addr(host))
        };
        (self.configure)(&mut config);
        let node = Node::new(config, self.now);
        let this = &mut self.hosts[host];
        this.starts += 1;
        this.node = Some(node);
        this.probers.clear();
        this.streams.clear();
        this.wake = Time::NEVER;
        this.left = false;
        this.forced.clear();
        this.checks = checks.iter().copied().collect();
        let add: Vec<_> = checks.iter().map(|&check| (check, meta())).collect();
        self.feed(
            host,
            Input::Checks {
                add: &add,
                remove: &[],
            },
        );
    }

    /// SIGKILL.
    pub fn kill(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        this.node = None;
        this.probers.clear();
        this.starts += 1;
    }

    pub fn add(&mut self, host: usize, checks: &[CheckId]) {
        let add: Vec<_> = checks.iter().map(|&check| (check, meta())).collect();
        self.hosts[host].checks.extend(checks);
        self.feed(
            host,
            Input::Checks {
                add: &add,
                remove: &[],
            },
        );
    }

    pub fn remove(&mut self, host: usize, checks: &[CheckId]) {
        for check in checks {
            self.hosts[host].checks.remove(check);
            self.hosts[host].table.remove(check);
        }
        self.feed(
            host,
            Input::Checks {
                add: &[],
                remove: checks,
            },
        );
    }

    pub fn feed(&mut self, host: usize, input: Input<'_>) {
        let now = self.now;
        if let Some(node) = &mut self.hosts[host].node {
            node.handle(now, input);
            self.carry_out(host);
        }
    }

    /// An operator decides at a host.
    pub fn decide(&mut self, host: usize, op: Op, names: &[&str], lasts: Option<u64>) -> Decided {
        let now = self.now;
        let request = Request {
            op,
            names: names.iter().map(|name| Arc::from(*name)).collect(),
            for_ms: lasts,
            who: format!("someone@{host}"),
            why: "a test".into(),
        };
        let node = self.hosts[host].node.as_mut().expect("it runs");
        let decided = node.decide(now, request).expect("it is taken");
        self.carry_out(host);
        decided
    }

    pub fn node(&self, host: usize) -> &Node {
        self.hosts[host].node.as_ref().expect("it runs")
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|&host| self.hosts[host].node.is_some())
            .collect()
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(&Reverse((at, id))) = self.queue.peek() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            let happening = self.happenings.remove(&id).expect("once each");
            self.happen(happening);
        }
        self.now = end;
    }

    /// Runs until it is so, at most this long; says how long it took.
    pub fn run_until(&mut self, most: Duration, so: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        let end = start + most;
        while !so(self) {
            if self.now >= end {
                return None;
            }
            self.run(Duration::from_millis(1));
        }
        Some(self.now.since(start))
    }

    /// Cuts the network between two groups, both ways, or heals it.
    pub fn partition(&mut self, left: &[usize], right: &[usize], cut: bool) {
        for &a in left {
            for &b in right {
                for pair in [(a, b), (b, a)] {
                    if cut {
                        self.cut.insert(pair);
                    } else {
                        self.cut.remove(&pair);
                    }
                }
            }
        }
    }

    /// Who probes a check, among running hosts.
    pub fn probers(&self, check: CheckId) -> Vec<usize> {
        self.running()
            .into_iter()
            .filter(|&host| self.node(host).is_probing(check))
            .collect()
    }

    pub fn converged(&self) -> bool {
        let running = self.running();
        let first = self.node(running[0]).digest();
        running
            .iter()
            .all(|&host| self.node(host).digest() == first)
    }

    /// Each configured check is probed by exactly one running host, the first
    /// in its order that knows it.
    pub fn assert_settled(&self) {
        let all: BTreeSet<CheckId> = self
            .running()
            .iter()
            .flat_map(|&host| self.hosts[host].checks.iter().copied())
            .collect();
        for check in all {
            let probers = self.probers(check);
            assert_eq!(probers.len(), 1, "{check} at {}: {probers:?}", self.now);
        }
        assert!(self.converged(), "digests differ at {}", self.now);
        let running = self.running();
        for &host in &running {
            for check in &self.hosts[host].checks {
                let first = self.node(running[0]).store().winner(*check);
                let here = self.node(host).store().winner(*check);
                assert_eq!(first, here);
                let verdict = self.hosts[host].table.get(check).map(|p| p.verdict);
                let expected = if self.down.contains(check) {
                    Verdict::Down
                } else {
                    Verdict::Up
                };
                assert_eq!(verdict, Some(expected), "{check} at host {host}");
            }
        }
    }

    /// The longest time between two probes of a check within a window.
    pub fn longest_gap(&self, check: CheckId, from: Time, to: Time) -> Duration {
        let mut last = from;
        let mut gap = Duration::ZERO;
        for probed in self.probes.iter().filter(|probed| probed.check == check) {
            if probed.at >= from && probed.at <= to {
                gap = gap.max(probed.at.since(last));
                last = probed.at;
            }
        }
        gap.max(to.since(last))
    }

    pub fn probes_between(&self, from: Time, to: Time) -> usize {
        self.probes
            .iter()
            .filter(|probed| probed.at >= from && probed.at < to)
            .count()
    }

    /// The same of all that were started.
    pub fn tries_between(&self, from: Time, to: Time) -> usize {
        self.tries
            .iter()
            .filter(|tried| tried.at >= from && tried.at < to)
            .count()
    }

    /// The most hosts that probed one check at the same time while this long
    /// passed.
    pub fn most_probers(&mut self, time: Duration, checks: &[CheckId]) -> usize {
        let end = self.now + time;
        let mut most = 0;
        while self.now < end {
            self.run(Duration::from_millis(20));
            let probers = checks.iter().map(|&check| self.probers(check).len());
            most = most.max(probers.max().unwrap_or(0));
        }
        most
    }

    /// One counter of all running hosts together.
    pub fn counted(&self, name: &str) -> u64 {
        let of = |host| {
            let counters = self.node(host).counters();
            let found = counters.iter().find(|(known, _)| *known == name);
            found.expect("a counter of this name").1
        };
        self.running().into_iter().map(of).sum()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram { from, to, bytes } => {
                let mut frame = FrameBuf::copied(&bytes);
                self.feed(
                    to,
                    Input::Datagram {
                        from: addr(from),
                        bytes: frame.as_mut_slice(),
                        age: Duration::ZERO,
                    },
                );
            }
            Happening::Stream { to, conn, bytes } => {
                let conn = ConnId(conn);
                match bytes {
                    Some(bytes) => {
                        let mut frame = FrameBuf::copied(&bytes);
                        let event = BulkEvent::Frame(frame.as_mut_slice());
                        self.feed(to, Input::Bulk { conn, event });
                    }
                    None => self.feed(
                        to,
                        Input::Bulk {
                            conn,
                            event: BulkEvent::Closed,
                        },
                    ),
                }
            }
            Happening::Wake { host } => {
                if self.hosts[host].wake == self.now {
                    self.hosts[host].wake = Time::NEVER;
                    self.feed(host, Input::Tick);
                }
            }
            Happening::Probe {
                host,
                check,
                generation,
                start,
            } => {
                if self.hosts[host].starts == start {
                    self.probe(host, check, generation);
                }
            }
            Happening::Opinion {
                host,
                check,
                ask,
                start,
            } => {
                if self.hosts[host].starts == start {
                    let answer = if self.unmeasurable.contains(&(host, check)) {
                        Answer::Silent
                    } else if self.passes(host, check) {
                        Answer::Pass
                    } else {
                        Answer::Fail
                    };
                    self.report(host, check, 0, ReportKind::Opinion { ask, answer });
                }
            }
        }
    }

    fn passes(&self, host: usize, check: CheckId) -> bool {
        !self.down.contains(&check) && !self.blind.contains(&host)
    }

    fn report(&mut self, host: usize, check: CheckId, generation: u32, kind: ReportKind) {
        self.feed(
            host,
            Input::Report(Report {
                check,
                generation,
                kind,
            }),
        );
    }

    fn probe(&mut self, host: usize, check: CheckId, generation: u32) {
        let unmeasurable = self.unmeasurable.contains(&(host, check));
        let passes = self.passes(host, check);
        let stuck = self.stuck.contains(&host);
        let probed = Probed {
            at: self.now,
            by: host,
            check,
        };
        let Some(prober) = self.hosts[host].probers.get_mut(&check) else {
            return;
        };
        if prober.generation != generation {
            return;
        }
        self.tries.push(probed);
        let kind = if stuck {
            None
        } else if unmeasurable {
            prober.unmeasured += 1;
            Some(ReportKind::Unmeasured {
                reason: 131,
                in_a_row: prober.unmeasured,
            })
        } else {
            prober.unmeasured = 0;
            let says = if passes { Verdict::Up } else { Verdict::Down };
            let mut attend = core::mem::take(&mut prober.attend);
            if prober.verdict == says {
                prober.run = 0;
            } else {
                prober.run += 1;
                let needed = if passes { RISE } else { FALL };
                if prober.run >= needed {
                    prober.verdict = says;
                    prober.run = 0;
                    attend = true;
                }
            }
            attend.then_some(ReportKind::Measured {
                verdict: prober.verdict,
                reason: if passes {
                    Reason::Passed.code()
                } else {
                    Reason::ConnectRefused.code()
                },
                contrary: prober.run,
                latency_us: 300,
            })
        };
        if !unmeasurable && !stuck {
            self.probes.push(probed);
        }
        let at = next_phase(self.now + Duration::from_micros(1), check);
        self.schedule_probe(at, host, check, generation);
        if let Some(kind) = kind {
            self.report(host, check, generation, kind);
        }
    }

    fn schedule_probe(&mut self, at: Time, host: usize, check: CheckId, generation: u32) {
        let start = self.hosts[host].starts;
        self.schedule(
            at,
            Happening::Probe {
                host,
                check,
                generation,
                start,
            },
        );
    }

    fn schedule(&mut self, at: Time, happening: Happening) {
        self.next += 1;
        self.happenings.insert(self.next, happening);
        self.queue.push(Reverse((at.max(self.now), self.next)));
    }

    fn start_probing(
        &mut self,
        host: usize,
        check: CheckId,
        generation: u32,
        inherit: Option<Inherit>,
        first: First,
    ) {
        let this = &mut self.hosts[host];
        assert!(
            !this.probers.contains_key(&check),
            "started twice: {check} at host {host}"
        );
        this.probers.insert(
            check,
            Prober {
                generation,
                verdict: inherit.map_or(Verdict::Unknown, |inherit| inherit.verdict),
                run: inherit.map_or(0, |inherit| inherit.contrary),
                failing: 0,
                attend: true,
                unmeasured: 0,
            },
        );
        let at = match first {
            First::At(at) => at,
            First::Phase { ahead } => next_phase(self.now + ahead, check) - ahead,
            First::AfterPhase(delay) => next_phase(self.now, check) + delay,
        };
        self.schedule_probe(at, host, check, generation);
    }

    fn carry_out(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].node.as_mut().and_then(Node::poll_output) {
            match output {
                Output::Datagram { to, bytes } => {
                    self.bytes += bytes.len() as u64 + 28;
                    let to = host_of(to);
                    let lost = self.rng.below(100) < self.loss_percent
                        || self.words_lost && is_a_word(&bytes);
                    if !lost && to < self.hosts.len() && !self.cut.contains(&(host, to)) {
                        let delay = Duration::from_micros(80 + self.rng.below(40) as u64);
                        self.schedule(
                            self.now + delay,
                            Happening::Datagram {
                                from: host,
                                to,
                                bytes,
                            },
                        );
                    }
                }
                // These probers have no fast interval.
                Output::Hurry(_) => {}
                Output::BulkConnect { conn, to, hello } => {
                    let to = host_of(to);
                    let open = !self.cut.contains(&(host, to)) && self.hosts[to].node.is_some();
                    if open {
                        self.next += 1;
                        let accepted = self.next | ConnId::ACCEPTED;
                        self.hosts[host].streams.insert(conn.0, (to, accepted));
                        self.hosts[to].streams.insert(accepted, (host, conn.0));
                        self.stream(host, conn.0, Some(hello));
                    } else {
                        let event = Happening::Stream {
                            to: host,
                            conn: conn.0,
                            bytes: None,
                        };
                        self.schedule(self.now + Duration::from_millis(1), event);
                    }
                }
                Output::BulkSend { conn, bytes } => self.stream(host, conn.0, Some(bytes)),
                Output::BulkClose { conn } => {
                    self.stream(host, conn.0, None);
                    self.hosts[host].streams.remove(&conn.0);
                }
                Output::Start {
                    check,
                    generation,
                    inherit,
                    first,
                } => self.start_probing(host, check, generation, inherit, first),
                Output::Stop { check } => {
                    let was = self.hosts[host].probers.remove(&check);
                    assert!(was.is_some(), "stopped without a start: {check}");
                }
                Output::Attend { check } => {
                    let prober = self.hosts[host].probers.get_mut(&check);
                    prober.expect("attended while probing").attend = true;
                }
                // Nobody asks here.
                Output::Looked { .. } => {}
                Output::Ask { check, ask } => {
                    let start = self.hosts[host].starts;
                    let event = Happening::Opinion {
                        host,
                        check,
                        ask,
                        start,
                    };
                    self.schedule(self.now + Duration::from_micros(400), event);
                }
                Output::Publish { check, what } => {
                    let this = &mut self.hosts[host];
                    this.table_at.insert(check, self.now);
                    match what {
                        Some(what) => this.table.insert(check, what),
                        None => this.table.remove(&check),
                    };
                }
                Output::Override { name, what } => {
                    let forced = &mut self.hosts[host].forced;
                    match what {
                        Some(what) => forced.insert(name.to_string(), what),
                        None => forced.remove(&*name),
                    };
                }
                Output::OverridesSettled => {}
                Output::KeepOverrides(kept) => self.hosts[host].kept = (*kept).clone(),
                Output::PersistEpoch(epoch) => self.hosts[host].epoch = epoch,
                Output::Left => {
                    self.hosts[host].left = true;
                    self.kill(host);
                    return;
                }
                Output::Conflict { .. } => {
                    self.hosts[host].conflict = true;
                    self.kill(host);
                    return;
                }
                Output::Event(event) => self.hosts[host].events.push((self.now, event)),
            }
        }
        let due = self.node(host).next_timeout().max(self.now);
        let wake = self.hosts[host].wake;
        if due < wake || (wake < due && wake <= self.now) {
            self.hosts[host].wake = due;
            self.schedule(due, Happening::Wake { host });
        }
    }

    fn stream(&mut self, from: usize, conn: u64, bytes: Option<Vec<u8>>) {
        let Some(&(to, conn)) = self.hosts[from].streams.get(&conn) else {
            return;
        };
        self.bulk_bytes += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let delay = Duration::from_micros(300);
        self.schedule(self.now + delay, Happening::Stream { to, conn, bytes });
    }
}

impl Host {
    fn new() -> Self {
        Self {
            node: None,
            checks: BTreeSet::new(),
            table: BTreeMap::new(),
            table_at: BTreeMap::new(),
            events: Vec::new(),
            left: false,
            conflict: false,
            epoch: 0,
            kept: Kept::default(),
            forced: BTreeMap::new(),
            wall_off_ms: 0,
            starts: 0,
            probers: BTreeMap::new(),
            streams: BTreeMap::new(),
            wake: Time::NEVER,
        }
    }
}

/// Does this frame, which is sealed by a checksum only, carry replication?
fn is_a_word(bytes: &[u8]) -> bool {
    let body = FrameBuf::copied(&bytes[HEADER_BYTES..bytes.len() - TAG_BYTES]);
    let packet = access(body.as_slice()).expect("it was encoded here");
    matches!(packet.body, ArchivedBody::Replica(_))
}

fn meta() -> CheckMeta {
    CheckMeta {
        interval: INTERVAL,
        timeout: TIMEOUT,
        carried: false,
        network: 0,
        reference: false,
        able: true,
    }
}

fn next_phase(now: Time, check: CheckId) -> Time {
    let interval_us = u64::try_from(INTERVAL.as_micros()).unwrap();
    let phase = check.prefix() % interval_us;
    let at = now.as_micros();
    let base = at - at % interval_us + phase;
    Time::from_micros(if base >= at { base } else { base + interval_us })
}
