//! `watchfire why`, and an origin's story in lines: `watchfire top` tells the same.

use clap::Args;

use super::history::{line, moment, time};
use super::text::{ago, because, until};
use super::{Asking, Failure, print_json, probes};
use crate::control::api::{Verb, WhyAsked};
use crate::gossip::status::Why;
use crate::names::NameStatus;
use crate::recorder::Record;

#[derive(Args)]
pub(super) struct WhyOptions {
    /// The origin's name, as in the origins file
    origin: String,
    /// What was known of it then: a time like 03:12 (UTC) or
    /// 2026-01-31T03:12:00Z, or so long ago, like 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

/// How much of what is kept is told, the newest of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) transitions: usize,
    pub(super) probes: usize,
}

impl Most {
    /// What fits a page; `--json` has all.
    const PAGE: Self = Self {
        transitions: 10,
        probes: 5,
    };

    /// All of it.
    pub(super) const ALL: Self = Self {
        transitions: usize::MAX,
        probes: usize::MAX,
    };
}

pub(super) fn why(options: &WhyOptions) -> Result<(), Failure> {
    let verb = Verb::Why(WhyAsked {
        origin: options.origin.clone(),
        at_ms: options.at,
    });
    let answer = options.asking.ask(&verb)?;
    if options.asking.format.json {
        return print_json(&answer);
    }
    let why: Why = serde_json::from_value(answer)?;
    let lines = match options.at {
        Some(at_ms) => then(&why, at_ms).ok_or(at_ms),
        None => Ok(story(&why, Most::PAGE)),
    };
    match lines {
        Ok(lines) => {
            for line in lines {
                say!("{line}");
            }
            Ok(())
        }
        Err(at_ms) => {
            let at = time(at_ms);
            say!("nothing is kept of {} from before {at}", why.origin);
            Err(Failure::No)
        }
    }
}

/// What there is to tell of an origin now.
pub(super) fn story(why: &Why, most: Most) -> Vec<String> {
    let mut lines = Vec::new();
    match &why.operator {
        Some(it) => {
            lines.push(format!(
                "{} is {} by {}, for {}{}{}",
                why.origin,
                shown_as(&it.op),
                it.who,
                ago(it.at_ms),
                until(it.until_ms),
                because(&it.why)
            ));
            lines.push(fact(
                "measured",
                &format!("{}: {}", why.verdict, why.because),
            ));
        }
        None => lines.push(format!(
            "{} is {}: {}",
            why.origin, why.verdict, why.because
        )),
    }
    if let Some(it) = &why.frozen {
        let by = format!(
            "by {} {} ago{}: tables keep what they showed{}",
            it.who,
            ago(it.at_ms),
            until(it.until_ms),
            because(&it.why)
        );
        lines.push(fact("FROZEN", &by));
    }
    let since = match why.since_ms {
        0 => "not yet".to_owned(),
        since_ms => format!("{} ago", ago(since_ms)),
    };
    lines.push(fact("since", &since));
    lines.push(fact("decided by", or_nobody(&why.owner)));
    lines.push(fact(
        "check",
        &format!("{} ({})", why.definition, why.check),
    ));
    if let Some(it) = &why.resolved {
        lines.extend(name(it));
    }
    let probed = match (why.probed_here, why.owner.as_str()) {
        (true, _) => "here",
        (false, "") => "nowhere",
        (false, _) => "by another agent",
    };
    lines.push(fact("probed", probed));
    if let Some(ends_ms) = why.certificate_ends_ms {
        lines.push(fact("certificate", &ends(ends_ms)));
    }
    lines.push(fact("next in line", &why.ranks.join(", ")));
    if !why.shared_with.is_empty() {
        lines.push(fact("shared with", &why.shared_with.join(", ")));
    }
    lines.push(runbook(&why.reason));
    lines.extend(probes::story(why, most.probes));
    lines.extend(transitions(&why.history, most.transitions));
    lines
}

/// What was known at a moment that has passed; nothing if nothing is kept of it.
fn then(why: &Why, at_ms: u64) -> Option<Vec<String>> {
    let last = why.history.last()?;
    let at = time(at_ms);
    let mut lines = vec![
        format!("{} was {} at {at}: {}", why.origin, last.to, last.reason),
        fact("since", &time(last.since_ms)),
        fact("decided by", or_nobody(&last.owner)),
        runbook(&last.reason),
    ];
    lines.extend(probes::story(why, Most::PAGE.probes));
    lines.extend(transitions(&why.history, Most::PAGE.transitions));
    Some(lines)
}

fn fact(what: &str, value: &str) -> String {
    format!("  {what:<13} {value}")
}

fn runbook(reason: &str) -> String {
    fact("runbook", &format!("docs/runbook.md, \"{reason}\""))
}

/// A name, where it is, and since when.
fn name(it: &NameStatus) -> Vec<String> {
    let address = it.address.as_deref().unwrap_or("none");
    let mut lines = vec![fact(
        "address",
        &format!("{address}, of the name {}", it.name),
    )];
    if !it.addresses.is_empty() {
        let more = match it.left_out {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let all = it.addresses.join(", ");
        let resolved = format!("{all}{more}, for {}", ago(it.since_ms));
        lines.push(fact("resolved to", &resolved));
    }
    if let Some(since_ms) = it.missing_since_ms {
        let said = format!("the DNS has said so for {}", ago(since_ms));
        lines.push(fact("not found", &said));
    }
    if let Some(why) = &it.failing {
        let said = format!("fails, and what was known stays: {why}");
        lines.push(fact("resolver", &said));
    }
    lines
}

/// When a certificate ends, and in how many days.
pub(super) fn ends(ends_ms: u64) -> String {
    let days = (i128::from(ends_ms) - i128::from(crate::clock::wall_ms())) / 86_400_000;
    format!("ends {} (in {days} days)", time(ends_ms))
}

/// The last transitions, the newest first.
fn transitions(history: &[Record], most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if !history.is_empty() {
        lines.push(String::new());
        lines.push("last transitions, the newest first:".to_owned());
    }
    let newest = history.iter().rev().take(most);
    lines.extend(newest.map(|record| format!("  {}", line(record, false))));
    lines
}

fn or_nobody(owner: &str) -> &str {
    match owner {
        "" => "nobody",
        owner => owner,
    }
}

fn shown_as(op: &str) -> &str {
    match op {
        "drain" => "draining",
        op => op,
    }
}
