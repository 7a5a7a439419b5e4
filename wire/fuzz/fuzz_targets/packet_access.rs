//! Authentic nonsense: any body is a packet or an error, and a packet can be
//! read from end to end.
#![no_main]

use core::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use watchfire_wire::Actor;
use watchfire_wire::frame::FrameBuf;
use watchfire_wire::message::access;
use watchfire_wire::message::swim::ArchivedNews;

fuzz_target!(|body: &[u8]| {
    let aligned = FrameBuf::copied(body);
    let Ok(packet) = access(aligned.as_slice()) else {
        return;
    };
    let mut seen = Actor::from(&packet.from).epoch;
    for rumor in packet.rumors.iter() {
        seen ^= Actor::from(&rumor.about).boot;
        if let ArchivedNews::Alive(profile) = &rumor.news {
            seen ^= profile.name.len() as u64 + u64::from(SocketAddr::from(&profile.addr).port());
        }
    }
    std::hint::black_box(seen);
});
