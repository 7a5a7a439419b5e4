//! What ownership knows of the members, and changes of it that wait to be
//! looked at together.
//!
//! A change of one member moves checks of all. A burst of them (a join of half
//! the POP, a storm of suspicions) is gathered for a moment, so that ranks are
//! taken once and not once for each.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::message::replica::Hold;
use watchfire_wire::{Actor, NodeId, Time};

use super::OwnershipConfig;
use super::duties::{Ctx, Duties, to_ix};
use super::ranks::CheckIx;
use super::role::{Duty, Role};
use crate::replica::Store;

/// What ownership needs to know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its present life.
    pub actor: Actor,
    /// It lives, suspected or not.
    pub living: bool,
    /// It is suspected.
    pub suspect: bool,
    /// Its weight; 0 owns nothing.
    pub capacity: u16,
    /// It hands over and takes nothing.
    pub draining: bool,
    /// Its probes can measure.
    pub healthy: bool,
    /// It holds new Downs back.
    pub braked: bool,
    /// Hash of the set of checks that it configures.
    pub checks: u64,
}

impl View {
    /// That it is suspected, or is no more, is all that has changed about it.
    fn differs_by_suspicion(self, before: Self) -> bool {
        let suspect = self.suspect;
        Self { suspect, ..before } == self
    }

    /// The weight with which it takes part in the ranking.
    const fn weight(&self) -> u16 {
        if self.living && self.healthy && !self.draining {
            self.capacity
        } else {
            0
        }
    }
}

/// The members as ownership sees them.
#[derive(Clone, Debug)]
pub(super) struct Members {
    views: BTreeMap<NodeId, View>,
    /// How many of them live: every look at a check asks for it.
    living: usize,
    /// Those of them that are suspected, since when.
    suspects: BTreeMap<NodeId, Time>,
    waiting: BTreeMap<NodeId, (Option<View>, Time)>,
    due: Time,
    /// When no member will have come for a while.
    settled_at: Time,
    /// When a member last changed what it configures.
    changed_at: Option<Time>,
    /// How many have come since all was last settled.
    came: usize,
}

impl Members {
    pub(super) const fn new() -> Self {
        Self {
            views: BTreeMap::new(),
            living: 0,
            suspects: BTreeMap::new(),
            waiting: BTreeMap::new(),
            due: Time::NEVER,
            settled_at: Time::ZERO,
            changed_at: None,
            came: 0,
        }
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&View> {
        self.views.get(&node)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.views.keys().copied()
    }

    pub(super) const fn living(&self) -> usize {
        self.living
    }

    pub(super) fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// How many of the living others hold new Downs back.
    pub(super) fn braked(&self, me: NodeId) -> usize {
        let others = self.views.iter().filter(|&(&node, _)| node != me);
        others
            .filter(|(_, view)| view.living && view.braked)
            .count()
    }

    pub(super) fn is_suspect(&self, node: NodeId) -> bool {
        self.suspects.contains_key(&node)
    }

    pub(super) fn suspected_since(&self, node: NodeId) -> Option<Time> {
        self.suspects.get(&node).copied()
    }

    /// Is this the present life of a living member?
    pub(super) fn is_current(&self, actor: Actor) -> bool {
        self.views
            .get(&actor.node)
            .is_some_and(|view| view.actor == actor && view.living)
    }

    /// From now on this is what is known of it; returns what was.
    fn replace(&mut self, node: NodeId, view: Option<View>) -> Option<View> {
        let before = match view {
            Some(view) => self.views.insert(node, view),
            None => self.views.remove(&node),
        };
        let lives = |view: Option<View>| usize::from(view.is_some_and(|view| view.living));
        self.living = self.living + lives(view) - lives(before);
        before
    }

    /// When members will have neither come nor changed for a while. A rollout
    /// goes on for as long as somebody configures something else.
    pub(super) fn settled_at(&self, alike: bool, config: &OwnershipConfig) -> Time {
        let wait = if alike {
            config.settle
        } else {
            config.settle_rollout
        };
        let rolled_out = self.changed_at.map_or(Time::ZERO, |at| at + wait);
        self.settled_at.max(rolled_out)
    }

    /// So many have come that what moves to them takes a while to be told.
    pub(super) const fn many_came(&self) -> bool {
        self.came > 1 + self.living / 16
    }

    /// One more comes, or another becomes able to probe.
    fn note_coming(&mut self, now: Time, settle: Duration) {
        if self.settled_at + settle * 8 < now {
            self.came = 0;
        }
        self.came += 1;
    }

    pub(super) const fn due(&self) -> Time {
        self.due
    }

    /// Something of a member changed. False if nothing did.
    fn note(&mut self, now: Time, node: NodeId, view: Option<View>, gather: Duration) {
        let latest = self
            .waiting
            .get(&node)
            .map_or_else(|| self.views.get(&node).copied(), |&(view, _)| view);
        if latest == view {
            return;
        }
        self.waiting.insert(node, (view, now));
        // Who goes leaves checks that nobody probes.
        let goes = latest.is_some_and(|view| view.weight() > 0)
            && view.is_none_or(|view| view.weight() == 0);
        // Who is suspected may have left them too.
        let wavers = view.is_some_and(|view| view.suspect);
        let wait = match (goes, wavers) {
            (true, _) => Duration::ZERO,
            (false, true) => gather / 10,
            (false, false) => gather,
        };
        self.due = self.due.min(now + wait);
    }
}

impl Duties {
    /// A member came, went, was suspected, refuted, or says something new of
    /// itself; `None` if it is forgotten. This node is a member too, and what
    /// changes of it counts at once; what changes of others does when
    /// [`look_at_members`](Self::look_at_members) is called at the time that
    /// [`next_timeout`](Self::next_timeout) names.
    pub fn set_member(&mut self, ctx: &mut Ctx<'_>, node: NodeId, view: Option<View>) {
        self.members.note(ctx.now, node, view, self.config.gather);
        if node == self.me {
            self.members.due = ctx.now;
            self.look_at_members(ctx);
        }
    }

    /// Looks at the members that changed, if it is time to.
    pub fn look_at_members(&mut self, ctx: &mut Ctx<'_>) {
        if self.members.due > ctx.now {
            return;
        }
        self.members.due = Time::NEVER;
        let changes = core::mem::take(&mut self.members.waiting);
        let mut touched = Vec::new();
        let mut weights = Vec::new();
        let mut gone = Vec::new();
        let mut suspicions = Vec::new();
        let mut goes = false;
        for (node, (view, noted_at)) in changes {
            let before = self.members.replace(node, view);
            if before == view {
                continue;
            }
            if view.is_some_and(|view| view.suspect) {
                self.members.suspects.entry(node).or_insert(noted_at);
            } else {
                self.members.suspects.remove(&node);
            }
            let living = view.filter(|view| view.living);
            self.holdings
                .set_member(ctx.now, node, living.map(|view| view.checks));
            if living.is_none() {
                gone.push(node);
            }
            let weight = view.map_or(0, |view| view.weight());
            let comes = weight > 0 && before.is_none_or(|view| view.weight() == 0);
            goes |= weight == 0 && before.is_some_and(|view| view.weight() > 0);
            // What a member configures first comes with it.
            let another = |before: View| {
                before.checks != 0 && view.is_some_and(|view| view.checks != before.checks)
            };
            if weight > 0 && before.is_some_and(another) {
                self.members.changed_at = Some(ctx.now);
            }
            if comes {
                self.members.note_coming(ctx.now, self.config.settle);
                self.members.settled_at = ctx.now + self.config.settle;
            }
            ctx.store.set_view(node, u64::from(weight));
            weights.push((node, weight));
            if before.map(|view| View { checks: 0, ..view })
                == view.map(|view| View { checks: 0, ..view })
            {
                continue;
            }
            if let (Some(before), Some(view)) = (before, view)
                && view.differs_by_suspicion(before)
            {
                suspicions.push(view.actor);
                continue;
            }
            // What it had evidence on is to be judged anew, in both its lives.
            let lives = [before, view].map(|view| view.map(|view| view.actor));
            let both = usize::from(lives[0] != lives[1]);
            for actor in lives.into_iter().flatten().take(1 + both) {
                let checks = ctx.store.words_by(actor).map(|slot| slot.check);
                touched.extend(checks.filter_map(|check| self.ix(check)));
            }
            if node == self.me {
                touched.extend((0..self.duties.len()).map(to_ix));
            }
        }
        for actor in suspicions {
            self.suspicion_changed(ctx.store, actor, &mut touched);
        }
        // Who comes is not needed where somebody is at it, and relieves who is
        // not. Who goes makes room for the next rank, which has to act if it is
        // this node.
        let me = self.me;
        let duties = &self.duties;
        self.ranks.set(&weights, |ix, first| {
            if first == Some(me) || duties[ix as usize].probing().is_some() {
                touched.push(ix);
            }
        });
        // Nor need this node be the first of all: those above it may not
        // configure a check that nobody is known to be at.
        if goes {
            let waits =
                |duty: &Duty| matches!(duty.role, Role::Standby(it) if it.lost_at.is_some());
            let waiting = (0..self.duties.len()).filter(|&ix| waits(&self.duties[ix]));
            touched.extend(waiting.map(to_ix));
        }
        touched.sort_unstable();
        touched.dedup();
        for ix in touched {
            self.consider(ctx, ix);
        }
        self.consider_moved(ctx);
        for node in gone {
            self.brake.forget(node);
            self.drop_peer(ctx, node);
        }
    }

    /// The checks about which it matters that this actor is suspected, or is no
    /// more: those that it is at, where this node is at it as well or near enough
    /// to be its shadow. In a storm of suspicions this is what each of them costs.
    fn suspicion_changed(&self, store: &Store, actor: Actor, touched: &mut Vec<CheckIx>) {
        // Where some may not configure a check, or do not count, anybody may be near.
        let all = !self.holdings.all_alike() || 2 * self.members.suspects() > self.members.living();
        let live = store.words_by(actor).filter(|slot| slot.hold == Hold::Live);
        let known = live.filter_map(|slot| self.ix(slot.check));
        touched.extend(known.filter(|&ix| {
            all || self.duties[ix as usize].probing().is_some() || self.ranks.is_near(ix, self.me)
        }));
    }

    /// Considers the checks for which somebody turned out to be no candidate,
    /// and those that wait for the end of a rollout which has come.
    pub(super) fn consider_moved(&mut self, ctx: &mut Ctx<'_>) {
        if self.holdings.take_alike_again() {
            let waits =
                |duty: &Duty| matches!(duty.role, Role::Standby(it) if it.first_since.is_some());
            let waiting = (0..self.duties.len()).filter(|&ix| waits(&self.duties[ix]));
            for ix in waiting.collect::<Vec<_>>() {
                self.consider(ctx, to_ix(ix));
            }
        }
        match self.holdings.take_moved() {
            Some(moved) => {
                for check in moved {
                    if let Some(ix) = self.ix(check) {
                        self.consider(ctx, ix);
                    }
                }
            }
            None => {
                for ix in 0..self.duties.len() {
                    self.consider(ctx, to_ix(ix));
                }
            }
        }
    }
}
