//! POP time: what ends decisions everywhere at the same moment, though one
//! server's clock may be an hour off.
//!
//! It is this node's own monotonic clock plus the median of what the members'
//! wall clocks are ahead of it. Acks carry them. Fewer than three clocks have no
//! median worth the name: what was known before stays, and a node that never
//! knew more goes by what there is, once it has heard all that there are, or
//! after a minute.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::{NodeId, Time};

/// Clocks from which a median tells which one is wrong.
pub const CLOCKS: usize = 3;

/// A node that hears too few goes by what it has after this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A wall clock, as seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
    /// What it shows at this node's monotonic zero, milliseconds since 1970.
    pub at_zero_ms: u64,
    /// Something keeps it right.
    pub synchronised: bool,
}

/// POP time as one node knows it.
#[derive(Clone, Debug)]
pub struct PopClock {
    own: Wall,
    /// What members' clocks showed when they were last heard, and when that was.
    heard: BTreeMap<NodeId, (Wall, Time)>,
    started: Time,
    /// The POP's clock at this node's monotonic zero.
    at_zero_ms: Option<u64>,
    /// On how many clocks that rests.
    clocks: usize,
}

impl PopClock {
    /// That of a node that starts now.
    #[must_use]
    pub const fn new(own: Wall, now: Time) -> Self {
        Self {
            own,
            heard: BTreeMap::new(),
            started: now,
            at_zero_ms: None,
            clocks: 0,
        }
    }

    /// This node's own wall clock was set, or looked at again.
    pub fn set_own(&mut self, own: Wall) {
        self.own = own;
        self.decide(None);
    }

    /// A member's wall clock shows this now.
    pub fn hear(&mut self, now: Time, from: NodeId, wall_ms: u64, synchronised: bool) {
        let wall = Wall {
            at_zero_ms: wall_ms.saturating_sub(now.as_millis()),
            synchronised,
        };
        self.heard.insert(from, (wall, now));
        self.decide(None);
    }

    /// These are the other living members; the clocks of others do not count.
    pub fn set_living(&mut self, living: impl Fn(NodeId) -> bool) {
        self.heard.retain(|node, _| living(*node));
        self.decide(None);
    }

    /// Looks whether it must make do with what there is. `others`: how many
    /// other members live, once this node knows who does.
    pub fn settle(&mut self, now: Time, others: Option<usize>) {
        if self.at_zero_ms.is_some() {
            return;
        }
        let waited = now.since(self.started) >= PATIENCE;
        let all = others.is_some_and(|others| self.heard.len() >= others);
        if waited || all {
            self.decide(Some(()));
        }
    }

    /// The time in the POP, milliseconds since 1970, if it is known.
    #[must_use]
    pub fn now_ms(&self, now: Time) -> Option<u64> {
        self.at_zero_ms
            .map(|zero| zero.saturating_add(now.as_millis()))
    }

    /// The same, or the best guess.
    #[must_use]
    pub fn guess_ms(&self, now: Time) -> u64 {
        let own = self.own.at_zero_ms.saturating_add(now.as_millis());
        self.now_ms(now).unwrap_or(own)
    }

    /// When this node will see that POP time; [`Time::NEVER`] while it knows of
    /// none.
    #[must_use]
    pub fn when(&self, pop_ms: u64) -> Time {
        self.at_zero_ms.map_or(Time::NEVER, |zero| {
            Time::from_millis(pop_ms.saturating_sub(zero))
        })
    }

    /// When it makes do with what there is, if it still waits.
    #[must_use]
    pub fn patience(&self) -> Time {
        match self.at_zero_ms {
            Some(_) => Time::NEVER,
            None => self.started + PATIENCE,
        }
    }

    /// On how many clocks POP time rests.
    #[must_use]
    pub const fn clocks(&self) -> usize {
        self.clocks
    }

    /// By how much this node's own wall clock is off, milliseconds.
    #[must_use]
    pub fn own_error_ms(&self) -> i64 {
        let zero = self.at_zero_ms.unwrap_or(self.own.at_zero_ms);
        i64::try_from(i128::from(self.own.at_zero_ms) - i128::from(zero)).unwrap_or(i64::MAX)
    }

    /// By how much a member's wall clock is off, milliseconds, and when an ack of its
    /// last told it; nothing if none did.
    #[must_use]
    pub fn error_ms_of(&self, node: NodeId) -> Option<(i64, Time)> {
        let (wall, at) = self.heard.get(&node)?;
        let zero = self.at_zero_ms.unwrap_or(self.own.at_zero_ms);
        let off = i128::from(wall.at_zero_ms) - i128::from(zero);
        Some((i64::try_from(off).unwrap_or(i64::MAX), *at))
    }

    fn decide(&mut self, makes_do: Option<()>) {
        let heard = || self.heard.values().map(|(wall, _)| wall);
        let all = || heard().chain([&self.own]);
        let kept = all().filter(|wall| wall.synchronised).count() >= CLOCKS;
        let mut zeros: Vec<u64> = all()
            .filter(|wall| wall.synchronised || !kept)
            .map(|wall| wall.at_zero_ms)
            .collect();
        let known_by_few = self.at_zero_ms.is_some() && self.clocks < CLOCKS;
        if zeros.len() < CLOCKS && makes_do.is_none() && !known_by_few {
            return;
        }
        // Too few say nothing against what enough have said.
        if zeros.len() < CLOCKS && self.clocks >= CLOCKS {
            return;
        }
        zeros.sort_unstable();
        let (low, high) = (zeros[(zeros.len() - 1) / 2], zeros[zeros.len() / 2]);
        self.at_zero_ms = Some(low + (high - low) / 2);
        self.clocks = zeros.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(5_000);
    const HOUR_MS: u64 = 3_600_000;
    const RIGHT: u64 = 100 * HOUR_MS;

    fn clock(own_ms: u64, synchronised: bool) -> PopClock {
        let own = Wall {
            at_zero_ms: own_ms - NOW.as_millis(),
            synchronised,
        };
        PopClock::new(own, NOW)
    }

    #[test]
    fn one_clock_that_is_an_hour_off_moves_nothing() {
        for own in [RIGHT, RIGHT + HOUR_MS, RIGHT - HOUR_MS] {
            let mut clock = clock(own, true);
            assert_eq!(clock.now_ms(NOW), None);
            clock.hear(NOW, NodeId(1), RIGHT + 10, true);
            assert_eq!(clock.now_ms(NOW), None, "two cannot tell");
            clock.hear(NOW, NodeId(2), RIGHT, true);
            let now = clock.now_ms(NOW).unwrap();
            assert!(now.abs_diff(RIGHT) <= 10, "{now}");
            assert_eq!(clock.clocks(), 3);
            assert_eq!(clock.when(now + 7), Time::from_millis(5_007));
        }
    }

    #[test]
    fn clocks_that_nothing_keeps_right_do_not_count_where_others_do() {
        let mut clock = clock(RIGHT, true);
        for node in 1..=4 {
            clock.hear(NOW, NodeId(node), RIGHT + HOUR_MS, false);
        }
        assert_eq!(clock.now_ms(NOW), Some(RIGHT + HOUR_MS), "one alone");
        clock.hear(NOW, NodeId(5), RIGHT, true);
        clock.hear(NOW, NodeId(6), RIGHT, true);
        assert_eq!(clock.now_ms(NOW), Some(RIGHT));
    }

    #[test]
    fn few_clocks_wait_and_then_do() {
        let mut alone = clock(RIGHT, true);
        alone.settle(NOW, None);
        assert_eq!(alone.now_ms(NOW), None);
        alone.settle(NOW, Some(0));
        assert_eq!((alone.now_ms(NOW), alone.clocks()), (Some(RIGHT), 1));

        let mut two = clock(RIGHT, true);
        two.settle(NOW, Some(1));
        assert_eq!(two.now_ms(NOW), None, "the other was not heard");
        two.hear(NOW, NodeId(1), RIGHT + HOUR_MS, true);
        two.settle(NOW, Some(1));
        assert_eq!(two.now_ms(NOW), Some(RIGHT + HOUR_MS / 2), "together");

        let mut cut = clock(RIGHT, true);
        assert_eq!(cut.patience(), NOW + PATIENCE);
        cut.settle(NOW + PATIENCE, Some(9));
        assert_eq!(cut.now_ms(NOW), Some(RIGHT));
    }

    #[test]
    fn who_is_left_alone_goes_by_what_all_knew() {
        let mut clock = clock(RIGHT + HOUR_MS, true);
        clock.hear(NOW, NodeId(1), RIGHT, true);
        clock.hear(NOW, NodeId(2), RIGHT, true);
        clock.set_living(|_| false);
        clock.settle(NOW + PATIENCE, Some(0));
        assert_eq!(clock.now_ms(NOW), Some(RIGHT));
        assert_eq!(clock.own_error_ms(), HOUR_MS as i64);
    }
}
