//! One agent without its sockets, threads, files and clocks: the POP core, the
//! catalogue of what is configured, the publisher that writes the table, and
//! the adapter between the core and the probe engine.
//!
//! The agent's gossip thread and the simulator run the same [`Host`]: what goes
//! in are the core's inputs, the probe engine's reports and changes of the
//! origins; what comes out are [`Effect`]s to be carried out in order. Time is
//! an argument. The table is written in place, wherever its
//! [`Home`](watchfire_table::Home) is.

#![forbid(unsafe_code)]

mod catalogue;
mod certificates;
mod change;
mod effect;
mod host;
mod pop_state;
mod publisher;
pub mod resolve;
mod shown;
mod unwritten;

pub use catalogue::Catalogue;
pub use change::{OriginChange, Origins, Refusal};
pub use effect::{Effect, Probing, Trouble};
pub use host::Host;
pub use publisher::{Publisher, Tally};
