//! Packets: counted per agent, and lost on purpose, by nftables.
//!
//! The rules see gossip between agents only. In layout "shared" they hang on
//! the input hook, since a packet that is dropped on the way out is an error to
//! its sender, which no real network gives.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::net::{self, AGENT_NET, Net};
use crate::scenario::{Layout, Way};
use crate::shell;

/// The device that a relay sits behind: what goes into it was sent, what comes
/// out of it arrives.
pub(crate) const RELAY: &str = "relay";

/// The nftables table.
const TABLE: &str = "inet lab";

/// What one agent sent and received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Gossip datagrams sent.
    pub(crate) udp_out: Count,
    /// Gossip datagrams that arrived.
    pub(crate) udp_in: Count,
    /// Bulk segments sent.
    pub(crate) tcp_out: Count,
    /// Bulk segments that arrived.
    pub(crate) tcp_in: Count,
}

/// Packets and their bytes, IP headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Packets.
    pub(crate) packets: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

impl Count {
    /// What was added since.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

impl Traffic {
    /// What was added since.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self {
            udp_out: self.udp_out.since(earlier.udp_out),
            udp_in: self.udp_in.since(earlier.udp_in),
            tcp_out: self.tcp_out.since(earlier.tcp_out),
            tcp_in: self.tcp_in.since(earlier.tcp_in),
        }
    }
}

/// The rules of one run.
#[derive(Clone, Debug)]
pub(crate) struct Packets {
    namespace: String,
    agents: usize,
}

impl Packets {
    /// Sets the rules.
    ///
    /// # Errors
    /// nftables is missing or refuses.
    pub(crate) fn start(net: &Net, agents: usize) -> Result<Self> {
        let packets = Self {
            namespace: net.hub(),
            agents,
        };
        packets.apply(&rules(net.layout(), agents))?;
        Ok(packets)
    }

    /// What every agent sent and received so far.
    pub(crate) fn read(&self) -> Result<Vec<Traffic>> {
        let net = format!("--net=/run/netns/{}", self.namespace);
        let text = shell::run(&["nsenter", &net, "nft", "-j", "list", "table", "inet", "lab"])?;
        parse(&text, self.agents)
    }

    /// Drops everything from and to an agent: its machine is dead, and nobody
    /// answers in its stead that the port is closed.
    pub(crate) fn silence(&self, agent: usize) -> Result<()> {
        let address = net::agent_address(agent);
        self.apply(&format!("add element {TABLE} dead {{ {address} }}\n"))
    }

    /// Lets an agent be heard again.
    pub(crate) fn unsilence(&self, agent: usize) -> Result<()> {
        let address = net::agent_address(agent);
        // Adding first: what is not in a set cannot be deleted.
        self.apply(&format!(
            "add element {TABLE} dead {{ {address} }}\ndelete element {TABLE} dead {{ {address} }}\n"
        ))
    }

    /// Drops so many of a hundred gossip packets; 0 drops none.
    pub(crate) fn lose(&self, percent: f64) -> Result<()> {
        let per_thousand = (percent * 10.0).round() as u32;
        let mut text = format!("flush chain {TABLE} loss\n");
        if per_thousand > 0 {
            let _ = writeln!(
                text,
                "add rule {TABLE} loss numgen random mod 1000 < {per_thousand} drop"
            );
        }
        self.apply(&text)
    }

    /// Cuts agents off from all others.
    pub(crate) fn cut(&self, agents: &[usize], way: Way) -> Result<()> {
        let mut text = format!("flush chain {TABLE} cut\nflush set {TABLE} side\n");
        let list: Vec<String> = agents
            .iter()
            .map(|&agent| net::agent_address(agent).to_string())
            .collect();
        if !list.is_empty() {
            let _ = writeln!(text, "add element {TABLE} side {{ {} }}", list.join(", "));
            if way != Way::In {
                let _ = writeln!(
                    text,
                    "add rule {TABLE} cut ip saddr @side ip daddr != @side drop"
                );
            }
            if way != Way::Out {
                let _ = writeln!(
                    text,
                    "add rule {TABLE} cut ip saddr != @side ip daddr @side drop"
                );
            }
        }
        self.apply(&text)
    }

    fn apply(&self, rules: &str) -> Result<()> {
        let net = format!("--net=/run/netns/{}", self.namespace);
        shell::feed(&["nsenter", &net, "nft", "-f", "-"], rules).map(|_| ())
    }
}

/// The whole table.
fn rules(layout: Layout, agents: usize) -> String {
    let addresses: Vec<String> = (0..agents)
        .map(|agent| net::agent_address(agent).to_string())
        .collect();
    let addresses = addresses.join(", ");
    let mut text = format!("table {TABLE} {{\n");
    for set in ["udp_out", "udp_in", "tcp_out", "tcp_in"] {
        let _ = writeln!(
            text,
            "set {set} {{ type ipv4_addr; counter; elements = {{ {addresses} }}; }}"
        );
    }
    let (hook, sent, arrives) = match layout {
        Layout::Shared => ("input", String::new(), String::new()),
        Layout::Apart => (
            "forward",
            format!("iifname != \"{RELAY}\" "),
            format!("oifname != \"{RELAY}\" "),
        ),
    };
    let between = format!("ip saddr {AGENT_NET} ip daddr {AGENT_NET}");
    let _ = write!(
        text,
        "set dead {{ type ipv4_addr; }}\n\
         set side {{ type ipv4_addr; }}\n\
         chain loss {{\n}}\n\
         chain cut {{\n}}\n\
         chain sent {{\n\
         ip saddr @dead drop\n\
         meta l4proto udp ip saddr @udp_out\n\
         meta l4proto tcp ip saddr @tcp_out\n\
         jump cut\n\
         jump loss\n\
         }}\n\
         chain arrives {{\n\
         ip daddr @dead drop\n\
         meta l4proto udp ip daddr @udp_in\n\
         meta l4proto tcp ip daddr @tcp_in\n\
         }}\n\
         chain watch {{\n\
         type filter hook {hook} priority 0; policy accept;\n\
         {sent}{between} jump sent\n\
         {arrives}{between} jump arrives\n\
         }}\n}}\n"
    );
    text
}

/// Reads what `nft -j list table` says of the counted sets.
fn parse(text: &str, agents: usize) -> Result<Vec<Traffic>> {
    let answer: Value = serde_json::from_str(text).context("nft's answer is no JSON")?;
    let objects = answer["nftables"]
        .as_array()
        .context("nft named no objects")?;
    let mut sets: BTreeMap<&str, &Value> = BTreeMap::new();
    for object in objects {
        if let Some(name) = object["set"]["name"].as_str() {
            sets.insert(name, &object["set"]["elem"]);
        }
    }
    let mut traffic = vec![Traffic::default(); agents];
    for (name, elements) in sets {
        for element in elements.as_array().into_iter().flatten() {
            let element = &element["elem"];
            let Some(agent) = element["val"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .and_then(net::agent_of)
                .filter(|&agent| agent < agents)
            else {
                continue;
            };
            let counter = &element["counter"];
            let count = Count {
                packets: counter["packets"].as_u64().unwrap_or(0),
                bytes: counter["bytes"].as_u64().unwrap_or(0),
            };
            let of = &mut traffic[agent];
            match name {
                "udp_out" => of.udp_out = count,
                "udp_in" => of.udp_in = count,
                "tcp_out" => of.tcp_out = count,
                "tcp_in" => of.tcp_in = count,
                _ => {}
            }
        }
    }
    Ok(traffic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_address() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"set": {"name": "udp_out", "elem": [
            {"elem": {"val": "10.77.0.2", "counter": {"packets": 6, "bytes": 228}}},
            {"elem": {"val": "10.1.1.1", "counter": {"packets": 1, "bytes": 1}}}]}},
            {"set": {"name": "dead"}}]}"#;
        let read = parse(text, 3).unwrap();
        assert_eq!(
            read[1].udp_out,
            Count {
                packets: 6,
                bytes: 228
            }
        );
        assert_eq!(read[0], Traffic::default());
    }

    #[test]
    fn an_answer_that_is_no_table_is_an_error() {
        assert!(parse("{}", 1).is_err());
    }
}
