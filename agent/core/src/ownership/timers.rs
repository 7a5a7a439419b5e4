//! One deadline per check in a heap: setting and firing cost the logarithm.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use watchfire_wire::Time;

use super::ranks::CheckIx;

/// The deadlines of all checks. An entry that its check no longer stands by is
/// stale and skipped; when stale ones outnumber the checks several times the
/// heap is rebuilt.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Time, CheckIx)>>,
    due: Vec<Time>,
}

impl Timers {
    /// The check wants to be looked at then, instead of at any earlier choice.
    pub(super) fn set(&mut self, ix: CheckIx, at: Time) {
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
