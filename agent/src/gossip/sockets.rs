//! The gossip address: one UDP socket and one TCP listener on one port.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, UdpSocket};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::limits::SOCKET_RECEIVE_BYTES;

/// Connections that wait to be accepted. More are refused by the kernel.
const BACKLOG: i32 = 64;

/// Why the gossip address could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(
        "cannot listen on {addr} ({protocol}): another process has this port\n  \
         help: find it with `ss -lunp sport = :{port}` and `ss -ltnp sport = :{port}`, or choose \
         another gossip.bind",
        port = addr.port()
    )]
    PortTaken {
        addr: SocketAddr,
        protocol: &'static str,
    },
    #[error(
        "cannot listen on {addr} ({protocol}): this host does not have that address\n  \
         help: choose one of the addresses that `ip address` shows for gossip.bind"
    )]
    NoSuchAddress {
        addr: SocketAddr,
        protocol: &'static str,
    },
    #[error(
        "cannot listen on {addr} ({protocol}): {source}\n  help: check gossip.bind and the \
         agent's permissions"
    )]
    Other {
        addr: SocketAddr,
        protocol: &'static str,
        source: io::Error,
    },
}

/// Binds both, or neither.
pub(crate) fn bind(addr: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    let error = |protocol| move |source: io::Error| explain(addr, protocol, source);
    let udp = bind_udp(addr).map_err(error("UDP"))?;
    let tcp = bind_tcp(addr).map_err(error("TCP"))?;
    Ok((udp, tcp))
}

fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    reach_both(&socket, addr)?;
    // As much as the kernel allows; less only loses more in a mass event.
    let _ = socket.set_recv_buffer_size(SOCKET_RECEIVE_BYTES);
    socket.bind(&SockAddr::from(addr))?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    reach_both(&socket, addr)?;
    // Only lets a restarted agent pass over its predecessor's closed streams;
    // a live listener still keeps the port.
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// `[::]` means every address of this host, IPv4's too, whatever the host's
/// `net.ipv6.bindv6only` says.
fn reach_both(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    Ok(())
}

fn explain(addr: SocketAddr, protocol: &'static str, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::PortTaken { addr, protocol },
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress { addr, protocol },
        _ => BindError::Other {
            addr,
            protocol,
            source,
        },
    }
}
