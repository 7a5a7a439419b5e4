//! The one place where the agent reads clocks.

use nix::time::{ClockId, clock_gettime};
use watchfire_wire::Time;

/// `CLOCK_MONOTONIC`: what the cores and the table's heartbeat count in.
pub(crate) fn now() -> Time {
    Time::from_micros(now_ns() / 1_000)
}

/// `CLOCK_MONOTONIC` in nanoseconds, as the table wants it.
pub(crate) fn now_ns() -> u64 {
    read_ns(ClockId::CLOCK_MONOTONIC)
}

/// The wall clock, milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    read_ns(ClockId::CLOCK_REALTIME) / 1_000_000
}

/// What this server's wall clock shows at the monotonic clock's zero, and whether
/// something keeps it right.
pub(crate) fn wall_at_zero() -> watchfire_core::overrides::Wall {
    watchfire_core::overrides::Wall {
        at_zero_ms: wall_ms().saturating_sub(now().as_millis()),
        synchronised: watchfire_probe::is_synchronised(),
    }
}

/// The wall clock, since 1970.
pub(crate) fn wall() -> std::time::Duration {
    std::time::Duration::from_nanos(read_ns(ClockId::CLOCK_REALTIME))
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("Linux has this clock");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}
