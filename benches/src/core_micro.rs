//! Micro benches of the POP core: does a delta cost what changed, how fast are
//! slots merged, and what does a membership change cost.
//!
//! Each figure is the median of several runs; ratios compare runs of one
//! process.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use watchfire_core::io::CheckMeta;
use watchfire_core::mutations::Mutations;
use watchfire_core::ownership::ranks::Ranks;
use watchfire_core::ownership::{Ctx, Duties, Load, OwnershipConfig, View};
use watchfire_core::replica::Store;
use watchfire_wire::message::replica::{Claim, Delta, Value};
use watchfire_wire::{Actor, CheckId, NodeId, Time, Verdict};

const RUNS: usize = 15;
const NODES: u64 = 168;
const CHECKS: u32 = 100_000;

/// Runs all and prints a table, or one JSON object on the last line.
pub(crate) fn run(json: bool) {
    let small = delta_of_ten_us(1_000);
    let large = delta_of_ten_us(CHECKS);
    let merge = merge_slots_per_s();
    let (join, leave) = ranks_ms();
    let (suspect, die, back) = duties_ms();
    let figures = [
        ("delta_10_of_1k_us", small),
        ("delta_10_of_100k_us", large),
        ("delta_ratio", large / small),
        ("merge_slots_per_s", merge),
        ("ranks_join_ms", join),
        ("ranks_leave_ms", leave),
        ("member_suspected_ms", suspect),
        ("member_died_ms", die),
        ("member_joined_ms", back),
    ];
    if json {
        let fields: Vec<String> = figures
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value:.3}"))
            .collect();
        println!("{{{}}}", fields.join(","));
    } else {
        for (name, value) in figures {
            println!("{name:<24} {value:>16.3}");
        }
    }
}

/// Answering a pull that lacks ten slots of a map of `n`.
fn delta_of_ten_us(n: u32) -> f64 {
    let mut store = Store::new(actor(1), Mutations::NONE);
    for at in 0..n {
        store.write(check(at), u64::from(at), value());
    }
    let (seq, digest) = store.claim(actor(1)).expect("it wrote");
    for at in 0..10 {
        store.write(check(at * (n / 10)), 1, value());
    }
    let claim = Claim {
        actor: actor(1),
        seq,
        digest,
    };
    let rounds = 2_000;
    median(|| {
        let start = Instant::now();
        for _ in 0..rounds {
            let answer = store.answer(actor(2), black_box(&[claim]), None);
            assert_eq!(black_box(answer).deltas[0].slots.len(), 10);
        }
        start.elapsed()
    }) * 1e6
        / f64::from(rounds)
}

/// Merging one actor's 100,000 slots into a map that knows the checks.
fn merge_slots_per_s() -> f64 {
    let mut author = Store::new(actor(1), Mutations::NONE);
    let mut reader = Store::new(actor(2), Mutations::NONE);
    for at in 0..CHECKS {
        author.write(check(at), u64::from(at), value());
        reader.write(check(at), u64::from(at) + 1, value());
    }
    reader.take_changed();
    let delta: Vec<Delta> = {
        let claim = Claim {
            actor: actor(1),
            seq: 0,
            digest: 0,
        };
        author.answer(actor(2), &[claim], None).deltas
    };
    let seconds = median(|| {
        let mut reader = reader.clone();
        let start = Instant::now();
        reader.apply(black_box(&delta[0]));
        let elapsed = start.elapsed();
        assert_eq!(reader.len(), 2 * CHECKS as usize);
        elapsed
    });
    f64::from(CHECKS) / seconds
}

/// Ranking alone: one of 168 members comes or goes.
fn ranks_ms() -> (f64, f64) {
    let mut ranks = Ranks::default();
    for at in 0..CHECKS {
        ranks.insert(at, check(at));
    }
    for node in 0..NODES {
        ranks.set(&[(NodeId(node), 100)], |_, _| {});
    }
    let mut joins = Vec::new();
    let mut leaves = Vec::new();
    for node in (0..RUNS as u64).map(|run| run * 7) {
        let start = Instant::now();
        ranks.set(&[(NodeId(node), 0)], |ix, _| {
            black_box(ix);
        });
        leaves.push(start.elapsed());
        let start = Instant::now();
        ranks.set(&[(NodeId(node), 100)], |ix, _| {
            black_box(ix);
        });
        joins.push(start.elapsed());
    }
    (middle(joins) * 1e3, middle(leaves) * 1e3)
}

/// The whole of it: ranks, evidence and decisions, when one of 168 members is
/// suspected, dies and comes back, as one of the others sees it.
fn duties_ms() -> (f64, f64, f64) {
    let me = actor(0);
    let mut store = Store::new(me, Mutations::NONE);
    let mut duties = Duties::new(OwnershipConfig::default(), me, Mutations::NONE);
    let mut out = VecDeque::new();
    let meta = CheckMeta {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        carried: false,
        network: 0,
        reference: false,
        able: true,
    };
    let all: Vec<_> = (0..CHECKS).map(|at| (check(at), meta)).collect();
    let mut ctx = Ctx {
        now: Time::from_millis(1_000),
        wall_ms: 1,
        silence: Duration::ZERO,
        load: Load::default(),
        store: &mut store,
        out: &mut out,
    };
    for node in 0..NODES {
        duties.set_member(&mut ctx, NodeId(node), Some(view(node)));
    }
    ctx.now += Duration::from_secs(1);
    duties.look_at_members(&mut ctx);
    duties.add(&mut ctx, &all);
    // Every check has its owner's word.
    let mut authors: Vec<Store> = (0..NODES)
        .map(|node| Store::new(actor(node), Mutations::NONE))
        .collect();
    for (ix, &(id, _)) in (0..).zip(&all) {
        let owner = duties
            .ranks()
            .first(ix, |_| true)
            .expect("all are eligible");
        authors[usize::try_from(owner.0).expect("small")].write(id, 1, value());
    }
    for author in &authors[1..] {
        let claim = Claim {
            actor: author.me(),
            seq: 0,
            digest: 0,
        };
        for delta in author.answer(me, &[claim], None).deltas {
            ctx.store.apply(&delta);
        }
    }
    let changed = ctx.store.take_changed();
    duties.set_ready(&mut ctx);
    duties.changed(&mut ctx, &changed);
    ctx.out.clear();
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for node in (1..=RUNS as u64).map(|run| run * 7) {
        let suspect = View {
            suspect: true,
            ..view(node)
        };
        let dead = View {
            living: false,
            ..view(node)
        };
        for (times, view) in times.iter_mut().zip([suspect, dead, view(node)]) {
            let start = Instant::now();
            duties.set_member(&mut ctx, NodeId(node), Some(view));
            ctx.now += Duration::from_secs(1);
            duties.look_at_members(&mut ctx);
            times.push(start.elapsed());
            ctx.out.clear();
        }
    }
    let [suspects, deaths, joins] = times;
    (
        middle(suspects) * 1e3,
        middle(deaths) * 1e3,
        middle(joins) * 1e3,
    )
}

fn view(node: u64) -> View {
    View {
        actor: actor(node),
        living: true,
        suspect: false,
        capacity: 100,
        draining: false,
        healthy: true,
        braked: false,
        checks: 1,
    }
}

fn median(mut run: impl FnMut() -> Duration) -> f64 {
    middle((0..RUNS).map(|_| run()).collect())
}

fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

const fn actor(node: u64) -> Actor {
    Actor {
        node: NodeId(node),
        epoch: 1,
        boot: node,
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
