//! One clock for everything that is compared: microseconds since 1970, since
//! that is what the origins' log and the agents' text carry.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, microseconds since 1970.
pub(crate) type Us = u64;

/// One second.
pub(crate) const SECOND: Us = 1_000_000;

/// Now.
pub(crate) fn now() -> Us {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as Us)
}

/// A length of time in microseconds.
pub(crate) const fn us(length: Duration) -> Us {
    length.as_micros() as Us
}

/// A length of time in seconds, for people and bounds.
pub(crate) fn seconds(length: Us) -> f64 {
    length as f64 / SECOND as f64
}
