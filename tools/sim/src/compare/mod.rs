//! Watchfire's membership beside that of others, in one network.

pub mod foca;
pub mod memberlist;
mod memberlist_queue;
pub mod net;
pub mod scenario;
