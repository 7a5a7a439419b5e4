//! The namespaces: agents, origins and the hub between them.
//!
//! In layout "apart" each agent has a namespace with one wire to a hub that
//! routes. It is no bridge on purpose: a bridge floods every ARP request to all
//! ports, and the kernel's table of neighbours (1,024 entries) is one for all
//! namespaces, which 168 agents that know each other would overflow. In layout
//! "shared" all agents live in one namespace and talk over its loopback, each
//! from an address of its own. The origins have a namespace of their own in
//! both.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Result;

use crate::scenario::{Layout, Uplink};
use crate::shell;

/// What the names of all namespaces of all labs begin with.
pub(crate) const PREFIX: &str = "wflab";

/// The port that agents gossip on.
pub(crate) const GOSSIP_PORT: u16 = 7946;

/// The port that origins listen on.
pub(crate) const ORIGIN_PORT: u16 = 8080;

/// The agents' addresses.
pub(crate) const AGENT_NET: &str = "10.77.0.0/16";

/// The origins' addresses.
pub(crate) const ORIGIN_NET: &str = "10.80.0.0/16";

/// The gateway that every agent's namespace has, and its hardware address.
const GATEWAY: &str = "169.254.1.1";
const GATEWAY_MAC: &str = "02:00:00:00:00:01";

/// The wire between hub and origins.
const HUB_TO_ORIGINS: &str = "10.79.0.1";
const ORIGINS_TO_HUB: &str = "10.79.0.2";

/// Addresses per last byte: 1 to 250.
const PER_BLOCK: usize = 250;

/// The namespaces of one run.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    id: String,
    layout: Layout,
}

/// The address of an agent.
pub(crate) fn agent_address(agent: usize) -> Ipv4Addr {
    Ipv4Addr::new(
        10,
        77,
        (agent / PER_BLOCK) as u8,
        (agent % PER_BLOCK + 1) as u8,
    )
}

/// The address of an origin.
pub(crate) fn origin_address(origin: usize) -> Ipv4Addr {
    Ipv4Addr::new(
        10,
        80,
        (origin / PER_BLOCK) as u8,
        (origin % PER_BLOCK + 1) as u8,
    )
}

/// Which agent has this address.
pub(crate) fn agent_of(address: Ipv4Addr) -> Option<usize> {
    index_of(address, 77)
}

/// Which origin has this address.
pub(crate) fn origin_of(address: Ipv4Addr) -> Option<usize> {
    index_of(address, 80)
}

fn index_of(address: Ipv4Addr, net: u8) -> Option<usize> {
    let [ten, second, block, place] = address.octets();
    let ours = ten == 10 && second == net && (1..=PER_BLOCK).contains(&usize::from(place));
    ours.then(|| usize::from(block) * PER_BLOCK + usize::from(place) - 1)
}

impl Net {
    /// Makes the namespaces for so many agents. `id` names the run.
    ///
    /// # Errors
    /// Not root, or the kernel refuses.
    pub(crate) fn make(id: &str, layout: Layout, agents: usize) -> Result<Self> {
        let net = Self {
            id: id.to_owned(),
            layout,
        };
        net.make_core()?;
        match layout {
            Layout::Shared => net.add_addresses(agents)?,
            Layout::Apart => (0..agents).try_for_each(|agent| net.add_agent(agent))?,
        }
        Ok(net)
    }

    /// The namespace whose packets are counted and lost: the agents' own in
    /// layout "shared", the hub in layout "apart".
    pub(crate) fn hub(&self) -> String {
        format!("{}-hub", self.id)
    }

    /// The origins' namespace.
    pub(crate) fn origins(&self) -> String {
        format!("{}-org", self.id)
    }

    /// The namespace of an agent.
    pub(crate) fn agent(&self, agent: usize) -> String {
        match self.layout {
            Layout::Shared => self.hub(),
            Layout::Apart => format!("{}-a{agent}", self.id),
        }
    }

    /// How the namespaces lie.
    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    fn make_core(&self) -> Result<()> {
        let (hub, origins) = (self.hub(), self.origins());
        shell::run(&["ip", "netns", "add", &hub])?;
        shell::run(&["ip", "netns", "add", &origins])?;
        batch(
            &hub,
            &format!(
                "link set lo up\n\
                 link add org type veth peer name hub netns {origins}\n\
                 addr add {HUB_TO_ORIGINS}/30 dev org\n\
                 link set org up\n\
                 route add {ORIGIN_NET} via {ORIGINS_TO_HUB}\n"
            ),
        )?;
        batch(
            &origins,
            &format!(
                "link set lo up\n\
                 addr add {ORIGINS_TO_HUB}/30 dev hub\n\
                 link set hub up\n\
                 route add {AGENT_NET} via {HUB_TO_ORIGINS}\n\
                 route add local {ORIGIN_NET} dev lo\n"
            ),
        )?;
        // A queue of connections that a mass event fills is the lab's fault,
        // not an origin's.
        let settings = "sysctl -qw net.ipv4.ip_forward=1 net.core.somaxconn=16384 \
                        net.ipv4.tcp_max_syn_backlog=16384 net.ipv4.tcp_tw_reuse=1";
        for name in [&hub, &origins] {
            shell::run(&["ip", "netns", "exec", name, "sh", "-c", settings])?;
        }
        Ok(())
    }

    fn add_addresses(&self, agents: usize) -> Result<()> {
        let lines = (0..agents).fold(String::new(), |mut lines, agent| {
            let _ = writeln!(lines, "addr add {}/32 dev lo", agent_address(agent));
            lines
        });
        batch(&self.hub(), &lines)
    }

    fn add_agent(&self, agent: usize) -> Result<()> {
        let name = self.agent(agent);
        let address = agent_address(agent);
        let mac = format!("02:00:00:01:{:02x}:{:02x}", agent >> 8, agent & 0xff);
        shell::run(&["ip", "netns", "add", &name])?;
        batch(
            &self.hub(),
            &format!(
                "link add a{agent} address {GATEWAY_MAC} type veth \
                 peer name eth0 netns {name} address {mac}\n\
                 link set a{agent} up\n\
                 route add {address} dev a{agent}\n\
                 neigh add {address} lladdr {mac} dev a{agent} nud permanent\n"
            ),
        )?;
        batch(
            &name,
            &format!(
                "link set lo up\n\
                 addr add {address}/32 dev eth0\n\
                 link set eth0 up\n\
                 neigh add {GATEWAY} lladdr {GATEWAY_MAC} dev eth0 nud permanent\n\
                 route add {GATEWAY} dev eth0\n\
                 route add default via {GATEWAY} dev eth0 src {address}\n"
            ),
        )
    }

    /// What a packet to or from the origins meets at their router from now on.
    ///
    /// # Errors
    /// There is no nftables here.
    pub(crate) fn uplink(&self, how: Uplink) -> Result<()> {
        let (inwards, outwards) = match how {
            Uplink::Alive => ("", ""),
            Uplink::Dead => ("iifname hub drop", "oifname hub drop"),
            Uplink::Unreachable => ("iifname hub reject with icmp net-unreachable", ""),
            Uplink::Lossy => (
                "iifname hub numgen random mod 100 < 30 drop",
                "oifname hub numgen random mod 100 < 30 drop",
            ),
        };
        let rules = format!(
            "table ip uplink\n\
             delete table ip uplink\n\
             table ip uplink {{\n\
             chain inwards {{ type filter hook input priority 0; {inwards}\n}}\n\
             chain outwards {{ type filter hook output priority 0; {outwards}\n}}\n}}\n"
        );
        let origins = self.origins();
        let nft = ["ip", "netns", "exec", &origins, "nft", "-f", "-"];
        shell::feed(&nft, &rules).map(|_| ())
    }

    /// Removes the namespaces of a run, whatever is left of them.
    pub(crate) fn remove(id: &str) {
        for name in names(id) {
            // What is gone already needs no removing.
            let _ = shell::run(&["ip", "netns", "del", &name]);
        }
    }
}

/// The namespaces of a run that are there.
fn names(id: &str) -> Vec<String> {
    all_names()
        .into_iter()
        .filter(|name| {
            name.strip_prefix(id)
                .is_some_and(|rest| rest.starts_with('-'))
        })
        .collect()
}

/// The namespaces of all labs.
pub(crate) fn all_names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}

/// A command that runs in a namespace, and dies with the thread that starts it.
/// (`ip netns exec` would mount a /sys for each; 168 of those are felt.)
pub(crate) fn inside(namespace: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(["setpriv", "--pdeathsig", "KILL"]);
    command
}

/// Runs `ip` commands in a namespace.
pub(crate) fn batch(namespace: &str, lines: &str) -> Result<()> {
    shell::feed(&["ip", "-n", namespace, "-batch", "-"], lines).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_one_agent_or_origin() {
        for index in [0, 1, 249, 250, 5_000, 59_999] {
            assert_eq!(origin_of(origin_address(index)), Some(index));
        }
        for index in [0, 167, 250, 999] {
            assert_eq!(agent_of(agent_address(index)), Some(index));
        }
        assert_eq!(agent_of(origin_address(3)), None);
        assert_eq!(origin_of(Ipv4Addr::new(10, 80, 0, 0)), None);
    }
}
