//! Every limit of the shell around the cores, with what happens at it.

use std::time::Duration;

/// Commands from the control thread that wait for the gossip thread. At the
/// limit the control thread waits; nothing is lost.
pub(crate) const COMMANDS: usize = 64;

/// Datagrams that one turn of the gossip loop reads before it looks at timers
/// and probe reports again. The rest waits in the socket's buffer.
pub(crate) const DATAGRAMS_PER_TURN: usize = 256;

/// Probe reports that one turn takes before it looks at the sockets again.
/// The rest waits in the probe threads' queues, coalesced per check.
pub(crate) const REPORTS_PER_TURN: usize = 4_096;

/// Receive buffer asked of the kernel for the gossip socket, bytes: a mass
/// event of a large POP. What does not fit is lost like any datagram.
pub(crate) const SOCKET_RECEIVE_BYTES: usize = 4 << 20;

/// Accepted bulk streams open at once. Above it the newest is closed unread;
/// its peer pulls again.
pub(crate) const BULK_ACCEPTED: usize = 64;

/// Bulk streams that we opened ourselves, at once: a count of its own, so that
/// strangers at the listener cannot take our places. Above it the newest fails
/// and is pulled again.
pub(crate) const BULK_CONNECTED: usize = 64;

/// Streams accepted in one turn; more wait in the kernel for the next.
pub(crate) const BULK_ACCEPTS_PER_TURN: usize = 32;

/// Accepted bulk streams per peer address. Above it the newest is closed.
pub(crate) const BULK_STREAMS_PER_ADDRESS: usize = 4;

/// Time for the first whole frame of an accepted stream, after which it is
/// closed: TCP accepts before it can authenticate.
pub(crate) const BULK_FIRST_FRAME: Duration = Duration::from_millis(250);

/// Life of a bulk stream, after which it is closed and pulled again.
pub(crate) const BULK_LIFE: Duration = Duration::from_secs(10);

/// Largest frame on a bulk stream, bytes. A peer that claims more is cut off.
pub(crate) const BULK_FRAME_BYTES: usize = 256 << 10;

/// Bytes that wait to be sent on one bulk stream. A stream that would need
/// more is closed; 100,000 slots need about 12 MB.
pub(crate) const BULK_OUTBOUND_BYTES: usize = 256 << 20;

/// From one heartbeat of the table to the next. Readers call a table stale
/// after many of them.
pub(crate) const TABLE_HEARTBEAT: Duration = Duration::from_millis(100);

/// How often the origins files' times and sizes are looked at.
pub(crate) const ORIGINS_WATCH: Duration = Duration::from_secs(1);

/// Longest line that the admin socket reads, bytes. A longer one is refused.
pub(crate) const ADMIN_LINE_BYTES: usize = 4_096;

/// Admin connections served at once. Above it the newest is closed.
pub(crate) const ADMIN_CONNECTIONS: usize = 16;

/// Time that an admin or agent-check connection may take for one line.
pub(crate) const LINE_PATIENCE: Duration = Duration::from_secs(10);

/// Agent-check connections served at once. Above it the newest is closed:
/// HAProxy then keeps what it knew.
pub(crate) const AGENT_CHECK_CONNECTIONS: usize = 1_024;

/// Longest time that a graceful leave may take before the agent ends anyway.
pub(crate) const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// Log lines that wait to be written. At the limit lines are dropped and
/// counted: a full disk or a stuck terminal must not stop the agent.
pub(crate) const LOG_LINES: usize = 16_384;

const _: () = assert!(BULK_STREAMS_PER_ADDRESS <= BULK_ACCEPTED);
const _: () = assert!(BULK_FRAME_BYTES < BULK_OUTBOUND_BYTES);
