//! The shared-memory table: what the proxy reads.
//!
//! One agent writes it, any process on the server reads it: origin name →
//! verdict. A lookup takes no lock, makes no system call, reads no clock and
//! is never torn; the writer may die at any instruction. The layout is
//! documented byte by byte in LAYOUT.md; `include/watchfire.h` is the same
//! table for C.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use watchfire_table::{Reader, Usage, WhenStale};
//!
//! let table = Reader::open("/run/watchfire/table".as_ref())?;
//! let now_ns = watchfire_table::monotonic_ns();
//! if table.usage(b"origin-7", now_ns, WhenStale::Static) == Usage::DoNotUse {
//!     // Send the request elsewhere.
//! }
//! # Ok(()) }
//! ```
//!
//! | module | idea |
//! | --- | --- |
//! | [`layout`] | where everything lies |
//! | [`twin`] | two copies and a counter: the entry protocol |
//! | [`entry`] | what is said of one origin |
//! | [`view`], [`verify`] | reading words as a table |
//! | `content`, [`writer`] | writing one file; growing and moving |
//! | [`home`], [`mod@file`], `mapping` | where tables live |
//! | [`notice`] | what the writer mended, for the log |
//! | [`pop_state`] | how the POP is, for people |
//! | [`rule`] | what it all means for a request |
//! | [`reader`] | the proxy's handle |
//! | [`answer`] | the answer in C's shape; C's functions are in `c/` |
//! | [`agentcheck`] | HAProxy's agent-check |

// This crate shares memory between processes, which cannot be said in safe
// Rust. Each block names the invariant that makes it sound.
#![allow(unsafe_code)]

pub mod sync;
pub mod twin;

// The model checker runs the entry protocol alone: its atomics live nowhere
// but on its own heap.
#[cfg(not(loom))]
pub mod agentcheck;
#[cfg(not(loom))]
pub mod answer;
#[cfg(not(loom))]
mod content;
#[cfg(not(loom))]
pub mod entry;
#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
pub mod file;
#[cfg(not(loom))]
pub mod home;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
pub mod limits;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
pub mod notice;
#[cfg(not(loom))]
pub mod pop_state;
#[cfg(not(loom))]
pub mod reader;
#[cfg(not(loom))]
pub mod rule;
#[cfg(not(loom))]
pub mod verify;
#[cfg(not(loom))]
pub mod view;
#[cfg(not(loom))]
pub mod writer;

#[cfg(not(loom))]
pub use self::{
    entry::{Entry, Flags, TableVerdict},
    error::TableError,
    file::FileHome,
    home::{HeapHome, HeapReader, Home},
    notice::Notice,
    pop_state::{Condition, PopState},
    reader::{Cursor, Moved, Reader},
    rule::{PoolRule, Usage, WhenStale},
    verify::{Stat, Verification},
    view::{Freshness, Lookup, View},
    writer::{Writer, WriterOptions},
};

/// Now, nanoseconds on `CLOCK_MONOTONIC`: what callers pass to the functions
/// that want the time. Nothing in this crate calls it.
#[cfg(not(loom))]
#[must_use]
pub fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
    })
}
