//! What a node counts, for metrics.

use super::Node;
use crate::budget::Class;
use crate::counters::{Counter, Family};

crate::counters::counters! {
    /// What the node itself counts; its parts count for themselves.
    pub struct NodeCounters as "" {
        /// Bytes of datagrams that came, whatever they were.
        pub bytes_in: u64,
        /// Bytes of datagrams of membership that went out.
        pub bytes_out_swim: u64,
        /// Bytes of datagrams of replication that went out.
        pub bytes_out_replica: u64,
        /// Bytes of frames on bulk streams that went out.
        pub bytes_out_bulk: u64,
        /// Bytes of frames on bulk streams that came.
        pub bytes_in_bulk: u64,
        /// Datagrams that went out.
        pub datagrams_out: u64,
        /// Datagrams that came.
        pub datagrams_in: u64,
        /// Authentic replication bodies of others than living members, dropped.
        pub strangers: u64,
        /// Datagrams of members that were put out of the POP, dropped.
        pub evicted: u64 as "datagrams_of_evicted",
        /// Bodies that could not be encoded or were too large, not sent.
        pub unsendable: u64,
        /// Epochs taken after the first.
        pub epochs_taken: u64,
        /// Logs of departed lives collected.
        pub logs_collected: u64,
    }
}

impl Node {
    /// All counters, since the start.
    #[must_use]
    pub fn counted(&self) -> Vec<Counter> {
        let withheld = self.budget.withheld();
        let withheld = Class::ALL.map(|class| Counter {
            family: Some(Family {
                name: "datagrams_withheld",
                label: "class",
                value: class.as_str(),
            }),
            ..Counter::new(
                class.counter(),
                "Datagrams not sent because the budget was used up, by class.",
                withheld[class as usize],
            )
        });
        let own = [
            Counter::new(
                "bulk_frames_deferred",
                "Frames of bulk streams that waited because the budget was used up.",
                self.budget.bulk_deferred(),
            ),
            Counter::new(
                "late_episodes",
                "Times that this agent found itself late.",
                self.load.episodes(),
            ),
        ];
        self.counters
            .each()
            .chain(withheld)
            .chain(own)
            .chain(self.gate.counters().each())
            .chain(self.swim.counters().each())
            .chain(self.replicator.counters().each())
            .chain(self.duties.counters().each())
            .chain(self.duties.holdings_counters().each())
            .chain(self.overrides.counters().each())
            .collect()
    }

    /// Frames that do not authenticate though their key is known.
    #[must_use]
    pub const fn forged(&self) -> u64 {
        self.gate.counters().forged
    }

    /// All counters by name, since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let all = self.counted().into_iter();
        all.map(|counter| (counter.name, counter.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use watchfire_wire::Time;

    use super::*;
    use crate::node::NodeConfig;

    #[test]
    fn each_counter_has_a_name_of_its_own_and_a_sentence() {
        let config = NodeConfig::new("me".into(), ([127, 0, 0, 1], 7_946).into());
        let all = Node::new(config, Time::ZERO).counted();
        let names: BTreeSet<_> = all.iter().map(|counter| counter.name).collect();
        assert_eq!(names.len(), all.len());
        for Counter { name, help, .. } in all {
            let lower = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(lower), "{name}");
            assert!(
                help.ends_with('.') && !help.contains(['`', '[']),
                "{name}: {help}"
            );
        }
    }
}
