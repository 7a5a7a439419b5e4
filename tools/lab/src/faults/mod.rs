//! What is done to agents and machine on purpose, and undone at the end.

mod busy;
pub(crate) mod fakes;
pub(crate) mod flood;
pub(crate) mod relay;
mod throttle;

use std::path::{Path, PathBuf};

pub(crate) use busy::Busy;

use self::relay::Relay;
use self::throttle::Throttles;

/// The faults of one run.
pub(crate) struct Faults {
    /// Agents that are given less of a processor.
    pub(crate) throttles: Throttles,
    /// The relay, if one was put on the wires.
    pub(crate) relay: Option<Relay>,
    /// A folder for what a fault needs.
    pub(crate) dir: PathBuf,
}

impl Faults {
    /// None yet.
    pub(crate) fn new(id: &str, dir: &Path) -> Self {
        Self {
            throttles: Throttles::new(id),
            relay: None,
            dir: dir.to_owned(),
        }
    }
}
