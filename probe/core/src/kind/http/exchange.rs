//! One request and its response.

use watchfire_wire::Reason;

use super::judge::{Expected, Plain, Seen};
use super::response::{Progress, Response};
use super::{Method, Spec};
use crate::kind::{Exchange, Next};

/// A probe of an HTTP check.
#[derive(Debug)]
pub(crate) struct Answered {
    response: Response,
    /// What was seen of the head, where the check looks at it.
    seen: Option<Box<Seen>>,
}

impl Answered {
    pub(super) fn new(spec: &Spec) -> Self {
        let (keep, enough) = spec.reads();
        Self {
            response: Response::new(matches!(spec.method, Method::Head), keep, enough),
            seen: Seen::of(spec),
        }
    }

    fn next(&mut self, spec: &Spec, progress: Progress) -> Next {
        match progress {
            Progress::More => Next::More,
            Progress::Done { keep_alive, .. } => {
                if spec.content_holds(self.response.kept()) {
                    Next::Pass { keep: keep_alive }
                } else {
                    Next::Fail(Reason::BadContent)
                }
            }
            // "Request Timeout": it was about to close the connection that it
            // had waited on.
            Progress::Failed(Reason::BadStatus) if self.response.status() == 408 => {
                Next::Stale(Reason::BadStatus)
            }
            Progress::Failed(reason) => Next::Fail(reason),
        }
    }
}

impl Exchange for Answered {
    type Spec = Spec;

    fn connected(&mut self, _spec: &Spec) -> Next {
        Next::Send
    }

    fn receive(&mut self, spec: &Spec, bytes: &[u8]) -> Next {
        let progress = match (&spec.extra, &mut self.seen) {
            (Some(extra), Some(seen)) => {
                let mut wanted = Expected { spec, extra, seen };
                self.response.feed(bytes, &mut wanted)
            }
            _ => self.response.feed(bytes, &mut Plain(spec)),
        };
        self.next(spec, progress)
    }

    fn ended(&mut self, spec: &Spec) -> Next {
        let progress = self.response.eof();
        self.next(spec, progress)
    }

    fn outgoing<'a>(&'a self, prepared: &'a [u8]) -> &'a [u8] {
        prepared
    }

    fn status(&self) -> Option<u16> {
        let status = self.response.status();
        (status != 0).then_some(status)
    }

    fn is_degraded(&self, spec: &Spec, first_byte_us: u32) -> bool {
        spec.is_degraded(self.seen.as_deref(), first_byte_us)
    }

    fn is_down_at_once(&self) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|seen| seen.is_down_at_once())
    }
}
