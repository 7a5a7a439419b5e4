//! Bytes from anybody: a frame never opens without its key, and the whole way
//! in never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfire_wire::frame::{self, FrameBuf, Seal};
use watchfire_wire::keys::{Key, KeyId};
use watchfire_wire::message::access;

fuzz_target!(|bytes: &[u8]| {
    let key = Key::from_bytes(&[7; 32]);
    let mut sealed = FrameBuf::copied(bytes);
    assert!(frame::open(sealed.as_mut_slice(), Seal::Keyed(KeyId(1), &key)).is_err());
    let mut checked = FrameBuf::copied(bytes);
    if let Ok(body) = frame::open(checked.as_mut_slice(), Seal::Checksum) {
        let _ = access(body);
    }
});
