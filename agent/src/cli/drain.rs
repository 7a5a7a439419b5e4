//! `watchfire drain`: hands over all checks, and waits for it where that is wanted.

use std::time::{Duration, Instant};

use clap::Args;

use super::{Asking, Failure, ask, print_json};
use crate::control::api::Verb;
use crate::gossip::status::Status;

/// From one look at the agent to the next.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args)]
#[command(
    after_help = "The agent stays a member and shows what others find; `watchfire undrain`, or a
restart, lets it take part again. Before a restart, in a unit or a rollout:
  watchfire drain --wait && systemctl restart watchfire
Others take over each check with what is known of it."
)]
pub(super) struct Options {
    /// Return when no check is probed here any more, or fail after so long (30s
    /// if no time is given)
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s",
        value_parser = humantime::parse_duration
    )]
    wait: Option<Duration>,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let asking = &options.asking;
    let Some(patience) = options.wait else {
        return ask::order(asking, &Verb::Drain);
    };
    let status =
        || -> Result<Status, Failure> { Ok(serde_json::from_value(asking.ask(&Verb::Status)?)?) };
    let began = Instant::now();
    let first = status()?.checks_probed;
    asking.ask(&Verb::Drain)?;
    let mut told = usize::MAX;
    loop {
        let now = status()?;
        let left = now.checks_probed;
        if left == 0 && now.draining {
            return done(asking, first, began.elapsed());
        }
        if !now.draining {
            return Err("somebody ended the drain; `watchfire drain` begins it again".into());
        }
        if began.elapsed() >= patience {
            return Err(still_here(&now).into());
        }
        if left != told && !asking.format.json {
            say!("{left} of {first} checks are still probed here");
        }
        told = left;
        std::thread::sleep(LOOK);
    }
}

fn done(asking: &Asking, checks: usize, took: Duration) -> Result<(), Failure> {
    if asking.format.json {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        return print_json(&serde_json::json!({
            "ok": "drained", "checks": checks, "took_ms": ms
        }));
    }
    say!(
        "drained: others have taken over all {checks} checks, after {:.1} s",
        took.as_secs_f64()
    );
    Ok(())
}

/// Why it is not over, as far as it can be told from here.
fn still_here(status: &Status) -> String {
    let others = status.members.iter().filter(|member| {
        let able = member.prober_healthy && !member.draining;
        member.state == "alive" && member.name != status.node && able
    });
    let why = match others.count() {
        0 => "no other member could take them: none is alive, able to probe and not drained itself"
            .to_owned(),
        others => format!(
            "{others} other members are able to probe; those that lack the checks in their \
             configuration, or a way to the origins, do not take them"
        ),
    };
    format!(
        "{} checks are still probed here, and the drain goes on: {why}\n  help: `watchfire \
         status` shows the members; wait longer, or let this agent take part again with \
         `watchfire undrain`",
        status.checks_probed
    )
}
