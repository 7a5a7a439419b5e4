//! One thread of the farm: accepts, lets connections advance, keeps their
//! timers, and carries out orders between two turns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use crate::behaviour::{After, Behaviours};
use crate::connection::{Connection, Fate, Surroundings};
use crate::fault::Fault;
use crate::hits::{HitLog, now_us};
use crate::limits::{
    ACCEPTS_PER_TURN, CONNECTIONS_MAX, EVENTS_PER_TURN, REQUEST_BYTES_MAX, TIMERS_MAX,
};
use crate::listen::{Changed, Listener};

/// What a farm tells its threads.
pub(crate) enum Order {
    /// Behave like this from now on, and say so once it is done.
    Behave(Arc<Behaviours>, SyncSender<io::Result<()>>),
    /// Close everything and end.
    Stop,
}

/// The token of the waker that announces orders.
pub(crate) const WAKE: Token = Token(usize::MAX - 1);

pub(crate) struct Worker {
    pub(crate) poll: Poll,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) around: Surroundings,
    pub(crate) orders: Receiver<Order>,
    pub(crate) log: Arc<HitLog>,
    pub(crate) first: Ipv4Addr,
    pub(crate) count: u32,
    pub(crate) connections: Slab,
    pub(crate) timers: BinaryHeap<Reverse<(u64, usize)>>,
    /// Listeners with more to accept than one turn allows.
    pub(crate) backlogged: Vec<usize>,
    /// The last accept failed for want of something that will come back.
    pub(crate) starved: bool,
    pub(crate) scratch: Box<[u8]>,
}

/// Connections by slot. Their tokens lie behind those of the listeners.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Worker {
    pub(crate) fn scratch() -> Box<[u8]> {
        vec![0; REQUEST_BYTES_MAX].into_boxed_slice()
    }

    /// Registers the listeners that are not registered yet.
    pub(crate) fn register_all(&mut self) -> io::Result<()> {
        (0..self.listeners.len()).try_for_each(|index| self.register(index))
    }

    /// Works until it is told to stop or nobody is left to tell it.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            }
            self.around.now_us = now_us();
            for event in &events {
                self.take_event(event);
            }
            for index in core::mem::take(&mut self.backlogged) {
                self.accept(index);
            }
            self.fire_timers();
            if !self.around.hits.is_empty() {
                self.log.append(&mut self.around.hits);
            }
            // Orders come last, so that what is ordered holds for everything
            // that arrives after the order was confirmed.
            if !self.obey() {
                return;
            }
        }
    }

    /// How long the kernel may be waited for.
    fn patience(&self) -> Option<Duration> {
        if self.starved {
            return Some(STARVED_RETRY);
        }
        if !self.backlogged.is_empty() {
            return Some(Duration::ZERO);
        }
        let Reverse((due_us, _)) = self.timers.peek()?;
        // The poller rounds up to milliseconds, so it never wakes too early.
        Some(Duration::from_micros(due_us.saturating_sub(now_us())))
    }

    fn take_event(&mut self, event: &Event) {
        let Token(token) = event.token();
        if token < self.listeners.len() {
            self.accept(token);
        } else if event.token() != WAKE {
            self.advance(token - self.listeners.len());
        }
    }

    fn accept(&mut self, index: usize) {
        self.starved = false;
        for _ in 0..ACCEPTS_PER_TURN {
            let listener = &self.listeners[index];
            let Some(socket) = &listener.socket else {
                return;
            };
            let accepted = socket.accept().and_then(|(stream, _)| {
                let origin = match listener.origin {
                    Some(origin) => Some(origin),
                    None => self.origin_at(stream.local_addr()?.ip()),
                };
                Ok((stream, origin))
            });
            match accepted {
                Ok((stream, Some(origin))) => self.welcome(stream, origin),
                // An address beyond the farm's last one: nobody lives there.
                Ok((_, None)) => self.around.counters.turned_away.add(1),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if gone_before_accept(&error) => {}
                Err(_) => {
                    self.around.counters.accept_errors.add(1);
                    self.starved = true;
                    break;
                }
            }
        }
        self.backlogged.push(index);
    }

    fn origin_at(&self, ip: core::net::IpAddr) -> Option<u32> {
        let core::net::IpAddr::V4(ip) = ip else {
            return None;
        };
        let origin = ip.to_bits().checked_sub(self.first.to_bits())?;
        (origin < self.count).then_some(origin)
    }

    fn welcome(&mut self, stream: mio::net::TcpStream, origin: u32) {
        let Some(slot) = self.connections.vacant() else {
            self.around.counters.turned_away.add(1);
            return;
        };
        self.around.counters.connections.add(1);
        let token = Token(self.listeners.len() + slot);
        let connection = Connection::new(stream, token, origin, &self.around);
        let at_accept = match self.around.behaviours.fault(origin) {
            // These came in just before the fault did.
            Some(Fault::Refuse) => Some(After::Reset),
            Some(Fault::Blackhole) => connection.set_deaf(true).err().map(|_| After::Reset),
            Some(_) => self.around.behaviours.get(origin).at_accept,
            None => None,
        };
        if let Some(how) = at_accept {
            connection.end(how, &mut self.around);
            self.connections.free.push(slot);
            return;
        }
        self.connections.slots[slot] = Some(connection);
        self.advance(slot);
    }

    fn advance(&mut self, slot: usize) {
        // A slot may have been emptied by an earlier event of the same turn.
        let Some(Some(connection)) = self.connections.slots.get_mut(slot) else {
            return;
        };
        let before = connection.due_us();
        match connection.advance(&mut self.around, &mut self.scratch) {
            Fate::Closed => {
                self.connections.slots[slot] = None;
                self.connections.free.push(slot);
            }
            Fate::Open => {
                if let Some(due_us) = connection.due_us()
                    && before != Some(due_us)
                {
                    self.set_timer(due_us, slot);
                }
            }
        }
    }

    fn set_timer(&mut self, due_us: u64, slot: usize) {
        if self.timers.len() >= TIMERS_MAX {
            let slots = &self.connections.slots;
            self.timers.retain(|Reverse((due_us, slot))| {
                slots[*slot]
                    .as_ref()
                    .is_some_and(|live| live.due_us() == Some(*due_us))
            });
        }
        self.timers.push(Reverse((due_us, slot)));
    }

    /// Looks at each connection whose time has come. A timer that outlived its
    /// connection looks at an empty slot or at a successor, and both are
    /// harmless.
    fn fire_timers(&mut self) {
        while let Some(&Reverse((due_us, slot))) = self.timers.peek() {
            if due_us > self.around.now_us {
                return;
            }
            self.timers.pop();
            self.advance(slot);
        }
    }

    /// Carries out what was ordered; false to end.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Behave(behaviours, done)) => {
                    let result = self.behave(behaviours);
                    // Whoever asked may have given up waiting.
                    let _ = done.send(result);
                }
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn behave(&mut self, behaviours: Arc<Behaviours>) -> io::Result<()> {
        let before = core::mem::replace(&mut self.around.behaviours, behaviours);
        let mut result = Ok(());
        for index in 0..self.listeners.len() {
            result = result.and(self.suit_listener(index));
        }
        for slot in 0..self.connections.slots.len() {
            result = result.and(self.suit_connection(slot, &before));
        }
        result
    }

    fn suit_listener(&mut self, index: usize) -> io::Result<()> {
        let listener = &mut self.listeners[index];
        match listener.origin {
            Some(origin) => {
                if listener.suit(self.around.behaviours.fault(origin))? == Changed::Opened {
                    self.register(index)?;
                }
                Ok(())
            }
            None => {
                let dropped = self.around.behaviours.runs_of(Fault::Blackhole);
                let first = self.first.to_bits();
                let dropped: Vec<_> = dropped
                    .iter()
                    .map(|run| first + run.start..first + run.end)
                    .collect();
                listener.drop_ranges(&dropped)
            }
        }
    }

    /// What a fault does to a connection that was there before it.
    fn suit_connection(&mut self, slot: usize, before: &Behaviours) -> io::Result<()> {
        let Some(connection) = &self.connections.slots[slot] else {
            return Ok(());
        };
        let was = before.fault(connection.origin());
        let is = self.around.behaviours.fault(connection.origin());
        if was == is {
            return Ok(());
        }
        if was == Some(Fault::Blackhole) {
            connection.set_deaf(false)?;
        }
        match is {
            Some(Fault::Blackhole) => connection.set_deaf(true)?,
            Some(Fault::Refuse) => {
                let gone = self.connections.slots[slot]
                    .take()
                    .expect("it was there just now");
                gone.end(After::Reset, &mut self.around);
                self.connections.free.push(slot);
            }
            _ => {}
        }
        Ok(())
    }

    fn register(&mut self, index: usize) -> io::Result<()> {
        match &mut self.listeners[index].socket {
            Some(socket) => self
                .around
                .registry
                .register(socket, Token(index), Interest::READABLE),
            None => Ok(()),
        }
    }
}

impl Slab {
    fn vacant(&mut self) -> Option<usize> {
        self.free.pop().or_else(|| {
            (self.slots.len() < CONNECTIONS_MAX).then(|| {
                self.slots.push(None);
                self.slots.len() - 1
            })
        })
    }
}

/// How long to leave a listener alone after an accept failed for want of
/// descriptors or memory.
const STARVED_RETRY: Duration = Duration::from_millis(10);

/// The client reset the connection while it waited to be accepted.
fn gone_before_accept(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::NotConnected
    )
}
