//! What a health service may answer, each by its own name.

use watchfire_wire::Reason;

use super::Spec;
use crate::http2::tests::{GRPC, Say, message, outcome, read, text};
use crate::kind::CheckKind;
use crate::limits::GRPC_MESSAGE_BYTES;

const END_STREAM: u8 = 1;
const RST_STREAM: u8 = 3;

fn answer(content: &[u8], trailers: &[(&str, &str)]) -> Say {
    let say = Say::hello().headers(0, &GRPC).data(0, content);
    say.headers(END_STREAM, trailers)
}

#[test]
fn grpc_health_is_told_apart() {
    let spec: Spec = read(&[("service", text("shop.v1.Cart"))]);
    let ok = [("grpc-status", "0")];
    let serving = |status: u8| answer(&message(&[8, status]), &ok);
    let only = |status: &str| {
        Say::hello().headers(
            END_STREAM,
            &[&GRPC[..], &[("grpc-status", status)]].concat(),
        )
    };
    let proto = [
        (":status", "200"),
        ("content-type", "application/grpc+proto"),
    ];
    let in_two = Say::hello()
        .headers(0, &proto)
        .data(0, b"\0\0")
        .data(0, b"\0\0\x02\x08\x01");
    let broken = Err(Reason::GrpcBroken);
    let html = Say::hello().headers(
        END_STREAM,
        &[(":status", "200"), ("content-type", "text/html")],
    );
    let gateway = Say::hello().headers(
        0,
        &[(":status", "502"), ("content-type", "application/grpc")],
    );
    let long = vec![0; GRPC_MESSAGE_BYTES + 1];
    let cases = [
        (serving(1), Ok(())),
        (in_two.headers(END_STREAM, &ok), Ok(())),
        // A field of a later version before it.
        (answer(&message(b"\x12\x03abc\x08\x01"), &ok), Ok(())),
        (serving(2), Err(Reason::GrpcNotServing)),
        (serving(0), Err(Reason::GrpcUnknown)),
        (answer(&message(b""), &ok), Err(Reason::GrpcUnknown)),
        (serving(3), Err(Reason::GrpcServiceUnknown)),
        (serving(9), Err(Reason::GrpcUnknown)),
        (only("5"), Err(Reason::GrpcServiceUnknown)),
        (only("12"), Err(Reason::GrpcUnimplemented)),
        (only("14"), Err(Reason::GrpcStatus)),
        (
            answer(&message(&[8, 1]), &[("grpc-status", "13")]),
            Err(Reason::GrpcStatus),
        ),
        (gateway, Err(Reason::BadStatus)),
        (html, broken),
        // No status, two, none that is one; no message, two, half a one.
        (answer(&message(&[8, 1]), &[("a", "b")]), broken),
        (answer(&message(&[8, 1]), &[ok[0], ok[0]]), broken),
        (answer(&message(&[8, 1]), &[("grpc-status", "OK")]), broken),
        (only("0"), broken),
        (
            answer(&[message(&[8, 1]), message(&[8, 1])].concat(), &ok),
            broken,
        ),
        (answer(b"\0\0\0\0\x03\x08\x01", &ok), broken),
        (answer(b"\0\0\0\0\x01\x08\x01", &ok), broken),
        (answer(b"\0\xff\xff\xff\xff\x08\x01", &ok), broken),
        (answer(b"\x01\0\0\0\x02\x08\x01", &ok), broken),
        (answer(&message(&long), &ok), broken),
        (answer(&message(b"\x08"), &ok), broken),
        (answer(&message(b"\x0a\x7fa"), &ok), broken),
        (
            answer(
                &message(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
                &ok,
            ),
            broken,
        ),
        (
            Say::hello().headers(0, &GRPC).data(0, &message(&[8, 1])),
            Err(Reason::ClosedEarly),
        ),
        (
            Say::hello()
                .headers(0, &GRPC)
                .frame(RST_STREAM, 0, 1, b"\0\0\0\x08"),
            Err(Reason::Http2Reset),
        ),
    ];
    for (place, (say, wanted)) in cases.iter().enumerate() {
        assert_eq!(outcome(&spec, say), *wanted, "case {place}");
    }
}

#[test]
fn a_question_names_its_service() {
    let asked = |service: &str| {
        let spec: Spec = read(&[("service", text(service))]);
        spec.prepare("test", true).into_vec()
    };
    assert!(asked("").ends_with(b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0"));
    assert!(asked("ab").ends_with(b"\0\0\x09\0\x01\0\0\0\x01\0\0\0\0\x04\x0a\x02ab"));
    assert!(
        asked(&"x".repeat(300))
            .windows(8)
            .any(|part| part == b"\0\0\0\x01\x2f\x0a\xac\x02")
    );
}
