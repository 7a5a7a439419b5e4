//! One origin's record in lines, as `watchfire why` tells it.

use crate::cli::ask::ends;
use crate::cli::history::{line, time};
use crate::cli::probes;
use crate::cli::text::ago;
use crate::gossip::overrides::OverrideStatus;
use crate::gossip::status::Why;

/// All that there is to tell, the newest first.
pub(super) fn tell(why: &Why) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fact = |what: &str, value: String| lines.push(format!("{what:<13}{value}"));
    if let Some(it) = &why.operator {
        fact("override", by(it));
    }
    if let Some(it) = &why.frozen {
        fact("FROZEN", by(it));
    }
    let verdict = match why.operator {
        Some(_) => "measured",
        None => "verdict",
    };
    fact(verdict, format!("{}: {}", why.verdict, why.because));
    fact(
        "since",
        match why.since_ms {
            0 => "not yet".to_owned(),
            since_ms => format!("{}, {} ago", time(since_ms), ago(since_ms)),
        },
    );
    fact("decided by", why.owner.clone());
    let probed = match why.probed_here {
        true => "here",
        false => "by another agent",
    };
    fact("probed", probed.to_owned());
    fact("next in line", why.ranks.join(", "));
    fact("check", why.definition.clone());
    if let Some(ends_ms) = why.certificate_ends_ms {
        fact("certificate", ends(ends_ms));
    }
    if !why.shared_with.is_empty() {
        fact("shared with", why.shared_with.join(", "));
    }
    fact("runbook", format!("docs/runbook.md, \"{}\"", why.reason));
    if !why.history.is_empty() {
        lines.push(String::new());
        lines.push("last transitions, the newest first:".to_owned());
        let newest = why.history.iter().rev();
        lines.extend(newest.map(|record| format!("  {}", line(record, false))));
    }
    if !why.probes.is_empty() {
        lines.push(String::new());
        lines.push("last probes here, the newest first:".to_owned());
        lines.push(format!("  {}", probes::marks(&why.probes)));
        let newest = why.probes.iter().rev();
        lines.extend(newest.map(|probe| format!("  {}", probes::line(probe))));
    }
    for answer in why.answers.iter().rev() {
        let (to, at, because) = (&answer.to, time(answer.at_ms), &answer.because);
        lines.push(String::new());
        lines.push(format!("what came when it turned {to} at {at}: {because}"));
        lines.extend(answer.tls.iter().map(|tls| format!("  TLS: {tls}")));
        lines.extend(answer.head.lines().map(|line| format!("  | {line}")));
    }
    if let Some(sent) = &why.sent {
        lines.push(String::new());
        lines.push("what a probe sends:".to_owned());
        lines.extend(sent.lines().map(|line| format!("  | {line}")));
    }
    lines
}

fn by(it: &OverrideStatus) -> String {
    let because = match it.why.as_str() {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    let until = it
        .until_ms
        .map_or_else(String::new, |ms| format!(" until {}", time(ms)));
    let ago = ago(it.at_ms);
    format!("{} by {} {ago} ago{until}{because}", it.op, it.who)
}
