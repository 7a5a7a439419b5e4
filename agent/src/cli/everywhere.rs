//! `watchfire check NAME --everywhere`: what every member of the POP sees now.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::control::api::{Look, Verb, ask};
use crate::gossip::Seen;

use super::text::columns;
use super::{ADMIN_SOCKET, Failure, Format, print_json};

/// Asks the agent of this configuration, or the one of this machine, to ask all.
pub(super) fn run(name: &str, config: Option<&Path>, format: Format) -> Result<(), Failure> {
    let socket = match config {
        Some(file) => AgentConfig::load(file)?.admin_socket,
        None => PathBuf::from(ADMIN_SOCKET),
    };
    let verb = Verb::Look(Look {
        origin: name.to_owned(),
    });
    let answer = ask(&socket, &verb)?;
    let seen: Vec<Seen> = serde_json::from_value(answer.clone())?;
    if format.json {
        print_json(&answer)?;
    } else {
        let rows: Vec<Vec<String>> = seen.iter().map(row).collect();
        say!("{}", columns(&rows).trim_end());
    }
    let all_pass = seen.iter().all(|it| it.outcome.as_deref() == Some("pass"));
    if all_pass { Ok(()) } else { Err(Failure::No) }
}

fn row(seen: &Seen) -> Vec<String> {
    let outcome = match seen.outcome.as_deref() {
        Some("pass") if seen.degraded => "degraded",
        Some("not_measured") => "not measured",
        Some(outcome) => outcome,
        None => "silent",
    };
    let total = seen.total_us.map_or_else(String::new, |us| {
        format!("{:.3} ms", f64::from(us) / 1_000.0)
    });
    let mut because = seen.because.clone();
    if let Some(status) = seen.status {
        because.push_str(&format!(" (status {status})"));
    }
    if seen.decides {
        because.push_str("; its word counts");
    }
    vec![seen.member.clone(), outcome.to_owned(), total, because]
}
