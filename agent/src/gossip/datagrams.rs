//! The gossip socket: datagrams with the time for which they waited in it.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::UdpSocket;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use watchfire_wire::Time;

use crate::clock;

/// The gossip socket.
pub(super) struct Datagrams {
    pub(super) socket: UdpSocket,
    /// It is an IPv6 socket, which knows IPv4 in IPv6's form only.
    dual_stack: bool,
    /// When it was last seen empty: what is read later came later.
    emptied: Time,
    control: Vec<u8>,
}

/// One datagram that was read.
pub(super) struct Received {
    pub(super) bytes: usize,
    pub(super) from: SocketAddr,
    /// How long it waited in the socket.
    pub(super) age: Duration,
}

impl Datagrams {
    pub(super) fn new(socket: UdpSocket) -> Self {
        // Without it every age is what the socket's emptiness says: an upper
        // bound.
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
        let dual_stack = socket.local_addr().is_ok_and(|addr| addr.is_ipv6());
        Self {
            socket,
            dual_stack,
            emptied: clock::now(),
            control: nix::cmsg_space!(TimeSpec),
        }
    }

    /// The next datagram; nothing if there is none.
    ///
    /// # Errors
    /// An ICMP error of an earlier datagram, or another that the socket
    /// survives.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut slices = [IoSliceMut::new(buffer)];
        let received = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        );
        let message = match received {
            Ok(message) => message,
            Err(nix::Error::EAGAIN) => {
                self.emptied = clock::now();
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let bytes = message.bytes;
        let from = message.address.as_ref().and_then(address);
        let stamped = message.cmsgs().ok().and_then(|mut messages| {
            messages.find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
                _ => None,
            })
        });
        let Some(from) = from else {
            return Err(io::Error::other("a datagram without an address"));
        };
        // The stamp is on the wall clock, which may be set; the monotonic one
        // says how long it can have been at most.
        let most = clock::now().since(self.emptied);
        let age = stamped.map_or(most, |at| clock::wall().saturating_sub(at).min(most));
        Ok(Some(Received { bytes, from, age }))
    }

    /// Sends one datagram, to whichever family this socket reaches it by.
    ///
    /// # Errors
    /// The kernel did not take it.
    pub(super) fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        let to = match to {
            SocketAddr::V4(v4) if self.dual_stack => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            to => to,
        };
        self.socket.send_to(bytes, to)
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    storage
        .as_sockaddr_in()
        .map(|addr| SocketAddr::V4((*addr).into()))
        .or_else(|| {
            storage
                .as_sockaddr_in6()
                .map(|addr| plain(SocketAddr::V6((*addr).into())))
        })
}

/// An address in the one form that members, joins and lists know: a socket on
/// `[::]` shows IPv4 peers in IPv6's form.
pub(super) fn plain(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip if ip == addr.ip() => addr,
        ip => SocketAddr::new(ip, addr.port()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn a_socket_of_both_families_knows_ipv4_by_its_plain_form() {
        let (both, _listener) = crate::gossip::sockets::bind("[::]:0".parse().expect("valid"))
            .expect("a dual-stack host");
        let mut both = Datagrams::new(both);
        let port = both.socket.local_addr().expect("bound").port();
        let old = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let old_addr = old.local_addr().expect("bound");
        old.send_to(b"hello", ("127.0.0.1", port)).expect("sent");
        sleep(Duration::from_millis(50));
        let mut buffer = [0; 64];
        let received = both.receive(&mut buffer).expect("read").expect("there");
        assert_eq!(received.from, old_addr);
        both.send(b"back", received.from).expect("sent");
        old.set_read_timeout(Some(Duration::from_secs(2)))
            .expect("set");
        let (count, from) = old.recv_from(&mut buffer).expect("answered");
        assert_eq!((count, from.port()), (4, port));
    }

    #[test]
    fn the_age_is_the_time_in_the_socket() {
        let bind = || UdpSocket::bind("127.0.0.1:0".parse().expect("valid")).expect("loopback");
        let (one, mut two) = (bind(), Datagrams::new(bind()));
        let mut buffer = [0; 64];
        assert!(two.receive(&mut buffer).expect("nothing yet").is_none());
        let to = two.socket.local_addr().expect("bound");
        // The kernel begins to stamp a moment after it was asked to.
        let mut tries = 0;
        let (received, took) = loop {
            let before = clock::now();
            one.send_to(b"hello", to).expect("sent");
            sleep(Duration::from_millis(30));
            let received = two.receive(&mut buffer).expect("read").expect("there");
            tries += 1;
            if received.age >= Duration::from_millis(29) || tries == 50 {
                break (received, clock::now().since(before));
            }
        };
        assert_eq!(received.from, one.local_addr().expect("bound"));
        assert_eq!(&buffer[..received.bytes], b"hello");
        assert!(
            received.age >= Duration::from_millis(29),
            "{:?}",
            received.age
        );
        assert!(received.age <= took, "{:?} of {took:?}", received.age);
        assert!(two.receive(&mut buffer).expect("no more").is_none());
    }
}
