//! What may be chosen about replication, and what it counts.

use core::time::Duration;

use watchfire_wire::limits::DATAGRAM_BYTES;

use crate::limits;

/// The knobs of replication. The defaults suit round trips below 1 ms.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaConfig {
    /// A pull waits at least so long for its answer, and longer where answers
    /// were seen to take longer; the second attempt twice as long.
    pub pull_timeout: Duration,
    /// Attempts of one pull with one peer, all under one name: whichever is
    /// answered counts, however late.
    pub pull_tries: u8,
    /// How long the next frame of a bulk answer may take.
    pub bulk_timeout: Duration,
    /// From one round of news to the next, when little happens. The first piece
    /// of news after calm goes out at once.
    pub notify_spacing: Duration,
    /// The same in a mass event.
    pub mass_spacing: Duration,
    /// From one round of pulls to the next in a mass event: what becomes known
    /// meanwhile is asked for together.
    pub mass_gathering: Duration,
    /// From the first telling of a head to its first echo; the second comes
    /// after twice as long.
    pub echo_spacing: Duration,
    /// How long unequal digests must last without progress before they count.
    pub digest_patience: Duration,
    /// From one comparison of all claims to the next.
    pub sync_spacing: Duration,
    /// After so long without a comparison, while digests differ, the next goes
    /// out before any news.
    pub sync_overdue: Duration,
    /// Largest answer by datagrams.
    pub max_parts: usize,
    /// Words on checks that nobody configures here, of one name, that are taken
    /// in any case.
    pub foreign_least: usize,
    /// Largest datagram, bytes.
    pub datagram_bytes: usize,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self {
            pull_timeout: Duration::from_millis(100),
            pull_tries: 2,
            bulk_timeout: Duration::from_secs(10),
            notify_spacing: Duration::from_millis(4),
            mass_spacing: Duration::from_millis(100),
            mass_gathering: Duration::from_millis(20),
            echo_spacing: Duration::from_millis(60),
            digest_patience: Duration::from_millis(10),
            sync_spacing: Duration::from_millis(100),
            sync_overdue: Duration::from_secs(2),
            max_parts: limits::PARTS,
            foreign_least: limits::FOREIGN_LEAST,
            datagram_bytes: DATAGRAM_BYTES,
        }
    }
}

crate::counters::counters! {
    /// Counters of replication, since the start.
    pub struct ReplicaCounters as "" {
        /// Pulls sent, repetitions included.
        pub pulls: u64,
        /// Pulls that were given up after all attempts.
        pub pulls_failed: u64,
        /// Pulls whose answer came after they had been given up, and counted.
        pub late_answers: u64 as "pulls_answered_late",
        /// Pulls answered.
        pub answers: u64 as "pulls_answered",
        /// Pulls of others not answered: nobody waits for the answer any more, or
        /// there was no room for it.
        pub pulls_dropped: u64,
        /// Pulls answered by a bulk offer.
        pub offers: u64 as "bulk_offers",
        /// Bulk streams served.
        pub bulk_served: u64,
        /// Notifications sent.
        pub notifies: u64,
        /// Comparisons of all claims with a peer.
        pub syncs: u64,
        /// Slots taken in.
        pub slots_taken: u64,
        /// Replacing snapshots taken because state differed at equal claims.
        pub repairs: u64,
        /// Bodies refused: answers to no pull of ours, or that contradict it.
        pub refused: u64 as "replica_bodies_refused",
        /// Deltas refused because a limit was reached.
        pub full: u64 as "deltas_refused_full",
        /// Deltas left out because a term in them is implausible.
        pub implausible: u64 as "deltas_implausible",
        /// Deltas left out because their author has too many words on checks that
        /// nobody configures here.
        pub foreign: u64 as "deltas_foreign",
        /// Bulk streams refused: no such token.
        pub bulk_refused: u64 as "bulk_tokens_refused",
    }
}
