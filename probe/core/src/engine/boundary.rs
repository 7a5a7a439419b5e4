//! What passes between an engine and its driver, and what an engine is built
//! from.

use core::net::SocketAddr;
use std::sync::Arc;

use watchfire_wire::Verdict;

use crate::limits::CHECKS;
use crate::schedule::Schedule;
use crate::stream::tls::TlsContext;

/// Names a slot: a place for one connection.
pub type Slot = u32;

/// What a driver is to do. One operation is in progress per slot at most (an
/// exchange continues a watch), and each ends in exactly one [`Event`], but for the close that a half-open
/// probe implies (see [`Target::half_open`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a socket and connect it to [`Engine::target`](super::Engine::target). Ends in
    /// [`Event::Connected`] or [`Event::Failed`]; then, half-open, by itself
    /// in [`Event::Closed`].
    Open(Slot),
    /// Send all of [`Engine::outgoing`](super::Engine::outgoing), then receive once. Ends in
    /// [`Event::Received`], [`Event::Eof`] or [`Event::Failed`].
    Exchange(Slot),
    /// Receive once more. Ends as an exchange does.
    Receive(Slot),
    /// Receive while no request is outstanding, on a connection that is kept.
    /// Ends as a receive does; an [`Action::Exchange`] on the slot takes it up
    /// and is ended by it.
    Watch(Slot),
    /// Make the operation in progress end now. It still ends in its event,
    /// whatever that is.
    Cancel(Slot),
    /// Close the connection, if there is one. Ends in [`Event::Closed`].
    Close {
        /// Which.
        slot: Slot,
        /// With a reset, so that nothing lingers.
        reset: bool,
    },
}

/// What happened to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The connection stands.
    Connected,
    /// Bytes came; never none.
    Received(&'a [u8]),
    /// The origin closed its side.
    Eof,
    /// The operation failed with a positive error number.
    Failed {
        /// What was being done.
        during: During,
        /// The error number.
        errno: i32,
    },
    /// The slot holds no connection any more.
    Closed,
}

/// Which part of an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// Making or configuring the socket.
    Open,
    /// Finding a way: this host's own routing refuses the destination, and
    /// nothing has left it.
    Route,
    /// Connecting.
    Connect,
    /// Sending.
    Send,
    /// Receiving.
    Receive,
}

/// Where and how to open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to.
    pub addr: SocketAddr,
    /// Reset the connection as soon as it stands, or as soon as it failed.
    pub half_open: bool,
    /// The first bytes are the origin's: it must know at once that the
    /// connection stands.
    pub origin_first: bool,
}

/// What a taker knows before its first probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The POP's verdict.
    pub verdict: Verdict,
    /// Outcomes in a row that contradict it, by a graceful handover only.
    pub contrary: u8,
}

/// When probes start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// At each check's due times: production, and benchmarks at a rate.
    Scheduled,
    /// Whenever a slot is free, all checks in turn: benchmarks at the maximum.
    Closed,
}

/// What an engine is built from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections at once; at most [`SLOTS`](crate::limits::SLOTS).
    pub slots: u32,
    /// When probes start.
    pub pacing: Pacing,
    /// The User-Agent of HTTP checks.
    pub user_agent: String,
    /// Maps time to phases.
    pub schedule: Schedule,
    /// For HTTPS checks; without it they measure nothing.
    pub tls: Option<Arc<TlsContext>>,
}

/// Why a check was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this probe thread holds {CHECKS} checks already; use more probe threads")]
pub struct TooManyChecks;
