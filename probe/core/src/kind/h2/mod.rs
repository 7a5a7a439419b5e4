//! One HTTP/2 request, and what is expected of its response: everything that `http`
//! expects, over frames. Without TLS it speaks HTTP/2 at once (prior knowledge); in TLS
//! it offers `h2` by ALPN, and takes no other answer.

mod exchange;

use core::fmt;
use core::net::SocketAddr;

pub(crate) use exchange::Answered;

use super::http::{self, EXTRA_KEYS, OWN_KEYS, REQUEST_KEYS};
use super::{CheckKind, Transport};
use crate::check::Canonical;
use crate::http2::{self, Request};
use crate::keys::{KeyError, Keys, Value};
use crate::stream::TlsSpec;
use crate::trace::shown;

/// An HTTP/2 request and what to expect of its response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// What `http` would ask and expect; its connection is never kept.
    http: http::Spec,
}

/// The keys of `http`, without those that HTTP/1 alone has.
struct Shared<'a>(&'a mut dyn Keys);

impl Keys for Shared<'_> {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        (!OWN_KEYS.contains(&key)).then(|| self.0.take(key))?
    }
}

impl CheckKind for Spec {
    const NAMES: [&'static str; 2] = ["h2", "h2-tls"];
    const TAG: u8 = 3;
    const KEYS: &'static [&'static [&'static str]] = &[REQUEST_KEYS, EXTRA_KEYS];
    const ALPN: Option<&'static str> = Some(http2::ALPN);
    const HAS_HEADS: bool = true;
    type Exchange = Answered;

    fn read(keys: &mut dyn Keys, target: &SocketAddr) -> Result<Self, KeyError> {
        let http = http::Spec::read(&mut Shared(keys), target)?;
        Ok(Self { http })
    }

    fn validate(&self) -> Result<(), KeyError> {
        self.http.validate()?;
        validate_headers(self.headers())
    }

    fn canonical(&self, tls: Option<&TlsSpec>, out: &mut Canonical) {
        self.http.canonical(tls, out);
    }

    fn transport(&self, tls: bool) -> Transport {
        self.http.transport(tls)
    }

    fn prepare(&self, user_agent: &str, tls: bool) -> Box<[u8]> {
        let http = &self.http;
        let body = http.extra.as_ref().map_or("", |extra| &extra.body);
        let request = Request {
            method: http.method.as_str(),
            tls,
            path: &http.path,
            authority: &http.host,
            user_agent,
            plain: &[("accept", "*/*")],
            own: self.headers(),
            body: body.as_bytes(),
        };
        request.build()
    }

    fn begin(&self) -> Answered {
        Answered::new(&self.http)
    }

    fn describe(&self, tls: bool, target: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let http = &self.http;
        write!(
            f,
            "{} {}://{target}{} (host {}, expects {}{})",
            http.method.as_str(),
            Self::NAMES[usize::from(tls)],
            http.path,
            http.host,
            http.expect,
            http.extra_words(),
        )
    }

    fn sent(&self, prepared: &[u8]) -> Option<String> {
        Some(shown(&http2::legible(prepared)))
    }

    fn legible(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(http2::legible(bytes))
    }

    fn server_name(&self) -> Option<&str> {
        self.http.server_name()
    }
}

impl Spec {
    /// HTTP/2 for what an `http` check asks and expects.
    #[must_use]
    pub fn new(http: http::Spec) -> Self {
        Self {
            http: http::Spec {
                reuse: false,
                ..http
            },
        }
    }

    fn headers(&self) -> &[(String, String)] {
        let extra = self.http.extra.as_ref();
        extra.map_or(&[], |extra| &extra.headers)
    }
}

/// Whether these headers may be sent over HTTP/2.
pub(super) fn validate_headers(headers: &[(String, String)]) -> Result<(), KeyError> {
    let of_http1 = |name: &str| {
        let known = |known: &&str| name.eq_ignore_ascii_case(known);
        http2::FORBIDDEN.iter().any(known) || known(&"te")
    };
    match headers.iter().find(|(name, _)| of_http1(name)) {
        None => Ok(()),
        Some((name, _)) => Err(KeyError::new(
            "headers",
            format!("{name} is of connections of HTTP/1.1, and no header of HTTP/2"),
            "leave it out",
        )),
    }
}
