//! Goodbye: a member that leaves says so, a few times to many, and is then
//! silent. Nobody needs to suspect it.

use watchfire_wire::Time;
use watchfire_wire::message::swim::{News, Rumor, Swim as Body};

use super::Swim;
use super::limits::{GOODBYE_FANOUT, GOODBYE_GAP, GOODBYES};
use super::output::Output;
use crate::budget::Class;

/// A goodbye that is under way.
#[derive(Debug)]
pub(super) struct Leaving {
    left: u32,
    next: Time,
}

impl Leaving {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            left: GOODBYES,
            next: now,
        }
    }

    /// When the next goodbye is due.
    pub(super) const fn next(&self) -> Time {
        self.next
    }
}

impl Swim {
    /// Says goodbye once more, or is gone.
    pub(super) fn poll_leaving(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        if leaving.next > now {
            return;
        }
        if leaving.left == 0 || self.table.living() == 0 {
            self.silent = true;
            out.push(Output::Departed);
            return;
        }
        leaving.left -= 1;
        leaving.next = now + GOODBYE_GAP;
        let goodbye = Rumor {
            about: self.me,
            incarnation: self.incarnation,
            news: News::Left,
        };
        for node in self.table.pick(GOODBYE_FANOUT, &[], &mut self.rng) {
            if let Some(member) = self.table.get(node) {
                out.push(Output::Send {
                    class: Class::Vital,
                    to: member.addr,
                    body: Body::News,
                    rumors: vec![goodbye.clone()],
                });
            }
        }
        self.gossip.tell(goodbye);
    }
}
