//! What membership did and met, for metrics and tests.

crate::counters::counters! {
    /// Counts since the start. Nothing depends on them.
    pub struct SwimCounters as "swim_" {
        /// Pings sent, repeated, relayed and retried ones among them.
        pub pings: u64,
        /// Acks sent.
        pub acks: u64,
        /// Ping requests sent.
        pub ping_reqs: u64,
        /// Nacks sent.
        pub nacks: u64,
        /// Rounds that ended without an answer.
        pub failed_rounds: u64,
        /// Rounds that only a relay's answer saved: a path of one's own is bad.
        pub saved_by_relay: u64,
        /// Times that everybody was pinged because nothing was heard.
        pub roll_calls: u64,
        /// Pings because nobody was heard for a while.
        pub ear_tests: u64,
        /// Members that this node itself accused.
        pub accusations: u64,
        /// Deaths that this node itself declared.
        pub deaths: u64,
        /// Suspicions and deaths of itself that this node refuted.
        pub refutations: u64,
        /// Times that this node found itself stalled for a period or longer.
        pub stalls: u64,
        /// Datagrams of urgent news sent.
        pub pushes: u64,
        /// Pushes cut short for want of room; the news rode on pings instead.
        pub pushes_withheld: u64,
        /// Other datagrams not sent for want of room.
        pub withheld: u64 as "swim_datagrams_withheld",
        /// Acks that came after their round was over.
        pub late_acks: u64,
        /// Roll calls not begun, because this node was late itself or had no room.
        pub roll_calls_withheld: u64,
        /// Views sent because another's differed.
        pub views: u64,
        /// Datagrams of records sent in answer to views.
        pub rosters: u64,
        /// Pings of dead members.
        pub dead_retries: u64,
        /// Times that a seed was asked to let this node in.
        pub join_asks: u64,
        /// Others admitted.
        pub admitted: u64,
        /// Joins put off for a higher epoch or because of another holder of the
        /// name.
        pub joins_deferred: u64,
        /// Joins without a good token or without an introduction.
        pub bad_joins: u64,
        /// Joins and rumors refused because the POP is full.
        pub crowded: u64,
        /// Messages of actors that are no members, left unanswered.
        pub strangers: u64,
        /// Rumors that cannot be true: absurd epochs, names that do not fit the id.
        pub rumors_refused: u64,
        /// Ping requests of others refused because too many were under way.
        pub relays_refused: u64,
        /// Greater epochs that this node had to take.
        pub epochs_needed: u64,
        /// Other live holders of this node's name that made it stand down.
        pub conflicts: u64,
    }
}
