//! The gate: what goes out is sealed here, what comes in is believed from here
//! on.
//!
//! Bytes that do not authenticate change nothing but a counter: they cost no
//! allocation and draw no reply. The gate knows keys and frames; it does not
//! know who may say what.

use watchfire_wire::frame::{self, FrameBuf, FrameError, Seal};
use watchfire_wire::keys::{KeyId, KeyRing, RingError};
use watchfire_wire::message::{
    self, ArchivedPacket, DecodeError, EncodeError, PROTOCOL, PROTOCOL_MIN, Packet,
};

use crate::rng::Rng;

/// Unknown key ids that are told apart. Frames with further ones are counted
/// and not reported: whoever sends those is guessing.
pub const UNKNOWN_KEYS: usize = 8;

/// How a POP seals its frames.
#[derive(Clone, Debug)]
pub enum Keys {
    /// By a shared key: only holders of one are heard.
    Sealed(KeyRing),
    /// By a checksum: everybody is believed. For loopback, and for those who
    /// write out that they want it.
    Insecure,
}

/// Why a frame was refused. Nothing changed but a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Shorter than any frame.
    #[error("too short for a frame")]
    Short,
    /// Not a frame of this protocol.
    #[error("not a frame of this protocol")]
    NotOurs,
    /// A protocol version that this build does not understand.
    #[error("protocol version {0} is not understood; upgrade this agent or that one")]
    Protocol(u8),
    /// A key that this node does not hold.
    #[error("key {id} is not in this node's key file; the keys were rotated without it")]
    UnknownKey {
        /// Its id.
        id: KeyId,
        /// The first frame with this id since the keys changed.
        first: bool,
    },
    /// A frame without a key at a gate that wants one.
    #[error("not sealed; that agent runs without keys")]
    Unsealed,
    /// Altered, cut, or sealed by another key of the same id.
    #[error("does not authenticate; altered on the way, or the same key id names two keys")]
    Forged,
    /// Authentic, and no packet.
    #[error("authentic but not a packet; its sender has a fault")]
    Malformed,
    /// The shell read it into a buffer that is not aligned.
    #[error("the receive buffer is not aligned; this is a fault of this agent")]
    Unaligned,
}

crate::counters::counters! {
    /// What came to the gate and what became of it.
    pub struct GateCounters as "frames_" {
        /// Frames sealed.
        pub sealed: u64,
        /// Frames opened and believed.
        pub opened: u64,
        /// Frames too short to be any.
        pub short: u64 as "frames_refused_short",
        /// Frames that are not Watchfire's.
        pub not_ours: u64 as "frames_refused_not_ours",
        /// Frames of a protocol version that this agent does not speak.
        pub protocol: u64 as "frames_refused_protocol",
        /// Frames sealed with a key that this agent does not have.
        pub unknown_key: u64 as "frames_refused_unknown_key",
        /// Frames without a seal, where one is asked for, or with one where none is.
        pub unsealed: u64 as "frames_refused_unsealed",
        /// Frames that do not authenticate though their key is known.
        pub forged: u64 as "frames_refused_forged",
        /// Frames that authenticate and hold no packet.
        pub malformed: u64 as "frames_refused_malformed",
        /// Frames read into a buffer that is not aligned: a fault of this agent.
        pub unaligned: u64 as "frames_refused_unaligned",
    }
}

impl GateCounters {
    /// All that was refused, whatever the reason.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.short
            + self.not_ours
            + self.protocol
            + self.unknown_key
            + self.unsealed
            + self.forged
            + self.malformed
            + self.unaligned
    }
}

/// Seals and opens.
#[derive(Debug)]
pub struct Gate {
    keys: Keys,
    rng: Rng,
    protocol: u8,
    counters: GateCounters,
    unknown: Vec<KeyId>,
    frame: FrameBuf,
}

impl Gate {
    /// A gate with these keys. The generator gives the nonces.
    #[must_use]
    pub fn new(keys: Keys, rng: Rng) -> Self {
        Self {
            keys,
            rng,
            protocol: PROTOCOL,
            counters: GateCounters::default(),
            unknown: Vec::with_capacity(UNKNOWN_KEYS),
            frame: FrameBuf::new(),
        }
    }

    /// Encodes and seals a packet by the primary key.
    ///
    /// # Errors
    /// The frame would be larger than `max_bytes`. Nothing changed.
    pub fn seal(&mut self, packet: &Packet, max_bytes: usize) -> Result<Vec<u8>, EncodeError> {
        message::encode(packet, max_bytes, &mut self.frame)?;
        let by = match &self.keys {
            Keys::Sealed(ring) => {
                let (id, key) = ring.primary();
                Seal::Keyed(id, key)
            }
            Keys::Insecure => Seal::Checksum,
        };
        frame::seal(&mut self.frame, self.protocol, by, &self.rng.bytes());
        self.counters.sealed += 1;
        Ok(self.frame.as_slice().to_vec())
    }

    /// Opens a frame in place and gives the packet in it. The start of `bytes`
    /// is aligned to [`BUFFER_ALIGN`](watchfire_wire::limits::BUFFER_ALIGN).
    ///
    /// # Errors
    /// It is not to be believed, or not a packet. It was counted.
    pub fn open<'a>(&mut self, bytes: &'a mut [u8]) -> Result<&'a ArchivedPacket, Refused> {
        let opened = self.try_open(bytes);
        let counter = match &opened {
            Ok(_) => &mut self.counters.opened,
            Err(Refused::Short) => &mut self.counters.short,
            Err(Refused::NotOurs) => &mut self.counters.not_ours,
            Err(Refused::Protocol(_)) => &mut self.counters.protocol,
            Err(Refused::UnknownKey { .. }) => &mut self.counters.unknown_key,
            Err(Refused::Unsealed) => &mut self.counters.unsealed,
            Err(Refused::Forged) => &mut self.counters.forged,
            Err(Refused::Malformed) => &mut self.counters.malformed,
            Err(Refused::Unaligned) => &mut self.counters.unaligned,
        };
        *counter += 1;
        opened
    }

    /// Other keys from now on, as after the key file was read again.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
        self.unknown.clear();
    }

    /// One step of a rotation: add, use or remove a key.
    ///
    /// # Errors
    /// The step does not apply, or the gate is insecure and has no ring
    /// ([`RingError::Missing`]). Nothing changed.
    pub fn rotate(
        &mut self,
        step: impl FnOnce(&mut KeyRing) -> Result<(), RingError>,
    ) -> Result<(), RingError> {
        match &mut self.keys {
            Keys::Sealed(ring) => {
                step(ring)?;
                self.unknown.clear();
                Ok(())
            }
            Keys::Insecure => Err(RingError::Missing(KeyId::NONE)),
        }
    }

    /// Speaks this protocol version from now on: the lowest that any member
    /// advertises. It is kept within what this build understands.
    pub fn set_protocol(&mut self, protocol: u8) {
        self.protocol = protocol.clamp(PROTOCOL_MIN, PROTOCOL);
    }

    /// The keys that it seals and opens with.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What came to the gate so far.
    #[must_use]
    pub const fn counters(&self) -> &GateCounters {
        &self.counters
    }

    fn try_open<'a>(&mut self, bytes: &'a mut [u8]) -> Result<&'a ArchivedPacket, Refused> {
        let header = frame::peek(bytes).map_err(Refused::from)?;
        if !(PROTOCOL_MIN..=PROTOCOL).contains(&header.protocol) {
            return Err(Refused::Protocol(header.protocol));
        }
        let body = match &self.keys {
            Keys::Insecure if header.key == KeyId::NONE => frame::open(bytes, Seal::Checksum),
            Keys::Sealed(_) if header.key == KeyId::NONE => return Err(Refused::Unsealed),
            Keys::Insecure => return Err(self.unknown_key(header.key)),
            Keys::Sealed(ring) => match ring.get(header.key) {
                Some(key) => frame::open(bytes, Seal::Keyed(header.key, key)),
                None => return Err(self.unknown_key(header.key)),
            },
        };
        message::access(body?).map_err(|error| match error {
            DecodeError::Unaligned => Refused::Unaligned,
            DecodeError::Malformed => Refused::Malformed,
        })
    }

    fn unknown_key(&mut self, id: KeyId) -> Refused {
        let first = self.unknown.len() < UNKNOWN_KEYS && !self.unknown.contains(&id);
        if first {
            self.unknown.push(id);
        }
        Refused::UnknownKey { id, first }
    }
}

impl From<FrameError> for Refused {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Short => Self::Short,
            FrameError::NotOurs => Self::NotOurs,
            FrameError::Forged => Self::Forged,
        }
    }
}

#[cfg(test)]
mod tests {
    use watchfire_wire::keys::Key;
    use watchfire_wire::limits::DATAGRAM_BYTES;
    use watchfire_wire::message::Body;
    use watchfire_wire::message::swim::Swim;
    use watchfire_wire::{Actor, NodeId};

    use super::*;

    fn ring(id: u32, byte: u8) -> KeyRing {
        KeyRing::of(KeyId(id), Key::from_bytes(&[byte; 32])).expect("not 0")
    }

    fn gate(keys: Keys) -> Gate {
        Gate::new(keys, Rng::from_seed([3; 32]))
    }

    fn packet() -> Packet {
        Packet {
            from: Actor {
                node: NodeId(1),
                epoch: 2,
                boot: 3,
            },
            body: Body::Swim(Swim::Nack { seq: 4 }),
            rumors: Vec::new(),
        }
    }

    fn sealed_by(gate: &mut Gate) -> FrameBuf {
        FrameBuf::copied(&gate.seal(&packet(), DATAGRAM_BYTES).expect("small"))
    }

    #[test]
    fn every_kind_of_refusal_has_its_own_counter() {
        let mut ours = gate(Keys::Sealed(ring(1, 1)));
        let good = sealed_by(&mut ours);
        let open = |gate: &mut Gate, mut frame: FrameBuf| {
            gate.open(frame.as_mut_slice())
                .map(|packet| Actor::from(&packet.from))
        };
        let copy = || FrameBuf::copied(good.as_slice());
        let altered = |at: usize| {
            let mut frame = copy();
            frame.as_mut_slice()[at] ^= 1;
            frame
        };

        assert_eq!(open(&mut ours, copy()), Ok(packet().from));
        let short = FrameBuf::copied(&good.as_slice()[..20]);
        assert_eq!(open(&mut ours, short), Err(Refused::Short));
        assert_eq!(open(&mut ours, altered(0)), Err(Refused::NotOurs));
        assert_eq!(
            open(&mut ours, altered(2)),
            Err(Refused::Protocol(PROTOCOL ^ 1))
        );
        let cut = FrameBuf::copied(&good.as_slice()[..good.as_slice().len() - 1]);
        assert_eq!(open(&mut ours, cut), Err(Refused::Forged));
        let foreign = sealed_by(&mut gate(Keys::Sealed(ring(1, 2))));
        assert_eq!(open(&mut ours, foreign), Err(Refused::Forged));
        let unsealed = sealed_by(&mut gate(Keys::Insecure));
        assert_eq!(open(&mut ours, unsealed), Err(Refused::Unsealed));
        for first in [true, false] {
            let newer = sealed_by(&mut gate(Keys::Sealed(ring(7, 1))));
            let id = KeyId(7);
            assert_eq!(
                open(&mut ours, newer),
                Err(Refused::UnknownKey { id, first })
            );
        }
        let expected = GateCounters {
            sealed: 1,
            opened: 1,
            short: 1,
            not_ours: 1,
            protocol: 1,
            unknown_key: 2,
            unsealed: 1,
            forged: 2,
            malformed: 0,
            unaligned: 0,
        };
        assert_eq!(*ours.counters(), expected);
        assert_eq!(ours.counters().refused(), 8);
    }

    #[test]
    fn an_authentic_body_that_is_no_packet_is_malformed() {
        let mut ours = gate(Keys::Insecure);
        let mut bytes = sealed_by(&mut ours).as_slice().to_vec();
        // An enum's tag out of range: the checksum is right, the body is not.
        let end = bytes.len() - frame::TAG_BYTES;
        bytes[frame::HEADER_BYTES..end].fill(0xff);
        let tag = xxhash_rust::xxh3::xxh3_128(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&tag);
        let mut frame = FrameBuf::copied(&bytes);
        let refused = ours.open(frame.as_mut_slice()).err();
        assert_eq!(refused, Some(Refused::Malformed));
    }

    #[test]
    fn a_rotation_in_three_steps_never_shuts_a_node_out() {
        let (mut one, mut two) = (
            gate(Keys::Sealed(ring(1, 1))),
            gate(Keys::Sealed(ring(1, 1))),
        );
        let talk = |one: &mut Gate, two: &mut Gate| {
            let mut there = sealed_by(one);
            assert!(two.open(there.as_mut_slice()).is_ok());
            let mut back = sealed_by(two);
            assert!(one.open(back.as_mut_slice()).is_ok());
        };
        let (old, new) = (KeyId(1), KeyId(2));
        type Step<'a> = &'a dyn Fn(&mut KeyRing) -> Result<(), RingError>;
        let steps: [Step<'_>; 3] = [
            &|ring| ring.add(new, Key::from_bytes(&[2; 32])),
            &|ring| ring.use_key(new),
            &|ring| ring.remove(old),
        ];
        for step in steps {
            one.rotate(step).expect("the step applies");
            talk(&mut one, &mut two);
            two.rotate(step).expect("the step applies");
            talk(&mut one, &mut two);
        }
        assert_eq!(one.counters().refused() + two.counters().refused(), 0);
    }
}
