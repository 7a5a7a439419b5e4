//! What to probe and what to expect: the definition of a check, and its name.
//!
//! A check is named by its content ([`CheckSpec::id`]): the same check under
//! two origin names is one check, and a changed definition is another one.
//! This module reads no file and knows no configuration format.

mod canonical;
mod validate;

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use watchfire_wire::{CheckId, Verdict};

use crate::status::StatusSet;
pub use validate::SpecError;

/// From one scheduled probe to the next, unless configured.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest that a probe may take, unless configured.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);

/// One check: where, how, how often, and what makes it Up or Down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckSpec {
    /// Where to connect.
    pub target: SocketAddr,
    /// What to do there.
    pub kind: Kind,
    /// From one scheduled probe to the next.
    pub interval: Duration,
    /// A probe that takes longer has failed. Never above any interval.
    pub timeout: Duration,
    /// The interval while outcomes contradict the verdict, or while the
    /// verdict is Unknown; `interval` if there is none.
    pub fast_interval: Option<Duration>,
    /// The interval while the verdict is Down; `interval` if there is none.
    pub down_interval: Option<Duration>,
    /// How outcomes become a verdict.
    pub rule: HealthRule,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Connects and resets: SYN, SYN-ACK, RST. The origin's application does
    /// not see it.
    Tcp,
    /// One HTTP/1.1 request, in TLS or not.
    Http(HttpSpec),
}

/// An HTTP/1.1 request and what to expect of its response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpSpec {
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
    /// Speak TLS.
    pub tls: Option<TlsSpec>,
}

/// Methods that a health check may use: both are safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET; the body is read to its end.
    #[default]
    Get,
    /// HEAD; there is no body.
    Head,
}

impl Method {
    /// As it is written in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }
}

/// How to speak TLS with an origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsSpec {
    /// Sent as SNI and verified against the certificate.
    pub server_name: String,
    /// Whether the certificate must be valid for the name.
    pub verify: bool,
}

/// How outcomes become a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HealthRule {
    /// So many in a row.
    RiseFall {
        /// Passes in a row that make it Up.
        rise: u8,
        /// Fails in a row that make it Down.
        fall: u8,
    },
    /// So many of the last so many, as CDN users write it.
    Window {
        /// Outcomes that are remembered.
        window: u8,
        /// Passes among them that make it Up; fewer make it Down.
        threshold: u8,
        /// The verdict until the window is decided either way.
        initial: Verdict,
    },
}

impl Default for HealthRule {
    fn default() -> Self {
        Self::RiseFall { rise: 2, fall: 3 }
    }
}

impl CheckSpec {
    /// A TCP check of `target` with all defaults.
    #[must_use]
    pub fn tcp(target: SocketAddr) -> Self {
        Self {
            target,
            kind: Kind::Tcp,
            interval: DEFAULT_INTERVAL,
            timeout: DEFAULT_TIMEOUT,
            fast_interval: None,
            down_interval: None,
            rule: HealthRule::default(),
        }
    }

    /// A check that sends GET `path` to `target` and expects 200 to 299, with
    /// all other defaults. The Host is the target's address.
    #[must_use]
    pub fn http(target: SocketAddr, path: &str) -> Self {
        Self {
            kind: Kind::Http(HttpSpec {
                method: Method::Get,
                path: path.to_owned(),
                host: target.to_string(),
                expect: StatusSet::success(),
                reuse: false,
                tls: None,
            }),
            ..Self::tcp(target)
        }
    }

    /// The check's name: the hash of its [canonical bytes](Self::canonical).
    #[must_use]
    pub fn id(&self) -> CheckId {
        CheckId::of_canonical(&self.canonical())
    }
}

impl Kind {
    /// One word for metrics and JSON: `tcp`, `http` or `https`.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(HttpSpec { tls: None, .. }) => "http",
            Self::Http(HttpSpec { tls: Some(_), .. }) => "https",
        }
    }
}

impl fmt::Display for CheckSpec {
    /// For people: `GET http://127.0.0.1:80/health (host a.example) every 1s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Tcp => write!(f, "tcp {}", self.target)?,
            Kind::Http(http) => write!(
                f,
                "{} {}://{}{} (host {}, expects {}{})",
                http.method.as_str(),
                self.kind.key(),
                self.target,
                http.path,
                http.host,
                http.expect,
                if http.reuse { ", keeps alive" } else { "" },
            )?,
        }
        write!(f, " every {:?}", self.interval)?;
        if let Some(fast) = self.fast_interval {
            write!(f, ", {fast:?} when in doubt")?;
        }
        if let Some(down) = self.down_interval {
            write!(f, ", {down:?} when down")?;
        }
        write!(f, ", timeout {:?}, {}", self.timeout, self.rule)
    }
}

impl fmt::Display for HealthRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RiseFall { rise, fall } => write!(f, "rise {rise} fall {fall}"),
            Self::Window {
                window,
                threshold,
                initial,
            } => write!(f, "{threshold} of {window}, {initial} at first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::limits::{HOST_BYTES, INTERVAL_MAX, PATH_BYTES, RISE_FALL_MAX, WINDOW_MAX};

    fn target() -> SocketAddr {
        "192.0.2.7:8080".parse().unwrap()
    }

    fn with_http(change: impl FnOnce(&mut HttpSpec)) -> CheckSpec {
        let mut spec = CheckSpec::http(target(), "/health");
        if let Kind::Http(http) = &mut spec.kind {
            change(http);
        }
        spec
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(CheckSpec::tcp(target()).validate(), Ok(()));
        assert_eq!(CheckSpec::http(target(), "/").validate(), Ok(()));
        assert_eq!(
            CheckSpec::http("[2001:db8::1]:80".parse().unwrap(), "/").validate(),
            Ok(())
        );
    }

    #[test]
    fn the_name_follows_the_content_and_only_the_content() {
        let tls = |server_name: &str, verify| {
            Some(TlsSpec {
                server_name: server_name.to_owned(),
                verify,
            })
        };
        let base = CheckSpec::http(target(), "/health");
        let fast = Some(Duration::from_millis(600));
        let variants = [
            CheckSpec::tcp(target()),
            base.clone(),
            with_http(|http| http.method = Method::Head),
            with_http(|http| http.path = "/healthz".into()),
            with_http(|http| http.host = "a.example".into()),
            with_http(|http| http.expect = "200".parse().unwrap()),
            with_http(|http| http.reuse = true),
            with_http(|http| http.tls = tls("a.example", true)),
            with_http(|http| http.tls = tls("a.example", false)),
            // A byte moved from one text to the next one.
            with_http(|http| {
                http.path = "/health1".into();
                http.host = "92.0.2.7:8080".into();
            }),
            CheckSpec {
                fast_interval: fast,
                ..base.clone()
            },
            CheckSpec {
                down_interval: fast,
                ..base.clone()
            },
            CheckSpec {
                interval: Duration::from_secs(2),
                ..base.clone()
            },
            CheckSpec {
                timeout: Duration::from_millis(400),
                ..base.clone()
            },
            CheckSpec {
                rule: HealthRule::RiseFall { rise: 3, fall: 3 },
                ..base.clone()
            },
            CheckSpec {
                rule: HealthRule::Window {
                    window: 5,
                    threshold: 3,
                    initial: Verdict::Up,
                },
                ..base.clone()
            },
            CheckSpec {
                target: "192.0.2.7:8081".parse().unwrap(),
                ..base.clone()
            },
            CheckSpec {
                target: "[2001:db8::1]:8080".parse().unwrap(),
                ..base.clone()
            },
        ];
        let ids: HashSet<CheckId> = variants.iter().map(CheckSpec::id).collect();
        assert_eq!(ids.len(), variants.len());
        assert_eq!(base.id(), CheckSpec::http(target(), "/health").id());
    }

    #[test]
    fn the_canonical_bytes_are_pinned() {
        // A change here renames every check of every POP: it must be meant.
        let id = CheckSpec::tcp(target()).id().to_string();
        assert_eq!(id, "aa83a727cac2788ec82b6ac31c08ee8b");
    }

    #[test]
    fn nothing_gets_into_a_request_through_a_path_or_a_host() {
        for path in ["/a b", "/a\r\nX: y", "/\n", "/\u{7f}", "/é", "/\0"] {
            let spec = with_http(|http| http.path = path.into());
            assert_eq!(spec.validate(), Err(SpecError::PathBytes(path.into())));
        }
        for host in [
            "",
            "a b",
            "a\r\nX: y",
            "a/b",
            "é",
            &"a".repeat(HOST_BYTES + 1),
        ] {
            let spec = with_http(|http| http.host = host.into());
            assert!(
                matches!(spec.validate(), Err(SpecError::Host { .. })),
                "{host:?}"
            );
        }
        let spec = with_http(|http| http.path = "health".into());
        assert!(matches!(
            spec.validate(),
            Err(SpecError::PathNotAbsolute(_))
        ));
        let spec = with_http(|http| http.path = format!("/{}", "a".repeat(PATH_BYTES)));
        assert_eq!(spec.validate(), Err(SpecError::PathTooLong(PATH_BYTES + 1)));
    }

    #[test]
    fn times_out_of_bounds_are_refused() {
        let base = CheckSpec::tcp(target());
        let refused = |spec: CheckSpec| spec.validate().unwrap_err().to_string();
        assert!(
            refused(CheckSpec {
                interval: Duration::ZERO,
                ..base.clone()
            })
            .contains("interval")
        );
        assert!(
            refused(CheckSpec {
                timeout: Duration::from_secs(2),
                ..base.clone()
            })
            .contains("longer than the interval")
        );
        assert!(
            refused(CheckSpec {
                fast_interval: Some(Duration::from_millis(100)),
                ..base.clone()
            })
            .contains("longer than the fast interval")
        );
        assert!(
            refused(CheckSpec {
                timeout: Duration::ZERO,
                ..base.clone()
            })
            .contains("too short")
        );
        assert!(
            refused(CheckSpec {
                timeout: Duration::from_nanos(1_000_001),
                ..base.clone()
            })
            .contains("whole number")
        );
        assert!(
            refused(CheckSpec {
                down_interval: Some(INTERVAL_MAX * 2),
                ..base
            })
            .contains("the down interval")
        );
    }

    #[test]
    fn targets_and_rules_that_mean_nothing_are_refused() {
        let base = CheckSpec::tcp(target());
        for text in [
            "192.0.2.7:0",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::]:80",
        ] {
            let spec = CheckSpec {
                target: text.parse().unwrap(),
                ..base.clone()
            };
            assert!(spec.validate().is_err(), "{text}");
        }
        for rule in [
            HealthRule::RiseFall { rise: 0, fall: 1 },
            HealthRule::RiseFall {
                rise: 1,
                fall: RISE_FALL_MAX + 1,
            },
            HealthRule::Window {
                window: 0,
                threshold: 0,
                initial: Verdict::Up,
            },
            HealthRule::Window {
                window: 5,
                threshold: 6,
                initial: Verdict::Up,
            },
            HealthRule::Window {
                window: WINDOW_MAX + 1,
                threshold: 1,
                initial: Verdict::Up,
            },
        ] {
            assert!(
                CheckSpec {
                    rule,
                    ..base.clone()
                }
                .validate()
                .is_err(),
                "{rule}"
            );
        }
    }

    #[test]
    fn people_can_read_it() {
        assert_eq!(
            CheckSpec::http(target(), "/health").to_string(),
            "GET http://192.0.2.7:8080/health (host 192.0.2.7:8080, expects 200-299) \
             every 1s, timeout 500ms, rise 2 fall 3"
        );
    }
}
