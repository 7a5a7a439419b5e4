//! A name in an address's place: which ones there are, and what a check keeps of it.

use core::fmt;
use std::sync::Arc;

use crate::keys::KeyError;
use crate::limits::{LABEL_BYTES, NAME_BYTES};

/// The name of a host, in lower case, without a dot at its end. It is asked for as it
/// is: no search list is tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to write. The key is `address`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let error = |what: String, hint: &str| Err(KeyError::new("address", what, hint));
        if !text.is_ascii() {
            return error(
                format!("\"{text}\" has letters beyond ASCII, which the DNS does not know"),
                "write its punycode, like \"xn--bcher-kva.example\"; `idn2 NAME` makes it",
            );
        }
        if let Some(bare) = text.strip_suffix('.') {
            return error(
                format!("\"{text}\" ends with a dot"),
                &format!(
                    "write \"{bare}\": each name is asked for as it is, without a search list"
                ),
            );
        }
        if text.is_empty() || text.len() > NAME_BYTES {
            return error(
                format!("the name has {} bytes", text.len()),
                &format!("write a name of 1 to {NAME_BYTES} bytes"),
            );
        }
        for label in text.split('.') {
            if label.is_empty() || label.len() > LABEL_BYTES {
                return error(
                    format!(
                        "\"{text}\" has a part of {} bytes between its dots",
                        label.len()
                    ),
                    &format!("each part of a name has 1 to {LABEL_BYTES} bytes"),
                );
            }
            if label.contains('_') {
                return error(
                    format!("\"{text}\" has an underscore, which no host's name has"),
                    "names with one are of services and not of hosts; write the host's name, or \
                     its address",
                );
            }
            let strange = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'-';
            if let Some(byte) = label.bytes().find(|byte| strange(byte)) {
                return error(
                    format!("\"{text}\" has {:?} in it", char::from(byte)),
                    "a host's name has letters, digits, hyphens and dots",
                );
            }
            if label.starts_with('-') || label.ends_with('-') {
                return error(
                    format!("\"{text}\" has a part that begins or ends with a hyphen"),
                    "hyphens stand between letters and digits",
                );
            }
        }
        // What looks like an address is one to many programs, and a mistake here.
        let last = text.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return error(
                format!("\"{text}\" is neither an address nor a name"),
                "write an address like \"192.0.2.10:8080\", or a name like \"app.example:8080\"",
            );
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_lower_case_and_nothing_else_is_changed() {
        for (text, name) in [
            ("app.example", "app.example"),
            ("App.Example", "app.example"),
            ("localhost", "localhost"),
            ("3com.example", "3com.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
        ] {
            assert_eq!(HostName::parse(text).unwrap().as_str(), name);
        }
        let label = "a".repeat(LABEL_BYTES);
        let longest = [&*label, &label, &label, &label[2..]].join(".");
        assert_eq!(longest.len(), NAME_BYTES);
        assert!(HostName::parse(&longest).is_ok());
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_to_write() {
        let label = "a".repeat(LABEL_BYTES + 1);
        let long = ["a"; 128].join(".");
        for (text, what, hint) in [
            ("", "0 bytes", "1 to 253"),
            ("a_b.example", "underscore", "host's name"),
            ("app.example.", "ends with a dot", "write \"app.example\""),
            ("bücher.example", "beyond ASCII", "punycode"),
            ("a..example", "0 bytes between", "1 to 63"),
            (&label, "64 bytes between", "1 to 63"),
            (&long, "255 bytes", "1 to 253"),
            ("-a.example", "hyphen", "between"),
            ("a-.example", "hyphen", "between"),
            ("a b", "' '", "letters"),
            ("a/b", "'/'", "letters"),
            ("1.2.3", "neither", "192.0.2.10"),
            ("1.2.3.256", "neither", "192.0.2.10"),
            ("a.0x7f", "neither", "192.0.2.10"),
        ] {
            let error = HostName::parse(text).unwrap_err();
            assert!(error.what.contains(what), "{text}: {error:?}");
            assert!(error.hint.contains(hint), "{text}: {error:?}");
        }
    }
}
