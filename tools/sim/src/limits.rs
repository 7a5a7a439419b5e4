//! Every bound that the simulator holds the core to, and its own limits.

use watchfire_core::limits as core;

/// The oracles sweep over all checks and nodes this often, microseconds.
pub const SWEEP_US: u64 = 250_000;

/// Winners that one sweep reads, over all nodes; the next sweep reads others.
pub const WINNERS_PER_SWEEP: usize = 5_000;

/// Beyond its interval, no check goes unprobed for longer than this after one
/// fault on a network that delivers, microseconds.
pub const TAKEOVER_BOUND_US: u64 = 4_000_000;

/// The same while faults overlap: the successor may be the next to die, and
/// what should tell of it may be lost. Of 400 seeds with all faults one comes
/// above 13 s: replays keep an owner on the other side of a split alive.
pub const TAKEOVER_BOUND_ROUGH_US: u64 = 14_000_000;

/// A small component that is cut off must find out about each of the others;
/// for each one that falls to each of its nodes it may take this long,
/// microseconds.
pub const MINORITY_US_PER_OTHER: u64 = 3_000_000;

/// A node takes part at the latest so long after its start, microseconds.
pub const JOIN_BOUND_US: u64 = 8_000_000;

/// All replicas agree at the latest so long after the last fault, and every
/// check has exactly one prober, microseconds.
pub const CONVERGENCE_BOUND_US: u64 = 15_000_000;

/// A verdict on which no newer word has come is in every table that can be
/// reached at the latest so long after it was written, microseconds.
pub const SPREAD_BOUND_US: u64 = 10_000_000;

/// A Down (or Up) is excused if the origin was bad (or good) within so many
/// intervals before it was written: probing to fall, a second opinion, and a
/// writer that was stopped in between.
pub const TRUTH_INTERVALS: u64 = 8;

/// In a quiet minute at most this share of probes may be a second one of their
/// interval.
pub const QUIET_DUPLICATES: f64 = 0.001;

/// A handover overlaps until the taker's first outcome is known to the other:
/// no longer than so many intervals.
pub const HANDOVER_INTERVALS: u64 = 2;

/// In the quiet minute a check is written at most once in so many seconds: a
/// false suspicion or a lost probe may cost a write, steady probing none.
pub const QUIET_S_PER_WRITE: u64 = 5;

/// Collections of a node's own releases in a gentle run; each takes a sequence
/// number, as a write does.
pub const COLLECTIONS_PER_NODE: u64 = 8;

/// One write in so many may have another reason: two nodes that begin at once
/// may both write.
pub const EXCESS_WRITES_DIVISOR: u64 = 10;

/// A member that runs, and one that holds it for dead, count as healthy once
/// nobody has been stopped or held back for this long, microseconds: before
/// that, somebody's wrong word may still be on its way.
pub const HEALTHY_AFTER_US: u64 = 10_000_000;

/// Highest local health score of a node when a peer is really dead, on a
/// network that loses nothing: that a peer is silent is no sign that one's own
/// ears are bad.
pub const HEALTH_SCORE: u32 = 1;

/// Bytes that an address which is no member's may draw beyond what it sent.
pub const STRANGER_EXCESS_BYTES: u64 = 0;

/// Datagrams that wait in the socket of a stopped process. At the limit newer
/// ones are lost, as the kernel would lose them.
pub const SOCKET_DATAGRAMS: usize = 2_000;

/// Nothing of a liar is left so long after its end, microseconds.
pub const LIES_END_US: u64 = 30_000_000;

/// Words on checks that nobody configures, of one name, that agents take where
/// somebody lies.
pub const FOREIGN_LEAST: usize = 100;

/// Violations that one run reports. It ends at the limit.
pub const VIOLATIONS: usize = 8;

/// Outputs that a node may give for one input. More is a runaway.
pub const OUTPUTS_PER_INPUT: usize = 200_000;

/// Clocks run at different rates: a node's second may be so much shorter.
pub const SECOND_SLACK: f64 = 1.01;

/// Datagrams that an agent may send per second on average.
pub const DATAGRAMS_PER_S: f64 = core::DATAGRAMS_PER_SECOND as f64 * SECOND_SLACK;
/// How many more in a burst, what acks may overdraw included.
pub const DATAGRAM_BURST: f64 = (core::DATAGRAM_BURST + core::ACK_DEBT + 1) as f64;

/// Bytes of datagrams that an agent may send per second on average.
pub const DATAGRAM_BYTES_PER_S: f64 =
    DATAGRAMS_PER_S * core::DATAGRAM_COST_BYTES as f64 * SECOND_SLACK;
/// How many more in a burst.
pub const DATAGRAM_BYTES_BURST: f64 = DATAGRAM_BURST * core::DATAGRAM_COST_BYTES as f64;

/// Bytes on bulk streams that an agent may send per second on average.
pub const BULK_BYTES_PER_S: f64 = core::BULK_BYTES_PER_SECOND as f64 * SECOND_SLACK;
/// How many more in a burst: a frame is not cut, and what asks for one is not
/// counted.
pub const BULK_BYTES_BURST: f64 = (core::BULK_BURST + 2 * core::BULK_FRAME_BYTES as u64) as f64;

/// In any ten seconds at most so many times the probes that the checks want
/// are started, second opinions apart.
pub const PROBE_RATIO: f64 = 1.5;

/// The first so many seconds of a POP are excepted from it.
pub const PROBE_GRACE_S: u64 = 10;

/// Nodes that may probe one check at a time for longer than it takes to notice
/// each other.
pub const PROBERS: usize = 3;

/// That time, microseconds.
pub const PROBERS_NOTICE_US: u64 = 1_000_000;

/// After the end of a load everything is calm at the latest after this,
/// microseconds.
pub const CALM_BOUND_US: u64 = 10_000_000;
