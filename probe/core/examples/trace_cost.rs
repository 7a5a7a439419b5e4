//! What it costs to remember a probe: nanoseconds of one of 20,000 checks in turn,
//! so that the arena is in no cache, with what the engine and the thread do around
//! it. A probe takes some tens of thousands.
//!
//! `cargo run --release -p watchfire-probe-core --example trace_cost`

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures"
)]

use std::sync::Mutex;
use std::time::Instant;

use watchfire_probe_core::limits::TRACED_CHECKS;
use watchfire_probe_core::trace::{Probed, Trace};
use watchfire_probe_core::{Health, HealthRule, Outcome, Phases};
use watchfire_wire::{CheckId, Time};

const CHECKS: u32 = 20_000;
const ROUNDS: u32 = 100;
/// Probes that end in one turn of a thread.
const TURN: u32 = 4;

fn main() {
    let trace = Mutex::new(Trace::new(TRACED_CHECKS));
    let ids: Vec<CheckId> = (0..CHECKS)
        .map(|n| CheckId::of_canonical(&n.to_le_bytes()))
        .collect();
    let mut health = Health::new(HealthRule::default());
    health.record(true);
    let mut probed = Vec::new();
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        for n in 0..CHECKS {
            // Not in the arena's order.
            let place = n.wrapping_mul(7_919) % CHECKS;
            std::hint::black_box(health.may_turn());
            probed.push(Probed {
                place,
                check: ids[place as usize],
                at: Time(u64::from(round) * 1_000_000 + u64::from(n) * 50),
                outcome: Outcome::Pass,
                phases: Phases {
                    connect_us: Some(100 + n % 50),
                    first_byte_us: Some(300 + n % 90),
                    total_us: 400 + n % 900,
                    status: Some(200),
                    ..Phases::default()
                },
                turned: None,
            });
            if n % TURN == TURN - 1 {
                let mut trace = trace.try_lock().expect("nobody looks");
                for probed in probed.drain(..) {
                    trace.record(probed);
                }
            }
        }
        rounds.push(began.elapsed().as_nanos() as f64 / f64::from(CHECKS));
    }
    rounds.sort_by(f64::total_cmp);
    let trace = trace.into_inner().expect("nobody panicked");
    println!(
        "{:.0} ns a probe, at the median of {ROUNDS} rounds",
        rounds[rounds.len() / 2]
    );
    println!("{} bytes for {CHECKS} checks", trace.bytes());
}
