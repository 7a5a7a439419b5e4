//! One request's stream on a connection of its own, and all that an origin may say
//! beside it.
//!
//! It is a pure state machine over whole frames, so that where the bytes were cut
//! decides nothing. What breaks the rules of RFC 9113 ends it with the reason that the
//! rules name; what is allowed but never ends (SETTINGS, PING, empty DATA and their
//! like) ends at a number of frames.

use watchfire_wire::Reason;

use super::STREAM;
use super::frame::{self, Frames, Head, Take};
use super::hpack::{Decoder, FIELD_OVERHEAD};
use super::request::TABLE_BYTES;
use crate::limits::{
    BODY_BYTES, HEAD_BYTES, HEADERS, HTTP2_FRAME_BYTES, HTTP2_FRAMES, HTTP2_WINDOW_BYTES,
    INTERIM_HEADS,
};

/// What is known after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The response goes on.
    More,
    /// It ended, or enough of it came.
    Done,
    /// It is none, or not one that ends well.
    Failed(Reason),
}

/// What a kind hears of its response, in order.
pub(crate) trait Hears {
    /// A field of a head.
    fn header(&mut self, name: &[u8], value: &[u8]);

    /// The head so far was an interim one.
    fn again(&mut self);

    /// The final status, after the head's fields.
    ///
    /// # Errors
    ///
    /// The response is not the one that is wanted.
    fn head(&mut self, status: u16) -> Result<(), Reason>;

    /// Content of the body; whether that is enough.
    fn content(&mut self, content: &[u8]) -> bool;

    /// A field after the body.
    fn trailer(&mut self, _name: &[u8], _value: &[u8]) {}
}

/// A client's side of one connection.
#[derive(Debug)]
pub(crate) struct Client {
    frames: Frames,
    stream: Stream,
    /// What left, or is leaving.
    sending: Sending,
}

/// What is on its way to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Nothing: the connection does not stand yet.
    Nothing,
    /// The request.
    Request,
    /// Acknowledgements.
    Acks,
}

/// Where in the response the next frame of the stream belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
}

/// The stream and the connection around it.
#[derive(Debug)]
struct Stream {
    decoder: Decoder,
    stage: Stage,
    /// The request was HEAD: there is no content whatever the head says.
    head_only: bool,
    /// The origin's first SETTINGS came.
    greeted: bool,
    /// The first frame of a head came.
    answered: bool,
    /// A block of headers that goes on in the next frame, and whether the stream ends
    /// with it.
    block: Vec<u8>,
    unfinished: Option<bool>,
    interim: u8,
    status: u16,
    /// The content's length as the head says it.
    length: Option<u64>,
    /// Content so far.
    body: u64,
    /// What came of that, padding included, and counts against the window.
    flow: u32,
    /// What we might send, on the connection and on the stream, and what the origin
    /// lets a stream begin with.
    windows: [i64; 2],
    initial_window: i64,
    /// Frames that brought no content.
    spent: u32,
    /// Acknowledgements that have not left.
    acks: Vec<u8>,
}

impl Client {
    /// A client whose request is HEAD or another, with so many bytes of body.
    pub(crate) const fn new(head_only: bool, body_sent: usize) -> Self {
        let left = FIRST_WINDOW - body_sent as i64;
        Self {
            frames: Frames {
                partial: Vec::new(),
            },
            stream: Stream {
                decoder: Decoder::new(TABLE_BYTES as usize),
                stage: Stage::Head,
                head_only,
                greeted: false,
                answered: false,
                block: Vec::new(),
                unfinished: None,
                interim: 0,
                status: 0,
                length: None,
                body: 0,
                flow: 0,
                windows: [left, left],
                initial_window: FIRST_WINDOW,
                spent: 0,
                acks: Vec::new(),
            },
            sending: Sending::Nothing,
        }
    }

    /// The connection stands: the request is to be sent.
    pub(crate) const fn connected(&mut self) {
        self.sending = Sending::Request;
    }

    /// What was to be sent has left.
    pub(crate) fn flushed(&mut self) {
        if self.sending == Sending::Acks {
            self.stream.acks.clear();
        }
        self.sending = Sending::Acks;
    }

    /// What is to be sent now, `prepared` being the request.
    pub(crate) fn outgoing<'a>(&'a self, prepared: &'a [u8]) -> &'a [u8] {
        match self.sending {
            Sending::Nothing => &[],
            Sending::Request => prepared,
            Sending::Acks => &self.stream.acks,
        }
    }

    /// Whether anything is to be sent now.
    pub(crate) fn has_to_send(&self) -> bool {
        self.sending == Sending::Acks && !self.stream.acks.is_empty()
    }

    /// Takes the next bytes. After anything but `More` nothing is read.
    pub(crate) fn feed(&mut self, bytes: &[u8], hears: &mut impl Hears) -> Progress {
        let mut conversation = Conversation {
            stream: &mut self.stream,
            hears,
        };
        match self.frames.feed(bytes, &mut conversation) {
            None => Progress::More,
            Some(Ok(())) => Progress::Done,
            Some(Err(reason)) => Progress::Failed(reason),
        }
    }

    /// Whether a head came, an interim one too: that two sides greet each other is no
    /// answer.
    pub(crate) const fn has_answered(&self) -> bool {
        self.stream.answered
    }

    /// The final status, once its head came; 0 before.
    pub(crate) const fn status(&self) -> u16 {
        self.stream.status
    }
}

/// What a stream's window is at first (RFC 9113, section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;

/// What no window may be above.
const LARGEST_WINDOW: i64 = (1 << 31) - 1;

/// The end of it, one way or another; nothing while it goes on.
type End = Option<Result<(), Reason>>;

/// A stream, and who hears what it says.
struct Conversation<'a, H> {
    stream: &'a mut Stream,
    hears: &'a mut H,
}

impl<H: Hears> Take<Result<(), Reason>> for Conversation<'_, H> {
    fn begins(&mut self, head: &Head) -> End {
        self.stream.begins(head).err().map(Err)
    }

    fn whole(&mut self, head: &Head, payload: &[u8]) -> End {
        match self.take(head, payload) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(reason) => Some(Err(reason)),
        }
    }
}

impl Stream {
    /// Whether a frame may come now, and be as long as it says.
    fn begins(&mut self, head: &Head) -> Result<(), Reason> {
        if !self.greeted {
            match head.kind {
                frame::SETTINGS if head.stream == 0 && !head.has(frame::ACK) => {}
                // It may say that it does not want us before it says hello.
                frame::GOAWAY if head.stream == 0 => {}
                frame::DATA..=frame::CONTINUATION if head.length <= HTTP2_FRAME_BYTES => {
                    return Err(Reason::Http2Protocol);
                }
                _ => return Err(Reason::NotHttp2),
            }
        }
        if head.length > HTTP2_FRAME_BYTES {
            return Err(Reason::Http2FrameSize);
        }
        let goes_on = head.kind == frame::CONTINUATION && head.stream == STREAM;
        if self.unfinished.is_some() != goes_on {
            return Err(Reason::Http2Protocol);
        }
        if head.kind != frame::DATA || head.length == 0 {
            self.spent += 1;
            if self.spent > HTTP2_FRAMES {
                return Err(Reason::Http2Flood);
            }
        }
        Ok(())
    }

    fn settings(&mut self, head: &Head, payload: &[u8]) -> Result<(), Reason> {
        const ENABLE_PUSH: u16 = 2;
        const INITIAL_WINDOW_SIZE: u16 = 4;
        const MAX_FRAME_SIZE: u16 = 5;
        if head.stream != 0 {
            return Err(Reason::Http2Protocol);
        }
        if head.has(frame::ACK) {
            return fits(payload.is_empty());
        }
        let (settings, rest) = payload.as_chunks::<6>();
        fits(rest.is_empty())?;
        for &[a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                // Nobody but a client may ask for pushes.
                ENABLE_PUSH => allowed(value == 0)?,
                INITIAL_WINDOW_SIZE => {
                    let value = i64::from(value);
                    let window = self.windows[1] + value - self.initial_window;
                    if value > LARGEST_WINDOW || window > LARGEST_WINDOW {
                        return Err(Reason::Http2FlowControl);
                    }
                    self.windows[1] = window;
                    self.initial_window = value;
                }
                MAX_FRAME_SIZE => allowed((1 << 14..1 << 24).contains(&value))?,
                _ => {}
            }
        }
        self.greeted = true;
        frame::put(frame::SETTINGS, frame::ACK, 0, &[], &mut self.acks);
        Ok(())
    }

    fn ping(&mut self, head: &Head, payload: &[u8]) -> Result<(), Reason> {
        allowed(head.stream == 0)?;
        fits(payload.len() == 8)?;
        if !head.has(frame::ACK) {
            frame::put(frame::PING, frame::ACK, 0, payload, &mut self.acks);
        }
        Ok(())
    }

    /// The origin takes no more requests; it may end this one.
    fn goaway(head: &Head, payload: &[u8]) -> Result<(), Reason> {
        allowed(head.stream == 0)?;
        let (numbers, _) = payload.as_chunks::<4>();
        let [last, error, ..] = numbers else {
            return Err(Reason::Http2FrameSize);
        };
        let last = u32::from_be_bytes(*last) & 0x7fff_ffff;
        if last < STREAM || *error != [0; 4] {
            return Err(Reason::Http2Goaway);
        }
        Ok(())
    }

    fn window_update(&mut self, head: &Head, payload: &[u8]) -> Result<(), Reason> {
        let bytes = payload.try_into().map_err(|_| Reason::Http2FrameSize)?;
        let more = i64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff);
        allowed(more > 0 && head.stream <= STREAM)?;
        let window = &mut self.windows[usize::from(head.stream == STREAM)];
        *window += more;
        if *window > LARGEST_WINDOW {
            return Err(Reason::Http2FlowControl);
        }
        Ok(())
    }

    /// Whether a response of this status to this request has content.
    const fn has_content(&self) -> bool {
        !self.head_only && !matches!(self.status, 204 | 304)
    }

    /// The stream ended: whether it is as long as it said.
    fn end(&self) -> Result<bool, Reason> {
        match self.length {
            Some(length) if self.has_content() && length != self.body => Err(Reason::BadBody),
            _ => Ok(true),
        }
    }
}

impl<H: Hears> Conversation<'_, H> {
    /// Takes a frame; whether that was all.
    fn take(&mut self, head: &Head, payload: &[u8]) -> Result<bool, Reason> {
        let stream = &mut *self.stream;
        match head.kind {
            frame::DATA => return self.data(head, payload),
            frame::HEADERS => return self.headers(head, payload),
            frame::CONTINUATION => {
                let ends = stream.unfinished.ok_or(Reason::Http2Protocol)?;
                return self.block(head, payload, ends);
            }
            frame::SETTINGS => stream.settings(head, payload)?,
            frame::PING => stream.ping(head, payload)?,
            frame::GOAWAY => Stream::goaway(head, payload)?,
            frame::WINDOW_UPDATE => stream.window_update(head, payload)?,
            frame::PRIORITY => {
                allowed(head.stream != 0)?;
                fits(payload.len() == 5)?;
            }
            frame::RST_STREAM => {
                fits(payload.len() == 4)?;
                allowed(head.stream == STREAM)?;
                return Err(Reason::Http2Reset);
            }
            frame::PUSH_PROMISE => return Err(Reason::Http2Protocol),
            // What is not known is to be passed over.
            _ => {}
        }
        Ok(false)
    }

    fn data(&mut self, head: &Head, payload: &[u8]) -> Result<bool, Reason> {
        let stream = &mut *self.stream;
        allowed(head.stream == STREAM && stream.stage == Stage::Body)?;
        stream.flow += head.length as u32;
        if stream.flow > HTTP2_WINDOW_BYTES {
            return Err(Reason::Http2FlowControl);
        }
        let content = head.unpadded(payload)?;
        stream.body += content.len() as u64;
        let too_long = stream.length.is_some_and(|length| stream.body > length);
        if !content.is_empty() && (too_long || !stream.has_content()) {
            return Err(Reason::BadBody);
        }
        let enough = self.hears.content(content);
        if head.has(frame::END_STREAM) {
            return self.stream.end();
        }
        Ok(enough)
    }

    fn headers(&mut self, head: &Head, payload: &[u8]) -> Result<bool, Reason> {
        allowed(head.stream == STREAM)?;
        self.stream.answered = true;
        let mut block = head.unpadded(payload)?;
        if head.has(frame::WITH_PRIORITY) {
            block = block.get(5..).ok_or(Reason::Http2FrameSize)?;
        }
        self.block(head, block, head.has(frame::END_STREAM))
    }

    /// A piece of a block of headers.
    fn block(&mut self, head: &Head, piece: &[u8], ends: bool) -> Result<bool, Reason> {
        let stream = &mut *self.stream;
        if stream.block.len() + piece.len() > HEAD_BYTES {
            return Err(Reason::HeadersTooLarge);
        }
        if !head.has(frame::END_HEADERS) {
            stream.block.extend_from_slice(piece);
            stream.unfinished = Some(ends);
            return Ok(false);
        }
        stream.unfinished = None;
        if stream.block.is_empty() {
            return self.fields(piece, ends);
        }
        stream.block.extend_from_slice(piece);
        let block = core::mem::take(&mut stream.block);
        self.fields(&block, ends)
    }

    /// A whole block of headers: a head, or what follows the body.
    fn fields(&mut self, block: &[u8], ends: bool) -> Result<bool, Reason> {
        let stream = &mut *self.stream;
        let in_head = stream.stage == Stage::Head;
        let (mut size, mut count) = (0, 0);
        let mut status = None;
        let mut length = None;
        let hears = &mut *self.hears;
        stream.decoder.decode(block, |name, value| {
            size += name.len() + value.len() + FIELD_OVERHEAD;
            count += 1;
            if size > HEAD_BYTES || count > HEADERS {
                return Err(Reason::HeadersTooLarge);
            }
            if name.first() == Some(&b':') {
                // Nothing but one status, and before all else.
                allowed(in_head && count == 1 && name == b":status")?;
                status = Some(status_of(value).ok_or(Reason::Http2Protocol)?);
                return Ok(());
            }
            allowed(is_field(name, value))?;
            if in_head {
                if name == b"content-length" {
                    let number = content_length(value).ok_or(Reason::BadBody)?;
                    if length.is_some_and(|length| length != number) {
                        return Err(Reason::BadBody);
                    }
                    length = Some(number);
                }
                hears.header(name, value);
            } else {
                hears.trailer(name, value);
            }
            Ok(())
        })?;
        if !in_head {
            allowed(ends)?;
            return stream.end();
        }
        let status = status.ok_or(Reason::Http2Protocol)?;
        if status < 200 {
            // Nothing is switched here, and an interim head ends nothing.
            allowed(status != 101 && !ends)?;
            stream.interim += 1;
            if stream.interim > INTERIM_HEADS {
                return Err(Reason::Http2Flood);
            }
            hears.again();
            return Ok(false);
        }
        stream.status = status;
        stream.length = length;
        hears.head(status)?;
        if stream.has_content() && length.is_some_and(|length| length > BODY_BYTES) {
            return Err(Reason::BodyTooLarge);
        }
        stream.stage = Stage::Body;
        if ends { stream.end() } else { Ok(false) }
    }
}

/// Names that mean something of a connection of HTTP/1.1 alone (RFC 9113, section
/// 8.2.2).
pub(super) const OF_CONNECTIONS: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Whether a field may stand in a response: its name is in small letters and its value
/// breaks no line (RFC 9113, section 8.2.1).
fn is_field(name: &[u8], value: &[u8]) -> bool {
    let small = |&byte: &u8| crate::kind::http::is_token(byte) && !byte.is_ascii_uppercase();
    !name.is_empty()
        && name.iter().all(small)
        && !value
            .iter()
            .any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'))
        && !OF_CONNECTIONS.iter().any(|known| known.as_bytes() == name)
}

fn status_of(value: &[u8]) -> Option<u16> {
    let digits: &[u8; 3] = value.try_into().ok()?;
    let is_status = digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0';
    is_status.then(|| {
        digits
            .iter()
            .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
    })
}

fn content_length(value: &[u8]) -> Option<u64> {
    let all_digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = core::str::from_utf8(value).ok().filter(|_| all_digits)?;
    text.parse().ok()
}

/// A rule of the protocol.
const fn allowed(holds: bool) -> Result<(), Reason> {
    if holds {
        Ok(())
    } else {
        Err(Reason::Http2Protocol)
    }
}

/// A rule about a frame's length.
const fn fits(holds: bool) -> Result<(), Reason> {
    if holds {
        Ok(())
    } else {
        Err(Reason::Http2FrameSize)
    }
}
