//! The engine in virtual time, driven by a script: a second costs nothing.

#![allow(dead_code, unreachable_pub, reason = "each test uses its share")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use watchfire_probe_core::engine::{
    Action, Config, During, Engine, Event, Inherited, Pacing, Report, ReportKind, Slot,
};
use watchfire_probe_core::rate::{Cap, Caps, Pace, Share};
use watchfire_probe_core::{CheckSpec, Schedule, Tenant};
use watchfire_wire::{CheckId, First, Time, Verdict};

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the scripted network does with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// Connects, and answers with 200.
    Answers,
    /// Refuses to connect.
    Refuses,
    /// Connects and says nothing.
    Hangs,
    /// The host has no descriptor left.
    NoFiles,
    /// Resets after the request.
    Resets,
    /// Answers that it has waited too long for a request.
    Expires,
}

const EXPIRED: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// An engine, virtual time, and the operations in progress.
pub struct World {
    pub engine: Engine,
    pub now: Time,
    pub net: Net,
    /// Each operation's end: when, and what.
    due: BTreeMap<(Time, u64), (Slot, End)>,
    doing: BTreeMap<Slot, (Time, u64)>,
    next: u64,
    /// How long the network takes.
    pub delay: Duration,
    /// Starts of probes.
    pub starts: Vec<Time>,
    pub reports: Vec<Report>,
    pub peak: u32,
    /// Connects and says nothing, whatever the others do.
    pub silent: Option<SocketAddr>,
    /// Where probes went, in order.
    pub targets: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug)]
pub enum End {
    Connected,
    Answer(&'static [u8]),
    Failed(During, i32),
    Closed,
}

impl World {
    pub fn new(slots: u32) -> Self {
        let now = Time(5_000_000);
        let config = Config {
            slots,
            pacing: Pacing::Scheduled,
            user_agent: "test".to_owned(),
            schedule: Schedule::new(now, 1_700_000_000_000_000),
            tls: None,
        };
        Self {
            engine: Engine::new(config, now),
            now,
            net: Net::Answers,
            due: BTreeMap::new(),
            doing: BTreeMap::new(),
            next: 0,
            delay: Duration::from_micros(300),
            starts: Vec::new(),
            reports: Vec::new(),
            peak: 0,
            silent: None,
            targets: Vec::new(),
        }
    }

    pub fn start(&mut self, spec: &CheckSpec, inherit: Option<Inherited>) -> CheckId {
        let (spec, id) = (Arc::new(spec.clone()), spec.id());
        let caps = Caps::default();
        self.engine
            .start(id, &spec, 1, inherit, First::PHASE, caps, self.now)
            .unwrap();
        id
    }

    pub fn start_for(&mut self, tenant: &str, spec: &CheckSpec) {
        let caps = Caps {
            tenant: Tenant::of(tenant),
            ..Caps::default()
        };
        let spec = Arc::new(spec.clone());
        self.engine
            .start(spec.id(), &spec, 1, None, First::PHASE, caps, self.now)
            .unwrap();
    }

    /// A hundred checks of one second behind one address, which is capped at
    /// twenty probes a second.
    pub fn start_capped(&mut self, inherit: Option<Inherited>) {
        let share = Arc::new(Share::new(Arc::new(Pace::new(20))));
        let caps = Caps {
            address: Some(Cap::new(share)),
            ..Caps::default()
        };
        for n in 0..100 {
            let spec = Arc::new(tcp(n));
            self.engine
                .start(
                    spec.id(),
                    &spec,
                    1,
                    inherit,
                    First::PHASE,
                    caps.clone(),
                    self.now,
                )
                .unwrap();
        }
    }

    pub fn later(&mut self, slot: Slot, delay: Duration, end: End) {
        let key = (self.now + delay, self.next);
        self.next += 1;
        self.due.insert(key, (slot, end));
        self.doing.insert(slot, key);
    }

    /// Does what the engine wants.
    pub fn act(&mut self) {
        let mut actions = Vec::new();
        self.engine.take_actions(&mut actions);
        for action in actions {
            let (delay, mut net) = (self.delay, self.net);
            if let Action::Open(slot) | Action::Exchange(slot) = action
                && Some(self.engine.target(slot).addr) == self.silent
            {
                net = Net::Hangs;
            }
            match action {
                Action::Open(slot) => {
                    self.starts.push(self.now);
                    self.targets.push(self.engine.target(slot).addr);
                    let end = match net {
                        Net::Refuses => End::Failed(During::Connect, libc::ECONNREFUSED),
                        Net::NoFiles => End::Failed(During::Open, libc::EMFILE),
                        Net::Hangs if self.engine.target(slot).half_open => continue,
                        _ => End::Connected,
                    };
                    self.later(slot, delay, end);
                }
                Action::Exchange(slot) => match net {
                    Net::Hangs => {}
                    Net::Resets => {
                        self.later(slot, delay, End::Failed(During::Receive, libc::ECONNRESET));
                    }
                    Net::Expires => self.later(slot, delay, End::Answer(EXPIRED)),
                    _ => self.later(slot, delay, End::Answer(OK)),
                },
                Action::Receive(_) | Action::Watch(_) => {}
                Action::Cancel(slot) => {
                    if let Some(key) = self.doing.remove(&slot) {
                        self.due.remove(&key);
                    }
                    self.later(
                        slot,
                        Duration::ZERO,
                        End::Failed(During::Connect, libc::ECANCELED),
                    );
                }
                Action::Close { slot, .. } => self.later(slot, delay, End::Closed),
            }
        }
    }

    /// One turn: everything that had happened by `now`, then the engine.
    pub fn turn(&mut self, late: Duration) {
        self.engine.begin_turn(late.as_micros() as u64);
        while let Some((&key, &(slot, end))) = self.due.first_key_value() {
            if key.0 > self.now {
                break;
            }
            self.due.remove(&key);
            self.doing.remove(&slot);
            let half_open = self.engine.target(slot).half_open;
            let (now, engine) = (self.now, &mut self.engine);
            match end {
                End::Connected => engine.on_event(now, slot, Event::Connected),
                End::Answer(bytes) => engine.on_event(now, slot, Event::Received(bytes)),
                End::Failed(during, errno) => {
                    engine.on_event(now, slot, Event::Failed { during, errno });
                }
                End::Closed => engine.on_event(now, slot, Event::Closed),
            }
            if half_open && !matches!(end, End::Closed) {
                engine.on_event(now, slot, Event::Closed);
            }
        }
        self.engine.advance(self.now);
        self.act();
        self.peak = self.peak.max(self.engine.slots_in_use());
        while let Some(report) = self.engine.poll_report() {
            self.reports.push(report);
        }
    }

    /// Lets time pass, a millisecond or a network event at a time.
    pub fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            let tick = Time((self.now.0 / 1_000 + 1) * 1_000);
            let event = self
                .due
                .first_key_value()
                .map_or(Time::NEVER, |(key, _)| key.0);
            self.now = tick.min(event).max(self.now).min(until);
            self.turn(Duration::ZERO);
            if self.due.is_empty() && self.engine.next_timeout().is_none() {
                self.now = until;
            }
        }
    }

    /// Lets time pass without looking, then looks.
    pub fn stall(&mut self, span: Duration) {
        self.now += span;
        self.turn(span);
    }

    pub fn verdicts(&self) -> Vec<Verdict> {
        self.reports
            .iter()
            .filter_map(|report| match report.kind {
                ReportKind::Measured { verdict, .. } => Some(verdict),
                _ => None,
            })
            .collect()
    }
}

pub fn tcp(n: u16) -> CheckSpec {
    CheckSpec::tcp(([192, 0, 2, 7], 1_000 + n).into())
}

pub fn http(n: u16) -> CheckSpec {
    CheckSpec::http(([192, 0, 2, 7], 1_000 + n).into(), "/")
}

pub const SECOND: Duration = Duration::from_secs(1);
