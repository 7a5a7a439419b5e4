//! One turn of the gossip loop: sleep until something happens, feed the core,
//! do what it wants done.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token};
use tokio::sync::watch;
use watchfire_core::io::{BulkEvent, Input};
use watchfire_core::limits::LATE;
use watchfire_core::overrides::Kept;
use watchfire_host::Host;
use watchfire_probe::Prober;
use watchfire_table::FileHome;
use watchfire_wire::Time;
use watchfire_wire::frame::FrameBuf;
use watchfire_wire::limits::DATAGRAM_READ_BYTES;

use super::Ending;
use super::act::{Act, Flow};
use super::bulk::{Arrival, BulkStreams};
use super::command::Command;
use super::datagrams::{Datagrams, Received};
use super::observer::Observer;
use crate::clock;
use crate::limits::{
    BULK_FRAME_BYTES, DATAGRAMS_PER_TURN, REPORTS_PER_TURN, TABLE_HEARTBEAT,
    TABLE_HEARTBEAT_LATEST, TICK_WHILE_UNREAD, TIME_PER_TURN,
};
use crate::recorder::Recorder;

pub(super) const WAKER: Token = Token(0);
const UDP: Token = Token(1);
const LISTENER: Token = Token(2);

/// Events that one poll takes; more come with the next.
const EVENTS: usize = 256;

/// How soon commands that found no room are offered to the probe threads again.
const FLUSH_AGAIN: Duration = Duration::from_millis(1);

/// Everything around the core that the gossip thread owns.
pub(super) struct Shell {
    pub(super) name: String,
    pub(super) udp: Datagrams,
    pub(super) listener: TcpListener,
    pub(super) streams: BulkStreams,
    pub(super) prober: Prober,
    pub(super) host: Host<FileHome>,
    pub(super) commands: Receiver<Command>,
    pub(super) epoch: watch::Sender<u64>,
    pub(super) kept: watch::Sender<Arc<Kept>>,
    /// Whether there is anybody to join.
    pub(super) expects_peers: bool,
    pub(super) observer: Observer,
    pub(super) recorder: Recorder,
}

impl Shell {
    /// Accepts bulk streams.
    fn accept(&mut self, registry: &Registry) {
        let node = self.host.node();
        let known = |peer| {
            node.members()
                .any(|member| member.addr.ip().to_canonical() == peer)
        };
        self.streams
            .accept(&self.listener, registry, clock::now(), &known);
    }
}

/// Runs until the node has left, must not go on, or cannot.
pub(super) fn run(mut poll: Poll, mut shell: Shell) -> Ending {
    let registry = match poll.registry().try_clone() {
        Ok(registry) => registry,
        Err(error) => return Ending::Failed(format!("cannot set up the gossip loop: {error}")),
    };
    for (source, token) in [
        (&mut shell.udp.socket as &mut dyn mio::event::Source, UDP),
        (&mut shell.listener, LISTENER),
    ] {
        if let Err(error) = registry.register(source, token, Interest::READABLE) {
            return Ending::Failed(format!("cannot watch the gossip sockets: {error}"));
        }
    }
    let mut events = Events::with_capacity(EVENTS);
    let mut act = Act::new();
    let mut turn = Turn {
        buffer: FrameBuf::zeroed(DATAGRAM_READ_BYTES.max(BULK_FRAME_BYTES)),
        arrivals: Vec::new(),
        udp_unread: true,
        reports_unread: false,
        unflushed: false,
        last_heartbeat: Time::ZERO,
        ticked: Time::ZERO,
    };
    loop {
        let now = clock::now();
        let sleep = turn.sleep(now, &shell);
        let due = now + sleep;
        if let Err(error) = poll.poll(&mut events, Some(sleep)) {
            if error.kind() != ErrorKind::Interrupted {
                return Ending::Failed(format!("cannot wait for events: {error}"));
            }
            continue;
        }
        for event in &events {
            match event.token() {
                WAKER => turn.reports_unread = true,
                UDP => turn.udp_unread = true,
                LISTENER => shell.accept(&registry),
                token => shell.streams.ready(token, &registry, &mut turn.arrivals),
            }
        }
        // By so much the processor was taken away, or the turn before took long.
        let began = clock::now();
        let late = began.since(due).max(began.since(now).saturating_sub(sleep));
        if late >= LATE {
            shell.host.handle(began, Input::Late(late));
        }
        if let Err(ending) = turn.work(&mut shell, &mut act, &registry) {
            return ending;
        }
        let took = clock::now().since(began);
        if took >= LATE {
            shell.host.handle(clock::now(), Input::Late(took));
        }
    }
}

/// What one turn leaves to the next.
struct Turn {
    buffer: FrameBuf,
    arrivals: Vec<Arrival>,
    /// Readiness is told once, so what was not read to its end is remembered.
    udp_unread: bool,
    reports_unread: bool,
    /// Commands wait because a probe thread's queue was full.
    unflushed: bool,
    last_heartbeat: Time,
    /// When timers were last looked at.
    ticked: Time,
}

impl Turn {
    fn sleep(&self, now: Time, shell: &Shell) -> Duration {
        let unread = self.udp_unread
            || self.reports_unread
            || shell.streams.has_unread()
            || shell.streams.has_unaccepted();
        if unread || !shell.commands.is_empty() {
            return Duration::ZERO;
        }
        let sleep = shell
            .host
            .next_timeout()
            .min(self.last_heartbeat + TABLE_HEARTBEAT_LATEST)
            .min(shell.streams.next_deadline())
            .since(now);
        if self.unflushed {
            return sleep.min(FLUSH_AGAIN);
        }
        sleep
    }

    /// What keeps members alive first: datagrams, acks among them, and timers;
    /// then what the probes found, then bulk, then people.
    fn work(&mut self, shell: &mut Shell, act: &mut Act, registry: &Registry) -> Flow {
        self.read_datagrams(shell, act, registry)?;
        self.tick(shell, act, registry)?;
        self.read_reports(shell, act, registry)?;
        self.read_streams(shell, act, registry)?;
        while let Ok(command) = shell.commands.try_recv() {
            act.obey(command, shell);
            act.effects(shell, registry)?;
        }
        let now = clock::now();
        if now.since(self.last_heartbeat) >= TABLE_HEARTBEAT {
            self.last_heartbeat = now;
            shell.host.heartbeat(clock::now_ns());
            if shell.streams.has_missed() {
                shell.accept(registry);
            }
            act.watch(now, shell)?;
            act.effects(shell, registry)?;
        }
        self.unflushed = !shell.prober.flush();
        Ok(())
    }

    fn tick(&mut self, shell: &mut Shell, act: &mut Act, registry: &Registry) -> Flow {
        let now = clock::now();
        if self.udp_unread && now.since(self.ticked) < TICK_WHILE_UNREAD {
            return Ok(());
        }
        if shell.host.next_timeout() <= now {
            self.ticked = now;
            shell.host.handle(now, Input::Tick);
            act.effects(shell, registry)?;
        }
        Ok(())
    }

    fn read_datagrams(&mut self, shell: &mut Shell, act: &mut Act, registry: &Registry) -> Flow {
        if !self.udp_unread {
            return Ok(());
        }
        let allowance = Allowance::new();
        for count in 0..DATAGRAMS_PER_TURN {
            if allowance.is_used_up(count) {
                return Ok(());
            }
            let buffer = &mut self.buffer.as_mut_slice()[..DATAGRAM_READ_BYTES];
            match shell.udp.receive(buffer) {
                Ok(Some(Received { bytes, from, age })) => {
                    let bytes = &mut buffer[..bytes];
                    shell
                        .host
                        .handle(clock::now(), Input::Datagram { from, bytes, age });
                    act.effects(shell, registry)?;
                }
                Ok(None) => {
                    self.udp_unread = false;
                    return Ok(());
                }
                // An ICMP error of an earlier datagram: the peer's absence is
                // the core's to find out by its own means.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn read_streams(&mut self, shell: &mut Shell, act: &mut Act, registry: &Registry) -> Flow {
        if shell.streams.has_unaccepted() {
            shell.accept(registry);
        }
        shell.streams.resume(registry, &mut self.arrivals);
        shell
            .streams
            .expire(clock::now(), registry, &mut self.arrivals);
        for arrival in std::mem::take(&mut self.arrivals) {
            let now = clock::now();
            match arrival {
                // Its stream may be gone already: an answer and the end behind it
                // are read together by whoever comes late to them.
                Arrival::Frame(conn, frame) => {
                    let bytes = &mut self.buffer.as_mut_slice()[..frame.len()];
                    bytes.copy_from_slice(&frame);
                    let event = BulkEvent::Frame(bytes);
                    shell.host.handle(now, Input::Bulk { conn, event });
                    act.effects(shell, registry)?;
                    if !shell.host.node().serves(conn) {
                        shell.streams.close_unanswered(conn, registry);
                    }
                }
                Arrival::Closed(conn) => {
                    let event = BulkEvent::Closed;
                    shell.host.handle(now, Input::Bulk { conn, event });
                }
            }
            act.effects(shell, registry)?;
        }
        Ok(())
    }

    fn read_reports(&mut self, shell: &mut Shell, act: &mut Act, registry: &Registry) -> Flow {
        let allowance = Allowance::new();
        for count in 0..REPORTS_PER_TURN {
            if allowance.is_used_up(count) {
                break;
            }
            let Some(report) = shell.prober.poll() else {
                self.reports_unread = false;
                return Ok(());
            };
            act.note(&report, &shell.host);
            shell.host.report(clock::now(), report);
            act.effects(shell, registry)?;
        }
        self.reports_unread = true;
        Ok(())
    }
}

/// The time of one kind of work in one turn.
struct Allowance {
    began: Time,
}

impl Allowance {
    /// Pieces of work from one look at the clock to the next.
    const LOOK_EVERY: usize = 8;

    fn new() -> Self {
        Self {
            began: clock::now(),
        }
    }

    /// After so many pieces the rest is for the next turn.
    fn is_used_up(&self, pieces: usize) -> bool {
        pieces > 0
            && pieces.is_multiple_of(Self::LOOK_EVERY)
            && clock::now().since(self.began) >= TIME_PER_TURN
    }
}
