//! Frames (RFC 9113, section 4): told whole, however the bytes were cut.

use watchfire_wire::Reason;

use crate::limits::HTTP2_FRAME_BYTES;

/// Bytes before a frame's payload.
pub(super) const HEAD_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g] = bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        })
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// A payload without its padding, if it has any.
    ///
    /// # Errors
    ///
    /// The padding is longer than what it stands in.
    pub(super) fn unpadded<'a>(&self, payload: &'a [u8]) -> Result<&'a [u8], Reason> {
        if !self.has(PADDED) {
            return Ok(payload);
        }
        let (&padding, rest) = payload.split_first().ok_or(Reason::Http2FrameSize)?;
        let length = rest.len().checked_sub(usize::from(padding));
        Ok(&rest[..length.ok_or(Reason::Http2Protocol)?])
    }
}

/// Appends a frame.
pub(super) fn put(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    out.extend(length);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// What takes frames. What it answers to one is told on, and ends the reading if it
/// is not nothing.
pub(super) trait Take<T> {
    /// A frame begins: its payload comes next, if this does not refuse it.
    fn begins(&mut self, head: &Head) -> Option<T>;

    /// A frame is whole.
    fn whole(&mut self, head: &Head, payload: &[u8]) -> Option<T>;
}

/// Frames as they come.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The beginning of a frame that did not come in one piece: never more than the
    /// largest that is allowed.
    pub(super) partial: Vec<u8>,
}

impl Frames {
    /// Takes the next bytes, as far as `take` has no answer.
    pub(super) fn feed<T>(&mut self, bytes: &[u8], take: &mut impl Take<T>) -> Option<T> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let answer = if self.partial.is_empty() {
                self.next(&mut rest, take)
            } else {
                self.go_on(&mut rest, take)
            };
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    /// A frame begins with these bytes: mostly it ends among them.
    fn next<T>(&mut self, rest: &mut &[u8], take: &mut impl Take<T>) -> Option<T> {
        let Some(head) = Head::read(rest) else {
            self.partial.extend_from_slice(rest);
            *rest = &[];
            return None;
        };
        if let Some(answer) = take.begins(&head) {
            return Some(answer);
        }
        if let Some((frame, after)) = rest.split_at_checked(HEAD_BYTES + head.length) {
            *rest = after;
            return take.whole(&head, &frame[HEAD_BYTES..]);
        }
        self.partial.extend_from_slice(rest);
        *rest = &[];
        None
    }

    /// These bytes go on with a frame.
    fn go_on<T>(&mut self, rest: &mut &[u8], take: &mut impl Take<T>) -> Option<T> {
        if self.partial.len() < HEAD_BYTES {
            self.fill(HEAD_BYTES, rest);
            let head = Head::read(&self.partial)?;
            if let Some(answer) = take.begins(&head) {
                return Some(answer);
            }
        }
        let head = Head::read(&self.partial)?;
        let whole = HEAD_BYTES + head.length;
        self.fill(whole, rest);
        if self.partial.len() < whole {
            return None;
        }
        let answer = take.whole(&head, &self.partial[HEAD_BYTES..]);
        self.partial.clear();
        answer
    }

    fn fill(&mut self, length: usize, rest: &mut &[u8]) {
        let count = (length - self.partial.len()).min(rest.len());
        self.partial.extend_from_slice(&rest[..count]);
        *rest = &rest[count..];
    }
}

const _: () = assert!(HTTP2_FRAME_BYTES == 16_384, "less may not be announced");
