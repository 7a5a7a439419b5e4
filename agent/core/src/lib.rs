//! The POP core: membership, replication, ownership, and the node that
//! composes them. No socket, no clock, no thread, no global randomness: time
//! comes in as an argument and effects go out as values, so the same code runs
//! in the agent and in the simulator.

#![forbid(unsafe_code)]

pub mod budget;
pub mod counters;
pub mod gate;
pub mod holdings;
pub mod io;
pub mod limits;
pub mod look;
pub mod mutations;
pub mod node;
pub mod overrides;
pub mod ownership;
mod rate;
mod replay;
pub mod replica;
pub mod rng;
mod rtt;
pub mod swim;
