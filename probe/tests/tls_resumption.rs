//! TLS sessions from one probe to the next, as nginx and OpenSSL's server see
//! them: on both drivers, and by both libraries (the servers that speak CBC alone
//! are the broad one's).

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::nginx::Nginx;
use common::openssl::{authority, file, https};
use common::{Bench, backends, options};
use watchfire_probe::{CheckSpec, Options, ReportKind, Trust};
use watchfire_probe_core::Kind;
use watchfire_probe_core::keys::Value;
use watchfire_wire::{First, Time};

/// Servers that each library speaks with, and what each version keeps.
const SERVERS: [(&str, &str); 4] = [
    ("rustls, TLS 1.3", "ssl_protocols TLSv1.3;"),
    ("rustls, TLS 1.2", "ssl_protocols TLSv1.2;"),
    (
        "OpenSSL, TLS 1.2",
        "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-RSA-AES128-SHA;",
    ),
    (
        "OpenSSL, TLS 1.3",
        "ssl_protocols TLSv1.3; ssl_ecdh_curve secp521r1;",
    ),
];

/// Requests that one look waits for.
const LOOK: usize = 3;

fn check(nginx: &Nginx, place: usize, keys: Vec<(&'static str, Value)>) -> CheckSpec {
    CheckSpec {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(100),
        ..https(nginx.addrs[place], keys)
    }
}

/// Probes it until nginx has seen some more requests; what it said of them.
fn watch(bench: &mut Bench, nginx: &Nginx, place: usize, spec: &CheckSpec) -> Vec<String> {
    let before = nginx.log(place).len();
    bench
        .prober
        .start_check(Arc::new(spec.clone()), 1, None, First::At(Time::ZERO));
    bench.prober.flush();
    let seen = nginx.log_beyond(place, before + LOOK);
    bench.prober.stop_check(spec.id());
    bench.prober.flush();
    seen[before..].iter().map(|it| it[0].clone()).collect()
}

#[test]
fn a_session_is_resumed_by_the_next_probe_unless_the_check_says_no() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    let lines = SERVERS.map(|(_, lines)| lines);
    let Some(nginx) = Nginx::start(dir, &lines) else {
        return;
    };
    for backend in backends() {
        let roots = Options {
            tls_roots: Some(dir.join("one-ca.pem")),
            ..options(backend)
        };
        let mut bench = Bench::new(roots);
        let own = || ("ca_file", file(dir, "one-ca.pem"));
        // A server's last request may be logged late: between two looks at it come
        // the others.
        for (which, keys) in [("roots", vec![]), ("ca_file", vec![own()])] {
            for (place, (name, _)) in SERVERS.iter().enumerate() {
                let spec = check(&nginx, place, keys.clone());
                let seen = watch(&mut bench, &nginx, place, &spec);
                assert_eq!(seen[0], ".", "{backend}, {name}, {which}: {seen:?}");
                let resumed = seen[1..].iter().filter(|it| *it == "r").count();
                // A probe that came too late for this machine begins anew.
                assert!(resumed + 1 >= LOOK, "{backend}, {name}, {which}: {seen:?}");
            }
        }
        for (place, (name, _)) in SERVERS.iter().enumerate() {
            let never = vec![own(), ("tls_resumption", Value::Flag(false))];
            let spec = check(&nginx, place, never);
            let seen = watch(&mut bench, &nginx, place, &spec);
            assert!(
                !seen.contains(&"r".to_owned()),
                "{backend}, {name}: {seen:?}"
            );
        }
        // Whoever asks once wants to see the certificate.
        bench.settle();
        while bench.prober.poll().is_some() {}
        for (place, (name, _)) in SERVERS.iter().enumerate() {
            let spec = check(&nginx, place, vec![]);
            let before = nginx.log(place).len();
            for _ in 0..2 {
                bench.ask(&spec);
            }
            let seen = nginx.log_beyond(place, before + 1);
            assert!(seen[before..].iter().all(|it| it[0] == "."), "{name}");
        }
    }
}

#[test]
fn after_a_fail_or_another_trust_the_certificate_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    let lines = SERVERS.map(|(_, lines)| lines);
    let Some(nginx) = Nginx::start(dir, &lines) else {
        return;
    };
    for backend in backends() {
        let roots = Options {
            tls_roots: Some(dir.join("one-ca.pem")),
            ..options(backend)
        };
        let mut bench = Bench::new(roots.clone());
        for (place, (name, _)) in SERVERS.iter().enumerate() {
            let mut failing = check(&nginx, place, vec![]);
            if let Kind::Http(http) = &mut failing.kind {
                http.path = "/missing".to_owned();
            }
            let seen = watch(&mut bench, &nginx, place, &failing);
            assert!(
                seen.iter().all(|it| it == "."),
                "{backend}, {name}: {seen:?}"
            );
            let spec = check(&nginx, place, vec![]);
            let before = nginx.log(place).len();
            bench
                .prober
                .start_check(Arc::new(spec.clone()), 1, None, First::At(Time::ZERO));
            bench.prober.flush();
            let resumed = |from: usize, count| {
                let seen = nginx.log_beyond(place, from + count);
                seen[from..].iter().filter(|it| it[0] == "r").count()
            };
            assert!(resumed(before, LOOK) > 0, "{backend}, {name}");
            bench.prober.trust(&Trust::read(&roots).unwrap());
            let told = nginx.log(place).len();
            bench.prober.flush();
            let seen = nginx.log_beyond(place, told + LOOK);
            // One probe may have been on its way.
            let full = seen[told..told + 2].iter().filter(|it| it[0] == ".");
            assert!(full.count() >= 1, "{backend}, {name}");
            bench.prober.stop_check(spec.id());
            bench.prober.flush();
        }
    }
}

#[test]
fn an_origin_that_forgot_its_sessions_is_up_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    let lines = SERVERS.map(|(_, lines)| lines);
    let Some(nginx) = Nginx::start(dir, &lines) else {
        return;
    };
    for backend in backends() {
        let roots = Options {
            tls_roots: Some(dir.join("one-ca.pem")),
            ..options(backend)
        };
        let mut bench = Bench::new(roots);
        let before: Vec<_> = (0..SERVERS.len()).map(|it| nginx.log(it).len()).collect();
        for place in 0..SERVERS.len() {
            let spec = Arc::new(CheckSpec {
                timeout: Duration::from_secs(1),
                interval: Duration::from_secs(1),
                ..check(&nginx, place, vec![])
            });
            bench
                .prober
                .start_check(spec, 1, None, First::At(Time::ZERO));
        }
        bench.prober.flush();
        for (place, before) in before.iter().enumerate() {
            nginx.log_beyond(place, before + 1);
        }
        nginx.reload();
        for (place, before) in before.iter().enumerate() {
            let seen = nginx.log_beyond(place, before + 4);
            let full = seen[*before..].iter().filter(|it| it[0] == ".").count();
            assert!(full >= 2, "{backend}, {}: {seen:?}", SERVERS[place].0);
        }
        let stats = bench.prober.stats();
        assert_eq!(stats.failed(), 0, "{backend}");
    }
}

#[test]
fn the_end_of_a_certificate_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    let lines = SERVERS.map(|(_, lines)| lines);
    let Some(nginx) = Nginx::start(dir, &lines) else {
        return;
    };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let days_9 = now_s.as_secs() + 9 * 86_400;
    for backend in backends() {
        let roots = Options {
            tls_roots: Some(dir.join("one-ca.pem")),
            ..options(backend)
        };
        let mut bench = Bench::new(roots);
        for (place, (name, _)) in SERVERS.iter().enumerate() {
            let never = vec![("tls_resumption", Value::Flag(false))];
            let spec = check(&nginx, place, never);
            watch(&mut bench, &nginx, place, &spec);
            let mut ends = Vec::new();
            while let Some(report) = bench.prober.poll() {
                if let ReportKind::Certificate { not_after_s } = report.kind {
                    ends.push(not_after_s);
                }
            }
            assert_eq!(ends.len(), 1, "{backend}, {name}");
            let made = ends[0].abs_diff(days_9);
            assert!(made < 3_600, "{backend}, {name}: {made} s");
        }
    }
}
