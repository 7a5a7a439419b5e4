//! What a host wants done, in order.

use core::net::SocketAddr;
use std::sync::Arc;

use watchfire_core::io::{ConnId, Event, Published};
use watchfire_core::look::Said;
use watchfire_core::overrides::Kept;
use watchfire_probe_core::Tenant;
use watchfire_probe_core::check::CheckSpec;
use watchfire_probe_core::engine::Inherited;
use watchfire_table::{Notice, TableError};
use watchfire_wire::{Actor, CheckId, First};

/// What a host wants done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Send this datagram. Losing it is allowed.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// A sealed frame.
        bytes: Vec<u8>,
    },
    /// Connect by TCP and send this frame first. If that fails at once, tell
    /// the host that the stream is closed.
    BulkConnect {
        /// The name of the stream from now on.
        conn: ConnId,
        /// Where to.
        to: SocketAddr,
        /// A sealed frame.
        hello: Vec<u8>,
    },
    /// Send this frame on a stream.
    BulkSend {
        /// Which.
        conn: ConnId,
        /// A sealed frame.
        bytes: Vec<u8>,
    },
    /// Close a stream once all that was sent is out.
    BulkClose {
        /// Which.
        conn: ConnId,
    },
    /// Tell the probe threads.
    Probe(Probing),
    /// Every member has looked at a check, or is not waited for any longer.
    Looked {
        /// Which look.
        look: u64,
        /// What each said.
        said: Said,
    },
    /// What the table says of a check's names has changed: it was written
    /// already. For logs and tests.
    Published {
        /// Which.
        check: CheckId,
        /// What the POP holds of it.
        what: Option<Published>,
    },
    /// Write this epoch to disk before it matters.
    PersistEpoch(u64),
    /// Write these decisions of operators to disk, whole, before any operator
    /// who waits is answered, and hand them to the next start.
    KeepOverrides(Arc<Kept>),
    /// The goodbye is out; the shell may end.
    Left,
    /// Another live process bears this name; the shell ends with this error.
    Conflict {
        /// Where the other one is.
        addr: SocketAddr,
        /// Who it is.
        actor: Actor,
    },
    /// Something that a log, a metric or a test may care about.
    Event(Event),
    /// Something that a person should look into.
    Trouble(Trouble),
}

/// What the probe threads are to do.
#[derive(Clone, Debug)]
pub enum Probing {
    /// Probe this check from now on.
    Start {
        /// Which.
        check: CheckId,
        /// What it is.
        spec: Arc<CheckSpec>,
        /// Whose it is.
        tenant: Tenant,
        /// Names this start in reports.
        generation: u32,
        /// What the predecessor knew.
        inherited: Option<Inherited>,
        /// When to probe first.
        first: First,
    },
    /// Go on with it at another address of its name.
    Retarget {
        /// What it is, with that address.
        spec: Arc<CheckSpec>,
        /// Whose it is.
        tenant: Tenant,
    },
    /// Stop probing it.
    Stop(CheckId),
    /// Report the next measured outcome of it even if nothing changed.
    Attend(CheckId),
    /// Whether what is in doubt is probed at its fast interval.
    Hurry(bool),
    /// Probe it once, now, beside any schedule.
    Ask {
        /// Which.
        check: CheckId,
        /// What it is.
        spec: Arc<CheckSpec>,
        /// Whose it is.
        tenant: Tenant,
        /// Names the question.
        ask: u64,
    },
}

/// Something that a person should look into.
#[derive(Debug)]
pub enum Trouble {
    /// The table refused what was to be said of an origin. What it said before
    /// stands.
    Write {
        /// Of which.
        origin: Arc<str>,
        /// Why.
        error: TableError,
    },
    /// The table cannot name a node: its id is shown.
    Name {
        /// Which.
        node: String,
        /// Why.
        error: TableError,
    },
    /// Something befell the table's file.
    Table(Notice),
}
