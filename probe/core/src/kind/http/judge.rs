//! What a check wants of a response, whichever version of HTTP it came in.

use core::time::Duration;

use watchfire_wire::Reason;

use super::extra::Signs;
use super::{Extra, Spec};
use crate::limits::{BODY_READ_BYTES, BODY_READ_KEPT_BYTES, BODY_SEEN_BYTES};

/// What a check wants of a head.
pub(crate) trait Wanted {
    /// A header, in the order in which they come. A head may be read twice.
    fn header(&mut self, name: &[u8], value: &[u8]);

    /// What was told of headers so far was of an interim head, or is told
    /// again.
    fn again(&mut self);

    /// The final status, after its headers.
    fn judge(&mut self, status: u16) -> Result<(), Reason>;
}

/// What was seen of a head.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Which of the expected headers came; more are never configured.
    expected: u64,
    degraded: bool,
    down_at_once: bool,
}

impl Seen {
    /// What is to be seen of a response, where a check looks at more than its status.
    pub(crate) fn of(spec: &Spec) -> Option<Box<Self>> {
        spec.extra.as_ref().map(|_| Box::default())
    }

    pub(crate) const fn is_down_at_once(&self) -> bool {
        self.down_at_once
    }
}

impl Spec {
    /// How much of a body's content is kept, and how much of it is enough.
    pub(crate) fn reads(&self) -> (u32, u64) {
        match &self.extra {
            Some(extra) if !extra.expect_body.is_empty() => (BODY_SEEN_BYTES, u64::MAX),
            _ if self.reuse => (0, BODY_READ_KEPT_BYTES),
            _ => (0, BODY_READ_BYTES),
        }
    }

    /// Whether what was kept of a body holds what the check expects.
    pub(crate) fn content_holds(&self, kept: &[u8]) -> bool {
        let holds = |extra: &Extra| extra.expect_body.iter().all(|rule| rule.holds(kept));
        self.extra.as_deref().is_none_or(holds)
    }

    /// Whether a response that passed shows a sign of trouble.
    pub(crate) fn is_degraded(&self, seen: Option<&Seen>, first_byte_us: u32) -> bool {
        let most = self.extra.as_ref().and_then(|extra| extra.degraded_after);
        is_late(most, first_byte_us) || seen.is_some_and(|seen| seen.degraded)
    }
}

/// Whether a first byte after so many microseconds came later than it should.
pub(crate) fn is_late(most: Option<Duration>, first_byte_us: u32) -> bool {
    most.is_some_and(|most| u128::from(first_byte_us) > most.as_micros())
}

/// A check that looks at the status alone.
pub(crate) struct Plain<'a>(pub(crate) &'a Spec);

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
pub(crate) struct Expected<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) extra: &'a Extra,
    pub(crate) seen: &'a mut Seen,
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
