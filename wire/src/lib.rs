//! What Watchfire's agents say to each other.
//!
//! This crate holds the words that every other room uses (ids, time,
//! verdicts), the limits of the protocol, the sealed frame, and the messages
//! inside it, which are rkyv archives read in place. It owns no clock and no
//! socket.

#![forbid(unsafe_code)]

pub mod addr;
pub mod frame;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod message;
pub mod time;
pub mod verdict;

pub use ids::{Actor, CheckId, NodeId};
pub use time::{First, Time};
pub use verdict::{Reason, Unmeasured, Verdict};
