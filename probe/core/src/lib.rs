//! Probing without IO: check definitions, exchanges as state machines, health
//! and schedule. Nothing here opens a socket or reads a clock.

#![forbid(unsafe_code)]

pub mod check;
pub mod engine;
pub mod errno;
pub mod health;
pub mod http1;
pub mod limits;
pub mod outcome;
pub mod rate;
mod request;
pub mod schedule;
pub mod sickness;
pub mod stats;
pub mod status;
pub mod tls;
pub mod wheel;

pub use check::{CheckSpec, HealthRule, HttpSpec, Kind, Method, SpecError, TlsSpec};
pub use engine::Engine;
pub use health::{Health, Transition};
pub use outcome::{Outcome, Phases};
pub use schedule::Schedule;
pub use stats::Stats;
pub use status::{StatusSet, StatusSetError};
