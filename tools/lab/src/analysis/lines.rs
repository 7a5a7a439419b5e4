//! Lines of the origins' log and of the agents' text, taken apart.

use super::probes::Probe;
use crate::clock::{SECOND, Us};
use crate::journal::Word;
use crate::net;

/// What a line of an agent's text says, if it is of interest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Something became of a member.
    Member { at: Us, of: usize, what: Word },
    /// So many origins are Down now.
    Down { origins: u64 },
}

/// A line of the origins' log: seconds, prober, origin, status.
pub(crate) fn probe(line: &str) -> Option<Probe> {
    let mut words = line.split(' ');
    let at = seconds(words.next()?)?;
    let who = net::agent_of(words.next()?.parse().ok()?)?;
    let origin = net::origin_of(words.next()?.parse().ok()?)?;
    let status = words.next()?.parse().ok()?;
    Some(Probe {
        at,
        origin: u32::try_from(origin).ok()?,
        who: u16::try_from(who).ok()?,
        status,
    })
}

/// "1795655337.414" in microseconds.
fn seconds(text: &str) -> Option<Us> {
    let (whole, part) = text.split_once('.')?;
    let thousandths: Us = part.parse().ok().filter(|_| part.len() == 3)?;
    Some(whole.parse::<Us>().ok()? * SECOND + thousandths * 1_000)
}

/// A line of an agent's text.
pub(crate) fn agent(line: &str) -> Option<Line> {
    let (stamp, rest) = line.split_once("  ").or_else(|| line.split_once(' '))?;
    let (_, message) = rest.trim_start().split_once(' ')?;
    if message.starts_with("verdict changed ") && message.contains("to=down") {
        let origins = quoted(message, "origins=\"")?.split(", ").count() as u64;
        return Some(Line::Down { origins });
    }
    let words = [
        ("joined ", Word::Joined),
        ("suspected ", Word::Suspected),
        ("refuted ", Word::Refuted),
        ("died ", Word::Died),
        ("left ", Word::Left),
    ];
    let (_, what) = words.iter().find(|(word, _)| message.starts_with(word))?;
    let of = quoted(message, "member=\"")?
        .strip_prefix('n')?
        .parse()
        .ok()?;
    Some(Line::Member {
        at: timestamp(stamp)?,
        of,
        what: *what,
    })
}

fn quoted<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let from = text.find(key)? + key.len();
    let length = text[from..].find('"')?;
    Some(&text[from..from + length])
}

/// "2026-11-26T01:08:57.414373Z" in microseconds since 1970.
fn timestamp(text: &str) -> Option<Us> {
    let time = humantime::parse_rfc3339(text).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_micros() as Us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_origins_log_is_a_probe() {
        let read = probe("1795655337.414 10.77.0.3 10.80.1.2 200").unwrap();
        assert_eq!(read.at, 1_795_655_337_414_000);
        assert_eq!((read.who, read.origin, read.status), (2, 251, 200));
        for broken in [
            "",
            "1795655337.414 10.77.0.3",
            "x 10.77.0.3 10.80.1.2 200",
            "1795655337.414 10.9.0.3 10.80.1.2 200",
        ] {
            assert_eq!(probe(broken), None, "{broken}");
        }
    }

    #[test]
    fn an_agents_lines_are_words_on_members() {
        let died = agent("2026-11-26T01:09:01.599485Z  WARN died member=\"n3\"").unwrap();
        let Line::Member { at, of, what } = died else {
            panic!("{died:?}");
        };
        assert_eq!((of, what), (3, Word::Died));
        assert_eq!(at % SECOND, 599_485);
        let refuted = "2026-11-26T01:09:01.5Z  INFO refuted a suspicion member=\"n12\"";
        assert!(matches!(
            agent(refuted),
            Some(Line::Member {
                of: 12,
                what: Word::Refuted,
                ..
            })
        ));
        assert_eq!(agent("2026-11-26T01:09:01.5Z  INFO left the POP"), None);
        assert_eq!(agent("nonsense"), None);
    }

    #[test]
    fn a_verdict_may_be_that_of_several_origins() {
        let line =
            "2026-11-26T01:09:01.5Z  INFO verdict changed origins=\"o1, o2\" from=up to=down";
        assert_eq!(agent(line), Some(Line::Down { origins: 2 }));
    }
}
