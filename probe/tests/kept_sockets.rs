//! Half-open probes use a socket again and again: whatever it has been through,
//! the next probe finds what is there, and the origin never has to accept.

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use common::{Bench, backends, options};
use watchfire_origin::{Farm, FarmOptions, Fault};
use watchfire_probe::{CheckSpec, Options, Outcome};
use watchfire_wire::Reason;

#[test]
fn a_socket_used_again_tells_each_origin_as_it_is() {
    let quiet = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    quiet.set_nonblocking(true).unwrap();
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
    let farm = Farm::start(FarmOptions {
        count: 3,
        ..FarmOptions::default()
    })
    .unwrap();
    farm.set_fault(1..2, Fault::Refuse).unwrap();
    farm.set_fault(2..3, Fault::Blackhole).unwrap();

    let tcp = |target: SocketAddr| CheckSpec {
        timeout: Duration::from_millis(120),
        ..CheckSpec::tcp(target)
    };
    let mut rounds = vec![
        (tcp(quiet.local_addr().unwrap()), Outcome::Pass),
        (tcp(farm.address(0)), Outcome::Pass),
        (tcp(farm.address(1)), Outcome::Fail(Reason::ConnectRefused)),
        (tcp(farm.address(0)), Outcome::Pass),
        (tcp(farm.address(2)), Outcome::Fail(Reason::ConnectTimeout)),
        (tcp(quiet.local_addr().unwrap()), Outcome::Pass),
        (CheckSpec::http(farm.address(0), "/"), Outcome::Pass),
        (tcp(farm.address(0)), Outcome::Pass),
    ];
    if let Some(six) = &six {
        rounds.insert(3, (tcp(six.local_addr().unwrap()), Outcome::Pass));
    }
    for backend in backends() {
        // One slot: every probe comes after every other in it.
        let mut bench = Bench::new(Options {
            in_flight_max: 1,
            ..options(backend)
        });
        for round in 0..4 {
            for (spec, expected) in &rounds {
                let (outcome, _) = bench.ask(spec);
                assert_eq!(outcome, *expected, "{backend}, round {round}: {spec:?}");
            }
        }
        bench.settle();
        let none = quiet.accept().unwrap_err().kind();
        assert_eq!(
            none,
            ErrorKind::WouldBlock,
            "{backend}: nothing reached the application"
        );
        // The farm has accepted for the HTTP check alone.
        assert_eq!(farm.counts().connections, farm.counts().requests);
        bench.prober.shutdown();
    }
}
