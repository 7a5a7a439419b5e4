//! Looks at what the table is told and what befalls members, for metrics: how long
//! news took, and how long nobody was at a dead member's checks.

use std::collections::HashMap;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use watchfire_core::io::{Event, Published};
use watchfire_wire::{CheckId, NodeId, Time, Verdict};

/// Upper bounds of the histograms' buckets, seconds.
const BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A verdict that is older was not told late: it came with a join or a healed
/// partition.
const NEWS: Duration = Duration::from_secs(60);

/// How long news took. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Timings {
    /// From a verdict's change, on its owner's wall clock, to this table.
    pub(crate) transition_to_table: Histogram,
    /// From the suspicion of a member that died to this agent's first word on a
    /// check of its.
    pub(crate) takeover_gap: Histogram,
}

impl Timings {
    pub(crate) fn new() -> Self {
        Self {
            transition_to_table: Histogram::new(BUCKETS),
            takeover_gap: Histogram::new(BUCKETS),
        }
    }
}

/// What was last seen of each check and of members in doubt.
pub(super) struct Observer {
    me: NodeId,
    timings: Timings,
    /// By check that the POP holds something of: as many as are configured.
    last: HashMap<CheckId, Last>,
    /// Since when members have been suspected, until they are back: as many as
    /// membership remembers.
    suspected: HashMap<NodeId, Time>,
}

#[derive(Clone, Copy)]
struct Last {
    verdict: Verdict,
    owner: NodeId,
}

/// A change of verdict, as this agent saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turned {
    pub(super) from: Verdict,
    pub(super) what: Published,
}

impl Observer {
    pub(super) fn new(me: NodeId, timings: Timings) -> Self {
        Self {
            me,
            timings,
            last: HashMap::new(),
            suspected: HashMap::new(),
        }
    }

    /// The table was told this. Gives the change of verdict, if it is one.
    pub(super) fn published(
        &mut self,
        now: Time,
        wall_ms: u64,
        check: CheckId,
        what: Option<Published>,
    ) -> Option<Turned> {
        let Some(what) = what else {
            self.last.remove(&check);
            return None;
        };
        let (verdict, owner) = (what.verdict, what.owner);
        let before = self.last.insert(check, Last { verdict, owner });
        if let Some(before) = before
            && owner == self.me
            && before.owner != self.me
            && let Some(since) = self.suspected.get(&before.owner)
        {
            let gap = now.since(*since);
            self.timings.takeover_gap.observe(gap.as_secs_f64());
        }
        let from = before.map_or(Verdict::Unknown, |before| before.verdict);
        if from == verdict {
            return None;
        }
        let age = Duration::from_millis(wall_ms.saturating_sub(what.since_ms));
        if before.is_some() && age < NEWS {
            let timing = &self.timings.transition_to_table;
            timing.observe(age.as_secs_f64());
        }
        Some(Turned { from, what })
    }

    /// Something befell a member.
    pub(super) fn event(&mut self, now: Time, event: &Event) {
        match event {
            Event::Suspected(actor) => {
                self.suspected.entry(actor.node).or_insert(now);
            }
            Event::Joined(actor, _) | Event::Refuted(actor) | Event::Left(actor) => {
                self.suspected.remove(&actor.node);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use watchfire_wire::Actor;

    use super::*;

    const ME: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);
    const CHECK: CheckId = CheckId([7; 16]);

    fn word(verdict: Verdict, owner: NodeId, since_ms: u64) -> Option<Published> {
        Some(Published {
            verdict,
            reason: 0,
            since_ms,
            latency_us: 1,
            owner,
            frozen: false,
        })
    }

    fn count(histogram: &Histogram) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("h", "H", histogram.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let count = text.lines().find(|line| line.starts_with("h_count"));
        count.unwrap().to_owned()
    }

    #[test]
    fn only_changes_are_news_and_only_fresh_ones_are_timed() {
        let timings = Timings::new();
        let mut observer = Observer::new(ME, timings.clone());
        let mut see = |wall_ms, what| observer.published(Time::ZERO, wall_ms, CHECK, what);
        let first = see(1_000_000, word(Verdict::Up, OTHER, 500)).unwrap();
        assert_eq!(first.from, Verdict::Unknown);
        assert_eq!(see(1_000_000, word(Verdict::Up, ME, 500)), None);
        assert!(see(1_000_010, word(Verdict::Down, OTHER, 1_000_000)).is_some());
        assert_eq!(count(&timings.transition_to_table), "h_count 1");
        // A partition healed: an old word that is new here.
        assert!(see(9_000_000, word(Verdict::Up, OTHER, 1_100_000)).is_some());
        assert_eq!(count(&timings.transition_to_table), "h_count 1");
    }

    #[test]
    fn a_takeover_is_timed_from_the_suspicion_of_who_died() {
        let timings = Timings::new();
        let mut observer = Observer::new(ME, timings.clone());
        let other = Actor {
            node: OTHER,
            epoch: 1,
            boot: 1,
        };
        let at = Time::from_millis;
        observer.published(at(0), 0, CHECK, word(Verdict::Up, OTHER, 0));
        observer.event(at(100), &Event::Suspected(other));
        observer.event(at(150), &Event::Refuted(other));
        observer.published(at(200), 0, CHECK, word(Verdict::Up, ME, 0));
        assert_eq!(count(&timings.takeover_gap), "h_count 0");
        observer.published(at(300), 0, CHECK, word(Verdict::Up, OTHER, 0));
        observer.event(at(400), &Event::Suspected(other));
        observer.event(at(900), &Event::Died(other));
        observer.published(at(950), 0, CHECK, word(Verdict::Up, ME, 0));
        assert_eq!(count(&timings.takeover_gap), "h_count 1");
    }
}
