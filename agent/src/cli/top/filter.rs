//! Which origins are meant: words, all of which have to fit. A word is a part of a
//! name, a name with `*` in it, `owner:NAME`, `reason:PART` or `is:VERDICT-OR-FLAG`.
//! The status page's search reads the same words.

use glob::{MatchOptions, Pattern};

use super::model::Origin;

/// See the module.
#[derive(Debug)]
pub(super) struct Filter(Vec<Word>);

#[derive(Debug)]
enum Word {
    Part(String),
    Named(Pattern),
    Owner(String),
    Reason(String),
    Is(String),
}

impl Filter {
    pub(super) fn of(text: &str) -> Self {
        Self(text.split_whitespace().map(word).collect())
    }

    /// Whether it lets everything through.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn fits(&self, name: &str, origin: &Origin) -> bool {
        self.0.iter().all(|word| match word {
            Word::Part(part) => name.contains(part.as_str()),
            Word::Named(pattern) => pattern.matches_with(name, MatchOptions::new()),
            Word::Owner(owner) => origin.owner == *owner,
            Word::Reason(part) => origin.reason.contains(part.as_str()),
            Word::Is(what) => {
                origin.verdict.as_str() == what
                    || origin.flags.to_string().split(',').any(|it| it == what)
            }
        })
    }
}

fn word(text: &str) -> Word {
    match text.split_once(':') {
        Some(("owner", owner)) => Word::Owner(owner.to_owned()),
        Some(("reason", part)) => Word::Reason(part.to_owned()),
        Some(("is", what)) => Word::Is(what.to_owned()),
        _ => match Pattern::new(text) {
            Ok(pattern) if text.contains('*') => Word::Named(pattern),
            // Half a pattern, as it is typed, is a part of a name.
            _ => Word::Part(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use watchfire_table::{Flags, TableVerdict};

    use super::*;

    #[test]
    fn all_words_have_to_fit() {
        let origin = Origin {
            verdict: TableVerdict::Down,
            flags: Flags::FORCED,
            reason: "bad_status".into(),
            owner: "edge-1".into(),
            since_ms: 0,
            latency_us: 0,
        };
        let fits = |text: &str| Filter::of(text).fits("shop-1.example", &origin);
        for text in [
            "",
            "shop",
            "shop-*",
            "*.example",
            "owner:edge-1 reason:status is:down is:forced 1.ex",
        ] {
            assert!(fits(text), "{text}");
        }
        for text in ["shop zz", "hop-*", "owner:edge", "is:up", "is:", "[*"] {
            assert!(!fits(text), "{text}");
        }
    }
}
