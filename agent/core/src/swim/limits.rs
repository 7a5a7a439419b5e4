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
pub const RELAYS: usize = 32;

/// Times that one ping request of another is tried.
pub const RELAY_TRIES: u32 = 4;

/// Direct pings of one round, the first among them.
pub const TRIES: u32 = 6;

/// Rounds that are over, of which a late ack still counts.
pub const PAST_ROUNDS: usize = 16;

/// A round lasts at least twice what an ack takes, up to this.
pub const WINDOW_MAX: Duration = Duration::from_secs(2);

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

/// Shortest time between two pushes: what is learnt in between goes together.
pub const PUSH_GAP: Duration = Duration::from_millis(2);

/// The same for each tenth of what a node may send that is used up.
pub const PUSH_GAP_LOW: Duration = Duration::from_millis(20);

/// Rumors that wait to be pushed. At the limit the newest is left to ride on
/// pings and acks.
pub const PUSH_QUEUE: usize = 2 * MEMBERS;

/// Datagrams to one member in one push. What does not fit waits for the next.
pub const PUSH_DATAGRAMS: usize = 4;

/// Shortest time between two views that this node sends because another's
/// digest differs.
pub const VIEW_GAP: Duration = Duration::from_millis(500);

/// The same while the bucket is low, so that views and their answers take at
/// most a fifth of what fills it.
pub const VIEW_GAP_BUSY: Duration = Duration::from_secs(1);

/// Datagrams in one answer to a view. What is missing still differs and is
/// asked for again.
pub const ROSTER_DATAGRAMS: usize = 8;

/// The same while the bucket is low.
pub const ROSTER_DATAGRAMS_BUSY: usize = 3;

/// Dead members that are retried at once because another node says that they
/// live, per roster datagram.
pub const DOUBTS: usize = 16;

/// Datagrams of one welcome, if there is room for them: enough for [`MEMBERS`]
/// with long names. While many join each gets a share of what there is, and
/// finds the rest by comparing views.
pub const WELCOME_DATAGRAMS: usize = 160;

/// One welcome takes one part in so many of what may be sent.
pub const WELCOME_SHARE: usize = 2;

/// After so many half periods without hearing anybody a node tests its ears:
/// sooner than it would count as deaf.
pub const EAR_TEST_HALF_PERIODS: u32 = 3;

/// Members whom it heard last and pings then, once a period.
pub const EARS: usize = 3;

/// A roll call in which more than so many percent are silent, and somebody
/// answers, was called because most died at once, or because this node is cut
/// off together with few. Lost datagrams alone silence fewer.
pub const MASS_PERCENT: usize = 75;

/// A node that hears nobody for so many periods is deaf: its own ears are the
/// likelier fault, and its suspicions wait.
pub const DEAF_PERIODS: u32 = 3;

/// After so much silence it is the others that are gone, or out of reach for
/// good, and suspicions run out.
pub const DEAF_MAX: Duration = Duration::from_secs(10);

/// For so long after a node hears again it still counts as having heard nobody:
/// what it asked meanwhile has not been answered yet.
pub const DEAF_ECHO: Duration = Duration::from_secs(2);

/// Shortest time between the end of a roll call and the next.
pub const ROLL_CALL_GAP: Duration = Duration::from_secs(1);

/// Times that a roll call pings a silent member.
pub const ROLL_CALL_TRIES: u32 = 2;

/// Those who are accused by this node and are pinged again in one second. The
/// others have their turn in the next.
pub const RECALLED: usize = 8;

/// How many times as long as usual a suspicion lasts at most, because this node
/// is slow itself.
pub const SUSPICION_STRETCH_MAX: u32 = 3;

/// However many confirm it and however small the POP, a suspicion lasts so many
/// periods: a host whose processors were taken away for a second has not died.
pub const SUSPICION_PERIODS_MIN: f64 = 7.5;

/// A node that is late itself puts off what its suspicions end in, up to this
/// age of theirs.
pub const LATE_SUSPICION_MAX: Duration = Duration::from_secs(10);

/// A join token is good for the window that it was made in and the next.
pub const TOKEN_WINDOW: Duration = Duration::from_secs(5);

/// Seeds that are asked in one attempt to join.
pub const JOIN_SEEDS: usize = 3;

/// First wait between two attempts to join.
pub const JOIN_WAIT_MIN: Duration = Duration::from_millis(250);

/// Longest wait between two attempts to join.
pub const JOIN_WAIT_MAX: Duration = Duration::from_secs(2);

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
const _: () = assert!(EAR_TEST_HALF_PERIODS + 2 < 2 * DEAF_PERIODS);
