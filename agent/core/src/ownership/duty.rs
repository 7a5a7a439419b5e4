//! What a node knows of one check's duty.

use watchfire_wire::{CheckId, Time, Verdict};

use crate::io::{CheckMeta, Published};

/// One configured check.
#[derive(Clone, Debug)]
pub(super) struct Duty {
    pub(super) check: CheckId,
    pub(super) meta: CheckMeta,
    /// This node probes it.
    pub(super) probing: bool,
    /// It does so because the owner is suspected, and says nothing until then
    /// unless the verdict changes.
    pub(super) silent_until: Option<Time>,
    /// Names the present or last start.
    pub(super) generation: u32,
    /// The last measured outcome since the start.
    pub(super) measured: Option<Measured>,
    /// That outcome has not been used for a write yet. One outcome, one write:
    /// two nodes that both believe they own a check overwrite each other at
    /// the pace of their probes, not of their datagrams.
    pub(super) fresh: bool,
    /// The probe thread was asked to report the next outcome.
    pub(super) attended: bool,
    /// Since when there has been no evidence that anybody is at it.
    pub(super) lost_at: Option<Time>,
    /// Given up here until then: not measurable, or overruled.
    pub(super) shunned_until: Option<Time>,
    /// How many times in a row it was given up.
    pub(super) shuns: u8,
    /// A jury has confirmed the Down that is measured now, with so many
    /// agreeing and dissenting.
    pub(super) confirmed: Option<(u8, u8)>,
    /// What the table was told last.
    pub(super) published: Option<Published>,
}

/// A measured outcome as the probe thread reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) verdict: Verdict,
    pub(super) reason: u8,
    pub(super) contrary: u8,
    pub(super) latency_us: u32,
}

impl Duty {
    pub(super) const fn new(check: CheckId, meta: CheckMeta) -> Self {
        Self {
            check,
            meta,
            probing: false,
            silent_until: None,
            generation: 0,
            measured: None,
            fresh: false,
            attended: false,
            lost_at: None,
            shunned_until: None,
            shuns: 0,
            confirmed: None,
            published: None,
        }
    }

    pub(super) fn is_shunned(&self, now: Time) -> bool {
        self.shunned_until.is_some_and(|until| until > now)
    }
}
