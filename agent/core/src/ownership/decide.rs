//! The rules of duty: what shall this node do about a check now?
//!
//! One pure function of what is known. The *place* of a node is how many rank
//! above it among those who could probe the check: eligible, configured as far
//! as is known, and not declined. Suspected members count until they are dead,
//! so that views that differ cannot let more than three start.
//!
//! 1. The first starts at once. The second and third start when there has been
//!    no evidence for as long as their patience, on the backup budget, which
//!    pays until others have fetched their word. Nobody
//!    else ever starts because time has passed: only because those above died,
//!    left, fell ill, declined, or are known not to configure the check.
//! 2. A word that says that nothing could be measured is weak: it is evidence to
//!    all but the first three, and stops nobody who measures.
//! 3. Who becomes the first while somebody else is at it takes over once that
//!    has lasted; or each step of a rollout would move each check.
//! 4. Once the owner has been suspected for a while the first that is not probes
//!    beside it, on the backup budget, unless this node is late itself.
//!    A node that suspects most of the POP is cut off with few others: there it
//!    waits for no place and no budget.
//! 5. A prober stops when evidence ranks above it, and not before.

use core::time::Duration;

use watchfire_wire::Time;

use super::OwnershipConfig;
use super::role::{Basis, Probing, Role, Standby};
use crate::limits::RANKS_WITHOUT_EVIDENCE;
use crate::mutations::{Mutation, Mutations};

/// What is known about a check when something about it may have changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) now: Time,
    /// This node takes part in probing.
    pub(super) ready: bool,
    /// This node is among the ranked: healthy, not draining, with a capacity.
    pub(super) eligible: bool,
    /// This node's probe threads can measure.
    pub(super) healthy: bool,
    /// This node comes late to what it has to do.
    pub(super) late: bool,
    /// How many that could probe it rank above this node; from
    /// [`RANKS_WITHOUT_EVIDENCE`] on, and if this node has given the check up,
    /// not told apart.
    pub(super) place: usize,
    /// When more may be known of who could.
    pub(super) place_at: Time,
    /// This node has given the check up for a while.
    pub(super) given_up: bool,
    pub(super) evidence: Evidence,
    /// Somebody has fetched this node's word, so that it is evidence to others.
    pub(super) told: bool,
    /// This node suspects most of the POP and is on time itself: it, and few
    /// others, are cut off, and nobody else probes on this side.
    pub(super) cut_off: bool,
    /// While the owner is suspected, or this node is cut off: how many of those who could and are not
    /// suspected rank above this node.
    pub(super) follows: Option<usize>,
    /// When members will have neither come nor changed for a while.
    pub(super) settled_at: Time,
    /// When the first of all may probe for the first time, from the loss on.
    pub(super) lead: Duration,
    /// How long a probe and its word may take, for each place.
    pub(super) patience: Duration,
    /// When the backup budget affords another probe of what is probed.
    pub(super) afforded_at: Time,
    /// When it affords to start as a backup, if that is what is to be decided,
    /// or as a shadow, if somebody is suspected.
    pub(super) start_afforded_at: Time,
    pub(super) interval: Duration,
    pub(super) bugs: Mutations,
}

/// Who is at it, by the winning word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Nobody.
    None,
    /// This node.
    Mine,
    /// Somebody else who measures.
    Other {
        /// It ranks above this node.
        above: bool,
        /// Since when it is suspected.
        suspected: Option<Time>,
    },
    /// Somebody else who cannot measure it either.
    Weak,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Do not probe; remember this, and look again then.
    Rest { standby: Standby, until: Time },
    /// Begin to probe.
    Start {
        basis: Basis,
        /// Somebody else goes on until it hears of it.
        overlap: bool,
    },
    /// Probe on, for this reason; look again then.
    GoOn {
        basis: Basis,
        /// The next probe is paid for from the backup budget.
        pays: bool,
        until: Time,
    },
    /// Stop and say so.
    Stop,
}

/// What this node shall do about a check.
pub(super) fn decide(facts: &Facts, role: &Role, config: &OwnershipConfig) -> Decision {
    match role {
        Role::Standby(standby) => stand_by(facts, standby, config),
        Role::Probing(probing) => go_on(facts, probing),
    }
}

fn stand_by(facts: &Facts, standby: &Standby, config: &OwnershipConfig) -> Decision {
    let now = facts.now;
    if !facts.ready || !facts.eligible {
        return rest(Standby::default(), Time::NEVER);
    }
    match facts.evidence {
        Evidence::Other {
            suspected: None, ..
        } => {
            if facts.place > 0 {
                return rest(Standby::default(), facts.place_at);
            }
            let since = standby.first_since.unwrap_or(now);
            let settled = facts.settled_at.min(since + config.standing_max);
            let due = (since + config.standing).max(settled);
            if due > now {
                let standby = Standby {
                    first_since: Some(since),
                    lost_at: None,
                };
                return rest(standby, due);
            }
            Decision::Start {
                basis: Basis::Owner,
                overlap: true,
            }
        }
        Evidence::Other {
            suspected: Some(since),
            ..
        } => {
            let behind = facts.follows.filter(|&n| n < RANKS_WITHOUT_EVIDENCE);
            let near = facts.place < RANKS_WITHOUT_EVIDENCE || facts.cut_off;
            let Some(behind) = behind.filter(|_| near) else {
                return rest(Standby::default(), facts.place_at);
            };
            let behind = u32::try_from(behind).unwrap_or(u32::MAX).min(8);
            back_up(
                facts,
                Basis::Shadow,
                since + config.shadow_after + facts.patience * behind,
                Standby::default(),
                config,
            )
        }
        Evidence::None | Evidence::Weak | Evidence::Mine => {
            let weak = facts.evidence == Evidence::Weak;
            let lost_at = standby.lost_at.unwrap_or(now);
            let standby = Standby {
                lost_at: Some(lost_at),
                first_since: None,
            };
            let open = facts.bugs.on(Mutation::WeakWordOpensTheDoor) && !facts.given_up;
            // On a side that was cut off those who are suspected do not count.
            let place = facts
                .follows
                .filter(|_| facts.cut_off)
                .unwrap_or(facts.place);
            if weak && open || place == 0 {
                return Decision::Start {
                    basis: Basis::Owner,
                    overlap: weak,
                };
            }
            if place >= RANKS_WITHOUT_EVIDENCE
                && !facts.bugs.on(Mutation::EveryRankProbesWithoutEvidence)
            {
                return rest(standby, facts.place_at);
            }
            let place = u32::try_from(place).unwrap_or(u32::MAX).min(8);
            back_up(
                facts,
                Basis::Backup,
                lost_at + facts.lead + facts.patience * place,
                standby,
                config,
            )
        }
    }
}

/// Starts beside others when it is due, if this node is well and can afford it.
fn back_up(
    facts: &Facts,
    basis: Basis,
    due: Time,
    standby: Standby,
    config: &OwnershipConfig,
) -> Decision {
    if due > facts.now {
        return rest(standby, due.min(facts.place_at));
    }
    if facts.late {
        return rest(standby, facts.now + config.late_retry);
    }
    if facts.start_afforded_at > facts.now && !facts.bugs.on(Mutation::BackupWithoutBudget) {
        // What is earned changes with what is owned.
        let again = facts.now + config.budget_retry;
        return rest(standby, facts.start_afforded_at.min(again));
    }
    Decision::Start {
        basis,
        overlap: false,
    }
}

fn go_on(facts: &Facts, probing: &Probing) -> Decision {
    let now = facts.now;
    if !facts.healthy {
        return Decision::Stop;
    }
    if let Evidence::Other {
        above,
        suspected: None,
    } = facts.evidence
        && (above || !facts.eligible)
        && !facts.bugs.on(Mutation::TakeoverNeverStops)
    {
        return Decision::Stop;
    }
    let suspected = matches!(
        facts.evidence,
        Evidence::Other {
            suspected: Some(_),
            ..
        }
    );
    let mine = facts.evidence == Evidence::Mine;
    let basis = match probing.basis {
        // Who hands over goes on as it was until others are at it.
        basis if !facts.eligible => basis,
        _ if facts.place == 0 => Basis::Owner,
        Basis::Owner if mine => Basis::Owner,
        // Nobody else is at it, nor will be while this word stands: stopping
        // would leave the check to nobody.
        Basis::Backup if mine && facts.told => Basis::Owner,
        Basis::Shadow if suspected => Basis::Shadow,
        _ => Basis::Backup,
    };
    if basis == Basis::Owner || !facts.eligible || facts.bugs.on(Mutation::BackupWithoutBudget) {
        return Decision::GoOn {
            basis,
            pays: false,
            until: Time::NEVER,
        };
    }
    // Three others could, and nobody has a word of this node's: it is not
    // needed. But who has only just come may not know enough to probe: while
    // members come, whoever has begun pays and leaves its check to a word.
    let just_came = facts.evidence == Evidence::None && facts.settled_at > now;
    if facts.place >= RANKS_WITHOUT_EVIDENCE
        && !mine
        && !just_came
        && !facts.cut_off
        && !facts.bugs.on(Mutation::EveryRankProbesWithoutEvidence)
        && !facts.bugs.on(Mutation::WeakWordOpensTheDoor)
    {
        return Decision::Stop;
    }
    if probing.paid_until > now {
        return Decision::GoOn {
            basis,
            pays: false,
            until: probing.paid_until,
        };
    }
    if facts.afforded_at > now {
        return Decision::Stop;
    }
    Decision::GoOn {
        basis,
        pays: true,
        until: now + facts.interval,
    }
}

const fn rest(standby: Standby, until: Time) -> Decision {
    Decision::Rest { standby, until }
}

#[cfg(test)]
mod tests;
