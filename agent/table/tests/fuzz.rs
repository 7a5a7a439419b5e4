//! Arbitrary bytes in place of a table: no panic, no hang, no read out of
//! bounds. The words lie on the heap, and everything that reads them is safe
//! code, so a read out of bounds would be a panic.

mod common;

use std::time::{Duration, Instant};

use common::{Random, count, folder, mangle, small_table};
use watchfire_table::View;
use watchfire_table::layout::LayoutError;
use watchfire_table::limits::{NAME_BYTES, PROBLEMS};
use watchfire_table::sync::AtomicU64;

/// Reads everything that can be read; what opening said.
fn read_everything(bytes: &[u8]) -> Result<(), LayoutError> {
    let words: Vec<AtomicU64> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|&word| AtomicU64::new(u64::from_le_bytes(word)))
        .collect();
    let view = View::new(&words)?;
    let mut name = [0; NAME_BYTES];
    for slot in 0..=view.slot_count() {
        if let Some((length, entry)) = view.entry_at(slot, &mut name) {
            let _ = view.get(&name[..length], 1);
            let mut owner_name = [0; 64];
            if let Some(owner) = entry.owner {
                let _ = view.owner_name(owner, &mut owner_name);
            }
        }
    }
    for n in 0..60 {
        let name = format!("origin-{n}{}", "-long".repeat(n % 5 * 9));
        let _ = view.get(name.as_bytes(), 1);
        let _ = view.get_hashed(n as u64, name.as_bytes(), u64::MAX);
    }
    assert!(view.entries().len() <= view.slot_count());
    assert!(view.verify().problems.len() <= PROBLEMS);
    let _ = (view.stat(1), view.freshness(0), view.moved());
    Ok(())
}

#[test]
fn a_reader_survives_any_bytes() {
    let files = count("WATCHFIRE_FUZZ_FILES", 3_000);
    let folder = folder();
    let good = small_table(folder.path());
    assert_eq!(read_everything(&good), Ok(()));
    let mut random = Random(0xfeed_f00d);
    let mut opened = 0;
    let mut longest = Duration::ZERO;
    for _ in 0..files {
        let bytes = mangle(&good, &mut random);
        let start = Instant::now();
        opened += u64::from(read_everything(&bytes).is_ok());
        longest = longest.max(start.elapsed());
    }
    println!("{opened} of {files} opened; the longest took {longest:?}");
    assert!(
        opened * 2 > files,
        "most of the damage must get past the header"
    );
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

#[test]
fn sizes_that_contradict_are_refused_with_any_checksum() {
    let folder = folder();
    let good = small_table(folder.path());
    let mut random = Random(99);
    // All but the seed, which may be anything.
    for field in [2, 4, 5] {
        for _ in 0..500 {
            let mut bytes = good.clone();
            let at = field * 8;
            let wild = match random.below(3) {
                0 => random.next(),
                1 => random.below(1 << 20),
                _ => u64::MAX - random.below(4_096),
            };
            if bytes[at..at + 8] == wild.to_le_bytes() {
                continue;
            }
            bytes[at..at + 8].copy_from_slice(&wild.to_le_bytes());
            let checksum = watchfire_table::layout::hash_name(0, &bytes[..56]);
            bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
            assert!(matches!(
                read_everything(&bytes),
                Err(LayoutError::Corrupt(_))
            ));
        }
    }
}
