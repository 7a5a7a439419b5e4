//! gRPC's health check against a real server of another language, with and without TLS,
//! on both drivers.

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::nginx::Nginx;
use common::openssl::{authority, file, text};
use common::{Bench, backends, check_of, options};
use watchfire_probe::{CheckSpec, Outcome};
use watchfire_wire::Reason;

struct Grpc {
    child: Child,
    /// With a health service, without one, and with one in TLS.
    addrs: Vec<SocketAddr>,
}

impl Grpc {
    fn start(dir: &Path) -> Option<Self> {
        if !Path::new("/usr/lib/python3/dist-packages/grpc").exists() {
            assert!(
                std::env::var_os("CI").is_none(),
                "python3-grpcio is not installed"
            );
            eprintln!("skipped: gRPC is not installed (Debian: apt-get install python3-grpcio)");
            return None;
        }
        // Debian's own interpreter has Debian's packages.
        let mut child = Command::new("/usr/bin/python3")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/health_server.py"
            ))
            .args(["one.key", "one.pem"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian's Python");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("its ports");
        let port = |text: &str| SocketAddr::from(([127, 0, 0, 1], text.parse().expect("a port")));
        Some(Self {
            child,
            addrs: line.split_whitespace().map(port).collect(),
        })
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(spec: &CheckSpec) -> Vec<(Outcome, Option<u16>)> {
    let of = |backend| {
        let mut bench = Bench::new(options(backend));
        let (outcome, phases) = bench.ask(spec);
        bench.settle();
        (outcome, phases.status)
    };
    backends().into_iter().map(of).collect()
}

#[test]
fn what_a_health_service_says_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    let Some(grpc) = Grpc::start(dir) else { return };
    let fail = Outcome::Fail;
    let rows = [
        ("", Outcome::Pass, 200),
        ("up", Outcome::Pass, 200),
        ("down", fail(Reason::GrpcNotServing), 200),
        ("odd", fail(Reason::GrpcUnknown), 200),
        ("new", fail(Reason::GrpcServiceUnknown), 200),
        // What the call itself ended with.
        ("nobody", fail(Reason::GrpcServiceUnknown), 5),
        ("busy", fail(Reason::GrpcStatus), 14),
    ];
    for (service, outcome, status) in rows {
        for (kind, place) in [("grpc", 0), ("grpc-tls", 2)] {
            let mut keys = vec![("service", text(service))];
            if place == 2 {
                keys.push(("ca_file", file(dir, "one-ca.pem")));
            }
            for found in ask(&check_of(kind, grpc.addrs[place], keys.clone())) {
                assert_eq!(found, (outcome, Some(status)), "{kind} {service}");
            }
        }
    }
    for found in ask(&check_of("grpc", grpc.addrs[1], vec![])) {
        assert_eq!(found, (fail(Reason::GrpcUnimplemented), Some(12)));
    }
    let slow = CheckSpec {
        timeout: std::time::Duration::from_millis(400),
        ..check_of("grpc", grpc.addrs[0], vec![("service", text("hangs"))])
    };
    // That it greets us is no answer.
    for found in ask(&slow) {
        assert_eq!(found.0, fail(Reason::FirstByteTimeout));
    }
}

#[test]
fn a_server_of_pages_is_no_health_service() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    let page = "location = /grpc.health.v1.Health/Check { return 200 'ok'; }";
    let Some(nginx) = Nginx::start_as(dir, &[("http2", ""), ("http2", page)]) else {
        return;
    };
    for found in ask(&check_of("grpc", nginx.addrs[0], vec![])) {
        assert_eq!(found, (Outcome::Fail(Reason::BadStatus), Some(404)));
    }
    for found in ask(&check_of("grpc", nginx.addrs[1], vec![])) {
        assert_eq!(found, (Outcome::Fail(Reason::GrpcBroken), Some(200)));
    }
}
