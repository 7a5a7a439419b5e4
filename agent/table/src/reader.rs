//! The reader of a table's file: a handle that any number of threads share.
//!
//! A lookup takes no lock, allocates nothing, reads no clock and makes no
//! system call. Only when the writer has moved to a new file, or has been
//! silent for long, does one lookup among them look where the path leads now;
//! the others go on in the old file meanwhile.
//!
//! How threads can read while one of them replaces the mapping: the handle's
//! own words (address, sizes) are a [twin], like an entry. Old
//! files are let go by showing zeros in their address range, which stays
//! mapped, so a lookup under way never faults; it notices at its end that the
//! handle has moved and starts over.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;
use watchfire_wire::NodeId;

use crate::entry::Entry;
use crate::error::TableError;
use crate::file;
use crate::layout::{self, WORD};
use crate::limits::{
    CAPACITY_MAX, FOLLOW_MOVED_NS, FOLLOW_STALE_NS, MOVE_TRIES, NAME_BYTES, RANGES,
};
use crate::mapping::{self, Range};
use crate::pop_state::PopState;
use crate::rule::{self, PoolRule, Usage, WhenStale};
use crate::sync::{AtomicU64, Ordering};
use crate::twin;
use crate::verify::{Stat, Verification};
use crate::view::{Freshness, Lookup, Raw, View};

/// Reads a table's file. Share it between threads by reference.
#[derive(Debug)]
pub struct Reader {
    handle: Handle,
    /// No thread looks for a new file before these times, nanoseconds: after a
    /// look that found none because the table had moved, because it was stale.
    next_look_ns: [AtomicU64; 2],
    shown: Mutex<Shown>,
}

/// A twin of the mapping's address, its words and slots (see [`sizes`]), and
/// its seed, in one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Handle([AtomicU64; twin::words(3)]);

/// What the handle shows, for the one thread that changes it.
#[derive(Debug)]
struct Shown {
    path: PathBuf,
    /// Device and inode of the file that is shown.
    file: (u64, u64),
    ranges: Vec<Range>,
    /// The range that shows it.
    active: usize,
}

/// Where an iteration stands: begin with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cursor {
    /// The generation of the file; zero before the first step.
    pub generation: u64,
    /// The next slot to look at.
    pub slot: u64,
}

/// Nothing is known of the writer.
const NEVER: Freshness = Freshness {
    age_ns: u64::MAX,
    fresh: false,
};

/// The writer moved to another file during an iteration: start over with a new
/// cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved;

impl Reader {
    /// Opens the table at this path.
    ///
    /// # Errors
    /// There is none, this user may not read it, or it is not a table that
    /// this program understands.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let (file, words, id) = open_table(path)?;
        let range = Range::showing(&file, words * WORD)
            .map_err(|errno| TableError::of_errno(path, "map", errno))?;
        let (slots, seed) = head_of(range.words(words), path)?;
        let mut ranges = Vec::with_capacity(RANGES);
        let handle = Handle(Default::default());
        twin::write(&handle.0, &[range.base(), sizes(words, slots), seed]);
        ranges.push(range);
        Ok(Self {
            handle,
            next_look_ns: Default::default(),
            shown: Mutex::new(Shown {
                path: path.to_owned(),
                file: id,
                ranges,
                active: 0,
            }),
        })
    }

    /// Looks an origin up by its name. `now_ns` is the caller's
    /// `CLOCK_MONOTONIC`.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &[u8], now_ns: u64) -> Lookup {
        // Nearly every lookup is done at the first try; the loops are apart so
        // that it stays in registers.
        if let Some((view, seen)) = self.pin() {
            let freshness = self.look(&view, now_ns);
            let raw = view.raw_once(view.hash(name), name);
            if !matches!(raw, Raw::Busy) && twin::unmoved(&self.handle.0, seen) {
                return raw.with(freshness);
            }
        }
        self.get_again(name, now_ns)
    }

    /// What to do with an origin, by [the rule](crate::rule) that all readers
    /// follow.
    #[inline]
    #[must_use]
    pub fn usage(&self, name: &[u8], now_ns: u64, when_stale: WhenStale) -> Usage {
        rule::usage(Some(&self.get(name, now_ns)), when_stale)
    }

    /// What to do with each origin of a pool, one in `usages` for each of
    /// `names`; gives whether the pool is in panic.
    pub fn pool(
        &self,
        names: &[&[u8]],
        now_ns: u64,
        rule: &PoolRule,
        usages: &mut [Usage],
    ) -> bool {
        let usages = &mut usages[..names.len()];
        rule::pool(rule, |at| Some(self.get(names[at], now_ns)), usages)
    }

    /// How the POP is, and since when. A table that nobody writes any more says
    /// how it was.
    #[must_use]
    pub fn pop_state(&self) -> PopState {
        self.stable(|view| view.pop_state()).unwrap_or_default()
    }

    /// Whether somebody still writes the table.
    #[must_use]
    pub fn freshness(&self, now_ns: u64) -> Freshness {
        self.stable(|view| self.look(view, now_ns)).unwrap_or(NEVER)
    }

    /// Follows the writer to its present file, if it has moved, without
    /// waiting for a lookup to notice. Says whether it had.
    ///
    /// # Errors
    /// The present file cannot be opened; the handle stays on the old one.
    pub fn refresh(&self) -> Result<bool, TableError> {
        match self.shown.try_lock() {
            Ok(mut shown) => shown.follow(&self.handle),
            // Another thread is at it.
            Err(_) => Ok(false),
        }
    }

    /// The next live name after the cursor, written to `name`, with its length
    /// and its entry; nothing at the end.
    ///
    /// # Errors
    /// The writer has moved to another file meanwhile.
    pub fn next(
        &self,
        cursor: &mut Cursor,
        name: &mut [u8; NAME_BYTES],
    ) -> Result<Option<(usize, Entry)>, Moved> {
        let step = self.stable(|view| {
            let generation = view.generation();
            if cursor.generation != 0 && cursor.generation != generation {
                return Err(Moved);
            }
            let first = usize::try_from(cursor.slot).unwrap_or(usize::MAX);
            let found = (first..view.slot_count())
                .find_map(|slot| view.entry_at(slot, name).map(|found| (slot, found)));
            let slot = found.map_or(view.slot_count(), |(slot, _)| slot + 1);
            let next = Cursor {
                generation,
                slot: slot as u64,
            };
            Ok((next, found.map(|(_, found)| found)))
        });
        let (next, found) = step.ok_or(Moved)??;
        *cursor = next;
        Ok(found)
    }

    /// Every live name with its entry, in no particular order, of one file.
    #[must_use]
    pub fn entries(&self) -> Vec<(Vec<u8>, Entry)> {
        self.stable(|view| view.entries()).unwrap_or_default()
    }

    /// The configured name of an owner, if the table knows it.
    #[must_use]
    pub fn owner_name(&self, owner: NodeId) -> Option<String> {
        let mut name = [0; watchfire_wire::limits::NODE_NAME_BYTES];
        let length = self.owner_name_into(owner, &mut name)?;
        Some(String::from_utf8_lossy(&name[..length]).into_owned())
    }

    /// Like [`Reader::owner_name`], without allocation: the name is written to
    /// `name`, its length is returned.
    pub fn owner_name_into(
        &self,
        owner: NodeId,
        name: &mut [u8; watchfire_wire::limits::NODE_NAME_BYTES],
    ) -> Option<usize> {
        self.stable(|view| view.owner_name(owner, name))?
    }

    /// Values written since the table was made, by the writer's statistics: who
    /// watches many tables looks only into those where this changed. It starts
    /// anew when a writer adopts the table.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.stable(|view| view.word(layout::H_WRITES)).unwrap_or(0)
    }

    /// Measures the table; visits every slot.
    #[must_use]
    pub fn stat(&self, now_ns: u64) -> Option<Stat> {
        self.stable(|view| view.stat(now_ns))
    }

    /// Checks everything that a writer of this layout keeps true.
    #[must_use]
    pub fn verify(&self) -> Option<Verification> {
        self.stable(|view| view.verify())
    }

    /// A lookup that the writer overtook, or under which the handle moved.
    #[cold]
    #[inline(never)]
    fn get_again(&self, name: &[u8], now_ns: u64) -> Lookup {
        let found = self.stable(|view| (view.raw(view.hash(name), name), self.look(view, now_ns)));
        match found {
            Some((raw, freshness)) => raw.with(freshness),
            None => Raw::Busy.with(NEVER),
        }
    }

    /// Runs a read on one file from beginning to end; nothing if the handle
    /// moves again and again.
    fn stable<T>(&self, mut read: impl FnMut(&View<'_>) -> T) -> Option<T> {
        for _ in 0..MOVE_TRIES {
            let Some((view, seen)) = self.pin() else {
                continue;
            };
            let answer = read(&view);
            if twin::unmoved(&self.handle.0, seen) {
                return Some(answer);
            }
        }
        None
    }

    /// What the handle shows now, and the handle's counter: what is read from
    /// the view counts only if [`twin::unmoved`] says so afterwards.
    #[inline(always)]
    fn pin(&self) -> Option<(View<'_>, u64)> {
        let (seen, [base, sizes, seed]) = twin::read(&self.handle.0)?;
        let (words, slots) = (sizes as u32 as usize, (sizes >> 32) as usize);
        // SAFETY: the handle's twin was read whole, so these are the base and
        // the length of one of this reader's ranges; ranges are dropped with
        // the reader only, which the view does not outlive.
        let words = unsafe { mapping::words_at(base, words) };
        Some((View::with_slots(words, slots, seed), seen))
    }

    /// The file's freshness; looks for a new file if this one has moved or is
    /// stale. If there is one, the handle moves, and the read that asked starts
    /// over.
    #[inline]
    fn look(&self, view: &View<'_>, now_ns: u64) -> Freshness {
        let freshness = view.freshness(now_ns);
        let moved = view.moved();
        if moved || !freshness.fresh {
            self.look_for_another(moved, now_ns);
        }
        freshness
    }

    /// Follows the writer, if it is time to look and nobody else is at it.
    #[cold]
    #[inline(never)]
    fn look_for_another(&self, moved: bool, now_ns: u64) {
        let (next_look_ns, pause_ns) = if moved {
            (&self.next_look_ns[0], FOLLOW_MOVED_NS)
        } else {
            (&self.next_look_ns[1], FOLLOW_STALE_NS)
        };
        if now_ns < next_look_ns.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut shown) = self.shown.try_lock()
            && !shown.follow(&self.handle).is_ok_and(|followed| followed)
        {
            // The old file still stands and tells its age; nothing is lost by
            // trying again later.
            next_look_ns.store(now_ns.saturating_add(pause_ns), Ordering::Relaxed);
        }
    }
}

impl Shown {
    /// Shows the file that the path names now, if it is another one.
    fn follow(&mut self, handle: &Handle) -> Result<bool, TableError> {
        let (file, words, id) = open_table(&self.path)?;
        if id == self.file {
            return Ok(false);
        }
        let index = self
            .take_range(&file, words * WORD)
            .map_err(|errno| TableError::of_errno(&self.path, "map", errno))?;
        let (slots, seed) = match head_of(self.ranges[index].words(words), &self.path) {
            Ok(head) => head,
            Err(error) => {
                // A range that shows nothing useful is free for the next file.
                let _ = self.ranges[index].blank();
                return Err(error);
            }
        };
        let base = self.ranges[index].base();
        twin::write(&handle.0, &[base, sizes(words, slots), seed]);
        // After the handle has moved: whoever reads zeros in here finds that
        // out and starts over.
        let _ = self.ranges[self.active].blank();
        self.active = index;
        self.file = id;
        Ok(true)
    }

    /// A range, other than the active one, that shows this file now.
    fn take_range(&mut self, file: &File, bytes: usize) -> Result<usize, Errno> {
        let spare = (0..self.ranges.len())
            .filter(|&i| i != self.active && self.ranges[i].bytes() >= bytes)
            .min_by_key(|&i| self.ranges[i].bytes());
        if let Some(index) = spare {
            self.ranges[index].show(file, bytes)?;
            return Ok(index);
        }
        if self.ranges.len() == RANGES {
            return Err(Errno::ENOMEM);
        }
        self.ranges.push(Range::showing(file, bytes)?);
        Ok(self.ranges.len() - 1)
    }
}

/// Opens a file that may be a table: its words, and its device and inode.
fn open_table(path: &Path) -> Result<(File, usize, (u64, u64)), TableError> {
    let file = file::open(path, false)?;
    file::examine_owner(&file, path, file::Trusts::Readers)?;
    let words = file::whole_words(&file, path)?;
    let found = file.metadata().map_err(|e| {
        TableError::of_errno(
            path,
            "examine",
            Errno::from_raw(e.raw_os_error().unwrap_or(0)),
        )
    })?;
    Ok((file, words, (found.dev(), found.ino())))
}

/// Reads the header of a mapped file: its slots and its seed.
fn head_of(words: &[AtomicU64], path: &Path) -> Result<(usize, u64), TableError> {
    let view = View::new(words).map_err(|error| TableError::of_layout(path, error))?;
    Ok((view.slot_count(), view.seed()))
}

/// Words and slots of a file in one word of the handle.
const fn sizes(words: usize, slots: usize) -> u64 {
    words as u64 | (slots as u64) << 32
}

const _: () = assert!(
    layout::SLOTS + 2 * CAPACITY_MAX * layout::SLOT < u32::MAX as usize / 2,
    "the words of the largest table fit 32 bits"
);
