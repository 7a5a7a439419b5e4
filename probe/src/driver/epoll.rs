//! The epoll driver, on mio: for hosts where io_uring does not work.
//!
//! The same engine, the same actions, one system call each. Readiness is edge
//! triggered and remembered per slot, so that nothing is tried that cannot
//! succeed.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use watchfire_probe_core::engine::{Action, During, Engine, Event, Slot};
use watchfire_wire::Time;

use super::socket::{Manner, Sockaddr, SocketOption, SocketPlan, SocketPlans, is_v6};
use super::ways::Ways;
use super::{Driver, RECEIVE_BYTES, awaited, route};
use crate::limits::GATHER_FOR;
use crate::wake::Wake;

/// Readiness taken from the kernel at once. More is taken until none is left.
const EVENTS: usize = 1_024;

/// The doorbell's token; slots are their own.
const WAKE: Token = Token(usize::MAX);

/// The driver.
pub(crate) struct EpollDriver<'a> {
    poll: Poll,
    events: Events,
    slots: Vec<SlotState>,
    buffer: Box<[u8]>,
    plans: &'a SocketPlans,
    ways: Ways,
    wake: &'a Wake,
    /// What is known already: told with the next harvest.
    pending: Vec<(Slot, Known)>,
    /// Slots to be tried in the next harvest.
    ready: Vec<Slot>,
    /// Turns through the source addresses.
    turn: usize,
    /// Operations handed over in this turn that wait for a word of an origin.
    awaited: usize,
}

/// A slot's socket and what is being done with it.
#[derive(Default)]
struct SlotState {
    socket: Option<Socket>,
    doing: Doing,
    manner: Manner,
    /// There may be something to read.
    readable: bool,
    addr: Option<SocketAddr>,
    /// Which of the plan's sources it was bound to; none if past their end.
    source: usize,
    /// The plan of its check's own way, if that has one.
    way: Option<Arc<SocketPlan>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doing {
    #[default]
    Nothing,
    Connecting,
    /// Sending, with so many bytes sent.
    Sending(usize),
    Receiving,
}

/// An event that is known before the harvest.
#[derive(Clone, Copy)]
enum Known {
    Failed(During, i32),
    Closed,
}

impl<'a> EpollDriver<'a> {
    /// A driver for `slots` connections.
    pub(crate) fn new(slots: u32, plans: &'a SocketPlans, wake: &'a Wake) -> io::Result<Self> {
        let poll = Poll::new()?;
        let fd: RawFd = wake.as_fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), WAKE, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            slots: (0..slots).map(|_| SlotState::default()).collect(),
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            plans,
            ways: Ways::default(),
            wake,
            pending: Vec::new(),
            ready: Vec::new(),
            turn: 0,
            awaited: 0,
        })
    }

    fn open(&mut self, engine: &Engine, slot: Slot) {
        let target = engine.target(slot);
        let v6 = is_v6(&target.addr);
        let manner = Manner::of(&target);
        let way = engine
            .egress(slot)
            .map(|egress| self.ways.plan(self.plans, egress, manner, v6));
        let plan = match &way {
            Some(way) => way,
            None => self.plans.of(manner, v6),
        };
        self.turn = self.turn.wrapping_add(1);
        let source_at = match plan.sources.len() {
            0 => usize::MAX,
            sources => self.turn % sources,
        };
        let source = plan.sources.get(source_at);
        let state = &mut self.slots[slot as usize];
        state.way.clone_from(&way);
        state.manner = manner;
        state.readable = false;
        state.addr = Some(target.addr);
        state.source = source_at;
        let family = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let opened = socket(family, &plan.options, source, v6).and_then(|socket| {
            let fd = socket.as_raw_fd();
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut SourceFd(&fd), Token(slot as usize), both)?;
            Ok(socket)
        });
        let failed = match opened {
            Err(error) => Some((During::Open, error)),
            Ok(socket) => {
                let connected = socket.connect(&target.addr.into());
                state.socket = Some(socket);
                match connected {
                    Ok(()) => {
                        state.doing = Doing::Connecting;
                        self.ready.push(slot);
                        None
                    }
                    Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                        state.doing = Doing::Connecting;
                        None
                    }
                    Err(error) => Some((During::Connect, error)),
                }
            }
        };
        if let Some((during, error)) = failed {
            let (during, errno) = self.blame(slot, during, errno(&error));
            self.pending.push((slot, Known::Failed(during, errno)));
            if target.half_open {
                self.pending.push((slot, Known::Closed));
            }
        }
    }

    /// Whether the network or this host's own routing is a failure's cause.
    fn blame(&self, slot: Slot, during: During, errno: i32) -> (During, i32) {
        let state = &self.slots[slot as usize];
        let Some(addr) = state.addr else {
            return (during, errno);
        };
        let v6 = is_v6(&addr);
        let plan = match &state.way {
            Some(way) => way,
            None => self.plans.of(state.manner, v6),
        };
        let source = plan.sources.get(state.source);
        route::judge(during, errno, &Sockaddr::new(addr), v6, plan, source)
    }

    fn act(&mut self, engine: &Engine, action: Action) {
        match action {
            Action::Open(slot) => self.open(engine, slot),
            Action::Exchange(slot) => {
                self.slots[slot as usize].doing = Doing::Sending(0);
                self.ready.push(slot);
            }
            Action::Receive(slot) | Action::Watch(slot) => {
                let state = &mut self.slots[slot as usize];
                state.doing = Doing::Receiving;
                if state.readable {
                    self.ready.push(slot);
                }
            }
            Action::Cancel(slot) => {
                let state = &mut self.slots[slot as usize];
                let during = match core::mem::take(&mut state.doing) {
                    Doing::Nothing => return,
                    Doing::Connecting => During::Connect,
                    Doing::Sending(_) => During::Send,
                    Doing::Receiving => During::Receive,
                };
                let half_open = state.manner.is_half_open();
                self.pending
                    .push((slot, Known::Failed(during, libc::ECANCELED)));
                if half_open {
                    self.pending.push((slot, Known::Closed));
                }
            }
            Action::Close { slot, reset } => {
                if let Some(socket) = &self.slots[slot as usize].socket
                    && reset
                {
                    // A socket that takes no option is closed all the same.
                    let _ = set(socket, &SocketOption::reset_on_close());
                }
                self.pending.push((slot, Known::Closed));
            }
        }
    }

    /// Goes on with a slot as far as it goes without waiting.
    fn go_on(&mut self, engine: &mut Engine, slot: Slot, now: Time) {
        let state = &mut self.slots[slot as usize];
        let Some(socket) = &state.socket else { return };
        if state.doing == Doing::Connecting {
            let failed = match socket.take_error() {
                Ok(None) if socket.peer_addr().is_err() => return,
                Ok(None) => None,
                Ok(Some(error)) | Err(error) => Some(errno(&error)),
            };
            state.doing = Doing::Nothing;
            let half_open = state.manner.is_half_open();
            match failed {
                None => engine.on_event(now, slot, Event::Connected),
                Some(errno) => self.tell_failed(engine, now, slot, (During::Connect, errno)),
            }
            if half_open {
                self.tell_closed(engine, slot, now);
            }
            return;
        }
        if let Doing::Sending(sent) = state.doing {
            let bytes = engine.outgoing(slot);
            match send(socket, &bytes[sent.min(bytes.len())..]) {
                Ok(more) if sent + more >= bytes.len() => state.doing = Doing::Receiving,
                Ok(more) => {
                    state.doing = Doing::Sending(sent + more);
                    return;
                }
                Err(errno) => {
                    state.doing = Doing::Nothing;
                    self.tell_failed(engine, now, slot, (During::Send, errno));
                    return;
                }
            }
        }
        if state.doing == Doing::Receiving && state.readable {
            let mut reader = socket;
            let event = match reader.read(&mut self.buffer) {
                Ok(0) => Event::Eof,
                Ok(count) => Event::Received(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.readable = false;
                    return;
                }
                Err(error) => {
                    state.doing = Doing::Nothing;
                    let failed = (During::Receive, errno(&error));
                    self.tell_failed(engine, now, slot, failed);
                    return;
                }
            };
            state.doing = Doing::Nothing;
            engine.on_event(now, slot, event);
        }
    }

    fn tell_failed(
        &self,
        engine: &mut Engine,
        now: Time,
        slot: Slot,
        (during, errno): (During, i32),
    ) {
        let (during, errno) = self.blame(slot, during, errno);
        engine.on_event(now, slot, Event::Failed { during, errno });
    }

    fn tell_closed(&mut self, engine: &mut Engine, slot: Slot, now: Time) {
        // Dropping the socket closes it and ends its readiness.
        self.slots[slot as usize] = SlotState::default();
        engine.on_event(now, slot, Event::Closed);
    }
}

impl Driver for EpollDriver<'_> {
    fn carry_out(&mut self, engine: &Engine, actions: &[Action]) {
        for &action in actions {
            self.act(engine, action);
        }
        self.awaited = awaited(actions);
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let mut timeout = if self.pending.is_empty() && self.ready.is_empty() {
            timeout
        } else {
            Duration::ZERO
        };
        if self.awaited > 1 && timeout > GATHER_FOR {
            // The kernel knows no least wait here: one sleep in place of many.
            std::thread::sleep(GATHER_FOR);
            timeout -= GATHER_FOR;
        }
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn harvest(&mut self, engine: &mut Engine, now: Time) -> io::Result<bool> {
        let mut woken = false;
        for (slot, known) in core::mem::take(&mut self.pending) {
            match known {
                Known::Failed(during, errno) => {
                    engine.on_event(now, slot, Event::Failed { during, errno });
                }
                Known::Closed => self.tell_closed(engine, slot, now),
            }
        }
        loop {
            let mut ready = core::mem::take(&mut self.ready);
            let mut count = 0;
            for event in &self.events {
                count += 1;
                if event.token() == WAKE {
                    woken = true;
                    continue;
                }
                let slot = event.token().0 as Slot;
                let Some(state) = self.slots.get_mut(slot as usize) else {
                    continue;
                };
                state.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                ready.push(slot);
            }
            for &slot in &ready {
                self.go_on(engine, slot, now);
            }
            ready.clear();
            self.ready = ready;
            if count < EVENTS {
                break;
            }
            self.wait(Duration::ZERO)?;
        }
        self.events.clear();
        if woken {
            self.wake.hear();
        }
        Ok(woken)
    }
}

/// A socket that is ready to connect.
fn socket(
    family: Domain,
    options: &[SocketOption],
    source: Option<&Sockaddr>,
    v6: bool,
) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(family, kind, Some(Protocol::TCP))?;
    for option in options {
        set(&socket, option)?;
    }
    if let Some(source) = source {
        let (addr, length) = source.raw(v6);
        // SAFETY: the address is whole and lives through the call.
        if unsafe { libc::bind(socket.as_raw_fd(), addr, length) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(socket)
}

fn set(socket: &Socket, option: &SocketOption) -> io::Result<()> {
    let (value, length) = option.value();
    // SAFETY: the value holds `length` bytes and lives through the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), option.level, option.name, value, length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends what fits; nothing if there is no room now.
fn send(socket: &Socket, bytes: &[u8]) -> Result<usize, i32> {
    match socket.send_with_flags(bytes, libc::MSG_NOSIGNAL) {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(errno(&error)),
    }
}

/// The error's number; one that has none is our own.
fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}
