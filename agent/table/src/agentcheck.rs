//! HAProxy's agent-check: a server's name in, a word for its state out.
//!
//! HAProxy connects at its `agent-inter`, sends what `agent-send` says, reads
//! one line and applies it. This module is the conversation alone: whoever
//! owns the socket feeds it bytes, sends its answer and closes.

use crate::entry::{TableVerdict, reason_words};
use crate::limits::NAME_BYTES;
use crate::view::Lookup;

/// Longest question, bytes: a name and its line's end. A longer one is
/// answered as not understood and the connection closed.
pub const LINE_BYTES: usize = NAME_BYTES + 2;

/// What to say of an origin of which the table knows nothing certain: its
/// verdict is Unknown, it is not in the table, or the table is stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// HAProxy keeps the state that it has. For a stale table that is the last
    /// verdict.
    #[default]
    FailStatic,
    /// The server is up until the table says otherwise.
    FailOpen,
}

/// Where a conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// The line has not ended yet: read on.
    Incomplete,
    /// The origin's name.
    Name(&'a [u8]),
    /// No name: empty, or longer than a name can be.
    Bad,
}

/// Reads a question from everything received so far.
#[must_use]
pub fn question(received: &[u8]) -> Question<'_> {
    let Some(end) = received.iter().position(|&byte| byte == b'\n') else {
        return if received.len() < LINE_BYTES {
            Question::Incomplete
        } else {
            Question::Bad
        };
    };
    let line = &received[..end];
    let name = line.strip_suffix(b"\r").unwrap_or(line);
    if name.is_empty() || name.len() > NAME_BYTES {
        return Question::Bad;
    }
    Question::Name(name)
}

/// The answer to a question that names nothing. It changes no server's state.
pub const BAD_ANSWER: &str = "ready\n";

/// The line to send for what the table says of the server.
///
/// `up` and `down` set the health, `drain` and `ready` the administrative
/// state; what a line does not name stays as it is. The words after `#` appear
/// in HAProxy's log and statistics.
#[must_use]
pub fn answer(lookup: &Lookup, policy: Policy) -> String {
    let uncertain = match policy {
        Policy::FailStatic => "ready",
        Policy::FailOpen => "ready up",
    };
    if !lookup.freshness().fresh {
        return format!("{uncertain} #the table is stale\n");
    }
    let Some(entry) = lookup.entry() else {
        return format!("{uncertain} #not in the table\n");
    };
    let reason = reason_words(entry.reason);
    match entry.verdict {
        TableVerdict::Up => "ready up\n".to_owned(),
        TableVerdict::Down => format!("ready down #{reason}\n"),
        TableVerdict::Draining => "drain up #draining\n".to_owned(),
        TableVerdict::Unknown => format!("{uncertain} #unknown: {reason}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::view::Freshness;

    const FRESH: Freshness = Freshness {
        age_ns: 1,
        fresh: true,
    };
    const STALE: Freshness = Freshness {
        age_ns: u64::MAX,
        fresh: false,
    };

    fn of(verdict: TableVerdict, freshness: Freshness) -> Lookup {
        Lookup::Found {
            entry: Entry {
                verdict,
                reason: 1,
                ..Entry::default()
            },
            freshness,
        }
    }

    #[test]
    fn questions_are_lines_of_bounded_length() {
        assert_eq!(question(b""), Question::Incomplete);
        assert_eq!(question(b"orig"), Question::Incomplete);
        assert_eq!(question(b"origin-7\n"), Question::Name(b"origin-7"));
        assert_eq!(question(b"origin-7\r\nmore"), Question::Name(b"origin-7"));
        assert_eq!(question(b"\n"), Question::Bad);
        assert_eq!(question(&[b'x'; LINE_BYTES - 1]), Question::Incomplete);
        assert_eq!(question(&[b'x'; LINE_BYTES]), Question::Bad);
        let mut long = vec![b'x'; NAME_BYTES + 1];
        long.push(b'\n');
        assert_eq!(question(&long), Question::Bad);
    }

    #[test]
    fn certain_verdicts_are_told_under_either_policy() {
        for policy in [Policy::FailStatic, Policy::FailOpen] {
            assert_eq!(answer(&of(TableVerdict::Up, FRESH), policy), "ready up\n");
            let down = answer(&of(TableVerdict::Down, FRESH), policy);
            assert_eq!(down, "ready down #the origin refused the connection\n");
            let drain = answer(&of(TableVerdict::Draining, FRESH), policy);
            assert!(drain.starts_with("drain up"));
        }
    }

    #[test]
    fn uncertain_ones_follow_the_policy() {
        let stale = of(TableVerdict::Down, STALE);
        let unknown = of(TableVerdict::Unknown, FRESH);
        let absent = Lookup::NotInTable { freshness: FRESH };
        for lookup in [stale, unknown, absent] {
            assert!(answer(&lookup, Policy::FailStatic).starts_with("ready #"));
            assert!(answer(&lookup, Policy::FailOpen).starts_with("ready up #"));
        }
    }
}
