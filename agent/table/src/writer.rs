//! The one writer of a table: one thread of one agent.
//!
//! Every step leaves a table that readers and the next writer understand, so
//! the process may die between any two instructions. Names never change inside
//! one file: a removed name keeps its slot until the table moves to a new
//! file.

use std::path::Path;

use watchfire_wire::{Actor, NodeId};

use crate::content::{Content, Full};
use crate::entry::Entry;
use crate::error::TableError;
use crate::file::{self, FileHome};
use crate::home::Home;
use crate::layout::{
    self, FORMER_VERSION, Geometry, H_ADOPTED, H_BOOT, H_EPOCH, H_HEARTBEAT, H_MOVED, H_NODE,
    H_PID, H_POP, H_RATE, H_STALE_AFTER, H_VERSION, H_WRITES,
};
use crate::limits::{NAME_BYTES, OWNERS, PATH_LOOK_NS, RATE_WINDOW_NS, SEEDS, STALE_AFTER_MS};
use crate::notice::Notice;
use crate::pop_state::PopState;
use crate::sync::{AtomicU64, Ordering};
use crate::view::View;

/// How a table is made and who writes it.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Names to make room for; the table grows beyond it by itself.
    pub capacity: usize,
    /// The file's permissions. Readers need only read: that the group or
    /// everybody may write is taken away.
    pub mode: u32,
    /// The file's group, if it is not the process's own.
    pub group: Option<u32>,
    /// The writer's life.
    pub actor: Actor,
    /// The writer's configured name, at most 64 bytes; a longer one is cut.
    pub node_name: String,
    /// A table with an older heartbeat is stale, milliseconds.
    pub stale_after_ms: u64,
    /// Allow a filesystem that is not in memory. A lookup may then wait for a
    /// disk, and a failing disk can kill a reader.
    pub any_filesystem: bool,
}

impl WriterOptions {
    /// The defaults for this agent: 1,024 names, owner writes and group reads,
    /// stale after three seconds, in memory only.
    #[must_use]
    pub fn new(actor: Actor, node_name: &str) -> Self {
        Self {
            capacity: 1_024,
            mode: 0o640,
            group: None,
            actor,
            node_name: node_name.to_owned(),
            stale_after_ms: STALE_AFTER_MS,
            any_filesystem: false,
        }
    }
}

/// The one writer of a table.
#[derive(Debug)]
pub struct Writer<H: Home = FileHome> {
    home: H,
    content: Content<H::Region>,
    options: WriterOptions,
    /// The directory of owners was still full after the last move.
    owners_full: bool,
    heartbeat_ns: u64,
    /// When the write rate was measured last, and the writes until then.
    rated: (u64, u64),
    /// When the writer last looked whether the place still has its table.
    looked_ns: u64,
    /// The number of the error that its last mending ended with.
    unmended: Option<i32>,
    /// For the agent; a newer one takes the place of one that nobody took.
    notice: Option<Notice>,
}

impl Writer<FileHome> {
    /// Makes the table at this path, or adopts the one that an earlier writer
    /// left there: its verdicts stay. A damaged table is set aside, with a
    /// [notice](Self::take_notice), and a new one made.
    ///
    /// # Errors
    /// Another writer lives; the file is no table or one of another layout; the
    /// place is not writable, not in memory or full. What is there was not
    /// changed.
    pub fn open(path: &Path, options: &WriterOptions, now_ns: u64) -> Result<Self, TableError> {
        let home = FileHome::lock(path, options.mode, options.group, options.any_filesystem)
            .map_err(|error| match error {
                TableError::SecondWriter { path, .. } => TableError::SecondWriter {
                    pid: writer_of(&path),
                    path,
                },
                error => error,
            })?;
        Self::open_in(home, options, now_ns)
    }
}

impl<H: Home> Writer<H> {
    /// Like [`Writer::open`], in any home.
    ///
    /// # Errors
    /// What is there is no table of this layout, or there is no room.
    pub fn open_in(mut home: H, options: &WriterOptions, now_ns: u64) -> Result<Self, TableError> {
        let wanted = geometry(options.capacity, 0)?;
        let found = match home.current() {
            Ok(Some(region)) => adopt(home.path(), region).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let (adopted, damage) = match found {
            Ok(adopted) => (adopted, None),
            Err(TableError::Corrupt { what, .. }) => (None, Some(what)),
            Err(error) => return Err(error),
        };
        let is_new = adopted.is_none();
        let content = match adopted {
            Some(content) => content,
            None => {
                let seed = home.seed()?;
                Content::begin(home.allocate(wanted.words())?, wanted, 1, seed)
            }
        };
        let mut writer = Self {
            home,
            content,
            options: options.clone(),
            owners_full: false,
            heartbeat_ns: 0,
            rated: (now_ns, 0),
            looked_ns: now_ns,
            unmended: None,
            notice: None,
        };
        let former = writer.word(H_VERSION).load(Ordering::Relaxed) == FORMER_VERSION;
        writer.sign();
        writer.set_pop_state(PopState::default());
        writer.word(H_ADOPTED).store(now_ns, Ordering::Relaxed);
        writer.heartbeat(now_ns);
        writer.rated.1 = writer.word(H_WRITES).load(Ordering::Relaxed);
        writer.name_node(options.actor.node, &options.node_name)?;
        // Last, when there is a table to take its place.
        if let Some(what) = damage {
            let aside = writer.home.set_aside()?;
            let path = writer.home.path().to_owned();
            writer.notice = Some(Notice::SetAside { path, aside, what });
        }
        if is_new {
            writer.home.install(writer.content.region())?;
        } else if former || writer.content.geometry().capacity < wanted.capacity {
            let found = writer.content.geometry();
            let larger = found.capacity < wanted.capacity;
            writer.rebuild(if larger { wanted } else { found })?;
        }
        if former {
            let path = writer.home.path().to_owned();
            writer.notice = Some(Notice::TakenOver { path });
        }
        Ok(writer)
    }

    /// Says that the writer is alive. Call it a few times per
    /// [`WriterOptions::stale_after_ms`]; `now_ns` is `CLOCK_MONOTONIC`.
    ///
    /// At most once in [`PATH_LOOK_NS`] it also looks whether the path still
    /// names the writer's file. If not, the table moves to a new file there,
    /// and there is a [notice](Self::take_notice).
    pub fn heartbeat(&mut self, now_ns: u64) {
        self.heartbeat_ns = now_ns.max(1);
        self.word(H_HEARTBEAT)
            .store(self.heartbeat_ns, Ordering::Release);
        let (rated_ns, rated_writes) = self.rated;
        let elapsed_ns = now_ns.saturating_sub(rated_ns);
        if elapsed_ns >= RATE_WINDOW_NS {
            let writes = self.word(H_WRITES).load(Ordering::Relaxed);
            let since = u128::from(writes.wrapping_sub(rated_writes));
            let per_second = since * 1_000_000_000 / u128::from(elapsed_ns);
            let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
            self.word(H_RATE).store(per_second, Ordering::Relaxed);
            self.rated = (now_ns, writes);
        }
        if now_ns.saturating_sub(self.looked_ns) >= PATH_LOOK_NS {
            self.looked_ns = now_ns;
            self.mend();
        }
    }

    /// What befell the table's file since the last call and should be logged.
    /// Ask after [`Writer::open`] and after each heartbeat.
    #[must_use]
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// Writes what is held of an origin. The same entry again costs no write.
    ///
    /// # Errors
    /// The name is refused, or the table had to grow and could not; what it
    /// said of this name stands.
    pub fn set(&mut self, name: &[u8], entry: &Entry) -> Result<(), TableError> {
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(TableError::BadName { bytes: name.len() });
        }
        for _ in 0..SEEDS {
            // A move may have given the owner another index.
            let owner = self.owner_index(entry.owner)?;
            match self.content.set(name, entry, owner) {
                Ok(()) => return Ok(()),
                // In a file with another seed the name lies elsewhere.
                Err(Full::Crowded) => self.rebuild(self.content.geometry())?,
                Err(Full::Slots | Full::Arena) => self.grow(name.len())?,
            }
        }
        let hash = self.content.hash(name);
        Err(TableError::Crowded { hash })
    }

    /// Tells readers how the POP is; see [`PopState`].
    pub fn set_pop_state(&mut self, state: PopState) {
        self.word(H_POP).store(state.word(), Ordering::Release);
    }

    /// Takes a name out of the table; says whether it was in.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.content.remove(name)
    }

    /// What the table says of an origin now.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Entry> {
        self.view().get(name, self.heartbeat_ns).entry()
    }

    /// Every live name with its entry: what an adopting agent inherits.
    #[must_use]
    pub fn entries(&self) -> Vec<(Vec<u8>, Entry)> {
        self.view().entries()
    }

    /// Every live name.
    #[must_use]
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.entries().into_iter().map(|(name, _)| name).collect()
    }

    /// Number of live names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.content.live()
    }

    /// Whether no name is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells readers the configured name of a node, so that they can print an
    /// owner in words. A node that has a name keeps it: the id is the name's
    /// hash.
    ///
    /// # Errors
    /// The directory was full and the table could not move.
    pub fn name_node(&mut self, node: NodeId, name: &str) -> Result<(), TableError> {
        let index = self.owner_index(Some(node))?;
        self.content.name_owner(index, name);
        Ok(())
    }

    /// The table as readers see it.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.content.view()
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.content.region()[at]
    }

    /// Writes who writes.
    fn sign(&self) {
        let stale_after_ns = self.options.stale_after_ms.saturating_mul(1_000_000);
        for (at, value) in [
            (H_STALE_AFTER, stale_after_ns),
            (H_NODE, self.options.actor.node.0),
            (H_EPOCH, self.options.actor.epoch),
            (H_BOOT, self.options.actor.boot),
            (H_PID, u64::from(std::process::id())),
        ] {
            self.word(at).store(value, Ordering::Relaxed);
        }
    }

    /// Puts the table back if somebody took it away.
    fn mend(&mut self) {
        let mended = match self.home.stands() {
            Ok(true) => {
                self.unmended = None;
                return;
            }
            Ok(false) => self.rebuild(self.content.geometry()),
            Err(error) => Err(error),
        };
        let errno = mended.as_ref().err().map(TableError::errno);
        match mended {
            Ok(()) => {
                let path = self.home.path().to_owned();
                self.notice = Some(Notice::Restored { path });
            }
            // Said once, not at each try.
            Err(_) if self.unmended == errno => {}
            Err(error) => self.notice = Some(Notice::NotRestored { error }),
        }
        self.unmended = errno;
    }

    /// The directory's index for an owner, one based; zero for none and for
    /// one that finds no room.
    fn owner_index(&mut self, owner: Option<NodeId>) -> Result<u16, TableError> {
        let Some(owner) = owner.filter(|owner| owner.0 != 0) else {
            return Ok(0);
        };
        if let Some(index) = self.content.owner_index(owner) {
            return Ok(index);
        }
        if self.owners_full {
            return Ok(0);
        }
        self.rebuild(self.content.geometry())?;
        self.owners_full = self.content.owners() == OWNERS;
        Ok(self.content.owner_index(owner).unwrap_or(0))
    }

    /// Moves to a file with room for one more name of this length.
    fn grow(&mut self, name_bytes: usize) -> Result<(), TableError> {
        let capacity = self.content.geometry().capacity;
        // With many removed names a file of the same size will do.
        let crowded = self.content.live() * 4 >= capacity * 3;
        let capacity = if crowded { capacity * 2 } else { capacity };
        let arena = 2 * (self.content.live_arena_words() + name_bytes.div_ceil(layout::WORD));
        self.rebuild(geometry(capacity, arena)?)
    }

    /// Moves to a new file: live names and the owners in use. Readers go on
    /// with the old one until it says that it has moved. A writer that dies
    /// before the new file has its name leaves the old one, one that dies
    /// after it leaves readers with a stale file whose path names another.
    fn rebuild(&mut self, geometry: Geometry) -> Result<(), TableError> {
        let generation = self.view().generation() + 1;
        let mut next = self.copy(geometry, generation)?;
        for at in [H_HEARTBEAT, H_POP, H_WRITES, H_RATE, H_ADOPTED] {
            let value = self.word(at).load(Ordering::Relaxed);
            next.region()[at].store(value, Ordering::Relaxed);
        }
        let me = next.owner_index(self.options.actor.node).unwrap_or(0);
        next.name_owner(me, &self.options.node_name);

        let old = std::mem::replace(&mut self.content, next);
        self.sign();
        if let Err(error) = self.home.install(self.content.region()) {
            self.content = old;
            return Err(error);
        }
        self.owners_full = false;
        old.region()[H_MOVED].store(generation, Ordering::Release);
        Ok(())
    }

    /// What the table says, in a new file with a seed of its own, and with
    /// another one if names happen to crowd there.
    fn copy(
        &mut self,
        geometry: Geometry,
        generation: u64,
    ) -> Result<Content<H::Region>, TableError> {
        let mut crowded = 0;
        for _ in 0..SEEDS {
            let seed = self.home.seed()?;
            let region = self.home.allocate(geometry.words())?;
            let mut next = Content::begin(region, geometry, generation, seed);
            match next.fill(&self.content) {
                Ok(()) => return Ok(next),
                Err(hash) => crowded = hash,
            }
        }
        Err(TableError::Crowded { hash: crowded })
    }
}

/// The geometry for so many names.
fn geometry(capacity: usize, arena_words: usize) -> Result<Geometry, TableError> {
    Geometry::for_names(capacity, arena_words).ok_or(TableError::TooManyNames { wanted: capacity })
}

/// Takes over a table that an earlier writer left, if it is sound.
fn adopt<R: std::ops::Deref<Target = [AtomicU64]>>(
    path: &Path,
    region: R,
) -> Result<Content<R>, TableError> {
    let view = View::of_either(&region).map_err(|e| TableError::of_layout(path, e))?;
    if let Some(what) = view.verify().problems.into_iter().next() {
        return Err(TableError::Corrupt {
            path: path.to_owned(),
            what,
        });
    }
    let (geometry, seed) = (view.geometry(), view.seed());
    region[H_MOVED].store(0, Ordering::Relaxed);
    Ok(Content::adopt(region, geometry, seed))
}

/// The process that a table names as its writer.
fn writer_of(path: &Path) -> Option<u64> {
    let file = file::open(path, false).ok()?;
    let mut header = [0; (H_PID + 1) * layout::WORD];
    std::io::Read::read_exact(&mut &file, &mut header).ok()?;
    let pid = u64::from_le_bytes(*header.last_chunk()?);
    (header.starts_with(&layout::MAGIC) && pid != 0).then_some(pid)
}
