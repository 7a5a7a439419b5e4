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

/// Whether something keeps the wall clock right, by the kernel's word (NTP, PTP).
#[must_use]
pub fn is_synchronised() -> bool {
    // SAFETY: all fields of a timex are integers, so zeros are one.
    let mut timex: libc::timex = unsafe { core::mem::zeroed() };
    // SAFETY: with `modes` zero the call only fills the structure in, which is
    // ours and lives longer than the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    state != -1 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}

fn micros(clock: ClockId) -> u64 {
    // These clocks exist on every Linux; the call has no other way to fail.
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1_000
    })
}
