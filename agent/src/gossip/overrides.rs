//! Operators' decisions as the gossip thread shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watchfire_core::node::Node;
use watchfire_core::overrides::{Decision, Op, POP, member_of};
use watchfire_host::Host;
use watchfire_table::FileHome;

use super::act::name_of;
use crate::clock;

/// The last decision about one name: the shape of `watchfire origin list --json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct OverrideStatus {
    /// The origin's name; empty for the POP itself.
    pub(crate) name: String,
    /// auto, up, down, drain or freeze.
    pub(crate) op: String,
    /// Whether it counts; or it has ended, or was ended.
    pub(crate) in_force: bool,
    /// Whether this agent configures the origin.
    pub(crate) known_here: bool,
    /// Who decided: a user and the node where.
    pub(crate) who: String,
    /// Why.
    pub(crate) why: String,
    /// When, milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// When it ends, milliseconds since 1970.
    pub(crate) until_ms: Option<u64>,
}

/// All of them in short: part of `watchfire status --json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct OverridesStatus {
    /// Overrides in force, by op.
    pub(crate) in_force: BTreeMap<String, usize>,
    /// Names of which a decision is remembered, ended ones included.
    pub(crate) remembered: usize,
    /// When the oldest that is in force was decided, milliseconds since 1970.
    pub(crate) oldest_ms: Option<u64>,
    /// When the next one ends, milliseconds since 1970.
    pub(crate) next_end_ms: Option<u64>,
    /// POP time now, milliseconds since 1970, if it is known.
    pub(crate) pop_ms: Option<u64>,
    /// On how many servers' clocks POP time rests; 0 while it is not known.
    pub(crate) clocks: usize,
    /// By how much this server's clock is ahead of it, milliseconds.
    pub(crate) clock_error_ms: i64,
    /// The freeze, if the POP is frozen.
    pub(crate) frozen: Option<OverrideStatus>,
}

impl OverrideStatus {
    pub(super) fn of(
        name: &str,
        decision: &Decision,
        in_force: bool,
        host: &Host<FileHome>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            op: decision.op.as_str().to_owned(),
            in_force,
            known_here: name == POP || host.catalogue().check_of(name).is_some(),
            who: decision.who.to_string(),
            why: decision.why.to_string(),
            at_ms: decision.at_ms,
            until_ms: decision.until_ms,
        }
    }
}

/// Every origin's last decision, and the POP's, or those that are in force.
pub(super) fn list(host: &Host<FileHome>, ended_too: bool) -> Vec<OverrideStatus> {
    let all = host.node().overrides().map().all();
    all.filter(|(name, _, _)| member_of(name).is_none())
        .filter(|(_, _, in_force)| ended_too || *in_force)
        .map(|(name, decision, in_force)| OverrideStatus::of(name, decision, in_force, host))
        .collect()
}

pub(super) fn in_short(host: &Host<FileHome>) -> OverridesStatus {
    let overrides = host.node().overrides();
    let now = clock::now();
    let mut short = OverridesStatus {
        in_force: [Op::Up, Op::Down, Op::Drain]
            .map(|op| (op.as_str().to_owned(), 0))
            .into(),
        remembered: overrides.map().len(),
        next_end_ms: overrides.map().next_end(),
        pop_ms: overrides.clock().now_ms(now),
        clocks: overrides.clock().clocks(),
        clock_error_ms: overrides.clock().own_error_ms(),
        ..OverridesStatus::default()
    };
    for (name, decision, in_force) in overrides.map().all() {
        if !in_force || member_of(name).is_some() {
            continue;
        }
        let oldest = short.oldest_ms.get_or_insert(decision.at_ms);
        *oldest = decision.at_ms.min(*oldest);
        if &**name == POP {
            short.frozen = Some(OverrideStatus::of(name, decision, true, host));
        } else {
            let count = short.in_force.entry(decision.op.as_str().to_owned());
            *count.or_default() += 1;
        }
    }
    short
}

/// The evictions of members that are in force.
pub(super) fn evictions(host: &Host<FileHome>) -> Vec<OverrideStatus> {
    let all = host.node().overrides().map().all();
    all.filter(|(_, decision, in_force)| *in_force && decision.op == Op::Evict)
        .filter_map(|(key, decision, _)| {
            let name = member_of(key)?;
            Some(OverrideStatus::of(name, decision, true, host))
        })
        .collect()
}

/// Who put this agent out of the POP, if somebody did.
pub(super) fn own_eviction(host: &Host<FileHome>) -> Option<OverrideStatus> {
    let decision = host.node().evicted()?;
    let own = &host.node().members().next()?.profile.name;
    Some(OverrideStatus::of(own, decision, true, host))
}

/// What an agent that was put out says, at once and now and then.
pub(super) fn log_evicted(decision: &Decision) {
    tracing::error!(
        who = &*decision.who,
        why = &*decision.why,
        until = until_words(decision.until_ms),
        "THIS AGENT WAS EVICTED from the POP: no other agent hears it, and its table shows only \
         what it finds by itself; `watchfire member forget` at another agent takes it back"
    );
}

fn log_of_members(decision: &Decision, members: &[&str], node: &Node) {
    let by = name_of(node, decision.id.by.node);
    let (who, why) = (&*decision.who, &*decision.why);
    let until = until_words(decision.until_ms);
    let names = members.join(", ");
    if decision.op == Op::Evict {
        tracing::warn!(
            members = names,
            who,
            why,
            by,
            until,
            "evicted from the POP: nothing that it sends is heard, its words are forgotten"
        );
    } else {
        tracing::warn!(
            members = names,
            who,
            why,
            by,
            "forgotten: the name may begin anew"
        );
    }
}

/// Says who decided what.
pub(super) fn log_decided(decision: &Decision, names: &[Arc<str>], node: &Node) {
    let members: Vec<&str> = names.iter().filter_map(|name| member_of(name)).collect();
    if !members.is_empty() {
        return log_of_members(decision, &members, node);
    }
    let by = name_of(node, decision.id.by.node);
    let until = until_words(decision.until_ms);
    let (who, why) = (&*decision.who, &*decision.why);
    if names.iter().any(|name| &**name == POP) {
        if decision.op == Op::Freeze {
            tracing::warn!(
                who,
                why,
                by,
                until,
                "the POP is frozen: no verdict changes in any table, probing goes on"
            );
        } else {
            tracing::warn!(who, why, by, "the POP is not frozen any more");
        }
        return;
    }
    let origins = few(names);
    let op = decision.op.as_str();
    tracing::info!(origins, op, who, why, by, until, "an operator decided");
}

/// Says that a decision has lasted for as long as it was meant to.
pub(super) fn log_ended(decision: &Decision, names: &[Arc<str>]) {
    let (who, why, op) = (&*decision.who, &*decision.why, decision.op.as_str());
    let members: Vec<&str> = names.iter().filter_map(|name| member_of(name)).collect();
    if !members.is_empty() {
        let members = members.join(", ");
        tracing::warn!(members, who, why, "the eviction has ended as it was to");
        return;
    }
    if names.iter().any(|name| &**name == POP) {
        tracing::warn!(who, why, "the freeze of the POP has ended as it was to");
        return;
    }
    let origins = few(names);
    tracing::info!(
        origins,
        op,
        who,
        why,
        "an override has ended as it was to; the probes decide again"
    );
}

fn until_words(until_ms: Option<u64>) -> String {
    until_ms.map_or_else(
        || "an operator ends it".to_owned(),
        |ms| {
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
            humantime::format_rfc3339_seconds(at).to_string()
        },
    )
}

/// Names that a log line holds.
const FEW: usize = 10;

fn few(names: &[Arc<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(FEW).map(|name| &**name).collect();
    match names.len().saturating_sub(FEW) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
