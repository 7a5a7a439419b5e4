//! Every limit of the probe threads, with what happens at it.

use core::time::Duration;

/// Commands on their way to one thread. The rest waits at the prober, merged
/// by check.
pub(crate) const COMMANDS: usize = 4_096;

/// Reports on their way from one thread. The rest waits at the thread, merged
/// by check.
pub(crate) const REPORTS: usize = 4_096;

/// Commands that a thread takes in one turn, so that a reload of everything
/// does not make it late.
pub(crate) const COMMANDS_PER_TURN: usize = 512;

/// Longest that a thread waits without looking around.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(500);

/// How long a thread that asked several origins in one turn lets their words come
/// together, instead of being woken for each. A probe that speaks twice, as HTTP does
/// after it connected, is taken for slower than it was by at most twice this.
pub(crate) const GATHER_FOR: Duration = Duration::from_micros(500);

/// Words that are let come together at most: more are worth a turn at any time.
pub(crate) const GATHERED_MAX: usize = 32;

/// How soon a thread tries again to hand over reports that found no room.
pub(crate) const REPORT_RETRY: Duration = Duration::from_millis(5);

/// From one publication of a thread's statistics to the next.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// A thread whose last turn is longer ago is stuck.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Longest that an orderly end waits for connections to close.
pub(crate) const END_WITHIN: Duration = Duration::from_secs(2);

/// Open files that the probe threads leave to the rest of the process.
pub const FILES_BESIDE: u64 = 600;

/// Disconnected sockets that one thread keeps for its next probes.
/// Beyond it a socket is closed after its probe. One takes about 4 KB of the
/// kernel's memory, and no open file of the process.
pub(crate) const SOCKETS_KEPT: usize = 1_024;

/// Destinations whose caps are remembered before those without a check are
/// looked for and forgotten.
pub(crate) const PACES_BEFORE_SWEEP: usize = 4_096;

/// Questions that wait for room on the way to one thread. One more is answered
/// with silence at once.
pub(crate) const ASKS_WAITING: usize = 10_000;

/// Ways out of this host for which one thread keeps socket plans. At one more
/// they are forgotten, and made anew when they are needed.
pub(crate) const WAYS_KEPT: usize = 1_024;
