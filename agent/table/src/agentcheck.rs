//! HAProxy's agent-check: a server's name in, a word for its state out.
//!
//! HAProxy connects at its `agent-inter`, sends what `agent-send` says, reads
//! one line and applies it. This module is the conversation alone: whoever
//! owns the socket feeds it bytes, sends its answer and closes.

use std::collections::HashSet;

use crate::entry::{TableVerdict, reason_words};
use crate::limits::{DRAINS_TOLD, NAME_BYTES};
use crate::rule::{self, Usage, WhenStale};
use crate::view::Lookup;

/// Longest question, bytes: a name and its line's end. A longer one is
/// answered as not understood and the connection closed.
pub const LINE_BYTES: usize = NAME_BYTES + 2;

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

/// The answer to a question that names nothing: a remark, which changes no
/// server's state.
pub const BAD_ANSWER: &str = "#not a name\n";

/// What the askers of this process were told that must be taken back.
///
/// An answer names no administrative state: `ready` would end the `maint` or
/// `drain` that an operator set by hand, and HAProxy does not tell one who set
/// it from another. An origin that drains is up at a weight of 0 %, and 100 %
/// takes that back. Only names that were told 0 % are ever told 100 %, so a
/// weight set by hand stays everywhere else. Who asks cannot be known (each
/// question is a connection of its own, and two backends ask for one name
/// alike): what was told to one is taken back from all who ask for the name,
/// for as long as the process lives; one that starts again has to be told what
/// its predecessor said ([`Told::again`]), for HAProxy remembers.
#[derive(Debug, Default)]
pub struct Told {
    drained: HashSet<Box<[u8]>>,
}

impl Told {
    /// Goes on where an earlier process was: these names were told to drain.
    #[must_use]
    pub fn again(names: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let names = names.into_iter().take(DRAINS_TOLD);
        Self {
            drained: names.map(Vec::into_boxed_slice).collect(),
        }
    }

    /// The names that were told to drain, in no order: more of them are worth
    /// keeping before the answer goes out.
    pub fn drained(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.drained.iter().map(AsRef::as_ref)
    }

    /// The line to send for what the table says of the server, by [the
    /// rule](crate::rule) that all readers follow.
    ///
    /// HAProxy has no "try last", so what is degraded is up. What a line does
    /// not name stays as it is, and so does all of what is not known or stale. The
    /// words after `#` appear in HAProxy's log and statistics.
    #[must_use]
    pub fn answer(&mut self, name: &[u8], lookup: &Lookup, when_stale: WhenStale) -> String {
        let weight = if self.drained.contains(name) {
            " 100%"
        } else {
            ""
        };
        let stale = !lookup.freshness().fresh;
        let usage = rule::usage(Some(lookup), when_stale);
        if stale && (when_stale == WhenStale::Static || usage == Usage::DoNotUse) {
            return "#the table is stale\n".to_owned();
        }
        let remark = match lookup {
            Lookup::Busy { .. } => return "#busy\n".to_owned(),
            _ if stale => " #the table is stale".to_owned(),
            Lookup::NotInTable { .. } => return "#not in the table\n".to_owned(),
            Lookup::Found { entry, .. } => match entry.verdict {
                TableVerdict::Draining => return self.drain(name),
                TableVerdict::Unknown => {
                    return format!("#unknown: {}\n", reason_words(entry.reason));
                }
                TableVerdict::Up if usage == Usage::Use => String::new(),
                TableVerdict::Up | TableVerdict::Down => {
                    format!(" #{}", reason_words(entry.reason))
                }
            },
        };
        let word = match usage {
            Usage::DoNotUse => "down",
            Usage::TryLast | Usage::Use => "up",
        };
        format!("{word}{weight}{remark}\n")
    }

    /// Drains, where there is room to remember that it must be taken back.
    fn drain(&mut self, name: &[u8]) -> String {
        if !self.drained.contains(name) {
            if self.drained.len() >= DRAINS_TOLD {
                return "#draining, but too many drain already\n".to_owned();
            }
            self.drained.insert(name.into());
        }
        "up 0% #draining\n".to_owned()
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
    fn a_fresh_tables_verdicts_are_told_whatever_a_stale_one_means() {
        for when in [WhenStale::Static, WhenStale::Open] {
            let mut told = Told::default();
            let mut answer = |verdict| told.answer(b"a", &of(verdict, FRESH), when);
            assert_eq!(answer(TableVerdict::Up), "up\n");
            assert_eq!(
                answer(TableVerdict::Down),
                "down #the origin refused the connection\n"
            );
            assert_eq!(answer(TableVerdict::Draining), "up 0% #draining\n");
            assert_eq!(answer(TableVerdict::Up), "up 100%\n");
            assert!(answer(TableVerdict::Down).starts_with("down 100% #"));
            let other = told.answer(b"b", &of(TableVerdict::Up, FRESH), when);
            assert_eq!(other, "up\n");
        }
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        let mut told = Told::default();
        let mut answer = |lookup| told.answer(b"a", &lookup, WhenStale::Static);
        let unknown = answer(of(TableVerdict::Unknown, FRESH));
        assert!(unknown.starts_with("#unknown"), "{unknown}");
        let absent = answer(Lookup::NotInTable { freshness: FRESH });
        assert_eq!(absent, "#not in the table\n");
        let busy = answer(Lookup::Busy { freshness: FRESH });
        assert!(busy.starts_with('#'), "it keeps what it has: {busy}");
    }

    #[test]
    fn a_stale_table_is_static_or_open_but_for_the_operators_word() {
        let mut told = Told::default();
        let mut answer = |verdict, when| told.answer(b"a", &of(verdict, STALE), when);
        for verdict in [TableVerdict::Up, TableVerdict::Down, TableVerdict::Draining] {
            assert!(answer(verdict, WhenStale::Static).starts_with('#'));
        }
        assert!(answer(TableVerdict::Down, WhenStale::Open).starts_with("up #"));
        assert!(answer(TableVerdict::Draining, WhenStale::Open).starts_with('#'));
    }

    #[test]
    fn a_successor_takes_back_what_was_told() {
        let mut told = Told::default();
        let draining = of(TableVerdict::Draining, FRESH);
        assert_eq!(
            told.answer(b"a", &draining, WhenStale::Static),
            "up 0% #draining\n"
        );
        let mut again = Told::again(told.drained().map(<[u8]>::to_vec));
        let up = of(TableVerdict::Up, FRESH);
        assert_eq!(again.answer(b"a", &up, WhenStale::Static), "up 100%\n");
        assert_eq!(again.answer(b"b", &up, WhenStale::Static), "up\n");
    }

    #[test]
    fn a_drain_that_could_not_be_taken_back_is_not_told() {
        let mut told = Told::default();
        let draining = of(TableVerdict::Draining, FRESH);
        for number in 0..DRAINS_TOLD {
            let name = number.to_string();
            let answer = told.answer(name.as_bytes(), &draining, WhenStale::Static);
            assert!(answer.starts_with("up 0%"));
        }
        let mut answer = |name| told.answer(name, &draining, WhenStale::Static);
        assert!(answer(b"one more").starts_with('#'));
        assert!(answer(b"0").starts_with("up 0%"));
    }
}
