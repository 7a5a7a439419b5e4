//! Probe threads: they run the engine of `watchfire-probe-core` on io_uring or
//! epoll.
//!
//! A [`Prober`] owns the threads; checks go in, reports come out, and nothing
//! in between waits for anybody. [`once`] probes a single time, [`bench()`]
//! measures.

#![allow(
    unsafe_code,
    reason = "io_uring and socket options take pointers; every block names its invariant"
)]

mod ability;
mod bench;
mod clock;
mod driver;
mod error;
#[doc(hidden)]
pub mod floor;
mod limits;
mod mailbox;
mod once;
mod options;
mod paces;
mod prober;
mod start;
mod statistics;
mod tls_roots;
mod tls_session;
mod wake;
mod worker;

pub use ability::{Ability, Lack};
pub use bench::{BenchError, BenchOptions, BenchProgress, BenchRate, BenchResult, bench};
pub use clock::{is_synchronised, now};
pub use error::{StartError, UringError};
pub use limits::FILES_BESIDE;
pub use once::{OnceReport, once};
pub use options::{Backend, Options, OptionsError, THREADS_MAX, UnknownBackend};
pub use prober::Prober;
pub use statistics::{Ailment, Statistics};
pub use tls_roots::Trust;
pub use watchfire_probe_core::engine::{Inherited, Report, ReportKind};
pub use watchfire_probe_core::trace::{Answer, Past, Traced};
pub use watchfire_probe_core::{CheckSpec, KIND_KEYS, Kind, Outcome, Phases, Stats, Tenant};
