//! What to probe and what to expect: the definition of a check, and its name.
//!
//! A check is named by its content ([`CheckSpec::id`]): the same check under
//! two origin names is one check, and a changed definition is another one.
//! This module reads no file and knows no configuration format.

mod canonical;
mod name;
mod validate;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use watchfire_wire::{CheckId, Verdict};

use crate::egress::Egress;
use crate::kind::{Kind, Transport, http, tcp};
use crate::stream::TlsSpec;
use crate::stream::proxy::ProxyHeader;
pub(crate) use canonical::Canonical;
pub use name::HostName;
pub use validate::SpecError;

/// From one scheduled probe to the next, unless configured.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest that a probe may take, unless configured.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);

/// One check: where, how, how often, and what makes it Up or Down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckSpec {
    /// Where to connect. Where there is a [`name`](Self::name), the address of it that
    /// is in use: no part of what the check is, and unspecified as long as there is
    /// none.
    pub target: SocketAddr,
    /// The name that the origin is known by, if that is not its address.
    pub name: Option<HostName>,
    /// What to do there.
    pub kind: Kind,
    /// Speak TLS on the connection.
    pub tls: Option<TlsSpec>,
    /// The PROXY header that stands before all else on the connection.
    pub proxy: Option<ProxyHeader>,
    /// The way out of this host; the kernel's choice if none.
    pub egress: Option<Box<Egress>>,
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
            name: None,
            kind: Kind::Tcp(tcp::Spec::default()),
            tls: None,
            proxy: None,
            egress: None,
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
            kind: Kind::Http(http::Spec::get(&target, path)),
            ..Self::tcp(target)
        }
    }

    /// The check's name: the hash of its [canonical bytes](Self::canonical).
    #[must_use]
    pub fn id(&self) -> CheckId {
        CheckId::of_canonical(&self.canonical())
    }
}

impl CheckSpec {
    /// One word for metrics and JSON, like `tcp`, `http` or `https`.
    #[must_use]
    pub fn kind_key(&self) -> &'static str {
        self.kind.key(self.tls.is_some())
    }

    /// The name, or else the address, and the port.
    #[must_use]
    pub fn authority(&self) -> String {
        match &self.name {
            Some(name) => format!("{name}:{}", self.target.port()),
            None => self.target.to_string(),
        }
    }

    /// The same check, its name at this address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        Self {
            target: SocketAddr::new(address, self.target.port()),
            ..self.clone()
        }
    }

    /// Whether there is an address to connect to.
    #[must_use]
    pub fn has_address(&self) -> bool {
        !self.target.ip().is_unspecified()
    }

    /// What it wants of the network.
    pub(crate) fn transport(&self) -> Transport {
        self.kind.transport(self.tls.is_some())
    }
}

impl fmt::Display for CheckSpec {
    /// For people: `GET http://127.0.0.1:80/health (host a.example) every 1s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.authority();
        self.kind.describe(self.tls.is_some(), &target, f)?;
        write!(f, " every {:?}", self.interval)?;
        if let Some(fast) = self.fast_interval {
            write!(f, ", {fast:?} when in doubt")?;
        }
        if let Some(down) = self.down_interval {
            write!(f, ", {down:?} when down")?;
        }
        write!(f, ", timeout {:?}, {}", self.timeout, self.rule)?;
        if let Some(proxy) = self.proxy {
            write!(f, ", PROXY {}", proxy.as_str())?;
        }
        if let Some(egress) = &self.egress {
            write!(f, ", {egress}")?;
        }
        Ok(())
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
    use crate::kind::http::Method;
    use crate::kind::{grpc, h2};
    use crate::limits::{INTERVAL_MAX, RISE_FALL_MAX, WINDOW_MAX};

    fn target() -> SocketAddr {
        "192.0.2.7:8080".parse().unwrap()
    }

    fn with_http(change: impl FnOnce(&mut http::Spec)) -> CheckSpec {
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
                options: None,
            })
        };
        let base = CheckSpec::http(target(), "/health");
        let fast = Some(Duration::from_millis(600));
        let by = |change: fn(&mut Egress)| {
            let mut egress = Box::<Egress>::default();
            change(&mut egress);
            CheckSpec {
                egress: Some(egress),
                ..base.clone()
            }
        };
        let variants = [
            CheckSpec::tcp(target()),
            base.clone(),
            with_http(|http| http.method = Method::Head),
            with_http(|http| http.path = "/healthz".into()),
            with_http(|http| http.host = "a.example".into()),
            with_http(|http| http.expect = "200".parse().unwrap()),
            with_http(|http| http.reuse = true),
            CheckSpec {
                tls: tls("a.example", true),
                ..base.clone()
            },
            CheckSpec {
                tls: tls("a.example", false),
                ..base.clone()
            },
            CheckSpec {
                tls: tls("a.example", false),
                ..CheckSpec::tcp(target())
            },
            CheckSpec {
                kind: Kind::Tcp(tcp::Spec { half_open: false }),
                ..CheckSpec::tcp(target())
            },
            // A byte moved from one text to the next one.
            with_http(|http| {
                http.path = "/health1".into();
                http.host = "92.0.2.7:8080".into();
            }),
            CheckSpec {
                proxy: Some(ProxyHeader::V1),
                ..base.clone()
            },
            CheckSpec {
                proxy: Some(ProxyHeader::V2),
                ..base.clone()
            },
            by(|egress| egress.source = Some(target().ip())),
            by(|egress| egress.interface = Some("192.0.2.7".to_owned())),
            by(|egress| egress.mark = Some(7)),
            by(|egress| egress.dscp = Some(7)),
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
            named("a.example", &base),
            named("b.example", &base),
        ];
        let ids: HashSet<CheckId> = variants.iter().map(CheckSpec::id).collect();
        assert_eq!(ids.len(), variants.len());
        assert_eq!(base.id(), CheckSpec::http(target(), "/health").id());
    }

    fn named(name: &str, like: &CheckSpec) -> CheckSpec {
        CheckSpec {
            name: Some(HostName::parse(name).unwrap()),
            ..like.clone()
        }
    }

    #[test]
    fn a_check_of_a_name_is_the_same_whatever_its_address() {
        let spec = named("a.example", &CheckSpec::tcp(target()));
        let nowhere = spec.at("0.0.0.0".parse().unwrap());
        assert!(spec.has_address() && !nowhere.has_address());
        assert_eq!(nowhere.validate(), Ok(()));
        for address in ["0.0.0.0", "192.0.2.8", "2001:db8::7"] {
            assert_eq!(spec.at(address.parse().unwrap()).id(), spec.id());
        }
        let text = spec.to_string();
        assert!(text.starts_with("tcp a.example:8080 every 1s"), "{text}");
        let other = CheckSpec {
            target: "192.0.2.7:8081".parse().unwrap(),
            ..spec.clone()
        };
        assert_ne!(other.id(), spec.id());
        assert_ne!(CheckSpec::tcp(target()).id(), spec.id());
        // A name's bytes begin with a number of their own, so that none of them can be
        // an address's.
        assert_eq!(spec.canonical()[1], 1);
        assert_eq!(spec.id().to_string(), "1f4720bed3eefb36b3cd67c1b7912fbb");
    }

    #[test]
    fn the_names_of_checks_are_pinned() {
        // A change here renames checks of every POP: it must be meant.
        let id = CheckSpec::tcp(target()).id().to_string();
        assert_eq!(id, "aa83a727cac2788ec82b6ac31c08ee8b");
        let once = |mut spec: CheckSpec| {
            (spec.interval, spec.timeout) =
                (Duration::from_millis(700), Duration::from_millis(700));
            spec.rule = HealthRule::RiseFall { rise: 1, fall: 1 };
            spec.id().to_string()
        };
        let local: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let http = |path: &str, change: fn(&mut http::Spec)| {
            let mut spec = http::Spec::get(&local, path);
            spec.expect = "200-399".parse().unwrap();
            change(&mut spec);
            CheckSpec {
                kind: Kind::Http(spec),
                ..CheckSpec::tcp(local)
            }
        };
        let tls = |server_name: &str, verify| {
            Some(TlsSpec {
                server_name: server_name.to_owned(),
                verify,
                options: None,
            })
        };
        assert_eq!(
            once(CheckSpec::tcp(local)),
            "0c9f66e940dad419a2aad4c4094ba4aa"
        );
        assert_eq!(
            once(CheckSpec::tcp("[::1]:9".parse().unwrap())),
            "439373847d0c360d08c573cafe2284a2"
        );
        assert_eq!(
            once(http("/health", |_| ())),
            "3426e9c3ebc148ecf8c4b2cc4598f476"
        );
        let head = http("/health", |http| {
            http.host = "a.example".to_owned();
            http.expect = "200,301-304".parse().unwrap();
            http.method = Method::Head;
        });
        assert_eq!(once(head), "2ded505234fb1056cbdc34179f1550db");
        let named = http("/health", |http| http.host = "a.example".to_owned());
        assert_eq!(
            once(CheckSpec {
                tls: tls("a.example", true),
                ..named
            }),
            "4141c211ea6735a84cdf7b01ed6fefe8"
        );
        assert_eq!(
            once(CheckSpec {
                tls: tls("127.0.0.1", false),
                ..http("/", |_| ())
            }),
            "1d37562d893a4392408a6e89135dca75"
        );
        let egress = Egress {
            source: Some("127.0.0.2".parse().unwrap()),
            interface: Some("vrf-blue".to_owned()),
            mark: Some(7),
            dscp: Some(8),
        };
        assert_eq!(
            once(CheckSpec {
                proxy: Some(ProxyHeader::V2),
                egress: Some(Box::new(egress)),
                ..http("/", |_| ())
            }),
            "8b0d4ec4f319e4f964fdd501e35a80f0"
        );
    }

    #[test]
    fn the_names_of_checks_over_http_2_are_pinned() {
        let of = |kind| CheckSpec {
            kind,
            ..CheckSpec::tcp(target())
        };
        let get = http::Spec::get(&target(), "/health");
        let named = of(Kind::H2(h2::Spec::new(get))).id().to_string();
        assert_eq!(named, "ce6f54d678077cb45155805c1e21b93f");
        let asks = grpc::Spec::of_server(&target());
        let named = of(Kind::Grpc(asks.clone())).id().to_string();
        assert_eq!(named, "4b5d790e5ec4fd82ef02ec7650f9cb91");
        let variants = [
            asks.clone(),
            grpc::Spec {
                service: "a".to_owned(),
                ..asks.clone()
            },
            grpc::Spec {
                host: "a".to_owned(),
                ..asks.clone()
            },
            grpc::Spec {
                headers: vec![("a".to_owned(), "b".to_owned())],
                ..asks.clone()
            },
            grpc::Spec {
                degraded_after: Some(Duration::from_millis(1)),
                ..asks.clone()
            },
            grpc::Spec {
                close_fin: true,
                ..asks
            },
        ];
        let ids: HashSet<_> = variants.map(|spec| of(Kind::Grpc(spec)).id()).into();
        assert_eq!(ids.len(), 6);
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
            "[::ffff:0.0.0.0]:80",
            "[::ffff:255.255.255.255]:80",
            "[::ffff:224.0.0.1]:80",
            "[fe80::1]:80",
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
