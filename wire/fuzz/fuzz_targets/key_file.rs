//! Any text is a ring of keys or an error that names the line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfire_wire::keys::KeyRing;
use watchfire_wire::limits::KEYS;

fuzz_target!(|text: &str| {
    match KeyRing::parse(text) {
        Ok(ring) => assert!((1..=KEYS).contains(&ring.ids().count())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
