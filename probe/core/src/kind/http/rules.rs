//! What a response must hold beside its status: headers and content.

use core::fmt;

use crate::check::Canonical;
use crate::keys::{KeyError, Keys, Value};
use crate::limits::RULES;
use crate::pattern::Pattern;

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderRule {
    name: String,
    want: Want,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Want {
    Present,
    Equals(String),
    Matches(Pattern),
}

impl HeaderRule {
    /// Reads rules: a table of header names, each with `true` for a header
    /// that must be there, a text that it must equal, or a regular expression
    /// behind a `~`.
    ///
    /// # Errors
    ///
    /// It is no such table, or a name or expression is none.
    pub(super) fn read(keys: &mut dyn Keys, key: &'static str) -> Result<Vec<Self>, KeyError> {
        let hint = "write a table like { \"X-Ready\" = \"yes\", \"X-Build\" = true, \
                    \"Server\" = \"~^nginx\" }";
        let entries = match keys.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Table(entries)) if entries.len() <= RULES => entries,
            Some(Value::Table(_)) => {
                return Err(KeyError::new(
                    key,
                    format!("{key} has more than {RULES} headers"),
                    "name fewer",
                ));
            }
            Some(_) => return Err(KeyError::new(key, format!("{key} is no table"), hint)),
        };
        entries
            .into_iter()
            .map(|(name, value)| {
                let want = match value {
                    Value::Flag(true) => Want::Present,
                    Value::Text(text) => match text.strip_prefix('~') {
                        Some(pattern) => Want::Matches(Pattern::new(key, pattern)?),
                        None => Want::Equals(text),
                    },
                    _ => {
                        let what = format!("{key}: \"{name}\" is neither true nor a text");
                        return Err(KeyError::new(key, what, hint));
                    }
                };
                if !super::request::is_header_name(&name) {
                    let what = format!("{key}: \"{name}\" is no name of a header");
                    return Err(KeyError::new(key, what, hint));
                }
                Ok(Self {
                    name: name.to_ascii_lowercase(),
                    want,
                })
            })
            .collect()
    }

    /// Whether this header is what the rule wants.
    pub(super) fn holds(&self, name: &[u8], value: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name.as_bytes())
            && match &self.want {
                Want::Present => true,
                Want::Equals(text) => value.trim_ascii() == text.as_bytes(),
                Want::Matches(pattern) => pattern.is_match(value.trim_ascii()),
            }
    }

    pub(super) fn canonical(&self, out: &mut Canonical) {
        out.text(&self.name);
        match &self.want {
            Want::Present => out.byte(0),
            Want::Equals(text) => {
                out.byte(1);
                out.text(text);
            }
            Want::Matches(pattern) => {
                out.byte(2);
                out.text(pattern.as_str());
            }
        }
    }
}

impl fmt::Display for HeaderRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.want {
            Want::Present => write!(f, "{}", self.name),
            Want::Equals(text) => write!(f, "{}: {text}", self.name),
            Want::Matches(pattern) => write!(f, "{} ~ {}", self.name, pattern.as_str()),
        }
    }
}

/// What a body must hold, within the part of it that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BodyRule {
    /// This text.
    Contains(String),
    /// Something that this matches.
    Matches(Pattern),
    /// It is JSON with this value at this place.
    Json {
        /// The place (RFC 6901), like `/status`.
        pointer: String,
        /// The value as JSON writes it.
        value: String,
    },
}

impl BodyRule {
    /// Reads the rules of all keys about the body.
    ///
    /// # Errors
    ///
    /// A key means nothing.
    pub(super) fn read(keys: &mut dyn Keys) -> Result<Vec<Self>, KeyError> {
        let mut rules = Vec::new();
        if let Some(text) = crate::keys::text(keys, "expect_body")? {
            rules.push(Self::Contains(text));
        }
        if let Some(text) = crate::keys::text(keys, "expect_body_regex")? {
            rules.push(Self::Matches(Pattern::new("expect_body_regex", &text)?));
        }
        let hint = "write a table of JSON pointers, like { \"/status\" = \"ok\" }";
        let places = match keys.take("expect_json") {
            None => Vec::new(),
            Some(Value::Table(places)) if places.len() <= RULES => places,
            Some(_) => {
                let what = format!("expect_json is no table of at most {RULES} places");
                return Err(KeyError::new("expect_json", what, hint));
            }
        };
        for (pointer, value) in places {
            let value = match value {
                Value::Text(text) => serde_json::Value::from(text),
                Value::Number(number) => serde_json::Value::from(number),
                Value::Flag(flag) => serde_json::Value::from(flag),
                Value::List(_) | Value::Table(_) => {
                    let what = format!("expect_json: the value of \"{pointer}\" is not plain");
                    return Err(KeyError::new("expect_json", what, hint));
                }
            };
            if !pointer.is_empty() && !pointer.starts_with('/') {
                let what = format!("expect_json: \"{pointer}\" does not start with \"/\"");
                return Err(KeyError::new("expect_json", what, hint));
            }
            let value = value.to_string();
            rules.push(Self::Json { pointer, value });
        }
        Ok(rules)
    }

    /// Whether a body holds it.
    pub(super) fn holds(&self, body: &[u8]) -> bool {
        match self {
            Self::Contains(text) => contains(body, text.as_bytes()),
            Self::Matches(pattern) => pattern.is_match(body),
            Self::Json { pointer, value } => {
                let json: serde_json::Value = match serde_json::from_slice(body) {
                    Ok(json) => json,
                    Err(_) => return false,
                };
                json.pointer(pointer).map(ToString::to_string).as_ref() == Some(value)
            }
        }
    }

    pub(super) fn canonical(&self, out: &mut Canonical) {
        match self {
            Self::Contains(text) => {
                out.byte(0);
                out.text(text);
            }
            Self::Matches(pattern) => {
                out.byte(1);
                out.text(pattern.as_str());
            }
            Self::Json { pointer, value } => {
                out.byte(2);
                out.text(pointer);
                out.text(value);
            }
        }
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|part| part == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(&'static str, Option<Value>);

    impl Keys for One {
        fn take(&mut self, key: &'static str) -> Option<Value> {
            (key == self.0).then(|| self.1.take()).flatten()
        }
    }

    fn table(entries: &[(&str, Value)]) -> Option<Value> {
        let entries = entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        Some(Value::Table(entries.collect()))
    }

    #[test]
    fn a_header_is_there_or_equals_or_matches() {
        let text = |text: &str| Value::Text(text.to_owned());
        let value = table(&[
            ("X-There", Value::Flag(true)),
            ("X-Ready", text("yes")),
            ("Server", text("~^nginx/[0-9.]+$")),
        ]);
        let rules = HeaderRule::read(&mut One("h", value), "h").unwrap();
        assert!(rules[0].holds(b"x-there", b""));
        assert!(rules[1].holds(b"X-READY", b" yes "));
        assert!(!rules[1].holds(b"X-Ready", b"yes!"));
        assert!(rules[2].holds(b"server", b"nginx/1.27"));
        assert!(!rules[2].holds(b"server", b"apache"));
        for value in [
            table(&[("a b", Value::Flag(true))]),
            table(&[("a", Value::Flag(false))]),
            table(&[("a", text("~("))]),
            Some(text("a")),
        ] {
            assert!(HeaderRule::read(&mut One("h", value), "h").is_err());
        }
    }

    #[test]
    fn a_body_contains_or_matches_or_is_json() {
        let json = table(&[
            ("/status", Value::Text("ok".to_owned())),
            ("/db/0/up", Value::Flag(true)),
            ("/n", Value::Number(7)),
        ]);
        let rules = BodyRule::read(&mut One("expect_json", json)).unwrap();
        let body = br#"{"status": "ok", "db": [{"up": true}], "n": 7}"#;
        assert!(rules.iter().all(|rule| rule.holds(body)));
        assert!(
            rules
                .iter()
                .all(|rule| !rule.holds(b"{}") && !rule.holds(b"<html>"))
        );
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(!rules[0].holds(deep.as_bytes()));
        let rule = BodyRule::Contains("all well".to_owned());
        assert!(rule.holds(b"today all well.") && !rule.holds(b"all ill"));
    }
}
