//! Probing without IO: check definitions, exchanges as state machines, health
//! and schedule. Nothing here opens a socket or reads a clock.

#![forbid(unsafe_code)]

pub mod check;
pub mod egress;
pub mod engine;
pub mod errno;
pub mod health;
mod http2;
pub mod keys;
pub mod kind;
pub mod limits;
pub mod outcome;
pub mod pattern;
pub mod policy;
pub mod rate;
pub mod schedule;
pub mod shelf;
pub mod sickness;
pub mod stats;
pub mod stream;
pub mod tape;
pub mod tenant;
pub mod trace;
pub mod wheel;

pub use check::{CheckSpec, HealthRule, HostName, SpecError};
pub use egress::Egress;
pub use engine::Engine;
pub use health::{Health, Transition};
pub use kind::grpc::Spec as GrpcSpec;
pub use kind::h2::Spec as H2Spec;
pub use kind::http::status::{StatusSet, StatusSetError};
pub use kind::http::{Method, Spec as HttpSpec};
pub use kind::tcp::Spec as TcpSpec;
pub use kind::{KIND_KEYS, Kind};
pub use outcome::{Outcome, Phases};
pub use schedule::Schedule;
pub use stats::Stats;
pub use stream::TlsSpec;
pub use stream::proxy::ProxyHeader;
pub use tenant::Tenant;
