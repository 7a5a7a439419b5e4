//! Regular expressions over bytes, matched in linear time, within limits of
//! length and size.

use core::hash::{Hash, Hasher};

use regex::bytes::{Regex, RegexBuilder};

use crate::keys::KeyError;
use crate::limits::{PATTERN_BYTES, PATTERN_SIZE};

/// A regular expression of the regex crate's syntax, without Unicode: `.` is any
/// byte but a line's end.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles what stands under a key.
    ///
    /// # Errors
    ///
    /// It is none, or too long, or needs too much memory.
    pub fn new(key: &'static str, text: &str) -> Result<Self, KeyError> {
        let hint = "write a shorter regular expression of the regex crate's syntax";
        if text.len() > PATTERN_BYTES {
            return Err(KeyError::new(
                key,
                format!(
                    "the regular expression is {} bytes long; at most {PATTERN_BYTES} are allowed",
                    text.len()
                ),
                hint,
            ));
        }
        RegexBuilder::new(text)
            .unicode(false)
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .build()
            .map(Self)
            .map_err(|cause| {
                let what = format!("the regular expression {text:?}: {cause}");
                KeyError::new(key, what, hint)
            })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches anywhere.
    #[must_use]
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }

    /// Where its first match ends.
    #[must_use]
    pub fn end_of_match(&self, bytes: &[u8]) -> Option<usize> {
        self.0.find(bytes).map(|part| part.end())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_limits() {
        let large = "a".repeat(PATTERN_BYTES + 1);
        for text in [large.as_str(), "(a{1000}){1000}", "(", "\\p{Greek}"] {
            let error = Pattern::new("expect_body_regex", text).unwrap_err();
            assert_eq!(error.key, "expect_body_regex", "{text:.20}");
        }
    }
}
