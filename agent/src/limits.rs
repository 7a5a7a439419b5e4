//! Every limit of the shell around the cores, with what happens at it.

use std::time::Duration;

/// Commands from the control thread that wait for the gossip thread. At the
/// limit the control thread waits; nothing is lost.
pub(crate) const COMMANDS: usize = 64;

/// Names that one agent resolves. Checks of names beyond them are not probed by it, and
/// say so.
pub(crate) const NAMES: usize = 10_000;

/// Names that a word for people shows. Of the rest the number is said.
pub(crate) const NAMES_SHOWN: usize = 10;

/// Changes of names that wait for the control thread. At the limit nothing more is
/// asked until it takes them.
pub(crate) const NEWS: usize = 256;

/// Changes of names that the control thread takes at once.
pub(crate) const NEWS_AT_ONCE: usize = 256;

/// Name servers that a configuration may name. More are refused.
pub(crate) const NAMESERVERS: usize = 8;

/// Datagrams that one turn of the gossip loop reads before it looks at timers
/// and probe reports again. The rest waits in the socket's buffer.
pub(crate) const DATAGRAMS_PER_TURN: usize = 256;

/// Time that datagrams or reports may take in one turn, each for itself, before the
/// loop looks at the others: whether this thread or another had the processor,
/// they waited. (CPU time would be a system call in every turn.)
pub(crate) const TIME_PER_TURN: Duration = Duration::from_millis(2);

/// While datagrams are left unread timers are looked at no more often: what
/// would stop them may be among those datagrams.
pub(crate) const TICK_WHILE_UNREAD: Duration = Duration::from_millis(10);

/// Probe reports that one turn takes before it looks at the sockets again.
/// The rest waits in the probe threads' queues, coalesced per check.
pub(crate) const REPORTS_PER_TURN: usize = 4_096;

/// Receive buffer asked of the kernel for the gossip socket, bytes: what a
/// large POP sends to one member in about a period, all of it answering a roll
/// call. What does not fit is lost like any datagram; what waited for longer
/// would be of no use.
pub(crate) const SOCKET_RECEIVE_BYTES: usize = 256 << 10;

/// Accepted bulk streams open at once. Above it the newest is closed unread;
/// its peer pulls again.
pub(crate) const BULK_ACCEPTED: usize = 64;

/// Bulk streams that we opened ourselves, at once: a count of its own, so that
/// strangers at the listener cannot take our places. Above it the newest fails
/// and is pulled again.
pub(crate) const BULK_CONNECTED: usize = 64;

/// Streams accepted in one turn; more wait in the kernel for the next.
pub(crate) const BULK_ACCEPTS_PER_TURN: usize = 32;

/// Of those so many may come from addresses at which no member is known. Above
/// it they are closed unread: the other places are for members.
pub(crate) const BULK_STRANGERS: usize = 16;

/// Accepted bulk streams per peer address. Above it the newest is closed.
pub(crate) const BULK_STREAMS_PER_ADDRESS: usize = 4;

/// Time for the first whole frame of an accepted stream, after which it is
/// closed: TCP accepts before it can authenticate.
pub(crate) const BULK_FIRST_FRAME: Duration = Duration::from_millis(250);

/// A bulk stream on which nothing moved for so long is closed and pulled again.
pub(crate) const BULK_LIFE: Duration = Duration::from_secs(10);

/// Longest life of a bulk stream, however it moves.
pub(crate) const BULK_LIFE_MAX: Duration = Duration::from_secs(120);

/// Largest frame on a bulk stream, bytes. A peer that claims more is cut off.
pub(crate) const BULK_FRAME_BYTES: usize = 256 << 10;

/// Bytes that wait to be sent on one bulk stream. A stream that would need
/// more is closed; 100,000 slots need about 12 MB.
pub(crate) const BULK_OUTBOUND_BYTES: usize = 256 << 20;

/// From one heartbeat of the table to the next, at the least. Readers call a table
/// stale after many of them.
pub(crate) const TABLE_HEARTBEAT: Duration = Duration::from_millis(100);

/// A heartbeat is a store, and the wake-up for it what it costs: until so long after
/// the last it waits for a turn that has another reason.
pub(crate) const TABLE_HEARTBEAT_LATEST: Duration = Duration::from_millis(250);

/// How often it is looked at which member holds which configuration.
pub(crate) const GENERATIONS_LOOK: Duration = Duration::from_secs(1);

/// How often the files are looked at. A change counts at the second look, and
/// what is gone for longer.
pub(crate) const ORIGINS_WATCH: Duration = Duration::from_millis(500);

/// How often it is looked at whether this server can probe what it is to: has
/// the addresses and interfaces that checks name.
pub(crate) const WAYS_WATCH: Duration = Duration::from_secs(10);

/// Largest body that the admin API reads, bytes. A larger one is refused. It
/// holds as many names as one decision may have.
pub(crate) const ADMIN_BODY_BYTES: usize = 512 << 10;
const _: () = assert!(
    watchfire_core::limits::NAMES_PER_DECISION * (watchfire_table::limits::NAME_BYTES + 3)
        < ADMIN_BODY_BYTES
);

/// From one look at this server's wall clock to the next.
pub(crate) const WALL_WATCH: Duration = Duration::from_secs(10);

/// Admin connections served at once. Above it the newest is closed.
pub(crate) const ADMIN_CONNECTIONS: usize = 32;

/// The same of one user, or from one address.
pub(crate) const ADMIN_PER_USER: usize = 16;

/// Time that an agent-check connection may take for one line.
pub(crate) const LINE_PATIENCE: Duration = Duration::from_secs(10);

/// Agent-check connections served at once. Above it the oldest that has not
/// asked yet is closed: HAProxy asks at once.
pub(crate) const AGENT_CHECK_CONNECTIONS: usize = 256;

/// The same from one address.
pub(crate) const AGENT_CHECK_PER_ADDRESS: usize = 192;

/// Metrics connections at once. Above it the newest is closed.
pub(crate) const METRICS_CONNECTIONS: usize = 64;

/// The same from one address.
pub(crate) const METRICS_PER_ADDRESS: usize = 16;

/// A metrics connection on which nothing moved for so long is closed.
pub(crate) const METRICS_IDLE: Duration = Duration::from_secs(30);

/// A metrics connection is closed when the first bytes of a request have not
/// become a whole one, and the answer gone out, in this time.
pub(crate) const METRICS_REQUEST: Duration = Duration::from_secs(10);

/// How long `check --everywhere` waits for its agent: longer than that waits for
/// any member, in the largest POP and with the longest timeout.
pub(crate) const LOOK_ANSWER: Duration = Duration::from_secs(90);

/// Origins that have metrics of their own at one member. Beyond it the rest is
/// counted in `watchfire_origin_series_left_out`.
pub(crate) const ORIGIN_SERIES: usize = 1_000;

/// Transitions that are kept of one origin. At the limit its oldest gives way.
pub(crate) const TRANSITIONS_PER_ORIGIN: usize = 64;

/// Transitions that are kept in all, about 300 bytes each. At the limit the oldest
/// of all gives way.
pub(crate) const TRANSITIONS: usize = 32_768;

/// What the gossip thread saw and the recorder has yet to take. Above it things are
/// lost to history and events, and counted; verdicts and metrics are not affected.
pub(crate) const HAPPENINGS: usize = 65_536;

/// Event lines that wait for a file which cannot be written. At the limit the
/// oldest are lost, and counted.
pub(crate) const LINES_WAITING: usize = 65_536;

/// Bytes of the file of transitions that are kept over a restart; it turns once.
pub(crate) const HISTORY_BYTES: u64 = 8 << 20;

/// Transitions of a second that have a log line each; the rest has one line
/// together, with counts by cause.
pub(crate) const TRANSITION_LINES_PER_SECOND: u32 = 50;

/// Transitions in one answer of the admin API.
pub(crate) const EVENTS_ANSWERED: usize = 1_000;

/// Screens that wait for news at once, whoever looks at them. Above it they are
/// answered at once, and told to ask again later.
pub(crate) const FOLLOWERS: usize = 8;

/// A screen's question waits so long for news. What changes all the time, such as
/// when members last answered, is as old as that.
pub(crate) const FOLLOW_WAIT: Duration = Duration::from_secs(2);

/// How often it is looked whether there is news, while somebody waits.
pub(crate) const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// When a screen that found no place to wait asks again.
pub(crate) const FOLLOW_AGAIN: Duration = Duration::from_secs(5);

/// The gossip thread is asked for what screens show at most so often, however many
/// there are.
pub(crate) const GLANCE_EVERY: Duration = Duration::from_secs(1);

/// What is remembered for screens is let go when none has asked for so long.
pub(crate) const FOLLOW_IDLE: Duration = Duration::from_secs(60);

/// Origins that a screen is told of. Where there are more those that are Up are left
/// out first, and counted.
pub(crate) const SCREEN_ORIGINS: usize = 131_072;

/// Origins of which a screen is told that they have gone. Who has seen less than is
/// remembered is told everything anew.
pub(crate) const SCREEN_GONE: usize = 16_384;

/// Overrides that a screen is told of one by one, those decided last.
pub(crate) const GLANCE_OVERRIDES: usize = 200;

/// Transitions that a screen is told of at once, the newest.
pub(crate) const SCREEN_EVENTS: usize = 200;

/// Longest time that a graceful leave may take before the agent ends anyway.
pub(crate) const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// Log lines that wait to be written. At the limit lines are dropped and
/// counted: a full disk or a stuck terminal must not stop the agent.
pub(crate) const LOG_LINES: usize = 16_384;

// A question that waits is no request that takes too long, and leaves others places.
const _: () = assert!(FOLLOW_WAIT.as_millis() * 2 <= METRICS_REQUEST.as_millis());
const _: () = assert!(FOLLOWERS < ADMIN_PER_USER);
const _: () = assert!(BULK_STREAMS_PER_ADDRESS <= BULK_STRANGERS);
const _: () = assert!(BULK_STRANGERS * 2 <= BULK_ACCEPTED);
const _: () = assert!(ADMIN_PER_USER < ADMIN_CONNECTIONS);
const _: () = assert!(METRICS_PER_ADDRESS <= METRICS_CONNECTIONS);
const _: () = assert!(AGENT_CHECK_PER_ADDRESS <= AGENT_CHECK_CONNECTIONS);
// What the probe threads leave to the rest of the process is enough for all of
// it: files, the ring's own and the table among them.
const _: () = assert!(
    BULK_ACCEPTED
        + BULK_CONNECTED
        + 2 * ADMIN_CONNECTIONS
        + METRICS_CONNECTIONS
        + AGENT_CHECK_CONNECTIONS
        + 64
        <= watchfire_probe::FILES_BESIDE as usize
);
const _: () = assert!(BULK_FRAME_BYTES < BULK_OUTBOUND_BYTES);
