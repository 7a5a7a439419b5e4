//! What is told of a check's last probes.

use super::history::time;
use crate::gossip::status::Why;
use crate::recorder::ProbeRecord;

/// What is sent, the last probes, so many of them with a line each, and what came when
/// they turned.
pub(super) fn story(why: &Why, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(sent) = &why.sent {
        lines.push(String::new());
        lines.push("what a probe sends:".to_owned());
        lines.extend(indented(sent));
    }
    if why.probes.is_empty() {
        if !why.probed_here && !why.owner.is_empty() {
            lines.push(String::new());
            lines.push(format!(
                "its probes are remembered where they are made: ask {}",
                why.owner
            ));
        }
        return lines;
    }
    let count = |outcome| why.probes.iter().filter(|it| it.outcome == outcome).count();
    let (failed, unmeasured) = (count("fail"), count("not_measured"));
    lines.push(String::new());
    lines.push(format!(
        "the last {} probes here, the newest last: {} passed, {failed} failed (x), \
         {unmeasured} not measured (?)",
        why.probes.len(),
        why.probes.len() - failed - unmeasured,
    ));
    lines.push(format!("  {}", marks(&why.probes)));
    let newest = why.probes.iter().rev().take(most);
    lines.extend(newest.map(|probe| format!("  {}", line(probe))));
    for answer in why.answers.iter().rev() {
        let (to, at, because) = (&answer.to, time(answer.at_ms), &answer.because);
        lines.push(String::new());
        lines.push(format!(
            "what came when its probes turned {to} at {at}: {because}"
        ));
        lines.extend(answer.tls.iter().map(|tls| format!("  TLS: {tls}")));
        lines.extend(indented(&answer.head));
        if answer.tls.is_none() && answer.head.is_empty() {
            lines.push("  (no bytes)".to_owned());
        }
    }
    lines
}

fn indented(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(|line| format!("  | {line}"))
}

/// One mark a probe: how long it took beside the others, or that it failed.
fn marks(probes: &[ProbeRecord]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let passed = probes.iter().filter(|it| it.outcome == "pass");
    let slowest = passed.map(|it| it.total_us).max().unwrap_or(0).max(1);
    let mark = |probe: &ProbeRecord| match probe.outcome.as_str() {
        "fail" => 'x',
        "not_measured" => '?',
        _ => {
            let height = u64::from(probe.total_us) * 8 / u64::from(slowest);
            HEIGHTS[usize::try_from(height).unwrap_or(7).min(7)]
        }
    };
    probes.iter().map(mark).collect()
}

fn line(probe: &ProbeRecord) -> String {
    let mut text = format!("{}  {}", time(probe.at_ms), probe.reason);
    if let Some(status) = probe.status {
        text.push_str(&format!(" {status}"));
    }
    let phases = [
        ("connect", probe.connect_us),
        ("tls", probe.tls_us),
        ("first byte", probe.first_byte_us),
        ("total", Some(probe.total_us).filter(|us| *us > 0)),
    ];
    for (name, us) in phases {
        if let Some(us) = us {
            text.push_str(&format!("  {name} {:.2} ms", f64::from(us) / 1_000.0));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(outcome: &str, total_us: u32) -> ProbeRecord {
        ProbeRecord {
            at_ms: 1_000,
            outcome: outcome.into(),
            reason: "passed".into(),
            connect_us: Some(120),
            tls_us: None,
            first_byte_us: None,
            total_us,
            status: Some(200),
        }
    }

    #[test]
    fn a_row_of_marks_shows_what_was_slow_and_what_failed() {
        let probes = [
            probe("pass", 100),
            probe("pass", 800),
            probe("fail", 9_000),
            probe("not_measured", 0),
            probe("pass", 390),
        ];
        assert_eq!(marks(&probes), "▂█x?▄");
        assert_eq!(marks(&[probe("pass", 0)]), "▁");
        assert_eq!(
            line(&probes[0]),
            "1970-01-01T00:00:01.000Z  passed 200  connect 0.12 ms  total 0.10 ms"
        );
    }
}
