//! Whether this host could probe a check at all, found out before anybody is
//! told to: what it lacks is a property of the check here, said once, and no
//! probe's outcome.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::OnceLock;

use socket2::{Domain, Protocol, Socket, Type};
use watchfire_probe_core::{CheckSpec, Egress};
use watchfire_wire::Unmeasured;

use crate::driver::socket::is_v6;
use crate::options::Options;
use crate::tls_roots;

/// What this host has. It answers as of when it was made.
#[derive(Debug)]
pub struct Ability {
    options: Options,
    trusts: OnceLock<bool>,
    ways: RefCell<HashMap<Way, Option<Lack>>>,
}

/// A way out, by IPv6 or not.
type Way = (Option<Box<Egress>>, bool);

/// What this host lacks for a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What a probe would come to.
    pub reason: Unmeasured,
    /// In words, with the way out.
    pub because: String,
}

impl Ability {
    /// Of a prober with these options.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            trusts: OnceLock::new(),
            ways: RefCell::default(),
        }
    }

    /// What it lacks for this check; nothing if it can be tried.
    #[must_use]
    pub fn lack(&self, spec: &CheckSpec) -> Option<Lack> {
        if spec.tls.as_ref().is_some_and(|tls| tls.verify) && !self.trusts() {
            return Some(Lack {
                reason: Unmeasured::Unsupported,
                because: "no certificate is trusted here; install the system's \
                          (ca-certificates), name a file by [probe] tls_roots, or write \
                          verify = false"
                    .to_owned(),
            });
        }
        let v6 = is_v6(&spec.target);
        let key = (spec.egress.clone(), v6);
        if let Some(known) = self.ways.borrow().get(&key) {
            return known.clone();
        }
        let lack = self.try_way(spec.egress.as_deref(), v6);
        self.ways.borrow_mut().insert(key, lack.clone());
        lack
    }

    /// Whether anything could be verified at all.
    fn trusts(&self) -> bool {
        *self.trusts.get_or_init(|| {
            // A file that cannot be read keeps the prober from starting.
            tls_roots::roots(&self.options).map_or(true, |roots| !roots.is_empty())
        })
    }

    fn try_way(&self, egress: Option<&Egress>, v6: bool) -> Option<Lack> {
        let family = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = match Socket::new(family, Type::STREAM.cloexec(), Some(Protocol::TCP)) {
            Ok(socket) => socket,
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                return Some(Lack {
                    reason: Unmeasured::Unsupported,
                    because: format!(
                        "this host speaks no {}; switch it on",
                        if v6 { "IPv6" } else { "IPv4" }
                    ),
                });
            }
            // Out of files, most likely: that is no property of the check.
            Err(_) => return None,
        };
        let egress = egress?;
        let lack = |because: String| {
            Some(Lack {
                reason: Unmeasured::NoWay,
                because,
            })
        };
        if let Some(name) = &egress.interface
            && let Err(error) = socket.bind_device(Some(name.as_bytes()))
        {
            return lack(match error.raw_os_error() {
                Some(libc::ENODEV) => format!(
                    "interface \"{name}\" does not exist here; make it, or probe from servers that have it"
                ),
                _ => format!(
                    "interface \"{name}\" cannot be used ({error}); the agent may need CAP_NET_RAW"
                ),
            });
        }
        if let Some(mark) = egress.mark
            && let Err(error) = socket.set_mark(mark)
        {
            return lack(format!(
                "mark {mark} cannot be set ({error}); give the agent CAP_NET_ADMIN"
            ));
        }
        if let Some(source) = egress.source
            && let Err(error) = bind(&socket, source)
            && matches!(
                error.raw_os_error(),
                Some(
                    libc::EADDRNOTAVAIL | libc::ENODEV | libc::EACCES | libc::EPERM | libc::EINVAL
                )
            )
        {
            return lack(format!(
                "source_address {source} is none of this host's ({error}); add it, or probe \
                 from servers that have it"
            ));
        }
        None
    }
}

fn bind(socket: &Socket, source: IpAddr) -> std::io::Result<()> {
    socket.bind(&std::net::SocketAddr::new(source, 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_here_is_named_with_the_way_out() {
        let ability = Ability::new(&Options::default());
        let by = |egress: Egress| CheckSpec {
            egress: Some(Box::new(egress)),
            ..CheckSpec::tcp(([127, 0, 0, 1], 80).into())
        };
        let from = |source: [u8; 4]| {
            by(Egress {
                source: Some(source.into()),
                ..Egress::default()
            })
        };
        assert_eq!(ability.lack(&from([127, 0, 0, 7])), None);
        let lack = ability.lack(&from([192, 0, 2, 77])).expect("not ours");
        assert_eq!(lack.reason, Unmeasured::NoWay);
        assert!(lack.because.contains("192.0.2.77"), "{}", lack.because);
        let nowhere = by(Egress {
            interface: Some("nowhere0".to_owned()),
            ..Egress::default()
        });
        let because = ability.lack(&nowhere).expect("no such interface").because;
        assert!(because.contains("\"nowhere0\""), "{because}");
        assert_eq!(
            ability.lack(&CheckSpec::tcp(([127, 0, 0, 1], 80).into())),
            None
        );
    }
}
