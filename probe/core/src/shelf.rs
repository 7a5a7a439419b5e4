//! What is changed through a shared reference, of a type that threads may share:
//! a check's TLS session, which both libraries put away so, and the tape of a
//! probe, which is looked at when it is over.

#![expect(
    clippy::disallowed_types,
    reason = "no lock is waited for: what lies here is one thread's at a time, and the \
              interfaces cannot say so"
)]

use core::fmt;
use std::sync::{Mutex, PoisonError};

/// Something that is changed through a shared reference.
#[derive(Default)]
pub struct Shelf<T>(Mutex<T>);

impl<T> Shelf<T> {
    /// Looks at it, or changes it.
    pub fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        // What lies there is whole whenever nobody looks.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}
