//! What people want to know of a TLS session: what was agreed on, and the
//! certificates that were shown.

use std::net::IpAddr;

use openssl::x509::{X509, X509NameRef, X509Ref};

use super::seconds_of;

/// A session in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Which library: `rustls` or `OpenSSL`.
    pub library: &'static str,
    /// The version, once it is agreed on.
    pub version: Option<String>,
    /// The cipher suite, once it is agreed on.
    pub cipher: Option<String>,
    /// The protocol that was agreed on by ALPN.
    pub alpn: Option<String>,
    /// What was shown, the origin's own first; where verification failed, as far
    /// as it came.
    pub chain: Vec<Certificate>,
}

/// A certificate in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is, like `CN=shop.example, O=Shop`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its last second, since 1970.
    pub not_after_s: Option<u64>,
    /// The names and addresses that it is valid for.
    pub names: Vec<String>,
}

impl Certificate {
    pub(super) fn of(certificate: &X509Ref) -> Self {
        let names = certificate.subject_alt_names();
        let names = names.iter().flatten().filter_map(|name| {
            let text = name.dnsname().or(name.uri()).or(name.email());
            text.map(str::to_owned)
                .or_else(|| address(name.ipaddress()?))
        });
        Self {
            subject: name_of(certificate.subject_name()),
            issuer: name_of(certificate.issuer_name()),
            not_after_s: seconds_of(certificate),
            names: names.collect(),
        }
    }

    pub(super) fn of_der(der: &[u8]) -> Option<Self> {
        X509::from_der(der)
            .ok()
            .map(|certificate| Self::of(&certificate))
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let any = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    any.ok().map(|address| address.to_string())
}

fn name_of(name: &X509NameRef) -> String {
    let parts = name.entries().map(|entry| {
        let key = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string();
        format!("{key}={}", value.as_deref().unwrap_or("?"))
    });
    parts.collect::<Vec<_>>().join(", ")
}
