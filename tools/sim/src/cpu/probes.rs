//! The probe thread of a node: the production engine, driven over simulated
//! sockets by turns like those of `watchfire_probe`'s worker.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use watchfire_probe_core::engine::{
    Action, Config, During, Engine, Event as Happened, Inherited, Pacing, Slot,
};
use watchfire_probe_core::rate::Caps;
use watchfire_probe_core::sickness::Sickness;
use watchfire_probe_core::stats::Stats;
use watchfire_probe_core::{CheckSpec, Schedule};
use watchfire_wire::{CheckId, First, Reason, Time, Unmeasured};

use super::gossip::{gossip_of, probes_of};
use crate::prober::Outcome;
use crate::uplink;
use crate::workload::Options;
use crate::world::{Event, World};

/// Longest wait of a thread, longest time without a turn that is no fault, and
/// from one look at the statistics to the next: the worker's own figures.
const WAIT_MAX: Duration = Duration::from_millis(500);
const STUCK_AFTER: Duration = Duration::from_secs(3);
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Slots of an engine, as an agent has them by default or more.
const SLOTS: u32 = 4_096;

const EMFILE: i32 = 24;
const EADDRNOTAVAIL: i32 = 99;
const ECONNREFUSED: i32 = 111;
const ECANCELED: i32 = 125;

/// One probe thread.
#[derive(Debug)]
pub(crate) struct Probes {
    engine: Engine,
    commands: VecDeque<Command>,
    happened: VecDeque<(Slot, SocketEvent)>,
    /// The operation in progress of each slot, 0 for none.
    operations: Vec<u32>,
    operation: u32,
    /// Questions that were taken and whose probe has not begun.
    asking: HashMap<u32, u32>,
    actions: Vec<Action>,
    phase: Phase,
    armed: Time,
    slept: bool,
    publish_at: Time,
    sickness: Sickness,
    sick: bool,
    beat: Time,
    late: Duration,
    scratch: Stats,
    unmeasured: u64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// At work since it looked at the clock.
    Busy { looked: Time },
    /// Waiting since it was ready, for so long at most.
    Waiting {
        looked: Time,
        ready: Time,
        timeout: Duration,
    },
}

/// What a node wants of its probe thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    Start {
        check: u32,
        generation: u32,
        inherit: Option<Inherited>,
        first: First,
    },
    Stop(u32),
    Attend(u32),
    Ask {
        check: u32,
        ask: u64,
    },
}

/// What happens to a simulated socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketEvent {
    /// It is connected, and reset at once.
    Connected,
    /// That failed.
    Failed(During, i32),
    /// It is closed.
    Closed,
}

impl Probes {
    pub(crate) fn new(schedule: Schedule, now: Time) -> Self {
        let config = Config {
            slots: SLOTS,
            pacing: Pacing::Scheduled,
            user_agent: String::new(),
            schedule,
            tls: None,
        };
        Self {
            engine: Engine::new(config, now),
            commands: VecDeque::new(),
            happened: VecDeque::new(),
            operations: Vec::new(),
            operation: 0,
            asking: HashMap::new(),
            actions: Vec::new(),
            phase: Phase::Busy { looked: now },
            armed: Time::NEVER,
            slept: true,
            publish_at: now + PUBLISH_EVERY,
            sickness: Sickness::new(now),
            sick: false,
            beat: now,
            late: Duration::ZERO,
            scratch: Stats::new(),
            unmeasured: 0,
        }
    }

    /// As the agent asks its prober.
    pub(crate) fn is_healthy(&self, now: Time) -> bool {
        !self.sick && now.since(self.beat) < STUCK_AFTER
    }

    /// See [`Engine::set_hurry`].
    pub(crate) const fn set_hurry(&mut self, hurry: bool) {
        self.engine.set_hurry(hurry);
    }

    /// Probes that measured nothing so far.
    pub(crate) fn unmeasured(&self) -> u64 {
        self.unmeasured
    }

    /// By how much a turn was late at most since this was last asked.
    pub(crate) fn take_lateness(&mut self) -> Duration {
        std::mem::take(&mut self.late)
    }

    fn timeout(&self, now: Time) -> Duration {
        if !self.commands.is_empty() {
            return Duration::ZERO;
        }
        let next = self.engine.next_timeout();
        next.map_or(WAIT_MAX, |next| next.since(now).min(WAIT_MAX))
    }

    fn take_command(&mut self, specs: &[Arc<CheckSpec>], id: CheckId, it: Command, now: Time) {
        match it {
            Command::Start {
                check,
                generation,
                inherit,
                first,
            } => {
                let spec = &specs[check as usize];
                let caps = Caps::default();
                let engine = &mut self.engine;
                let taken = engine.start(id, spec, generation, inherit, first, caps, now);
                taken.expect("a simulated node has no more checks than an engine holds");
            }
            Command::Stop(_) => self.engine.stop(id),
            Command::Attend(_) => self.engine.attend(id),
            Command::Ask { check, ask } => {
                *self.asking.entry(check).or_default() += 1;
                let spec = &specs[check as usize];
                self.engine.ask(id, spec, ask, Caps::default(), now);
            }
        }
    }

    /// Numbers an operation on a slot.
    fn begin(&mut self, slot: Slot) -> u32 {
        self.operation += 1;
        let at = slot as usize;
        if self.operations.len() <= at {
            self.operations.resize(at + 1, 0);
        }
        self.operations[at] = self.operation;
        self.operation
    }

    /// An operation came to its end, if it is the one in progress.
    pub(crate) fn end(&mut self, slot: Slot, operation: u32, how: SocketEvent) -> bool {
        let at = slot as usize;
        if self.operations.get(at) != Some(&operation) {
            return false;
        }
        self.operations[at] = 0;
        self.happened.push_back((slot, how));
        true
    }

    fn publish(&mut self, now: Time) {
        if now < self.publish_at {
            return;
        }
        self.publish_at = now + PUBLISH_EVERY;
        let (ours, outcomes) = self.engine.take_trouble();
        let stats = self.engine.stats();
        self.sick = self.sickness.observe(now, ours, outcomes);
        self.unmeasured += ours;
        stats.move_into(&mut self.scratch);
    }
}

impl Command {
    const fn check(self) -> u32 {
        match self {
            Self::Start { check, .. }
            | Self::Stop(check)
            | Self::Attend(check)
            | Self::Ask { check, .. } => check,
        }
    }
}

impl World {
    /// Asks something of a host's probe thread, if processors cost time.
    pub(crate) fn ask_prober(&mut self, host: usize, command: Command) {
        if let Some(threads) = &mut self.hosts[host].threads {
            threads.probes.commands.push_back(command);
            self.wake(probes_of(host));
        }
    }

    pub(crate) fn on_socket(&mut self, host: usize, slot: Slot, operation: u32, how: SocketEvent) {
        if let Some(threads) = &mut self.hosts[host].threads
            && threads.probes.end(slot, operation, how)
        {
            self.wake(probes_of(host));
        }
    }

    /// A turn of a probe thread, if there is reason for one; otherwise it goes
    /// to sleep.
    pub(crate) fn probe_work(&mut self, host: usize) -> bool {
        let now = self.local(host);
        let it = &mut self.hosts[host];
        let Some(threads) = &mut it.threads else {
            return false;
        };
        let probes = &mut threads.probes;
        if let Phase::Busy { looked } = probes.phase {
            let timeout = probes.timeout(now);
            let ready = now;
            probes.phase = Phase::Waiting {
                looked,
                ready,
                timeout,
            };
        }
        let Phase::Waiting {
            looked,
            ready,
            timeout,
        } = probes.phase
        else {
            return false;
        };
        let slept = std::mem::replace(&mut probes.slept, false);
        let asked = !(probes.commands.is_empty() && probes.happened.is_empty());
        let until = ready + timeout;
        if !asked && now < until {
            probes.slept = true;
            if until < probes.armed || probes.armed <= now {
                probes.armed = until;
                let at_us = it.clock.when_us(until);
                let (task, life) = (probes_of(host), it.life);
                self.queue.push(at_us, Event::Wake { task, life });
            }
            return false;
        }
        let overslept = now.since(ready).saturating_sub(timeout);
        let late = ready.since(looked) + overslept;
        if slept {
            self.spend(self.options.cpu.map_or(0.0, |cpu| cpu.costs.probe.wake_us));
        }
        self.probe_turn(host, now, late);
        true
    }

    fn probe_turn(&mut self, host: usize, now: Time, late: Duration) {
        let costs = self.options.cpu.expect("there are threads").costs.probe;
        self.spend(costs.turn_us);
        let mut actions = Vec::new();
        {
            let threads = self.hosts[host].threads.as_mut();
            let probes = &mut threads.expect("it was there before").probes;
            std::mem::swap(&mut actions, &mut probes.actions);
            let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            probes.late = probes.late.max(late);
            probes.engine.begin_turn(late_us);
            let mut events = 0;
            while let Some((slot, how)) = probes.happened.pop_front() {
                events += 1;
                let engine = &mut probes.engine;
                match how {
                    SocketEvent::Connected => engine.on_event(now, slot, Happened::Connected),
                    SocketEvent::Failed(during, errno) => {
                        engine.on_event(now, slot, Happened::Failed { during, errno });
                    }
                    SocketEvent::Closed => {}
                }
                engine.on_event(now, slot, Happened::Closed);
            }
            probes.beat = now;
            while let Some(command) = probes.commands.pop_front() {
                let id = self.checks[command.check() as usize];
                probes.take_command(&self.specs, id, command, now);
            }
            probes.engine.advance(now);
            probes.engine.take_actions(&mut actions);
            self.spend(f64::from(events) * costs.event_us);
        }
        for action in actions.drain(..) {
            self.carry_out_probe(host, action, costs.start_us);
        }
        self.hand_over_reports(host);
        let threads = self.hosts[host].threads.as_mut();
        let probes = &mut threads.expect("nothing ended it").probes;
        probes.actions = actions;
        probes.publish(now);
        probes.phase = Phase::Busy { looked: now };
    }

    fn carry_out_probe(&mut self, host: usize, action: Action, start_us: f64) {
        let (slot, outcome) = match action {
            Action::Open(slot) => (slot, None),
            Action::Cancel(slot) => {
                let how = SocketEvent::Failed(During::Connect, ECANCELED);
                (slot, Some((1, how)))
            }
            // A half-open probe closes by itself and exchanges nothing.
            Action::Close { slot, .. }
            | Action::Exchange(slot)
            | Action::Receive(slot)
            | Action::Watch(slot) => (slot, Some((1, SocketEvent::Closed))),
        };
        let ends = outcome.or_else(|| {
            self.spend(start_us);
            self.open(host, slot)
        });
        let threads = self.hosts[host].threads.as_mut();
        let operation = threads.expect("it asked for this").probes.begin(slot);
        if let Some((after_us, how)) = ends {
            let life = self.hosts[host].life;
            let at_us = self.sent_us(host) + after_us;
            let event = Event::Socket {
                host,
                life,
                slot,
                operation,
                how,
            };
            self.queue.push(at_us, event);
        }
    }

    /// Connects to an origin: when that ends and how; nothing if it hangs.
    fn open(&mut self, host: usize, slot: Slot) -> Option<(u64, SocketEvent)> {
        let threads = self.hosts[host].threads.as_mut();
        let probes = &mut threads.expect("it asked for this").probes;
        let check = check_at(probes.engine.target(slot).addr, &self.options);
        let asked = match probes.asking.get_mut(&check) {
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    probes.asking.remove(&check);
                }
                true
            }
            None => false,
        };
        let (outcome, took_us) = self.probe(host, check);
        let during = During::Connect;
        let how = match outcome {
            Outcome::NotMeasured(Unmeasured::OutOfFiles) => {
                return Some((took_us, SocketEvent::Failed(During::Open, EMFILE)));
            }
            Outcome::NotMeasured(_) => {
                return Some((took_us, SocketEvent::Failed(during, EADDRNOTAVAIL)));
            }
            Outcome::Pass => Some(SocketEvent::Connected),
            Outcome::Fail(Reason::ConnectRefused) => {
                Some(SocketEvent::Failed(during, ECONNREFUSED))
            }
            Outcome::Fail(_) => None,
        };
        if asked {
            self.load.asked += 1;
        } else {
            self.note_probe(host, check);
        }
        how.map(|how| (took_us, how))
    }

    fn hand_over_reports(&mut self, host: usize) {
        let mut any = false;
        let threads = self.hosts[host].threads.as_mut();
        let threads = threads.expect("it is at work");
        while let Some(report) = threads.probes.engine.poll_report() {
            any = true;
            threads.reports.push_back(report);
        }
        if any {
            self.wake(gossip_of(host));
        }
    }
}

/// Where the origin of a check listens.
pub(crate) fn origin_addr(check: u32, options: &Options) -> SocketAddr {
    let place = match options.uplink {
        Some(_) => uplink::place(check, options),
        None => check,
    };
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(ORIGINS | place)), 80)
}

fn check_at(addr: SocketAddr, options: &Options) -> u32 {
    let IpAddr::V4(ip) = addr.ip() else { return 0 };
    let place = ip.to_bits() & !ORIGINS;
    match options.uplink {
        Some(_) => uplink::check_of(place, options),
        None => place,
    }
}

/// 11.0.0.0/8.
const ORIGINS: u32 = 11 << 24;
