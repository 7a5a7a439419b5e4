//! The sealed frame around every message.
//!
//! ```text
//!  0  2  3  4        8                        32           n-16        n
//! +--+--+--+--------+------------------------+-----...----+-----------+
//! |WF| v| 0| key id | nonce (used once)      | sealed body| tag       |
//! +--+--+--+--------+------------------------+-----...----+-----------+
//! ```
//!
//! The body is sealed in place by XChaCha20-Poly1305 with the whole header as
//! associated data. The nonce is 128 random bits for each life of a sender and
//! the number of the frame: nodes share a key and need no counter that survives a
//! restart, and whoever receives a frame can tell whether it came before. Key id 0 means that there is no key; the
//! tag is then a checksum (XXH3, 128 bits), which finds damage and proves
//! nothing.
//!
//! The header is 32 bytes long so that the body is aligned when the frame is;
//! see [`FrameBuf`]. Nothing here allocates, except for a buffer that grows.

use chacha20poly1305::AeadInPlace;
use rkyv::util::AlignedVec;
use xxhash_rust::xxh3::xxh3_128;

use crate::keys::{Key, KeyId};
use crate::limits::BUFFER_ALIGN;

/// Before the body, bytes.
pub const HEADER_BYTES: usize = 32;
/// After the body, bytes.
pub const TAG_BYTES: usize = 16;
/// What a frame adds to its body, bytes.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

const MAGIC: [u8; 2] = *b"WF";
/// Of a frame's nonce, bytes.
pub const NONCE_BYTES: usize = 24;

const _: () = assert!(HEADER_BYTES == 8 + NONCE_BYTES);
const _: () = assert!(HEADER_BYTES.is_multiple_of(BUFFER_ALIGN));

/// A buffer whose start is aligned as frames need it.
///
/// The same buffer serves for one frame after another: clearing it keeps its
/// room.
#[derive(Debug, Default)]
pub struct FrameBuf(pub(crate) AlignedVec<BUFFER_ALIGN>);

impl FrameBuf {
    /// An empty buffer without room.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of so many zeros, to read a frame into.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let mut bytes = AlignedVec::with_capacity(len);
        bytes.resize(len, 0);
        Self(bytes)
    }

    /// A buffer with a copy of these bytes.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Self {
        let mut copy = Self::new();
        copy.copy_from(bytes);
        copy
    }

    /// Holds a copy of these bytes from now on.
    pub fn copy_from(&mut self, bytes: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(bytes);
    }

    /// What it holds.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// What it holds, to be read into or opened in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Makes room for a header and nothing else.
    pub(crate) fn begin(&mut self) {
        self.0.clear();
        self.0.resize(HEADER_BYTES, 0);
    }
}

/// How frames are sealed and opened.
#[derive(Clone, Copy, Debug)]
pub enum Seal<'a> {
    /// By this key.
    Keyed(KeyId, &'a Key),
    /// By a checksum: anybody can make one.
    Checksum,
}

/// What a frame's header says, before anything of it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The protocol version of the body.
    pub protocol: u8,
    /// Which key opens it.
    pub key: KeyId,
}

/// Why bytes are no frame for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too short for a header and a tag.
    #[error("shorter than any frame")]
    Short,
    /// Another protocol altogether.
    #[error("not a frame of this protocol")]
    NotOurs,
    /// Altered, truncated, or sealed by another key of the same id.
    #[error("does not authenticate")]
    Forged,
}

/// Reads the header of a frame. It is not authentic yet.
///
/// # Errors
/// The bytes are too short or begin otherwise.
pub fn peek(frame: &[u8]) -> Result<Header, FrameError> {
    if frame.len() < OVERHEAD_BYTES {
        return Err(FrameError::Short);
    }
    if frame[..2] != MAGIC || frame[3] != 0 {
        return Err(FrameError::NotOurs);
    }
    let key = [frame[4], frame[5], frame[6], frame[7]];
    Ok(Header {
        protocol: frame[2],
        key: KeyId(u32::from_le_bytes(key)),
    })
}

/// The nonce of a frame, if it may be one. It is not authentic yet.
#[must_use]
pub fn nonce(frame: &[u8]) -> Option<[u8; NONCE_BYTES]> {
    peek(frame).ok()?;
    frame.get(8..HEADER_BYTES)?.try_into().ok()
}

/// Seals the body that stands in `frame` behind the room for a header, as
/// [`encode`](crate::message::encode) leaves it.
///
/// # Panics
/// If there is no room for a header: then nothing was encoded.
pub fn seal(frame: &mut FrameBuf, protocol: u8, by: Seal<'_>, nonce: &[u8; NONCE_BYTES]) {
    let bytes = &mut frame.0;
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    let key_id = match by {
        Seal::Keyed(id, _) => id,
        Seal::Checksum => KeyId::NONE,
    };
    header[..2].copy_from_slice(&MAGIC);
    header[2] = protocol;
    header[3] = 0;
    header[4..8].copy_from_slice(&key_id.0.to_le_bytes());
    header[8..].copy_from_slice(nonce);
    let tag: [u8; TAG_BYTES] = match by {
        Seal::Keyed(_, key) => key
            .cipher()
            .encrypt_in_place_detached(nonce.into(), header, body)
            .expect("a body is far below the cipher's 256 GiB")
            .into(),
        Seal::Checksum => xxh3_128(bytes).to_le_bytes(),
    };
    bytes.extend_from_slice(&tag);
}

/// Opens a frame in place and gives its body. After an error the bytes mean
/// nothing.
///
/// # Errors
/// The frame does not authenticate by that key.
pub fn open<'a>(frame: &'a mut [u8], by: Seal<'_>) -> Result<&'a mut [u8], FrameError> {
    peek(frame)?;
    let (rest, tag) = frame.split_at_mut(frame.len() - TAG_BYTES);
    match by {
        Seal::Keyed(_, key) => {
            let (header, body) = rest.split_at_mut(HEADER_BYTES);
            let nonce: [u8; NONCE_BYTES] = header[8..].try_into().expect("32 less 8 is 24");
            key.cipher()
                .decrypt_in_place_detached((&nonce).into(), header, body, (&*tag).into())
                .map_err(|_| FrameError::Forged)?;
            Ok(body)
        }
        Seal::Checksum => {
            if xxh3_128(rest).to_le_bytes() != *tag {
                return Err(FrameError::Forged);
            }
            Ok(&mut rest[HEADER_BYTES..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8], by: Seal<'_>) -> FrameBuf {
        let mut frame = FrameBuf::new();
        frame.begin();
        frame.0.extend_from_slice(body);
        seal(&mut frame, 1, by, &[9; NONCE_BYTES]);
        frame
    }

    #[test]
    fn a_frame_opens_by_its_key_and_by_no_other() {
        let (one, two) = (Key::from_bytes(&[1; 32]), Key::from_bytes(&[2; 32]));
        let frame = framed(b"something", Seal::Keyed(KeyId(5), &one));
        assert_eq!(frame.as_slice().len(), 9 + OVERHEAD_BYTES);
        let header = peek(frame.as_slice()).expect("a frame");
        assert_eq!((header.protocol, header.key), (1, KeyId(5)));
        assert!(!frame.as_slice().windows(9).any(|w| w == b"something"));
        for (key, good) in [(&one, true), (&two, false)] {
            let mut copy = FrameBuf::copied(frame.as_slice());
            let body = open(copy.as_mut_slice(), Seal::Keyed(KeyId(5), key));
            assert_eq!(body.is_ok(), good);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let key = Key::from_bytes(&[1; 32]);
        for by in [Seal::Keyed(KeyId(5), &key), Seal::Checksum] {
            let frame = framed(b"abcdefgh", by);
            let len = frame.as_slice().len();
            for bit in 0..len * 8 {
                let mut copy = FrameBuf::copied(frame.as_slice());
                copy.as_mut_slice()[bit / 8] ^= 1 << (bit % 8);
                assert!(open(copy.as_mut_slice(), by).is_err(), "bit {bit}");
            }
            for cut in 0..len {
                let mut copy = FrameBuf::copied(&frame.as_slice()[..cut]);
                assert!(open(copy.as_mut_slice(), by).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_body_is_as_aligned_as_its_frame() {
        let mut frame = framed(b"x", Seal::Checksum);
        let body = open(frame.as_mut_slice(), Seal::Checksum).expect("our own");
        assert_eq!(body.as_ptr().align_offset(BUFFER_ALIGN), 0);
    }
}
