//! What an HTTP check may ask for beyond a status, on real sockets.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Bench, backends, options};
use watchfire_probe::{CheckSpec, Inherited, Kind, Outcome, ReportKind};
use watchfire_probe_core::HealthRule;
use watchfire_probe_core::keys::{Keys, Value};
use watchfire_wire::{First, Reason, Verdict};

/// Answers every request with `answer` after `delay`; remembers the last
/// request.
fn origin(answer: &'static str, delay: Duration) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(String::new()));
    let last = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let last = Arc::clone(&last);
            std::thread::spawn(move || {
                let mut bytes = [0; 8_192];
                let Ok(count) = stream.read(&mut bytes) else {
                    return;
                };
                *last.lock().unwrap() = String::from_utf8_lossy(&bytes[..count]).into_owned();
                std::thread::sleep(delay);
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    (addr, seen)
}

struct Given(Vec<(&'static str, Value)>);

impl Keys for Given {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let place = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(place).1)
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn table(name: &str, value: Value) -> Value {
    Value::Table(vec![(name.to_owned(), value)])
}

fn http(addr: SocketAddr, keys: &[(&'static str, Value)]) -> CheckSpec {
    let read = Kind::read("http", &mut Given(keys.to_vec()), &addr);
    let (kind, _) = read.expect("a kind").expect("good keys");
    let spec = CheckSpec {
        kind,
        ..CheckSpec::tcp(addr)
    };
    assert_eq!(spec.validate(), Ok(()));
    spec
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nX-Ready: yes\r\nServer: nginx/1.27\r\n\
    Content-Type: application/json\r\nContent-Length: 26\r\n\r\n{\"status\": \"ok\", \"n\": [7]}";

#[test]
fn headers_and_content_are_looked_at() {
    let (addr, _) = origin(ANSWER, Duration::ZERO);
    let (bad_header, bad_content) = (
        Outcome::Fail(Reason::BadHeader),
        Outcome::Fail(Reason::BadContent),
    );
    let cases = [
        (
            "expect_headers",
            table("x-ready", text("yes")),
            Outcome::Pass,
        ),
        ("expect_headers", table("x-ready", text("no")), bad_header),
        (
            "expect_headers",
            table("X-Other", Value::Flag(true)),
            bad_header,
        ),
        (
            "expect_headers",
            table("Server", text("~^nginx/")),
            Outcome::Pass,
        ),
        (
            "expect_headers",
            table("Server", text("~^apache")),
            bad_header,
        ),
        ("expect_body", text("\"ok\""), Outcome::Pass),
        ("expect_body", text("all well"), bad_content),
        ("expect_body_regex", text("status.*ok"), Outcome::Pass),
        ("expect_body_regex", text("^ok"), bad_content),
        (
            "expect_json",
            table("/n/0", Value::Number(7)),
            Outcome::Pass,
        ),
        ("expect_json", table("/status", text("bad")), bad_content),
        ("expect_json", table("/gone", text("ok")), bad_content),
    ];
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let specs: Vec<CheckSpec> = cases
            .iter()
            .map(|(key, value, _)| http(addr, &[(*key, value.clone())]))
            .collect();
        for ((key, value, wanted), found) in cases.iter().zip(bench.ask_all(&specs)) {
            assert_eq!(found.0, *wanted, "{backend}: {key} = {value:?}");
        }
    }
}

#[test]
fn what_is_configured_is_sent() {
    let (addr, seen) = origin(ANSWER, Duration::ZERO);
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let spec = http(
            addr,
            &[
                ("method", text("POST")),
                ("path", text("/ready")),
                ("body", text("ping")),
                ("headers", table("X-Key", text("s3cret"))),
                ("version", text("1.0")),
            ],
        );
        assert_eq!(bench.ask(&spec).0, Outcome::Pass, "{backend}");
        let request = seen.lock().unwrap().clone();
        assert!(request.starts_with("POST /ready HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("\r\nX-Key: s3cret\r\n"), "{request}");
        assert!(request.contains("\r\nContent-Length: 4\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\nping"), "{request}");
    }
}

#[test]
fn degraded_is_a_flag_beside_up() {
    let (addr, _) = origin(ANSWER, Duration::from_millis(30));
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        for (key, value, degraded) in [
            ("degraded_status", text("200"), true),
            ("degraded_status", text("429"), false),
            ("degraded_headers", table("X-Ready", text("yes")), true),
            ("degraded_after", text("5ms"), true),
            ("degraded_after", text("400ms"), false),
        ] {
            let (outcome, phases) = bench.ask(&http(addr, &[(key, value.clone())]));
            assert_eq!(outcome, Outcome::Pass, "{backend}: {key} = {value:?}");
            assert_eq!(phases.degraded, degraded, "{backend}: {key} = {value:?}");
        }
    }
}

#[test]
fn an_origin_that_says_so_is_down_at_once() {
    let (addr, _) = origin(ANSWER, Duration::ZERO);
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let at_once = ("down_at_once_headers", table("X-Ready", text("yes")));
        let spec = CheckSpec {
            interval: Duration::from_millis(400),
            timeout: Duration::from_millis(400),
            rule: HealthRule::RiseFall { rise: 9, fall: 9 },
            ..http(addr, &[at_once])
        };
        let up = Inherited {
            verdict: Verdict::Up,
            contrary: 0,
        };
        bench
            .prober
            .start_check(Arc::new(spec), 1, Some(up), First::PHASE);
        let first = bench.reports(Duration::from_millis(900)).into_iter().next();
        assert!(
            matches!(
                first.map(|report| report.kind),
                Some(ReportKind::Measured {
                    verdict: Verdict::Down,
                    reason: Reason::DownAtOnce,
                    ..
                })
            ),
            "{backend}: {first:?}"
        );
    }
}
