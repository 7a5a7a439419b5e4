//! One request and its response.

use watchfire_wire::Reason;

use super::extra::Signs;
use super::response::{Progress, Response, Wanted};
use super::{Extra, Method, Spec};
use crate::kind::{Exchange, Next};
use crate::limits::{BODY_READ_BYTES, BODY_READ_KEPT_BYTES, BODY_SEEN_BYTES};

/// A probe of an HTTP check.
#[derive(Debug)]
pub(crate) struct Answered {
    response: Response,
    /// What was seen of the head, where the check looks at it.
    seen: Option<Box<Seen>>,
}

/// What was seen of a head.
#[derive(Debug, Default)]
struct Seen {
    /// Which of the expected headers came; more are never configured.
    expected: u64,
    degraded: bool,
    down_at_once: bool,
}

impl Answered {
    pub(super) fn new(spec: &Spec) -> Self {
        let (keep, enough) = match &spec.extra {
            Some(extra) if !extra.expect_body.is_empty() => (BODY_SEEN_BYTES, u64::MAX),
            _ if spec.reuse => (0, BODY_READ_KEPT_BYTES),
            _ => (0, BODY_READ_BYTES),
        };
        Self {
            response: Response::new(matches!(spec.method, Method::Head), keep, enough),
            seen: spec.extra.as_ref().map(|_| Box::default()),
        }
    }

    fn next(&mut self, spec: &Spec, progress: Progress) -> Next {
        match progress {
            Progress::More => Next::More,
            Progress::Done { keep_alive, .. } => match &spec.extra {
                Some(extra) if !self.content_holds(extra) => Next::Fail(Reason::BadContent),
                _ => Next::Pass { keep: keep_alive },
            },
            // "Request Timeout": it was about to close the connection that it
            // had waited on.
            Progress::Failed(Reason::BadStatus) if self.response.status() == 408 => {
                Next::Stale(Reason::BadStatus)
            }
            Progress::Failed(reason) => Next::Fail(reason),
        }
    }

    fn content_holds(&self, extra: &Extra) -> bool {
        extra
            .expect_body
            .iter()
            .all(|rule| rule.holds(self.response.kept()))
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

    fn outgoing<'a>(&self, prepared: &'a [u8]) -> &'a [u8] {
        prepared
    }

    fn status(&self) -> Option<u16> {
        let status = self.response.status();
        (status != 0).then_some(status)
    }

    fn is_degraded(&self, spec: &Spec, first_byte_us: u32) -> bool {
        let late = spec
            .extra
            .as_ref()
            .and_then(|extra| extra.degraded_after)
            .is_some_and(|most| u128::from(first_byte_us) > most.as_micros());
        late || self.seen.as_ref().is_some_and(|seen| seen.degraded)
    }

    fn is_down_at_once(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.down_at_once)
    }
}

/// A check that looks at the status alone.
struct Plain<'a>(&'a Spec);

impl Wanted for Plain<'_> {
    fn header(&mut self, _name: &[u8], _value: &[u8]) {}

    fn again(&mut self) {}

    fn judge(&mut self, status: u16) -> Result<(), Reason> {
        if self.0.expect.contains(status) {
            Ok(())
        } else {
            Err(Reason::BadStatus)
        }
    }
}

/// A check that looks at headers too.
struct Expected<'a> {
    spec: &'a Spec,
    extra: &'a Extra,
    seen: &'a mut Seen,
}

impl Wanted for Expected<'_> {
    fn header(&mut self, name: &[u8], value: &[u8]) {
        for (place, rule) in self.extra.expect_headers.iter().enumerate() {
            if rule.holds(name, value) {
                self.seen.expected |= 1 << place;
            }
        }
        let shown = |signs: &Signs| signs.headers.iter().any(|rule| rule.holds(name, value));
        self.seen.degraded |= shown(&self.extra.degraded);
        self.seen.down_at_once |= shown(&self.extra.down_at_once);
    }

    fn again(&mut self) {
        *self.seen = Seen::default();
    }

    fn judge(&mut self, status: u16) -> Result<(), Reason> {
        let among = |signs: &Signs| {
            signs
                .status
                .as_ref()
                .is_some_and(|set| set.contains(status))
        };
        self.seen.degraded |= among(&self.extra.degraded);
        self.seen.down_at_once |= among(&self.extra.down_at_once);
        if self.seen.down_at_once {
            return Err(Reason::DownAtOnce);
        }
        if !self.spec.expect.contains(status) {
            return Err(Reason::BadStatus);
        }
        let all = self.extra.expect_headers.len();
        if self.seen.expected.count_ones() as usize != all {
            return Err(Reason::BadHeader);
        }
        Ok(())
    }
}
