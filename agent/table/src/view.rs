//! A table's words, read as what they mean: lookups, listing, freshness.
//!
//! Safe code over any words whatever: a corrupt table gives wrong answers, but
//! never a read out of bounds, an endless loop or a panic. It never writes.

use watchfire_wire::NodeId;

use crate::entry::{Entry, Packed};
use crate::layout::{
    self, Geometry, H_GENERATION, H_HEARTBEAT, H_MOVED, H_POP, H_STALE_AFTER, LayoutError,
    OWNER_IDS, OWNER_NAME, OWNER_NAMES, S_HASH, S_KEY, S_NAME, S_TWIN, SLOT, WORD,
};
use crate::limits::{
    CLOCK_SKEW_NS, INLINE_NAME_BYTES, NAME_BYTES, OWNERS, PROBE_LIMIT, READ_TRIES,
};
use crate::pop_state::PopState;
use crate::sync::{AtomicU64, Ordering};
use crate::twin;

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The name is in the table.
    Found {
        /// What the table says of it.
        entry: Entry,
        /// Whether somebody still writes the table.
        freshness: Freshness,
    },
    /// The name is not in the table: never configured, or removed.
    NotInTable {
        /// Whether somebody still writes the table.
        freshness: Freshness,
    },
    /// The writer overtook every attempt to read: keep what you knew.
    Busy {
        /// Whether somebody still writes the table.
        freshness: Freshness,
    },
}

impl Lookup {
    /// What the table says, if the name is in it.
    #[must_use]
    pub const fn entry(&self) -> Option<Entry> {
        match self {
            Self::Found { entry, .. } => Some(*entry),
            Self::NotInTable { .. } | Self::Busy { .. } => None,
        }
    }

    /// Whether somebody still writes the table.
    #[must_use]
    pub const fn freshness(&self) -> Freshness {
        match self {
            Self::Found { freshness, .. }
            | Self::NotInTable { freshness }
            | Self::Busy { freshness } => *freshness,
        }
    }
}

/// A lookup's answer as it lies in the table: few enough words for registers.
#[derive(Clone, Copy)]
pub(crate) enum Raw {
    /// A value, and its owner's id.
    Found(Packed, u64),
    NotInTable,
    Busy,
}

impl Raw {
    /// The answer in full.
    #[inline]
    pub(crate) fn with(self, freshness: Freshness) -> Lookup {
        match self {
            Self::Found(packed, owner) => match packed.entry(owner) {
                Some(entry) => Lookup::Found { entry, freshness },
                None => Lookup::NotInTable { freshness },
            },
            Self::NotInTable => Lookup::NotInTable { freshness },
            Self::Busy => Lookup::Busy { freshness },
        }
    }
}

/// Whether somebody still writes the table. A stale one keeps its verdicts;
/// the proxy decides whether to believe them (fail static) or to send to every
/// origin (fail open).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Since the writer's last heartbeat, nanoseconds; `u64::MAX` if it has
    /// none by this clock.
    pub age_ns: u64,
    /// Whether that is young enough by the writer's own word.
    pub fresh: bool,
}

/// A table's words with their geometry.
#[derive(Clone, Copy)]
pub struct View<'a> {
    words: &'a [AtomicU64],
    slots: &'a [[AtomicU64; SLOT]],
    seed: u64,
}

impl<'a> View<'a> {
    /// Reads the header of these words.
    ///
    /// # Errors
    /// The words are no table of this layout, or not a whole one.
    pub fn new(words: &'a [AtomicU64]) -> Result<Self, LayoutError> {
        let (geometry, seed) = Geometry::parse(&head(words), words.len())?;
        Ok(Self::with_slots(words, geometry.slots, seed))
    }

    /// The same of a table that a writer takes over, which may be of the layout
    /// before this one.
    pub(crate) fn of_either(words: &'a [AtomicU64]) -> Result<Self, LayoutError> {
        let (geometry, seed) = Geometry::parse_either(&head(words), words.len())?;
        Ok(Self::with_slots(words, geometry.slots, seed))
    }

    /// Over words whose header was parsed earlier.
    #[inline]
    pub(crate) fn with_slots(words: &'a [AtomicU64], slots: usize, seed: u64) -> Self {
        let slots = &words[layout::SLOTS..][..slots * SLOT];
        Self {
            words,
            slots: slots.as_chunks().0,
            seed,
        }
    }

    /// Looks an origin up by its name. `now_ns` is the caller's
    /// `CLOCK_MONOTONIC`.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &[u8], now_ns: u64) -> Lookup {
        self.get_hashed(self.hash(name), name, now_ns)
    }

    /// The hash of a name in this file; in another it is another one.
    #[inline]
    #[must_use]
    pub fn hash(&self, name: &[u8]) -> u64 {
        layout::hash_name(self.seed, name)
    }

    /// Looks an origin up by its name and its [hash](Self::hash).
    #[inline]
    #[must_use]
    pub fn get_hashed(&self, hash: u64, name: &[u8], now_ns: u64) -> Lookup {
        self.raw(hash, name).with(self.freshness(now_ns))
    }

    /// Whether somebody still writes the table, by the caller's
    /// `CLOCK_MONOTONIC`.
    #[inline]
    #[must_use]
    pub fn freshness(&self, now_ns: u64) -> Freshness {
        let heartbeat = self.word(H_HEARTBEAT);
        if heartbeat == 0 || heartbeat > now_ns.saturating_add(CLOCK_SKEW_NS) {
            return Freshness {
                age_ns: u64::MAX,
                fresh: false,
            };
        }
        let age_ns = now_ns.saturating_sub(heartbeat);
        Freshness {
            age_ns,
            fresh: age_ns <= self.word(H_STALE_AFTER),
        }
    }

    /// Whether the writer has moved on to another file.
    #[inline]
    #[must_use]
    pub fn moved(&self) -> bool {
        self.word(H_MOVED) != 0
    }

    /// How the POP is, and since when.
    #[must_use]
    pub fn pop_state(&self) -> PopState {
        PopState::from_word(self.word(H_POP))
    }

    /// The secret that the names' hashes are made with.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Which of the writer's files this is; grows by one at each move.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.word(H_GENERATION)
    }

    /// Number of slots.
    #[must_use]
    pub const fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// The name and the entry in a slot, if a live name is there. The name is
    /// written to `name`, its length is returned.
    pub fn entry_at(&self, slot: usize, name: &mut [u8; NAME_BYTES]) -> Option<(usize, Entry)> {
        let slot = self.slots.get(slot)?;
        if slot[S_HASH].load(Ordering::Acquire) == 0 {
            return None;
        }
        let packed = self.read(slot)?;
        let entry = packed.entry(self.owner(packed))?;
        let length = self.copy_name(slot, name)?;
        Some((length, entry))
    }

    /// Every live name with its entry, in no particular order.
    #[must_use]
    pub fn entries(&self) -> Vec<(Vec<u8>, Entry)> {
        let mut name = [0; NAME_BYTES];
        (0..self.slots.len())
            .filter_map(|slot| {
                let (length, entry) = self.entry_at(slot, &mut name)?;
                Some((name[..length].to_vec(), entry))
            })
            .collect()
    }

    /// The configured name of an owner, as far as the writer knew it, written
    /// to `name`; its length is returned.
    pub fn owner_name(
        &self,
        owner: NodeId,
        name: &mut [u8; watchfire_wire::limits::NODE_NAME_BYTES],
    ) -> Option<usize> {
        let index = (0..OWNERS).find(|&i| self.word(OWNER_IDS + i) == owner.0)?;
        let stored = &self.words[OWNER_NAMES + index * OWNER_NAME..][..OWNER_NAME];
        let length = usize::try_from(stored[0].load(Ordering::Acquire)).ok()?;
        if length == 0 || length > name.len() {
            return None;
        }
        copy_words(&stored[1..], &mut name[..length]);
        Some(length)
    }

    /// One word of the header or the directory.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Acquire)
    }

    /// The words in which long names lie.
    pub(crate) fn arena(&self) -> &'a [AtomicU64] {
        &self.words[layout::SLOTS + self.slots.len() * SLOT..]
    }

    /// All slots.
    pub(crate) const fn slots(&self) -> &'a [[AtomicU64; SLOT]] {
        self.slots
    }

    /// Looks a name up, reading its value once, and leaves the answer packed.
    #[inline(always)]
    pub(crate) fn raw_once(&self, hash: u64, name: &[u8]) -> Raw {
        let Some(slot) = self.find(hash, name) else {
            return Raw::NotInTable;
        };
        match twin::read(&slot[S_TWIN..]) {
            Some((_, value)) => Raw::Found(Packed(value), self.owner(Packed(value))),
            None => Raw::Busy,
        }
    }

    /// Looks a name up, reading its value as often as may be, and leaves the
    /// answer packed.
    pub(crate) fn raw(&self, hash: u64, name: &[u8]) -> Raw {
        let Some(slot) = self.find(hash, name) else {
            return Raw::NotInTable;
        };
        match self.read(slot) {
            Some(packed) => Raw::Found(packed, self.owner(packed)),
            None => Raw::Busy,
        }
    }

    /// Finds a name's slot; a removed name still has one.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, name: &[u8]) -> Option<&'a [AtomicU64; SLOT]> {
        if name.is_empty() {
            return None;
        }
        let mut at = layout::home(hash, self.slots.len());
        for _ in 0..PROBE_LIMIT {
            let slot = &self.slots[at];
            let found = slot[S_HASH].load(Ordering::Acquire);
            if found == hash && self.name_is(slot, name) {
                return Some(slot);
            }
            if found == 0 {
                return None;
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        None
    }

    /// Reads a slot's value, again if the writer overtakes.
    pub(crate) fn read(&self, slot: &[AtomicU64; SLOT]) -> Option<Packed> {
        for _ in 0..READ_TRIES {
            if let Some((_, value)) = twin::read(&slot[S_TWIN..]) {
                return Some(Packed(value));
            }
            core::hint::spin_loop();
        }
        None
    }

    /// Copies a slot's name out; nothing if no writer can have written it.
    pub(crate) fn copy_name(
        &self,
        slot: &[AtomicU64; SLOT],
        name: &mut [u8; NAME_BYTES],
    ) -> Option<usize> {
        let (length, stored) = self.stored_name(slot)?;
        copy_words(stored, name.get_mut(..length)?);
        Some(length)
    }

    /// Where a slot's name lies: its length and its words.
    pub(crate) fn stored_name<'s>(
        &self,
        slot: &'s [AtomicU64; SLOT],
    ) -> Option<(usize, &'s [AtomicU64])>
    where
        'a: 's,
    {
        let key = slot[S_KEY].load(Ordering::Relaxed);
        let length = (key & 0xffff) as usize;
        let words = length.div_ceil(WORD);
        let stored: &'s [AtomicU64] = if length <= INLINE_NAME_BYTES {
            slot.get(S_NAME..S_NAME + words)?
        } else {
            let at = (key >> 32) as usize;
            self.arena().get(at..at + words)?
        };
        Some((length, stored))
    }

    /// Whether the slot's name is this one, all of it.
    #[inline(always)]
    fn name_is(&self, slot: &[AtomicU64; SLOT], name: &[u8]) -> bool {
        if name.len() > INLINE_NAME_BYTES {
            return self.long_name_is(slot, name);
        }
        // A short name's key is its length alone.
        slot[S_KEY].load(Ordering::Relaxed) == name.len() as u64 && same(&slot[S_NAME..], name)
    }

    /// The same for a name in the arena.
    #[cold]
    #[inline(never)]
    fn long_name_is(&self, slot: &[AtomicU64; SLOT], name: &[u8]) -> bool {
        self.stored_name(slot)
            .is_some_and(|(length, stored)| length == name.len() && same(stored, name))
    }

    /// The id of a packed value's owner; zero if it is unknown.
    #[inline]
    fn owner(&self, packed: Packed) -> u64 {
        match usize::from(packed.owner()) {
            owner @ 1..=OWNERS => self.word(OWNER_IDS + owner - 1),
            _ => 0,
        }
    }
}

/// The constant part of the header.
fn head(words: &[AtomicU64]) -> [u64; 8] {
    let mut header = [0; 8];
    for (to, word) in header.iter_mut().zip(words) {
        *to = word.load(Ordering::Relaxed);
    }
    header
}

/// Whether the words begin with this name. Its length is known to be right.
///
/// Not inlined: it would cost the probing around it its registers.
#[inline(never)]
fn same(stored: &[AtomicU64], name: &[u8]) -> bool {
    let (whole, tail) = name.as_chunks::<WORD>();
    // Leaves at the first difference, which also keeps the loop as short as
    // names are.
    for (word, bytes) in stored.iter().zip(whole) {
        if word.load(Ordering::Relaxed) != u64::from_le_bytes(*bytes) {
            return false;
        }
    }
    match stored.get(whole.len()) {
        Some(word) if !tail.is_empty() => word.load(Ordering::Relaxed) == tail_word(name, tail),
        _ => true,
    }
}

/// The last, partly filled word of a name, zero above its bytes.
#[inline]
fn tail_word(name: &[u8], tail: &[u8]) -> u64 {
    // A name of at least one word is read backwards from its end, in one load.
    if let Some(last) = name.last_chunk::<WORD>() {
        return u64::from_le_bytes(*last) >> (8 * (WORD - tail.len()));
    }
    tail.iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Copies bytes out of words.
fn copy_words(words: &[AtomicU64], bytes: &mut [u8]) {
    for (to, word) in bytes.chunks_mut(WORD).zip(words) {
        let word = word.load(Ordering::Relaxed).to_le_bytes();
        to.copy_from_slice(&word[..to.len()]);
    }
}
