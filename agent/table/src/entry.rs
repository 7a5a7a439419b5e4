//! What the table says of one origin, and how it is packed into two words.

use core::fmt;
use core::ops::BitOr;

use watchfire_wire::{NodeId, Reason, Unmeasured, Verdict};

/// A verdict as the proxy reads it.
///
/// The numbers are part of the layout and of the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TableVerdict {
    /// Nobody has measured it, or nobody can: the proxy decides.
    #[default]
    Unknown = 0,
    /// Send requests.
    Up = 1,
    /// Send none.
    Down = 2,
    /// Finish what is open and send no new requests: the operator's wish.
    Draining = 3,
}

impl TableVerdict {
    /// The verdict with this number, if there is one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Unknown),
            1 => Some(Self::Up),
            2 => Some(Self::Down),
            3 => Some(Self::Draining),
            _ => None,
        }
    }

    /// One word, as people and tools read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
        }
    }
}

impl From<Verdict> for TableVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Unknown => Self::Unknown,
            Verdict::Up => Self::Up,
            Verdict::Down => Self::Down,
        }
    }
}

impl fmt::Display for TableVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Remarks on a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No remark.
    pub const NONE: Self = Self(0);
    /// An operator's override, not a measurement.
    pub const FORCED: Self = Self(1);
    /// The last verdict of an earlier definition of the check: the new one has
    /// none yet.
    pub const CARRIED: Self = Self(2);
    /// Kept: the owner doubts its own path, or an operator froze it.
    pub const FROZEN: Self = Self(4);
    /// Up, but by the check's own signs not quite well.
    pub const DEGRADED: Self = Self(8);

    const ALL: u8 = 15;

    /// Whether all of these are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl fmt::Display for Flags {
    /// The flags by name, separated by commas; nothing for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::FORCED, "forced"),
            (Self::CARRIED, "carried"),
            (Self::FROZEN, "frozen"),
            (Self::DEGRADED, "degraded"),
        ];
        let mut first = true;
        for (flag, name) in names {
            if self.contains(flag) {
                f.write_str(if first { "" } else { "," })?;
                f.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}

/// What the table says of one origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The verdict.
    pub verdict: TableVerdict,
    /// Remarks on it.
    pub flags: Flags,
    /// Why: code of a [`Reason`] or an [`Unmeasured`].
    pub reason: u8,
    /// Since when, milliseconds since 1970 on the owner's clock; 48 bits are
    /// kept.
    pub since_ms: u64,
    /// Latency as of the last write, microseconds.
    pub latency_us: u32,
    /// The node that said so, if it is known.
    pub owner: Option<NodeId>,
}

/// The verdict's code of a name that was removed: its slot stays taken until
/// the table moves to a new file.
const REMOVED: u8 = 255;

/// The since field's bits.
const SINCE_MASK: u64 = (1 << 48) - 1;

/// A value as it lies in a slot: an entry with its owner as an index into the
/// directory (one based; zero for unknown), or a removed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed(pub(crate) [u64; 2]);

impl Packed {
    /// Of a removed name.
    pub(crate) const REMOVED: Self = Self([(REMOVED as u64) << 48, 0]);

    /// Packs an entry whose owner has this index.
    pub(crate) fn new(entry: &Entry, owner: u16) -> Self {
        Self([
            entry.since_ms.min(SINCE_MASK)
                | u64::from(entry.verdict as u8) << 48
                | u64::from(entry.flags.0 & Flags::ALL) << 56,
            u64::from(entry.latency_us) | u64::from(owner) << 32 | u64::from(entry.reason) << 48,
        ])
    }

    /// The entry with this owner's id, zero for unknown; nothing for a removed
    /// name or a verdict that no writer of this layout wrote.
    #[inline]
    pub(crate) fn entry(self, owner: u64) -> Option<Entry> {
        let verdict = TableVerdict::from_code((self.0[0] >> 48) as u8)?;
        Some(Entry {
            verdict,
            flags: Flags((self.0[0] >> 56) as u8),
            reason: (self.0[1] >> 48) as u8,
            since_ms: self.0[0] & SINCE_MASK,
            latency_us: self.0[1] as u32,
            owner: (owner != 0).then_some(NodeId(owner)),
        })
    }

    /// Whether it is of a name that is in the table.
    #[inline]
    pub(crate) fn is_live(self) -> bool {
        TableVerdict::from_code((self.0[0] >> 48) as u8).is_some()
    }

    /// The owner's index, one based; zero for unknown.
    #[inline]
    pub(crate) const fn owner(self) -> u16 {
        (self.0[1] >> 32) as u16
    }

    /// The same value under another owner's index.
    pub(crate) const fn with_owner(self, owner: u16) -> Self {
        Self([
            self.0[0],
            self.0[1] & !(0xffff << 32) | (owner as u64) << 32,
        ])
    }

    /// Whether a writer of this layout can have written it.
    pub(crate) fn is_valid(self) -> bool {
        let verdict = (self.0[0] >> 48) as u8;
        let flags = (self.0[0] >> 56) as u8;
        (verdict == REMOVED || TableVerdict::from_code(verdict).is_some())
            && flags & !Flags::ALL == 0
            && self.0[1] >> 56 == 0
    }
}

/// The reason with this code, in words to follow "because".
#[must_use]
pub fn reason_words(code: u8) -> &'static str {
    if let Some(reason) = Reason::from_code(code) {
        return reason.words();
    }
    Unmeasured::from_code(code).map_or("of a reason that this version does not know", |r| r.words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_packing() {
        let entry = Entry {
            verdict: TableVerdict::Draining,
            flags: Flags::FORCED | Flags::FROZEN,
            reason: 143,
            since_ms: SINCE_MASK - 1,
            latency_us: u32::MAX - 5,
            owner: None,
        };
        let packed = Packed::new(&entry, 1_024);
        assert_eq!(packed.entry(0), Some(entry));
        assert_eq!(packed.owner(), 1_024);
        assert!(packed.is_valid());
        assert_eq!(packed.with_owner(3).owner(), 3);
        assert_eq!(packed.with_owner(3).entry(0), Some(entry));
        assert_eq!(Packed::REMOVED.entry(0), None);
        assert!(Packed::REMOVED.is_valid());
    }

    #[test]
    fn flags_print_by_name() {
        assert_eq!((Flags::FORCED | Flags::FROZEN).to_string(), "forced,frozen");
        assert_eq!(Flags::NONE.to_string(), "");
    }
}
