//! One check, as the engine holds it.

use std::sync::Arc;

use watchfire_wire::{CheckId, Reason, Time, Unmeasured};

use super::NONE;
use super::report::{Report, ReportKind};
use crate::check::CheckSpec;
use crate::health::Health;
use crate::rate::Caps;
use crate::stream::proxy::ProxyHeader;
use crate::stream::tls::Memory;

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
    /// Where it stands among those that share places.
    pub(super) destination: u32,
    pub(super) flags: Flags,
    /// The last measured outcome's reason.
    pub(super) reason: Reason,
    /// The last unmeasured outcome's.
    pub(super) unmeasured: Unmeasured,
    /// Place in the statistics.
    pub(super) kind: u8,
    pub(super) caps_apply: bool,
    pub(super) unmeasured_in_a_row: u32,
    /// Passes without a sign of trouble, up to the limit.
    pub(super) clean_in_a_row: u8,
    pub(super) latency_us: u32,
    pub(super) generation: u32,
    pub(super) health: Health,
    /// A header that stands before all else on a connection, and then all that
    /// a probe may send, without TLS.
    pub(super) prepared: Box<[u8]>,
    /// Bytes of that header.
    pub(super) header: u8,
    pub(super) spec: Arc<CheckSpec>,
    pub(super) id: CheckId,
    /// What it keeps of TLS from one probe to the next.
    pub(super) tls: Option<Box<Memory>>,
    /// Names the question that this entry answers.
    pub(super) ask: u64,
    pub(super) caps: Caps,
}

/// What is true of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    /// Probed no more; waits for its slots to close.
    pub(super) const STOPPED: u16 = 1;
    /// The next measured outcome is reported.
    pub(super) const ATTEND: u16 = 2;
    /// Due, and waiting for a slot.
    pub(super) const WAITING: u16 = 4;
    /// In the list of those with something to report.
    pub(super) const LISTED: u16 = 8;
    /// A measured outcome is to be reported.
    pub(super) const MEASURED: u16 = 16;
    /// Unmeasured outcomes are to be reported.
    pub(super) const UNMEASURED: u16 = 32;
    /// A question: probed once.
    pub(super) const ONCE: u16 = 64;
    /// No check at all.
    pub(super) const FREE: u16 = 128;
    /// The last measured outcome was a pass with a sign of trouble.
    pub(super) const DEGRADED: u16 = 256;
    /// The last probe held its place for much of its timeout.
    pub(super) const SLOW: u16 = 512;
    /// The end of its certificate is to be reported.
    pub(super) const CERTIFICATE: u16 = 1_024;

    pub(super) const fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn any(self, flags: u16) -> bool {
        self.0 & flags != 0
    }

    pub(super) const fn set(&mut self, flag: u16) {
        self.0 |= flag;
    }

    pub(super) const fn clear(&mut self, flag: u16) {
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
        let header = spec.proxy.map_or(&[][..], ProxyHeader::bytes);
        Self {
            due: Time::NEVER,
            flight: NONE,
            parked: NONE,
            slots: 0,
            destination: NONE,
            flags: Flags(Flags::ATTEND),
            reason: Reason::Passed,
            unmeasured: Unmeasured::NotYet,
            kind: spec.kind.index(spec.tls.is_some()) as u8,
            caps_apply: caps.address.is_some() || caps.prefix.is_some(),
            unmeasured_in_a_row: 0,
            clean_in_a_row: 0,
            latency_us: 0,
            generation,
            health,
            prepared: [header, &spec.kind.prepare(user_agent, spec.tls.is_some())]
                .concat()
                .into(),
            header: header.len() as u8,
            spec: Arc::clone(spec),
            id,
            tls: None,
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

    /// Builds the next report of what is new, if anything is.
    pub(super) fn take_report(&mut self) -> Option<Report> {
        if self.flags.has(Flags::STOPPED) {
            return None;
        }
        let kind = if self.flags.has(Flags::MEASURED) {
            self.flags.clear(Flags::MEASURED);
            ReportKind::Measured {
                verdict: self.health.verdict(),
                reason: self.reason,
                contrary: self.health.contrary(),
                latency_us: self.latency_us,
            }
        } else if self.flags.has(Flags::UNMEASURED) {
            self.flags.clear(Flags::UNMEASURED);
            ReportKind::Unmeasured {
                reason: self.unmeasured,
                in_a_row: self.unmeasured_in_a_row,
            }
        } else if self.flags.has(Flags::CERTIFICATE)
            && let Some(not_after_s) = self.tls.as_ref().and_then(|tls| tls.not_after_s())
        {
            self.flags.clear(Flags::CERTIFICATE);
            ReportKind::Certificate { not_after_s }
        } else {
            return None;
        };
        Some(Report {
            check: self.id,
            generation: self.generation,
            kind,
            degraded: self.flags.has(Flags::DEGRADED),
        })
    }
}
