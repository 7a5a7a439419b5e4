//! Every limit of membership, with what happens at it.

use core::time::Duration;

use watchfire_wire::limits::MEMBERS;

/// Join addresses. Those beyond it are not used.
pub const SEEDS: usize = 64;

/// Dead and departed members that are remembered by name. At the limit the one
/// that is gone for longest leaves only its floor.
pub const REMEMBERED: usize = MEMBERS;

/// Floors of forgotten nodes. At the limit the lowest goes: nothing was heard
/// of that node for the longest time, and a stale rumor of it could at worst
/// make it a member until it fails to answer.
pub const FLOORS: usize = 4_096;

/// Greatest epoch that is believed. Rumors of a greater one are refused, so
/// that no message can put a name's epochs out of its own reach.
pub const EPOCH_MAX: u64 = 1 << 62;

/// Ping requests of others that are carried at once. Further ones are dropped
/// and counted; the asker has other relays.
pub const RELAYS: usize = 256;

/// Times that one round repeats its direct ping.
pub const TRIES: u32 = 10;

/// Longest wait between two direct pings of one round, as a divisor of the
/// period.
pub const TRY_SPACING: u32 = 8;

/// Shortest wait for an ack before the ping is repeated: a host's own
/// scheduling takes longer than the network's round trip.
pub const PING_TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// Worst value of the local health score. There every wait of the failure
/// detector is nine times as long.
pub const HEALTH_MAX: u32 = 8;

/// Distinct accusers of one suspicion that are remembered. More would not
/// shorten its timeout further.
pub const ACCUSERS: usize = 8;

/// Datagrams that may be pushed, or sent in answer to differing views, in one
/// burst. Beyond it they wait for [`PUSH_REFILL`], or their news rides on pings
/// and acks.
pub const PUSH_BURST: u32 = 128;

/// One more pushed datagram is allowed after each of these.
pub const PUSH_REFILL: Duration = Duration::from_millis(5);

/// Shortest time between two pushes: what is learnt in between goes together.
pub const PUSH_GAP: Duration = Duration::from_millis(2);

/// Rumors that wait to be pushed. At the limit the newest is left to ride on
/// pings and acks.
pub const PUSH_QUEUE: usize = 2 * MEMBERS;

/// Datagrams to one member in one push. What does not fit waits for the next.
pub const PUSH_DATAGRAMS: usize = 4;

/// Shortest time between two views that this node sends because another's
/// digest differs.
pub const VIEW_GAP: Duration = Duration::from_millis(500);

/// Datagrams in one answer to a view. What is missing still differs and is
/// asked for again.
pub const ROSTER_DATAGRAMS: usize = 16;

/// Dead members that are retried at once because another node says that they
/// live, per roster datagram.
pub const DOUBTS: usize = 16;

/// Datagrams of one welcome: enough for [`MEMBERS`] with long names.
pub const WELCOME_DATAGRAMS: usize = 160;

/// A node that hears nobody for so many periods is deaf: its own ears are the
/// likelier fault, and its suspicions wait.
pub const DEAF_PERIODS: u32 = 3;

/// After so much silence it is the others that are gone, or out of reach for
/// good, and suspicions run out.
pub const DEAF_MAX: Duration = Duration::from_secs(10);

/// Shortest time between the end of a roll call and the next.
pub const ROLL_CALL_GAP: Duration = Duration::from_secs(1);

/// Times that a roll call pings a silent member, within one period.
pub const ROLL_CALL_TRIES: u32 = 5;

/// A join token is good for the window that it was made in and the next.
pub const TOKEN_WINDOW: Duration = Duration::from_secs(5);

/// First wait between two attempts to join.
pub const JOIN_WAIT_MIN: Duration = Duration::from_millis(250);

/// Longest wait between two attempts to join.
pub const JOIN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Pings to another holder of this node's name before it counts as gone. They
/// are one period apart.
pub const INQUIRY_TRIES: u32 = 5;

/// Shortest time between two inquiries about other holders of the name.
pub const INQUIRY_GAP: Duration = Duration::from_secs(3);

/// Times that the goodbye is pushed, and the time between two.
pub const GOODBYES: u32 = 3;
/// See [`GOODBYES`].
pub const GOODBYE_GAP: Duration = Duration::from_millis(50);
/// Members that each goodbye goes to.
pub const GOODBYE_FANOUT: usize = 16;

/// A timeout that is looked at so much later than it was due proves nothing
/// yet: the answer may wait in the socket. It gets one grace period.
pub const LATE: Duration = Duration::from_millis(20);

/// How often memory is swept for members to forget.
pub const SWEEP: Duration = Duration::from_secs(5);

const _: () = assert!(REMEMBERED <= FLOORS);
const _: () = assert!(PUSH_DATAGRAMS < PUSH_BURST as usize);
const _: () = assert!(ROSTER_DATAGRAMS < PUSH_BURST as usize);
