//! One connection to an origin: reads a request, answers as the origin's
//! behaviour says, and notices when the client leaves. Everything is tried at
//! once and registered with the poller only when the kernel would block, so a
//! short exchange costs accept, read, write and close.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::behaviour::{After, Behaviour, Behaviours};
use crate::farm::{Counters, Kind};
use crate::hits::{AgentCache, Agents, Hit, NOBODY, now_us};
use crate::limits::REQUEST_BYTES_MAX;
use crate::listen::deafen;
use crate::request::Request;

/// What the connections of one thread share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) registry: Registry,
    pub(crate) behaviours: Arc<Behaviours>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) cache: AgentCache,
    /// Hits of this turn, on their way to the log.
    pub(crate) hits: Vec<Hit>,
    pub(crate) record: bool,
    pub(crate) kind: Kind,
    /// When this turn began.
    pub(crate) now_us: u64,
}

/// Whether a connection still exists after it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    Closed,
}

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    token: Token,
    origin: u32,
    registered: bool,
    /// Responses given.
    served: u32,
    /// The hit that has begun and not ended: since when, and by whom.
    hit: Option<(u64, u32)>,
    /// Bytes that are no whole request yet.
    input: Vec<u8>,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Reading,
    Answering {
        behaviour: Arc<Behaviour>,
        /// Bytes to send in all.
        len: usize,
        sent: usize,
        /// The client wants no other answer on this connection.
        last: bool,
        /// Nothing is sent before this time; zero if nothing is waited for.
        due_us: u64,
    },
    /// Until the client leaves.
    Parked,
}

/// What a step of an exchange led to.
enum Step {
    /// There may be more to do.
    Again,
    /// Not before the kernel or the clock says so.
    Blocked,
    /// The connection is to be closed.
    Over,
}

impl Connection {
    /// Takes a connection that was just accepted; [`Connection::advance`]
    /// looks at it for the first time.
    pub(crate) fn new(socket: TcpStream, token: Token, origin: u32, around: &Surroundings) -> Self {
        let seen_us = if around.record { now_us() } else { 0 };
        Self {
            socket,
            token,
            origin,
            registered: false,
            served: 0,
            hit: Some((seen_us, NOBODY)),
            input: Vec::new(),
            doing: match around.kind {
                Kind::Http => Doing::Reading,
                Kind::Tcp => Doing::Parked,
            },
        }
    }

    /// Which origin it came to.
    pub(crate) const fn origin(&self) -> u32 {
        self.origin
    }

    /// When it wants to be looked at without an event, if it does.
    pub(crate) const fn due_us(&self) -> Option<u64> {
        match self.doing {
            Doing::Answering { due_us, .. } if due_us > 0 => Some(due_us),
            _ => None,
        }
    }

    /// Ends it as a behaviour asks for, whatever it was doing.
    pub(crate) fn end(mut self, how: After, around: &mut Surroundings) {
        if how == After::Reset {
            self.reset(around);
        }
        self.end_hit(around);
    }

    /// Loses its packets from now on, or hears them again.
    pub(crate) fn set_deaf(&self, deaf: bool) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        if deaf {
            deafen(&socket)
        } else {
            socket.detach_filter()
        }
    }

    /// Goes as far as it can without blocking.
    pub(crate) fn advance(&mut self, around: &mut Surroundings, scratch: &mut [u8]) -> Fate {
        loop {
            let step = match &self.doing {
                Doing::Reading => self.read_request(around, scratch),
                Doing::Answering { due_us, .. } if *due_us > around.now_us => self.wait(scratch),
                Doing::Answering { .. } => self.answer(around),
                Doing::Parked => self.wait(scratch),
            };
            match step {
                Step::Again => {}
                Step::Blocked if self.registered => return Fate::Open,
                Step::Blocked => {
                    // Edge-triggered: what came since the attempt is reported
                    // at once.
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    if around
                        .registry
                        .register(&mut self.socket, self.token, interest)
                        .is_ok()
                    {
                        self.registered = true;
                        return Fate::Open;
                    }
                    self.end_hit(around);
                    return Fate::Closed;
                }
                Step::Over => {
                    self.end_hit(around);
                    return Fate::Closed;
                }
            }
        }
    }

    fn read_request(&mut self, around: &mut Surroundings, scratch: &mut [u8]) -> Step {
        if !self.input.is_empty() {
            let input = core::mem::take(&mut self.input);
            if self.take_request(&input, around) {
                return Step::Again;
            }
            self.input = input;
        }
        let n = match self.socket.read(scratch) {
            Ok(0) => return Step::Over,
            Ok(n) => n,
            Err(error) => return blocked_or_over(&error),
        };
        if self.input.is_empty() && self.take_request(&scratch[..n], around) {
            return Step::Again;
        }
        self.input.extend_from_slice(&scratch[..n]);
        if self.input.len() > REQUEST_BYTES_MAX {
            Step::Over
        } else {
            Step::Again
        }
    }

    /// Begins to answer the request at the start of `bytes`, if it is whole,
    /// and keeps what follows it.
    fn take_request(&mut self, bytes: &[u8], around: &mut Surroundings) -> bool {
        let Some(request) = Request::parse(bytes) else {
            return false;
        };
        if around.record {
            let who = around.cache.index_of(&around.agents, request.agent);
            let seen_us = self.hit.map_or_else(now_us, |(seen_us, _)| seen_us);
            self.hit = Some((seen_us, who));
        } else {
            self.hit = Some((0, NOBODY));
        }
        self.input.extend_from_slice(&bytes[request.len..]);
        around.counters.requests.add(1);
        let behaviour = Arc::clone(around.behaviours.get(self.origin));
        self.doing = Doing::Answering {
            len: if request.is_head {
                behaviour.head_len
            } else {
                behaviour.bytes.len()
            },
            sent: 0,
            last: request.last,
            due_us: in_ms(behaviour.delay_ms),
            behaviour,
        };
        true
    }

    /// Sends what is due.
    fn answer(&mut self, around: &mut Surroundings) -> Step {
        let Doing::Answering {
            behaviour,
            len,
            sent,
            last,
            due_us,
        } = &mut self.doing
        else {
            return Step::Again;
        };
        let until = if behaviour.every_ms > 0 {
            (*sent + 1).min(*len)
        } else {
            *len
        };
        *due_us = 0;
        if *sent < until {
            match self.socket.write(&behaviour.bytes[*sent..until]) {
                Ok(n) => *sent += n,
                Err(error) => return blocked_or_over(&error),
            }
            if *sent < *len {
                *due_us = in_ms(behaviour.every_ms);
                return Step::Again;
            }
        }
        let then = match behaviour.then {
            After::Keep if *last || self.served + 1 == behaviour.responses_max => After::Close,
            then => then,
        };
        self.served += 1;
        match then {
            After::Keep => {
                self.end_hit(around);
                self.doing = Doing::Reading;
                Step::Again
            }
            After::Close => Step::Over,
            After::Reset => {
                self.reset(around);
                Step::Over
            }
            After::HalfClose => {
                self.doing = Doing::Parked;
                match self.socket.shutdown(Shutdown::Write) {
                    Ok(()) => Step::Again,
                    Err(_) => Step::Over,
                }
            }
            After::Hang => {
                self.doing = Doing::Parked;
                Step::Again
            }
        }
    }

    /// Reads only to notice that the client leaves. A client that ends its own
    /// direction and waits for the answer counts as one that has left.
    fn wait(&mut self, scratch: &mut [u8]) -> Step {
        match self.socket.read(scratch) {
            Ok(0) => Step::Over,
            Ok(_) => Step::Again,
            Err(error) => blocked_or_over(&error),
        }
    }

    /// Makes the coming close a reset.
    fn reset(&mut self, around: &Surroundings) {
        if SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .is_ok()
        {
            around.counters.resets.add(1);
        }
    }

    fn end_hit(&mut self, around: &mut Surroundings) {
        if let Some((at_us, who)) = self.hit.take()
            && around.record
        {
            around.hits.push(Hit {
                origin: self.origin,
                at_us,
                ended_us: now_us(),
                who,
            });
        }
    }
}

fn blocked_or_over(error: &io::Error) -> Step {
    match error.kind() {
        ErrorKind::WouldBlock => Step::Blocked,
        ErrorKind::Interrupted => Step::Again,
        _ => Step::Over,
    }
}

/// The time in so many milliseconds; zero for now.
fn in_ms(delay_ms: u32) -> u64 {
    if delay_ms == 0 {
        0
    } else {
        now_us() + u64::from(delay_ms) * 1_000
    }
}
