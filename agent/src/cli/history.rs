//! The verbs that look back: `events`, `flapping`, and what `why` tells of before.

use std::time::Duration;

use clap::Args;

use super::text::columns;
use super::{Asking, Failure, print_json};
use crate::clock;
use crate::control::api::{Events, EventsAnswer, Flapping, Verb};
use crate::recorder::Record;

/// From one question to the next while following.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
#[command(
    after_help = "Each agent keeps the last 64 transitions of each origin, POP-wide, over its \
                  restarts. Times are UTC."
)]
pub(super) struct EventsOptions {
    /// Only since then: a time like 03:12 or 2026-01-31T03:12:00Z, or so long ago, like 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Only origins of such a name, like 'shop-*'
    #[arg(long, value_name = "GLOB")]
    name: Option<String>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on with what happens, until interrupted
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
pub(super) struct FlappingOptions {
    /// Count since then: a time, or so long ago
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = moment)]
    since: u64,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn events(options: &EventsOptions) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let verb = Verb::Events(Events {
            after,
            since_ms: options.since.unwrap_or(0),
            name: options.name.clone(),
            limit: Some(usize::from(options.limit)),
        });
        let answer = options.asking.ask(&verb)?;
        let EventsAnswer { events, last } = serde_json::from_value(answer)?;
        for event in &events {
            if options.asking.format.json {
                print_json(event)?;
            } else {
                say!("{}", line(event, true));
            }
        }
        if !options.follow {
            return Ok(());
        }
        after = last;
        std::thread::sleep(FOLLOW_EVERY);
    }
}

pub(super) fn flapping(options: &FlappingOptions) -> Result<(), Failure> {
    let since_ms = options.since;
    let answer = options.asking.ask(&Verb::Flapping(Flapping { since_ms }))?;
    if options.asking.format.json {
        return print_json(&answer);
    }
    let counts: Vec<(String, usize)> = serde_json::from_value(answer)?;
    if counts.is_empty() {
        say!(
            "no origin has changed more than once since {}",
            time(since_ms)
        );
        return Ok(());
    }
    let mut rows = vec![["ORIGIN", "TRANSITIONS"].map(str::to_owned).to_vec()];
    rows.extend(
        counts
            .into_iter()
            .map(|(name, count)| vec![name, count.to_string()]),
    );
    say!("{}", columns(&rows).trim_end());
    Ok(())
}

/// One transition for people.
pub(super) fn line(event: &Record, with_name: bool) -> String {
    let name = if with_name {
        format!("{}  ", event.origin)
    } else {
        String::new()
    };
    let mut text = format!(
        "{}  {name}{} -> {}  {}  by {}",
        time(event.since_ms),
        event.from,
        event.to,
        event.reason,
        event.owner
    );
    if !event.opinions.is_empty() {
        let each = event.opinions.iter();
        let said: Vec<_> = each.map(|it| format!("{}: {}", it.node, it.said)).collect();
        text.push_str(&format!("  (asked: {})", said.join(", ")));
    }
    text
}

/// A time for people, UTC.
pub(super) fn time(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at).to_string()
}

/// A moment, milliseconds since 1970: a time of the day (the last such), a date with
/// one, or so long ago.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    moment_at(text, clock::wall_ms())
}

fn moment_at(text: &str, now_ms: u64) -> Result<u64, String> {
    const DAY_MS: u64 = 86_400_000;
    let ms_of = |time: std::time::SystemTime| {
        let since = time
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    };
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(now_ms.saturating_sub(ago));
    }
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(ms_of(time));
    }
    let seconds = if text.matches(':').count() == 1 {
        ":00"
    } else {
        ""
    };
    let of_day = humantime::parse_rfc3339_weak(&format!("1970-01-01T{text}{seconds}Z"))
        .map_err(|_| "write 03:12, 2026-01-31T03:12:00Z, or so long ago, like 2h".to_owned())?;
    let today = now_ms - now_ms % DAY_MS + ms_of(of_day);
    Ok(if today > now_ms {
        today.saturating_sub(DAY_MS)
    } else {
        today
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = moment_at("2026-01-31T03:00:00Z", 0).unwrap();
        assert_eq!(moment_at("2h", now), Ok(now - 7_200_000));
        assert_eq!(moment_at("02:30", now), Ok(now - 1_800_000));
        // Not yet today.
        assert_eq!(moment_at("03:30", now), Ok(now + 1_800_000 - 86_400_000));
        assert_eq!(moment_at("02:59:59", now), Ok(now - 1_000));
        assert!(moment_at("yesterday", now).unwrap_err().contains("2h"));
    }
}
