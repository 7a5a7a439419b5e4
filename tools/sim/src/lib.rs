//! A deterministic simulator over Watchfire's production core.
//!
//! The code that runs in the agent runs here, unchanged, on virtual time, in
//! one thread, from one seed: nodes, their network, their probers and the
//! origins, with faults that are named and counted and invariants that are
//! checked while they happen. It opens no socket and reads no clock.

#![forbid(unsafe_code)]

mod act;
pub mod agent;
mod carry;
pub mod clock;
pub mod compare;
pub mod cpu;
pub mod endure;
pub mod faults;
mod host;
mod liar;
mod life;
pub mod limits;
pub mod load;
pub mod measure;
pub mod mutate;
pub mod net;
pub mod oracle;
pub mod origin;
pub mod plot;
pub mod prober;
mod probing;
pub mod queue;
pub mod report;
pub mod rng;
pub mod run;
pub mod stats;
pub mod storm;
mod stream;
pub mod trace;
pub mod uplink;
pub mod workload;
pub mod world;
