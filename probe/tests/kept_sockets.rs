//! Probes use a socket again and again: whatever it has been through, the next probe
//! finds what is there, and no origin has to accept a half-open one.

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::{Bench, backends, check_of, options};
use watchfire_origin::{Farm, FarmOptions, Fault, Phase};
use watchfire_probe::{CheckSpec, Options, Outcome};
use watchfire_probe_core::keys::Value;
use watchfire_wire::Reason;

#[test]
fn a_socket_used_again_tells_each_origin_as_it_is() {
    let quiet = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    quiet.set_nonblocking(true).unwrap();
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
    let farm = Farm::start(FarmOptions {
        count: 5,
        ..FarmOptions::default()
    })
    .unwrap();
    farm.set_fault(1..2, Fault::Refuse).unwrap();
    farm.set_fault(2..3, Fault::Blackhole).unwrap();
    farm.set_fault(3..4, Fault::Reset(Phase::Head)).unwrap();
    farm.set_fault(4..5, Fault::Hang).unwrap();

    let tcp = |target: SocketAddr| CheckSpec {
        timeout: Duration::from_millis(120),
        ..CheckSpec::tcp(target)
    };
    let http = |target: SocketAddr| CheckSpec {
        timeout: Duration::from_millis(120),
        ..CheckSpec::http(target, "/")
    };
    let mut rounds = vec![
        (tcp(quiet.local_addr().unwrap()), Outcome::Pass),
        (tcp(farm.address(0)), Outcome::Pass),
        (tcp(farm.address(1)), Outcome::Fail(Reason::ConnectRefused)),
        (tcp(farm.address(0)), Outcome::Pass),
        (tcp(farm.address(2)), Outcome::Fail(Reason::ConnectTimeout)),
        (tcp(quiet.local_addr().unwrap()), Outcome::Pass),
        (http(farm.address(0)), Outcome::Pass),
        (http(farm.address(0)), Outcome::Pass),
        (http(farm.address(3)), Outcome::Fail(Reason::ReceiveReset)),
        (http(farm.address(0)), Outcome::Pass),
        (
            http(farm.address(4)),
            Outcome::Fail(Reason::FirstByteTimeout),
        ),
        (http(farm.address(0)), Outcome::Pass),
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
        // The farm has accepted for the HTTP checks alone.
        assert_eq!(farm.counts().connections, farm.counts().requests);
        bench.prober.shutdown();
    }
}

/// What one manner of probe leaves behind is not the next one's: how its connection
/// is ended, and who speaks first.
#[test]
fn no_manner_of_probe_inherits_from_another() {
    let (addr, ends) = who_tells_how_it_ended();
    let greeter = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let greeting = greeter.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in greeter.incoming().flatten() {
            let _ = stream.write_all(b"220 ready\r\n");
        }
    });
    let text = |text: &str| Value::Text(text.to_owned());
    let reset = CheckSpec::http(addr, "/");
    let fin = check_of(
        "http",
        addr,
        vec![("path", text("/")), ("close", text("fin"))],
    );
    let greets = Value::Table(vec![("expect".to_owned(), text("220"))]);
    let steps = vec![("steps", Value::List(vec![greets]))];
    let greeted = check_of("send-expect", greeting, steps);
    let half_open = CheckSpec::tcp(greeting);
    for backend in backends() {
        let mut bench = Bench::new(Options {
            in_flight_max: 1,
            ..options(backend)
        });
        for before in [&half_open, &greeted, &reset, &fin, &half_open] {
            for (spec, end) in [(&reset, Some(ErrorKind::ConnectionReset)), (&fin, None)] {
                assert_eq!(bench.ask(before).0, Outcome::Pass, "{backend}: {before:?}");
                assert_eq!(bench.ask(spec).0, Outcome::Pass, "{backend}: {spec:?}");
                bench.settle();
                let seen = ends.recv_timeout(Duration::from_secs(5)).unwrap();
                let seen = [seen].into_iter().chain(ends.try_iter()).last().unwrap();
                assert_eq!(seen, end, "{backend}: after {before:?}");
            }
        }
        bench.prober.shutdown();
    }
}

/// An HTTP server that tells of each connection whether it was reset.
fn who_tells_how_it_ended() -> (SocketAddr, Receiver<Option<ErrorKind>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let (ended, ends) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let end = stream.read(&mut [0; 1_024]);
            let _ = ended.send(end.err().map(|error| error.kind()));
        }
    });
    (addr, ends)
}
