//! `watchfire doctor`: what on this host, or in the POP, keeps origins from being
//! checked well, each with what to do about it. It changes nothing.

mod host;
mod pop;

use clap::Args;
use serde::Serialize;

use super::{AgentAddress, Failure, Format, print_json};

#[derive(Args)]
#[command(
    after_help = "Run it as the agent's user: what that may not do is part of what is looked at. \
                  Nothing is sent to origins or members.\n\n\
                  Exit status:\n  0  nothing is wrong; there may be advice\n  \
                  1  something is wrong\n  2  it could not look"
)]
pub(super) struct Options {
    /// Ask the running agent about all members of the POP, too
    #[arg(long)]
    pop: bool,
    #[command(flatten)]
    agent: AgentAddress,
    #[command(flatten)]
    format: Format,
}

/// How a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Weight {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Advice,
    /// Origins are not checked, or not as configured.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Finding {
    /// A stable name, like `clock`.
    what: &'static str,
    weight: Weight,
    /// What was found.
    found: String,
    /// What to do; nothing if it is as it should be.
    next: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            weight: Weight::Ok,
            found: found.into(),
            next: None,
        }
    }

    fn advice(what: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what,
            weight: Weight::Advice,
            found: found.into(),
            next: Some(next.into()),
        }
    }

    fn wrong(what: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            weight: Weight::Wrong,
            ..Self::advice(what, found, next)
        }
    }
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let status = options.agent.socket().and_then(|socket| pop::ask(&socket));
    let running = status.as_ref().ok();
    let mut findings = host::look(options.agent.config.as_deref(), running);
    match &status {
        Ok(status) => {
            findings.push(Finding::ok("agent", pop::in_short(status)));
            findings.extend(pop::of_agent(status));
            if options.pop {
                findings.extend(pop::of_members(status));
            }
        }
        Err(error) => findings.push(no_agent(error, options.pop)),
    }
    let wrong = findings
        .iter()
        .filter(|it| it.weight == Weight::Wrong)
        .count();
    if options.format.json {
        print_json(&serde_json::json!({ "wrong": wrong, "findings": findings }))?;
    } else {
        for finding in &findings {
            let mark = match finding.weight {
                Weight::Ok => "ok    ",
                Weight::Advice => "advice",
                Weight::Wrong => "WRONG ",
            };
            say!("{mark}  {:<14}  {}", finding.what, finding.found);
            for line in finding.next.iter().flat_map(|next| next.lines()) {
                say!("{:24}{line}", "");
            }
        }
    }
    if wrong == 0 { Ok(()) } else { Err(Failure::No) }
}

/// Whoever asks about the POP needs an agent; whoever installs one has none yet.
fn no_agent(error: &Failure, needed: bool) -> Finding {
    let text = match error {
        Failure::Error(text) => text.as_str(),
        Failure::No => "no answer",
    };
    let (found, next) = text.split_once("\n  help: ").unwrap_or((text, "start it"));
    if needed {
        Finding::wrong("agent", found, next)
    } else {
        Finding::advice("agent", found, next)
    }
}
