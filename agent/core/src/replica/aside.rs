//! Actors whose words nobody can have come to honestly: they are set aside for a
//! while, and asked again, for what is implausible now may not be later.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::message::replica::{Claim, Cover};
use watchfire_wire::{Actor, NodeId, Time};

use super::replicator::{Out, Replicator};
use crate::io::Implausible;
use crate::limits::{ASIDE, ASIDE_MAX, ASIDE_MIN, ASIDE_NAMED};

/// Who is set aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside {
    until: BTreeMap<Actor, Row>,
    now: Time,
}

/// Until when, for how long, and up to which number it is known to reach.
#[derive(Clone, Copy, Debug)]
struct Row {
    until: Time,
    wait: Duration,
    hi: u64,
}

impl Replicator {
    /// Terms and epochs beyond these are implausible, until this is said again.
    pub fn set_bounds(&mut self, now: Time, term_max: u64, epoch_max: u64) {
        self.aside.now = now;
        self.store.term_max = term_max;
        self.epoch_max = epoch_max.min(crate::swim::limits::EPOCH_MAX);
    }

    /// Nothing of this actor is asked for now.
    pub(super) fn is_set_aside(&self, actor: Actor) -> bool {
        let row = self.aside.until.get(&actor);
        row.is_some_and(|row| row.until > self.aside.now)
    }

    /// This actor was set aside at some time, and may be again.
    #[must_use]
    pub fn was_set_aside(&self, actor: Actor) -> bool {
        self.aside.until.contains_key(&actor)
    }

    /// A delta of this actor up to `hi` was implausible.
    pub(super) fn set_aside(
        &mut self,
        now: Time,
        actor: Actor,
        hi: u64,
        what: Implausible,
        out: &mut Vec<Out>,
    ) {
        match what {
            Implausible::Term => self.counters.implausible += 1,
            Implausible::Foreign => self.counters.foreign += 1,
        }
        let all = &mut self.aside.until;
        let known = all.get(&actor).map(|row| row.wait);
        if known.is_none() {
            out.push(Out::Implausible(actor, what));
            let soonest = all.iter().min_by_key(|(_, row)| row.until);
            if let Some(soonest) = soonest
                .map(|(actor, _)| *actor)
                .filter(|_| all.len() >= ASIDE)
            {
                all.remove(&soonest);
            }
        }
        let wait = known.map_or(ASIDE_MIN, |wait| (wait * 2).min(ASIDE_MAX));
        let until = now + wait;
        all.insert(actor, Row { until, wait, hi });
    }

    /// No life of this node is set aside any more.
    pub(super) fn forget_aside(&mut self, node: NodeId) {
        self.aside.until.retain(|actor, _| actor.node != node);
    }

    /// How many of them a comparison names.
    pub(super) fn aside_named(&self) -> usize {
        self.aside.until.len().min(ASIDE_NAMED)
    }

    /// Claims for a comparison, so that nobody sends what is set aside: it is
    /// named up to where it was refused.
    pub(super) fn name_aside(&self, claims: &mut Vec<Claim>, cover: Cover) {
        if cover.first > cover.last {
            return;
        }
        let all = self.aside.until.range(cover.first..=cover.last);
        let aside = all.filter(|(_, row)| row.until > self.aside.now);
        for (&actor, row) in aside.take(self.aside_named()) {
            let claim = Claim {
                actor,
                seq: row.hi,
                // Above all others: whoever has the same does not send its own.
                digest: u64::MAX,
            };
            match claims.binary_search_by_key(&actor, |claim| claim.actor) {
                Ok(at) => claims[at] = claim,
                Err(at) => claims.insert(at, claim),
            }
        }
    }
}
