//! What a screen shows of the POP beside its origins: little, so that it can be
//! asked for every second. Origins are in the table, and nobody asks this thread for
//! them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watchfire_core::overrides::member_of;

use super::act::members;
use super::overrides::{self, OverrideStatus, OverridesStatus};
use super::status::{Braked, MemberStatus};
use super::turn::Shell;
use crate::clock;
use crate::limits::GLANCE_OVERRIDES;

/// The POP at a glance.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Glance {
    /// This agent's version.
    pub(crate) version: String,
    /// This agent's name.
    pub(crate) node: String,
    /// Seconds since its start.
    pub(crate) uptime_s: u64,
    /// Whether it hands over what it owns.
    pub(crate) draining: bool,
    /// Since when it holds new Downs back, and for how many checks; nothing if it
    /// does not.
    pub(crate) braked: Option<Braked>,
    /// Why it cannot probe, if it cannot.
    pub(crate) prober_ailment: Option<String>,
    /// Checks that it knows.
    pub(crate) checks: usize,
    /// Members of the POP, by name.
    pub(crate) members: Vec<MemberStatus>,
    /// Members that operators put out of the POP.
    pub(crate) evictions: Vec<OverrideStatus>,
    /// Who put this agent itself out, if somebody did.
    pub(crate) evicted: Option<OverrideStatus>,
    /// What operators decided, counted.
    pub(crate) overrides: OverridesStatus,
    /// Overrides of origins that are in force, those decided last; some are left out
    /// where there are more than so many: `overrides` counts them all.
    pub(crate) given: Vec<OverrideStatus>,
}

/// What is there now.
pub(super) fn of(shell: &Shell, uptime_s: u64, draining: bool) -> Glance {
    let node = shell.host.node();
    let braked = node.braked(clock::now());
    Glance {
        version: crate::VERSION.to_owned(),
        node: shell.name.clone(),
        uptime_s,
        draining,
        braked: braked.map(|(lasts, held)| Braked {
            for_s: lasts.as_secs(),
            held,
        }),
        prober_ailment: shell.prober.ailment().map(|why| why.key().to_owned()),
        checks: shell.host.catalogue().checks(),
        members: members(node),
        evictions: overrides::evictions(&shell.host),
        evicted: overrides::own_eviction(&shell.host),
        overrides: overrides::in_short(&shell.host),
        given: given(shell),
    }
}

/// The last overrides of origins that are in force.
fn given(shell: &Shell) -> Vec<OverrideStatus> {
    let all = shell.host.node().overrides().map().all();
    let mut given: Vec<_> = all
        .filter(|(name, _, in_force)| *in_force && !name.is_empty() && member_of(name).is_none())
        .map(|(name, decision, _)| (decision.at_ms, name, decision))
        .collect();
    given.sort_unstable_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
    given
        .iter()
        .take(GLANCE_OVERRIDES)
        .map(|(_, name, decision)| OverrideStatus::of(name, decision, true, &shell.host))
        .collect()
}
