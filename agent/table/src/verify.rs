//! Checking a table and measuring how full and how busy it is.

use watchfire_wire::NodeId;

use crate::layout::{
    self, Geometry, H_ADOPTED, H_ARENA_USED, H_EPOCH, H_LIVE, H_NODE, H_PID, H_RATE, H_USED,
    H_WRITES, OWNER_IDS, OWNER_NAME, OWNER_NAMES, S_HASH, S_NAME, SLOT, WORD,
};
use crate::limits::{INLINE_NAME_BYTES, NAME_BYTES, OWNERS, PROBLEMS};
use crate::sync::{AtomicU64, Ordering};
use crate::view::{Freshness, View};

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Slots with a name that is in the table.
    pub live: usize,
    /// Slots with a name that was removed.
    pub removed: usize,
    /// Entries that the writer changed faster than they could be read; not a
    /// problem.
    pub busy: usize,
    /// What no writer of this layout can have left, in words; at most
    /// [`PROBLEMS`].
    pub problems: Vec<String>,
}

/// How full and how busy a table is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stat {
    /// Size of the file, bytes.
    pub file_bytes: u64,
    /// Which of the writer's files this is.
    pub generation: u64,
    /// Slots in the file.
    pub slots: u64,
    /// Names that it was made for.
    pub capacity: u64,
    /// Names in the table.
    pub live: u64,
    /// Slots taken, removed names included.
    pub used: u64,
    /// Share of the slots that are taken.
    pub load_factor: f64,
    /// Slots that a lookup of a present name visits, on average.
    pub probe_length_mean: f64,
    /// Slots that a lookup of the unluckiest present name visits.
    pub probe_length_max: u64,
    /// Bytes taken in the arena of long names.
    pub arena_used_bytes: u64,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Owners in the directory.
    pub owners: u64,
    /// Values written since the table was made.
    pub writes: u64,
    /// Values written per second, as last measured by the writer.
    pub writes_per_s: u64,
    /// The writer's last sign of life.
    pub freshness: Freshness,
    /// Since when this writer has the table, nanoseconds on `CLOCK_MONOTONIC`.
    pub adopted_ns: u64,
    /// The writer's node.
    pub node: NodeId,
    /// The writer's epoch.
    pub epoch: u64,
    /// The writer's process.
    pub pid: u64,
}

impl View<'_> {
    /// Checks everything that a writer of this layout keeps true. A table that
    /// is being written may be checked too.
    #[must_use]
    pub fn verify(&self) -> Verification {
        let mut found = Verification::default();
        for owner in 0..OWNERS {
            let name_bytes = self.word(OWNER_NAMES + owner * OWNER_NAME);
            if name_bytes > ((OWNER_NAME - 1) * WORD) as u64 {
                found.problem(|| format!("owner {owner}'s name is too long"));
            }
        }
        for (at, slot) in self.slots().iter().enumerate() {
            if found.problems.len() == PROBLEMS {
                break;
            }
            let hash = slot[S_HASH].load(Ordering::Acquire);
            if hash != 0 {
                self.verify_slot(at, slot, hash, &mut found);
            }
        }
        found
    }

    fn verify_slot(
        &self,
        at: usize,
        slot: &[AtomicU64; SLOT],
        hash: u64,
        found: &mut Verification,
    ) {
        let mut name = [0; NAME_BYTES];
        match self.copy_name(slot, &mut name) {
            None | Some(0) => {
                return found.problem(|| format!("slot {at}'s name has no place"));
            }
            Some(length) => {
                let name = &name[..length];
                if self.hash(name) != hash {
                    return found.problem(|| format!("slot {at}'s hash is not its name's"));
                }
                if !self
                    .find(hash, name)
                    .is_some_and(|s| core::ptr::eq(s, slot))
                {
                    found.problem(|| format!("slot {at} is not where its name is looked for"));
                }
                if length <= INLINE_NAME_BYTES && !is_padded(&slot[S_NAME..], length) {
                    found.problem(|| format!("slot {at}'s name is not padded with zeros"));
                }
            }
        }
        let Some(packed) = self.read(slot) else {
            found.busy += 1;
            return;
        };
        if !packed.is_valid() {
            return found.problem(|| format!("slot {at}'s value is none that is ever written"));
        }
        match usize::from(packed.owner()) {
            0 => {}
            owner if owner <= OWNERS && self.word(OWNER_IDS + owner - 1) != 0 => {}
            _ => found.problem(|| format!("slot {at}'s owner is not in the directory")),
        }
        if packed.is_live() {
            found.live += 1;
        } else {
            found.removed += 1;
        }
    }

    /// Measures the table; visits every slot.
    #[must_use]
    pub fn stat(&self, now_ns: u64) -> Stat {
        let slots = self.slots();
        let (mut visits, mut names, mut longest) = (0, 0, 0);
        for (at, slot) in slots.iter().enumerate() {
            let hash = slot[S_HASH].load(Ordering::Acquire);
            if hash == 0 {
                continue;
            }
            let home = layout::home(hash, slots.len());
            let visited = (at + slots.len() - home) % slots.len() + 1;
            visits += visited;
            names += 1;
            longest = longest.max(visited);
        }
        let owners = (0..OWNERS).filter(|&i| self.word(OWNER_IDS + i) != 0);
        let geometry = self.geometry();
        Stat {
            file_bytes: (geometry.words() * WORD) as u64,
            generation: self.generation(),
            slots: slots.len() as u64,
            capacity: geometry.capacity as u64,
            live: self.word(H_LIVE),
            used: self.word(H_USED),
            load_factor: names as f64 / slots.len() as f64,
            probe_length_mean: visits as f64 / f64::from(names.max(1)),
            probe_length_max: longest as u64,
            arena_used_bytes: self.word(H_ARENA_USED),
            arena_bytes: (geometry.arena * WORD) as u64,
            owners: owners.count() as u64,
            writes: self.word(H_WRITES),
            writes_per_s: self.word(H_RATE),
            freshness: self.freshness(now_ns),
            adopted_ns: self.word(H_ADOPTED),
            node: NodeId(self.word(H_NODE)),
            epoch: self.word(H_EPOCH),
            pid: self.word(H_PID),
        }
    }

    /// The table's sizes.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        let slots = self.slots().len();
        Geometry {
            capacity: slots / 2,
            slots,
            arena: self.arena().len(),
        }
    }
}

impl Verification {
    fn problem(&mut self, what: impl FnOnce() -> String) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(what());
        }
    }
}

/// Whether everything after a name's end is zero.
fn is_padded(words: &[AtomicU64], length: usize) -> bool {
    words.iter().enumerate().all(|(i, word)| {
        let kept = length.saturating_sub(i * WORD).min(WORD);
        let beyond = if kept == WORD {
            0
        } else {
            u64::MAX << (8 * kept)
        };
        word.load(Ordering::Relaxed) & beyond == 0
    })
}
