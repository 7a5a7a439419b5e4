//! Whatever bytes arrive: no panic, nothing believed without the key, and no
//! allocation for what is refused or read.

use core::net::SocketAddr;

use proptest::prelude::*;
use watchfire_wire::frame::{self, FrameBuf, Seal};
use watchfire_wire::keys::{Key, KeyId, KeyRing};
use watchfire_wire::limits::DATAGRAM_BYTES;
use watchfire_wire::message::overrides::{Decision, Op, Overrides};
use watchfire_wire::message::replica::{Claim, Delta, Hold, Replica, Slot, Value};
use watchfire_wire::message::swim::{ArchivedNews, News, Profile, Rumor, Swim, rumor_bytes};
use watchfire_wire::message::{
    ArchivedBody, Body, EncodeError, PACKET_BYTES, Packet, access, encode,
};
use watchfire_wire::{Actor, CheckId, NodeId, Verdict};

fn actor(n: u64) -> Actor {
    Actor {
        node: NodeId(n),
        epoch: n + 1,
        boot: n + 2,
    }
}

fn rumor(name: &str) -> Rumor {
    Rumor {
        about: actor(3),
        incarnation: 4,
        news: News::Alive(Profile {
            name: name.to_owned(),
            addr: SocketAddr::from(([127, 0, 1, 2], 7946)),
            capacity: 100,
            draining: false,
            prober_healthy: true,
            braked: false,
            checks: 11,
            protocol_min: 2,
            protocol_max: 2,
        }),
    }
}

/// One packet of each shape that matters: flat, with lists, with lists of
/// lists.
fn packets() -> Vec<Packet> {
    let check = CheckId([5; 16]);
    let value = Value {
        verdict: Verdict::Up,
        reason: 0,
        contrary: 0,
        agreed: 0,
        dissented: 0,
        since_ms: 1,
        latency_us: 2,
        confirmed_by: NodeId(1),
    };
    let slot = |seq| Slot {
        check,
        seq,
        term: 1,
        priority: 2,
        hold: Hold::Live,
        value,
    };
    let bodies = [
        Body::Swim(Swim::Ping {
            seq: 1,
            to: NodeId(2),
            digest: 3,
            view: 4,
        }),
        Body::Swim(Swim::PingReq {
            seq: 1,
            target: NodeId(2),
            window_us: 100_000,
        }),
        Body::Swim(Swim::View {
            parts: (0..16).collect(),
            answer: true,
        }),
        Body::Replica(Replica::Pull {
            pull: 1,
            claims: (0..20)
                .map(|n| Claim {
                    actor: actor(n),
                    seq: n,
                    digest: n,
                })
                .collect(),
            cover: None,
            floors: Vec::new(),
        }),
        Body::Replica(Replica::Part {
            pull: 1,
            answer: 1,
            index: 0,
            count: 1,
            deltas: vec![Delta {
                actor: actor(1),
                lo: 0,
                hi: 2,
                trim: 0,
                snapshot: false,
                slots: vec![slot(1), slot(2)],
            }],
            floors: Vec::new(),
        }),
        Body::Overrides(Overrides::Compare {
            sums: (0..64).collect(),
            answer: false,
        }),
        Body::Overrides(Overrides::Decisions {
            hops: 1,
            decisions: vec![Decision {
                counter: 1,
                by: actor(1),
                op: Op::Drain,
                at_ms: 2,
                until_ms: 0,
                who: "root@node-1".to_owned(),
                why: "a reason longer than inline".to_owned(),
                names: vec!["short".to_owned(), "a-name-longer-than-inline".to_owned()],
            }],
        }),
    ];
    bodies
        .into_iter()
        .enumerate()
        .map(|(n, body)| Packet {
            from: actor(1),
            body,
            rumors: vec![rumor("a-name-longer-than-inline"); n % 3],
        })
        .collect()
}

fn key() -> Key {
    Key::from_bytes(&[7; 32])
}

fn sealed(packet: &Packet, by: Seal<'_>) -> FrameBuf {
    let mut frame = FrameBuf::new();
    encode(packet, DATAGRAM_BYTES, &mut frame).expect("it fits");
    frame::seal(&mut frame, 1, by, &[1; 24]);
    frame
}

/// The whole way in, as a node goes it: true if a packet came out.
fn takes(bytes: &mut [u8], by: Seal<'_>) -> bool {
    match frame::open(bytes, by) {
        Ok(body) => access(body).is_ok(),
        Err(_) => false,
    }
}

#[test]
fn what_was_encoded_is_read_in_place() {
    let frame_key = key();
    let by = Seal::Keyed(KeyId(1), &frame_key);
    let packet = &packets()[1];
    let mut frame = sealed(packet, by);
    let body = frame::open(frame.as_mut_slice(), by).expect("our own frame");
    let read = access(body).expect("our own packet");
    assert_eq!(Actor::from(&read.from), packet.from);
    let ArchivedBody::Swim(_) = &read.body else {
        panic!("another room's body")
    };
    let ArchivedNews::Alive(profile) = &read.rumors[0].news else {
        panic!("other news")
    };
    assert_eq!(profile.name, "a-name-longer-than-inline");
    let expected: SocketAddr = "127.0.1.2:7946".parse().expect("an address");
    assert_eq!(SocketAddr::from(&profile.addr), expected);
}

#[test]
fn the_clock_on_an_ack_takes_no_room_of_its_own() {
    let body = |body| Packet {
        from: actor(1),
        body: Body::Swim(body),
        rumors: Vec::new(),
    };
    let ping = body(Swim::Ping {
        seq: 1,
        to: NodeId(2),
        digest: 3,
        view: 4,
    });
    let ack = body(Swim::Ack {
        synchronised: true,
        seq: 1,
        digest: 3,
        view: 4,
        wall_ms: 5,
    });
    let bytes = |packet| sealed(packet, Seal::Checksum).as_slice().len();
    assert_eq!(bytes(&ack), bytes(&ping));
}

#[test]
fn a_ping_is_small() {
    let frame = sealed(&packets()[0], Seal::Checksum);
    let bytes = frame.as_slice().len();
    // Ten of these a second, with IPv4 and UDP headers, are the idle traffic.
    assert!(10 * (bytes + 28) < 1_800, "{bytes} bytes");
}

#[test]
fn what_rumors_take_is_never_underestimated() {
    for length in 0..=64 {
        for count in 0..9 {
            let mut packet = packets().remove(0);
            packet.rumors = vec![rumor(&"n".repeat(length)); count];
            let estimate = PACKET_BYTES + packet.rumors.iter().map(rumor_bytes).sum::<usize>();
            let actual = sealed(&packet, Seal::Checksum).as_slice().len();
            assert!(
                actual <= estimate && estimate <= actual + 32,
                "{actual} {estimate}"
            );
        }
    }
}

#[test]
fn a_packet_that_does_not_fit_is_refused() {
    let mut packet = packets().remove(0);
    packet.rumors = vec![rumor("n"); 40];
    let error = encode(&packet, DATAGRAM_BYTES, &mut FrameBuf::new()).unwrap_err();
    let EncodeError::TooLarge { bytes, max_bytes } = error else {
        panic!("{error}")
    };
    assert!(bytes > max_bytes && max_bytes == DATAGRAM_BYTES);
}

#[test]
fn reading_and_refusing_allocate_nothing() {
    let (ours, theirs) = (key(), Key::from_bytes(&[8; 32]));
    let by = Seal::Keyed(KeyId(1), &ours);
    for packet in packets() {
        let good = sealed(&packet, by);
        let mut read = FrameBuf::copied(good.as_slice());
        let mut foreign = FrameBuf::copied(good.as_slice());
        let mut cut = FrameBuf::copied(&good.as_slice()[..good.as_slice().len() / 2]);
        // An authentic frame around a body that is none.
        let mut broken = FrameBuf::copied(sealed(&packet, Seal::Checksum).as_slice());
        let end = broken.as_slice().len() - frame::TAG_BYTES;
        broken.as_mut_slice()[frame::HEADER_BYTES..end].fill(0xee);
        let mut results = [true; 4];
        let info = allocation_counter::measure(|| {
            results = [
                takes(read.as_mut_slice(), by),
                takes(foreign.as_mut_slice(), Seal::Keyed(KeyId(1), &theirs)),
                takes(cut.as_mut_slice(), by),
                access(&broken.as_slice()[frame::HEADER_BYTES..end]).is_ok(),
            ];
        });
        assert_eq!(results, [true, false, false, false]);
        assert_eq!(info.count_total, 0);
    }
}

#[test]
fn encoding_into_a_used_buffer_allocates_nothing() {
    let packets = packets();
    let mut frame = FrameBuf::new();
    for packet in &packets {
        encode(packet, DATAGRAM_BYTES, &mut frame).expect("it fits");
    }
    let info = allocation_counter::measure(|| {
        for packet in &packets {
            encode(packet, DATAGRAM_BYTES, &mut frame).expect("it fits");
        }
    });
    assert_eq!(info.count_total, 0);
}

/// A body that may be anything, with every pointer, length and tag of a real
/// one as a starting point.
fn mutated_body() -> impl Strategy<Value = Vec<u8>> {
    let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12);
    (0..packets().len(), flips, 0..3_usize).prop_map(|(which, flips, mode)| {
        let frame = sealed(&packets()[which], Seal::Checksum);
        let end = frame.as_slice().len() - frame::TAG_BYTES;
        let mut body = frame.as_slice()[frame::HEADER_BYTES..end].to_vec();
        for (at, byte) in flips {
            let at = at.index(body.len());
            match mode {
                0 => body[at] = byte,
                1 => body[at] ^= 1 << (byte % 8),
                _ => {
                    body.remove(at);
                    body.push(byte);
                }
            }
        }
        body
    })
}

/// Touches everything that a packet holds, as a reader would.
fn walk(body: &[u8]) -> usize {
    let Ok(packet) = access(body) else { return 0 };
    let mut seen = 1;
    for rumor in packet.rumors.iter() {
        seen += Actor::from(&rumor.about).epoch as usize & 1;
        if let ArchivedNews::Alive(profile) = &rumor.news {
            seen += profile.name.len() + SocketAddr::from(&profile.addr).port() as usize;
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_refused_without_the_key(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let key = key();
        for by in [Seal::Keyed(KeyId(1), &key), Seal::Checksum] {
            let mut frame = FrameBuf::copied(&bytes);
            prop_assert!(!takes(frame.as_mut_slice(), by));
        }
    }

    #[test]
    fn a_right_header_does_not_help(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let key = key();
        let by = Seal::Keyed(KeyId(1), &key);
        let real = sealed(&packets()[0], by);
        let mut bytes = real.as_slice()[..frame::HEADER_BYTES].to_vec();
        bytes.extend_from_slice(&tail);
        let mut frame = FrameBuf::copied(&bytes);
        prop_assert!(!takes(frame.as_mut_slice(), by));
    }

    #[test]
    fn authentic_nonsense_is_read_without_a_panic(body in mutated_body()) {
        let aligned = FrameBuf::copied(&body);
        prop_assert!(walk(aligned.as_slice()) <= body.len() + (1 << 17) * 128);
    }

    #[test]
    fn any_body_is_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let aligned = FrameBuf::copied(&body);
        prop_assert!(walk(aligned.as_slice()) < 1 << 26);
    }

    #[test]
    fn any_text_is_a_key_file_or_a_clear_error(text in "[0-9a-f# \n\t]{0,200}|\\PC{0,200}") {
        match KeyRing::parse(&text) {
            Ok(ring) => prop_assert!(ring.ids().count() > 0),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn an_empty_body_is_no_packet() {
    assert!(access(&[]).is_err());
}
