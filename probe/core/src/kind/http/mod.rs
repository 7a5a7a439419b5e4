//! One HTTP/1.1 request, and what is expected of its response.

mod exchange;
mod extra;
mod head;
mod judge;
mod request;
mod response;
mod rules;
pub mod status;

use core::fmt;
use core::net::SocketAddr;

pub(crate) use exchange::Answered;
pub use extra::{Extra, Signs};
pub(crate) use extra::{KEYS as EXTRA_KEYS, read_close, read_headers, validate_headers};
pub(crate) use head::is_token;
pub(crate) use judge::{Expected, Plain, Seen, Wanted, is_late};
pub use rules::{BodyRule, HeaderRule};
use status::StatusSet;

use super::{CheckKind, Transport};
use crate::check::Canonical;
use crate::keys::{self, KeyError, Keys};
use crate::limits::{BODY_SENT_KEPT_BYTES, HOST_BYTES, PATH_BYTES};
use crate::stream::TlsSpec;
use crate::trace::shown;

/// An HTTP/1.1 request and what to expect of its response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The request's method.
    pub method: Method,
    /// The request's target in origin form: starts with `/`.
    pub path: String,
    /// The Host header.
    pub host: String,
    /// The expected status codes.
    pub expect: StatusSet,
    /// Keep the connection open from one probe to the next.
    pub reuse: bool,
    /// What most checks leave at its default.
    pub extra: Option<Box<Extra>>,
}

/// Methods that a health check may use. Only GET, HEAD and OPTIONS are safe by
/// their definition; what the others do is the origin's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// HEAD; there is no body.
    Head,
    /// OPTIONS.
    Options,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Method {
    /// Every method; its place is its number in canonical bytes.
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::Head,
        Self::Options,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
    ];

    /// As it is written in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The keys of a request, in whichever version of HTTP.
pub(crate) const REQUEST_KEYS: &[&str] = &["method", "path", "host", "expect"];

/// The keys that HTTP/1 alone has.
pub(crate) const OWN_KEYS: &[&str] = &["connection", "version"];

/// Statuses that pass unless configured.
const EXPECT: &str = "200-399";

impl Spec {
    fn body_bytes(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.body.len())
    }

    /// GET `path`, expecting 200 to 299; the Host is the target's address.
    #[must_use]
    pub fn get(target: &SocketAddr, path: &str) -> Self {
        Self {
            method: Method::Get,
            path: path.to_owned(),
            host: host_of(target),
            expect: StatusSet::success(),
            reuse: false,
            extra: None,
        }
    }

    /// What it expects beyond a status, for people.
    pub(crate) fn extra_words(&self) -> String {
        let extra = self.extra.as_ref();
        extra.map(ToString::to_string).unwrap_or_default()
    }
}

impl CheckKind for Spec {
    const NAMES: [&'static str; 2] = ["http", "https"];
    const TAG: u8 = 1;
    const KEYS: &'static [&'static [&'static str]] = &[REQUEST_KEYS, OWN_KEYS, EXTRA_KEYS];
    const HAS_HEADS: bool = true;
    type Exchange = Answered;

    fn read(keys: &mut dyn Keys, target: &SocketAddr) -> Result<Self, KeyError> {
        let methods = Method::ALL.map(|method| (method.as_str(), method));
        let expect = keys::text(keys, "expect")?;
        Ok(Self {
            method: keys::word(keys, "method", &methods)?.unwrap_or_default(),
            path: keys::text(keys, "path")?.unwrap_or_else(|| "/".to_owned()),
            host: keys::text(keys, "host")?.unwrap_or_else(|| host_of(target)),
            expect: extra::statuses("expect", expect.as_deref().unwrap_or(EXPECT))?,
            reuse: keys::word(keys, "connection", &[("new", false), ("reuse", true)])?
                .unwrap_or(false),
            extra: Extra::read(keys)?,
        })
    }

    fn validate(&self) -> Result<(), KeyError> {
        validate_path(&self.path)?;
        validate_host(&self.host)?;
        self.extra.as_ref().map_or(Ok(()), |extra| extra.validate())
    }

    fn canonical(&self, tls: Option<&TlsSpec>, out: &mut Canonical) {
        out.byte(self.method as u8);
        out.text(&self.path);
        out.text(&self.host);
        out.number(self.expect.ranges().len() as u64);
        for &(low, high) in self.expect.ranges() {
            out.number(u64::from(low));
            out.number(u64::from(high));
        }
        out.byte(u8::from(self.reuse));
        out.tls(tls);
        // Written only where there is one: names are to stay.
        if let Some(extra) = &self.extra {
            out.byte(1);
            extra.canonical(out);
        }
    }

    fn transport(&self, _tls: bool) -> Transport {
        Transport::Stream {
            // A long body may still be leaving when the answer is whole: the next
            // probe's request would stand in the midst of it.
            keep: self.reuse && self.body_bytes() <= BODY_SENT_KEPT_BYTES,
            origin_first: false,
            fin: self.extra.as_ref().is_some_and(|extra| extra.close_fin),
        }
    }

    fn sent(&self, prepared: &[u8]) -> Option<String> {
        Some(shown(prepared))
    }

    fn prepare(&self, user_agent: &str, _tls: bool) -> Box<[u8]> {
        request::build(self, user_agent)
    }

    fn begin(&self) -> Answered {
        Answered::new(self)
    }

    fn describe(&self, tls: bool, target: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}://{target}{} (host {}, expects {}{}{})",
            self.method.as_str(),
            Self::NAMES[usize::from(tls)],
            self.path,
            self.host,
            self.expect,
            self.extra_words(),
            if self.reuse { ", keeps alive" } else { "" },
        )
    }

    fn server_name(&self) -> Option<&str> {
        Some(without_port(&self.host))
    }
}

/// A target as a Host header has it: with its port, and without the zone, which
/// means something on this host alone (RFC 6874).
pub(crate) fn host_of(target: &SocketAddr) -> String {
    match target {
        SocketAddr::V4(v4) => v4.to_string(),
        SocketAddr::V6(v6) => format!("[{}]:{}", v6.ip(), v6.port()),
    }
}

/// A Host header's host alone, an address without its brackets.
pub(crate) fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.rsplit_once(':') {
        // More than one colon: an address of IPv6 without brackets.
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

fn validate_path(path: &str) -> Result<(), KeyError> {
    let error = |what: String, hint: &str| Err(KeyError::new("path", what, hint));
    if path.len() > PATH_BYTES {
        return error(
            format!("the path is {} bytes long", path.len()),
            &format!("write at most {PATH_BYTES} bytes"),
        );
    }
    if !path.starts_with('/') {
        return error(
            format!("the path {path:?} does not start with \"/\""),
            "write it from the root on, like \"/health\"",
        );
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return error(
            format!("the path {path:?} holds a space, a control character or a byte outside ASCII"),
            "percent-encode it",
        );
    }
    Ok(())
}

pub(crate) fn validate_host(host: &str) -> Result<(), KeyError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let port_ok = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        _ => true,
    };
    if without_port(host).is_empty()
        || host.len() > HOST_BYTES
        || !host.bytes().all(allowed)
        || !port_ok
    {
        return Err(KeyError::new(
            "host",
            format!("the host {host:?} is no host name or address, with or without a port"),
            format!("write 1 to {HOST_BYTES} bytes like \"shop.example\" or \"shop.example:8443\""),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_into_a_request_through_a_path_or_a_host() {
        let long = format!("/{}", "a".repeat(PATH_BYTES));
        for path in [
            "/a b",
            "/a\r\nX: y",
            "/\n",
            "/\u{7f}",
            "/é",
            "/\0",
            "health",
            &long,
        ] {
            assert_eq!(validate_path(path).unwrap_err().key, "path", "{path:?}");
        }
        let long = "a".repeat(HOST_BYTES + 1);
        for host in [
            "",
            "a b",
            "a\r\nX: y",
            "a/b",
            "é",
            ":80",
            "a:",
            "a:0",
            "a:http",
            "a:70000",
            &long,
        ] {
            assert_eq!(validate_host(host).unwrap_err().key, "host", "{host:?}");
        }
        for host in ["a", "a:80", "192.0.2.7:80", "[::1]:8080", "[2001:db8::1]"] {
            assert_eq!(validate_host(host), Ok(()), "{host:?}");
        }
    }

    #[test]
    fn the_name_of_a_host_is_without_its_port() {
        for (host, name) in [
            ("shop.test", "shop.test"),
            ("shop.test:8443", "shop.test"),
            ("192.0.2.7:8443", "192.0.2.7"),
            ("[2001:db8::1]:8443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    /// Its last bytes may still leave when an answer to its first ones is whole.
    #[test]
    fn a_long_body_keeps_no_connection() {
        let target = "192.0.2.7:80".parse().unwrap();
        for (bytes, kept) in [
            (BODY_SENT_KEPT_BYTES, true),
            (BODY_SENT_KEPT_BYTES + 1, false),
        ] {
            let extra = Extra {
                body: "x".repeat(bytes),
                ..Extra::default()
            };
            let spec = Spec {
                reuse: true,
                extra: Some(Box::new(extra)),
                ..Spec::get(&target, "/")
            };
            let wanted = spec.transport(false);
            assert!(matches!(wanted, Transport::Stream { keep, .. } if keep == kept));
        }
    }

    #[test]
    fn a_zone_stays_at_home() {
        let target = "[fe80::1%3]:80".parse().unwrap();
        assert_eq!(host_of(&target), "[fe80::1]:80");
    }
}
