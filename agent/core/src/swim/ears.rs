//! Whether this node hears at all: after some silence it pings those whom it
//! heard last.
//!
//! Where most of a POP dies at once, those who are left hear each other seldom,
//! for each pings one of all the dead at a time. Their silence would look like
//! deafness of their own, and their suspicions would wait. An answer says
//! otherwise; it carries what others suspect, too.

use smallvec::SmallVec;
use watchfire_wire::{Actor, Time};

use super::Swim;
use super::limits::{EAR_TEST_HALF_PERIODS, EARS};
use super::member::State;
use super::output::Output;
use crate::budget::Class;

/// Who was heard last, the latest first.
#[derive(Debug, Default)]
pub(super) struct Ears {
    recent: SmallVec<[Actor; EARS]>,
    next: Time,
    seq: u32,
}

impl Ears {
    /// A living member was heard at its own address.
    pub(super) fn heard(&mut self, sender: Actor) {
        if self.recent.first() == Some(&sender) {
            return;
        }
        let known = self.recent.iter().position(|&one| one == sender);
        match known {
            Some(at) => drop(self.recent.remove(at)),
            None if self.recent.len() >= EARS => drop(self.recent.pop()),
            None => {}
        }
        self.recent.insert(0, sender);
    }

    /// This ping was a test.
    pub(super) const fn asked(&self, seq: u32) -> bool {
        seq == self.seq
    }
}

impl Swim {
    /// When the next test is due if nobody is heard until then.
    pub(super) fn next_ear_test(&self) -> Time {
        if self.table.living() <= 1 || !self.admitted {
            return Time::NEVER;
        }
        let patience = self.config.period * EAR_TEST_HALF_PERIODS / 2;
        (self.heard + patience).max(self.ears.next)
    }

    /// Pings those whom it heard last, if it has heard nobody for long. Where the
    /// bucket is low they are vital all the same: nothing else says whether the
    /// silence is its own.
    pub(super) fn poll_ears(&mut self, now: Time, out: &mut Vec<Output>) {
        if now < self.next_ear_test() {
            return;
        }
        self.ears.next = now + self.config.period;
        self.ears.seq = self.next_seq();
        let seq = self.ears.seq;
        let asked: SmallVec<[_; EARS]> = self.ears.recent.iter().map(|one| one.node).collect();
        for node in asked {
            let Some(member) = self.table.get(node) else {
                continue;
            };
            if !matches!(member.state, State::Alive | State::Suspect) {
                continue;
            }
            let addr = member.addr;
            if !self.ping(Class::Vital, addr, node, seq, false, out) {
                break;
            }
            self.counters.ear_tests += 1;
        }
    }
}
