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
        Self {
            socket,
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
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    storage
        .as_sockaddr_in()
        .map(|addr| SocketAddr::V4((*addr).into()))
        .or_else(|| {
            storage
                .as_sockaddr_in6()
                .map(|addr| SocketAddr::V6((*addr).into()))
        })
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

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
