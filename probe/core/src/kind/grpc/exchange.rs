//! One question after a service's health, and the answer: a message, and then a status.

use watchfire_wire::Reason;

use super::Spec;
use crate::http2::{Client, Hears, Progress};
use crate::kind::http::is_late;
use crate::kind::{Exchange, Next};
use crate::limits::GRPC_MESSAGE_BYTES;

/// A probe of a gRPC service. It is in a box: what it sends of its own must stay where
/// it is while it is being sent.
#[derive(Debug)]
pub(crate) struct Asked(Box<State>);

#[derive(Debug)]
struct State {
    client: Client,
    heard: Heard,
}

/// What came so far.
#[derive(Debug, Default)]
struct Heard {
    /// The head says that it is gRPC.
    is_grpc: bool,
    /// The status that ends the call.
    status: Option<u32>,
    /// The status was none that could be read, or there were two; or the message is
    /// longer than any.
    broken: bool,
    /// Messages with their heads: never more than one of the largest, and one byte.
    message: Vec<u8>,
}

impl Asked {
    pub(super) fn new(body_sent: usize) -> Self {
        Self(Box::new(State {
            client: Client::new(false, body_sent),
            heard: Heard::default(),
        }))
    }
}

impl Exchange for Asked {
    type Spec = Spec;

    fn connected(&mut self, _spec: &Spec) -> Next {
        self.0.client.connected();
        Next::Send
    }

    fn receive(&mut self, _spec: &Spec, bytes: &[u8]) -> Next {
        let State { client, heard } = &mut *self.0;
        match client.feed(bytes, heard) {
            Progress::More if client.has_to_send() => Next::Send,
            Progress::More => Next::More,
            Progress::Done => match heard.judge() {
                Ok(()) => Next::Pass { keep: false },
                Err(reason) => Next::Fail(reason),
            },
            Progress::Failed(reason) => Next::Fail(reason),
        }
    }

    fn ended(&mut self, _spec: &Spec) -> Next {
        Next::Fail(Reason::ClosedEarly)
    }

    fn flushed(&mut self) {
        self.0.client.flushed();
    }

    fn outgoing<'a>(&'a self, prepared: &'a [u8]) -> &'a [u8] {
        self.0.client.outgoing(prepared)
    }

    fn has_answered(&self) -> bool {
        self.0.client.has_answered()
    }

    /// That of HTTP, or, if that is as it should be, that of a call that went wrong.
    fn status(&self) -> Option<u16> {
        let http = self.0.client.status();
        match self.0.heard.status {
            Some(status @ 1..) if http == HTTP_OK => u16::try_from(status).ok(),
            _ => (http != 0).then_some(http),
        }
    }

    fn is_degraded(&self, spec: &Spec, first_byte_us: u32) -> bool {
        is_late(spec.degraded_after, first_byte_us)
    }
}

/// Every answer of gRPC's has this status.
const HTTP_OK: u16 = 200;

/// Statuses of a call (gRPC, `statuscodes.md`).
const OK: u32 = 0;
const NOT_FOUND: u32 = 5;
const UNIMPLEMENTED: u32 = 12;

/// Bytes before a message: whether it is compressed, and its length.
const MESSAGE_HEAD: usize = 5;

impl Heard {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if name == b"grpc-status" {
            let number = core::str::from_utf8(value).ok();
            let number = number.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = number.and_then(|text| text.parse().ok());
            self.broken |= number.is_none() || self.status.is_some();
            self.status = number;
        }
    }

    /// What the whole answer comes to.
    fn judge(&self) -> Result<(), Reason> {
        if self.broken {
            return Err(Reason::GrpcBroken);
        }
        match self.status {
            Some(OK) => {}
            // So the protocol has it say that it does not know a service.
            Some(NOT_FOUND) => return Err(Reason::GrpcServiceUnknown),
            Some(UNIMPLEMENTED) => return Err(Reason::GrpcUnimplemented),
            Some(_) => return Err(Reason::GrpcStatus),
            None => return Err(Reason::GrpcBroken),
        }
        let (head, message) = self
            .message
            .split_at_checked(MESSAGE_HEAD)
            .ok_or(Reason::GrpcBroken)?;
        let length = head[1..]
            .iter()
            .fold(0, |length, &byte| length << 8 | usize::from(byte));
        if head[0] != 0 || length != message.len() {
            return Err(Reason::GrpcBroken);
        }
        match serving_status(message).ok_or(Reason::GrpcBroken)? {
            1 => Ok(()),
            2 => Err(Reason::GrpcNotServing),
            3 => Err(Reason::GrpcServiceUnknown),
            _ => Err(Reason::GrpcUnknown),
        }
    }
}

impl Hears for Heard {
    fn header(&mut self, name: &[u8], value: &[u8]) {
        if name == b"content-type" {
            let rest = value.strip_prefix(b"application/grpc");
            self.is_grpc = matches!(rest, Some([] | [b'+' | b';', ..]));
        }
        self.field(name, value);
    }

    fn again(&mut self) {
        *self = Self::default();
    }

    fn head(&mut self, status: u16) -> Result<(), Reason> {
        if status != HTTP_OK {
            return Err(Reason::BadStatus);
        }
        if !self.is_grpc {
            return Err(Reason::GrpcBroken);
        }
        Ok(())
    }

    fn content(&mut self, content: &[u8]) -> bool {
        let most = MESSAGE_HEAD + GRPC_MESSAGE_BYTES + 1;
        let room = most - self.message.len();
        self.message
            .extend_from_slice(&content[..content.len().min(room)]);
        // A longer one is broken whatever follows: what says so need not come.
        if self.message.len() == most {
            self.broken = true;
        }
        self.broken
    }

    fn trailer(&mut self, name: &[u8], value: &[u8]) {
        self.field(name, value);
    }
}

/// The status in a `HealthCheckResponse` (field 1, a number; 0 if it is left out, as
/// protobuf has it); nothing if it cannot be read.
fn serving_status(message: &[u8]) -> Option<u64> {
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (0, _) => return None,
            (1, 0) => status = varint(&mut rest)?,
            (1, _) => return None,
            // Fields that a later version may add.
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
