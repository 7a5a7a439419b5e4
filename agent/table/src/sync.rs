//! The atomic words of a table: the processor's, or the model checker's.
//!
//! Built with `--cfg loom`, the entry protocol runs on loom's atomics, which
//! try every interleaving and every value that the memory model allows.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
