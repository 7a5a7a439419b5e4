//! Every limit of the table, with what happens at it.

/// Longest origin name, bytes. A longer one is refused by the writer and is
/// not in the table for a reader.
pub const NAME_BYTES: usize = 255;

/// Names up to this length lie inside their slot, bytes. Longer ones lie in
/// the arena and cost a lookup one more cache miss.
pub const INLINE_NAME_BYTES: usize = 72;

/// Names that one process's agent-checks remember to have drained. Above it a
/// further origin's drain is not told: HAProxy keeps what it had.
pub const DRAINS_TOLD: usize = 65_536;

/// Nodes that one table can name as owners. When the directory is full the
/// writer moves to a new file that holds the names still in use; owners that
/// find no room even there are written as unknown (zero).
pub const OWNERS: usize = watchfire_wire::limits::MEMBERS;

/// Slots that a lookup visits at most. At half load a run of so many taken
/// slots does not happen by chance; for a name that finds no free slot within
/// them the table moves to a file with another seed.
pub const PROBE_LIMIT: usize = 128;

/// Seeds that a writer tries for one name. At the limit the name is refused.
pub const SEEDS: usize = 4;

/// Least number of names that a table is made for. A smaller wish is rounded
/// up.
pub const CAPACITY_MIN: usize = 64;

/// Greatest number of names that a table is made for (4 GiB of slots). A
/// greater wish is refused.
pub const CAPACITY_MAX: usize = 1 << 24;

/// How often a read of one entry is repeated when the writer overtook it. At
/// the limit the answer is "busy": the caller keeps what it knew.
pub const READ_TRIES: usize = 64;

/// How often a lookup starts over because its handle moved to another file
/// meanwhile. At the limit the answer is "busy".
pub const MOVE_TRIES: usize = 16;

/// Address ranges that a reader keeps: one in use, the others ready for the
/// next file. At the limit the reader stays on the file that it has, which
/// then goes stale; opening anew cures it.
pub const RANGES: usize = 64;

/// How often a reader that saw "moved" tries to open the new file,
/// nanoseconds.
pub const FOLLOW_MOVED_NS: u64 = 1_000_000;

/// How often a reader of a stale table looks whether its path names another
/// file, nanoseconds.
pub const FOLLOW_STALE_NS: u64 = 1_000_000_000;

/// How often a writer looks, at a heartbeat, whether its path still names its
/// file, nanoseconds. A file that somebody removed is away for so long, and a
/// heartbeat more, at most.
pub const PATH_LOOK_NS: u64 = 1_000_000_000;

/// A heartbeat so far ahead of the reader's clock is of another boot and
/// counts as stale, nanoseconds.
pub const CLOCK_SKEW_NS: u64 = 1_000_000_000;

/// Without another wish, a table whose heartbeat is older than this is stale,
/// milliseconds.
pub const STALE_AFTER_MS: u64 = 3_000;

/// Problems that a verification lists. At the limit it ends.
pub const PROBLEMS: usize = 100;

/// The write rate is measured over at least this time, nanoseconds.
pub const RATE_WINDOW_NS: u64 = 1_000_000_000;

const _: () = assert!(INLINE_NAME_BYTES.is_multiple_of(8) && INLINE_NAME_BYTES < NAME_BYTES);
const _: () = assert!(NAME_BYTES < 1 << 16 && OWNERS < 1 << 16);
const _: () = assert!(PROBE_LIMIT <= 2 * CAPACITY_MIN);
