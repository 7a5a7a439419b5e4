//! Watchfire.

fn main() {}
