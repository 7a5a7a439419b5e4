//! What this node is to one check.

use core::time::Duration;

use watchfire_wire::{CheckId, Time, Verdict};

use super::weather::Sight;
use crate::io::{CheckMeta, Published};

/// One configured check.
#[derive(Clone, Debug)]
pub(super) struct Duty {
    pub(super) check: CheckId,
    pub(super) meta: CheckMeta,
    /// Since when it is configured here.
    pub(super) learnt_at: Time,
    pub(super) role: Role,
    /// Names the present or last start.
    pub(super) generation: u32,
    /// This node has measured it once in this life.
    pub(super) measured_before: bool,
    pub(super) backoff: Backoff,
    /// It has been Up once.
    pub(super) was_up: bool,
    /// What the table was told last.
    pub(super) published: Option<Published>,
}

/// What this node is to one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It does not probe it.
    Standby(Standby),
    /// It probes it.
    Probing(Probing),
}

/// What a node remembers of a check that it does not probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standby {
    /// Since when there has been no evidence that anybody measures it.
    pub(super) lost_at: Option<Time>,
    /// Since when this node has been the first that should, while somebody
    /// else is at it.
    pub(super) first_since: Option<Time>,
}

/// What a node remembers of a check that it probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probing {
    pub(super) basis: Basis,
    /// Backups and shadows: the next probe after this must be afforded.
    pub(super) paid_until: Time,
    /// A shadow says nothing until then unless the verdict changes.
    pub(super) silent_until: Option<Time>,
    /// The prober should have told of an outcome by then.
    pub(super) outcome_due: Time,
    /// The last outcome measured nothing, as the ones before it since then.
    pub(super) unmeasured: Option<Unmeasurable>,
    /// The last measured outcome since the start.
    pub(super) measured: Option<Measured>,
    /// That outcome has not been used for a write yet. One outcome, one write:
    /// two nodes that both believe they own a check overwrite each other at
    /// the pace of their probes, not of their datagrams.
    pub(super) fresh: bool,
    /// The probe thread was asked to report the next outcome.
    pub(super) attended: bool,
    /// A second opinion has confirmed the Down that is measured now, with so
    /// many agreeing and dissenting.
    pub(super) confirmed: Option<(u8, u8)>,
    /// Since when a Down has been held back because this node is late.
    pub(super) held_since: Option<Time>,
    /// Until then a Down is held because the path loses packets.
    pub(super) waits_until: Option<Time>,
    /// What its outcomes show of the path to it.
    pub(super) sight: Sight,
}

/// Why a node probes a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// It is the first that should, or was and goes on until relieved.
    Owner,
    /// It is the second or third, and nobody is known to be at it.
    Backup,
    /// The owner is suspected.
    Shadow,
}

/// A run of outcomes that measured nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unmeasurable {
    pub(super) since: Time,
    pub(super) in_a_row: u32,
    pub(super) reason: u8,
    /// That it has lasted for long was seen to.
    pub(super) said: bool,
}

/// A measured outcome as the probe thread reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) verdict: Verdict,
    pub(super) reason: u8,
    pub(super) contrary: u8,
    pub(super) latency_us: u32,
}

/// A check that is given up for a while, longer each time in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) until: Option<Time>,
    times: u8,
}

impl Duty {
    pub(super) fn new(check: CheckId, meta: CheckMeta, now: Time) -> Self {
        Self {
            check,
            meta,
            learnt_at: now,
            role: Role::Standby(Standby::default()),
            generation: 0,
            measured_before: false,
            backoff: Backoff::default(),
            was_up: false,
            published: None,
        }
    }

    pub(super) const fn probing(&self) -> Option<&Probing> {
        match &self.role {
            Role::Probing(probing) => Some(probing),
            Role::Standby(_) => None,
        }
    }

    pub(super) const fn probing_mut(&mut self) -> Option<&mut Probing> {
        match &mut self.role {
            Role::Probing(probing) => Some(probing),
            Role::Standby(_) => None,
        }
    }
}

impl Probing {
    pub(super) fn new(basis: Basis, paid_until: Time, outcome_due: Time) -> Self {
        Self {
            basis,
            paid_until,
            silent_until: None,
            outcome_due,
            unmeasured: None,
            measured: None,
            fresh: false,
            attended: true,
            confirmed: None,
            held_since: None,
            waits_until: None,
            sight: Sight::default(),
        }
    }
}

impl Backoff {
    pub(super) fn lasts(&self, now: Time) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Given up once more.
    pub(super) fn begin(&mut self, now: Time, first: Duration, most: Duration) {
        let wait = first * (1_u32 << self.times.min(8));
        self.until = Some(now + wait.min(most));
        self.times = self.times.saturating_add(1);
    }
}
