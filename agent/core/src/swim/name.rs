//! This node's own name, when others speak of it: refutation, greater epochs,
//! and other live holders of the name.

use core::cmp::Ordering;
use core::net::SocketAddr;

use watchfire_wire::message::swim::{ArchivedNews, News, Rumor, Swim as Body};
use watchfire_wire::{Actor, Time};

use super::Swim;
use super::judge::order;
use super::limits::{INQUIRY_GAP, INQUIRY_TRIES};
use super::output::Output;
use crate::budget::Class;
use crate::mutations::Mutation;

/// A question to another address: does somebody there bear this node's name?
#[derive(Debug)]
pub(super) struct Inquiry {
    holder: Actor,
    addr: SocketAddr,
    seq: u32,
    tries: u32,
    next: Time,
}

impl Inquiry {
    /// When it is repeated or given up.
    pub(super) const fn next(&self) -> Time {
        self.next
    }
}

impl Swim {
    /// What this node says of itself, as a rumor.
    pub(super) fn introduction(&self) -> Rumor {
        Rumor {
            about: self.me,
            incarnation: self.incarnation,
            news: News::Alive(self.profile.clone()),
        }
    }

    /// A rumor speaks of this node's name.
    pub(super) fn judge_own(
        &mut self,
        now: Time,
        home: Option<SocketAddr>,
        about: Actor,
        incarnation: u32,
        news: &ArchivedNews,
        out: &mut Vec<Output>,
    ) {
        if about.boot == self.me.boot {
            match order(about, self.me) {
                Ordering::Equal => self.judge_this_life(home, incarnation, news, out),
                // News of a life that this process has left behind.
                Ordering::Less => self.correct(home, out),
                Ordering::Greater => self.need_epoch(about.epoch, out),
            }
            return;
        }
        let later = order(about, self.me) == Ordering::Greater;
        if let ArchivedNews::Alive(profile) = news {
            let addr = SocketAddr::from(&profile.addr);
            if addr != self.profile.addr {
                return self.inquire(now, about, addr, out);
            }
        }
        // Either it lived at this very address, which this process now holds,
        // or it is said to be gone: only its epoch matters.
        if later {
            self.need_epoch(about.epoch, out);
        } else if matches!(news, ArchivedNews::Alive(_)) {
            self.correct(home, out);
        }
    }

    /// The POP remembers this epoch of this node's name: asks for a greater
    /// one, once.
    pub(super) fn need_epoch(&mut self, remembered: u64, out: &mut Vec<Output>) {
        let needed = remembered.saturating_add(1);
        if needed <= self.me.epoch
            || needed <= self.epoch_asked
            || self.config.mutations.on(Mutation::EpochBelowFloorIgnored)
        {
            return;
        }
        self.epoch_asked = needed;
        self.counters.epochs_needed += 1;
        out.push(Output::EpochNeeded(needed));
    }

    /// Somebody of this node's name answered an inquiry: one of the two must
    /// go. Newcomers give way to those who were there; after a partition the
    /// lower epoch does.
    pub(super) fn holder_answered(&mut self, sender: Actor, seq: u32, out: &mut Vec<Output>) {
        let Some(inquiry) = self.inquiry.take_if(|inquiry| inquiry.seq == seq) else {
            return;
        };
        if !self.admitted || order(self.me, sender) == Ordering::Less {
            self.counters.conflicts += 1;
            self.silent = true;
            out.push(Output::Conflict {
                addr: inquiry.addr,
                actor: sender,
            });
        } else {
            // It is the one to go: it shall look for this node in turn.
            let introduction = self.introduction();
            self.tell_directly(Class::Retry, inquiry.addr, introduction, out);
        }
    }

    /// Repeats an inquiry that is due, or gives it up: nobody is there.
    pub(super) fn poll_inquiry(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(inquiry) = &mut self.inquiry else {
            return;
        };
        if inquiry.next > now {
            return;
        }
        if inquiry.tries < INQUIRY_TRIES {
            inquiry.tries += 1;
            inquiry.next = now + self.config.period;
            let (addr, seq) = (inquiry.addr, inquiry.seq);
            let body = Body::Ping {
                seq,
                to: self.me.node,
                digest: 0,
                view: 0,
            };
            self.send(Class::Retry, addr, body, Vec::new(), out);
            return;
        }
        let holder = inquiry.holder;
        self.inquiry = None;
        if order(holder, self.me) == Ordering::Greater {
            self.need_epoch(holder.epoch, out);
        }
        self.joining.asked = true;
        self.joining.hurry(now);
    }

    fn judge_this_life(
        &mut self,
        home: Option<SocketAddr>,
        incarnation: u32,
        news: &ArchivedNews,
        out: &mut Vec<Output>,
    ) {
        match news {
            ArchivedNews::Alive(_) => {
                // Only this node raises its incarnation; whatever this is, it
                // must not stand above what this node says.
                if incarnation > self.incarnation {
                    self.raise(incarnation, true, out);
                }
            }
            ArchivedNews::Suspect { .. } | ArchivedNews::Dead { .. } => {
                if self.config.mutations.on(Mutation::NoRefutation) {
                    return;
                }
                if incarnation >= self.incarnation {
                    self.counters.refutations += 1;
                    if matches!(news, ArchivedNews::Suspect { .. }) {
                        self.health.worsen(1);
                    }
                    self.raise(incarnation, true, out);
                }
                self.correct(home, out);
            }
            ArchivedNews::Left => {
                if self.leaving.is_none() {
                    // A goodbye is final for its life, so this life is over.
                    self.need_epoch(self.me.epoch, out);
                }
            }
        }
    }

    /// Takes an incarnation above this one and announces it.
    /// What is not urgent rides on pings and acks.
    pub(super) fn raise(&mut self, above: u32, urgent: bool, out: &mut Vec<Output>) {
        // The last one is refused by everybody, so that this cannot overflow.
        if above >= u32::MAX - 1 {
            return self.need_epoch(self.me.epoch, out);
        }
        let old = (self.me, self.incarnation);
        self.incarnation = above + 1;
        self.table.renew_me(old, (self.me, self.incarnation));
        if urgent {
            self.announce_first(self.introduction());
        } else {
            self.gossip.tell(self.introduction());
        }
    }

    /// A member that holds an old belief about this node hears the present. To
    /// an address that is not its own nothing goes: the packet may be a replay.
    fn correct(&mut self, home: Option<SocketAddr>, out: &mut Vec<Output>) {
        if let Some(home) = home {
            let introduction = self.introduction();
            self.tell_directly(Class::Retry, home, introduction, out);
        }
    }

    fn inquire(&mut self, now: Time, holder: Actor, addr: SocketAddr, out: &mut Vec<Output>) {
        if self.inquiry.is_some() || now < self.next_inquiry {
            return;
        }
        self.next_inquiry = now + INQUIRY_GAP;
        self.inquiry = Some(Inquiry {
            holder,
            addr,
            seq: self.next_seq(),
            tries: 0,
            next: now,
        });
        self.poll_inquiry(now, out);
    }
}
