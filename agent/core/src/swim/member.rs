//! One member as this node knows it.

use core::net::SocketAddr;

use watchfire_wire::message::swim::Profile;
use watchfire_wire::{Actor, NodeId, Time};

/// Whether a member lives, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It lives.
    Alive,
    /// It did not answer somebody; it still counts as a member.
    Suspect,
    /// Its suspicion ran out. It is retried for as long as it is remembered.
    Dead,
    /// It left by its own word; this life does not come back.
    Left,
}

impl State {
    /// Alive or suspected: it takes part.
    #[must_use]
    pub const fn is_living(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }

    /// One word, as people and tools read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }
}

/// One member as this node knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its latest life.
    pub actor: Actor,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its refutation counter within the epoch.
    pub incarnation: u32,
    /// Whether it lives.
    pub state: State,
    /// Since when it is in that state, on this node's clock.
    pub since: Time,
    /// What it last said of itself.
    pub profile: Profile,
}

impl Member {
    /// Its name's hash.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.actor.node
    }
}
