//! Replication: single-writer slots, pulled.
//!
//! The map is a product of max-registers, one per actor and check, each written
//! by its actor alone; a node asks for what lies above its claims and applies
//! the answer whole. See `ALGORITHM.md` beside the sources for the invariants
//! and why the simpler rules do not hold.

mod arena;
mod aside;
mod config;
mod delta;
mod exchange;
#[cfg(any(test, feature = "mutations"))]
pub mod exhaustive;
mod join;
mod news;
mod pulls;
mod replicator;
mod serve;
mod share;
mod store;

pub use self::config::{ReplicaConfig, ReplicaCounters};
pub use self::delta::{Answer, FIRST, LAST, after};
pub use self::join::Applied;
pub(crate) use self::news::children;
pub use self::replicator::{Out, Peer, Replicator};
pub use self::serve::Frame;
pub use self::store::{CheckHasher, Collect, Store, Word};

#[cfg(test)]
mod tests;
