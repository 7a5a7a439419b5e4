//! How the farm is reached: a socket per origin, or one wildcard socket per
//! thread that is tied to the loopback device, and what the kernel does with
//! a SYN for an origin that refuses or is gone.
//!
//! A wildcard socket answers on all of 127.0.0.0/8 and would answer on the
//! host's other addresses too: `SO_BINDTODEVICE` to `lo` keeps out whatever did
//! not come through the loopback device, whichever address it names. Dropped
//! SYNs are a classic socket filter on the listening socket, so no rule of
//! the machine's packet filter is touched. A refused SYN needs the absence of
//! a listening socket, and there is none to be absent under a wildcard: that
//! is why refusing takes a socket per origin.

use core::ops::Range;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use mio::net::TcpListener;
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};

use crate::fault::Fault;
use crate::limits::{BACKLOG, DROPPED_RANGES_MAX};

/// A listening socket of one thread.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The origin it stands for, or all of the farm's.
    pub(crate) origin: Option<u32>,
    /// Its own address, or the unspecified one with the farm's port.
    pub(crate) address: SocketAddrV4,
    /// Nothing while the origin refuses.
    pub(crate) socket: Option<TcpListener>,
    /// SYNs are dropped.
    pub(crate) drops: bool,
}

/// What a change of fault did to a listener.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Nothing that its owner must know.
    No,
    /// There is a new socket, not yet registered.
    Opened,
}

impl Listener {
    /// Opens the listening socket of one origin; port 0 lets the kernel choose.
    pub(crate) fn of_origin(origin: u32, address: SocketAddrV4) -> io::Result<Self> {
        let (socket, address) = open(address, false)?;
        Ok(Self {
            origin: Some(origin),
            address,
            socket: Some(socket),
            drops: false,
        })
    }

    /// Opens a listening socket for all origins, beside those of other threads.
    pub(crate) fn wildcard(port: u16) -> io::Result<Self> {
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        let (socket, address) = open(address, true)?;
        Ok(Self {
            origin: None,
            address,
            socket: Some(socket),
            drops: false,
        })
    }

    /// Makes the socket of one origin fit its fault.
    pub(crate) fn suit(&mut self, fault: Option<Fault>) -> io::Result<Changed> {
        if fault == Some(Fault::Refuse) {
            self.socket = None;
            self.drops = false;
            return Ok(Changed::No);
        }
        let changed = if self.socket.is_none() {
            self.socket = Some(open(self.address, false)?.0);
            Changed::Opened
        } else {
            Changed::No
        };
        self.set_drops(fault == Some(Fault::Blackhole), &[DROP_ALL])?;
        Ok(changed)
    }

    /// Makes a wildcard socket drop SYNs to these addresses, and no others.
    pub(crate) fn drop_ranges(&mut self, ranges: &[Range<u32>]) -> io::Result<()> {
        self.drops &= ranges.is_empty(); // A filter in place must be replaced.
        self.set_drops(!ranges.is_empty(), &drop_program(ranges))
    }

    fn set_drops(&mut self, drops: bool, program: &[SockFilter]) -> io::Result<()> {
        if let Some(socket) = &self.socket
            && drops != self.drops
        {
            let socket = SockRef::from(socket);
            if drops {
                socket.attach_filter(program)?;
            } else {
                socket.detach_filter()?;
            }
            self.drops = drops;
        }
        Ok(())
    }
}

/// Makes a connection deaf, as if its packets were lost on the way.
pub(crate) fn deafen(socket: &SockRef<'_>) -> io::Result<()> {
    socket.attach_filter(&[DROP_ALL])
}

fn open(address: SocketAddrV4, wildcard: bool) -> io::Result<(TcpListener, SocketAddrV4)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if wildcard {
        socket.set_reuse_port(true)?;
        socket.bind_device(Some(b"lo"))?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    let bound = socket
        .local_addr()?
        .as_socket_ipv4()
        .expect("an IPv4 socket has an IPv4 address");
    Ok((TcpListener::from_std(socket.into()), bound))
}

// Instructions of the classic packet filter, as <linux/filter.h> has them.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ABOVE: u16 = 0x25;
const RETURN: u16 = 0x06;
/// Offset of the IPv4 destination, counted from the network header.
const DESTINATION: u32 = 0xfff0_0000 + 16;

const DROP_ALL: SockFilter = SockFilter::new(RETURN, 0, 0, 0);
const KEEP: SockFilter = SockFilter::new(RETURN, 0, 0, u32::MAX);

/// Drops what goes to one of these ranges of addresses.
fn drop_program(ranges: &[Range<u32>]) -> Vec<SockFilter> {
    debug_assert!(ranges.len() <= DROPPED_RANGES_MAX);
    let mut program = vec![SockFilter::new(LOAD_WORD, 0, 0, DESTINATION)];
    for range in ranges {
        program.extend([
            SockFilter::new(JUMP_IF_AT_LEAST, 0, 2, range.start),
            SockFilter::new(JUMP_IF_ABOVE, 1, 0, range.end - 1),
            DROP_ALL,
        ]);
    }
    program.push(KEEP);
    program
}
