//! Layout version 2: where everything lies in the file, in 8-byte words.
//!
//! LAYOUT.md says the same in bytes. Nothing here touches memory; the numbers
//! never change under one version.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::limits::{CAPACITY_MAX, CAPACITY_MIN, INLINE_NAME_BYTES, OWNERS};

#[cfg(target_endian = "big")]
compile_error!("the table's words are little-endian, and so must the host be");

/// The first eight bytes of every table.
pub const MAGIC: [u8; 8] = *b"WATCHFIR";
/// The version that this crate reads and writes.
pub const VERSION: u64 = 2;
/// The version before: a writer takes its tables over, and moves at once. It
/// had the number of slots where the seed is now, and no seed.
pub(crate) const FORMER_VERSION: u64 = 1;

/// Bytes per word.
pub const WORD: usize = 8;
/// Words per page: files are whole pages.
const PAGE: usize = 4096 / WORD;

// The constant part of the header.
pub(crate) const H_MAGIC: usize = 0;
pub(crate) const H_VERSION: usize = 1;
pub(crate) const H_FILE_BYTES: usize = 2;
pub(crate) const H_SEED: usize = 3;
pub(crate) const H_ARENA_BYTES: usize = 4;
pub(crate) const H_CAPACITY: usize = 5;
pub(crate) const H_GENERATION: usize = 6;
pub(crate) const H_CHECK: usize = 7;
// The line that every lookup reads; written at each heartbeat.
pub(crate) const H_HEARTBEAT: usize = 8;
pub(crate) const H_MOVED: usize = 9;
pub(crate) const H_STALE_AFTER: usize = 10;
// How the POP is: see `pop_state`.
pub(crate) const H_POP: usize = 11;
// Who writes.
pub(crate) const H_NODE: usize = 16;
pub(crate) const H_EPOCH: usize = 17;
pub(crate) const H_BOOT: usize = 18;
pub(crate) const H_PID: usize = 19;
pub(crate) const H_ADOPTED: usize = 20;
// The writer's counters; nothing depends on them.
pub(crate) const H_WRITES: usize = 24;
pub(crate) const H_USED: usize = 25;
pub(crate) const H_LIVE: usize = 26;
pub(crate) const H_ARENA_USED: usize = 27;
pub(crate) const H_RATE: usize = 28;

/// Words of the header.
pub(crate) const HEADER: usize = PAGE;
/// First word of the owners' ids.
pub(crate) const OWNER_IDS: usize = HEADER;
/// First word of the owners' names.
pub(crate) const OWNER_NAMES: usize = OWNER_IDS + OWNERS;
/// Words of one owner's name: its length, then its bytes.
pub(crate) const OWNER_NAME: usize = 1 + watchfire_wire::limits::NODE_NAME_BYTES / WORD;
/// First word of the slots.
pub(crate) const SLOTS: usize = OWNER_NAMES + OWNERS * OWNER_NAME;

/// Words of one slot: two cache lines.
pub(crate) const SLOT: usize = 16;
/// The name's hash; zero while the slot is free.
pub(crate) const S_HASH: usize = 0;
/// The name's length and, for a long one, its place in the arena.
pub(crate) const S_KEY: usize = 1;
/// The counter and the two copies of the value: see [`crate::twin`].
pub(crate) const S_TWIN: usize = 2;
/// A short name's bytes.
pub(crate) const S_NAME: usize = 7;

const _: () = assert!(SLOT - S_NAME == INLINE_NAME_BYTES / WORD);
const _: () = assert!(SLOTS.is_multiple_of(SLOT));

/// The hash of an origin's name in a table with this seed, never zero. Nobody
/// who only chooses names knows the seed, so nobody chooses where they lie.
#[inline]
#[must_use]
pub fn hash_name(seed: u64, name: &[u8]) -> u64 {
    // Zero marks a free slot; two hashes may be equal, since names are
    // compared in full.
    xxh3_64_with_seed(name, seed).max(1)
}

/// Why words are not a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The first bytes are not a table's.
    Foreign,
    /// A table of this other layout version.
    OtherVersion(u64),
    /// A table, but this is wrong with it.
    Corrupt(&'static str),
}

impl core::fmt::Display for LayoutError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Foreign => f.write_str("the first bytes are not a table's"),
            Self::OtherVersion(found) => {
                write!(f, "layout version {found}, where {VERSION} is spoken")
            }
            Self::Corrupt(what) => f.write_str(what),
        }
    }
}

/// The sizes of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Names that fit, removed ones included, before the writer moves on.
    pub capacity: usize,
    /// Slots: twice the capacity, so that the load stays at or below a half.
    pub slots: usize,
    /// Words of the arena, which holds the long names.
    pub arena: usize,
}

impl Geometry {
    /// The geometry for so many names, an eighth of them long, or more if
    /// `arena_words` says so.
    #[must_use]
    pub fn for_names(capacity: usize, arena_words: usize) -> Option<Self> {
        if capacity > CAPACITY_MAX {
            return None;
        }
        let capacity = capacity.max(CAPACITY_MIN);
        let slots = capacity * 2;
        let wanted = (capacity * 4).max(arena_words);
        // The arena takes what is left of the last page.
        let total = (SLOTS + slots * SLOT + wanted).next_multiple_of(PAGE);
        let arena = total - SLOTS - slots * SLOT;
        // A reader's handle keeps the words in 32 bits.
        (total <= u32::MAX as usize).then_some(Self {
            capacity,
            slots,
            arena,
        })
    }

    /// Words of the whole file.
    #[must_use]
    pub const fn words(self) -> usize {
        SLOTS + self.slots * SLOT + self.arena
    }

    /// The constant part of the header.
    pub(crate) fn header(self, generation: u64, seed: u64) -> [u64; 8] {
        let mut header = [0; 8];
        header[H_MAGIC] = u64::from_le_bytes(MAGIC);
        header[H_VERSION] = VERSION;
        header[H_FILE_BYTES] = (self.words() * WORD) as u64;
        header[H_SEED] = seed;
        header[H_ARENA_BYTES] = (self.arena * WORD) as u64;
        header[H_CAPACITY] = self.capacity as u64;
        header[H_GENERATION] = generation;
        header[H_CHECK] = checksum(&header);
        header
    }

    /// Reads the constant part of a header over `words` words of file: the
    /// sizes and the seed.
    ///
    /// # Errors
    /// Says what is wrong; nothing was changed.
    pub(crate) fn parse(header: &[u64; 8], words: usize) -> Result<(Self, u64), LayoutError> {
        Self::parse_version(header, words, VERSION)
    }

    /// The same of a table that a writer may take over: of this version or of
    /// the one before.
    pub(crate) fn parse_either(
        header: &[u64; 8],
        words: usize,
    ) -> Result<(Self, u64), LayoutError> {
        match Self::parse_version(header, words, FORMER_VERSION) {
            Err(LayoutError::OtherVersion(_)) => Self::parse(header, words),
            former => former,
        }
    }

    fn parse_version(
        header: &[u64; 8],
        words: usize,
        version: u64,
    ) -> Result<(Self, u64), LayoutError> {
        if header[H_MAGIC] != u64::from_le_bytes(MAGIC) {
            return Err(LayoutError::Foreign);
        }
        if header[H_VERSION] != version {
            return Err(LayoutError::OtherVersion(header[H_VERSION]));
        }
        if header[H_CHECK] != checksum(header) {
            return Err(LayoutError::Corrupt("the header's checksum is wrong"));
        }
        if header[H_FILE_BYTES] != (words * WORD) as u64 {
            return Err(LayoutError::Corrupt(
                "the file is shorter or longer than its header says",
            ));
        }
        let capacity = usize::try_from(header[H_CAPACITY]).unwrap_or(usize::MAX);
        let arena = usize::try_from(header[H_ARENA_BYTES]).unwrap_or(usize::MAX) / WORD;
        let is_former = version == FORMER_VERSION;
        let seed = if is_former { 0 } else { header[H_SEED] };
        Self::for_names(capacity, arena)
            .filter(|g| {
                g.words() == words
                    && g.capacity == capacity
                    && (g.slots as u64 == header[H_SEED] || !is_former)
                    && (g.arena * WORD) as u64 == header[H_ARENA_BYTES]
            })
            .map(|geometry| (geometry, seed))
            .ok_or(LayoutError::Corrupt("the header's sizes contradict"))
    }
}

/// The first slot to look at for a hash.
#[inline]
pub(crate) const fn home(hash: u64, slots: usize) -> usize {
    ((hash as u128 * slots as u128) >> 64) as usize
}

/// Of the header's constant part, itself left out.
fn checksum(header: &[u64; 8]) -> u64 {
    let mut bytes = [0; H_CHECK * WORD];
    for (to, word) in bytes.as_chunks_mut::<WORD>().0.iter_mut().zip(header) {
        *to = word.to_le_bytes();
    }
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_every_flipped_bit_is_found() {
        let geometry = Geometry::for_names(1_000, 0).expect("a small table");
        let header = geometry.header(7, 99);
        let parsed = Geometry::parse(&header, geometry.words());
        assert_eq!(parsed, Ok((geometry, 99)));
        let either = Geometry::parse_either(&header, geometry.words());
        assert_eq!(either, parsed);
        for bit in 0..8 * 64 {
            let mut bad = header;
            bad[bit / 64] ^= 1 << (bit % 64);
            assert!(Geometry::parse(&bad, geometry.words()).is_err());
        }
        assert!(Geometry::parse(&header, geometry.words() - PAGE).is_err());
    }

    #[test]
    fn sizes_are_whole_pages_and_the_largest_is_refused_above() {
        for capacity in [0, 1, 63, 64, 100_000, CAPACITY_MAX] {
            let geometry = Geometry::for_names(capacity, 0).expect("within the limits");
            assert!(geometry.words().is_multiple_of(PAGE));
            assert!(geometry.capacity >= capacity);
        }
        assert_eq!(Geometry::for_names(CAPACITY_MAX + 1, 0), None);
    }

    #[test]
    fn the_documented_offsets_are_the_real_ones() {
        assert_eq!(OWNER_IDS * WORD, 4_096);
        assert_eq!(OWNER_NAMES * WORD, 12_288);
        assert_eq!(OWNER_NAME * WORD, 72);
        assert_eq!(SLOTS * WORD, 86_016);
        assert_eq!(SLOT * WORD, 128);
        let header = [
            (H_HEARTBEAT, 64),
            (H_MOVED, 72),
            (H_STALE_AFTER, 80),
            (H_POP, 88),
            (H_NODE, 128),
            (H_EPOCH, 136),
            (H_BOOT, 144),
            (H_PID, 152),
            (H_ADOPTED, 160),
            (H_WRITES, 192),
            (H_USED, 200),
            (H_LIVE, 208),
            (H_ARENA_USED, 216),
            (H_RATE, 224),
        ];
        for (word, offset) in header {
            assert_eq!(word * WORD, offset);
        }
        assert_eq!(H_SEED * WORD, 24);
        assert_eq!((S_TWIN * WORD, S_NAME * WORD), (16, 56));
    }
}
