//! The gossip thread of a node: what waits for it, and what one piece of its
//! work costs.

use std::collections::VecDeque;
use std::time::Duration;

use watchfire_core::io::{ConnId, Event as Word, Input};
use watchfire_core::limits::LATE;
use watchfire_host::Effect;
use watchfire_probe_core::engine::{Report, ReportKind};

use super::costs::{GossipCosts, Nanos, nanos};
use super::machine::{Next, Task};
use super::probes::Probes;
use super::socket::Socket;
use super::turn::{Ready, Turn, Work};
use super::{Cores, CpuOptions, Machines};
use crate::world::{Event, Peer, World};

/// From one heartbeat of the table to the next in turns that come anyway, and when
/// one comes for it alone, microseconds: the agent's.
const HEARTBEAT_US: u64 = 100_000;
const HEARTBEAT_LATEST_US: u64 = 250_000;

/// The threads of one process, and what waits for them.
#[derive(Debug)]
pub(crate) struct Threads {
    pub(crate) socket: Socket<Peer>,
    pub(crate) streams: VecDeque<(ConnId, Option<Vec<u8>>)>,
    pub(crate) reports: VecDeque<Report>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) turn: Turn,
    /// The table's last heartbeat.
    pub(crate) last_heartbeat_us: u64,
    pub(crate) probes: Probes,
    /// The oldest datagram that was read, microseconds.
    pub(crate) oldest_us: u64,
    slept: bool,
    /// When it wanted to be woken, while it sleeps.
    wanted_us: u64,
    /// What the process's start still costs, microseconds.
    start_us: f64,
    /// When the present turn began, and what the thread had used by then.
    turn_began: (u64, Nanos),
    /// The longest turn, by the wall and by CPU, microseconds.
    pub(crate) longest_turn_us: (u64, u64),
    /// What of the node's counters was charged already.
    charged: Charged,
}

/// What is asked of a process from outside.
#[derive(Debug)]
pub(crate) enum Command {
    /// The definitions changed.
    Checks {
        /// New ones.
        add: Vec<u32>,
        /// Those that are gone.
        remove: Vec<u32>,
    },
    /// The weight changed.
    Capacity(u16),
    /// Hand over, or take part again.
    Drain(bool),
    /// Say goodbye.
    Leave,
    /// The probe threads are well, or not.
    Healthy(bool),
    /// A first look at everything.
    Tick,
}

/// Counters of a node whose growth costs something.
#[derive(Clone, Copy, Debug, Default)]
struct Charged {
    answers: u64,
    slots: u64,
}

impl Threads {
    pub(crate) fn new(options: &CpuOptions, probes: Probes, now_us: u64) -> Self {
        let machine = options.costs.machine;
        Self {
            socket: Socket::new(machine.socket_bytes, machine.datagram_overhead_bytes),
            streams: VecDeque::new(),
            reports: VecDeque::new(),
            commands: VecDeque::new(),
            turn: Turn::new(options.order),
            last_heartbeat_us: now_us,
            probes,
            oldest_us: 0,
            slept: true,
            wanted_us: u64::MAX,
            start_us: machine.start_us,
            turn_began: (now_us, 0),
            longest_turn_us: (0, 0),
            charged: Charged::default(),
        }
    }
}

/// The gossip thread of a host.
pub(crate) const fn gossip_of(host: usize) -> Task {
    2 * host
}

/// Its probe thread.
pub(crate) const fn probes_of(host: usize) -> Task {
    2 * host + 1
}

impl World {
    /// Whether processors cost time in this run.
    pub(crate) const fn has_cpu(&self) -> bool {
        self.options.cpu.is_some()
    }

    /// A thread has something to do.
    pub(crate) fn wake(&mut self, task: Task) {
        if let Some(machines) = &mut self.machines
            && let Some(core) = machines.wake(task)
        {
            self.queue.push(self.now_us, Event::Core { core });
        }
    }

    /// A core's thread has come to the end of a piece of work, or of a slice.
    pub(crate) fn on_core(&mut self, core: usize) {
        loop {
            let machines = self.machines.as_mut().expect("cores belong to machines");
            match machines.next(core) {
                Next::Idle => return,
                Next::Busy(us) => {
                    self.queue.push(self.now_us + us, Event::Core { core });
                    return;
                }
                Next::Free(task) => {
                    let cost = self.perform(task);
                    let machines = self.machines.as_mut().expect("they are still there");
                    match cost {
                        Some(cost) => machines.work(task, cost),
                        None => machines.sleep(core, task),
                    }
                }
            }
        }
    }

    /// Lets a thread do its next piece of work; what it costs, or nothing if it
    /// goes to sleep.
    fn perform(&mut self, task: Task) -> Option<Nanos> {
        let host = task / 2;
        let Some(it) = self.hosts.get(host) else {
            return self.burn(task);
        };
        if it.agent.is_none() || it.stalled_until_us > self.now_us {
            return None;
        }
        self.spent = 0;
        let went_on = if task == gossip_of(host) {
            self.gossip_work(host)
        } else {
            self.probe_work(host)
        };
        let times = self.times(host);
        went_on.then_some((self.spent as f64 * times) as Nanos)
    }

    /// How many times longer than alone a host's work takes.
    pub(crate) fn times(&self, host: usize) -> f64 {
        let shared = match self.options.cpu {
            Some(cpu) if cpu.cores != Cores::Own => cpu.costs.machine.shared_times,
            _ => 1.0,
        };
        self.hosts[host].slowness * shared
    }

    /// A thread that belongs to no node keeps its core busy.
    fn burn(&self, _task: Task) -> Option<Nanos> {
        let cpu = self.options.cpu.as_ref()?;
        (self.now_us < self.hogs_until_us).then_some(cpu.costs.machine.slice_us * 1_000)
    }

    fn gossip_work(&mut self, host: usize) -> bool {
        let costs = self.gossip_costs();
        let ready = self.ready(host);
        let machines = self.machines.as_ref();
        let used = machines.map_or(0, |it| it.used(gossip_of(host)));
        let now_us = self.now_us;
        let Some(threads) = &mut self.hosts[host].threads else {
            return false;
        };
        if threads.start_us > 0.0 {
            let start_us = std::mem::take(&mut threads.start_us);
            self.spend(start_us);
            return true;
        }
        let work = threads.turn.next(ready);
        let mut late_us = 0;
        if matches!(work, Some(Work::Look) | None) {
            let (began_us, used_then) = threads.turn_began;
            if used > used_then {
                let (wall_us, cpu_us) = (now_us - began_us, (used - used_then) / 1_000);
                let longest = &mut threads.longest_turn_us;
                *longest = (longest.0.max(wall_us), longest.1.max(cpu_us));
                late_us = wall_us;
            }
            threads.turn_began = (now_us, used);
        }
        let slept = std::mem::replace(&mut threads.slept, work.is_none());
        if slept && work.is_some() {
            late_us = late_us.max(now_us.saturating_sub(threads.wanted_us));
        }
        // As the loop tells it: the turn before took long, or it was woken late.
        if late_us >= LATE.as_micros() as u64 {
            self.feed(host, Input::Late(Duration::from_micros(late_us)));
        }
        let Some(threads) = &mut self.hosts[host].threads else {
            return false;
        };
        let Some(work) = work else {
            if self.spent > 0 {
                threads.slept = false;
                return true;
            }
            self.arm_gossip(host);
            return false;
        };
        match work {
            Work::Look if slept => self.spend(costs.turn_us + costs.wake_us),
            Work::Look => self.spend(costs.turn_us),
            Work::Datagram => {
                if let Some(datagram) = threads.socket.pop() {
                    let age_us = now_us - datagram.at_us;
                    threads.oldest_us = threads.oldest_us.max(age_us);
                    self.spend(costs.receive_us + costs.open_us);
                    let age = Duration::from_micros(age_us);
                    self.receive(host, datagram.from, &datagram.bytes, age);
                }
            }
            Work::Stream => {
                if let Some((conn, frame)) = threads.streams.pop_front() {
                    let bytes = frame.as_ref().map_or(0, Vec::len);
                    self.spend(costs.stream_frame_us);
                    self.spend(bytes as f64 * costs.crypt_ns_per_byte / 1e3);
                    self.deliver_stream(host, conn, frame);
                }
            }
            Work::Report => {
                if let Some(report) = threads.reports.pop_front() {
                    self.engine_reports(host, report);
                }
            }
            Work::Command => {
                if let Some(command) = threads.commands.pop_front() {
                    self.obey(host, command);
                }
            }
            Work::Tick => self.feed(host, Input::Tick),
            Work::Heartbeat => {
                threads.last_heartbeat_us = now_us;
                self.spend(costs.heartbeat_us);
                self.feed_with(host, |agent, now| agent.heartbeat(now));
                self.watch_prober(host);
            }
        }
        true
    }

    fn ready(&self, host: usize) -> Ready {
        let it = &self.hosts[host];
        let (Some(threads), Some(agent)) = (&it.threads, &it.agent) else {
            return Ready::default();
        };
        Ready {
            datagrams: threads.socket.len(),
            streams: threads.streams.len(),
            reports: threads.reports.len(),
            commands: threads.commands.len(),
            tick: agent.next_timeout() <= it.clock.local(self.now_us),
            heartbeat: threads.last_heartbeat_us + HEARTBEAT_US <= self.now_us,
            now_us: self.now_us,
        }
    }

    /// The thread sleeps until the node or the heartbeat wants it.
    fn arm_gossip(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        let (Some(threads), Some(agent)) = (&mut it.threads, &it.agent) else {
            return;
        };
        let node_us = it.clock.when_us(agent.next_timeout());
        let due_us = node_us
            .min(threads.last_heartbeat_us + HEARTBEAT_LATEST_US)
            .max(self.now_us);
        threads.wanted_us = due_us;
        if due_us < it.tick_due_us {
            it.tick_due_us = due_us;
            self.queue.push(due_us, Event::Tick { host });
        }
    }

    /// Tells the node when its probe threads fall ill or recover.
    fn watch_prober(&mut self, host: usize) {
        let now = self.local(host);
        let it = &mut self.hosts[host];
        let Some(threads) = &mut it.threads else {
            return;
        };
        let late = threads.probes.take_lateness();
        let healthy = threads.probes.is_healthy(now) && !it.sick;
        let mut is_news = false;
        self.feed_with(host, |agent, now| {
            is_news = agent.prober_healthy(now, healthy)
        });
        if is_news {
            self.spend(self.gossip_costs().log_us);
            self.say(host, || format!("its probe thread is well: {healthy}"));
        }
        if late >= LATE {
            self.feed(host, Input::Late(late));
        }
    }

    /// Asks something of a process: at once where processors are free,
    /// otherwise when its gossip thread comes to it.
    pub(crate) fn command(&mut self, host: usize, command: Command) {
        match &mut self.hosts[host].threads {
            Some(threads) => {
                threads.commands.push_back(command);
                self.wake(gossip_of(host));
            }
            None => self.obey(host, command),
        }
    }

    fn obey(&mut self, host: usize, command: Command) {
        match command {
            Command::Checks { add, remove } => {
                let each_us = self.gossip_costs().configure_us;
                self.spend((add.len() + remove.len()) as f64 * each_us);
                self.feed_checks(host, &add, &remove);
            }
            Command::Capacity(capacity) => self.feed(host, Input::Capacity(capacity)),
            Command::Drain(on) => self.feed(host, Input::Drain(on)),
            Command::Leave => self.feed(host, Input::Leave),
            // Where there is a probe thread, it is looked at.
            Command::Healthy(_) if self.has_cpu() => {}
            Command::Healthy(healthy) => self.feed(host, Input::ProberHealthy(healthy)),
            Command::Tick => self.feed(host, Input::Tick),
        }
    }

    /// Gives a report of the production engine to its host.
    fn engine_reports(&mut self, host: usize, report: Report) {
        let check = self.check_index[&report.check];
        if !matches!(report.kind, ReportKind::Opinion { .. }) {
            self.hosts[host].writes.entry(check).or_default().reported = true;
        }
        self.trace
            .mix(4, self.now_us ^ (host as u64) << 48 ^ u64::from(check));
        self.say(host, || {
            format!("reports of check {check}: {:?}", report.kind)
        });
        self.feed_with(host, |agent, now| agent.report(now, report));
    }

    /// A datagram or a stream's frame reached a host.
    pub(crate) fn deliver_later(&mut self, host: usize, event: Event) {
        let now_us = self.now_us;
        let Some(threads) = &mut self.hosts[host].threads else {
            return;
        };
        match event {
            Event::Datagram { from, bytes, .. } => threads.socket.push(now_us, from, bytes),
            Event::Stream { conn, frame, .. } => threads.streams.push_back((conn, frame)),
            _ => return,
        }
        self.wake(gossip_of(host));
    }

    /// Charges the running thread.
    pub(crate) fn spend(&mut self, us: f64) {
        self.spent += nanos(us);
    }

    /// Charges what handling an input and one of its outputs took.
    pub(crate) fn charge(&mut self, effect: &Effect) {
        let costs = self.gossip_costs();
        let crypt = |bytes: &[u8]| bytes.len() as f64 * costs.crypt_ns_per_byte / 1e3;
        let us = match effect {
            Effect::Datagram { .. } => costs.send_us + costs.seal_us,
            Effect::BulkConnect { hello, .. } => costs.stream_open_us + crypt(hello),
            Effect::BulkSend { bytes, .. } => costs.stream_frame_us + crypt(bytes),
            Effect::BulkClose { .. } => costs.stream_frame_us / 2.0,
            Effect::Published { .. } => costs.table_write_us,
            Effect::Event(word) => match word {
                Word::Joined(..)
                | Word::Suspected(_)
                | Word::Refuted(_)
                | Word::Died(_)
                | Word::Left(_) => {
                    let checks = self.options.checks as f64;
                    costs.member_us + checks * costs.rank_ns_per_check / 1e3 + costs.log_us
                }
                _ => costs.log_us,
            },
            _ => 0.5,
        };
        self.spend(us);
    }

    /// Charges the input itself, and what shows in the node's counters only.
    pub(crate) fn charge_input(&mut self, host: usize) {
        let costs = self.gossip_costs();
        let it = &mut self.hosts[host];
        let (Some(threads), Some(agent)) = (&mut it.threads, &it.agent) else {
            return;
        };
        let (answers, slots) = agent.served_and_taken();
        let charged = std::mem::replace(&mut threads.charged, Charged { answers, slots });
        let us = costs.handle_us
            + (answers - charged.answers) as f64 * costs.pull_answered_us
            + (slots - charged.slots) as f64 * costs.slot_taken_us;
        self.spend(us);
    }

    pub(crate) fn gossip_costs(&self) -> GossipCosts {
        self.options.cpu.map_or(FREE, |cpu| cpu.costs.gossip)
    }

    /// Gives back the threads of a process that has ended.
    pub(crate) fn end_threads(&mut self, host: usize) {
        self.hosts[host].threads = None;
        if let Some(machines) = &mut self.machines {
            machines.forget(gossip_of(host));
            machines.forget(probes_of(host));
        }
    }

    /// The processors of a run that has any.
    pub(crate) fn machines_of(options: &crate::workload::Options) -> Option<Machines> {
        let cpu = options.cpu?;
        let slice_us = cpu.costs.machine.slice_us;
        Some(Machines::new(
            cpu.cores,
            options.nodes,
            options.hogs,
            slice_us,
        ))
    }
}

/// Where processors are free, nothing costs anything.
const FREE: GossipCosts = GossipCosts {
    send_us: 0.0,
    seal_us: 0.0,
    open_us: 0.0,
    crypt_ns_per_byte: 0.0,
    receive_us: 0.0,
    handle_us: 0.0,
    turn_us: 0.0,
    wake_us: 0.0,
    pull_answered_us: 0.0,
    member_us: 0.0,
    rank_ns_per_check: 0.0,
    slot_taken_us: 0.0,
    table_write_us: 0.0,
    log_us: 0.0,
    stream_open_us: 0.0,
    stream_frame_us: 0.0,
    configure_us: 0.0,
    heartbeat_us: 0.0,
};
