//! What an origin may say over HTTP/2, and what each kind that rides on it makes of
//! that: every fault by its name, wherever the bytes are cut.

use proptest::prelude::*;
use watchfire_wire::Reason;

use super::frame::{self, END_HEADERS, END_STREAM, PADDED, put};
use super::hpack::encode;
use crate::keys::{Keys, Value};
use crate::kind::{CheckKind, Exchange, Next, grpc, h2};
use crate::limits::{HEADERS, HTTP2_FRAMES, INTERIM_HEADS};

/// Frames, one after the other.
#[derive(Clone, Default)]
pub(crate) struct Say(pub(crate) Vec<u8>);

impl Say {
    /// An origin that said hello.
    pub(crate) fn hello() -> Self {
        Self::default().frame(frame::SETTINGS, 0, 0, b"")
    }

    pub(crate) fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        put(kind, flags, stream, payload, &mut self.0);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn headers(self, flags: u8, fields: &[(&str, &str)]) -> Self {
        self.frame(frame::HEADERS, END_HEADERS | flags, 1, &block(fields))
    }

    fn ok(self) -> Self {
        self.headers(0, &[(":status", "200"), ("x-ready", "yes")])
    }

    pub(crate) fn data(self, flags: u8, content: &[u8]) -> Self {
        self.frame(frame::DATA, flags, 1, content)
    }

    /// The same frame so often.
    fn times(mut self, count: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        for _ in 0..count {
            put(kind, flags, stream, payload, &mut self.0);
        }
        self
    }
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        encode(name, value, false, &mut block);
    }
    block
}

struct Given(Vec<(&'static str, Value)>);

impl Keys for Given {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(at).1)
    }
}

pub(crate) fn read<S: CheckKind>(keys: &[(&'static str, Value)]) -> S {
    let target = "192.0.2.7:80".parse().unwrap();
    let spec = S::read(&mut Given(keys.to_vec()), &target).unwrap();
    spec.validate().unwrap();
    spec
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// What a probe comes to if these bytes come, cut here, and then the end; and what it
/// said beside its request.
fn probe<S: CheckKind>(spec: &S, bytes: &[u8], cuts: &[usize]) -> (Next, Vec<u8>) {
    let prepared = spec.prepare("test", false);
    let mut exchange = spec.begin();
    let mut next = exchange.connected(spec);
    let mut said = Vec::new();
    let mut from = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let cut = cut.clamp(from, bytes.len());
        if next == Next::Send {
            said.extend_from_slice(exchange.outgoing(&prepared));
            exchange.flushed();
        }
        if cut > from && matches!(next, Next::More | Next::Send) {
            next = exchange.receive(spec, &bytes[from..cut]);
        }
        from = cut;
    }
    if matches!(next, Next::More | Next::Send) {
        next = exchange.ended(spec);
    }
    assert!(said.starts_with(&prepared));
    (next, said.split_off(prepared.len()))
}

/// What it comes to at once, and byte by byte: the same.
pub(crate) fn outcome<S: CheckKind>(spec: &S, say: &Say) -> Result<(), Reason> {
    let each: Vec<usize> = (0..say.0.len()).collect();
    let (at_once, _) = probe(spec, &say.0, &[]);
    assert_eq!(at_once, probe(spec, &say.0, &each).0, "{:?}", say.0);
    match at_once {
        Next::Pass { keep: false } => Ok(()),
        Next::Fail(reason) => Err(reason),
        other => panic!("{other:?} is no end"),
    }
}

#[test]
fn what_http_expects_is_expected_here_too() {
    let plain: h2::Spec = read(&[]);
    let body = |content: &[u8]| Say::hello().ok().data(END_STREAM, content);
    assert_eq!(outcome(&plain, &body(b"ok")), Ok(()));
    let empty = Say::hello().headers(END_STREAM, &[(":status", "204")]);
    assert_eq!(outcome(&plain, &empty), Ok(()));
    let padded = Say::hello()
        .frame(
            frame::HEADERS,
            0x2c,
            1,
            &[
                &[2, 0, 0, 0, 0, 9][..],
                &block(&[(":status", "200")]),
                b"\0\0",
            ]
            .concat(),
        )
        .data(PADDED | END_STREAM, b"\x03ok\0\0\0");
    assert_eq!(outcome(&plain, &padded), Ok(()));
    let parts = block(&[(":status", "200"), ("a", "b")]);
    let parts = Say::hello()
        .frame(frame::HEADERS, END_STREAM, 1, &parts[..3])
        .frame(frame::CONTINUATION, 0, 1, &parts[3..4])
        .frame(frame::CONTINUATION, END_HEADERS, 1, &parts[4..]);
    assert_eq!(outcome(&plain, &parts), Ok(()));
    let early = Say::hello().headers(0, &[(":status", "103"), ("x-ready", "no")]);
    assert_eq!(outcome(&plain, &early.ok().data(END_STREAM, b"")), Ok(()));
    let trailers = Say::hello()
        .ok()
        .data(0, b"ok")
        .headers(END_STREAM, &[("a", "b")]);
    assert_eq!(outcome(&plain, &trailers), Ok(()));
    let bad = Say::hello().headers(END_STREAM, &[(":status", "503")]);
    assert_eq!(outcome(&plain, &bad), Err(Reason::BadStatus));

    let table = |name: &str, value: &str| Value::Table(vec![(name.to_owned(), text(value))]);
    let ready: h2::Spec = read(&[("expect_headers", table("X-Ready", "yes"))]);
    assert_eq!(outcome(&ready, &body(b"")), Ok(()));
    let not = Say::hello().headers(END_STREAM, &[(":status", "200")]);
    assert_eq!(outcome(&ready, &not), Err(Reason::BadHeader));
    let holds: h2::Spec = read(&[("expect_json", table("/a", "b"))]);
    assert_eq!(outcome(&holds, &body(b"{\"a\":\"b\"}")), Ok(()));
    assert_eq!(outcome(&holds, &body(b"{}")), Err(Reason::BadContent));
    let down: h2::Spec = read(&[("down_at_once_status", text("503"))]);
    assert_eq!(outcome(&down, &bad), Err(Reason::DownAtOnce));
    let head: h2::Spec = read(&[("method", text("HEAD"))]);
    let long = Say::hello().headers(END_STREAM, &[(":status", "200"), ("content-length", "9")]);
    assert_eq!(outcome(&head, &long), Ok(()));
}

#[test]
fn what_goes_on_is_read_no_further_than_a_check_looks() {
    let spec: h2::Spec = read(&[]);
    let mut say = Say::hello().ok();
    for _ in 0..5 {
        say = say.data(0, &[b'x'; 4_000]);
    }
    assert_eq!(outcome(&spec, &say), Ok(()));
    let many = Say::hello().ok().times(20_000, frame::DATA, 0, 1, b"x");
    assert_eq!(probe(&spec, &many.0, &[]).0, Next::Pass { keep: false });
    let huge = Say::hello().headers(0, &[(":status", "200"), ("content-length", "99999999")]);
    assert_eq!(outcome(&spec, &huge), Err(Reason::BodyTooLarge));
}

#[test]
fn what_is_to_be_acknowledged_is() {
    let spec: h2::Spec = read(&[]);
    let say = Say::hello()
        .frame(frame::PING, 0, 0, b"12345678")
        .frame(frame::PING, frame::ACK, 0, b"not ours")
        .frame(frame::SETTINGS, frame::ACK, 0, b"")
        .frame(frame::SETTINGS, 0, 0, b"\0\x04\0\0\xff\xff\0\x99\0\0\0\x01");
    let end = say.0.len();
    let whole = say.ok().data(END_STREAM, b"");
    let acks = Say::default()
        .frame(frame::SETTINGS, frame::ACK, 0, b"")
        .frame(frame::PING, frame::ACK, 0, b"12345678")
        .frame(frame::SETTINGS, frame::ACK, 0, b"");
    for cuts in [vec![end], (0..=end).collect()] {
        let (next, said) = probe(&spec, &whole.0, &cuts);
        assert_eq!(next, Next::Pass { keep: false });
        assert_eq!(said, acks.0);
    }
    // An answer that is whole needs none.
    assert_eq!(probe(&spec, &whole.0, &[]).1, b"");
}

#[test]
fn every_fault_has_its_reason() {
    let spec: h2::Spec = read(&[]);
    let many: Vec<_> = (0..=HEADERS).map(|_| ("a", "b")).collect();
    let many = [&[(":status", "200")][..], &many].concat();
    // Each of its bytes stands for 66 bytes of a list.
    let bomb = [b"\x88".to_vec(), vec![0x90; 1_000]].concat();
    let interim =
        (0..=INTERIM_HEADS).fold(Say::hello(), |say, _| say.headers(0, &[(":status", "103")]));
    let fields = |fields: &[(&str, &str)]| Say::hello().headers(END_STREAM, fields);
    let ok = (":status", "200");
    let setting = |bytes: &[u8]| Say::default().frame(frame::SETTINGS, 0, 0, bytes);
    let headers = |flags, payload: &[u8]| Say::hello().frame(frame::HEADERS, flags, 1, payload);
    let closed = Reason::ClosedEarly;
    let cases = [
        // What is none.
        (Say::default(), closed),
        (
            Say::default().raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            Reason::NotHttp2,
        ),
        (
            Say::default().raw(b"220 a.example ESMTP\r\n"),
            Reason::NotHttp2,
        ),
        (
            Say::default().raw(b"\x15\x03\x01\0\x02\x02\x46\0\0\0"),
            Reason::NotHttp2,
        ),
        (
            Say::default().frame(frame::PING, 0, 0, b"12345678"),
            Reason::Http2Protocol,
        ),
        (
            Say::default().frame(frame::SETTINGS, frame::ACK, 0, b""),
            Reason::Http2Protocol,
        ),
        // What breaks off.
        (Say::hello(), closed),
        (Say::hello().ok(), closed),
        (Say::hello().ok().data(0, b"ok"), closed),
        (Say::hello().raw(b"\0\0\x08\x06\0\0\0"), closed),
        // What ends it.
        (
            Say::hello().frame(frame::RST_STREAM, 0, 1, b"\0\0\0\x02"),
            Reason::Http2Reset,
        ),
        (
            Say::hello()
                .ok()
                .frame(frame::RST_STREAM, 0, 1, b"\0\0\0\0"),
            Reason::Http2Reset,
        ),
        (
            Say::hello().frame(frame::GOAWAY, 0, 0, &[0; 8]),
            Reason::Http2Goaway,
        ),
        (
            Say::default().frame(frame::GOAWAY, 0, 0, &[0; 8]),
            Reason::Http2Goaway,
        ),
        (
            Say::hello().frame(frame::GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\x0bcalm"),
            Reason::Http2Goaway,
        ),
        // It may finish what it began, and does not.
        (
            Say::hello().frame(frame::GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0"),
            closed,
        ),
        // Lengths.
        (
            Say::hello().raw(b"\0\x40\x01\0\0\0\0\0\x01"),
            Reason::Http2FrameSize,
        ),
        (
            Say::hello().raw(b"\xff\xff\xff\x77\0\0\0\0\0"),
            Reason::Http2FrameSize,
        ),
        (
            Say::hello().frame(frame::PING, 0, 0, b"1234567"),
            Reason::Http2FrameSize,
        ),
        (setting(b"\0\x04\0\0\xff"), Reason::Http2FrameSize),
        (
            Say::hello().frame(frame::SETTINGS, frame::ACK, 0, &[0; 6]),
            Reason::Http2FrameSize,
        ),
        (
            Say::hello().frame(frame::RST_STREAM, 0, 1, b"\0\0\0"),
            Reason::Http2FrameSize,
        ),
        (
            Say::hello().frame(frame::WINDOW_UPDATE, 0, 0, b"\0\0\0\0\x01"),
            Reason::Http2FrameSize,
        ),
        (
            Say::hello().frame(frame::PRIORITY, 0, 3, b"\0"),
            Reason::Http2FrameSize,
        ),
        (
            Say::hello().frame(frame::GOAWAY, 0, 0, &[0; 7]),
            Reason::Http2FrameSize,
        ),
        (
            headers(0x20 | END_HEADERS, b"\0\0\0\0"),
            Reason::Http2FrameSize,
        ),
        (headers(PADDED | END_HEADERS, b""), Reason::Http2FrameSize),
        // Padding that lies.
        (
            headers(PADDED | END_HEADERS, b"\x02\x88"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().ok().data(PADDED, b"\x03ab"),
            Reason::Http2Protocol,
        ),
        // Settings that nobody may have.
        (setting(b"\0\x02\0\0\0\x01"), Reason::Http2Protocol),
        (setting(b"\0\x05\0\0\x3f\xff"), Reason::Http2Protocol),
        (setting(b"\0\x05\x01\0\0\0"), Reason::Http2Protocol),
        (setting(b"\0\x04\x80\0\0\0"), Reason::Http2FlowControl),
        (
            Say::hello().frame(frame::SETTINGS, 0, 1, b""),
            Reason::Http2Protocol,
        ),
        // Frames out of their place.
        (Say::hello().data(0, b"ok"), Reason::Http2Protocol),
        (
            Say::hello().frame(frame::DATA, 0, 0, b"ok"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::HEADERS, END_HEADERS, 0, b"\x88"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::HEADERS, END_HEADERS, 2, b"\x88"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::HEADERS, END_HEADERS, 3, b"\x88"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x88"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::RST_STREAM, 0, 0, &[0; 4]),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::RST_STREAM, 0, 3, &[0; 4]),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::PING, 0, 1, b"12345678"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::GOAWAY, 0, 1, &[0; 8]),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::PRIORITY, 0, 0, &[0; 5]),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::CONTINUATION, END_HEADERS, 1, b"\x88"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::CONTINUATION, END_HEADERS, 3, b"\x88"),
            Reason::Http2Protocol,
        ),
        (
            headers(0, b"\x88").frame(frame::PING, 0, 0, b"12345678"),
            Reason::Http2Protocol,
        ),
        (
            headers(0, b"\x88").frame(frame::CONTINUATION, 0, 3, b"\x88"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::WINDOW_UPDATE, 0, 3, b"\0\0\0\x01"),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::WINDOW_UPDATE, 0, 0, &[0; 4]),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().frame(frame::WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"),
            Reason::Http2FlowControl,
        ),
        // Floods.
        (
            Say::hello().times(HTTP2_FRAMES, frame::PING, 0, 0, b"12345678"),
            Reason::Http2Flood,
        ),
        (
            Say::hello().times(HTTP2_FRAMES, frame::SETTINGS, 0, 0, b""),
            Reason::Http2Flood,
        ),
        (
            Say::hello().times(HTTP2_FRAMES, frame::WINDOW_UPDATE, 0, 1, b"\0\0\0\x01"),
            Reason::Http2Flood,
        ),
        (
            Say::hello().times(HTTP2_FRAMES, frame::PRIORITY, 0, 3, &[0; 5]),
            Reason::Http2Flood,
        ),
        (
            Say::hello().times(HTTP2_FRAMES, 0x77, 0, 0, b"whatever"),
            Reason::Http2Flood,
        ),
        (
            Say::hello()
                .ok()
                .times(HTTP2_FRAMES, frame::DATA, 0, 1, b""),
            Reason::Http2Flood,
        ),
        (
            headers(0, b"\x88").times(HTTP2_FRAMES, frame::CONTINUATION, 0, 1, b""),
            Reason::Http2Flood,
        ),
        (interim, Reason::Http2Flood),
        // Heads that are too large, or stand for too much.
        (
            headers(0, b"\x88").times(2, frame::CONTINUATION, 0, 1, &[0; 9_000]),
            Reason::HeadersTooLarge,
        ),
        (headers(END_HEADERS, &bomb), Reason::HeadersTooLarge),
        (fields(&many), Reason::HeadersTooLarge),
        (
            fields(&[ok, ("a", &"x".repeat(16_360))]),
            Reason::HeadersTooLarge,
        ),
        // Tables and strings that lie.
        (headers(END_HEADERS, b"\x88\xbe"), Reason::Http2Compression),
        (
            headers(END_HEADERS, b"\x3f\xe1\x1f\x88"),
            Reason::Http2Compression,
        ),
        (
            headers(END_HEADERS, b"\x88\x40\x81\xff\x01a"),
            Reason::Http2Compression,
        ),
        (
            headers(END_HEADERS, b"\x88\x40\x01a\x05b"),
            Reason::Http2Compression,
        ),
        // Heads that are none.
        (fields(&[]), Reason::Http2Protocol),
        (fields(&[("a", "b")]), Reason::Http2Protocol),
        (fields(&[("a", "b"), ok]), Reason::Http2Protocol),
        (fields(&[ok, ok]), Reason::Http2Protocol),
        (fields(&[(":status", "20")]), Reason::Http2Protocol),
        (fields(&[(":status", "099")]), Reason::Http2Protocol),
        (fields(&[(":status", "101")]), Reason::Http2Protocol),
        (fields(&[(":status", "103")]), Reason::Http2Protocol),
        (fields(&[(":path", "/")]), Reason::Http2Protocol),
        (fields(&[ok, ("X-Big", "letters")]), Reason::Http2Protocol),
        (
            fields(&[ok, ("connection", "close")]),
            Reason::Http2Protocol,
        ),
        (
            fields(&[ok, ("transfer-encoding", "chunked")]),
            Reason::Http2Protocol,
        ),
        (fields(&[ok, ("a", "b\nc")]), Reason::Http2Protocol),
        (fields(&[ok, ("", "b")]), Reason::Http2Protocol),
        (
            Say::hello().ok().headers(0, &[("a", "b")]),
            Reason::Http2Protocol,
        ),
        (
            Say::hello().ok().headers(END_STREAM, &[ok]),
            Reason::Http2Protocol,
        ),
        // Bodies that are not as long as they say.
        (fields(&[ok, ("content-length", "1")]), Reason::BadBody),
        (fields(&[ok, ("content-length", "x")]), Reason::BadBody),
        (fields(&[ok, ("content-length", "+1")]), Reason::BadBody),
        (
            fields(&[ok, ("content-length", "1"), ("content-length", "2")]),
            Reason::BadBody,
        ),
        (
            Say::hello()
                .headers(0, &[ok, ("content-length", "1")])
                .data(0, b"ok"),
            Reason::BadBody,
        ),
        (
            Say::hello()
                .headers(0, &[(":status", "204")])
                .data(0, b"ok"),
            Reason::BadBody,
        ),
    ];
    for (place, (say, reason)) in cases.iter().enumerate() {
        assert_eq!(
            outcome(&spec, say),
            Err(*reason),
            "case {place}: {:?}",
            &say.0[..say.0.len().min(60)]
        );
    }
}

#[test]
fn padding_counts_against_the_window() {
    let holds: h2::Spec = read(&[("expect_body", text("b"))]);
    let padded = [&[0xff, b'a'][..], &[0; 0xff]].concat();
    let say = Say::hello()
        .ok()
        .times(600, frame::DATA, PADDED, 1, &padded);
    assert_eq!(outcome(&holds, &say), Err(Reason::Http2FlowControl));
}

/// A message of gRPC with its head.
pub(crate) fn message(bytes: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend((bytes.len() as u32).to_be_bytes());
    framed.extend(bytes);
    framed
}

pub(crate) const GRPC: [(&str, &str); 2] =
    [(":status", "200"), ("content-type", "application/grpc")];

/// Frames and junk, mostly of an origin that said hello.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        Just(b"\x88".to_vec()),
        Just(message(&[8, 1])),
        Just(block(&[
            (":status", "200"),
            ("content-type", "application/grpc")
        ])),
        Just(block(&[("grpc-status", "0")])),
        Just(vec![0; 8]),
    ];
    let flags = prop_oneof![Just(4_u8), Just(5), Just(0), Just(1), any::<u8>()];
    let stream = prop_oneof![5 => Just(1_u32), 2 => Just(0), 1 => 0_u32..5];
    let frame = (0_u8..11, flags, stream, payload).prop_map(|(kind, flags, stream, payload)| {
        Say::default().frame(kind, flags, stream, &payload).0
    });
    let piece = prop_oneof![
        6 => frame,
        2 => Just(Say::default().headers(0, &GRPC).0),
        2 => Just(Say::default().data(0, &message(&[8, 1])).0),
        1 => Just(Say::default().headers(END_STREAM, &[("grpc-status", "0")]).0),
        1 => proptest::collection::vec(any::<u8>(), 1..20),
    ];
    (any::<u8>(), proptest::collection::vec(piece, 0..10)).prop_map(|(honest, pieces)| {
        let start = if honest < 230 {
            Say::hello().0
        } else {
            Vec::new()
        };
        [start, pieces.concat()].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]
    #[test]
    fn the_result_does_not_depend_on_where_the_bytes_are_cut(
        bytes in anything(),
        mut cuts in proptest::collection::vec(0_usize..200, 0..12),
    ) {
        cuts.sort_unstable();
        let each: Vec<usize> = (0..bytes.len()).collect();
        let expects = [("expect_body", text("a")), ("degraded_status", text("404"))];
        let plain: h2::Spec = read(&[]);
        let looks: h2::Spec = read(&expects);
        let asks: grpc::Spec = read(&[]);
        for spec in [&plain, &looks] {
            let at_once = probe(spec, &bytes, &[]).0;
            prop_assert_eq!(at_once, probe(spec, &bytes, &cuts).0);
            prop_assert_eq!(at_once, probe(spec, &bytes, &each).0);
        }
        let at_once = probe(&asks, &bytes, &[]).0;
        prop_assert_eq!(at_once, probe(&asks, &bytes, &cuts).0);
        prop_assert_eq!(at_once, probe(&asks, &bytes, &each).0);
    }
}
