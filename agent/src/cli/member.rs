//! The verbs about members: `member list`, `member evict`, `member forget`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::origin::{Words, until, warn, when, wish};
use super::text::{ago, columns};
use super::{Asking, Failure, print_json};
use crate::control::api::Verb as Ask;
use crate::gossip::overrides::OverrideStatus;
use crate::gossip::status::Status;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// List members, and who was put out.
    List(List),
    /// Put a member out of the POP: no agent hears it, and its words are forgotten.
    Evict(Evict),
    /// Take an evicted member back, or forget a name that is gone.
    Forget(Forget),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
#[command(
    after_help = "Ask an agent other than the one that is to go. All agents know within a second, and \
                  keep it over restarts. The evicted one says so in its log and in its status; it \
                  goes on alone until it is stopped.\n\n\
                  It helps against a server that is broken. One that is hostile has the POP's key \
                  and may speak in another's name: rotate the key as well.\n\n\
                  Exit status:\n  0  decided\n  2  refused, or no agent answers"
)]
pub(super) struct Evict {
    /// The member, by its node's name
    name: String,
    /// For how long, like 1h; until it is forgotten unless said
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
    #[command(flatten)]
    words: Words,
}

#[derive(Args)]
#[command(
    after_help = "Ends an eviction, and forgets all that is remembered of a name: its last epoch, \
                  what it wrote, that it died. For ten seconds nothing that it sends is heard; \
                  after that it may join as if it were new. A member that lives is not forgotten.\n\n\
                  Exit status:\n  0  decided\n  2  refused, or no agent answers"
)]
pub(super) struct Forget {
    /// The member, by its node's name
    name: String,
    #[command(flatten)]
    words: Words,
}

pub(super) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(options) => list(options),
        Verb::Evict(options) => evict(options),
        Verb::Forget(options) => forget(options),
    }
}

fn list(options: &List) -> Result<(), Failure> {
    let status: Status = serde_json::from_value(options.asking.ask(&Ask::Status)?)?;
    let evictions = options.asking.ask(&Ask::Evictions)?;
    if options.asking.format.json {
        let members = serde_json::to_value(&status.members)?;
        return print_json(&json!({ "members": members, "evictions": evictions }));
    }
    let evictions: Vec<OverrideStatus> = serde_json::from_value(evictions)?;
    let head = ["MEMBER", "ADDRESS", "STATE", "SINCE", "UNTIL", "BY", "WHY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for it in status.members {
        let dash = || "-".to_owned();
        rows.push(vec![
            it.name,
            it.addr,
            it.state,
            dash(),
            dash(),
            dash(),
            String::new(),
        ]);
    }
    for it in evictions {
        let since = format!("{} ago", ago(it.at_ms));
        let until = it.until_ms.map_or_else(|| "-".to_owned(), when);
        let state = "evicted".to_owned();
        rows.push(vec![
            it.name,
            "-".to_owned(),
            state,
            since,
            until,
            it.who,
            it.why,
        ]);
    }
    say!("{}", columns(&rows).trim_end());
    Ok(())
}

fn evict(options: &Evict) -> Result<(), Failure> {
    let names = [options.name.clone()];
    let asking = &options.words.asking;
    let status: Status = serde_json::from_value(asking.ask(&Ask::Status)?)?;
    let known: BTreeSet<String> = status.members.into_iter().map(|it| it.name).collect();
    let done = wish(&options.words, "evict", &names, options.lasts)?;
    if options.words.asking.format.json {
        return print_json(&done);
    }
    say!("{}: evicted{}", options.name, until(&done));
    if !known.contains(&options.name) {
        eprintln!("warning: this agent knows no member of that name (it is kept)");
    }
    warn(&done);
    Ok(())
}

fn forget(options: &Forget) -> Result<(), Failure> {
    let names = [options.name.clone()];
    let done = wish(&options.words, "forget", &names, None)?;
    if options.words.asking.format.json {
        return print_json(&done);
    }
    say!(
        "{}: forgotten, and may join anew in ten seconds",
        options.name
    );
    warn(&done);
    Ok(())
}
