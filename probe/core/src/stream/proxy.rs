//! The PROXY protocol: a header before all else on a connection, TLS included,
//! for origins that take no connection without one.
//!
//! A check relays nobody. So the header says what the protocol has for its own
//! connections of a proxy, health checks by name (PROXY protocol, section 2.1
//! `UNKNOWN`, section 2.2 `LOCAL`): the origin is to take the connection's own
//! addresses. HAProxy's checks say the same.

use crate::keys::{self, KeyError, Keys};

/// Which header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyHeader {
    /// One line of text.
    V1,
    /// Sixteen bytes.
    V2,
}

impl ProxyHeader {
    /// The key that asks for one.
    pub const KEY: &'static str = "proxy_protocol";

    /// Takes its key.
    ///
    /// # Errors
    ///
    /// It is no version.
    pub fn read(keys: &mut dyn Keys) -> Result<Option<Self>, KeyError> {
        keys::word(keys, Self::KEY, &[("v1", Self::V1), ("v2", Self::V2)])
    }

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// What is sent.
    pub(crate) const fn bytes(self) -> &'static [u8] {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n",
            // The signature; version 2, LOCAL; no family; no more bytes.
            Self::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        }
    }

    /// The header that these bytes begin with, if they begin with one, and the rest.
    #[must_use]
    pub fn split(bytes: &[u8]) -> (Option<Self>, &[u8]) {
        for header in [Self::V1, Self::V2] {
            if let Some(rest) = bytes.strip_prefix(header.bytes()) {
                return (Some(header), rest);
            }
        }
        (None, bytes)
    }

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}
