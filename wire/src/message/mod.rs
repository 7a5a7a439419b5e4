//! The messages, one enum per protocol version, read in place.
//!
//! A datagram carries one [`Packet`]. Bodies are grouped by the room that
//! speaks them: [`swim`] (membership) and [`replica`] (verdicts).

pub mod replica;
pub mod swim;

use rkyv::{Archive, Serialize};

use crate::ids::Actor;

/// The only protocol version so far.
pub const PROTOCOL: u8 = 1;

/// What one datagram, or one frame of a bulk stream, carries.
#[derive(Clone, Debug, PartialEq, Archive, Serialize)]
pub struct Packet {
    /// Who speaks.
    pub from: Actor,
    /// What it says.
    pub body: Body,
    /// News of members that rides along.
    pub rumors: Vec<swim::Rumor>,
}

/// The bodies of protocol version 1.
#[derive(Clone, Debug, PartialEq, Archive, Serialize)]
pub enum Body {
    /// Membership.
    Swim(swim::Swim),
    /// Replication.
    Replica(replica::Replica),
}
