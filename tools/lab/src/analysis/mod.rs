//! Pure functions over what was written down: no file, no clock, no process.

pub(crate) mod lines;
pub(crate) mod probes;
pub(crate) mod span;
pub(crate) mod stats;
