//! Wakes a probe thread: an eventfd that its driver watches.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// One thread's doorbell. Ringing it twice before it is heard is ringing it
/// once.
#[derive(Debug)]
pub(crate) struct Wake(EventFd);

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        // Blocking: a ring's read of it is to wait, and nobody else reads it
        // before it rang.
        Ok(Self(EventFd::from_value_and_flags(
            0,
            EfdFlags::EFD_CLOEXEC,
        )?))
    }

    /// Rings.
    pub(crate) fn ring(&self) {
        let _ = self.0.write(1);
    }

    /// Takes the ringing back, once a driver that only watches saw it.
    pub(crate) fn hear(&self) {
        let _ = self.0.read();
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
