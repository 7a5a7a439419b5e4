//! One request over HTTP/2 and its response.

use watchfire_wire::Reason;

use super::Spec;
use crate::http2::{Client, Hears, Progress};
use crate::kind::http::{self, Expected, Method, Plain, Seen, Wanted};
use crate::kind::{Exchange, Next};

/// A probe of an HTTP/2 check. It is in a box: what it sends of its own must stay where
/// it is while it is being sent.
#[derive(Debug)]
pub(crate) struct Answered(Box<State>);

#[derive(Debug)]
struct State {
    client: Client,
    /// What was seen of the head, where the check looks at it.
    seen: Option<Box<Seen>>,
    body: Body,
}

/// The content of a response.
#[derive(Debug)]
struct Body {
    kept: Vec<u8>,
    /// How much of it is kept.
    keep: u32,
    /// How much of it came, and is enough.
    length: u64,
    enough: u64,
}

impl Answered {
    pub(super) fn new(spec: &http::Spec) -> Self {
        let (keep, enough) = spec.reads();
        let body_sent = spec.extra.as_ref().map_or(0, |extra| extra.body.len());
        Self(Box::new(State {
            client: Client::new(spec.method == Method::Head, body_sent),
            seen: Seen::of(spec),
            body: Body {
                kept: Vec::new(),
                keep,
                length: 0,
                enough,
            },
        }))
    }
}

impl Exchange for Answered {
    type Spec = Spec;

    fn connected(&mut self, _spec: &Spec) -> Next {
        self.0.client.connected();
        Next::Send
    }

    fn receive(&mut self, spec: &Spec, bytes: &[u8]) -> Next {
        let State { client, seen, body } = &mut *self.0;
        let spec = &spec.http;
        let progress = match (&spec.extra, seen) {
            (Some(extra), Some(seen)) => {
                let wanted = Expected { spec, extra, seen };
                client.feed(bytes, &mut Hearing { wanted, body })
            }
            _ => {
                let wanted = Plain(spec);
                client.feed(bytes, &mut Hearing { wanted, body })
            }
        };
        match progress {
            Progress::More if client.has_to_send() => Next::Send,
            Progress::More => Next::More,
            Progress::Done if spec.content_holds(&self.0.body.kept) => Next::Pass { keep: false },
            Progress::Done => Next::Fail(Reason::BadContent),
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

    fn status(&self) -> Option<u16> {
        let status = self.0.client.status();
        (status != 0).then_some(status)
    }

    fn is_degraded(&self, spec: &Spec, first_byte_us: u32) -> bool {
        spec.http.is_degraded(self.0.seen.as_deref(), first_byte_us)
    }

    fn is_down_at_once(&self) -> bool {
        let seen = self.0.seen.as_ref();
        seen.is_some_and(|seen| seen.is_down_at_once())
    }
}

/// What a check wants of a head, and what it keeps of a body.
struct Hearing<'a, W> {
    wanted: W,
    body: &'a mut Body,
}

impl<W: Wanted> Hears for Hearing<'_, W> {
    fn header(&mut self, name: &[u8], value: &[u8]) {
        self.wanted.header(name, value);
    }

    fn again(&mut self) {
        self.wanted.again();
    }

    fn head(&mut self, status: u16) -> Result<(), Reason> {
        self.wanted.judge(status)
    }

    fn content(&mut self, content: &[u8]) -> bool {
        let body = &mut *self.body;
        body.length += content.len() as u64;
        let room = (body.keep as usize).saturating_sub(body.kept.len());
        body.kept
            .extend_from_slice(&content[..content.len().min(room)]);
        body.length >= body.enough || body.keep > 0 && body.kept.len() >= body.keep as usize
    }
}
