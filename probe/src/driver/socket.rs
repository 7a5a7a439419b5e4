//! What every probe's socket is given before it connects, worked out once.

use core::ffi::c_int;
use core::net::{IpAddr, SocketAddr};

use watchfire_probe_core::Egress;
use watchfire_probe_core::engine::Target;
use watchfire_probe_core::limits::INTERFACE_BYTES;

use crate::options::Options;

/// One socket option with its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOption {
    pub(crate) level: c_int,
    pub(crate) name: c_int,
    value: [u32; 4],
    length: u32,
}

impl SocketOption {
    const fn word(level: c_int, name: c_int, value: u32) -> Self {
        Self {
            level,
            name,
            value: [value, 0, 0, 0],
            length: 4,
        }
    }

    /// Leave by this interface, whose name is short enough: it was validated.
    fn by_interface(name: &str) -> Self {
        let mut bytes = [0; 16];
        let length = name.len().min(INTERFACE_BYTES);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        let mut value = [0; 4];
        for (word, four) in value.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
        }
        Self {
            level: libc::SOL_SOCKET,
            name: libc::SO_BINDTODEVICE,
            value,
            length: 16,
        }
    }

    /// Close with a reset.
    pub(crate) const fn reset_on_close() -> Self {
        // A `struct linger`: on, for no time.
        Self {
            level: libc::SOL_SOCKET,
            name: libc::SO_LINGER,
            value: [1, 0, 0, 0],
            length: 8,
        }
    }

    /// Whether a socket still has it after a disconnect, which renews the
    /// state of TCP and of nothing else.
    pub(crate) const fn survives_disconnect(&self) -> bool {
        self.level != libc::IPPROTO_TCP
    }

    /// Whether it has a say in which route is taken.
    pub(crate) const fn steers_route(&self) -> bool {
        matches!(
            (self.level, self.name),
            (
                libc::SOL_SOCKET,
                libc::SO_MARK | libc::SO_BINDTODEVICE | libc::SO_BINDTOIFINDEX
            ) | (libc::IPPROTO_IP, libc::IP_TOS)
                | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        )
    }

    /// The value's bytes.
    pub(crate) fn value(&self) -> (*const libc::c_void, u32) {
        (self.value.as_ptr().cast(), self.length)
    }
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Manner {
    /// It is reset as soon as it stands.
    HalfOpen,
    /// We speak first.
    #[default]
    Full,
    /// The origin speaks first.
    OriginFirst,
}

impl Manner {
    pub(crate) const fn of(target: &Target) -> Self {
        match (target.half_open, target.origin_first) {
            (true, _) => Self::HalfOpen,
            (false, false) => Self::Full,
            (false, true) => Self::OriginFirst,
        }
    }

    pub(crate) const fn is_half_open(self) -> bool {
        matches!(self, Self::HalfOpen)
    }
}

/// The options of sockets of one family and kind, in order, and the addresses
/// that they are bound to by turns.
#[derive(Debug, Default)]
pub(crate) struct SocketPlan {
    pub(crate) options: Vec<SocketOption>,
    pub(crate) sources: Vec<Sockaddr>,
}

/// The plans of a prober, by manner and family.
#[derive(Debug)]
pub(crate) struct SocketPlans {
    options: Options,
    half_open: [SocketPlan; 2],
    full: [SocketPlan; 2],
    origin_first: [SocketPlan; 2],
}

impl SocketPlans {
    pub(crate) fn new(options: &Options) -> Self {
        let plan = |manner: Manner, v6: bool| plan_of(options, None, manner, v6);
        Self {
            options: options.clone(),
            half_open: [plan(Manner::HalfOpen, false), plan(Manner::HalfOpen, true)],
            full: [plan(Manner::Full, false), plan(Manner::Full, true)],
            origin_first: [
                plan(Manner::OriginFirst, false),
                plan(Manner::OriginFirst, true),
            ],
        }
    }

    pub(crate) fn of(&self, manner: Manner, v6: bool) -> &SocketPlan {
        let plans = match manner {
            Manner::HalfOpen => &self.half_open,
            Manner::Full => &self.full,
            Manner::OriginFirst => &self.origin_first,
        };
        &plans[usize::from(v6)]
    }

    /// A plan for checks that say something of their way themselves.
    pub(crate) fn make(&self, egress: &Egress, manner: Manner, v6: bool) -> SocketPlan {
        let mut options = self.options.clone();
        if let Some(source) = egress.source {
            options.source_addrs = vec![source];
        }
        options.mark = egress.mark.or(options.mark);
        options.dscp = egress.dscp.or(options.dscp);
        plan_of(&options, egress.interface.as_deref(), manner, v6)
    }
}

fn plan_of(options: &Options, interface: Option<&str>, manner: Manner, v6: bool) -> SocketPlan {
    SocketPlan {
        options: options_of(options, interface, manner, v6),
        sources: options
            .source_addrs
            .iter()
            .filter(|addr| addr.is_ipv6() == v6)
            .map(|&addr| Sockaddr::new(SocketAddr::new(addr, 0)))
            .collect(),
    }
}

/// `IP_LOCAL_PORT_RANGE`, which the C library's headers do not name yet.
const IP_LOCAL_PORT_RANGE: c_int = 51;

/// SYNs that the kernel sends at most, where backstops are wanted.
const BACKSTOP_SYNS: u32 = 3;

/// For how long the kernel keeps trying, where backstops are wanted.
const BACKSTOP_MS: u32 = 30_000;

fn options_of(
    options: &Options,
    interface: Option<&str>,
    manner: Manner,
    v6: bool,
) -> Vec<SocketOption> {
    let mut list = Vec::new();
    if manner != Manner::OriginFirst {
        // Without quick acknowledgement the handshake's last segment waits:
        // half open, the reset comes before it, and otherwise the request
        // carries it. An origin that is to speak first must not wait for it.
        list.push(SocketOption::word(libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0));
    }
    if manner.is_half_open() {
        list.push(SocketOption::reset_on_close());
    }
    if let Some(name) = interface {
        list.push(SocketOption::by_interface(name));
    }
    if let Some(mark) = options.mark {
        list.push(SocketOption::word(libc::SOL_SOCKET, libc::SO_MARK, mark));
    }
    if let Some(dscp) = options.dscp {
        let tos = u32::from(dscp) << 2;
        list.push(if v6 {
            SocketOption::word(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos)
        } else {
            SocketOption::word(libc::IPPROTO_IP, libc::IP_TOS, tos)
        });
    }
    if let Some((low, high)) = options.port_range {
        let range = u32::from(low) | u32::from(high) << 16;
        list.push(SocketOption::word(
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            range,
        ));
    }
    if options.source_addrs.iter().any(|addr| addr.is_ipv6() == v6) {
        // The port is chosen at the connect, when the whole pair is known.
        list.push(SocketOption::word(
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            1,
        ));
    }
    if options.backstops {
        list.push(SocketOption::word(
            libc::IPPROTO_TCP,
            libc::TCP_SYNCNT,
            BACKSTOP_SYNS,
        ));
        list.push(SocketOption::word(
            libc::IPPROTO_TCP,
            libc::TCP_USER_TIMEOUT,
            BACKSTOP_MS,
        ));
    }
    list
}

/// A socket address as the kernel reads it.
#[derive(Clone, Copy)]
pub(crate) union Sockaddr {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Sockaddr {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(v4) => Self {
                v4: libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(v6) => Self {
                v6: libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: v6.ip().octets(),
                    },
                    sin6_scope_id: v6.scope_id(),
                },
            },
        }
    }

    /// What a socket is connected to in order to disconnect it.
    pub(crate) fn nowhere() -> Self {
        let mut nowhere = Self::new(([0, 0, 0, 0], 0).into());
        nowhere.v4.sin_family = libc::AF_UNSPEC as libc::sa_family_t;
        nowhere
    }

    /// The address and its length, for a family that the caller knows.
    pub(crate) fn raw(&self, v6: bool) -> (*const libc::sockaddr, libc::socklen_t) {
        let length = if v6 {
            size_of::<libc::sockaddr_in6>()
        } else {
            size_of::<libc::sockaddr_in>()
        };
        (std::ptr::from_ref(self).cast(), length as libc::socklen_t)
    }
}

impl core::fmt::Debug for Sockaddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Sockaddr")
    }
}

/// Whether a target is of IPv6.
pub(crate) const fn is_v6(addr: &SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(_))
}

/// Whether a socket that was connected to this address is as new once it is
/// disconnected. A link-local one stays bound to its interface, and an IPv4
/// address in IPv6's form leaves the socket speaking IPv4.
pub(crate) const fn can_be_used_again(addr: &SocketAddr) -> bool {
    match addr {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(addr) => {
            addr.scope_id() == 0
                && !addr.ip().is_unicast_link_local()
                && addr.ip().to_ipv4_mapped().is_none()
        }
    }
}
