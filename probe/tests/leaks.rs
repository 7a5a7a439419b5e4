//! Many probes, a third of them of broken origins: afterwards slots,
//! descriptors and memory are back where they were.
//!
//! `WATCHFIRE_SOAK_S` makes it last so many seconds instead of three.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Bench, backends, open_files, options};
use watchfire_origin::{Farm, FarmOptions, Fault, Phase};
use watchfire_probe::{CheckSpec, Kind};
use watchfire_wire::First;

const CHECKS: u32 = 400;

/// The faults of the broken ones, in turn.
const FAULTS: [Fault; 10] = [
    Fault::Refuse,
    Fault::Blackhole,
    Fault::Hang,
    Fault::Reset(Phase::Accept),
    Fault::Reset(Phase::Body),
    Fault::Close(Phase::Head),
    Fault::Drip(20),
    Fault::Status(500),
    Fault::Junk,
    Fault::CloseAfter(1),
];

#[test]
fn nothing_is_left_behind() {
    let soak_s = std::env::var("WATCHFIRE_SOAK_S")
        .ok()
        .map_or(3, |text| text.parse().expect("whole seconds"));
    let farm = Farm::start(FarmOptions {
        count: CHECKS,
        ..FarmOptions::default()
    })
    .unwrap();
    // Three of ten are broken.
    for origin in (0..CHECKS).filter(|origin| origin % 10 < 3) {
        let fault = FAULTS[(origin / 10 * 3 + origin % 10) as usize % FAULTS.len()];
        farm.set_fault(origin..origin + 1, fault).unwrap();
    }
    for backend in backends() {
        let before = open_files();
        let mut bench = Bench::new(options(backend));
        let mut ids = Vec::new();
        for origin in 0..CHECKS {
            let mut spec = match origin % 4 {
                0 => CheckSpec::tcp(farm.address(origin)),
                _ => CheckSpec::http(farm.address(origin), "/"),
            };
            spec.interval = Duration::from_millis(60);
            // Some so short that a connection often stands just when time is up.
            spec.timeout = Duration::from_millis(if origin % 3 == 0 { 1 } else { 40 });
            if let Kind::Http(http) = &mut spec.kind {
                http.reuse = origin % 4 == 3;
            }
            ids.push(spec.id());
            bench
                .prober
                .start_check(Arc::new(spec), 1, None, First::PHASE);
        }
        bench.reports(Duration::from_secs(soak_s));
        for &id in &ids {
            bench.prober.stop_check(id);
        }
        bench.reports(Duration::from_millis(1_200));
        bench.settle();
        let stats = bench.prober.stats();
        println!(
            "{backend}: {} probes, {} failed, {} not measured",
            stats.started,
            stats.failed(),
            stats.not_measured(),
        );
        assert_eq!(
            (stats.checks, stats.slots, stats.parked),
            (0, 0, 0),
            "{backend}"
        );
        assert!(
            stats.started > 3_000 * soak_s,
            "{backend}: {}",
            stats.started
        );
        // A machine that is late enough measures little, and says so.
        let troubled = stats.failed() + stats.not_measured();
        assert!(troubled > stats.started / 10, "{backend}: {troubled}");
        bench.prober.shutdown();
        // The farm may not have closed its own ends yet.
        assert!(open_files() <= before + 8, "{backend} leaks descriptors");
    }
}
