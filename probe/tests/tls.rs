//! HTTPS checks against a real TLS server, on both drivers.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use common::{Bench, backends, options};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use watchfire_probe::{CheckSpec, Kind, Options, Outcome, Trust};
use watchfire_probe_core::{KIND_KEYS, TlsSpec};
use watchfire_wire::{First, Reason, Unmeasured};

/// What a server does with its connections.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers requests until the client closes.
    Answers,
    /// Never says a word.
    Hangs,
    /// Speaks HTTP without TLS.
    Plain,
    /// Closes at once.
    Closes,
    /// Says this, ends TLS, and leaves TCP to the client.
    EndsByNotify(&'static [u8]),
}

/// A server on loopback; its threads end with the process.
fn server(manner: Manner, certified: &CertifiedKey<rcgen::KeyPair>) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || serve(manner, stream, config));
        }
    });
    addr
}

fn serve(manner: Manner, mut stream: TcpStream, config: Arc<ServerConfig>) {
    match manner {
        Manner::Closes => {}
        Manner::Hangs => {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
        }
        Manner::Plain => {
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
        Manner::EndsByNotify(answer) => {
            let tls = ServerConnection::new(config).unwrap();
            let mut stream = StreamOwned::new(tls, stream);
            let mut request = [0; 4_096];
            if stream.read(&mut request).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
                let _ = stream.sock.read_to_end(&mut Vec::new());
            }
        }
        Manner::Answers => {
            let tls = ServerConnection::new(config).unwrap();
            let mut stream = StreamOwned::new(tls, stream);
            let mut request = [0; 4_096];
            while stream.read(&mut request).is_ok_and(|count| count > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n";
                let body = [b'x'; 3_000];
                if stream.write_all(answer).is_err() || stream.write_all(&body).is_err() {
                    return;
                }
            }
        }
    }
}

fn https(addr: SocketAddr, server_name: &str, verify: bool) -> CheckSpec {
    let mut spec = CheckSpec {
        interval: Duration::from_millis(700),
        timeout: Duration::from_millis(700),
        ..CheckSpec::http(addr, "/")
    };
    spec.tls = Some(TlsSpec {
        server_name: server_name.to_owned(),
        verify,
        options: None,
    });
    spec
}

#[test]
fn trust_changes_while_probes_run() {
    let ours = generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let other = generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let roots = tempfile::NamedTempFile::new().unwrap();
    let spec = https(server(Manner::Answers, &other), "origin.test", true);
    for backend in backends() {
        std::fs::write(roots.path(), ours.cert.pem()).unwrap();
        let options = Options {
            tls_roots: Some(roots.path().to_owned()),
            ..options(backend)
        };
        let before = Trust::read(&options).unwrap();
        let mut bench = Bench::new(options.clone());
        let unknown = Outcome::Fail(Reason::TlsUnknownIssuer);
        assert_eq!(bench.ask(&spec).0, unknown, "{backend}");
        let both = format!("{}{}", ours.cert.pem(), other.cert.pem());
        std::fs::write(roots.path(), both).unwrap();
        let after = Trust::read(&options).unwrap();
        assert!(!after.is_same(&before) && after.count() == 2);
        bench.prober.trust(&after);
        assert_eq!(bench.ask(&spec).0, Outcome::Pass, "{backend}");
        bench.prober.trust(&before);
        assert_eq!(bench.ask(&spec).0, unknown, "{backend}");
        std::fs::write(roots.path(), "no certificate\n").unwrap();
        assert!(Trust::read(&options).is_err());
    }
}

#[test]
fn certificates_are_judged_by_name_and_trust() {
    let ours = generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let other = generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), ours.cert.pem()).unwrap();
    let trusted = server(Manner::Answers, &ours);
    let stranger = server(Manner::Answers, &other);
    let hangs = server(Manner::Hangs, &ours);
    let plain = server(Manner::Plain, &ours);
    let closes = server(Manner::Closes, &ours);
    let cases = [
        (https(trusted, "origin.test", true), Outcome::Pass),
        (
            https(trusted, "else.test", true),
            Outcome::Fail(Reason::TlsName),
        ),
        (
            https(stranger, "origin.test", true),
            Outcome::Fail(Reason::TlsUnknownIssuer),
        ),
        (https(stranger, "else.test", false), Outcome::Pass),
        (
            https(hangs, "origin.test", true),
            Outcome::Fail(Reason::TlsTimeout),
        ),
        (
            https(plain, "origin.test", true),
            Outcome::Fail(Reason::TlsHandshake),
        ),
        (
            https(closes, "origin.test", true),
            Outcome::Fail(Reason::TlsHandshake),
        ),
    ];
    for backend in backends() {
        let mut bench = Bench::new(Options {
            tls_roots: Some(roots.path().to_owned()),
            ..options(backend)
        });
        let specs: Vec<CheckSpec> = cases.iter().map(|(spec, _)| spec.clone()).collect();
        for ((outcome, phases), (spec, wanted)) in bench.ask_all(&specs).into_iter().zip(&cases) {
            assert_eq!(outcome, *wanted, "{backend}: {spec} ({phases:?})");
            if *wanted == Outcome::Pass {
                let (tls_us, first_us) = (phases.tls_us.unwrap(), phases.first_byte_us.unwrap());
                assert!(phases.connect_us.unwrap() <= tls_us && tls_us <= first_us);
            }
        }
        bench.settle();
    }
}

#[test]
fn the_end_of_tls_is_the_end_of_what_was_said() {
    let certified = generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let whole = server(
        Manner::EndsByNotify(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"),
        &certified,
    );
    let cut = server(
        Manner::EndsByNotify(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
        &certified,
    );
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let specs = [
            https(whole, "origin.test", false),
            https(cut, "origin.test", false),
        ];
        let found = bench.ask_all(&specs);
        assert_eq!(found[0].0, Outcome::Pass, "{backend}");
        assert_eq!(found[1].0, Outcome::Fail(Reason::ClosedEarly), "{backend}");
        bench.settle();
    }
}

#[test]
fn a_kept_tls_connection_serves_the_next_probe() {
    let certified = generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let addr = server(Manner::Answers, &certified);
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let mut spec = https(addr, "origin.test", false);
        (spec.interval, spec.timeout) = (Duration::from_millis(150), Duration::from_millis(150));
        if let Kind::Http(http) = &mut spec.kind {
            http.reuse = true;
        }
        bench
            .prober
            .start_check(Arc::new(spec), 1, None, First::PHASE);
        bench.reports(Duration::from_millis(2_200));
        let stats = bench.prober.stats();
        let https = KIND_KEYS.iter().position(|key| *key == "https").unwrap();
        assert!(
            stats.passed() >= 5 && stats.failed() == 0,
            "{backend}: {:?}",
            stats.by_reason
        );
        // Only the first one connected.
        assert_eq!(stats.kinds[https].connect_us.len(), 1, "{backend}");
    }
}

#[test]
fn without_trusted_certificates_nothing_is_measured() {
    let certified = generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let addr = server(Manner::Answers, &certified);
    let empty = tempfile::NamedTempFile::new().unwrap();
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        // A name that no certificate can bear is our own mistake.
        let (outcome, _) = bench.ask(&https(addr, "-", false));
        assert_eq!(
            outcome,
            Outcome::NotMeasured(Unmeasured::Unsupported),
            "{backend}"
        );
        let refused = watchfire_probe::Prober::start(
            Options {
                tls_roots: Some(empty.path().to_owned()),
                ..options(backend)
            },
            Arc::new(|| {}),
        );
        let words = refused
            .expect_err("a named file must be usable")
            .to_string();
        assert!(words.contains("name a file of PEM certificates"), "{words}");
    }
}

#[test]
fn what_the_library_said_of_a_certificate_is_remembered() {
    let certified = generate_simple_self_signed(["origin.example".to_owned()]).unwrap();
    let target = server(Manner::Answers, &certified);
    let roots = tempfile::NamedTempFile::new().unwrap();
    let other = generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    std::fs::write(roots.path(), other.cert.pem()).unwrap();
    let spec = CheckSpec {
        tls: Some(TlsSpec {
            server_name: "origin.example".to_owned(),
            verify: true,
            options: None,
        }),
        interval: Duration::from_millis(500),
        ..CheckSpec::http(target, "/")
    };
    for backend in backends() {
        let mut bench = Bench::new(Options {
            tls_roots: Some(roots.path().to_owned()),
            ..options(backend)
        });
        bench
            .prober
            .start_check(Arc::new(spec.clone()), 1, None, First::PHASE);
        bench.prober.flush();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let answers = loop {
            let _ = bench.report(Duration::from_millis(200));
            let traced = bench
                .prober
                .statistics()
                .trace(spec.id())
                .unwrap_or_default();
            if !traced.answers.is_empty() {
                assert!(
                    traced
                        .probes
                        .iter()
                        .all(|it| it.code == Reason::TlsUnknownIssuer.code())
                );
                break traced.answers;
            }
            assert!(std::time::Instant::now() < deadline, "{traced:?}");
        };
        let tls = answers[0].tls.as_deref().unwrap();
        assert!(
            tls.contains("self-signed") || tls.contains("self signed"),
            "{tls}"
        );
        assert_eq!(&*answers[0].answer, "");
    }
}
