//! Strangers, replays and those who lie about addresses.

use core::time::Duration;

use watchfire_wire::frame::{FrameBuf, HEADER_BYTES};
use watchfire_wire::message::swim::Swim as Body;
use watchfire_wire::message::{ArchivedBody, Packet, access, encode};
use watchfire_wire::{Actor, NodeId};

use super::world::{Datagram, World, addr_of};
use crate::swim::{Output, State};

fn datagram(from: usize, to: usize, sender: Actor, body: Body) -> Datagram {
    let packet = Packet {
        from: sender,
        body: watchfire_wire::message::Body::Swim(body),
        rumors: Vec::new(),
    };
    let mut frame = FrameBuf::new();
    encode(&packet, 1_400, &mut frame).expect("small");
    Datagram {
        from: addr_of(from),
        to: addr_of(to),
        body: frame.as_slice()[HEADER_BYTES..].to_vec(),
    }
}

fn stranger() -> Actor {
    Actor {
        node: NodeId(77),
        epoch: 1,
        boot: 1,
    }
}

/// What node 0 sends to the stranger's address in answer to one datagram.
fn answers(world: &mut World, datagram: Datagram) -> Vec<Datagram> {
    world.record = Some(Vec::new());
    world.inject(datagram, Duration::ZERO);
    world.run(Duration::from_millis(1));
    let record = world.record.take().expect("it was asked for");
    let to_stranger = |datagram: &Datagram| datagram.to == addr_of(99);
    record.into_iter().filter(to_stranger).collect()
}

#[test]
fn a_stranger_gets_a_token_no_larger_than_its_question_and_nothing_else() {
    let mut world = World::settled(3, 1);
    let ping = Body::Ping {
        seq: 1,
        to: NodeId::of_name("n0"),
        digest: 0,
        view: 0,
    };
    let view = Body::View {
        parts: vec![0; 16],
        answer: false,
    };
    let forged = Body::Join {
        nonce: 5,
        token: 6,
        asked: true,
    };
    for body in [ping, view, forged, Body::News, Body::Roster] {
        let sent = answers(&mut world, datagram(99, 0, stranger(), body));
        assert_eq!(sent, []);
    }
    let ask = datagram(99, 0, stranger(), Body::JoinAsk { nonce: 5 });
    let length = ask.body.len();
    let sent = answers(&mut world, ask);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].body.len() <= length);
    assert_eq!(world.swim(0).living(), 2);
}

#[test]
fn a_token_is_good_for_its_address_alone() {
    let mut world = World::settled(3, 1);
    let ask = datagram(99, 0, stranger(), Body::JoinAsk { nonce: 5 });
    let sent = answers(&mut world, ask);
    let buffer = FrameBuf::copied(&sent[0].body);
    let packet = access(buffer.as_slice()).expect("our own");
    let ArchivedBody::Swim(watchfire_wire::message::swim::ArchivedSwim::JoinToken {
        token, ..
    }) = &packet.body
    else {
        panic!("a token was expected")
    };
    let join = Body::Join {
        nonce: 5,
        token: token.to_native(),
        asked: false,
    };
    // The introduction is missing, so both fail; the counter tells that the
    // address was looked at before anything else.
    let elsewhere = datagram(98, 0, stranger(), join);
    world.inject(elsewhere, Duration::ZERO);
    world.run(Duration::from_millis(1));
    assert_eq!(world.swim(0).counters().bad_joins, 1);
    assert_eq!(world.swim(0).living(), 2);
}

#[test]
fn no_replay_draws_more_than_it_brings() {
    let mut world = World::settled(8, 4);
    world.record = Some(Vec::new());
    let suspect = world.swim(2).actor();
    world.with(1, |swim, now, out| swim.accuse(now, suspect, out));
    world.run(Duration::from_secs(1));
    world.crash(7);
    world.start(7, 3_000);
    world.run(Duration::from_secs(2));
    world.crash(6);
    world.run(Duration::from_secs(4));
    for mut datagram in world.record.take().expect("it was asked for") {
        let brought = datagram.body.len();
        datagram.from = addr_of(99);
        let drawn: usize = answers(&mut world, datagram.clone())
            .iter()
            .map(|answer| answer.body.len())
            .sum();
        assert!(
            drawn <= brought,
            "{drawn} bytes for {brought}: {datagram:?}"
        );
    }
}

#[test]
fn replayed_datagrams_raise_nobody_from_the_dead() {
    let mut world = World::settled(6, 2);
    world.record = Some(Vec::new());
    let restarted = world.crash(4);
    world.start(4, 2_000);
    let dead = world.swim(5).actor();
    world.run(Duration::from_secs(2));
    let left = world.swim(3).actor();
    world.with(3, |swim, now, out| swim.leave(now, out));
    world.run(Duration::from_secs(1));
    world.crash(3);
    world.crash(5);
    world.run(Duration::from_secs(5));
    let record = world.record.take().expect("it was asked for");
    world.log.clear();
    for round in 0..2 {
        for (at, datagram) in record.iter().enumerate() {
            let after = Duration::from_micros(100 * (at as u64 + round));
            world.inject(datagram.clone(), after);
        }
        world.run(Duration::from_secs(3));
    }
    for gone in [restarted, dead, left] {
        let back = world.said(|o| *o == Output::Joined(gone));
        assert!(back.is_empty(), "{gone:?} came back {} times", back.len());
    }
    world.settle(Duration::from_secs(10));
    assert_eq!(world.running(), [0, 1, 2, 4]);
    let node = left.node;
    assert_eq!(
        world.swim(0).member(node).expect("remembered").state,
        State::Left
    );
}
