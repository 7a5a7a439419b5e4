//! A socket address in 18 bytes, the same for IPv4 and IPv6.
//!
//! Pings go out several times a second for ever; an address that needs no tag
//! and no padding keeps them small. The scope of a link-local address does not
//! travel: it means nothing on another host.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use rkyv::rancor::Fallible;
use rkyv::with::{ArchiveWith, DeserializeWith, SerializeWith};
use rkyv::{Archive, Deserialize, Place, Serialize};

/// An address as it travels: IPv4 mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Clone, Copy, PartialEq, Eq))]
pub struct Addr {
    /// The IPv6 address, or the IPv4 address mapped (`::ffff:a.b.c.d`).
    pub ip: [u8; 16],
    /// The port.
    pub port: u16,
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self {
            ip: ip.octets(),
            port: addr.port(),
        }
    }
}

impl From<Addr> for SocketAddr {
    fn from(addr: Addr) -> Self {
        Self::new(Ipv6Addr::from(addr.ip).to_canonical(), addr.port)
    }
}

impl From<&ArchivedAddr> for SocketAddr {
    fn from(archived: &ArchivedAddr) -> Self {
        Addr {
            ip: archived.ip,
            port: archived.port.to_native(),
        }
        .into()
    }
}

/// Makes rkyv archive a [`SocketAddr`] field as an [`Addr`].
#[derive(Debug)]
pub struct AsAddr;

impl ArchiveWith<SocketAddr> for AsAddr {
    type Archived = ArchivedAddr;
    type Resolver = AddrResolver;

    fn resolve_with(field: &SocketAddr, resolver: AddrResolver, out: Place<ArchivedAddr>) {
        Addr::from(*field).resolve(resolver, out);
    }
}

impl<S: Fallible + ?Sized> SerializeWith<SocketAddr, S> for AsAddr {
    fn serialize_with(field: &SocketAddr, serializer: &mut S) -> Result<AddrResolver, S::Error> {
        Addr::from(*field).serialize(serializer)
    }
}

impl<D: Fallible + ?Sized> DeserializeWith<ArchivedAddr, SocketAddr, D> for AsAddr {
    fn deserialize_with(field: &ArchivedAddr, _: &mut D) -> Result<SocketAddr, D::Error> {
        Ok(field.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back_as_they_went() {
        for text in ["127.0.0.1:7946", "[2001:db8::1]:1", "0.0.0.0:0", "[::]:9"] {
            let addr: SocketAddr = text.parse().expect("an address");
            assert_eq!(SocketAddr::from(Addr::from(addr)), addr);
        }
        assert_eq!(size_of::<ArchivedAddr>(), 18);
    }
}
