//! Waiting until the POP is as it should be, and saying since when it was.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::analysis::span::Span as Stretch;
use crate::clock::{self, SECOND, Us};
use crate::lab::{LAG, Lab, Wait};
use crate::scenario::{Span, Until};

/// The time that a POP is given to begin.
const FIRST: Us = 10 * SECOND;

pub(super) fn wait(lab: &mut Lab, name: &str, until: Until, within: Span) -> Result<()> {
    let acted = lab.acted;
    let since = lab.wait(within.0, |lab| {
        let since = match until {
            Until::Joined => joined(lab),
            Until::Calm => calm(lab),
            Until::Tables => tables(lab),
        };
        Ok(since.map_or(Wait::On, Wait::Done))
    })?;
    match since {
        Some(since) => {
            let took = clock::seconds(since.saturating_sub(acted));
            lab.metric(name, "s", took);
            let later = clock::seconds(since.saturating_sub(lab.reached.max(acted)));
            lab.metric(name, "later_s", later);
            lab.reached = since;
            lab.say(format!("{name}: after {took:.2} s"));
            if until == Until::Calm {
                ask_all(lab, name);
            }
        }
        None => {
            let state = lab.state();
            lab.say(format!("{name}: not within {within}: {state}"));
            lab.missed = Some(format!("{name} was not reached within {within}"));
        }
    }
    herd(lab, name, acted)
}

/// Asks every agent once, by its admin socket, whether it agrees: the members
/// that it counts as alive, and the digest of what is replicated.
fn ask_all(lab: &mut Lab, name: &str) {
    let running = lab.agents.running();
    let mut digests = BTreeSet::new();
    let (mut least, mut silent) = (usize::MAX, 0);
    for &agent in &running {
        let Ok(status) = lab.agents.ask(agent, "status") else {
            silent += 1;
            continue;
        };
        digests.insert(status["digest"].as_str().unwrap_or_default().to_owned());
        let members = status["members"].as_array().into_iter().flatten();
        let alive = members.filter(|member| member["state"] == "alive").count();
        least = least.min(alive);
    }
    lab.metric(name, "silent_agents", f64::from(silent));
    lab.metric(name, "digests", digests.len() as f64);
    if !digests.is_empty() {
        lab.metric(name, "missing_members", running.len() as f64 - least as f64);
    }
}

/// The worst second of probes while it was waited for, the first ten seconds of
/// a POP excepted, in which every origin is new to it.
fn herd(lab: &mut Lab, name: &str, acted: Us) -> Result<()> {
    lab.let_the_log_catch_up()?;
    let span = Stretch {
        from: acted + FIRST,
        to: clock::now() - LAG,
    };
    let seconds = if span.to > span.from {
        lab.log().per_second(span)
    } else {
        Vec::new()
    };
    let calm = lab.scenario.pop.checks as f64 / clock::seconds(lab.interval());
    let worst = seconds.into_iter().max().unwrap_or(0) as f64 / calm;
    lab.metric(name, "worst_second_after_ten", worst);
    Ok(())
}

/// Since when every running agent has seen every running agent join.
pub(super) fn joined(lab: &Lab) -> Option<Us> {
    let running = lab.agents.running();
    let record = lab.journal.record();
    let mut since = lab.acted;
    for &by in &running {
        let view = &record.views[by];
        for &of in running.iter().filter(|&&of| of != by) {
            since = since.max(view.member[of]?);
        }
    }
    Some(since)
}

/// Since when everybody has joined, nobody suspects anybody, and each check has
/// been probed by one agent, for an interval at least.
fn calm(lab: &Lab) -> Option<Us> {
    let mut since = joined(lab)?;
    let running = lab.agents.running();
    let interval = lab.interval();
    let board = lab.observer.board();
    let configured: Vec<usize> = (0..lab.scenario.pop.checks)
        .filter(|&origin| board.truth[origin].configured)
        .collect();
    drop(board);
    let record = lab.journal.record();
    for &by in &running {
        let view = &record.views[by];
        if !view.suspects.is_empty() {
            return None;
        }
        since = since.max(view.changed.min(clock::now()));
    }
    // An eighth of an interval and a probe's time are forgiven to the last one.
    let now = clock::now() - LAG;
    let late = interval + interval / 8 + clock::us(lab.scenario.pop.timeout.0);
    for origin in configured {
        let last = record.last[origin]?;
        if last.last + late < now || !running.contains(&usize::from(last.who)) {
            return None;
        }
        since = since.max(last.since);
    }
    // Whoever probes beside the present prober shows within an interval.
    (since + interval <= now).then_some(since)
}

/// Since when all tables show what all origins do; as of the last sweep.
fn tables(lab: &Lab) -> Option<Us> {
    let right = lab.observer.board().all_right();
    right.then(clock::now)
}
