//! The gate: what goes out is sealed here, what comes in is believed from here
//! on.
//!
//! Bytes that do not authenticate change nothing but a counter: they cost no
//! allocation and draw no reply. The gate knows keys and frames; it does not
//! know who may say what.

use core::net::SocketAddr;

use watchfire_wire::frame::{self, FrameBuf, FrameError, Seal};
use watchfire_wire::keys::{KeyId, KeyRing, RingError};
use watchfire_wire::message::{
    self, ArchivedPacket, DecodeError, EncodeError, PROTOCOL, PROTOCOL_MIN, Packet,
};

use crate::replay::{self, Lane, Numbers, Seen};
use crate::rng::Rng;

/// Unknown key ids that are told apart; one more takes the place of the one
/// that came least often.
pub const UNKNOWN_KEYS: usize = 8;

/// Frames of one unknown key id beyond what may have been others' before it is
/// named: a member sends as many in a second, and whoever guesses ids does not.
const UNKNOWN_FRAMES: u32 = 4;

/// Frames of one unknown key id (Metwally and others' space-saving count).
#[derive(Clone, Copy, Debug)]
struct Unknown {
    id: KeyId,
    count: u32,
    /// So many of them may have been of ids that had the place before.
    error: u32,
    named: bool,
}

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
        /// So many frames came that somebody means it, and it was not named
        /// yet; see [`Gate::name_key`].
        due: bool,
    },
    /// A frame that came before, or one of before many that came since.
    #[error("it came before")]
    Replayed,
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
        /// Frames that came before, or are too old to tell.
        pub replayed: u64 as "frames_refused_replayed",
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
            + self.replayed
    }
}

/// Seals and opens.
#[derive(Debug)]
pub struct Gate {
    keys: Keys,
    protocol: u8,
    counters: GateCounters,
    unknown: Vec<Unknown>,
    numbers: Numbers,
    seen: Seen,
    /// Of the last frame that was opened.
    lane: Lane,
    frame: FrameBuf,
}

impl Gate {
    /// A gate with these keys. The generator gives what tells its nonces from
    /// those of all other gates.
    #[must_use]
    pub fn new(keys: Keys, mut rng: Rng) -> Self {
        let lane = rng.bytes();
        Self {
            keys,
            numbers: Numbers::new(lane),
            seen: Seen::default(),
            lane,
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
        frame::seal(&mut self.frame, self.protocol, by, &self.numbers.next());
        self.counters.sealed += 1;
        Ok(self.frame.as_slice().to_vec())
    }

    /// Opens a datagram, as [`open`](Self::open) does, unless it came before.
    ///
    /// # Errors
    /// As of `open`, or [`Refused::Replayed`]. It was counted.
    pub fn open_from<'a>(
        &mut self,
        from: SocketAddr,
        bytes: &'a mut [u8],
    ) -> Result<&'a ArchivedPacket, Refused> {
        let Some(nonce) = frame::nonce(bytes) else {
            return self.open(bytes);
        };
        let (lane, number) = replay::split(&nonce);
        if !self.seen.is_new(&lane, number, from) {
            self.counters.replayed += 1;
            return Err(Refused::Replayed);
        }
        let opened = self.count(Self::try_open(&self.keys, bytes));
        if matches!(opened, Ok(_) | Err(Refused::Malformed)) {
            self.lane = lane;
            self.seen.note(&lane, number, from);
        }
        opened
    }

    /// The sender of the datagram that was opened last is at home there.
    pub fn at_home(&mut self, from: SocketAddr) {
        let lane = self.lane;
        self.seen.set_home(&lane, from);
    }

    /// Opens a frame in place and gives the packet in it. The start of `bytes`
    /// is aligned to [`BUFFER_ALIGN`](watchfire_wire::limits::BUFFER_ALIGN).
    ///
    /// # Errors
    /// It is not to be believed, or not a packet. It was counted.
    pub fn open<'a>(&mut self, bytes: &'a mut [u8]) -> Result<&'a ArchivedPacket, Refused> {
        self.count(Self::try_open(&self.keys, bytes))
    }

    fn count<'a>(
        &mut self,
        opened: Result<&'a ArchivedPacket, Refused>,
    ) -> Result<&'a ArchivedPacket, Refused> {
        let opened = opened.map_err(|refused| match refused {
            Refused::UnknownKey { id, .. } => self.unknown_key(id),
            other => other,
        });
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
            Err(Refused::Replayed) => &mut self.counters.replayed,
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

    fn try_open<'a>(keys: &Keys, bytes: &'a mut [u8]) -> Result<&'a ArchivedPacket, Refused> {
        let header = frame::peek(bytes).map_err(Refused::from)?;
        if !(PROTOCOL_MIN..=PROTOCOL).contains(&header.protocol) {
            return Err(Refused::Protocol(header.protocol));
        }
        let unknown_key = |id| Refused::UnknownKey { id, due: false };
        let body = match keys {
            Keys::Insecure if header.key == KeyId::NONE => frame::open(bytes, Seal::Checksum),
            Keys::Sealed(_) if header.key == KeyId::NONE => return Err(Refused::Unsealed),
            Keys::Insecure => return Err(unknown_key(header.key)),
            Keys::Sealed(ring) => match ring.get(header.key) {
                Some(key) => frame::open(bytes, Seal::Keyed(header.key, key)),
                None => return Err(unknown_key(header.key)),
            },
        };
        message::access(body?).map_err(|error| match error {
            DecodeError::Unaligned => Refused::Unaligned,
            DecodeError::Malformed => Refused::Malformed,
        })
    }

    /// An unknown key id was named: it is not due again until the keys change.
    pub fn name_key(&mut self, id: KeyId) {
        if let Some(known) = self.unknown.iter_mut().find(|known| known.id == id) {
            known.named = true;
        }
    }

    fn unknown_key(&mut self, id: KeyId) -> Refused {
        let mut new = Unknown {
            id,
            count: 0,
            error: 0,
            named: false,
        };
        let known = match self.unknown.iter().position(|known| known.id == id) {
            Some(at) => &mut self.unknown[at],
            None if self.unknown.len() < UNKNOWN_KEYS => {
                self.unknown.push(new);
                let last = self.unknown.len() - 1;
                &mut self.unknown[last]
            }
            None => {
                let least = self.unknown.iter_mut().min_by_key(|known| known.count);
                let least = least.expect("there are some");
                (new.count, new.error) = (least.count, least.count);
                *least = new;
                least
            }
        };
        known.count = known.count.saturating_add(1);
        Refused::UnknownKey {
            id,
            due: !known.named && known.count - known.error >= UNKNOWN_FRAMES,
        }
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
        for due in [false, false, false, true] {
            let newer = sealed_by(&mut gate(Keys::Sealed(ring(7, 1))));
            let id = KeyId(7);
            assert_eq!(open(&mut ours, newer), Err(Refused::UnknownKey { id, due }));
        }
        let expected = GateCounters {
            sealed: 1,
            opened: 1,
            short: 1,
            not_ours: 1,
            protocol: 1,
            unknown_key: 4,
            unsealed: 1,
            forged: 2,
            malformed: 0,
            unaligned: 0,
            replayed: 0,
        };
        assert_eq!(*ours.counters(), expected);
        assert_eq!(ours.counters().refused(), 10);
    }

    #[test]
    fn a_datagram_is_opened_once() {
        let (mut one, mut two) = (
            gate(Keys::Sealed(ring(1, 1))),
            Gate::new(Keys::Sealed(ring(1, 1)), Rng::from_seed([4; 32])),
        );
        let (home, elsewhere) = (([192, 0, 2, 1], 1).into(), ([192, 0, 2, 2], 1).into());
        let frames: Vec<_> = (0..3).map(|_| sealed_by(&mut one)).collect();
        let open = |two: &mut Gate, at: usize, from| {
            let mut copy = FrameBuf::copied(frames[at].as_slice());
            two.open_from(from, copy.as_mut_slice()).map(drop)
        };
        assert_eq!(open(&mut two, 1, home), Ok(()));
        two.at_home(home);
        assert_eq!(open(&mut two, 0, home), Ok(()), "it was overtaken");
        assert_eq!(open(&mut two, 2, elsewhere), Ok(()));
        assert_eq!(open(&mut two, 2, home), Ok(()));
        assert_eq!(open(&mut two, 0, elsewhere), Ok(()), "once from elsewhere");
        for at in 0..3 {
            for from in [home, elsewhere] {
                assert_eq!(open(&mut two, at, from), Err(Refused::Replayed));
            }
        }
        // A forged number of a known lane pushes nobody out.
        let mut forged = FrameBuf::copied(frames[0].as_slice());
        forged.as_mut_slice()[24..32].fill(0xff);
        let refused = two.open_from(home, forged.as_mut_slice()).map(drop);
        assert_eq!(refused, Err(Refused::Forged));
        let mut next = sealed_by(&mut one);
        assert!(two.open_from(home, next.as_mut_slice()).is_ok());
        assert_eq!(two.counters().replayed, 6);
    }

    /// Ids that somebody makes up do not keep a member's from being named.
    #[test]
    fn a_members_key_is_named_whatever_else_comes() {
        let mut ours = gate(Keys::Sealed(ring(1, 1)));
        let mut named = Vec::new();
        for n in 0..1_000_u32 {
            for id in [100 + n % 500, if n % 4 == 0 { 77 } else { 5_000 + n }] {
                let mut frame = sealed_by(&mut gate(Keys::Sealed(ring(id, 1))));
                if let Err(Refused::UnknownKey { id, due: true }) = ours.open(frame.as_mut_slice())
                {
                    ours.name_key(id);
                    named.push(id.0);
                }
            }
        }
        assert_eq!(named, [77]);
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
