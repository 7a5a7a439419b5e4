//! One deadline per check in a heap: setting and firing cost the logarithm.

use core::time::Duration;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use watchfire_wire::Time;

use super::ranks::CheckIx;

/// The least time from one look at a check to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The deadlines of all checks. An entry that its check no longer stands by is
/// stale and skipped; when stale ones outnumber the checks several times the
/// heap is rebuilt.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Time, CheckIx)>>,
    due: Vec<Time>,
}

impl Timers {
    /// The check wants to be looked at then, instead of at any earlier choice;
    /// but not again at once: a rule that names a moment that has passed would
    /// otherwise be asked for ever.
    pub(super) fn set(&mut self, now: Time, ix: CheckIx, at: Time) {
        let at = at.max(now + LOOK_AGAIN);
        let place = ix as usize;
        if self.due.len() <= place {
            self.due.resize(place + 1, Time::NEVER);
        }
        if self.due[place] == at {
            return;
        }
        self.due[place] = at;
        if at != Time::NEVER {
            self.heap.push(Reverse((at, ix)));
            if self.heap.len() > 64 + 4 * self.due.len() {
                let due = &self.due;
                self.heap
                    .retain(|&Reverse((at, ix))| due[ix as usize] == at);
            }
        }
    }

    /// The check wants nothing any more.
    pub(super) fn clear(&mut self, ix: CheckIx) {
        if let Some(due) = self.due.get_mut(ix as usize) {
            *due = Time::NEVER;
        }
    }

    /// When the next deadline is; it may be a stale one, which costs a wake-up.
    pub(super) fn next(&self) -> Time {
        self.heap.peek().map_or(Time::NEVER, |&Reverse((at, _))| at)
    }

    /// Takes one check whose deadline has passed.
    pub(super) fn pop(&mut self, now: Time) -> Option<CheckIx> {
        while let Some(&Reverse((at, ix))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if self.due[ix as usize] == at {
                self.due[ix as usize] = Time::NEVER;
                return Some(ix);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_has_passed_is_not_looked_at_for_ever() {
        let mut timers = Timers::default();
        let mut now = Time::from_millis(10);
        timers.set(now, 3, Time::from_millis(2));
        assert_eq!(timers.pop(now), None);
        now += LOOK_AGAIN;
        let mut looks = 0;
        while let Some(ix) = timers.pop(now) {
            timers.set(now, ix, Time::from_millis(2));
            looks += 1;
        }
        assert_eq!(looks, 1);
        assert_eq!(timers.next(), now + LOOK_AGAIN);
    }

    #[test]
    fn the_last_choice_counts() {
        let mut timers = Timers::default();
        let now = Time::ZERO;
        timers.set(now, 1, Time::from_millis(5));
        timers.set(now, 1, Time::from_millis(9));
        timers.set(now, 2, Time::from_millis(7));
        timers.clear(2);
        assert_eq!(timers.pop(Time::from_millis(8)), None);
        assert_eq!(timers.pop(Time::from_millis(9)), Some(1));
        assert_eq!(timers.pop(Time::from_millis(99)), None);
    }
}
