//! Where a check's session lies: both libraries put it there through a shared
//! reference, of a type that threads may share.

#![expect(
    clippy::disallowed_types,
    reason = "no lock is waited for: a check's sessions are its thread's alone, and the libraries' \
              interfaces cannot say so"
)]

use core::fmt;
use std::sync::{Mutex, PoisonError};

/// Something that is changed through a shared reference.
#[derive(Default)]
pub(super) struct Shelf<T>(Mutex<T>);

impl<T> Shelf<T> {
    /// Looks at it, or changes it.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        // What lies there is whole whenever nobody looks.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}
