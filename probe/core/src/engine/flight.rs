//! One slot: a connection and the probe on it.

use watchfire_wire::Time;

use super::NONE;
use crate::kind::AnyExchange;
use crate::outcome::Phases;
use crate::stream::tls::Session;

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It holds nothing.
    Free,
    /// It is being connected.
    Opening,
    /// It sends and receives.
    Exchanging,
    /// Its outcome is known; the operation in progress was cancelled.
    Ending,
    /// It is being closed.
    Closing,
    /// It is connected and waits for the next probe.
    Parked,
}

/// A slot.
#[derive(Debug)]
pub(super) struct Flight {
    /// Whose probe it is.
    pub(super) check: u32,
    pub(super) stage: Stage,
    /// Connect and reset, no exchange.
    pub(super) half_open: bool,
    /// The first bytes are the origin's.
    pub(super) origin_first: bool,
    /// What the kind had to say is on its way.
    pub(super) sending: bool,
    /// The header that stands before all else has yet to leave.
    pub(super) headed: bool,
    /// The connection served a probe before this one.
    pub(super) reused: bool,
    pub(super) started: Time,
    /// From the start on, microseconds; `NONE` if it did not happen.
    pub(super) connect_us: u32,
    pub(super) tls_us: u32,
    pub(super) first_byte_us: u32,
    /// For how long we were not looking while something may have been ready.
    pub(super) late_us: u32,
    /// The late turn that was counted last, so that none counts twice.
    pub(super) late_turn: u32,
    /// Nothing while it holds no probe that carries bytes.
    pub(super) exchange: Option<AnyExchange>,
    pub(super) tls: Option<Box<Session>>,
    /// The beginning of what came, where it may turn the check's verdict.
    pub(super) heard: Vec<u8>,
}

impl Flight {
    pub(super) const fn free() -> Self {
        Self {
            check: NONE,
            stage: Stage::Free,
            half_open: false,
            origin_first: false,
            sending: false,
            headed: false,
            reused: false,
            started: Time::ZERO,
            connect_us: NONE,
            tls_us: NONE,
            first_byte_us: NONE,
            late_us: 0,
            late_turn: 0,
            exchange: None,
            tls: None,
            heard: Vec::new(),
        }
    }

    /// A new probe begins on this slot.
    pub(super) fn begin(&mut self, now: Time, exchange: Option<AnyExchange>) {
        self.started = now;
        self.connect_us = NONE;
        self.tls_us = NONE;
        self.first_byte_us = NONE;
        self.late_us = 0;
        self.exchange = exchange;
        self.sending = false;
        self.headed = false;
        self.heard.clear();
    }

    /// Counts the late turn number `turn`, once.
    pub(super) const fn credit(&mut self, turn: u32, late_us: u32) {
        if late_us > 0 && self.late_turn != turn {
            self.late_turn = turn;
            self.late_us = self.late_us.saturating_add(late_us);
        }
    }

    /// Whether the probe's outcome is still to come.
    pub(super) const fn in_progress(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Exchanging)
    }

    /// Microseconds since the probe's start.
    pub(super) fn elapsed_us(&self, now: Time) -> u32 {
        u32::try_from(now.0.saturating_sub(self.started.0)).unwrap_or(NONE - 1)
    }

    /// What is known of the phases when the outcome is known.
    pub(super) fn phases(&self, now: Time) -> Phases {
        let known = |us: u32| (us != NONE).then_some(us);
        Phases {
            connect_us: known(self.connect_us),
            tls_us: known(self.tls_us),
            first_byte_us: known(self.first_byte_us),
            total_us: self.elapsed_us(now),
            status: self.exchange.as_ref().and_then(AnyExchange::status),
            degraded: false,
        }
    }
}
