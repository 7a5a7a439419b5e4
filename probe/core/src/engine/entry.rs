//! One check, as the engine holds it.

use std::sync::Arc;

use watchfire_wire::{CheckId, Reason, Time};

use super::NONE;
use super::report::{Report, ReportKind};
use crate::check::{CheckSpec, HttpSpec, Kind, Method};
use crate::health::Health;
use crate::rate::Caps;
use crate::stats::kind_index;

/// A check and its state.
#[derive(Debug)]
pub(super) struct Entry {
    /// The time for which the current or the next probe is scheduled.
    pub(super) due: Time,
    /// The slot of the probe in flight.
    pub(super) flight: u32,
    /// The slot of a connection that waits for the next probe.
    pub(super) parked: u32,
    /// Slots that refer to this check, those that only close included.
    pub(super) slots: u32,
    pub(super) flags: Flags,
    /// The last measured outcome's reason.
    pub(super) reason: u8,
    /// The last unmeasured outcome's.
    pub(super) unmeasured: u8,
    /// Place in the statistics.
    pub(super) kind: u8,
    /// The request is HEAD.
    pub(super) head_only: bool,
    pub(super) caps_apply: bool,
    pub(super) unmeasured_in_a_row: u32,
    pub(super) latency_us: u32,
    pub(super) generation: u32,
    pub(super) health: Health,
    /// The request's bytes, without TLS.
    pub(super) request: Box<[u8]>,
    pub(super) spec: Arc<CheckSpec>,
    pub(super) id: CheckId,
    /// Names the question that this entry answers.
    pub(super) ask: u64,
    pub(super) caps: Caps,
}

/// What is true of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    /// Probed no more; waits for its slots to close.
    pub(super) const STOPPED: u8 = 1;
    /// The next measured outcome is reported.
    pub(super) const ATTEND: u8 = 2;
    /// Due, and waiting for a slot.
    pub(super) const WAITING: u8 = 4;
    /// In the list of those with something to report.
    pub(super) const LISTED: u8 = 8;
    /// A measured outcome is to be reported.
    pub(super) const MEASURED: u8 = 16;
    /// Unmeasured outcomes are to be reported.
    pub(super) const UNMEASURED: u8 = 32;
    /// A question: probed once.
    pub(super) const ONCE: u8 = 64;
    /// No check at all.
    pub(super) const FREE: u8 = 128;

    pub(super) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn any(self, flags: u8) -> bool {
        self.0 & flags != 0
    }

    pub(super) const fn set(&mut self, flag: u8) {
        self.0 |= flag;
    }

    pub(super) const fn clear(&mut self, flag: u8) {
        self.0 &= !flag;
    }
}

impl Entry {
    pub(super) fn new(
        id: CheckId,
        spec: &Arc<CheckSpec>,
        generation: u32,
        health: Health,
        caps: Caps,
        user_agent: &str,
    ) -> Self {
        let (request, head_only) = match &spec.kind {
            Kind::Tcp => (Box::default(), false),
            Kind::Http(http) => (
                crate::request::build(http, user_agent),
                http.method == Method::Head,
            ),
        };
        Self {
            due: Time::NEVER,
            flight: NONE,
            parked: NONE,
            slots: 0,
            flags: Flags(Flags::ATTEND),
            reason: Reason::Passed.code(),
            unmeasured: 0,
            kind: kind_index(&spec.kind) as u8,
            head_only,
            caps_apply: caps.address.is_some() || caps.prefix.is_some(),
            unmeasured_in_a_row: 0,
            latency_us: 0,
            generation,
            health,
            request,
            spec: Arc::clone(spec),
            id,
            ask: 0,
            caps,
        }
    }

    /// The place of no check, ready for the next one.
    pub(super) fn vacant() -> Self {
        thread_local! {
            static NOBODY: Arc<CheckSpec> =
                Arc::new(CheckSpec::tcp(core::net::SocketAddr::from(([127, 0, 0, 1], 1))));
        }
        let nobody = NOBODY.with(Arc::clone);
        let health = Health::new(nobody.rule);
        let mut entry = Self::new(CheckId([0; 16]), &nobody, 0, health, Caps::default(), "");
        entry.flags = Flags(Flags::STOPPED | Flags::FREE);
        entry
    }

    /// The request's definition, if it is one of HTTP.
    pub(super) fn http(&self) -> Option<&HttpSpec> {
        match &self.spec.kind {
            Kind::Tcp => None,
            Kind::Http(http) => Some(http),
        }
    }

    /// Builds the next report of what is new, if anything is.
    pub(super) fn take_report(&mut self) -> Option<Report> {
        if self.flags.has(Flags::STOPPED) {
            return None;
        }
        let kind = if self.flags.has(Flags::MEASURED) {
            self.flags.clear(Flags::MEASURED);
            ReportKind::Measured {
                verdict: self.health.verdict(),
                reason: Reason::from_code(self.reason).unwrap_or(Reason::Passed),
                contrary: self.health.contrary(),
                latency_us: self.latency_us,
            }
        } else if self.flags.has(Flags::UNMEASURED) {
            self.flags.clear(Flags::UNMEASURED);
            ReportKind::Unmeasured {
                reason: watchfire_wire::Unmeasured::from_code(self.unmeasured)?,
                in_a_row: self.unmeasured_in_a_row,
            }
        } else {
            return None;
        };
        Some(Report {
            check: self.id,
            generation: self.generation,
            kind,
        })
    }
}
