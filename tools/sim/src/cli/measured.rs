//! What work costs on this machine, measured within one process.

use std::hint::black_box;
use std::time::{Duration, Instant};

use watchfire_core::gate::{Gate, Keys};
use watchfire_core::mutations::Mutations;
use watchfire_core::ownership::ranks::Ranks;
use watchfire_core::replica::Store;
use watchfire_core::rng::Rng;
use watchfire_sim::cpu::Costs;
use watchfire_wire::frame::FrameBuf;
use watchfire_wire::keys::{Key, KeyId, KeyRing};
use watchfire_wire::limits::DATAGRAM_BYTES;
use watchfire_wire::message::replica::{Claim, Value};
use watchfire_wire::message::swim::Swim;
use watchfire_wire::message::{Body, Packet};
use watchfire_wire::{Actor, CheckId, NodeId, Verdict};

/// Each figure is the median of so many runs.
const RUNS: usize = 9;
const NODES: u64 = 96;
const CHECKS: u32 = 2_000;

/// These costs, with what can be measured here in place of what they say.
pub(super) fn costs(mut costs: Costs) -> Costs {
    let gossip = &mut costs.gossip;
    (gossip.seal_us, gossip.open_us) = gate_us();
    gossip.pull_answered_us = answer_us() + gossip.seal_us;
    gossip.slot_taken_us = slot_us();
    gossip.rank_ns_per_check = rank_ns();
    costs
}

/// Sealing a ping and opening it.
fn gate_us() -> (f64, f64) {
    let ring = KeyRing::of(KeyId(1), Key::from_bytes(&[7; 32])).expect("1 is a key's id");
    let mut gate = Gate::new(Keys::Sealed(ring), Rng::from_seed([1; 32]));
    let packet = Packet {
        from: actor(1),
        body: Body::Swim(Swim::News),
        rumors: Vec::new(),
    };
    let rounds = 5_000;
    let seal = median(|| {
        let begun = Instant::now();
        for _ in 0..rounds {
            black_box(gate.seal(black_box(&packet), DATAGRAM_BYTES)).expect("it fits");
        }
        begun.elapsed()
    });
    let sealed = gate.seal(&packet, DATAGRAM_BYTES).expect("it fits");
    let mut buffer = FrameBuf::new();
    let open = median(|| {
        let begun = Instant::now();
        for _ in 0..rounds {
            buffer.copy_from(&sealed);
            black_box(gate.open(buffer.as_mut_slice())).expect("it was just sealed");
        }
        begun.elapsed()
    });
    (each_us(seal, rounds), each_us(open, rounds))
}

/// Answering a pull that lacks a slot of each of as many actors as one asks
/// for.
fn answer_us() -> f64 {
    let mut store = Store::new(actor(1), Mutations::NONE);
    for at in 0..CHECKS {
        store.write(check(at), u64::from(at), value());
    }
    let (seq, digest) = store.claim(actor(1)).expect("it wrote");
    let claim = Claim {
        actor: actor(1),
        seq,
        digest,
    };
    for at in 0..10 {
        store.write(check(at * 100), 1, value());
    }
    let claims: Vec<Claim> = (0..20).map(|_| claim).collect();
    let rounds = 2_000;
    let answers = median(|| {
        let begun = Instant::now();
        for _ in 0..rounds {
            black_box(store.answer(actor(2), black_box(&claims), None));
        }
        begun.elapsed()
    });
    each_us(answers, rounds)
}

fn slot_us() -> f64 {
    let mut author = Store::new(actor(1), Mutations::NONE);
    for at in 0..CHECKS {
        author.write(check(at), u64::from(at), value());
    }
    let claim = Claim {
        actor: actor(1),
        seq: 0,
        digest: 0,
    };
    let deltas = author.answer(actor(2), &[claim], None).deltas;
    let taken = median(|| {
        let mut reader = Store::new(actor(2), Mutations::NONE);
        let begun = Instant::now();
        reader.apply(black_box(&deltas[0]));
        begun.elapsed()
    });
    each_us(taken, CHECKS)
}

fn rank_ns() -> f64 {
    let mut ranks = Ranks::default();
    for at in 0..CHECKS {
        ranks.insert(at, check(at));
    }
    for node in 0..NODES {
        ranks.set(&[(NodeId(node), 100)], |_, _| {});
    }
    let rounds = 20;
    let changes = median(|| {
        let begun = Instant::now();
        for round in 0..rounds {
            ranks.set(&[(NodeId(u64::from(round) * 3), 0)], |_, _| {});
            ranks.set(&[(NodeId(u64::from(round) * 3), 100)], |_, _| {});
        }
        begun.elapsed()
    });
    each_us(changes, 2 * rounds) * 1e3 / f64::from(CHECKS)
}

fn each_us(all: Duration, rounds: u32) -> f64 {
    all.as_secs_f64() * 1e6 / f64::from(rounds)
}

fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut runs: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    runs.sort_unstable();
    runs[RUNS / 2]
}

fn actor(node: u64) -> Actor {
    Actor {
        node: NodeId(node),
        epoch: 1,
        boot: 1,
    }
}

fn check(at: u32) -> CheckId {
    CheckId::of_canonical(&at.to_le_bytes())
}

const fn value() -> Value {
    Value {
        verdict: Verdict::Up,
        reason: 0,
        contrary: 0,
        agreed: 0,
        dissented: 0,
        latency_us: 300,
        since_ms: 1,
        confirmed_by: NodeId(1),
    }
}
