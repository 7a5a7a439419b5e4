//! Which addresses may be probed.
//!
//! Tenants write checks. A checker that connects wherever it is told is a way
//! into this host and into what only this host reaches, so some networks are
//! refused unless the operator allows them. Only what the agent's own file says
//! counts here, never what gossip says: a liar could silence any origin.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

/// Addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an address, or not a length.
    #[error("\"{0}\" is not a network")]
    Malformed(String),
    /// Bits are set that the length leaves open.
    #[error("\"{text}\" has bits beyond its length")]
    BitsBeyond {
        /// As given.
        text: String,
        /// The network that it lies in.
        network: Network,
    },
}

impl NetworkError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Malformed(_) => {
                "write it like \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.7\"".to_owned()
            }
            Self::BitsBeyond { network, .. } => format!("did you mean \"{network}\"?"),
        }
    }
}

impl Network {
    /// The network of the first `bits` of `addr`; all of them if there are fewer.
    #[must_use]
    pub const fn new(addr: IpAddr, bits: u8) -> Self {
        match addr {
            IpAddr::V4(v4) => {
                let bits = if bits > 32 { 32 } else { bits };
                let mask = if bits == 0 {
                    0
                } else {
                    u32::MAX << (32 - bits)
                };
                let first = IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask));
                Self { first, bits }
            }
            IpAddr::V6(v6) => {
                let bits = if bits > 128 { 128 } else { bits };
                let mask = if bits == 0 {
                    0
                } else {
                    u128::MAX << (128 - bits)
                };
                let first = IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask));
                Self { first, bits }
            }
        }
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.first.is_ipv4() && Self::new(addr, self.bits).first == self.first
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (addr, bits) = match text.split_once('/') {
            None => (text, None),
            Some((addr, bits)) => (addr, Some(bits)),
        };
        let addr: IpAddr = addr.parse().map_err(|_| malformed())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let bits = bits.parse().map_err(|_| malformed())?;
                if bits > most {
                    return Err(malformed());
                }
                bits
            }
            Some(_) => return Err(malformed()),
        };
        let network = Self::new(addr, bits);
        if network.first != addr {
            let text = text.to_owned();
            return Err(NetworkError::BitsBeyond { text, network });
        }
        // IPv4 in IPv6's form is IPv4.
        match addr {
            IpAddr::V6(v6) if bits >= 96 => match v6.to_ipv4_mapped() {
                Some(v4) => Ok(Self::new(v4.into(), bits - 96)),
                None => Ok(network),
            },
            _ => Ok(network),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// What the operator says of targets, and what this agent is itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Networks that may be probed whatever the defaults say.
    pub allow: Vec<Network>,
    /// Networks that may not be probed.
    pub deny: Vec<Network>,
    /// Where this agent listens for gossip. Its port is refused on any address.
    pub bind: Option<SocketAddr>,
    /// Where members are joined through, and what this one is told to be at.
    pub members: Vec<SocketAddr>,
}

/// Why a target may not be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The port on which members gossip.
    GossipPort(u16),
    /// A member's gossip.
    Gossip(SocketAddr),
    /// The operator's word.
    Written(Network),
    /// A member's address, by this agent's own bind and join lines.
    Member(IpAddr),
    /// Refused unless it is allowed.
    Default {
        /// What it is called.
        what: &'static str,
        /// Which network.
        network: Network,
    },
}

impl fmt::Display for Denial {
    /// To follow "is not probed: ", with the way out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GossipPort(port) => write!(
                f,
                "{port} is the port of this agent's gossip, which no check may name"
            ),
            Self::Gossip(addr) => write!(f, "{addr} is a member's gossip, which no check may name"),
            Self::Written(network) => write!(f, "[probe] deny names {network}"),
            Self::Member(addr) => write!(
                f,
                "{addr} is an address of this POP's own by bind, advertise or join; \
                 [probe] allow = [\"{addr}\"] allows it"
            ),
            Self::Default { what, network } => write!(
                f,
                "{network} ({what}) is refused; [probe] allow = [\"{network}\"] allows it"
            ),
        }
    }
}

/// Refused unless allowed, and what they are called.
const DEFAULTS: [(&str, Network); 16] = [
    ("this host", v4(0, 0, 0, 0, 8)),
    ("loopback", v4(127, 0, 0, 0, 8)),
    ("link-local", v4(169, 254, 0, 0, 16)),
    ("multicast", v4(224, 0, 0, 0, 4)),
    ("broadcast", v4(255, 255, 255, 255, 32)),
    ("a cloud's metadata", v4(100, 100, 100, 200, 32)),
    ("a cloud's metadata", v4(168, 63, 129, 16, 32)),
    ("a cloud's metadata", v4(192, 0, 0, 192, 32)),
    ("this host", v6([0; 8], 128)),
    ("loopback", v6([0, 0, 0, 0, 0, 0, 0, 1], 128)),
    ("link-local", v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)),
    ("multicast", v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8)),
    (
        "a cloud's metadata",
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
    ),
    (
        "a cloud's metadata",
        v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
    ),
    (
        "a cloud's metadata",
        v6([0xfd00, 0xc1, 0, 0, 0, 0, 0, 0xa9fe], 128),
    ),
    (
        "a cloud's metadata",
        v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
    ),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Network {
    Network::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits)
}

const fn v6(parts: [u16; 8], bits: u8) -> Network {
    let [a, b, c, d, e, f, g, h] = parts;
    Network::new(IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits)
}

impl Policy {
    /// Whether this target may be probed. Ask again after each resolution of a
    /// name, for the answer is about an address.
    ///
    /// Of what is written the narrowest network that holds the address decides,
    /// and deny of two equal ones; what is written goes before the defaults.
    /// Gossip is refused whatever is written.
    ///
    /// # Errors
    ///
    /// What refuses it.
    pub fn judge(&self, target: SocketAddr) -> Result<(), Denial> {
        let port = target.port();
        let addr = target.ip().to_canonical();
        if self.bind.is_some_and(|bind| bind.port() == port) {
            return Err(Denial::GossipPort(port));
        }
        for addr in [Some(addr), carried(addr)].into_iter().flatten() {
            let mut members = self.members.iter();
            if let Some(&member) = members.find(|at| at.port() == port && same(at.ip(), addr)) {
                return Err(Denial::Gossip(member));
            }
        }
        if self.written(addr)? {
            return Ok(());
        }
        self.unwritten(addr)?;
        match carried(addr) {
            Some(inner) if !self.written(inner)? => self.unwritten(inner),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether what is written allows it, or says nothing.
    fn written(&self, addr: IpAddr) -> Result<bool, Denial> {
        let narrowest = |networks: &[Network]| {
            let holding = networks.iter().filter(|network| network.contains(addr));
            holding.max_by_key(|network| network.bits).copied()
        };
        match (narrowest(&self.allow), narrowest(&self.deny)) {
            (Some(allow), Some(deny)) if allow.bits > deny.bits => Ok(true),
            (_, Some(deny)) => Err(Denial::Written(deny)),
            (allow, None) => Ok(allow.is_some()),
        }
    }

    /// What is refused although nobody wrote it.
    fn unwritten(&self, addr: IpAddr) -> Result<(), Denial> {
        let own = self.bind.iter().chain(&self.members).map(SocketAddr::ip);
        if own.into_iter().any(|own| same(own, addr)) {
            return Err(Denial::Member(addr));
        }
        let mut defaults = DEFAULTS
            .iter()
            .filter(|(_, network)| network.contains(addr));
        match defaults.next() {
            Some(&(what, network)) => Err(Denial::Default { what, network }),
            None => Ok(()),
        }
    }
}

/// Whether the two are one address.
fn same(own: IpAddr, addr: IpAddr) -> bool {
    !own.is_unspecified() && own.to_canonical() == addr
}

/// The IPv4 address to which a gateway or a tunnel takes packets for this one:
/// NAT64 (RFC 6052), 6to4 (RFC 3056), and IPv4-compatible addresses.
fn carried(addr: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = addr else { return None };
    let joined =
        |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into();
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            Some(joined(high, low))
        }
        [0x2002, high, low, ..] => Some(joined(high, low)),
        // Not :: and ::1, which are what they are.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(joined(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> Policy {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Policy {
            allow: networks(allow),
            deny: networks(deny),
            bind: Some("192.0.2.1:7946".parse().unwrap()),
            members: vec!["192.0.2.2:7947".parse().unwrap()],
        }
    }

    fn says(policy: &Policy, target: &str) -> String {
        match policy.judge(target.parse().unwrap()) {
            Ok(()) => "allowed".to_owned(),
            Err(denial) => denial.to_string(),
        }
    }

    #[test]
    fn what_is_inside_is_refused_and_what_is_outside_is_not() {
        let policy = policy(&[], &[]);
        for (target, word) in [
            ("198.51.100.7:80", "allowed"),
            ("10.0.0.1:80", "allowed"),
            ("[2001:db8::1]:443", "allowed"),
            ("[fd00::1]:443", "allowed"),
            ("127.0.0.1:80", "loopback"),
            ("127.255.0.1:80", "loopback"),
            ("[::1]:80", "loopback"),
            ("[::ffff:127.0.0.1]:80", "loopback"),
            ("[::127.0.0.1]:80", "loopback"),
            ("[64:ff9b::7f00:1]:80", "loopback"),
            ("[2002:7f00:1::]:80", "loopback"),
            ("0.0.0.0:80", "this host"),
            ("0.1.2.3:80", "this host"),
            ("[::]:80", "this host"),
            ("169.254.169.254:80", "link-local"),
            ("[::ffff:169.254.169.254]:80", "link-local"),
            ("[64:ff9b::a9fe:a9fe]:80", "link-local"),
            ("[64:ff9b:1::a9fe:a9fe]:80", "link-local"),
            ("[fe80::1%2]:80", "link-local"),
            ("[febf::1%2]:80", "link-local"),
            ("100.100.100.200:80", "metadata"),
            ("168.63.129.16:80", "metadata"),
            ("[fd00:ec2::254]:80", "metadata"),
            ("224.0.0.1:80", "multicast"),
            ("239.255.255.255:80", "multicast"),
            ("[ff02::1%2]:80", "multicast"),
            ("255.255.255.255:80", "broadcast"),
            ("192.0.2.1:80", "POP's own"),
            ("192.0.2.2:80", "POP's own"),
            ("[::ffff:192.0.2.2]:80", "POP's own"),
            ("192.0.2.3:80", "allowed"),
            ("198.51.100.7:7946", "gossip"),
            ("[2001:db8::1]:7946", "gossip"),
            ("192.0.2.2:7947", "gossip"),
            ("[::ffff:192.0.2.2]:7947", "gossip"),
            ("198.51.100.7:7947", "allowed"),
        ] {
            let said = says(&policy, target);
            assert!(said.contains(word), "{target}: {said}");
        }
    }

    #[test]
    fn one_written_line_allows_and_the_narrower_line_wins() {
        let policy = policy(
            &["127.0.0.0/8", "10.1.0.0/16", "192.0.2.2", "::1/128"],
            &["10.0.0.0/8", "127.0.0.9", "fd00::/8", "10.1.0.0/16"],
        );
        for (target, word) in [
            ("127.0.0.1:80", "allowed"),
            ("[::1]:80", "allowed"),
            ("[::ffff:127.0.0.1]:80", "allowed"),
            ("[64:ff9b::7f00:1]:80", "allowed"),
            ("127.0.0.9:80", "deny names 127.0.0.9/32"),
            ("[::ffff:127.0.0.9]:80", "deny names 127.0.0.9/32"),
            ("[64:ff9b::a00:1]:80", "deny names 10.0.0.0/8"),
            ("10.2.0.1:80", "deny names 10.0.0.0/8"),
            ("10.1.0.1:80", "deny names 10.1.0.0/16"),
            ("[fd00::1]:80", "deny names fd00::/8"),
            ("192.0.2.2:80", "allowed"),
            ("192.0.2.1:80", "POP's own"),
            ("169.254.1.1:80", "link-local"),
            ("127.0.0.1:7946", "gossip"),
            ("192.0.2.2:7947", "gossip"),
        ] {
            let said = says(&policy, target);
            assert!(said.contains(word), "{target}: {said}");
        }
    }

    #[test]
    fn networks_are_read_and_written_alike() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
        let error = "10.0.0.1/8".parse::<Network>().unwrap_err();
        assert_eq!(error.hint(), "did you mean \"10.0.0.0/8\"?");
        for text in [
            "",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "loopback",
            "10/8",
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error, NetworkError::Malformed(text.to_owned()));
        }
    }
}
