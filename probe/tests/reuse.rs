//! Connections that are kept open between probes, on both drivers.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Bench, backends, options};
use watchfire_origin::{Farm, FarmOptions, Fault};
use watchfire_probe::{CheckSpec, Kind, ReportKind};
use watchfire_wire::{First, Verdict};

fn keeping(addr: std::net::SocketAddr, path: &str) -> CheckSpec {
    let mut spec = CheckSpec {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(100),
        ..CheckSpec::http(addr, path)
    };
    if let Kind::Http(http) = &mut spec.kind {
        http.reuse = true;
    }
    spec
}

#[test]
fn one_connection_serves_many_probes() {
    for backend in backends() {
        let farm = Farm::start(FarmOptions::default()).unwrap();
        let mut bench = Bench::new(options(backend));
        let spec = Arc::new(keeping(farm.address(0), "/"));
        bench
            .prober
            .start_check(Arc::clone(&spec), 1, None, First::PHASE);
        bench.reports(Duration::from_millis(1_500));
        bench.prober.stop_check(spec.id());
        bench.reports(Duration::from_millis(100));
        let counts = farm.counts();
        assert!(counts.requests >= 8, "{backend}: {counts:?}");
        assert!(counts.connections <= 2, "{backend}: {counts:?}");
        bench.settle();
    }
}

#[test]
fn an_origin_may_close_what_was_kept() {
    for backend in backends() {
        let farm = Farm::start(FarmOptions {
            count: 20,
            ..FarmOptions::default()
        })
        .unwrap();
        farm.set_fault(0..20, Fault::CloseAfter(2)).unwrap();
        let mut bench = Bench::new(options(backend));
        for origin in 0..20 {
            let spec = keeping(farm.address(origin), "/");
            bench
                .prober
                .start_check(Arc::new(spec), 1, None, First::PHASE);
        }
        let reports = bench.reports(Duration::from_millis(2_500));
        let down = reports.iter().filter(|report| {
            matches!(
                report.kind,
                ReportKind::Measured {
                    verdict: Verdict::Down,
                    ..
                }
            )
        });
        assert_eq!(down.count(), 0, "{backend}");
        let stats = bench.prober.stats();
        assert_eq!(stats.failed(), 0, "{backend}");
        assert!(stats.reopened > 20, "{backend}: {}", stats.reopened);
        assert!(stats.passed() > 200, "{backend}: {}", stats.passed());
    }
}
