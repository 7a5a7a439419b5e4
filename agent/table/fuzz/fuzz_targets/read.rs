//! Arbitrary bytes in place of a table: everything that a reader can do with
//! them. The header is made to fit, or nearly nothing would get past it.
//!
//! `cargo +nightly fuzz run read` in this crate's parent folder.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfire_table::layout::{Geometry, MAGIC, VERSION, WORD, hash_name};
use watchfire_table::limits::{CAPACITY_MIN, NAME_BYTES};
use watchfire_table::sync::AtomicU64;
use watchfire_table::view::View;

fuzz_target!(|input: &[u8]| {
    let geometry = Geometry::for_names(CAPACITY_MIN, 0).expect("the smallest table");
    let mut bytes = vec![0; geometry.words() * WORD];
    let first = geometry.words() - geometry.arena - geometry.slots * 16;
    // The slots and the arena first: that is where the pointers are.
    let (directory, content) = bytes.split_at_mut(first * WORD);
    let cut = input.len().min(content.len());
    content[..cut].copy_from_slice(&input[..cut]);
    let rest = &input[cut..];
    let cut = rest.len().min(directory.len());
    directory[..cut].copy_from_slice(&rest[..cut]);

    let header = [
        u64::from_le_bytes(MAGIC),
        VERSION,
        (geometry.words() * WORD) as u64,
        // Any seed will do.
        7,
        (geometry.arena * WORD) as u64,
        geometry.capacity as u64,
        1,
    ];
    for (to, word) in bytes.chunks_mut(WORD).zip(header) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let checksum = hash_name(0, &bytes[..7 * WORD]);
    bytes[7 * WORD..8 * WORD].copy_from_slice(&checksum.to_le_bytes());

    let words: Vec<AtomicU64> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|&word| AtomicU64::new(u64::from_le_bytes(word)))
        .collect();
    let view = View::new(&words).expect("the header was made to fit");
    let mut name = [0; NAME_BYTES];
    for slot in 0..=view.slot_count() {
        if let Some((length, entry)) = view.entry_at(slot, &mut name) {
            let _ = view.get(&name[..length], 1);
            if let Some(owner) = entry.owner {
                let _ = view.owner_name(owner, &mut [0; 64]);
            }
        }
    }
    let cut = input.len().min(NAME_BYTES);
    let _ = view.get(&input[..cut], 1);
    let _ = (view.verify(), view.stat(1), view.freshness(0));
});
