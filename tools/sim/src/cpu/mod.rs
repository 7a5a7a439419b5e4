//! Processors in virtual time: work waits until its node's processor is free,
//! costs what was measured, and may share the processor with other nodes.
//!
//! A node has two threads, as in production: one for gossip and one for
//! probes. A [machine] runs threads in slices; the gossip thread
//! works off its inputs in the order of a [turn]; the probe
//! thread runs the production engine over simulated sockets. What
//! work costs is read from one [file](costs).

pub mod costs;
mod gossip;
pub mod machine;
mod probes;
pub mod socket;
pub mod turn;

pub use costs::{BadCosts, Costs};
pub(crate) use gossip::{Command, Threads, gossip_of, probes_of};
pub use machine::Cores;
pub(crate) use machine::{Machines, Task};
pub(crate) use probes::{Command as ProbeCommand, Probes, SocketEvent, origin_addr};

/// How a run's processors are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuOptions {
    /// Who shares which.
    pub cores: Cores,
    /// What work costs.
    pub costs: Costs,
    /// What comes first in a turn of the gossip thread.
    pub order: turn::Order,
}

impl CpuOptions {
    /// Such cores, with the costs that the simulator comes with.
    #[must_use]
    pub fn of(cores: Cores) -> Self {
        Self {
            cores,
            costs: Costs::default(),
            order: turn::Order::default(),
        }
    }
}
