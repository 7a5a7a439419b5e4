//! Actors whose words nobody can have come to honestly: they are set aside for a
//! while, and asked again, for what is implausible now may not be later.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::{Actor, Time};

use super::replicator::{Out, Replicator};
use crate::limits::{ASIDE, ASIDE_MAX, ASIDE_MIN};

/// Who is set aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside {
    until: BTreeMap<Actor, (Time, Duration)>,
    now: Time,
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
        let until = self.aside.until.get(&actor);
        until.is_some_and(|(until, _)| *until > self.aside.now)
    }

    /// A delta of this actor was implausible.
    pub(super) fn set_aside(&mut self, now: Time, actor: Actor, out: &mut Vec<Out>) {
        self.counters.implausible += 1;
        let all = &mut self.aside.until;
        let known = all.get(&actor).map(|(_, wait)| *wait);
        if known.is_none() {
            out.push(Out::Implausible(actor));
            let soonest = all.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(soonest) = soonest
                .map(|(actor, _)| *actor)
                .filter(|_| all.len() >= ASIDE)
            {
                all.remove(&soonest);
            }
        }
        let wait = known.map_or(ASIDE_MIN, |wait| (wait * 2).min(ASIDE_MAX));
        all.insert(actor, (now + wait, wait));
    }
}
