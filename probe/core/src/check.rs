//! What to probe and what to expect: the definition of a check, and its name.
//!
//! A check is named by its content ([`CheckSpec::id`]): the same check under
//! two origin names is one check, and a changed definition is another one.
//! This module reads no file and knows no configuration format.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use watchfire_wire::CheckId;
use watchfire_wire::Verdict;

use crate::limits::{
    HOST_BYTES, INTERVAL_MAX, INTERVAL_MIN, PATH_BYTES, RISE_FALL_MAX, TIMEOUT_MIN, WINDOW_MAX,
};
use crate::status::StatusSet;

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

/// Why a check is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Port 0.
    #[error("port 0 cannot be connected to; name the origin's port")]
    PortZero,
    /// An address that no origin can have.
    #[error("{0} is not the address of one host; name a unicast address")]
    NotUnicast(core::net::IpAddr),
    /// An interval out of its bounds.
    #[error("{name} of {value:?} is out of bounds; choose {INTERVAL_MIN:?} to {INTERVAL_MAX:?}")]
    Interval {
        /// Which of them.
        name: &'static str,
        /// What it was.
        value: Duration,
    },
    /// Times are counted in whole microseconds.
    #[error("{name} of {value:?} is not a whole number of microseconds; round it")]
    TooFine {
        /// Which of them.
        name: &'static str,
        /// What it was.
        value: Duration,
    },
    /// A timeout that nothing could meet.
    #[error("a timeout of {0:?} is too short; choose at least {TIMEOUT_MIN:?}")]
    TimeoutTooShort(Duration),
    /// A probe could still run when the next one is due.
    #[error(
        "the timeout of {timeout:?} is longer than {name} of {interval:?}; shorten the one or lengthen the other"
    )]
    TimeoutAboveInterval {
        /// The timeout.
        timeout: Duration,
        /// Which interval.
        name: &'static str,
        /// That interval.
        interval: Duration,
    },
    /// A path that is not one.
    #[error("the path {0:?} must start with \"/\"")]
    PathNotAbsolute(String),
    /// A byte that would end the request line or change the request.
    #[error(
        "the path {0:?} holds a space, a control character or a byte outside ASCII; percent-encode it"
    )]
    PathBytes(String),
    /// A longer path than the limit.
    #[error("the path is {0} bytes long; at most {PATH_BYTES} are allowed")]
    PathTooLong(usize),
    /// A host that is empty, too long, or holds a byte that no host has.
    #[error(
        "{name} {value:?} must be 1 to {HOST_BYTES} bytes of letters, digits and the signs of a host name or address"
    )]
    Host {
        /// Which of them.
        name: &'static str,
        /// What it was.
        value: String,
    },
    /// Rise or fall out of bounds.
    #[error("rise {rise} and fall {fall} must both be 1 to {RISE_FALL_MAX}")]
    RiseFall {
        /// As given.
        rise: u8,
        /// As given.
        fall: u8,
    },
    /// Window or threshold out of bounds.
    #[error(
        "window {window} must be 1 to {WINDOW_MAX} and threshold {threshold} must be 1 to the window"
    )]
    Window {
        /// As given.
        window: u8,
        /// As given.
        threshold: u8,
    },
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

    /// Whether the check can be run and means what it says.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks, with what to do about it.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.validate_target()?;
        self.validate_times()?;
        if let Kind::Http(http) = &self.kind {
            validate_path(&http.path)?;
            validate_host("the Host", &http.host)?;
            if let Some(tls) = &http.tls {
                validate_host("the TLS server name", &tls.server_name)?;
            }
        }
        match self.rule {
            HealthRule::RiseFall { rise, fall } => {
                let fits = 1..=RISE_FALL_MAX;
                if !fits.contains(&rise) || !fits.contains(&fall) {
                    return Err(SpecError::RiseFall { rise, fall });
                }
            }
            HealthRule::Window {
                window, threshold, ..
            } => {
                if !(1..=WINDOW_MAX).contains(&window) || !(1..=window).contains(&threshold) {
                    return Err(SpecError::Window { window, threshold });
                }
            }
        }
        Ok(())
    }

    /// The check's name: the hash of its [canonical bytes](Self::canonical).
    #[must_use]
    pub fn id(&self) -> CheckId {
        CheckId::of_canonical(&self.canonical())
    }

    /// The check as bytes: versioned, and no two different checks give the
    /// same ones. Every text carries its length, every choice a number.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Canonical(Vec::with_capacity(160));
        out.byte(CANONICAL_VERSION);
        match self.target {
            SocketAddr::V4(v4) => {
                out.byte(4);
                out.0.extend_from_slice(&v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
                out.byte(6);
                out.0.extend_from_slice(&v6.ip().octets());
                out.0.extend_from_slice(&v6.scope_id().to_be_bytes());
            }
        }
        out.number(u64::from(self.target.port()));
        out.duration(self.interval);
        out.duration(self.timeout);
        out.optional_duration(self.fast_interval);
        out.optional_duration(self.down_interval);
        match self.rule {
            HealthRule::RiseFall { rise, fall } => {
                out.0.extend_from_slice(&[0, rise, fall]);
            }
            HealthRule::Window {
                window,
                threshold,
                initial,
            } => {
                out.0
                    .extend_from_slice(&[1, window, threshold, initial.code()]);
            }
        }
        match &self.kind {
            Kind::Tcp => out.byte(0),
            Kind::Http(http) => {
                out.byte(1);
                out.http(http);
            }
        }
        out.0
    }

    fn validate_target(&self) -> Result<(), SpecError> {
        if self.target.port() == 0 {
            return Err(SpecError::PortZero);
        }
        let ip = self.target.ip();
        let broadcast = match ip {
            core::net::IpAddr::V4(v4) => v4.is_broadcast(),
            core::net::IpAddr::V6(_) => false,
        };
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(SpecError::NotUnicast(ip));
        }
        Ok(())
    }

    fn validate_times(&self) -> Result<(), SpecError> {
        let intervals = [
            ("the interval", Some(self.interval)),
            ("the fast interval", self.fast_interval),
            ("the down interval", self.down_interval),
        ];
        whole_micros("the timeout", self.timeout)?;
        if self.timeout < TIMEOUT_MIN {
            return Err(SpecError::TimeoutTooShort(self.timeout));
        }
        for (name, interval) in intervals {
            let Some(interval) = interval else { continue };
            if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
                return Err(SpecError::Interval {
                    name,
                    value: interval,
                });
            }
            whole_micros(name, interval)?;
            if self.timeout > interval {
                return Err(SpecError::TimeoutAboveInterval {
                    timeout: self.timeout,
                    name,
                    interval,
                });
            }
        }
        Ok(())
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

/// First byte of the canonical bytes. Another one makes every check a new one.
const CANONICAL_VERSION: u8 = 1;

/// Writes canonical bytes: every field says its own length.
struct Canonical(Vec<u8>);

impl Canonical {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn duration(&mut self, duration: Duration) {
        self.number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    fn optional_duration(&mut self, duration: Option<Duration>) {
        match duration {
            None => self.byte(0),
            Some(duration) => {
                self.byte(1);
                self.duration(duration);
            }
        }
    }

    fn http(&mut self, http: &HttpSpec) {
        self.byte(match http.method {
            Method::Get => 0,
            Method::Head => 1,
        });
        self.text(&http.path);
        self.text(&http.host);
        self.number(http.expect.ranges().len() as u64);
        for &(low, high) in http.expect.ranges() {
            self.number(u64::from(low));
            self.number(u64::from(high));
        }
        self.byte(u8::from(http.reuse));
        match &http.tls {
            None => self.byte(0),
            Some(tls) => {
                self.byte(1);
                self.text(&tls.server_name);
                self.byte(u8::from(tls.verify));
            }
        }
    }
}

fn whole_micros(name: &'static str, value: Duration) -> Result<(), SpecError> {
    if value.subsec_nanos().is_multiple_of(1_000) {
        Ok(())
    } else {
        Err(SpecError::TooFine { name, value })
    }
}

fn validate_path(path: &str) -> Result<(), SpecError> {
    if path.len() > PATH_BYTES {
        return Err(SpecError::PathTooLong(path.len()));
    }
    if !path.starts_with('/') {
        return Err(SpecError::PathNotAbsolute(path.to_owned()));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SpecError::PathBytes(path.to_owned()));
    }
    Ok(())
}

fn validate_host(name: &'static str, value: &str) -> Result<(), SpecError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]%".contains(&byte);
    if value.is_empty() || value.len() > HOST_BYTES || !value.bytes().all(allowed) {
        return Err(SpecError::Host {
            name,
            value: value.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

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
