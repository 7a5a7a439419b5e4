//! Probing without IO: check definitions, exchanges as state machines, health
//! and schedule. Nothing here opens a socket or reads a clock.

#![forbid(unsafe_code)]

pub mod check;
pub mod errno;
pub mod health;
pub mod limits;
pub mod schedule;
pub mod status;
pub mod wheel;

pub use check::{CheckSpec, HealthRule, HttpSpec, Kind, Method, SpecError, TlsSpec};
pub use health::{Health, Transition};
pub use schedule::Schedule;
pub use status::{StatusSet, StatusSetError};
