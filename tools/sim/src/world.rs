//! The world of one run: hosts with their processes, clocks and probers, the
//! network between them, the origins, and one queue of what happens next.
//!
//! It carries out what nodes want and what the plan says, and tells the
//! [oracles](crate::oracle) and the [measures](crate::measure) what it sees.
//! It decides nothing itself: all chance comes from the seed.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rkyv::util::AlignedVec;
use watchfire_core::io::{ConnId, Input, Report, ReportKind};
use watchfire_host::Effect;
use watchfire_probe_core::CheckSpec;
use watchfire_probe_core::engine::Slot;
use watchfire_wire::{CheckId, NodeId, Time};

use crate::agent::Agent;
use crate::cpu::{Machines, SocketEvent, Task, gossip_of, origin_addr, probes_of};
use crate::faults::{Fault, Fired};
use crate::host::Host;
use crate::liar::Liar;
use crate::limits;
use crate::load::Load;
use crate::measure::{CrashWatch, Measures, SpreadWatch};
use crate::net::Net;
use crate::oracle::Oracles;
use crate::origin::Origins;
use crate::prober::Outcome;
use crate::queue::Queue;
use crate::rng::Rng;
use crate::run::Verdict;
use crate::stream::Streams;
use crate::trace::Trace;
use crate::uplink::Uplink;
use crate::workload::{self, Action, Options, Phase, Plan};

/// One run.
#[derive(Debug)]
pub struct World {
    pub(crate) options: Options,
    pub(crate) now_us: u64,
    pub(crate) queue: Queue<Event>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) by_node: BTreeMap<NodeId, usize>,
    pub(crate) net: Net,
    pub(crate) streams: Streams,
    pub(crate) origins: Origins,
    pub(crate) checks: Vec<CheckId>,
    pub(crate) check_index: HashMap<CheckId, u32>,
    pub(crate) phase: Phase,
    /// When the network was last made whole.
    pub(crate) healed_us: u64,
    /// What all nodes together had written when quiet began.
    pub(crate) written_before: u64,
    /// What processes that have ended had written.
    pub(crate) written_by_dead: u64,
    /// Starts, stops and transitions of all nodes.
    pub(crate) reasons_to_write: u64,
    pub(crate) plan: std::vec::IntoIter<(u64, Action)>,
    pub(crate) rng: Rng,
    pub(crate) fired: Fired,
    pub(crate) oracles: Oracles,
    pub(crate) measures: Measures,
    pub(crate) crash: Option<CrashWatch>,
    pub(crate) spreading: BTreeMap<u32, SpreadWatch>,
    pub(crate) trace: Trace,
    pub(crate) load: Load,
    /// What is the matter with the way to the origins.
    pub(crate) uplink: Option<Uplink>,
    pub(crate) probes_per_second: Vec<u32>,
    /// What each check is.
    pub(crate) specs: Vec<Arc<CheckSpec>>,
    /// What origins are called.
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) machines: Option<Machines>,
    /// What the thread at work has spent on this piece of work, nanoseconds.
    pub(crate) spent: u64,
    pub(crate) hogs_until_us: u64,
    /// The member that lies.
    pub(crate) liar: Option<Liar>,
    effects: Vec<Effect>,
    buffer: AlignedVec<16>,
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node's timer.
    Tick { host: usize },
    /// A datagram arrives.
    Datagram {
        host: usize,
        from: Peer,
        bytes: Vec<u8>,
    },
    /// Something happens at one end of a stream.
    Stream {
        host: usize,
        life: u32,
        conn: ConnId,
        frame: Option<Vec<u8>>,
    },
    /// A probe is due.
    Probe {
        host: usize,
        life: u32,
        check: u32,
        generation: u32,
        due: Time,
    },
    /// Its outcome is known.
    Probed {
        host: usize,
        life: u32,
        check: u32,
        generation: u32,
        outcome: Outcome,
        took_us: u32,
    },
    /// The outcome of a probe for a second opinion is known.
    Asked {
        host: usize,
        life: u32,
        check: u32,
        ask: u64,
        outcome: Outcome,
    },
    /// A process goes on after a stop.
    Resume { host: usize },
    /// A core's thread has ended a piece of work, or its slice.
    Core { core: usize },
    /// A thread wanted to be woken.
    Wake { task: Task, life: u32 },
    /// Something happens to a socket of a probe thread.
    Socket {
        host: usize,
        life: u32,
        slot: Slot,
        operation: u32,
        how: SocketEvent,
    },
}

/// Who sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A host of the POP.
    Host(usize),
    /// Somebody else.
    Stranger(u16),
}

impl World {
    /// The world of this seed, before anything happened.
    #[must_use]
    pub fn new(options: Options, seed: u64, trace: Trace) -> Self {
        let plan = workload::plan(&options, &mut Rng::new(seed).fork(2));
        Self::with_plan(options, plan, seed, trace)
    }

    /// The same with a plan of one's own.
    pub(crate) fn with_plan(options: Options, plan: Plan, seed: u64, trace: Trace) -> Self {
        let root = Rng::new(seed);
        let mut rng = root.fork(1);
        let name = |i: usize| format!("edge-{i}");
        let hosts: Vec<Host> = (0..options.nodes)
            .map(|i| Host::new(&options, name(i), host_addr(i), &mut rng))
            .collect();
        let checks: Vec<CheckId> = (0..options.checks)
            .map(|i| CheckId::of_canonical(format!("origin-{i}").as_bytes()))
            .collect();
        let mut net = Net::new(options.nodes, root.fork(3));
        net.set_recording(options.faults.has(Fault::Replay));
        Self {
            now_us: 0,
            queue: Queue::default(),
            by_node: hosts
                .iter()
                .map(|h| NodeId::of_name(&h.name))
                .zip(0..)
                .collect(),
            net,
            streams: Streams::default(),
            origins: Origins::new(options.checks),
            check_index: checks.iter().copied().zip(0..).collect(),
            phase: Phase::Settle,
            healed_us: 0,
            written_before: 0,
            written_by_dead: 0,
            reasons_to_write: 0,
            plan: plan.into_iter(),
            rng,
            fired: Fired::default(),
            oracles: Oracles::new(&options),
            measures: Measures::default(),
            crash: None,
            spreading: BTreeMap::new(),
            trace,
            load: Load::new(&options),
            uplink: None,
            probes_per_second: Vec::new(),
            specs: specs(&options),
            names: (0..options.names())
                .map(|i| format!("origin-{i}").into())
                .collect(),
            machines: Self::machines_of(&options),
            spent: 0,
            hogs_until_us: 0,
            liar: None,
            effects: Vec::new(),
            buffer: AlignedVec::new(),
            hosts,
            checks,
            options,
        }
    }

    /// Runs to the end of the plan, or to the limit of violations.
    pub fn run(&mut self) {
        self.run_watched(&mut |_| {});
    }

    /// The same, with a look at it after every sweep.
    pub(crate) fn run_watched(&mut self, watch: &mut dyn FnMut(&Self)) {
        let mut action = self.plan.next();
        let mut sweep_us = limits::SWEEP_US;
        while let Some((action_us, _)) = action {
            let next_us = self.queue.next_us().unwrap_or(u64::MAX);
            if sweep_us <= action_us && sweep_us <= next_us {
                self.now_us = sweep_us;
                self.sweep();
                watch(self);
                sweep_us += limits::SWEEP_US;
            } else if action_us <= next_us {
                self.now_us = action_us;
                let (_, act) = action.take().expect("the loop's condition");
                self.act(act);
                action = self.plan.next();
            } else {
                let (at_us, event) = self.queue.pop().expect("its time was just read");
                self.now_us = at_us;
                self.measures.steps += 1;
                self.step(event);
            }
            if self.oracles.is_full() {
                return;
            }
        }
    }

    /// What the run came to, and its trace.
    pub(crate) fn into_verdict(self, seed: u64) -> (Verdict, Trace) {
        let verdict = Verdict {
            seed,
            violations: self.oracles.violations,
            measures: self.measures,
            fired: self.fired,
            fingerprint: self.trace.fingerprint(),
        };
        (verdict, self.trace)
    }

    fn step(&mut self, event: Event) {
        let Some(host) = event.host() else {
            return self.step_thread(event);
        };
        let is_stalled = self.hosts[host].stalled_until_us > self.now_us;
        // Where there are threads, the threads stop and their events wait.
        if is_stalled && !self.has_cpu() && !matches!(event, Event::Resume { .. }) {
            self.wait_for_resume(host, event);
            return;
        }
        if self.hosts[host].held_until_us > self.now_us
            && matches!(event, Event::Datagram { .. } | Event::Stream { .. })
        {
            self.queue.push(self.hosts[host].held_until_us, event);
            return;
        }
        match event {
            Event::Tick { host } => {
                if self.hosts[host].tick_due_us == self.now_us {
                    self.hosts[host].tick_due_us = u64::MAX;
                    self.trace.mix(1, self.now_us ^ (host as u64) << 48);
                    if self.has_cpu() {
                        self.wake(gossip_of(host));
                    } else {
                        self.feed(host, Input::Tick);
                    }
                }
            }
            Event::Datagram { .. } if self.has_cpu() => self.deliver_later(host, event),
            Event::Datagram { host, from, bytes } => {
                self.receive(host, from, &bytes, Duration::ZERO)
            }
            Event::Stream {
                host,
                life,
                conn,
                frame,
            } => self.on_stream(host, life, conn, frame),
            Event::Probe {
                host,
                life,
                check,
                generation,
                due,
            } => {
                self.on_probe_due(host, life, check, generation, due);
            }
            Event::Probed {
                host,
                life,
                check,
                generation,
                outcome,
                took_us,
            } => {
                self.on_probed(host, life, check, generation, outcome, took_us);
            }
            Event::Asked {
                host,
                life,
                check,
                ask,
                outcome,
            } => {
                if self.hosts[host].life == life {
                    let kind = ReportKind::Opinion {
                        ask,
                        answer: outcome.answer(),
                    };
                    self.report(host, check, 0, kind);
                }
            }
            Event::Resume { host } => {
                if self.hosts[host].stalled_until_us <= self.now_us {
                    self.hosts[host].waiting_datagrams = 0;
                    self.trace
                        .line(self.now_us, Some(host), format_args!("goes on"));
                    self.wake(gossip_of(host));
                    self.wake(probes_of(host));
                }
            }
            Event::Socket {
                host,
                life,
                slot,
                operation,
                how,
            } => {
                if self.hosts[host].life == life {
                    self.on_socket(host, slot, operation, how);
                }
            }
            Event::Core { .. } | Event::Wake { .. } => self.step_thread(event),
        }
    }

    fn step_thread(&mut self, event: Event) {
        match event {
            Event::Core { core } => self.on_core(core),
            Event::Wake { task, life }
                if self.hosts.get(task / 2).is_none_or(|it| it.life == life) =>
            {
                self.wake(task);
            }
            _ => {}
        }
    }

    /// The kernel holds for a stopped process what it can.
    fn wait_for_resume(&mut self, host: usize, mut event: Event) {
        let it = &mut self.hosts[host];
        let resume_us = it.stalled_until_us;
        match &mut event {
            Event::Datagram { .. } => {
                it.waiting_datagrams += 1;
                if it.waiting_datagrams > limits::SOCKET_DATAGRAMS {
                    return;
                }
            }
            Event::Tick { .. } => {
                if it.tick_due_us != self.now_us {
                    return;
                }
                it.tick_due_us = resume_us;
            }
            // A completion waits in the ring; that nothing came in time is
            // seen late, and proves nothing.
            Event::Probed { outcome, .. } | Event::Asked { outcome, .. } => {
                *outcome = outcome.seen_late();
            }
            _ => {}
        }
        self.queue.push(resume_us, event);
    }

    /// Gives a datagram to a process, if there is one.
    pub(crate) fn receive(&mut self, host: usize, from: Peer, bytes: &[u8], age: Duration) {
        if self.hosts[host].agent.is_none() || self.answer_with_lies(host, from, bytes) {
            return;
        }
        self.trace.mix(
            2,
            self.now_us ^ (host as u64) << 48 ^ (bytes.len() as u64) << 32,
        );
        if let Peer::Stranger(stranger) = from {
            self.oracles.gate.heard(stranger, bytes.len());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.feed(
            host,
            Input::Datagram {
                from: from.addr(),
                bytes: &mut buffer,
                age,
            },
        );
        self.buffer = buffer;
    }

    fn on_stream(&mut self, host: usize, life: u32, conn: ConnId, frame: Option<Vec<u8>>) {
        if self.hosts[host].life != life || self.hosts[host].agent.is_none() {
            return;
        }
        self.trace.mix(3, self.now_us ^ (host as u64) << 48);
        if self.has_cpu() {
            let event = Event::Stream {
                host,
                life,
                conn,
                frame,
            };
            self.deliver_later(host, event);
        } else {
            self.deliver_stream(host, conn, frame);
        }
    }

    pub(crate) fn aligned(&mut self, bytes: &[u8]) -> AlignedVec<16> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    pub(crate) fn give_back(&mut self, buffer: AlignedVec<16>) {
        self.buffer = buffer;
    }

    /// Gives an input to a node and carries out all that it wants.
    pub(crate) fn feed(&mut self, host: usize, input: Input<'_>) {
        self.feed_with(host, |agent, now| agent.handle(now, input));
    }

    /// Tells a process something and carries out all that it wants.
    pub(crate) fn feed_with(&mut self, host: usize, tell: impl FnOnce(&mut Agent, Time)) {
        let it = &mut self.hosts[host];
        let Some(agent) = &mut it.agent else { return };
        let now = it.clock.local(self.now_us);
        tell(agent, now);
        let mut effects = std::mem::take(&mut self.effects);
        while let Some(effect) = agent.poll_effect() {
            effects.push(effect);
            if effects.len() > limits::OUTPUTS_PER_INPUT {
                self.oracles.violate(self.now_us, Some(host), "bounds", || {
                    format!(
                        "more than {} effects of one input",
                        limits::OUTPUTS_PER_INPUT
                    )
                });
                break;
            }
        }
        let has_cpu = self.has_cpu();
        if has_cpu {
            self.charge_input(host);
        }
        for effect in effects.drain(..) {
            if has_cpu {
                self.charge(&effect);
            }
            self.carry_out(host, effect);
        }
        self.effects = effects;
        self.arm(host);
    }

    /// Makes sure that the node is woken when it wants to be.
    pub(crate) fn arm(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        // A thread looks for itself before it sleeps.
        let Some(agent) = it.agent.as_ref().filter(|_| it.threads.is_none()) else {
            return;
        };
        let due_us = it.clock.when_us(agent.next_timeout()).max(self.now_us);
        if due_us < it.tick_due_us {
            it.tick_due_us = due_us;
            self.queue.push(due_us, Event::Tick { host });
        }
    }

    /// Gives a report of the prober to its node.
    pub(crate) fn report(&mut self, host: usize, check: u32, generation: u32, kind: ReportKind) {
        if !matches!(kind, ReportKind::Opinion { .. }) {
            self.hosts[host].writes.entry(check).or_default().reported = true;
        }
        let report = Report {
            check: self.checks[check as usize],
            generation,
            kind,
        };
        self.trace
            .mix(4, self.now_us ^ (host as u64) << 48 ^ u64::from(check));
        if self.trace.is_on() {
            let words = format_args!("reports of check {check}: {kind:?}");
            self.trace.line(self.now_us, Some(host), words);
        }
        self.feed(host, Input::Report(report));
    }

    /// The nodes that run.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.hosts.iter().filter_map(|host| host.agent.as_ref())
    }

    /// Hosts with a running process.
    pub(crate) fn living(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.hosts.len()).filter(|&host| self.hosts[host].agent.is_some())
    }
}

impl Event {
    fn host(&self) -> Option<usize> {
        match *self {
            Self::Core { .. } | Self::Wake { .. } => None,
            Self::Tick { host }
            | Self::Datagram { host, .. }
            | Self::Stream { host, .. }
            | Self::Probe { host, .. }
            | Self::Probed { host, .. }
            | Self::Asked { host, .. }
            | Self::Socket { host, .. }
            | Self::Resume { host } => Some(host),
        }
    }
}

impl Peer {
    pub(crate) fn addr(self) -> SocketAddr {
        match self {
            Self::Host(host) => host_addr(host),
            Self::Stranger(stranger) => {
                let [hi, lo] = stranger.to_be_bytes();
                SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, hi, lo)), 40_000)
            }
        }
    }

    /// Whose address this is, if it is one of these.
    pub(crate) fn of(addr: SocketAddr, hosts: usize) -> Option<Self> {
        let IpAddr::V4(ip) = addr.ip() else {
            return None;
        };
        let [a, b, hi, lo] = ip.octets();
        let number = u16::from_be_bytes([hi, lo]);
        match (a, b) {
            (10, 0) if usize::from(number) < hosts => Some(Self::Host(usize::from(number))),
            (198, 51) => Some(Self::Stranger(number)),
            _ => None,
        }
    }
}

pub(crate) fn host_addr(host: usize) -> SocketAddr {
    let [hi, lo] = (host as u16).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, hi, lo)), 7_946)
}

/// What each check is.
fn specs(options: &Options) -> Vec<Arc<CheckSpec>> {
    let spec = |check: usize| {
        let mut spec = CheckSpec::tcp(origin_addr(check as u32, options));
        spec.interval = Duration::from_micros(options.interval_us);
        spec.timeout = Duration::from_micros(options.timeout_us());
        spec.fast_interval = options.fast_us.map(Duration::from_micros);
        Arc::new(spec)
    };
    (0..options.checks).map(spec).collect()
}
