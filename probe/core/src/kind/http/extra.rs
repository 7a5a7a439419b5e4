//! What an HTTP check may say beside method, path, host and status.

use core::fmt;
use core::time::Duration;

use super::request::{FORBIDDEN, is_header_name, is_header_value};
use super::rules::{BodyRule, HeaderRule};
use super::status::{StatusSet, StatusSetError};
use crate::check::Canonical;
use crate::keys::{self, KeyError, Keys};
use crate::limits::{BODY_SENT_BYTES, HEADERS_SENT, HEADERS_SENT_BYTES};

/// The keys that make it, but for `version`.
pub(crate) const KEYS: &[&str] = &[
    "body",
    "headers",
    "headers_file",
    "expect_headers",
    "expect_body",
    "expect_body_regex",
    "expect_json",
    "degraded_status",
    "degraded_headers",
    "degraded_after",
    "down_at_once_status",
    "down_at_once_headers",
    "close",
];

/// Everything that most checks leave at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extra {
    /// Speak HTTP/1.0.
    pub old_version: bool,
    /// Sent after the head.
    pub body: String,
    /// Sent in the head, in this order.
    pub headers: Vec<(String, String)>,
    /// What the response's headers must be.
    pub expect_headers: Vec<HeaderRule>,
    /// What the response's body must hold.
    pub expect_body: Vec<BodyRule>,
    /// What makes an origin that is Up degraded.
    pub degraded: Signs,
    /// A first byte that comes later makes it degraded too.
    pub degraded_after: Option<Duration>,
    /// What makes it Down at once, whatever `fall` says.
    pub down_at_once: Signs,
    /// Close with FIN, for origins that mind a reset.
    pub close_fin: bool,
}

/// Signs in a response's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Signs {
    /// One of these statuses.
    pub status: Option<StatusSet>,
    /// One of these headers.
    pub headers: Vec<HeaderRule>,
}

impl Signs {
    fn read(
        keys: &mut dyn Keys,
        status: &'static str,
        headers: &'static str,
    ) -> Result<Self, KeyError> {
        Ok(Self {
            status: match keys::text(keys, status)? {
                None => None,
                Some(text) => Some(statuses(status, &text)?),
            },
            headers: HeaderRule::read(keys, headers)?,
        })
    }

    fn canonical(&self, out: &mut Canonical) {
        match &self.status {
            None => out.byte(0),
            Some(set) => {
                out.byte(1);
                out.text(&set.to_string());
            }
        }
        out.number(self.headers.len() as u64);
        for rule in &self.headers {
            rule.canonical(out);
        }
    }
}

/// Reads a set of statuses from a key's text.
pub(super) fn statuses(key: &'static str, text: &str) -> Result<StatusSet, KeyError> {
    text.parse().map_err(|error: StatusSetError| {
        KeyError::new(
            key,
            format!("{key} = \"{text}\": {error}"),
            "write statuses like \"200-299, 301, 2xx, !204\"",
        )
    })
}

impl Extra {
    /// Takes its keys; nothing if none of them says anything.
    ///
    /// # Errors
    ///
    /// A key that means nothing.
    pub(super) fn read(keys: &mut dyn Keys) -> Result<Option<Box<Self>>, KeyError> {
        let headers = read_headers(keys)?;
        let extra = Self {
            old_version: keys::word(keys, "version", &[("1.0", true), ("1.1", false)])?
                .unwrap_or(false),
            body: keys::text(keys, "body")?.unwrap_or_default(),
            headers,
            expect_headers: HeaderRule::read(keys, "expect_headers")?,
            expect_body: BodyRule::read(keys)?,
            degraded: Signs::read(keys, "degraded_status", "degraded_headers")?,
            degraded_after: keys::duration(keys, "degraded_after")?,
            down_at_once: Signs::read(keys, "down_at_once_status", "down_at_once_headers")?,
            close_fin: read_close(keys)?,
        };
        Ok((extra != Self::default()).then(|| Box::new(extra)))
    }

    pub(super) fn validate(&self) -> Result<(), KeyError> {
        if self.body.len() > BODY_SENT_BYTES {
            return Err(KeyError::new(
                "body",
                format!("the body is {} bytes long", self.body.len()),
                format!("send at most {BODY_SENT_BYTES} bytes"),
            ));
        }
        validate_headers(&self.headers)
    }

    pub(super) fn canonical(&self, out: &mut Canonical) {
        out.byte(u8::from(self.old_version));
        out.text(&self.body);
        out.number(self.headers.len() as u64);
        for (name, value) in &self.headers {
            out.text(name);
            out.text(value);
        }
        out.number(self.expect_headers.len() as u64);
        for rule in &self.expect_headers {
            rule.canonical(out);
        }
        out.number(self.expect_body.len() as u64);
        for rule in &self.expect_body {
            rule.canonical(out);
        }
        self.degraded.canonical(out);
        out.optional_duration(self.degraded_after);
        self.down_at_once.canonical(out);
        out.byte(u8::from(self.close_fin));
    }
}

/// Takes the headers that a check sends as its own.
pub(crate) fn read_headers(keys: &mut dyn Keys) -> Result<Vec<(String, String)>, KeyError> {
    let mut headers = keys::texts(keys, "headers")?.unwrap_or_default();
    headers.extend(keys::texts(keys, "headers_file")?.unwrap_or_default());
    Ok(headers)
}

/// Takes how a connection is closed: with FIN, or with a reset.
pub(crate) fn read_close(keys: &mut dyn Keys) -> Result<bool, KeyError> {
    let close = keys::word(keys, "close", &[("reset", false), ("fin", true)])?;
    Ok(close.unwrap_or(false))
}

/// Whether a check may send these headers as its own.
pub(crate) fn validate_headers(headers: &[(String, String)]) -> Result<(), KeyError> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    if headers.len() > HEADERS_SENT || bytes > HEADERS_SENT_BYTES {
        return Err(KeyError::new(
            "headers",
            format!("{} headers of {bytes} bytes", headers.len()),
            format!("send at most {HEADERS_SENT} of {HEADERS_SENT_BYTES} bytes in all"),
        ));
    }
    for (name, value) in headers {
        if !is_header_name(name) || !is_header_value(value) {
            return Err(KeyError::new(
                "headers",
                // The value may be a secret.
                format!(
                    "the header {name:?} cannot be sent: its name or value holds a byte that no header may hold"
                ),
                "use letters, digits and \"-\" in names, and one line of printable ASCII in values",
            ));
        }
        if FORBIDDEN
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            return Err(KeyError::new(
                "headers",
                format!("{name} follows from other keys"),
                "write host, connection or body instead",
            ));
        }
    }
    Ok(())
}

impl fmt::Display for Extra {
    /// For people: what is expected, but no header or body that is sent, for
    /// those may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.expect_headers {
            write!(f, ", {rule}")?;
        }
        if !self.expect_body.is_empty() {
            write!(f, ", {} rules of content", self.expect_body.len())?;
        }
        Ok(())
    }
}
