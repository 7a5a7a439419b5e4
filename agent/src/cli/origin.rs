//! The verbs by which an operator has the last word: `origin`, `freeze`,
//! `unfreeze`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use glob::Pattern;
use serde_json::json;
use watchfire_core::limits::NAMES_PER_DECISION;

use super::text::{ago, columns};
use super::{Asking, Failure, print_json};
use crate::control::api::{Ended, Verb as Ask};
use crate::control::overrides::{Ask as Wish, Done};
use crate::gossip::overrides::OverrideStatus;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Take origins out on all servers, whatever the probes find.
    Down(Decide),
    /// Call origins up on all servers, whatever the probes find.
    Up(Decide),
    /// Let origins finish what is open and send them nothing new.
    Drain(Decide),
    /// Let the probes decide again.
    Auto(Auto),
    /// List what operators decided and is in force.
    List(List),
}

/// What is said with a decision, and to whom.
#[derive(Args)]
pub(super) struct Words {
    /// Why: shown by `why`, `status` and the log
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    #[command(flatten)]
    pub(super) asking: Asking,
}

/// How a decision is made.
#[derive(Args)]
pub(super) struct Manner {
    /// Say what would be decided, and decide nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before more than one origin is changed
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    words: Words,
}

#[derive(Args)]
#[command(
    after_help = "It is known on all servers within a second, and kept over restarts of agents and \
                  of the whole POP. Of several decisions about an origin the last one counts.\n\n\
                  Exit status:\n  0  decided, or nothing but a dry run was asked for\n  \
                  1  you said no\n  2  refused, or no agent answers"
)]
pub(super) struct Decide {
    /// Origins by name, or patterns like 'shop-*'; a name that this server does not know (yet) is kept
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// For how long, like 2h or 30m; without end unless said
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
    #[command(flatten)]
    manner: Manner,
}

#[derive(Args)]
pub(super) struct Auto {
    /// Origins by name, or patterns like 'shop-*' of what has an override
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    manner: Manner,
}

#[derive(Args)]
pub(super) struct List {
    /// Show the last decision about each name, ended ones too
    #[arg(long)]
    ended: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
#[command(
    after_help = "No agent of the POP changes a verdict in its table until the freeze ends; each \
                  entry says that it is frozen. Probing goes on, overrides still count, and an \
                  origin that has no verdict yet may get its first."
)]
pub(super) struct Freeze {
    /// For how long, like 2h or 30m; without end unless said
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
    #[command(flatten)]
    words: Words,
}

#[derive(Args)]
pub(super) struct Unfreeze {
    #[command(flatten)]
    words: Words,
}

/// Names that are shown before an operator is asked.
const SHOWN: usize = 100;

pub(super) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Down(options) => decide("down", &options.names, options.lasts, &options.manner),
        Verb::Up(options) => decide("up", &options.names, options.lasts, &options.manner),
        Verb::Drain(options) => decide("drain", &options.names, options.lasts, &options.manner),
        Verb::Auto(options) => decide("auto", &options.names, None, &options.manner),
        Verb::List(options) => list(options),
    }
}

pub(super) fn freeze(options: &Freeze) -> Result<(), Failure> {
    let done = wish(&options.words, "freeze", &[], options.lasts)?;
    if options.words.asking.format.json {
        return print_json(&done);
    }
    say!("the POP is frozen{}", until(&done));
    warn(&done);
    Ok(())
}

pub(super) fn unfreeze(options: &Unfreeze) -> Result<(), Failure> {
    let done = wish(&options.words, "auto", &[], None)?;
    if options.words.asking.format.json {
        return print_json(&done);
    }
    say!("the POP is not frozen any more");
    warn(&done);
    Ok(())
}

fn decide(
    op: &str,
    asked: &[String],
    lasts: Option<Duration>,
    manner: &Manner,
) -> Result<(), Failure> {
    let names = expand(op, asked, &manner.words.asking)?;
    let what = match lasts {
        Some(lasts) => format!("{op} for {}", humantime::format_duration(lasts)),
        None => op.to_owned(),
    };
    let json = manner.words.asking.format.json;
    if manner.dry_run {
        if json {
            return print_json(&json!({ "dry_run": true, "op": op, "names": names }));
        }
        say!("would be {what}: {}", names.len());
        show(&names, usize::MAX);
        return Ok(());
    }
    if names.len() > 1 && !manner.yes {
        confirm(&what, &names)?;
    }
    let mut done: Vec<Done> = Vec::new();
    for part in names.chunks(NAMES_PER_DECISION) {
        let part = wish(&manner.words, op, part, lasts);
        let part = part.map_err(|error| after(error, done.len() * NAMES_PER_DECISION));
        done.push(part?);
    }
    if json {
        return print_json(&json!({ "op": op, "names": names, "decisions": done }));
    }
    let Some(first) = done.first() else {
        return Ok(());
    };
    match names.as_slice() {
        [name] => say!("{name}: {op}{}", until(first)),
        names => say!("{} origins: {op}{}", names.len(), until(first)),
    }
    for done in &done {
        warn(done);
    }
    Ok(())
}

/// An error that came when part of a long list was decided already.
fn after(error: Failure, decided: usize) -> Failure {
    match error {
        Failure::Error(error) if decided > 0 => {
            Failure::Error(format!("{error}; the first {decided} names are decided"))
        }
        other => other,
    }
}

fn list(options: &List) -> Result<(), Failure> {
    let ended = options.ended;
    let answer = options.asking.ask(&Ask::Overrides(Ended { ended }))?;
    if options.asking.format.json {
        return print_json(&json!({ "overrides": answer }));
    }
    let all: Vec<OverrideStatus> = serde_json::from_value(answer)?;
    if all.is_empty() {
        say!("no overrides");
        return Ok(());
    }
    let head = ["ORIGIN", "OVERRIDE", "SINCE", "UNTIL", "BY", "WHY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for it in all {
        let mut op = it.op;
        if !it.in_force && op != "auto" {
            op += " (ended)";
        }
        let name = match it.name.as_str() {
            "" => "(the POP)".to_owned(),
            name if it.known_here => name.to_owned(),
            name => format!("{name} (not configured here)"),
        };
        let since = format!("{} ago", ago(it.at_ms));
        let until = it.until_ms.map_or_else(|| "-".to_owned(), when);
        rows.push(vec![name, op, since, until, it.who, it.why]);
    }
    say!("{}", columns(&rows).trim_end());
    Ok(())
}

/// The names that are meant. A pattern is expanded here and now; what is added
/// to the configuration later is not part of the decision.
fn expand(op: &str, asked: &[String], asking: &Asking) -> Result<Vec<String>, Failure> {
    let is_pattern = |name: &&String| name.contains(['*', '?', '[']);
    let mut known: Vec<String> = Vec::new();
    if asked.iter().any(|name| is_pattern(&name)) {
        let mut names = Vec::new();
        if op != "auto" {
            names = serde_json::from_value(asking.ask(&Ask::Origins)?)?;
        }
        let overrides = asking.ask(&Ask::Overrides(Ended { ended: false }))?;
        let overrides: Vec<OverrideStatus> = serde_json::from_value(overrides)?;
        names.extend(overrides.into_iter().map(|it| it.name));
        known = names;
        known.retain(|name| !name.is_empty());
    }
    let mut names = BTreeSet::new();
    for name in asked {
        if !is_pattern(&name) {
            names.insert(name.clone());
            continue;
        }
        let pattern = Pattern::new(name).map_err(|error| {
            Failure::Error(format!(
                "\"{name}\" is no pattern: {error}\n  help: * and ? stand for anything; write [*] \
                 for a star"
            ))
        })?;
        let before = names.len();
        let mut fits = known
            .iter()
            .filter(|known| pattern.matches(known))
            .peekable();
        let any = fits.peek().is_some();
        names.extend(fits.cloned());
        if !any && names.len() == before {
            let of = match op {
                "auto" => "override",
                _ => "origin of this agent",
            };
            return Err(Failure::Error(format!("no {of} fits \"{name}\"")));
        }
    }
    Ok(names.into_iter().collect())
}

pub(super) fn wish(
    words: &Words,
    op: &str,
    names: &[String],
    lasts: Option<Duration>,
) -> Result<Done, Failure> {
    let for_ms = lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
    if for_ms == Some(0) {
        return Err(Failure::Error("--for has to be longer than nothing".into()));
    }
    let verb = Ask::Decide(Wish {
        op: op.to_owned(),
        names: names.to_vec(),
        for_ms,
        why: words.why.clone(),
    });
    Ok(serde_json::from_value(words.asking.ask(&verb)?)?)
}

fn confirm(what: &str, names: &[String]) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Error(format!(
            "{} origins would be {what}, and nobody is there to be asked\n  help: look with \
             --dry-run, then say --yes",
            names.len()
        )));
    }
    show(names, SHOWN);
    eprint!("{} origins: {what}. Go on? [y/N] ", names.len());
    std::io::stderr().flush()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::No),
    }
}

fn show(names: &[String], most: usize) {
    for name in names.iter().take(most) {
        say!("  {name}");
    }
    if names.len() > most {
        say!("  and {} more", names.len() - most);
    }
}

pub(super) fn until(done: &Done) -> String {
    done.until_ms
        .map_or_else(String::new, |ms| format!(" until {}", when(ms)))
}

pub(super) fn when(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

pub(super) fn warn(done: &Done) {
    if let Some(warning) = &done.warning {
        eprintln!("warning: {warning}");
    }
    if !done.unknown_here.is_empty() {
        let names = done.unknown_here.join(", ");
        eprintln!("warning: not configured on this server (it is kept): {names}");
    }
    if done.until_ms.is_some() && done.clocks < watchfire_core::overrides::CLOCKS {
        eprintln!(
            "warning: the end rests on {} server's clock(s); with fewer than three nobody can \
             tell a wrong one",
            done.clocks
        );
    }
}
