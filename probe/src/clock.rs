//! The clocks, read here and nowhere below.

use nix::time::{ClockId, clock_gettime};
use watchfire_wire::Time;

/// `CLOCK_MONOTONIC`, whole microseconds: the time base of the whole agent.
#[must_use]
pub fn now() -> Time {
    Time(micros(ClockId::CLOCK_MONOTONIC))
}

/// The wall clock, microseconds since 1970.
pub(crate) fn wall_us() -> u64 {
    micros(ClockId::CLOCK_REALTIME)
}

/// CPU time that this thread has used, user and system, microseconds.
pub(crate) fn thread_cpu_us() -> u64 {
    micros(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn micros(clock: ClockId) -> u64 {
    // These clocks exist on every Linux; the call has no other way to fail.
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1_000
    })
}
