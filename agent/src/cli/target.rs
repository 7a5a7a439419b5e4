//! What a person names on a command line, as something that can be probed.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use watchfire_probe_core::keys::{Keys, Value};
use watchfire_probe_core::kind::usual_port;
use watchfire_probe_core::{KIND_KEYS, Kind};

/// A target: `KIND://HOST:PORT/PATH`, or `HOST:PORT` for TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The kind's name, in TLS or not.
    pub(super) kind: &'static str,
    /// As written: what HTTP's Host header and TLS's server name say.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) path: String,
}

/// Keys of a check, as a command line gives them: each kind takes its own.
pub(super) struct Given(pub(super) Vec<(&'static str, Value)>);

impl Keys for Given {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// The kind of this name with these keys, and whether it is in TLS.
pub(super) fn read_kind(
    name: &str,
    keys: Vec<(&'static str, Value)>,
    target: &SocketAddr,
) -> Result<(Kind, bool), String> {
    let read = Kind::read(name, &mut Given(keys), target);
    let read = read.ok_or_else(|| format!("\"{name}\" is not a kind of probe"))?;
    read.map_err(|error| format!("{}\n  help: {}", error.what, error.hint))
}

impl Target {
    /// Reads a target.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let hint = "write it like 192.0.2.10:80, tcp://192.0.2.10:80 or http://192.0.2.10/health";
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("tcp://{text}")
        };
        let uri: http::Uri = full
            .parse()
            .map_err(|error| format!("\"{text}\" is no target: {error}\n  help: {hint}"))?;
        let named = uri.scheme_str().unwrap_or_default();
        let Some(&kind) = KIND_KEYS.iter().find(|kind| **kind == named) else {
            return Err(format!(
                "\"{named}\" is not a kind of probe; the kinds are {}\n  help: {hint}",
                KIND_KEYS.join(", ")
            ));
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let after_host = authority.rsplit(']').next().unwrap_or_default();
        let names_port = after_host.contains(':');
        if authority.contains('@') || names_port && uri.port_u16().is_none_or(|port| port == 0) {
            return Err(format!(
                "\"{authority}\" is not a host and port\n  help: {hint}"
            ));
        }
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(format!("\"{text}\" names no host\n  help: {hint}"));
        }
        Ok(Self {
            kind,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri
                .port_u16()
                .or_else(|| usual_port(kind))
                .ok_or_else(|| format!("\"{text}\" names no port\n  help: {hint}"))?,
            path: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }

    /// Its address; a name is resolved, which may take a while.
    pub(super) fn resolve(&self) -> Result<SocketAddr, String> {
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| {
                format!(
                    "cannot resolve \"{}\"\n  help: write its address, or look at /etc/resolv.conf",
                    self.host
                )
            })
    }

    /// Whether its host is an address, not a name.
    pub(super) fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Host and port as HTTP's Host header has them.
    pub(super) fn host_header(&self) -> String {
        let default = usual_port(self.kind).unwrap_or(80);
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let target = Target::parse("http://[::1]:8080/a?b=c").unwrap();
        assert_eq!((target.kind, target.port), ("http", 8080));
        assert_eq!(
            (target.host.as_str(), target.path.as_str()),
            ("::1", "/a?b=c")
        );
        assert_eq!(target.host_header(), "[::1]:8080");
        let target = Target::parse("127.0.0.1:22").unwrap();
        assert_eq!((target.kind, target.port), ("tcp", 22));
        assert_eq!(Target::parse("https://a.example").unwrap().port, 443);
        let target = Target::parse("grpc-tls://a.example/shop.v1.Cart").unwrap();
        assert_eq!((target.kind, target.port), ("grpc-tls", 443));
        assert_eq!(
            Target::parse("https://a.example").unwrap().host_header(),
            "a.example"
        );
    }

    #[test]
    fn refuses_with_a_way_out() {
        for bad in [
            "127.0.0.1",
            "ftp://a:1",
            "http://",
            "tcp://a",
            "http://a:99999/",
            "http://u:p@a/",
        ] {
            let error = Target::parse(bad).unwrap_err();
            assert!(error.contains("help: "), "{error}");
        }
    }
}
