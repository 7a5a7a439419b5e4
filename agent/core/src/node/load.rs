//! Whether this node is late with its own work.
//!
//! A node that is late sees everything late: acks, refutations, its own probes.
//! What it would conclude from silence is then more likely its own doing, so it
//! suspects and takes over more slowly until it has been on time for a while.

use core::time::Duration;

use watchfire_wire::Time;

use crate::limits::{LATE, LATE_HOLD, LATE_LONG};

/// This node's own lateness.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    late_until: Option<Time>,
    late_since: Time,
    /// When health was last worsened for it.
    counted: Option<Time>,
    episodes: u64,
}

impl Load {
    /// Something of this node's own was late by so much: a timer, a turn, a
    /// datagram in the socket, a probe. True if that is to count against its
    /// health now, at most once in [`LATE_HOLD`].
    pub(super) fn note(&mut self, now: Time, by: Duration) -> bool {
        if by < LATE {
            return false;
        }
        if !self.is_late(now) {
            self.episodes += 1;
            self.late_since = now;
        }
        self.late_until = Some(now + LATE_HOLD);
        let due = self
            .counted
            .is_none_or(|counted| now.since(counted) >= LATE_HOLD);
        if due {
            self.counted = Some(now);
        }
        due
    }

    /// It was late within the last [`LATE_HOLD`].
    pub(super) fn is_late(&self, now: Time) -> bool {
        self.late_until.is_some_and(|until| until > now)
    }

    /// 0: on time; 1: late; 2: late for [`LATE_LONG`] or longer.
    pub(super) fn level(&self, now: Time) -> u32 {
        if !self.is_late(now) {
            0
        } else if now.since(self.late_since) < LATE_LONG {
            1
        } else {
            2
        }
    }

    /// How many times it began to be late.
    pub(super) const fn episodes(&self) -> u64 {
        self.episodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_lasts_a_while_and_counts_once_in_it() {
        let mut load = Load::default();
        let at = Time::from_millis;
        assert!(!load.note(at(0), LATE - Duration::from_micros(1)));
        assert!(!load.is_late(at(0)));
        assert!(load.note(at(10), LATE));
        assert!(!load.note(at(20), LATE), "counted already");
        assert!(load.is_late(at(20) + LATE_HOLD - Duration::from_micros(1)));
        assert!(!load.is_late(at(20) + LATE_HOLD));
        assert!(load.note(at(20) + LATE_HOLD, LATE));
        assert_eq!(load.episodes(), 2);
    }
}
