//! The verbs that ask a running agent: `status`, `reload`, `undrain`.

use clap::Args;

use super::history::time;
use super::text::{ago, because, columns, until};
use super::why::ends;
use super::{Asking, Failure, print_json};
use crate::control::api::{Reload, Sentence, Verb};
use crate::gossip::status::Status;

#[derive(Args)]
#[command(
    after_help = "Each origins file stands for itself. One that is refused keeps its last good \
                        content, and hurts no other.\n\n\
                        Exit status:\n  0  everything is in force as it is written\n  \
                        2  something was refused, or no agent answers"
)]
pub(super) struct ReloadOptions {
    /// Believe that origins have left, however many
    #[arg(long)]
    allow_removals: bool,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn status(asking: &Asking) -> Result<(), Failure> {
    let answer = asking.ask(&Verb::Status)?;
    if asking.format.json {
        return print_json(&answer);
    }
    let status: Status = serde_json::from_value(answer)?;
    say!(
        "{} ({}), epoch {}, up {}, watchfire {}{}",
        status.node,
        status.node_id,
        status.epoch,
        humantime::format_duration(std::time::Duration::from_secs(status.uptime_s)),
        status.version,
        if status.draining { ", draining" } else { "" }
    );
    say!(
        "{} origins ({} up, {} down, {} unknown{}), {} checks, {} probed here by {}",
        status.origins,
        status.up,
        status.down,
        status.unknown,
        match status.origins_draining {
            0 => String::new(),
            draining => format!(", {draining} draining"),
        },
        status.checks,
        status.checks_probed,
        status.backend
    );
    if let Some(braked) = status.braked {
        say!(
            "BRAKED for {}: so much fails at once, or no reference answers, that the POP's own \
             uplink may be at fault; failing checks that are not called Down: {} (see [brake] in \
             the configuration)",
            humantime::format_duration(std::time::Duration::from_secs(braked.for_s)),
            braked.held
        );
    }
    if let Some(evicted) = &status.evicted {
        say!(
            "EVICTED from the POP by {} {} ago{}: no other agent hears this one{}",
            evicted.who,
            ago(evicted.at_ms),
            until(evicted.until_ms),
            because(&evicted.why)
        );
    }
    for it in &status.evictions {
        say!(
            "member {} is evicted by {} for {}{}{}",
            it.name,
            it.who,
            ago(it.at_ms),
            until(it.until_ms),
            because(&it.why)
        );
    }
    say_overrides(&status);
    say!("state {}, table {}", status.digest, status.table);
    let names = &status.names;
    if names.names > 0 {
        say!(
            "{} names, {} of them without an address, {} that cannot be resolved just now{}",
            names.names,
            names.without_address,
            names.failing,
            match names.shown.join(", ") {
                none if none.is_empty() => String::new(),
                some => format!(": {some}"),
            }
        );
    }
    if let Some((origin, ends_ms)) = status.certificates.iter().min_by_key(|it| it.1) {
        say!(
            "of the certificates seen here that of {origin} is the next that {}",
            ends(*ends_ms)
        );
    }
    if let Some(error) = &status.config_error
        && status.files_held.is_empty()
    {
        say!(
            "the last reload was refused, the configuration of {} ago stays:\n{error}",
            ago(status.config_loaded_ms)
        );
    }
    for held in &status.files_held {
        let what = if held.has_last_good {
            "what it held before stays"
        } else {
            "nothing of it is in force"
        };
        let since = ago(held.since_ms);
        say!("{}, for {since} ({what}):\n{}", held.file, held.why);
    }
    say_generations(&status);
    let head = ["MEMBER", "ADDRESS", "STATE", "CAPACITY", "EPOCH", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for member in &status.members {
        let mut remarks = Vec::new();
        if member.draining {
            remarks.push("draining");
        }
        if member.braked {
            remarks.push("braked");
        }
        if !member.prober_healthy {
            remarks.push("cannot measure");
        }
        rows.push(vec![
            member.name.clone(),
            member.addr.clone(),
            member.state.clone(),
            member.capacity.to_string(),
            member.epoch.to_string(),
            remarks.join(", "),
        ]);
    }
    say!("\n{}", columns(&rows));
    let mut rows = vec![
        ["LATENCY", "COUNT", "P50 us", "P99 us", "MAX us"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (name, latency) in status
        .latencies
        .iter()
        .filter(|(_, latency)| latency.count > 0)
    {
        rows.push(vec![
            name.clone(),
            latency.count.to_string(),
            latency.p50_us.to_string(),
            latency.p99_us.to_string(),
            latency.max_us.to_string(),
        ]);
    }
    say!("{}", columns(&rows));
    let mut rows = vec![["COUNTER", "SINCE THE START"].map(str::to_owned).to_vec()];
    for (name, count) in status.counters.iter().filter(|(_, count)| **count > 0) {
        rows.push(vec![name.clone(), count.to_string()]);
    }
    say!("{}", columns(&rows).trim_end());
    Ok(())
}

/// Who holds which configuration and, for each that is behind, its name.
fn say_generations(status: &Status) {
    let living: usize = status.generations.iter().map(|it| it.members.len()).sum();
    let mut all = status.generations.iter();
    if let Some(newest) = all.next() {
        let behind = living - newest.members.len();
        let hold = newest.members.len();
        let mut text = format!(
            "configuration {}: {hold} of {living} hold it",
            newest.digest
        );
        if behind > 0 {
            text.push_str(&format!(", {behind} are behind, for {} s", newest.for_s));
        }
        say!("{text}");
    }
    for older in all {
        say!("  {} has {}", older.members.join(", "), older.digest);
    }
    if let Some(seals) = status.keys.seals {
        let opens = status.keys.opens.iter().map(u32::to_string);
        let opens: Vec<_> = opens.collect();
        say!("key {seals} seals, {} open", opens.join(", "));
    }
}

/// What operators decided, if they did.
fn say_overrides(status: &Status) {
    let overrides = &status.overrides;
    if let Some(frozen) = &overrides.frozen {
        say!(
            "FROZEN by {} {} ago{}: no verdict changes in any table{}",
            frozen.who,
            ago(frozen.at_ms),
            until(frozen.until_ms),
            because(&frozen.why)
        );
    }
    let by_op: Vec<String> = overrides
        .in_force
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(op, count)| format!("{count} {op}"))
        .collect();
    if by_op.is_empty() {
        return;
    }
    say!(
        "overrides by operators: {}, the oldest {} old{} (see `watchfire origin list`)",
        by_op.join(", "),
        overrides.oldest_ms.map_or_else(String::new, ago),
        match overrides.next_end_ms {
            Some(ms) => format!(", the next ends at {}", time(ms / 1_000 * 1_000)),
            None => String::new(),
        }
    );
}

pub(super) fn reload(options: &ReloadOptions) -> Result<(), Failure> {
    let allow_removals = options.allow_removals;
    order(&options.asking, &Verb::Reload(Reload { allow_removals }))
}

/// A verb whose answer is one sentence.
pub(super) fn order(asking: &Asking, verb: &Verb) -> Result<(), Failure> {
    let answer = asking.ask(verb)?;
    let Sentence { done } = serde_json::from_value(answer)?;
    if asking.format.json {
        return print_json(&serde_json::json!({ "ok": done }));
    }
    say!("{}", done);
    Ok(())
}
