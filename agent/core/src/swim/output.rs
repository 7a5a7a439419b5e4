//! What membership wants done and what it has to say.

use core::net::SocketAddr;

use watchfire_wire::message::swim::{Rumor, Swim as Body};
use watchfire_wire::{Actor, NodeId};

use crate::budget::Class;

/// An effect of membership, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this packet. Losing it is allowed.
    Send {
        /// What gives way before it and after it.
        class: Class,
        /// Where to.
        to: SocketAddr,
        /// What it says.
        body: Body,
        /// What rides along; already within the datagram's budget.
        rumors: Vec<Rumor>,
    },
    /// This node is a member now, or is alone because it has no seeds. Said
    /// once.
    Admitted,
    /// A member became known, or came back to life.
    Joined(Actor),
    /// A member is suspected.
    Suspected(Actor),
    /// A suspicion ended with a proof of life.
    Refuted(Actor),
    /// A member is dead, or another life of its node took its place (then
    /// [`Output::Joined`] follows at once).
    Died(Actor),
    /// A member left by its own word.
    Left(Actor),
    /// A living member says something new of itself.
    ProfileChanged(Actor),
    /// A living member sent the digest of its replicated state.
    PeerDigest {
        /// Who.
        actor: Actor,
        /// Its digest.
        digest: u64,
        /// Where it listens.
        addr: SocketAddr,
    },
    /// A member answered this node's ping with what its wall clock shows.
    PeerClock {
        /// Who.
        node: NodeId,
        /// Milliseconds since 1970, now but for the way that it took.
        wall_ms: u64,
        /// Something keeps that clock right.
        synchronised: bool,
    },
    /// The POP remembers this node's name at an epoch not below its own: it
    /// must take one of at least this, write it to disk, and tell membership
    /// by [`take_epoch`](super::Swim::take_epoch).
    EpochNeeded(u64),
    /// Another live process bears this node's name, and this one must go. It
    /// is silent from here on.
    Conflict {
        /// Where the other one is.
        addr: SocketAddr,
        /// Who it is.
        actor: Actor,
    },
    /// The goodbye that [`leave`](super::Swim::leave) began is out.
    Departed,
}
