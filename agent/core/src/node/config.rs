//! What a node is told when it starts.

use core::net::SocketAddr;
use core::time::Duration;

use watchfire_wire::limits::DATAGRAM_BYTES;

use crate::gate::Keys;
use crate::mutations::Mutations;
use crate::overrides::Kept;
use crate::ownership::OwnershipConfig;
use crate::replica::ReplicaConfig;
use crate::swim::SwimConfig;

/// What a node is told when it starts. Begin with [`NodeConfig::new`] and set
/// what differs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its configured name.
    pub name: String,
    /// Where others reach it, UDP and TCP.
    pub addr: SocketAddr,
    /// 64 random bits of this start.
    pub boot: u64,
    /// The epoch that an earlier start wrote to disk; 0 if there was none.
    pub persisted_epoch: u64,
    /// The wall clock at the monotonic clock's zero, milliseconds since 1970.
    pub wall_at_zero_ms: u64,
    /// Something keeps the wall clock right.
    pub wall_synchronised: bool,
    /// The decisions that an earlier start wrote to disk.
    pub overrides: Kept,
    /// Where to join, for ever. A node without any is alone until others come.
    pub seeds: Vec<SocketAddr>,
    /// Its weight in rendezvous hashing; 0 owns nothing.
    pub capacity: u16,
    /// How frames are sealed.
    pub keys: Keys,
    /// A node that nobody lets in probes alone after this.
    pub join_patience: Duration,
    /// A node that was let in begins once no further member came for this long.
    pub join_calm: Duration,
    /// Largest datagram that it sends, bytes.
    pub datagram_bytes: usize,
    /// The seed of all its randomness; from the operating system in production.
    pub rng_seed: [u8; 32],
    /// Lowest and highest protocol version that it understands.
    pub protocol: (u8, u8),
    /// Membership's knobs. Its datagram size and seeded bugs are this one's.
    pub swim: SwimConfig,
    /// Replication's knobs. Its datagram size is this one's.
    pub replica: ReplicaConfig,
    /// Ownership's knobs.
    pub ownership: OwnershipConfig,
    /// How long what nobody needs is kept.
    pub retention: Retention,
    /// Seeded bugs.
    pub mutations: Mutations,
}

/// How long what nobody needs any more is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// From one round of collection to the next.
    pub every: Duration,
    /// A release that no longer wins is kept this long, so that whoever still
    /// lacks the winner is not left with nothing.
    pub released: Duration,
    /// Shortest time from one collection of own releases to the next: each is
    /// told to all.
    pub between: Duration,
    /// A node that writes nothing puts off collecting its releases until so
    /// long after the last time: a collection has to be told like a write, and
    /// one that comes with a write costs nothing.
    pub quiet: Duration,
    /// A release that still wins is kept this long; then nobody configures the
    /// check.
    pub orphan: Duration,
    /// The log of an earlier life is kept this long if nothing of it wins.
    pub superseded: Duration,
    /// The log of a dead one that was set aside for what it said is kept this long.
    pub lied: Duration,
    /// The log of a node that is gone is kept this long in any case.
    pub departed: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            released: Duration::from_secs(30),
            between: Duration::from_secs(120),
            quiet: Duration::from_secs(600),
            orphan: Duration::from_secs(600),
            superseded: Duration::from_secs(30),
            lied: Duration::from_secs(5),
            departed: Duration::from_secs(600),
        }
    }
}

impl NodeConfig {
    /// The defaults for a node of this name, that others reach there.
    #[must_use]
    pub fn new(name: String, addr: SocketAddr) -> Self {
        Self {
            name,
            addr,
            boot: 0,
            persisted_epoch: 0,
            wall_at_zero_ms: 0,
            wall_synchronised: true,
            overrides: Kept::default(),
            seeds: Vec::new(),
            capacity: 100,
            keys: Keys::Insecure,
            join_patience: Duration::from_secs(3),
            join_calm: Duration::from_millis(400),
            datagram_bytes: DATAGRAM_BYTES,
            rng_seed: [0; 32],
            protocol: (
                watchfire_wire::message::PROTOCOL_MIN,
                watchfire_wire::message::PROTOCOL,
            ),
            swim: SwimConfig::default(),
            replica: ReplicaConfig::default(),
            ownership: OwnershipConfig::default(),
            retention: Retention::default(),
            mutations: Mutations::NONE,
        }
    }

    /// The same with another period of the failure detector.
    #[must_use]
    pub fn with_period(mut self, period: Duration) -> Self {
        self.swim.period = period;
        self
    }
}
