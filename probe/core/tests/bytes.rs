//! Whatever an origin sends, in whatever pieces: a probe ends in one word, and
//! nothing panics.

use std::sync::Arc;

use proptest::prelude::*;
use watchfire_probe_core::engine::{Action, Config, Engine, Event, Pacing, ReportKind};
use watchfire_probe_core::keys::{Keys, Value};
use watchfire_probe_core::rate::Caps;
use watchfire_probe_core::stream::tls::TlsContext;
use watchfire_probe_core::{CheckSpec, Kind, Schedule, TlsSpec};
use watchfire_wire::Time;

struct Given(Option<(&'static str, Value)>);

impl Keys for Given {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        match &self.0 {
            Some((name, _)) if *name == key => self.0.take().map(|(_, value)| value),
            _ => None,
        }
    }
}

/// Checks of every kind that listens to bytes.
fn specs() -> Vec<CheckSpec> {
    let target = "192.0.2.7:80".parse().unwrap();
    let text = |text: &str| Value::Text(text.to_owned());
    let of = |kind: &str, key: &'static str, value: Value| {
        let read = Kind::read(kind, &mut Given(Some((key, value))), &target);
        let (kind, tls) = read.unwrap().unwrap();
        CheckSpec {
            kind,
            tls: tls.then(|| TlsSpec {
                server_name: "a.example".to_owned(),
                verify: false,
                options: None,
            }),
            ..CheckSpec::tcp(target)
        }
    };
    vec![
        of("http", "path", text("/")),
        of("http", "expect_body_regex", text("a+b")),
        of(
            "http",
            "expect_json",
            Value::Table(vec![("/a".to_owned(), text("b"))]),
        ),
        of("https", "path", text("/")),
        of("tls", "half_open", Value::Flag(true)),
        of("send-expect", "recipe", text("smtp")),
        of("send-expect", "recipe", text("mysql")),
        of("send-expect-tls", "recipe", text("redis")),
        of("h2", "expect_body", text("ok")),
        of("h2-tls", "path", text("/")),
        of("grpc", "service", text("a")),
    ]
}

/// Junk, and pieces of what an honest origin would say.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..200),
        Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Just(b"Content-Length: 5\r\n\r\n{\"a\"".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n\r\n".to_vec()),
        Just(b"5\r\naaaab\r\n0\r\n\r\n".to_vec()),
        Just(b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26".to_vec()),
        Just(b"\x15\x03\x03\x00\x02\x02\x28".to_vec()),
        Just(b"220 a\r\n250 b\r\n221 c\r\n".to_vec()),
        Just(vec![b'x'; 4_096]),
        Just(b"\0\0\0\x04\0\0\0\0\0".to_vec()),
        Just(b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x02\0\x01\0\0\0\x01ok".to_vec()),
        Just(b"\0\0\x08\x06\0\0\0\0\0".to_vec()),
    ]
}

/// How many words a probe of `spec` ends in, if these pieces come on each of
/// its connections.
fn words(spec: &CheckSpec, pieces: &[Vec<u8>], tls: &Arc<TlsContext>) -> usize {
    let now = Time(5_000_000);
    let config = Config {
        slots: 4,
        pacing: Pacing::Scheduled,
        user_agent: "test".to_owned(),
        schedule: Schedule::new(now, 1_700_000_000_000_000),
        tls: Some(Arc::clone(tls)),
    };
    let mut engine = Engine::new(config, now);
    let spec = Arc::new(spec.clone());
    engine.ask(spec.id(), &spec, 1, Caps::default(), now);
    engine.advance(now);
    let mut actions = Vec::new();
    let mut next = 0;
    loop {
        engine.take_actions(&mut actions);
        if actions.is_empty() {
            break;
        }
        for action in actions.clone() {
            match action {
                Action::Open(slot) => {
                    next = 0;
                    engine.on_event(now, slot, Event::Connected);
                }
                Action::Exchange(slot) | Action::Receive(slot) | Action::Watch(slot) => {
                    let event = pieces
                        .get(next)
                        .map_or(Event::Eof, |piece| Event::Received(piece));
                    next += 1;
                    engine.on_event(now, slot, event);
                }
                Action::Close { slot, .. } => engine.on_event(now, slot, Event::Closed),
                Action::Cancel(_) => {}
            }
        }
    }
    assert_eq!(engine.slots_in_use(), 0);
    core::iter::from_fn(|| engine.poll_report())
        .filter(|report| matches!(report.kind, ReportKind::Opinion { .. }))
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_probe_ends_in_one_word(pieces in proptest::collection::vec(piece(), 0..12)) {
        let tls = Arc::new(TlsContext::new(Vec::new(), 1_700_000_000).unwrap());
        for spec in specs() {
            prop_assert_eq!(words(&spec, &pieces, &tls), 1, "{}", spec);
        }
    }
}
