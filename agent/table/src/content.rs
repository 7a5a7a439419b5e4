//! What is in one file of a table, from its writer's side: names, values,
//! owners. It knows nothing of files and of moving to another.
//!
//! The order of the stores is the design: a slot is free until its hash is
//! written, an owner unknown until its id is, and nothing that was published
//! ever changes but the values, which are [twins](crate::twin).

use std::collections::HashMap;
use std::ops::Deref;

use watchfire_wire::NodeId;
use watchfire_wire::limits::NODE_NAME_BYTES;

use crate::entry::{Entry, Packed};
use crate::layout::{
    self, Geometry, H_ARENA_USED, H_LIVE, H_USED, H_WRITES, OWNER_IDS, OWNER_NAME, OWNER_NAMES,
    S_HASH, S_KEY, S_NAME, S_TWIN, SLOT, WORD,
};
use crate::limits::{INLINE_NAME_BYTES, NAME_BYTES, OWNERS, PROBE_LIMIT};
use crate::sync::{AtomicU64, Ordering};
use crate::twin;
use crate::view::View;

/// One file's content and the writer's counts of it.
#[derive(Debug)]
pub(crate) struct Content<R> {
    region: R,
    geometry: Geometry,
    /// What the names' hashes are made with.
    seed: u64,
    /// Index, one based, of each owner in the directory.
    owners: HashMap<NodeId, u16>,
    used: usize,
    live: usize,
    arena_used: usize,
}

/// Why a name does not fit into this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// As many names as it was made for, removed ones included.
    Slots,
    /// No room for a long name's bytes.
    Arena,
    /// No free slot near the name's hash.
    Crowded,
}

impl<R: Deref<Target = [AtomicU64]>> Content<R> {
    /// Over a region of zeros: writes the constant part of the header.
    pub(crate) fn begin(region: R, geometry: Geometry, generation: u64, seed: u64) -> Self {
        for (word, value) in region.iter().zip(geometry.header(generation, seed)) {
            word.store(value, Ordering::Relaxed);
        }
        Self {
            region,
            geometry,
            seed,
            owners: HashMap::new(),
            used: 0,
            live: 0,
            arena_used: 0,
        }
    }

    /// Over a verified region: counts what is in it, since the counts of a
    /// writer that died may be behind.
    pub(crate) fn adopt(region: R, geometry: Geometry, seed: u64) -> Self {
        let mut content = Self {
            region,
            geometry,
            seed,
            owners: HashMap::new(),
            used: 0,
            live: 0,
            arena_used: 0,
        };
        let view = content.view();
        let (mut used, mut live, mut arena_used) = (0, 0, 0);
        for slot in view.slots() {
            if slot[S_HASH].load(Ordering::Relaxed) == 0 {
                continue;
            }
            used += 1;
            live += usize::from(is_live(view.read(slot)));
            let key = slot[S_KEY].load(Ordering::Relaxed);
            let length = (key & 0xffff) as usize;
            if length > INLINE_NAME_BYTES {
                arena_used = arena_used.max((key >> 32) as usize + length.div_ceil(WORD));
            }
        }
        let ids = (0..OWNERS).map(|i| NodeId(view.word(OWNER_IDS + i)));
        let owners = (1..).zip(ids).take_while(|(_, id)| id.0 != 0);
        content.owners = owners.map(|(index, id)| (id, index)).collect();
        (content.used, content.live, content.arena_used) = (used, live, arena_used);
        content.count();
        content
    }

    /// Copies the live names of another file, and the owners that they name.
    ///
    /// # Errors
    /// The hash of a name that finds no slot; with another seed it may.
    pub(crate) fn fill<S: Deref<Target = [AtomicU64]>>(
        &mut self,
        from: &Content<S>,
    ) -> Result<(), u64> {
        let view = from.view();
        let mut name = [0; NAME_BYTES];
        for slot in view.slots() {
            if slot[S_HASH].load(Ordering::Relaxed) == 0 {
                continue;
            }
            let Some(packed) = view.read(slot).filter(|&p| is_live(Some(p))) else {
                continue;
            };
            let Some(length) = view.copy_name(slot, &mut name) else {
                continue;
            };
            let owner = self.take_owner(from, packed.owner());
            // Another file, another seed.
            let hash = self.hash(&name[..length]);
            self.insert(hash, &name[..length], packed.with_owner(owner))
                .map_err(|_| hash)?;
        }
        Ok(())
    }

    /// Writes a name's value, giving it a slot if it has none.
    pub(crate) fn set(&mut self, name: &[u8], entry: &Entry, owner: u16) -> Result<(), Full> {
        let hash = self.hash(name);
        let packed = Packed::new(entry, owner);
        if self.update(hash, name, packed).is_some() {
            return Ok(());
        }
        self.insert(hash, name, packed)
    }

    /// Marks a name as removed; says whether it was live.
    pub(crate) fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.update(self.hash(name), name, Packed::REMOVED);
        is_live(before)
    }

    /// The directory's index for an owner, one based; nothing if it has none
    /// and there is no room.
    pub(crate) fn owner_index(&mut self, owner: NodeId) -> Option<u16> {
        if let Some(&index) = self.owners.get(&owner) {
            return Some(index);
        }
        let at = self.owners.len();
        if at == OWNERS {
            return None;
        }
        self.region[OWNER_IDS + at].store(owner.0, Ordering::Release);
        let index = at as u16 + 1;
        self.owners.insert(owner, index);
        Some(index)
    }

    /// Names the owner with this index, unless it has a name.
    pub(crate) fn name_owner(&self, index: u16, name: &str) {
        let Some(at) = usize::from(index).checked_sub(1) else {
            return;
        };
        let stored = &self.region[OWNER_NAMES + at * OWNER_NAME..][..OWNER_NAME];
        if stored[0].load(Ordering::Relaxed) == 0 {
            let name = &name.as_bytes()[..name.len().min(NODE_NAME_BYTES)];
            store_bytes(&stored[1..], name);
            stored[0].store(name.len() as u64, Ordering::Release);
        }
    }

    /// The file as readers see it.
    pub(crate) fn view(&self) -> View<'_> {
        View::with_slots(&self.region, self.geometry.slots, self.seed)
    }

    /// The hash of a name in this file.
    pub(crate) fn hash(&self, name: &[u8]) -> u64 {
        layout::hash_name(self.seed, name)
    }

    /// Its words.
    pub(crate) const fn region(&self) -> &R {
        &self.region
    }

    /// Its sizes.
    pub(crate) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Number of live names.
    pub(crate) const fn live(&self) -> usize {
        self.live
    }

    /// Number of owners in the directory.
    pub(crate) fn owners(&self) -> usize {
        self.owners.len()
    }

    /// Words of the arena that live names take.
    pub(crate) fn live_arena_words(&self) -> usize {
        let view = self.view();
        view.slots()
            .iter()
            .filter(|slot| slot[S_HASH].load(Ordering::Relaxed) != 0 && is_live(view.read(slot)))
            .map(|slot| (slot[S_KEY].load(Ordering::Relaxed) & 0xffff) as usize)
            .filter(|&length| length > INLINE_NAME_BYTES)
            .map(|length| length.div_ceil(WORD))
            .sum()
    }

    /// Writes the value of a name that has a slot; what it was before, or
    /// nothing if there is no such slot.
    fn update(&mut self, hash: u64, name: &[u8], packed: Packed) -> Option<Packed> {
        let view = self.view();
        let slot = view.find(hash, name)?;
        let before = view.read(slot)?;
        if before == packed {
            return Some(before);
        }
        twin::write(&slot[S_TWIN..], &packed.0);
        match (is_live(Some(before)), is_live(Some(packed))) {
            (false, true) => self.live += 1,
            (true, false) => self.live -= 1,
            _ => {}
        }
        self.written();
        Some(before)
    }

    /// Gives a name that has none a slot.
    fn insert(&mut self, hash: u64, name: &[u8], packed: Packed) -> Result<(), Full> {
        if self.used == self.geometry.capacity {
            return Err(Full::Slots);
        }
        let view = self.view();
        let slots = view.slots();
        let home = layout::home(hash, slots.len());
        let free = (0..PROBE_LIMIT)
            .map(|step| &slots[(home + step) % slots.len()])
            .find(|slot| slot[S_HASH].load(Ordering::Relaxed) == 0)
            .ok_or(Full::Crowded)?;

        let mut arena_used = self.arena_used;
        if name.len() <= INLINE_NAME_BYTES {
            store_bytes(&free[S_NAME..], name);
            free[S_KEY].store(name.len() as u64, Ordering::Relaxed);
        } else {
            let words = name.len().div_ceil(WORD);
            if arena_used + words > self.geometry.arena {
                return Err(Full::Arena);
            }
            let arena = &self.region[layout::SLOTS + slots.len() * SLOT..];
            store_bytes(&arena[arena_used..arena_used + words], name);
            let key = (arena_used as u64) << 32 | name.len() as u64;
            free[S_KEY].store(key, Ordering::Relaxed);
            arena_used += words;
        }
        twin::write(&free[S_TWIN..], &packed.0);
        // Last: until here the slot is free for readers and for a successor.
        free[S_HASH].store(hash, Ordering::Release);

        self.arena_used = arena_used;
        self.used += 1;
        self.live += usize::from(is_live(Some(packed)));
        self.written();
        Ok(())
    }

    /// This file's index for an owner of another file, name included.
    fn take_owner<S: Deref<Target = [AtomicU64]>>(&mut self, from: &Content<S>, index: u16) -> u16 {
        let Some(at) = usize::from(index).checked_sub(1).filter(|&at| at < OWNERS) else {
            return 0;
        };
        let owner = NodeId(from.region[OWNER_IDS + at].load(Ordering::Relaxed));
        if let Some(&index) = self.owners.get(&owner) {
            return index;
        }
        let Some(index) = self.owner_index(owner) else {
            return 0;
        };
        let mut name = [0; NODE_NAME_BYTES];
        if let Some(length) = from.view().owner_name(owner, &mut name) {
            self.name_owner(index, &String::from_utf8_lossy(&name[..length]));
        }
        index
    }

    /// Counts a write, for readers of the statistics.
    fn written(&self) {
        let writes = &self.region[H_WRITES];
        let count = writes.load(Ordering::Relaxed).wrapping_add(1);
        writes.store(count, Ordering::Relaxed);
        self.count();
    }

    /// Shows the counts to readers of the statistics.
    fn count(&self) {
        for (at, count) in [
            (H_USED, self.used),
            (H_LIVE, self.live),
            (H_ARENA_USED, self.arena_used * WORD),
        ] {
            self.region[at].store(count as u64, Ordering::Relaxed);
        }
    }
}

/// Whether a value is one of a name that was not removed.
fn is_live(packed: Option<Packed>) -> bool {
    packed.is_some_and(Packed::is_live)
}

/// Stores bytes in words, zero after their end.
fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let mut chunks = bytes.chunks(WORD);
    for word in words {
        let chunk = chunks.next().unwrap_or_default();
        let mut padded = [0; WORD];
        padded[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
    }
}
