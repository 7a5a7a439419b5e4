//! A deterministic simulator over Watchfire's production core.
//!
//! The code that runs in the agent runs here, unchanged, on virtual time, in
//! one thread, from one seed: nodes, their network, their probers and the
//! origins, with faults that are named and counted and invariants that are
//! checked while they happen. It opens no socket and reads no clock.

#![forbid(unsafe_code)]

pub mod compare;
pub mod queue;
pub mod rng;
pub mod stats;
