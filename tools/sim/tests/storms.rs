//! Processors that cost time: small POPs that are tried, and become calm.

use watchfire_sim::cpu::{Cores, Costs, CpuOptions};
use watchfire_sim::storm::{self, Scenario, Storm, Weathered};
use watchfire_sim::trace::Trace;
use watchfire_sim::workload::Options;

fn storm(scenario: Scenario, cores: Cores) -> Storm {
    Storm {
        scenario,
        options: Options {
            nodes: 8,
            checks: 80,
            interval_us: 2_000_000,
            timeout_us: Some(500_000),
            fast_us: Some(1_000_000),
            ..Options::default()
        },
        cpu: CpuOptions::of(cores),
        start_within_us: 400_000,
        at_s: 15,
        until_s: 50,
    }
}

fn run(storm: &Storm) -> Weathered {
    storm::run(storm, 1, Trace::default()).0
}

#[test]
fn a_small_pop_rides_out_every_trial() {
    for scenario in Scenario::ALL {
        for cores in [Cores::Own, Cores::Shared(2)] {
            let weathered = run(&storm(scenario, cores));
            assert!(weathered.formed_s.is_some(), "{scenario}");
            let calm_again = scenario == Scenario::KillThird || weathered.calm_since_s.is_some();
            assert!(calm_again, "{scenario} on {cores}: {weathered:#?}");
            assert_eq!(
                weathered
                    .violations
                    .iter()
                    .find(|it| it.0 == "truthfulness"),
                None
            );
        }
    }
}

#[test]
fn a_storm_is_one_history() {
    let trial = storm(Scenario::SlowHalf, Cores::Shared(2));
    assert_eq!(run(&trial).fingerprint, run(&trial).fingerprint);
}

#[test]
fn a_processor_that_cannot_keep_up_shows() {
    let mut trial = storm(Scenario::Start, Cores::Shared(1));
    let mut costs = Costs::default();
    costs.machine.shared_times = 60.0;
    trial.cpu.costs = costs;
    let weathered = run(&trial);
    let last = weathered.rows.last().expect("it ran for 50 s");
    assert!(last.busy_percent > 80.0, "{last:?}");
    assert!(weathered.calm_since_s.is_none());
    assert!(last.oldest_ms > 100.0, "{last:?}");
}
