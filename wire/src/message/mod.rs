//! The messages, one enum per protocol version, read in place.
//!
//! A datagram carries one [`Packet`]. Bodies are grouped by the room that
//! speaks them: [`swim`] (membership), [`replica`] (verdicts) and [`overrides`]
//! (operators' decisions).

pub mod overrides;
pub mod replica;
pub mod swim;

use core::num::NonZeroUsize;

use rkyv::api::{access_with_context, high};
use rkyv::rancor::Failure;
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::with::AsBox;
use rkyv::{Archive, Serialize};

use crate::frame::{FrameBuf, OVERHEAD_BYTES};
use crate::ids::Actor;
use crate::limits::{BUFFER_ALIGN, MESSAGE_DEPTH};

/// The newest protocol version that this build understands, and the only one
/// so far. Version 2 says of each member what it configures, carries operators'
/// decisions and, in acks, the wall clock; no release spoke it without these.
pub const PROTOCOL: u8 = 2;

/// The oldest protocol version that this build understands: the one before the
/// newest, once a release speaks it. No release ever spoke version 1, so there
/// is nobody to understand.
pub const PROTOCOL_MIN: u8 = PROTOCOL;

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

/// The bodies of protocol version 2.
#[derive(Clone, Debug, PartialEq, Archive, Serialize)]
pub enum Body {
    /// Membership.
    Swim(swim::Swim),
    /// Replication; out of line, so that its many fields do not make every
    /// ping larger.
    Replica(#[rkyv(with = AsBox)] replica::Replica),
    /// Operators' decisions.
    Overrides(#[rkyv(with = AsBox)] overrides::Overrides),
}

/// The most that a packet without rumors and lists takes in its frame, bytes.
/// What is left of the datagram is there for them.
pub const PACKET_BYTES: usize = OVERHEAD_BYTES + size_of::<ArchivedPacket>() + BUFFER_ALIGN;

/// Why a packet was not encoded. The buffer's content means nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It would not fit; split it or use a bulk stream.
    #[error("a packet of {bytes} bytes does not fit into {max_bytes}; split it")]
    TooLarge {
        /// What its frame would take.
        bytes: usize,
        /// What it may take.
        max_bytes: usize,
    },
    /// The serializer failed, which it does only if memory runs out.
    #[error("the serializer failed; the host is out of memory")]
    Serializer,
}

/// Writes a packet into the buffer, behind room for a header, for
/// [`frame::seal`](crate::frame::seal). A buffer that has held a packet of this
/// size needs no allocation.
///
/// # Errors
/// The sealed frame would be larger than `max_bytes`.
pub fn encode(packet: &Packet, max_bytes: usize, frame: &mut FrameBuf) -> Result<(), EncodeError> {
    frame.begin();
    let room = core::mem::take(&mut frame.0);
    frame.0 = high::to_bytes_in::<_, Failure>(packet, room).map_err(|_| EncodeError::Serializer)?;
    let bytes = frame.0.len() + OVERHEAD_BYTES - crate::frame::HEADER_BYTES;
    if bytes > max_bytes {
        return Err(EncodeError::TooLarge { bytes, max_bytes });
    }
    Ok(())
}

/// Why an authentic body is not a packet: its sender has a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The buffer does not begin at a multiple of [`BUFFER_ALIGN`].
    #[error("the buffer is not aligned to {BUFFER_ALIGN} bytes; read frames into a FrameBuf")]
    Unaligned,
    /// Not a packet of this version.
    #[error("the body is not a packet of this protocol version")]
    Malformed,
}

/// Checks a body and gives the packet in it, in place. Allocates nothing.
///
/// Every pointer stays within the body, no two overlap and none goes deeper
/// than [`MESSAGE_DEPTH`], so the work is linear in the body's length.
///
/// # Errors
/// The body is not a packet.
pub fn access(body: &[u8]) -> Result<&ArchivedPacket, DecodeError> {
    if body.as_ptr().align_offset(BUFFER_ALIGN) != 0 {
        return Err(DecodeError::Unaligned);
    }
    let depth = const { NonZeroUsize::new(MESSAGE_DEPTH) };
    let archive = ArchiveValidator::with_max_depth(body, depth);
    access_with_context::<ArchivedPacket, _, Failure>(body, &mut Validator::new(archive, ()))
        .map_err(|_| DecodeError::Malformed)
}
