//! What a check keeps of TLS from one probe to the next: its configurations,
//! made once, its last session, and what the last certificate said.
//!
//! A resumed session shows no certificate. So a session is resumed for so long
//! only, never beyond the end of the certificate that it began with, and never
//! after a probe that failed. A check that changed is another one, with another
//! memory.

use watchfire_wire::Time;

use super::{Side, broad, modern};
use crate::limits::{TLS_BROAD_FOR, TLS_FULL_EVERY};

/// See the module.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) modern: Option<modern::Own>,
    pub(super) broad: Option<broad::Own>,
    /// It has one of the places for sessions.
    remembers: bool,
    /// Until then the broad library is used: the other one did not bring a
    /// handshake to an end.
    broad_until: Time,
    /// The last handshake that showed a certificate; nothing if there was none,
    /// or if the next one is to show one.
    full: Option<Time>,
    /// When the last certificate that was shown ends, seconds since 1970.
    not_after_s: Option<u64>,
}

impl Memory {
    /// An empty one, which keeps sessions only if it `remembers`.
    pub(crate) const fn new(remembers: bool) -> Self {
        Self {
            modern: None,
            broad: None,
            remembers,
            broad_until: Time::ZERO,
            full: None,
            not_after_s: None,
        }
    }

    /// Whether it has one of the places for sessions.
    pub(crate) const fn remembers(&self) -> bool {
        self.remembers
    }

    /// The next handshake is a full one.
    pub(crate) const fn forget(&mut self) {
        self.full = None;
    }

    /// The modern library did not bring a handshake to an end.
    pub(crate) fn broaden(&mut self, now: Time) {
        self.broad_until = now + TLS_BROAD_FOR;
    }

    /// Whether the certificate has to be seen again by now.
    pub(crate) fn wants_full(&self, now: Time, wall_s: u64) -> bool {
        self.full.is_none_or(|at| now.since(at) >= TLS_FULL_EVERY)
            || self.not_after_s.is_some_and(|end_s| end_s <= wall_s)
    }

    /// A certificate was shown that ends then. Whether that is news.
    pub(crate) fn shown(&mut self, now: Time, not_after_s: Option<u64>) -> bool {
        self.full = Some(now);
        let is_news = not_after_s.is_some() && not_after_s != self.not_after_s;
        self.not_after_s = not_after_s.or(self.not_after_s);
        is_news
    }

    /// When the last certificate that was shown ends, seconds since 1970.
    pub(crate) const fn not_after_s(&self) -> Option<u64> {
        self.not_after_s
    }

    pub(super) fn side(&self, now: Time) -> Side {
        if now < self.broad_until {
            Side::Broad
        } else {
            Side::Modern
        }
    }

    pub(super) fn may_resume(&self, now: Time, wall_s: u64) -> bool {
        self.remembers && !self.wants_full(now, wall_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_looked_at_every_ten_minutes_at_its_end_and_after_a_fail() {
        let at = |s: u64| Time::from_millis(s * 1_000);
        let mut memory = Memory::new(true);
        assert!(!memory.may_resume(at(1), 100), "nothing was shown yet");
        assert!(memory.shown(at(1), Some(2_000)));
        assert!(!memory.shown(at(1), Some(2_000)), "no news");
        let rows = [
            ("at once", at(2), 101, true),
            ("just before the bound", at(600), 700, true),
            ("at the bound", at(601), 701, false),
            ("just before it ends", at(2), 1_999, true),
            ("when it has ended", at(2), 2_000, false),
        ];
        for (name, now, wall_s, may) in rows {
            assert_eq!(memory.may_resume(now, wall_s), may, "{name}");
        }
        memory.forget();
        assert!(!memory.may_resume(at(2), 101), "after a fail");
        assert_eq!(memory.not_after_s(), Some(2_000), "what was seen stays");
        assert!(!Memory::new(false).may_resume(at(2), 101));
    }

    #[test]
    fn the_broad_library_stays_for_its_time() {
        let mut memory = Memory::new(true);
        assert_eq!(memory.side(Time::ZERO), Side::Modern);
        memory.broaden(Time::ZERO);
        assert_eq!(memory.side(Time::ZERO), Side::Broad);
        assert_eq!(memory.side(Time::ZERO + TLS_BROAD_FOR), Side::Modern);
    }
}
