//! gRPC's own health check: `grpc.health.v1.Health/Check`, over HTTP/2, without TLS
//! (prior knowledge) or with it (ALPN `h2`). It passes where the service is SERVING.

mod exchange;
#[cfg(test)]
mod tests;

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

pub(crate) use exchange::Asked;

use super::h2;
use super::http::{
    host_of, read_close, read_headers, validate_headers, validate_host, without_port,
};
use super::{CheckKind, Transport};
use crate::check::Canonical;
use crate::http2::{self, Request};
use crate::keys::{self, KeyError, Keys};
use crate::limits::GRPC_SERVICE_BYTES;
use crate::stream::TlsSpec;
use crate::trace::shown;

/// Which service's health is asked for, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The service; of an empty one the whole server's health.
    pub service: String,
    /// The request's authority.
    pub host: String,
    /// Metadata that is sent, in this order.
    pub headers: Vec<(String, String)>,
    /// A first byte that comes later makes a serving one degraded.
    pub degraded_after: Option<Duration>,
    /// Close with FIN, for origins that mind a reset.
    pub close_fin: bool,
}

impl Spec {
    /// The whole server's health.
    #[must_use]
    pub fn of_server(target: &SocketAddr) -> Self {
        Self {
            service: String::new(),
            host: host_of(target),
            headers: Vec::new(),
            degraded_after: None,
            close_fin: false,
        }
    }

    /// The request: a message with its head, and in it the service, if one is named.
    fn message(&self) -> Vec<u8> {
        const SERVICE: u8 = 1 << 3 | 2;
        let mut message = Vec::new();
        if let (length @ 1.., text) = (self.service.len(), self.service.as_bytes()) {
            message.push(SERVICE);
            if length >= 0x80 {
                message.push(0x80 | (length & 0x7f) as u8);
                message.push((length >> 7) as u8);
            } else {
                message.push(length as u8);
            }
            message.extend_from_slice(text);
        }
        let mut framed = vec![0];
        framed.extend((message.len() as u32).to_be_bytes());
        framed.extend(message);
        framed
    }
}

impl CheckKind for Spec {
    const NAMES: [&'static str; 2] = ["grpc", "grpc-tls"];
    const TAG: u8 = 4;
    const KEYS: &'static [&'static [&'static str]] = &[&[
        "service",
        "host",
        "headers",
        "headers_file",
        "degraded_after",
        "close",
    ]];
    const ALPN: Option<&'static str> = Some(http2::ALPN);
    const HAS_HEADS: bool = true;
    type Exchange = Asked;

    fn read(keys: &mut dyn Keys, target: &SocketAddr) -> Result<Self, KeyError> {
        Ok(Self {
            service: keys::text(keys, "service")?.unwrap_or_default(),
            host: keys::text(keys, "host")?.unwrap_or_else(|| host_of(target)),
            headers: read_headers(keys)?,
            degraded_after: keys::duration(keys, "degraded_after")?,
            close_fin: read_close(keys)?,
        })
    }

    fn validate(&self) -> Result<(), KeyError> {
        validate_host(&self.host)?;
        if self.service.len() > GRPC_SERVICE_BYTES || self.service.contains(char::is_control) {
            return Err(KeyError::new(
                "service",
                format!("{:?} is no name of a service", self.service),
                format!(
                    "write one like \"shop.v1.Cart\", of at most {GRPC_SERVICE_BYTES} bytes, or \
                     leave it out for the whole server"
                ),
            ));
        }
        validate_headers(&self.headers)?;
        h2::validate_headers(&self.headers)?;
        let own = |name: &str| {
            name.eq_ignore_ascii_case("content-type")
                || name.len() > 4 && name.as_bytes()[..5].eq_ignore_ascii_case(b"grpc-")
        };
        match self.headers.iter().find(|(name, _)| own(name)) {
            None => Ok(()),
            Some((name, _)) => Err(KeyError::new(
                "headers",
                format!("{name} is gRPC's own"),
                "leave it out",
            )),
        }
    }

    fn canonical(&self, tls: Option<&TlsSpec>, out: &mut Canonical) {
        out.text(&self.service);
        out.text(&self.host);
        out.number(self.headers.len() as u64);
        for (name, value) in &self.headers {
            out.text(name);
            out.text(value);
        }
        out.optional_duration(self.degraded_after);
        out.byte(u8::from(self.close_fin));
        out.tls(tls);
    }

    fn transport(&self, _tls: bool) -> Transport {
        Transport::Stream {
            keep: false,
            origin_first: false,
            fin: self.close_fin,
        }
    }

    fn prepare(&self, user_agent: &str, tls: bool) -> Box<[u8]> {
        let request = Request {
            method: "POST",
            tls,
            path: "/grpc.health.v1.Health/Check",
            authority: &self.host,
            user_agent,
            plain: &[("te", "trailers"), ("content-type", "application/grpc")],
            own: &self.headers,
            body: &self.message(),
        };
        request.build()
    }

    fn begin(&self) -> Asked {
        Asked::new(self.message().len())
    }

    fn describe(&self, tls: bool, target: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES[usize::from(tls)];
        let service = match self.service.as_str() {
            "" => "the whole server",
            service => service,
        };
        write!(
            f,
            "health of {service} at {name}://{target} (host {})",
            self.host
        )
    }

    fn sent(&self, prepared: &[u8]) -> Option<String> {
        Some(shown(&http2::legible(prepared)))
    }

    fn legible(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(http2::legible(bytes))
    }

    fn server_name(&self) -> Option<&str> {
        Some(without_port(&self.host))
    }
}

const _: () = assert!(GRPC_SERVICE_BYTES < 1 << 14, "two bytes hold its length");
