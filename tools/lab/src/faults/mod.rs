//! What is done to agents and machine on purpose, and undone at the end.

mod busy;
mod throttle;

use std::path::{Path, PathBuf};

pub(crate) use busy::Busy;

use self::throttle::Throttles;

/// The faults of one run.
pub(crate) struct Faults {
    /// Agents that are given less of a processor.
    pub(crate) throttles: Throttles,
    /// A folder for what a fault needs.
    pub(crate) dir: PathBuf,
}

impl Faults {
    /// None yet.
    pub(crate) fn new(id: &str, dir: &Path) -> Self {
        Self {
            throttles: Throttles::new(id),
            dir: dir.to_owned(),
        }
    }
}
