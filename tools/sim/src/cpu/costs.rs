//! What work costs, read from one file.

use serde::{Deserialize, Serialize};

/// The costs that the simulator comes with.
const SHIPPED: &str = include_str!("../../costs.toml");

/// Nanoseconds of CPU.
pub type Nanos = u64;

/// All costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Of the gossip thread.
    pub gossip: GossipCosts,
    /// Of the probe thread.
    pub probe: ProbeCosts,
    /// How processors and sockets are.
    pub machine: MachineCosts,
}

/// Of the gossip thread. The file says what each one is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the file that is read explains each value")]
pub struct GossipCosts {
    pub send_us: f64,
    pub seal_us: f64,
    pub open_us: f64,
    pub crypt_ns_per_byte: f64,
    pub receive_us: f64,
    pub handle_us: f64,
    pub turn_us: f64,
    pub wake_us: f64,
    pub pull_answered_us: f64,
    pub member_us: f64,
    pub rank_ns_per_check: f64,
    pub slot_taken_us: f64,
    pub table_write_us: f64,
    pub log_us: f64,
    pub stream_open_us: f64,
    pub stream_frame_us: f64,
    pub configure_us: f64,
    pub heartbeat_us: f64,
}

/// Of the probe thread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the file that is read explains each value")]
pub struct ProbeCosts {
    pub start_us: f64,
    pub event_us: f64,
    pub turn_us: f64,
    pub wake_us: f64,
}

/// Of the machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the file that is read explains each value")]
pub struct MachineCosts {
    pub start_us: f64,
    pub slice_us: u64,
    pub shared_times: f64,
    pub socket_bytes: usize,
    pub datagram_overhead_bytes: usize,
}

/// Why a file of costs was not taken.
#[derive(Debug, thiserror::Error)]
#[error("not a file of costs: {0}\n  help: `watchfire-sim costs` prints one")]
pub struct BadCosts(#[from] toml::de::Error);

impl Costs {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// A value is missing, unknown or of the wrong kind.
    pub fn parse(text: &str) -> Result<Self, BadCosts> {
        Ok(toml::from_str(text)?)
    }
}

impl Default for Costs {
    fn default() -> Self {
        Self::parse(SHIPPED).expect("the file in the tree is tested")
    }
}

/// Microseconds of a cost in nanoseconds.
#[must_use]
pub fn nanos(us: f64) -> Nanos {
    (us * 1e3).round() as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_read_and_a_pair_of_packets_costs_what_was_measured() {
        let gossip = Costs::default().gossip;
        let pair =
            gossip.send_us + gossip.seal_us + gossip.open_us + gossip.receive_us + gossip.handle_us;
        assert!((26.0..38.0).contains(&pair), "{pair}");
        assert!(Costs::parse("[gossip]\nsend_us = 1").is_err());
    }
}
