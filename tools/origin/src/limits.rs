//! Every limit of the farm, and what happens when it is reached.

/// Addresses of one farm. A larger count is an error at start.
pub const ORIGINS_MAX: u32 = 1 << 20;

/// Listening sockets when each origin has its own. A larger farm listens by
/// one wildcard socket per thread instead, or fails to start if it was told
/// not to: this leaves three quarters of 20,000 open files to connections.
pub const LISTENERS_MAX: u32 = 4_096;

/// Threads of one farm. More is an error at start.
pub const THREADS_MAX: usize = 64;

/// Connections that one thread holds open. At the limit a new one is accepted,
/// closed at once and counted as turned away.
pub const CONNECTIONS_MAX: usize = 12_288;

/// Connections accepted from one listener before others get their turn. The
/// rest waits in the kernel's backlog.
pub const ACCEPTS_PER_TURN: usize = 256;

/// What is asked of the kernel as backlog; it cuts the number down to
/// `net.core.somaxconn`. Beyond it the kernel drops SYNs.
pub const BACKLOG: i32 = 65_535;

/// Events taken from the kernel at once.
pub const EVENTS_PER_TURN: usize = 1_024;

/// Bytes of one request. A longer one is answered by closing the connection.
pub const REQUEST_BYTES_MAX: usize = 8_192;

/// Bytes of a head or a body that a fault may ask for. More is an error when
/// the fault is set.
pub const ANSWER_BYTES_MAX: u32 = 16 << 20;

/// The longest delay that a fault may ask for. More is an error when the fault
/// is set.
pub const DELAY_MS_MAX: u32 = 60_000;

/// Timers of one thread. A connection has at most one that matters; those that
/// do not are swept away when the limit is reached.
pub const TIMERS_MAX: usize = 4 * CONNECTIONS_MAX;

/// Hits kept until they are taken. At the limit new ones are dropped and
/// counted.
pub const HITS_MAX: usize = 1 << 20;

/// Different user agents that are told apart. Further ones share one name.
pub const AGENTS_MAX: usize = 4_096;

/// Bytes of a user agent that are kept; the rest is cut off.
pub const AGENT_BYTES_MAX: usize = 256;

/// Ports tried when the farm chooses one and another process holds it on one
/// of the addresses. After that the start fails.
pub const PORT_TRIES: usize = 16;

/// Ranges of addresses whose SYNs are dropped, when the farm listens by
/// wildcard sockets. One more is an error when the fault is set.
pub const DROPPED_RANGES_MAX: usize = 256;

/// Bytes of one line of control. A longer one is an error.
pub const CONTROL_LINE_MAX: usize = 1_024;

const _: () = assert!(CONNECTIONS_MAX + LISTENERS_MAX as usize <= 18_000);
const _: () = assert!(TIMERS_MAX > CONNECTIONS_MAX);
// A socket filter has 4,096 instructions, and each range takes three.
const _: () = assert!(DROPPED_RANGES_MAX * 3 + 2 <= 4_096);
