//! The way that a check's packets take out of this host, where it is not the
//! kernel's own choice. Checks that differ in it alone are different checks:
//! what one way reaches, another may not.
//!
//! A way that a host lacks is no fault of the origin: nothing is measured there,
//! and other members may have it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::check::Canonical;
use crate::keys::{self, KeyError, Keys};
use crate::limits::INTERFACE_BYTES;

/// What a check says of its way; what it leaves out is the agent's or the
/// kernel's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Egress {
    /// The address that it comes from.
    pub source: Option<IpAddr>,
    /// The interface, or VRF, that it leaves by (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// The mark of its packets (`SO_MARK`).
    pub mark: Option<u32>,
    /// Their differentiated services code point, 0 to 63.
    pub dscp: Option<u8>,
}

/// Highest differentiated services code point: it has six bits.
const DSCP_MAX: u8 = 63;

impl Egress {
    /// The keys that it takes.
    pub const KEYS: &'static [&'static str] = &["source_address", "interface", "mark", "dscp"];

    /// Takes its keys; nothing if none of them says anything.
    ///
    /// # Errors
    ///
    /// A key that means nothing.
    pub fn read(keys: &mut dyn Keys) -> Result<Option<Box<Self>>, KeyError> {
        let source = match keys::text(keys, "source_address")? {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                KeyError::new(
                    "source_address",
                    format!("source_address = \"{text}\" is no address"),
                    "write an address of this server without a port, like \"192.0.2.1\"",
                )
            })?),
        };
        let egress = Self {
            source,
            interface: keys::text(keys, "interface")?,
            mark: keys::number(keys, "mark", 0, u32::MAX.into())?
                .and_then(|mark| u32::try_from(mark).ok()),
            dscp: keys::number(keys, "dscp", 0, DSCP_MAX.into())?
                .and_then(|dscp| u8::try_from(dscp).ok()),
        };
        Ok((egress != Self::default()).then(|| Box::new(egress)))
    }

    /// Whether it can be taken, by packets to `target` if that is known.
    ///
    /// # Errors
    ///
    /// A key that no packet can follow.
    pub fn validate(&self, target: Option<&SocketAddr>) -> Result<(), KeyError> {
        if let Some(source) = self.source {
            self.validate_source(source, target)?;
        }
        if let Some(name) = &self.interface {
            let taken = name.is_empty() || name == "." || name == "..";
            let strange = |byte: u8| !byte.is_ascii_graphic() || b"/:".contains(&byte);
            if taken || name.len() > INTERFACE_BYTES || name.bytes().any(strange) {
                return Err(KeyError::new(
                    "interface",
                    format!("interface = {name:?} is no name that an interface can have"),
                    format!(
                        "write 1 to {INTERFACE_BYTES} bytes like \"eth1\" or \"vrf-blue\"; \
                         `ip link` lists them"
                    ),
                ));
            }
        }
        match self.dscp {
            Some(dscp) if dscp > DSCP_MAX => Err(KeyError::new(
                "dscp",
                format!("dscp = {dscp} is out of range"),
                format!("choose 0 to {DSCP_MAX}"),
            )),
            _ => Ok(()),
        }
    }

    fn validate_source(&self, source: IpAddr, target: Option<&SocketAddr>) -> Result<(), KeyError> {
        let error = |what: String, hint: &str| Err(KeyError::new("source_address", what, hint));
        if let Some(target) = target
            && source.is_ipv4() != target.is_ipv4()
        {
            let of = |v4| if v4 { "IPv4" } else { "IPv6" };
            return error(
                format!(
                    "source_address = \"{source}\" is of {} and the origin is of {}",
                    of(source.is_ipv4()),
                    of(target.is_ipv4())
                ),
                "write an address of the origin's family",
            );
        }
        let broadcast = matches!(source, IpAddr::V4(v4) if v4.is_broadcast());
        if source.is_unspecified() || source.is_multicast() || broadcast {
            return error(
                format!("source_address = \"{source}\" is not the address of one host"),
                "write an address of this server, or leave it out for the kernel's choice",
            );
        }
        let link_local = matches!(source, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if link_local && self.interface.is_none() {
            return error(
                format!("source_address = \"{source}\" is on every link"),
                "write interface = \"...\" too",
            );
        }
        Ok(())
    }

    pub(crate) fn canonical(&self, out: &mut Canonical) {
        match self.source {
            None => out.byte(0),
            Some(source) => {
                out.byte(1);
                out.text(&source.to_string());
            }
        }
        match &self.interface {
            None => out.byte(0),
            Some(interface) => {
                out.byte(1);
                out.text(interface);
            }
        }
        match self.mark {
            None => out.byte(0),
            Some(mark) => {
                out.byte(1);
                out.number(mark.into());
            }
        }
        match self.dscp {
            None => out.byte(0),
            Some(dscp) => {
                out.byte(1);
                out.byte(dscp);
            }
        }
    }
}

impl fmt::Display for Egress {
    /// For people: `from 192.0.2.1, by eth1, mark 7, DSCP 8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.source.map(|source| format!("from {source}")),
            self.interface.as_ref().map(|name| format!("by {name}")),
            self.mark.map(|mark| format!("mark {mark}")),
            self.dscp.map(|dscp| format!("DSCP {dscp}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_no_packet_can_take_is_refused_with_the_way_out() {
        let v4: SocketAddr = "192.0.2.7:80".parse().unwrap();
        let refused = |egress: Egress| {
            let error = egress.validate(Some(&v4)).unwrap_err();
            (error.key, error.to_string())
        };
        let from = |source: &str| Egress {
            source: Some(source.parse().unwrap()),
            ..Egress::default()
        };
        for source in ["2001:db8::1", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(refused(from(source)).0, "source_address", "{source}");
        }
        let (_, words) = refused(from("2001:db8::1"));
        assert!(words.contains("write an address of the origin's family"));
        for name in [
            "",
            ".",
            "..",
            "a b",
            "eth0:1",
            "a/b",
            "é",
            "a23456789012345x",
        ] {
            let by = Egress {
                interface: Some(name.to_owned()),
                ..Egress::default()
            };
            assert_eq!(refused(by).0, "interface", "{name:?}");
        }
        let high = Egress {
            dscp: Some(64),
            ..Egress::default()
        };
        assert_eq!(refused(high).0, "dscp");
        assert_eq!(from("192.0.2.1").validate(Some(&v4)), Ok(()));
        let v6: SocketAddr = "[fe80::2%3]:80".parse().unwrap();
        assert!(from("fe80::1").validate(Some(&v6)).is_err());
        let whole = Egress {
            source: Some("fe80::1".parse().unwrap()),
            interface: Some("eth0".to_owned()),
            mark: Some(7),
            dscp: Some(8),
        };
        assert_eq!(whole.validate(Some(&v6)), Ok(()));
        assert_eq!(whole.to_string(), "from fe80::1, by eth0, mark 7, DSCP 8");
    }
}
