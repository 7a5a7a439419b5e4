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
        flags: Flags((n % 16) as u8),
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

/// The bytes of a small table with short and long names, removed ones and
/// owners.
pub(crate) fn small_table(folder: &std::path::Path) -> Vec<u8> {
    let path = folder.join("table");
    let mut writer =
        watchfire_table::Writer::open(&path, &options(64), 1).expect("the folder is writable");
    for n in 0..60_u64 {
        let name = format!("origin-{n}{}", "-long".repeat((n % 5 * 9) as usize));
        let written = Entry {
            owner: Some(NodeId(n % 3 + 1)),
            ..entry(n)
        };
        writer.set(name.as_bytes(), &written).expect("it fits");
        if n.is_multiple_of(7) {
            writer.remove(name.as_bytes());
        }
    }
    drop(writer);
    std::fs::read(path).expect("it was written")
}

/// A damaged copy: some words overwritten with numbers that hurt, mostly where
/// names and values lie; sometimes a whole region, sometimes the header with
/// its checksum made right again, sometimes noise altogether.
pub(crate) fn mangle(good: &[u8], random: &mut Random) -> Vec<u8> {
    use watchfire_table::layout;
    const SLOTS: u64 = 86_016;
    let mut bytes = good.to_vec();
    let words = (bytes.len() / 8) as u64;
    let hurtful = |random: &mut Random| match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => random.below(1 << 17),
        3 => random.below(1 << 20) << 32 | random.below(300),
        4 => 1 << random.below(64),
        _ => random.next(),
    };
    match random.below(20) {
        0 => bytes
            .iter_mut()
            .for_each(|byte| *byte = random.next() as u8),
        1 => bytes.truncate(random.below(good.len() as u64) as usize),
        2 => {
            let from = random.below(words) as usize * 8;
            let to = (from + random.below(8_192) as usize).min(bytes.len());
            let fill = random.next() as u8;
            bytes[from..to].fill(fill);
        }
        _ => {
            for _ in 0..=random.below(40) {
                let first = if random.below(4) == 0 { 64 } else { SLOTS / 8 };
                let at = (first + random.below(words - first)) as usize * 8;
                bytes[at..at + 8].copy_from_slice(&hurtful(random).to_le_bytes());
            }
        }
    }
    if random.below(8) == 0 && bytes.len() >= 64 {
        let at = random.below(7) as usize * 8;
        bytes[at..at + 8].copy_from_slice(&hurtful(random).to_le_bytes());
        let checksum = layout::hash_name(0, &bytes[..56]);
        bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// A time at which [`rule_table`] is fresh, and one at which it is stale.
pub(crate) const RULE_FRESH_NS: u64 = 2_000;
pub(crate) const RULE_STALE_NS: u64 = 1 << 60;

/// The table that `rule.txt` speaks of.
pub(crate) fn rule_table(path: &std::path::Path) {
    use watchfire_table::TableVerdict::{Down, Draining, Unknown, Up};
    let mut writer =
        watchfire_table::Writer::open(path, &options(64), 1_000).expect("the folder is writable");
    for (name, verdict, flags) in [
        ("up", Up, Flags::NONE),
        ("down", Down, Flags::NONE),
        ("draining", Draining, Flags::NONE),
        ("unknown", Unknown, Flags::NONE),
        ("degraded", Up, Flags::DEGRADED),
        ("forced-up", Up, Flags::FORCED | Flags::DEGRADED),
        ("forced-down", Down, Flags::FORCED),
        ("frozen-down", Down, Flags::FROZEN),
        ("carried-down", Down, Flags::CARRIED),
        ("frozen-degraded", Up, Flags::FROZEN | Flags::DEGRADED),
    ] {
        let entry = Entry {
            verdict,
            flags,
            ..Entry::default()
        };
        writer.set(name.as_bytes(), &entry).expect("it fits");
    }
}

/// The cases of `rule.txt`, a line each.
pub(crate) fn rule_cases() -> impl Iterator<Item = &'static str> {
    include_str!("../rule.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}
