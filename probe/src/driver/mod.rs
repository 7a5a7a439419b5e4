//! What carries out the engine's actions: io_uring or epoll.

pub(crate) mod epoll;
mod route;
pub(crate) mod socket;
pub(crate) mod uring;
mod uring_entries;
mod uring_queue;
pub(crate) mod uring_setup;
mod uring_slots;
mod ways;

use core::time::Duration;
use std::io;

use watchfire_probe_core::engine::{Action, Engine};
use watchfire_wire::Time;

/// One thread's way to the kernel.
pub(crate) trait Driver {
    /// Carries out `actions` for `engine`, or takes note of them. What fails
    /// at once becomes an event of the next harvest.
    fn carry_out(&mut self, engine: &Engine, actions: &[Action]);

    /// Waits until something happened, at most `timeout`.
    ///
    /// # Errors
    ///
    /// The driver is broken for good; its thread cannot go on.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;

    /// Tells `engine` everything that has happened, as of `now`. Returns
    /// whether another thread asked for attention.
    ///
    /// # Errors
    ///
    /// The driver is broken for good; its thread cannot go on.
    fn harvest(&mut self, engine: &mut Engine, now: Time) -> io::Result<bool>;
}

/// How many of these actions wait for a word of an origin.
fn awaited(actions: &[Action]) -> usize {
    let waits = |action: &&Action| matches!(action, Action::Open(_) | Action::Exchange(_));
    actions.iter().filter(waits).count()
}

/// Bytes received at once.
pub(crate) const RECEIVE_BYTES: usize = 4_096;
