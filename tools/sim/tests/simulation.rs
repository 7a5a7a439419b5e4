//! The simulator over the production core: small POPs, few seeds, every fault.

use watchfire_sim::faults::{Fault, FaultSet};
use watchfire_sim::run::{self, Verdict};
use watchfire_sim::trace::Trace;
use watchfire_sim::workload::Options;

fn small() -> Options {
    Options {
        nodes: 6,
        checks: 24,
        quiet_s: 10,
        ..Options::default()
    }
}

fn run(options: Options, seed: u64) -> Verdict {
    run::one(options, seed, Trace::default()).0
}

/// Fails with what went wrong and how to see it again.
fn expect_peace(options: Options, seed: u64) -> Verdict {
    let verdict = run(options, seed);
    assert!(
        verdict.violations.is_empty(),
        "seed {seed}: {:#?}\n{}",
        verdict.violations,
        run::replay(&options, seed)
    );
    verdict
}

#[test]
fn a_seed_is_one_history() {
    let options = Options {
        faults: FaultSet::ALL,
        ..small()
    };
    let first = run(options, 1);
    assert_eq!(first.fingerprint, run(options, 1).fingerprint);
    assert_ne!(first.fingerprint, run(options, 2).fingerprint);
}

#[test]
fn threads_do_not_change_a_history() {
    let options = small();
    let alone: Vec<u64> = run::many(options, 0..3, 1, &|_| true)
        .iter()
        .map(|verdict| verdict.fingerprint)
        .collect();
    let together = run::many(options, 0..3, 3, &|_| true);
    assert!(together.iter().map(|verdict| verdict.fingerprint).eq(alone));
}

#[test]
fn nothing_goes_wrong_when_nothing_is_asked_for() {
    let verdict = expect_peace(small(), 3);
    assert_eq!(verdict.measures.detect_all_ms.len(), 1);
    assert!(!verdict.measures.takeover_gap_ms.is_empty());
    assert_eq!(verdict.measures.spread_ms.len(), 2);
    assert_eq!(verdict.measures.quiet_duplicates, 0);
    assert!(verdict.measures.quiet_probes >= 24 * 9);
}

#[test]
fn each_fault_fires_and_is_survived() {
    for &fault in Fault::ALL {
        let options = Options {
            faults: FaultSet::NONE.with(fault),
            ..small()
        };
        let verdict = expect_peace(options, 4);
        assert!(verdict.fired.times(fault) > 0, "{fault} did not fire");
    }
}

#[test]
fn all_faults_together_are_survived() {
    for seed in 0..4 {
        expect_peace(
            Options {
                faults: FaultSet::ALL,
                ..small()
            },
            seed,
        );
    }
}

#[test]
fn sealed_frames_live_through_the_same() {
    let options = Options {
        faults: FaultSet::ALL,
        sealed: true,
        ..small()
    };
    expect_peace(options, 5);
}
