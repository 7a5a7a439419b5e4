//! Every fault of the farm, on both drivers: each gives its own reason, none
//! hangs, none leaks a slot.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Bench, backends, options};
use watchfire_origin::{Farm, FarmOptions, Fault, Phase};
use watchfire_probe::{CheckSpec, Outcome};
use watchfire_wire::Reason;

/// What a probe of an origin with this fault is to find.
fn expected(fault: Fault) -> Outcome {
    let fail = Outcome::Fail;
    match fault {
        Fault::Refuse => fail(Reason::ConnectRefused),
        Fault::Blackhole => fail(Reason::ConnectTimeout),
        Fault::Hang => fail(Reason::FirstByteTimeout),
        Fault::Reset(Phase::Accept | Phase::Request | Phase::Head | Phase::Body) => {
            fail(Reason::ReceiveReset)
        }
        Fault::Close(_) | Fault::HalfClose => fail(Reason::ClosedEarly),
        Fault::SlowFirstByte(_) => fail(Reason::FirstByteTimeout),
        Fault::Drip(_) => fail(Reason::ResponseTimeout),
        Fault::Status(_) => fail(Reason::BadStatus),
        Fault::BigHead(_) => fail(Reason::HeadersTooLarge),
        Fault::BigBody(_) => fail(Reason::BodyTooLarge),
        Fault::Junk => fail(Reason::NotHttp),
        Fault::BadChunked => fail(Reason::BadBody),
        Fault::Informational | Fault::Chunked | Fault::CloseAfter(_) => Outcome::Pass,
    }
}

fn http(addr: SocketAddr) -> CheckSpec {
    CheckSpec {
        timeout: Duration::from_millis(250),
        ..CheckSpec::http(addr, "/health")
    }
}

/// The farm's examples, with a body that is too large for any check.
fn faults() -> Vec<Fault> {
    Fault::EXAMPLES
        .iter()
        .map(|&fault| match fault {
            Fault::BigBody(_) => Fault::BigBody(3 << 20),
            other => other,
        })
        .collect()
}

#[test]
fn each_fault_has_its_own_reason_on_both_drivers() {
    let faults = faults();
    let farm = Farm::start(FarmOptions {
        count: faults.len() as u32 + 1,
        ..FarmOptions::default()
    })
    .unwrap();
    for (origin, &fault) in (0..).zip(&faults) {
        farm.set_fault(origin..origin + 1, fault).unwrap();
    }
    let healthy = http(farm.address(faults.len() as u32));
    let specs: Vec<CheckSpec> = (0..faults.len() as u32)
        .map(|origin| http(farm.address(origin)))
        .collect();
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        assert_eq!(bench.ask(&healthy).0, Outcome::Pass, "{backend}");
        let found = bench.ask_all(&specs);
        for (&fault, (outcome, phases)) in faults.iter().zip(found) {
            let wanted = expected(fault);
            // An origin that is gone before it has read anything answers with a
            // reset, which may overtake what it did before.
            let gone = matches!(
                fault,
                Fault::Reset(Phase::Accept) | Fault::Close(Phase::Accept)
            );
            let overtaken = gone
                && matches!(
                    outcome,
                    Outcome::Fail(Reason::ConnectReset | Reason::SendReset | Reason::ReceiveReset)
                );
            assert!(
                outcome == wanted || overtaken,
                "{backend}: {fault:?} gave {outcome:?}, not {wanted:?} ({phases:?})"
            );
        }
        bench.settle();
    }
}

#[test]
fn a_half_open_check_is_not_seen_by_the_application() {
    let farm = Farm::start(FarmOptions {
        count: 3,
        ..FarmOptions::default()
    })
    .unwrap();
    farm.set_fault(1..2, Fault::Refuse).unwrap();
    farm.set_fault(2..3, Fault::Blackhole).unwrap();
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let tcp = |origin| CheckSpec {
            timeout: Duration::from_millis(200),
            ..CheckSpec::tcp(farm.address(origin))
        };
        let found = bench.ask_all(&[tcp(0), tcp(1), tcp(2)]);
        assert_eq!(found[0].0, Outcome::Pass, "{backend}");
        assert!(found[0].1.connect_us.is_some());
        assert_eq!(
            found[1].0,
            Outcome::Fail(Reason::ConnectRefused),
            "{backend}"
        );
        assert_eq!(
            found[2].0,
            Outcome::Fail(Reason::ConnectTimeout),
            "{backend}"
        );
        bench.settle();
    }
    assert_eq!(farm.counts().connections, 0);
}

#[test]
fn phases_are_in_order_and_the_status_is_told() {
    let farm = Farm::start(FarmOptions {
        count: 2,
        ..FarmOptions::default()
    })
    .unwrap();
    farm.set_fault(1..2, Fault::SlowFirstByte(60)).unwrap();
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        for (origin, least_us) in [(0, 0), (1, 55_000)] {
            let (outcome, phases) = bench.ask(&http(farm.address(origin)));
            assert_eq!(outcome, Outcome::Pass, "{backend}");
            let connect_us = phases.connect_us.unwrap();
            let first_byte_us = phases.first_byte_us.unwrap();
            assert!(connect_us <= first_byte_us && first_byte_us <= phases.total_us);
            assert!(first_byte_us >= least_us, "{backend}: {phases:?}");
            assert_eq!(phases.status, Some(200));
            assert_eq!(phases.tls_us, None);
        }
    }
}
