//! An origin farm: thousands of origins on loopback addresses, in one process,
//! with faults that change while it runs.
//!
//! It is made to outrun a prober on one core, to misbehave exactly as told,
//! and to keep the log that a prober's own counters are checked against. It
//! never listens beyond the loopback interface, and it is no web server: it
//! answers every request of an origin in the same way.
//!
//! ```
//! use watchfire_origin::{Farm, FarmOptions, Fault};
//!
//! let farm = Farm::start(FarmOptions { count: 10, ..FarmOptions::default() })?;
//! farm.set_fault(0..3, Fault::Status(503))?;
//! assert_eq!(farm.address(9).port(), farm.address(0).port());
//! farm.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod behaviour;
mod command;
mod connection;
mod farm;
mod fault;
mod hits;
mod kernel;
pub mod limits;
mod listen;
mod request;
mod worker;

pub use command::{Command, CommandError, Span};
pub use farm::{Counts, Farm, FarmError, FarmOptions, Kind, Listen};
pub use fault::{Fault, FaultError, Phase};
pub use hits::{Hit, now_us};
pub use kernel::{KernelCounts, raise_open_files};
