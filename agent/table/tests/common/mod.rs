//! What the tests of the table share.
#![allow(dead_code)] // Each test file uses its part.

use tempfile::TempDir;
use watchfire_table::{Entry, Flags, TableVerdict, WriterOptions};
use watchfire_wire::{Actor, NodeId};

/// A folder in memory, removed at the end.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("watchfire-table-")
        .tempdir_in("/dev/shm")
        .expect("a folder on the tmpfs that every Linux has")
}

/// A writer for so many names.
pub(crate) fn options(capacity: usize) -> WriterOptions {
    let actor = Actor {
        node: NodeId::of_name("n1"),
        epoch: 1,
        boot: 2,
    };
    WriterOptions {
        capacity,
        ..WriterOptions::new(actor, "n1")
    }
}

/// An entry all of whose fields follow from one number.
pub(crate) fn entry(n: u64) -> Entry {
    let verdicts = [
        TableVerdict::Unknown,
        TableVerdict::Up,
        TableVerdict::Down,
        TableVerdict::Draining,
    ];
    Entry {
        verdict: verdicts[(n % 4) as usize],
        flags: Flags((n % 8) as u8),
        reason: (n % 251) as u8,
        since_ms: n & ((1 << 48) - 1),
        latency_us: (n as u32).wrapping_mul(2_654_435_761),
        owner: None,
    }
}

/// Whether an entry is one that [`entry`] makes; a torn one is not.
pub(crate) fn is_whole(found: &Entry) -> bool {
    let expected = entry(found.since_ms);
    Entry {
        owner: None,
        ..*found
    } == expected
}

/// Numbers that look random, from a seed: xorshift64*.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// A count from the environment, for longer runs by hand.
pub(crate) fn count(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a count is a whole number"),
        Err(_) => otherwise,
    }
}
