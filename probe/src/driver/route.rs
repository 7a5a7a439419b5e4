//! Whether an error is this host's own routing or a message from the network.
//!
//! `EHOSTUNREACH` and its like come from a route of this host that leads
//! nowhere, and from an ICMP message of a router, a firewall or the origin.
//! The first measured nothing, the second is the origin's failure, and the
//! number is the same. A UDP connect takes the same way through this host's
//! routing (source, mark, device, type of service) and sends nothing: if that
//! fails too, the fault is ours.
//!
//! It is asked on the failing path only, once per failed probe. No error queue
//! (`IP_RECVERR`) is used: it would make one stray ICMP message end a
//! connection that stands.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use watchfire_probe_core::engine::During;

use super::socket::{Sockaddr, SocketOption, SocketPlan};

/// Who a failure speaks of: `during` and `errno` as they are to be told.
pub(crate) fn judge(
    during: During,
    errno: i32,
    addr: &Sockaddr,
    v6: bool,
    plan: &SocketPlan,
    source: Option<&Sockaddr>,
) -> (During, i32) {
    // What a socket refuses before it connects speaks of no route.
    if during == During::Open || !is_ambiguous(errno) {
        return (during, errno);
    }
    // No ICMP message of IPv4 becomes EACCES: a prohibiting route, or a
    // security module that knows TCP alone.
    if errno == libc::EACCES && !v6 {
        return (During::Route, errno);
    }
    match refusal(addr, v6, plan, source) {
        Some(refusal) => (During::Route, refusal),
        None => (during, errno),
    }
}

/// The numbers that this host's routing can cause, and something else too.
const fn is_ambiguous(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EACCES
            | libc::EPERM
            | libc::EINVAL
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EPROTO
            | libc::EMSGSIZE
            | libc::EADDRNOTAVAIL
    )
}

/// The error with which this host refuses to send to `addr` at all; nothing if
/// it would.
fn refusal(addr: &Sockaddr, v6: bool, plan: &SocketPlan, source: Option<&Sockaddr>) -> Option<i32> {
    let asked = || -> io::Result<()> {
        let socket = socket(v6)?;
        let fd = socket.as_raw_fd();
        for option in plan.options.iter().filter(|option| option.steers_route()) {
            set(fd, option)?;
        }
        if let Some(source) = source {
            let (addr, length) = source.raw(v6);
            // SAFETY: the address is whole and lives through the call.
            check(unsafe { libc::bind(fd, addr, length) })?;
        }
        let (addr, length) = addr.raw(v6);
        // SAFETY: as above.
        check(unsafe { libc::connect(fd, addr, length) })
    };
    match asked().err()?.raw_os_error() {
        // A route that is a black hole; no address to come from, as where IPv6 is
        // switched off: that is no want of ports, for UDP has its own.
        Some(libc::EINVAL | libc::EADDRNOTAVAIL) | None => Some(libc::ENETUNREACH),
        errno => errno,
    }
}

fn socket(v6: bool) -> io::Result<OwnedFd> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: `socket` takes no pointer; its result is checked before use.
    let fd = unsafe { libc::socket(family, kind, 0) };
    check(fd)?;
    // SAFETY: the descriptor was just made and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set(fd: RawFd, option: &SocketOption) -> io::Result<()> {
    let (value, length) = option.value();
    // SAFETY: the value holds `length` bytes and lives through the call.
    check(unsafe { libc::setsockopt(fd, option.level, option.name, value, length) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loopback_reaches_is_not_refused_and_other_numbers_are_not_asked_about() {
        let here = Sockaddr::new(([127, 0, 0, 1], 9).into());
        let plan = SocketPlan::default();
        let judged = |errno| judge(During::Connect, errno, &here, false, &plan, None);
        assert_eq!(
            judged(libc::EHOSTUNREACH),
            (During::Connect, libc::EHOSTUNREACH)
        );
        assert_eq!(
            judged(libc::ECONNREFUSED),
            (During::Connect, libc::ECONNREFUSED)
        );
        assert_eq!(judged(libc::EACCES), (During::Route, libc::EACCES));
    }

    #[test]
    fn what_no_route_reaches_is_refused() {
        // A source that this host does not have is a way that it does not have.
        let here = Sockaddr::new(([127, 0, 0, 1], 9).into());
        let source = Sockaddr::new(([192, 0, 2, 77], 0).into());
        let plan = SocketPlan::default();
        let judged = judge(
            During::Connect,
            libc::EHOSTUNREACH,
            &here,
            false,
            &plan,
            Some(&source),
        );
        assert_eq!(judged, (During::Route, libc::ENETUNREACH));
    }
}
