//! Packets as nftables counts them at the farm's port: not what a prober says of
//! itself.

use std::error::Error;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Counts, in this network namespace, until it is dropped.
pub(super) struct Packets;

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// SYNs to the farm.
    pub(super) connections: u64,
    /// All packets to the farm.
    pub(super) to_farm: u64,
    /// All packets from it.
    pub(super) from_farm: u64,
}

impl Packets {
    /// Begins to count at this port.
    ///
    /// # Errors
    ///
    /// nftables are not there, or not for us.
    pub(super) fn count(port: u16) -> Result<Self, Box<dyn Error>> {
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start nft ({error}); install nftables"))?;
        let rules = format!(
            "table inet {TABLE} {{\n counter connections {{ }}\n counter to_farm {{ }}\n \
             counter from_farm {{ }}\n chain input {{\n \
             type filter hook input priority 0;\n \
             tcp dport {port} tcp flags syn / syn,ack counter name connections\n \
             tcp dport {port} counter name to_farm\n \
             tcp sport {port} counter name from_farm\n }}\n}}\n"
        );
        if let Some(mut input) = nft.stdin.take() {
            input.write_all(rules.as_bytes())?;
        }
        if nft.wait()?.success() {
            Ok(Self)
        } else {
            Err("nft took no counters".into())
        }
    }

    /// What was counted so far.
    pub(super) fn read(&self) -> Result<Counted, Box<dyn Error>> {
        let output = Command::new("nft")
            .args(["-j", "list", "counters", "table", "inet", TABLE])
            .output()?;
        counted(&serde_json::from_slice(&output.stdout)?).ok_or_else(|| "nft lists less".into())
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        // It goes with the namespace anyway.
        let _ = Command::new("nft")
            .args(["delete", "table", "inet", TABLE])
            .status();
    }
}

const TABLE: &str = "watchfire_bench";

fn counted(listed: &Value) -> Option<Counted> {
    let counter = |name: &str| {
        let all = listed.get("nftables")?.as_array()?;
        let mut counters = all.iter().filter_map(|it| it.get("counter"));
        counters.find(|it| it["name"] == name)?["packets"].as_u64()
    };
    Some(Counted {
        connections: counter("connections")?,
        to_farm: counter("to_farm")?,
        from_farm: counter("from_farm")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_apart() {
        let listed = serde_json::json!({"nftables": [
            {"metainfo": {}},
            {"counter": {"name": "to_farm", "packets": 3, "bytes": 9}},
            {"counter": {"name": "connections", "packets": 1, "bytes": 9}},
            {"counter": {"name": "from_farm", "packets": 2, "bytes": 9}},
        ]});
        let wanted = Counted {
            connections: 1,
            to_farm: 3,
            from_farm: 2,
        };
        assert_eq!(counted(&listed), Some(wanted));
        assert_eq!(counted(&serde_json::json!({})), None);
    }
}
