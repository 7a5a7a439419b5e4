//! Time as the cores see it: a number that somebody else read from a clock.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// Microseconds on a monotonic clock whose zero means nothing.
///
/// In production this is `CLOCK_MONOTONIC`, in the simulator virtual time.
/// Arithmetic saturates: a deadline past the end of time is the end of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Before everything.
    pub const ZERO: Self = Self(0);
    /// After everything; as a deadline, "never".
    pub const NEVER: Self = Self(u64::MAX);

    /// The time `us` microseconds after the clock's zero.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// The time `ms` milliseconds after the clock's zero.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000))
    }

    /// Microseconds since the clock's zero.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the clock's zero.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// When a check is probed first by whoever begins to probe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// At its phase, or so much ahead of it that whoever probed it before hears
    /// of this in time to leave its own next probe out.
    Phase {
        /// How much.
        ahead: Duration,
    },
    /// So much after its phase: whoever probed it before does so once more, and
    /// has the rest of the interval to hear of this.
    AfterPhase(Duration),
    /// Then.
    At(Time),
}

impl First {
    /// At the check's phase.
    pub const PHASE: Self = Self::Phase {
        ahead: Duration::ZERO,
    };
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        let us = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(us))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        let us = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(us))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
