//! What lies between a kind's bytes and the connection: layers that any stream
//! may have.

pub mod proxy;
pub mod tls;

use core::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use self::tls::TlsOptions;
use crate::keys::{self, KeyError, Keys};

/// How to speak TLS with an origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsSpec {
    /// Sent as SNI and verified against the certificate.
    pub server_name: String,
    /// Whether the certificate must be valid for the name.
    pub verify: bool,
    /// What is asked beyond that.
    pub options: Option<Arc<TlsOptions>>,
}

impl TlsSpec {
    /// The keys that it takes.
    pub const KEYS: &'static [&'static str] = &["server_name", "verify"];

    /// The keys that it takes beyond those.
    pub const MORE_KEYS: &'static [&'static str] = TlsOptions::KEYS;

    /// Takes its keys; the name is `name` unless they say otherwise.
    ///
    /// # Errors
    ///
    /// A key that means nothing.
    pub fn read(keys: &mut dyn Keys, name: Option<&str>, target: IpAddr) -> Result<Self, KeyError> {
        Ok(Self {
            server_name: match keys::text(keys, "server_name")? {
                Some(name) => name,
                None => name.map_or_else(|| target.to_string(), str::to_owned),
            },
            verify: keys::flag(keys, "verify")?.unwrap_or(true),
            options: TlsOptions::read(keys)?.map(Arc::new),
        })
    }

    /// Whether it trusts others than the prober does.
    pub(crate) fn has_own_ca(&self) -> bool {
        let options = self.options.as_ref();
        options.is_some_and(|options| options.has_ca())
    }

    /// Whether a probe goes on with the last one's session where it may.
    pub(crate) fn resumes(&self) -> bool {
        let options = self.options.as_ref();
        options.is_none_or(|options| options.resumption())
    }

    /// Whether it offers a protocol that its kind would speak.
    pub(crate) fn offers(&self, alpn: &str) -> bool {
        let options = self.options.as_ref();
        options.is_none_or(|options| options.offers(alpn))
    }

    pub(crate) fn validate(&self) -> Result<(), KeyError> {
        if ServerName::try_from(self.server_name.as_str()).is_err() {
            return Err(KeyError::new(
                "server_name",
                format!(
                    "the TLS server name {:?} is no name that a certificate can bear",
                    self.server_name
                ),
                "write server_name = \"a host name or an address, without a port\"",
            ));
        }
        Ok(())
    }
}
