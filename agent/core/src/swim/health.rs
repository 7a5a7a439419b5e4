//! Lifeguard's local health: how far this node's own judgement can be trusted.
//!
//! A node that misses acks, nacks and deadlines is more likely slow itself
//! than surrounded by failures. Its score stretches the failure detector's
//! waits.

use core::time::Duration;

use super::limits::HEALTH_MAX;

/// 0 is well; [`HEALTH_MAX`] is the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Health(u32);

impl Health {
    /// Something went wrong that may be our own fault.
    pub(super) fn worsen(&mut self, by: u32) {
        self.0 = self.0.saturating_add(by).min(HEALTH_MAX);
    }

    /// A round went well.
    pub(super) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// The wait, as long as the score makes it.
    pub(super) fn stretch(self, wait: Duration) -> Duration {
        wait * (self.0 + 1)
    }

    /// The score.
    pub(super) const fn score(self) -> u32 {
        self.0
    }
}
