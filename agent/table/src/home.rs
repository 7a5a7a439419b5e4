//! Where tables live: files in production, the heap for models and simulators.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::TableError;
use crate::layout::LayoutError;
use crate::sync::AtomicU64;
use crate::view::{Lookup, View};

/// A place that holds one table at a time and gives room for its successor.
pub trait Home {
    /// The words of one table.
    type Region: Deref<Target = [AtomicU64]>;

    /// The table that is here already, for its new writer.
    ///
    /// # Errors
    /// What is here cannot be opened.
    fn current(&mut self) -> Result<Option<Self::Region>, TableError>;

    /// A number that nobody else knows, for the hashes of a new table.
    ///
    /// # Errors
    /// The system gives none.
    fn seed(&mut self) -> Result<u64, TableError>;

    /// Room for a new table, all zero. Nobody else sees it yet.
    ///
    /// # Errors
    /// There is no such room, all of it backed by memory.
    fn allocate(&mut self, words: usize) -> Result<Self::Region, TableError>;

    /// Puts the region allocated last in the place of the current one: whoever
    /// opens from now on gets it.
    ///
    /// # Errors
    /// The place cannot be changed; the current table still stands.
    fn install(&mut self, region: &Self::Region) -> Result<(), TableError>;

    /// Takes what is here out of the way, for a table to be installed in its
    /// place. Where it is now, in words for the log.
    ///
    /// # Errors
    /// The place cannot be changed; what is here stays.
    fn set_aside(&mut self) -> Result<PathBuf, TableError>;

    /// Whether whoever opens this place gets the table that was installed or
    /// found here last.
    ///
    /// # Errors
    /// The place cannot be examined, or another writer has it now.
    fn stands(&mut self) -> Result<bool, TableError>;

    /// What errors call this place.
    fn path(&self) -> &Path;
}

/// A table on the heap, for the simulator and for models of the protocol.
/// Clones are the same place.
#[derive(Clone, Debug)]
pub struct HeapHome {
    current: Arc<Mutex<Option<HeapRegion>>>,
    path: PathBuf,
    seeds: u64,
}

/// The words of a table on the heap.
pub type HeapRegion = Arc<[AtomicU64]>;

impl HeapHome {
    /// A place with no table yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            current: Arc::default(),
            path: PathBuf::from("(heap)"),
            seeds: 0,
        }
    }

    fn region(&self) -> Option<HeapRegion> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Default for HeapHome {
    fn default() -> Self {
        Self::new()
    }
}

impl Home for HeapHome {
    type Region = HeapRegion;

    fn current(&mut self) -> Result<Option<HeapRegion>, TableError> {
        Ok(self.region())
    }

    /// One after the other: a simulator's run is repeated word for word, and
    /// nobody attacks its tables.
    fn seed(&mut self) -> Result<u64, TableError> {
        self.seeds += 1;
        Ok(self.seeds)
    }

    fn allocate(&mut self, words: usize) -> Result<HeapRegion, TableError> {
        Ok((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn install(&mut self, region: &HeapRegion) -> Result<(), TableError> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(region));
        Ok(())
    }

    /// Drops it: the heap has no place to keep it.
    fn set_aside(&mut self) -> Result<PathBuf, TableError> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(PathBuf::from("(dropped)"))
    }

    /// Nobody else can take a table from the heap.
    fn stands(&mut self) -> Result<bool, TableError> {
        Ok(true)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a table on the heap.
#[derive(Debug)]
pub struct HeapReader {
    home: HeapHome,
    region: HeapRegion,
}

impl HeapReader {
    /// Opens the table that is in this place.
    ///
    /// # Errors
    /// There is none, or it is not a table.
    pub fn open(home: &HeapHome) -> Result<Self, TableError> {
        let region = home.region().ok_or_else(|| TableError::Missing {
            path: home.path.clone(),
        })?;
        View::new(&region).map_err(|e: LayoutError| TableError::of_layout(&home.path, e))?;
        Ok(Self {
            home: home.clone(),
            region,
        })
    }

    /// Looks an origin up; `now_ns` is on the writer's clock. Follows a moved
    /// table first.
    pub fn get(&mut self, name: &[u8], now_ns: u64) -> Lookup {
        if self.view().moved()
            && let Some(region) = self.home.region()
        {
            self.region = region;
        }
        self.view().get(name, now_ns)
    }

    /// The table as it is now, for listing and checking.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(&self.region).expect("it was checked when it was opened or written by a writer")
    }
}
