//! What a rumor is worth: it is compared with what is known of its member, and
//! what is news is told on.
//!
//! Of two lives of one node the one of the greater epoch counts. Within a life
//! the greater incarnation counts, and at equal ones death over suspicion over
//! life; but a death is believed only of a suspect, so that a node which was cut
//! off cannot bury those who lived on without it. A goodbye is final for its
//! life.

use core::cmp::Ordering;
use core::net::SocketAddr;

use rkyv::rancor::Failure;
use watchfire_wire::limits::{MEMBERS, NODE_NAME_BYTES, RUMORS_PER_PACKET};
use watchfire_wire::message::swim::{
    ArchivedNews, ArchivedProfile, ArchivedRumor, News, Profile, Rumor,
};
use watchfire_wire::{Actor, NodeId, Time};

use super::limits::{DEAF_MAX, LATE_SUSPICION_MAX, SUSPICION_STRETCH_MAX};
use super::member::{Member, State};
use super::output::Output;
use super::suspicion::Suspicion;
use super::{Swim, sync};
use crate::budget::Class;

/// How rumors arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As news: they are told on.
    News,
    /// As another's records: they are not told on.
    Record,
}

impl Swim {
    /// Judges the rumors of one packet. If its sender is known at the address
    /// that it came from, `home` is that address.
    pub(super) fn judge_all(
        &mut self,
        now: Time,
        home: Option<SocketAddr>,
        rumors: &[ArchivedRumor],
        manner: Manner,
        out: &mut Vec<Output>,
    ) {
        let mut doubts = sync::Doubts::default();
        for rumor in rumors.iter().take(RUMORS_PER_PACKET) {
            let about = Actor::from(&rumor.about);
            let incarnation = rumor.incarnation.to_native();
            let barred = self.barred.contains(&about.node);
            if barred || about.epoch > self.epoch_max || incarnation == u32::MAX {
                self.counters.rumors_refused += 1;
            } else if about.node == self.me.node {
                self.judge_own(now, home, about, incarnation, &rumor.news, out);
            } else {
                match &rumor.news {
                    ArchivedNews::Alive(profile) => {
                        let dead = self.hear_alive(now, about, incarnation, profile, manner, out);
                        if dead && manner == Manner::Record {
                            doubts.add(about.node);
                        }
                    }
                    ArchivedNews::Suspect { by } => {
                        self.hear_suspect(now, about, incarnation, NodeId::from(by), out);
                    }
                    ArchivedNews::Dead { by } => {
                        self.hear_dead(now, about, incarnation, NodeId::from(by), manner, out);
                    }
                    ArchivedNews::Left => self.hear_left(now, about, incarnation, manner, out),
                }
            }
        }
        self.resolve(doubts, out);
    }

    /// This node's own finding: the member did not answer. The suspect hears of
    /// it first.
    pub(super) fn accuse(&mut self, now: Time, suspect: Actor, out: &mut Vec<Output>) {
        let Some(member) = self.table.get(suspect.node) else {
            return;
        };
        if member.actor != suspect || !member.state.is_living() {
            return;
        }
        let (incarnation, addr, by) = (member.incarnation, member.addr, self.me.node);
        self.counters.accusations += 1;
        let rumor = Rumor {
            about: suspect,
            incarnation,
            news: News::Suspect { by },
        };
        self.tell_directly(Class::Retry, addr, rumor, out);
        self.hear_suspect(now, suspect, incarnation, by, out);
    }

    /// Suspicions that have run out become deaths.
    pub(super) fn poll_suspicions(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.is_deaf(now) {
            let until = (self.heard + DEAF_MAX).max(now + self.config.period);
            self.table.suspicions().for_each(|s| s.postpone(now, until));
            return;
        }
        if self.late > 0 && !self.trusts_blindly() {
            // What would end them may wait behind this node's own work.
            let later = now + self.config.period;
            self.table
                .suspicions()
                .filter(|s| s.age(now) < LATE_SUSPICION_MAX)
                .for_each(|s| s.postpone(now, later));
        }
        while let Some(node) = self.table.run_out(now) {
            let Some(member) = self.table.get(node) else {
                return;
            };
            let (actor, incarnation, by) = (member.actor, member.incarnation, self.me.node);
            self.counters.deaths += 1;
            self.hear_dead(now, actor, incarnation, by, Manner::News, out);
        }
    }

    /// How many times as long as usual a suspicion lasts, for this node is slow.
    pub(super) fn stretch(&self) -> u32 {
        (self.late + 1).min(SUSPICION_STRETCH_MAX)
    }

    /// True if it says that somebody lives who died here at that incarnation.
    pub(super) fn hear_alive(
        &mut self,
        now: Time,
        about: Actor,
        incarnation: u32,
        profile: &ArchivedProfile,
        manner: Manner,
        out: &mut Vec<Output>,
    ) -> bool {
        let known = self.table.get(about.node);
        let displaced = match known {
            None => None,
            Some(member) => match order(about, member.actor) {
                Ordering::Less => return false,
                Ordering::Greater => member.state.is_living().then_some(member.actor),
                Ordering::Equal => {
                    if member.state == State::Left || incarnation < member.incarnation {
                        return false;
                    }
                    if incarnation == member.incarnation {
                        return member.state == State::Dead;
                    }
                    None
                }
            },
        };
        let same_life = known.filter(|member| member.actor == about);
        let was = same_life.map(|member| (member.state, member.profile.clone()));
        let crowded = self.table.living() + 1 >= MEMBERS;
        let Some(profile) = believable(about, profile) else {
            self.counters.rumors_refused += 1;
            return false;
        };
        let comes =
            displaced.is_none() && !was.as_ref().is_some_and(|(state, _)| state.is_living());
        if about.epoch < self.table.floor(about.node) || crowded && comes {
            self.counters.rumors_refused += 1;
            return false;
        }
        let since = match (&known, &was) {
            (Some(member), Some((State::Alive, _))) => member.since,
            _ => now,
        };
        let member = Member {
            actor: about,
            addr: profile.addr,
            incarnation,
            state: State::Alive,
            since,
            profile: profile.clone(),
        };
        self.table.displace(member, &mut self.rng);
        if let Some(displaced) = displaced {
            out.push(Output::Died(displaced));
        }
        let mut urgent = true;
        let mut refuted = false;
        match was {
            Some((state, before)) if state.is_living() => {
                if state == State::Suspect {
                    refuted = true;
                    out.push(Output::Refuted(about));
                }
                urgent = state == State::Suspect || !profile.differs_in_checks_only(&before);
                if before != profile {
                    out.push(Output::ProfileChanged(about));
                }
            }
            _ => out.push(Output::Joined(about)),
        }
        if manner == Manner::News {
            let rumor = Rumor {
                about,
                incarnation,
                news: News::Alive(profile),
            };
            if refuted {
                self.announce_first(rumor);
            } else if urgent {
                self.announce(rumor);
            } else {
                self.gossip.tell(rumor);
            }
        }
        false
    }

    pub(super) fn hear_suspect(
        &mut self,
        now: Time,
        about: Actor,
        incarnation: u32,
        by: NodeId,
        out: &mut Vec<Output>,
    ) {
        let Some(member) = self.table.get(about.node) else {
            return;
        };
        // A suspicion above the incarnation of a death proves that the member
        // had refuted that.
        let returns = member.state == State::Dead && incarnation > member.incarnation;
        let suspectable = returns || member.state.is_living();
        if member.actor != about || incarnation < member.incarnation || !suspectable {
            return;
        }
        if member.state == State::Suspect && incarnation == member.incarnation {
            let grace = self.config.period;
            let news = self
                .table
                .suspicion(about.node)
                .is_some_and(|suspicion| suspicion.speak_out() | suspicion.confirm(now, by, grace));
            if !news {
                return;
            }
        } else {
            let fresh = member.state != State::Suspect;
            let member = Member {
                incarnation,
                state: State::Suspect,
                since: now,
                ..member.clone()
            };
            self.table.put(member, &mut self.rng);
            let members = self.table.living() + 1;
            let suspicion = Suspicion::new(&self.config, members, self.stretch(), now, by);
            self.table.suspect(about.node, suspicion);
            if returns {
                out.push(Output::Joined(about));
            }
            if fresh {
                out.push(Output::Suspected(about));
            }
        }
        self.announce(Rumor {
            about,
            incarnation,
            news: News::Suspect { by },
        });
    }

    fn hear_dead(
        &mut self,
        now: Time,
        about: Actor,
        incarnation: u32,
        by: NodeId,
        manner: Manner,
        out: &mut Vec<Output>,
    ) {
        let Some(member) = self.table.get(about.node) else {
            return;
        };
        let stale = match order(about, member.actor) {
            Ordering::Less => true,
            Ordering::Equal => match member.state {
                State::Alive | State::Suspect => incarnation < member.incarnation,
                State::Dead => incarnation <= member.incarnation,
                State::Left => true,
            },
            Ordering::Greater => false,
        };
        if stale {
            return;
        }
        if member.actor == about && member.state == State::Alive {
            // A death counts only where the suspicion that led to it was heard.
            // One that comes out of the blue is the belief of somebody who was
            // cut off: this node looks for itself, and next.
            self.table.hasten(about.node);
            return;
        }
        let grace = self.config.period;
        if member.actor == about
            && let Some(suspicion) = self.table.suspicion(about.node)
            && !suspicion.condemn(now, grace)
        {
            return;
        }
        let Some(member) = self.table.get(about.node) else {
            return;
        };
        let died = member.state.is_living().then_some(member.actor);
        let member = Member {
            actor: about,
            incarnation,
            state: State::Dead,
            since: now,
            ..member.clone()
        };
        self.table.displace(member, &mut self.rng);
        if let Some(died) = died {
            out.push(Output::Died(died));
        }
        if manner == Manner::News {
            self.announce(Rumor {
                about,
                incarnation,
                news: News::Dead { by },
            });
        }
    }

    fn hear_left(
        &mut self,
        now: Time,
        about: Actor,
        incarnation: u32,
        manner: Manner,
        out: &mut Vec<Output>,
    ) {
        let Some(member) = self.table.get(about.node) else {
            return;
        };
        let order = order(about, member.actor);
        if order == Ordering::Less || order == Ordering::Equal && member.state == State::Left {
            return;
        }
        let gone = member.state.is_living().then_some(member.actor);
        let member = Member {
            actor: about,
            incarnation,
            state: State::Left,
            since: now,
            ..member.clone()
        };
        self.table.displace(member, &mut self.rng);
        if let Some(actor) = gone {
            out.push(Output::Left(actor));
        }
        if manner == Manner::News {
            self.announce(Rumor {
                about,
                incarnation,
                news: News::Left,
            });
        }
    }
}

/// Which of two lives of one node is the later.
pub(super) fn order(one: Actor, other: Actor) -> Ordering {
    (one.epoch, one.boot).cmp(&(other.epoch, other.boot))
}

/// The profile, if a member of that id may say this of itself.
fn believable(about: Actor, profile: &ArchivedProfile) -> Option<Profile> {
    let name = profile.name.as_str();
    if name.len() > NODE_NAME_BYTES || NodeId::of_name(name) != about.node {
        return None;
    }
    rkyv::api::low::deserialize::<Profile, Failure>(profile).ok()
}
