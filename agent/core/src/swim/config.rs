//! What an operator, or the simulator, may choose about membership.

use core::time::Duration;

use crate::mutations::Mutations;

/// The knobs of membership. The defaults suit round trips below 1 ms.
#[derive(Clone, Debug, PartialEq)]
pub struct SwimConfig {
    /// From one round of the failure detector to the next.
    pub period: Duration,
    /// How long the first ping to a member waits before it is repeated; later
    /// pings wait by what the round trips measured were.
    pub ping_timeout: Duration,
    /// Members asked to ping one that does not answer.
    pub indirect: usize,
    /// Scales the suspicion timeout: it is at least this × log10(members) ×
    /// period. Two less than it is the number of confirmations that bring the
    /// timeout down to that.
    pub suspicion_mult: u32,
    /// How many times the least suspicion timeout an unconfirmed one lasts.
    pub suspicion_max_mult: u32,
    /// A rumor rides on this × log10(members) packets.
    pub retransmit_mult: u32,
    /// Members that an urgent rumor is pushed to by each one that learns it.
    pub fanout: usize,
    /// From one attempt to reach a dead member to the next.
    pub dead_retry: Duration,
    /// From one attempt to reach a seed that is no living member to the next.
    pub seed_retry: Duration,
    /// How long a dead member is remembered and retried. Afterwards only the
    /// least epoch of its next life is.
    pub dead_memory: Duration,
    /// How long a member that left is remembered.
    pub left_memory: Duration,
    /// Largest datagram, bytes, frame included.
    pub datagram_bytes: usize,
    /// Seeded bugs; none unless they are compiled in and asked for.
    pub mutations: Mutations,
}

impl Default for SwimConfig {
    fn default() -> Self {
        Self {
            period: Duration::from_millis(200),
            ping_timeout: Duration::from_millis(50),
            indirect: 3,
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            retransmit_mult: 4,
            fanout: 6,
            dead_retry: Duration::from_secs(2),
            seed_retry: Duration::from_secs(10),
            dead_memory: Duration::from_secs(24 * 3600),
            left_memory: Duration::from_secs(600),
            datagram_bytes: watchfire_wire::limits::DATAGRAM_BYTES,
            mutations: Mutations::NONE,
        }
    }
}
