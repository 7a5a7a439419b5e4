//! A lookup's answer in the shape that C sees: `watchfire_answer` in
//! `include/watchfire.h`, field for field.

use crate::entry::Entry;
use crate::view::{Freshness, Lookup};

/// Verdict code of a name that is not in the table.
pub const NOT_IN_TABLE: u8 = 4;
/// Verdict code of a lookup that the writer overtook.
pub const BUSY: u8 = 5;

/// What the table says of one origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    /// Of the verdict, milliseconds since 1970 on the owner's clock.
    pub since_ms: u64,
    /// The node that said so; zero if unknown.
    pub owner: u64,
    /// Since the writer's last heartbeat, nanoseconds.
    pub age_ns: u64,
    /// Of the probe at the last write, microseconds.
    pub latency_us: u32,
    /// A [`TableVerdict`](crate::TableVerdict), [`NOT_IN_TABLE`] or [`BUSY`].
    pub verdict: u8,
    /// [`Flags`](crate::Flags).
    pub flags: u8,
    /// Code of the reason.
    pub reason: u8,
    /// Whether the table is fresh, one or zero.
    pub fresh: u8,
}

impl Answer {
    #[inline]
    fn of_entry(entry: &Entry, freshness: Freshness) -> Self {
        Self {
            since_ms: entry.since_ms,
            owner: entry.owner.map_or(0, |owner| owner.0),
            age_ns: freshness.age_ns,
            latency_us: entry.latency_us,
            verdict: entry.verdict as u8,
            flags: entry.flags.0,
            reason: entry.reason,
            fresh: u8::from(freshness.fresh),
        }
    }

    #[inline]
    fn without_entry(verdict: u8, freshness: Freshness) -> Self {
        Self {
            age_ns: freshness.age_ns,
            verdict,
            fresh: u8::from(freshness.fresh),
            ..Self::default()
        }
    }
}

impl From<Lookup> for Answer {
    #[inline]
    fn from(lookup: Lookup) -> Self {
        match lookup {
            Lookup::Found { entry, freshness } => Self::of_entry(&entry, freshness),
            Lookup::NotInTable { freshness } => Self::without_entry(NOT_IN_TABLE, freshness),
            Lookup::Busy { freshness } => Self::without_entry(BUSY, freshness),
        }
    }
}
