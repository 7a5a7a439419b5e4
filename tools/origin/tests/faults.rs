//! Each fault as a plain client sees it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use watchfire_origin::{Farm, FarmError, FarmOptions, Fault, Kind, Listen, Phase};

const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: test\r\nUser-Agent: plain\r\n\r\n";

/// What a client saw: all bytes, and how it ended.
#[derive(Debug)]
struct Seen {
    bytes: Vec<u8>,
    end: Result<(), ErrorKind>,
    took: Duration,
}

impl Seen {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Farms of both ways to listen, each with one thing wrong at origin 3.
fn farms(fault: Fault) -> Vec<Farm> {
    [Listen::Each, Listen::Wildcard]
        .into_iter()
        .map(|listen| {
            let options = FarmOptions {
                count: 8,
                listen,
                threads: 2,
                ..FarmOptions::default()
            };
            let farm = Farm::start(options).unwrap();
            farm.set_fault(3..4, fault).unwrap();
            assert!(
                ask(farm.address(2), true).text().ends_with("ok\n"),
                "a neighbour is healthy"
            );
            farm
        })
        .collect()
}

/// One request, closing; reads to the end, or for `PATIENCE`.
fn ask(address: SocketAddr, close: bool) -> Seen {
    let began = Instant::now();
    let request = if close {
        REQUEST
            .strip_suffix(b"\r\n")
            .unwrap()
            .iter()
            .chain(b"Connection: close\r\n\r\n")
            .copied()
            .collect()
    } else {
        REQUEST.to_vec()
    };
    let mut bytes = Vec::new();
    // A reset right after the accept may come before the client has looked
    // whether it is connected.
    let end = TcpStream::connect_timeout(&address, PATIENCE)
        .and_then(|mut client| {
            client.set_read_timeout(Some(PATIENCE))?;
            client.write_all(&request)?;
            client.read_to_end(&mut bytes).map(|_| ())
        })
        .map_err(|error| error.kind());
    Seen {
        bytes,
        end,
        took: began.elapsed(),
    }
}

fn connect_error(address: SocketAddr, patience: Duration) -> ErrorKind {
    TcpStream::connect_timeout(&address, patience)
        .unwrap_err()
        .kind()
}

/// Sends a request and reads until it ends with `what`.
fn ask_on(client: &mut TcpStream, what: &[u8]) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(REQUEST).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    while !bytes.ends_with(what) {
        let n = client.read(&mut buffer).unwrap();
        assert_ne!(n, 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..n]);
    }
}

#[test]
fn a_healthy_origin_answers_and_keeps_the_connection() {
    let farm = Farm::start(FarmOptions {
        count: 2,
        ..FarmOptions::default()
    })
    .unwrap();
    let seen = ask(farm.address(1), true);
    assert_eq!(seen.end, Ok(()));
    assert!(seen.text().starts_with("HTTP/1.1 200 OK\r\n"), "{seen:?}");
    assert!(seen.text().contains("Content-Length: 3\r\n") && seen.text().ends_with("\r\n\r\nok\n"));
    let mut kept = TcpStream::connect(farm.address(1)).unwrap();
    for _ in 0..3 {
        ask_on(&mut kept, b"ok\n");
    }
    assert_eq!((farm.counts().connections, farm.counts().requests), (2, 4));
}

#[test]
fn requests_in_pieces_in_pairs_and_for_the_head_are_understood() {
    let farm = Farm::start(FarmOptions::default()).unwrap();
    let mut client = TcpStream::connect(farm.address(0)).unwrap();
    client.write_all(&REQUEST[..20]).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    client.write_all(&REQUEST[20..]).unwrap();
    client
        .write_all(b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n")
        .unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(
        text.matches("\r\n\r\nok\n").count(),
        2,
        "a HEAD has no body: {text:?}"
    );
}

#[test]
fn refuse_is_refused_resets_the_living_and_heals() {
    let farm = Farm::start(FarmOptions {
        count: 8,
        ..FarmOptions::default()
    })
    .unwrap();
    let mut kept = TcpStream::connect(farm.address(3)).unwrap();
    ask_on(&mut kept, b"ok\n");
    farm.set_fault(3..5, Fault::Refuse).unwrap();
    assert_eq!(
        connect_error(farm.address(3), PATIENCE),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(
        connect_error(farm.address(4), PATIENCE),
        ErrorKind::ConnectionRefused
    );
    let reset = kept.read(&mut [0; 8]).unwrap_err().kind();
    assert_eq!(reset, ErrorKind::ConnectionReset);
    farm.clear_fault(3..5).unwrap();
    assert!(ask(farm.address(3), true).text().ends_with("ok\n"));
}

#[test]
fn shared_sockets_say_that_they_cannot_refuse() {
    let options = FarmOptions {
        count: 8,
        listen: Listen::Wildcard,
        ..FarmOptions::default()
    };
    let farm = Farm::start(options).unwrap();
    let error = farm.set_fault(0..1, Fault::Refuse).unwrap_err();
    assert!(matches!(error, FarmError::CannotRefuse), "{error}");
    assert!(ask(farm.address(0), true).text().ends_with("ok\n"));
}

#[test]
fn blackhole_answers_no_syn_swallows_the_living_and_heals() {
    for farm in farms(Fault::Hang) {
        farm.clear_fault(0..8).unwrap();
        let mut kept = TcpStream::connect(farm.address(3)).unwrap();
        ask_on(&mut kept, b"ok\n");
        farm.set_fault(3..4, Fault::Blackhole).unwrap();
        let short = Duration::from_millis(150);
        assert_eq!(connect_error(farm.address(3), short), ErrorKind::TimedOut);
        kept.write_all(REQUEST).unwrap();
        kept.set_read_timeout(Some(short)).unwrap();
        assert_eq!(
            kept.read(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert!(ask(farm.address(4), true).text().ends_with("ok\n"));
        farm.clear_fault(3..4).unwrap();
        assert!(ask(farm.address(3), true).text().ends_with("ok\n"));
        kept.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(
            kept.read(&mut [0; 8]).unwrap() > 0,
            "the request sent again is answered"
        );
    }
}

#[test]
fn hang_reads_and_never_answers() {
    for farm in farms(Fault::Hang) {
        let mut client = TcpStream::connect(farm.address(3)).unwrap();
        client.write_all(REQUEST).unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert_eq!(
            client.read(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(farm.counts().requests, 2);
    }
}

#[test]
fn resets_come_at_their_phase() {
    for (phase, least) in [
        (Phase::Accept, ""),
        (Phase::Request, ""),
        (Phase::Head, "HTTP/1.1"),
        (Phase::Body, "\r\n\r\no"),
    ] {
        for farm in farms(Fault::Reset(phase)) {
            let seen = ask(farm.address(3), false);
            let end = seen.end.unwrap_err();
            assert!(
                matches!(end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                "{end:?}"
            );
            check_cut(phase, least, &seen);
            assert_eq!(farm.counts().resets, 1);
        }
    }
}

#[test]
fn early_closes_come_at_their_phase() {
    for (phase, least) in [
        (Phase::Request, ""),
        (Phase::Head, "HTTP/1.1"),
        (Phase::Body, "\r\n\r\no"),
    ] {
        for farm in farms(Fault::Close(phase)) {
            let seen = ask(farm.address(3), false);
            assert_eq!(seen.end, Ok(()), "{phase:?}");
            check_cut(phase, least, &seen);
        }
    }
    for farm in farms(Fault::Close(Phase::Accept)) {
        let mut client = TcpStream::connect(farm.address(3)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }
}

fn check_cut(phase: Phase, least: &str, seen: &Seen) {
    let text = seen.text();
    assert!(text.contains(least), "{phase:?}: {text:?}");
    match phase {
        Phase::Accept | Phase::Request => assert_eq!(text, ""),
        Phase::Head => assert!(!text.contains("\r\n\r\n"), "{text:?}"),
        Phase::Body => assert!(!text.ends_with("ok\n"), "{text:?}"),
    }
}

#[test]
fn half_close_ends_one_direction_only() {
    for farm in farms(Fault::HalfClose) {
        let mut client = TcpStream::connect(farm.address(3)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(REQUEST).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        // A closed socket would answer the second of these with a reset.
        for _ in 0..3 {
            client.write_all(REQUEST).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(client.take_error().unwrap().map(|error| error.kind()), None);
    }
}

#[test]
fn slow_first_byte_is_slow_and_whole() {
    for farm in farms(Fault::SlowFirstByte(120)) {
        let seen = ask(farm.address(3), true);
        assert!(seen.took >= Duration::from_millis(120), "{seen:?}");
        assert!(seen.text().ends_with("ok\n"));
    }
}

#[test]
fn drip_comes_byte_by_byte() {
    for farm in farms(Fault::Drip(2)) {
        let seen = ask(farm.address(3), true);
        assert!(seen.text().ends_with("ok\n"));
        let least = 2 * (seen.bytes.len() as u64 - 1);
        assert!(seen.took >= Duration::from_millis(least), "{seen:?}");
    }
}

#[test]
fn a_client_that_leaves_a_slow_answer_frees_it() {
    let farm = Farm::start(FarmOptions {
        record: true,
        ..FarmOptions::default()
    })
    .unwrap();
    farm.set_fault(0..1, Fault::SlowFirstByte(60_000)).unwrap();
    let mut client = TcpStream::connect(farm.address(0)).unwrap();
    client.write_all(REQUEST).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    client.shutdown(Shutdown::Both).unwrap();
    let began = Instant::now();
    let mut hits = Vec::new();
    while hits.is_empty() && began.elapsed() < PATIENCE {
        farm.take_hits(&mut hits);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(hits.len(), 1, "the hit ends when the client leaves");
}

#[test]
fn statuses_are_as_told() {
    for (code, body) in [(503, "ok\n"), (204, ""), (301, "ok\n")] {
        for farm in farms(Fault::Status(code)) {
            let text = ask(farm.address(3), true).text();
            assert!(text.starts_with(&format!("HTTP/1.1 {code} ")), "{text}");
            assert!(text.ends_with(&format!("\r\n\r\n{body}")), "{text}");
        }
    }
}

#[test]
fn big_heads_and_bodies_have_the_size_asked_for() {
    for farm in farms(Fault::BigHead(70_000)) {
        let seen = ask(farm.address(3), true);
        assert_eq!(seen.bytes.len(), 70_003);
        assert_eq!(seen.text().find("\r\n\r\n"), Some(70_000 - 4));
    }
    for farm in farms(Fault::BigBody(3_000_000)) {
        let seen = ask(farm.address(3), true);
        let head = seen.text().find("\r\n\r\n").unwrap() + 4;
        assert_eq!(seen.bytes.len() - head, 3_000_000);
        assert!(seen.text()[..head].contains("Content-Length: 3000000\r\n"));
    }
}

#[test]
fn junk_informational_and_chunked_bytes_are_as_told() {
    for farm in farms(Fault::Junk) {
        let seen = ask(farm.address(3), false);
        assert_eq!(seen.end, Ok(()));
        assert!(!seen.bytes.is_empty() && !seen.text().starts_with("HTTP/"));
    }
    for farm in farms(Fault::Informational) {
        let text = ask(farm.address(3), true).text();
        let (first, second) = text.split_once("\r\n\r\n").unwrap();
        assert!(first.starts_with("HTTP/1.1 103 ") && second.starts_with("HTTP/1.1 200 "));
    }
    for farm in farms(Fault::Chunked) {
        let text = ask(farm.address(3), true).text();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Transfer-Encoding: chunked") && body.ends_with("0\r\n\r\n"));
    }
    for farm in farms(Fault::BadChunked) {
        let seen = ask(farm.address(3), false);
        assert_eq!(seen.end, Ok(()));
        assert!(seen.text().contains("\r\nzz\r\n"));
    }
}

#[test]
fn close_after_keeps_its_word_and_no_longer() {
    for farm in farms(Fault::CloseAfter(2)) {
        let mut kept = TcpStream::connect(farm.address(3)).unwrap();
        ask_on(&mut kept, b"ok\n");
        ask_on(&mut kept, b"ok\n");
        assert_eq!(kept.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn faults_change_under_a_kept_connection() {
    let farm = Farm::start(FarmOptions::default()).unwrap();
    let mut kept = TcpStream::connect(farm.address(0)).unwrap();
    ask_on(&mut kept, b"ok\n");
    farm.set_fault(0..1, Fault::Status(500)).unwrap();
    kept.write_all(REQUEST).unwrap();
    let mut first = [0; 12];
    kept.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 500");
}

#[test]
fn a_tcp_farm_accepts_and_says_nothing() {
    let options = FarmOptions {
        kind: Kind::Tcp,
        count: 4,
        ..FarmOptions::default()
    };
    let farm = Farm::start(options).unwrap();
    farm.set_fault(0..1, Fault::Reset(Phase::Accept)).unwrap();
    farm.set_fault(1..2, Fault::Refuse).unwrap();
    // It may come before connecting has come to its end.
    let reset = TcpStream::connect(farm.address(0)).and_then(|mut it| it.read(&mut [0; 8]));
    assert_eq!(reset.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(
        connect_error(farm.address(1), PATIENCE),
        ErrorKind::ConnectionRefused
    );
    let mut quiet = TcpStream::connect(farm.address(2)).unwrap();
    quiet
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert_eq!(
        quiet.read(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}
