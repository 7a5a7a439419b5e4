//! What comes on a kept connection while no request is outstanding is no
//! answer (RFC 9112, section 9.2), and no connection that its origin has ended
//! is left behind.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Bench, backends, options};
use watchfire_probe::{CheckSpec, Kind, ReportKind, Stats};
use watchfire_probe_core::HealthRule;
use watchfire_wire::{First, Reason, Verdict};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BAD: &[u8] = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
const INTERVAL: Duration = Duration::from_millis(300);

/// Serves every connection by `handle`; counts those that are open here.
fn origin(
    handle: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (handle, open) = (Arc::new(handle), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&open);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (handle, open) = (Arc::clone(&handle), Arc::clone(&count));
            std::thread::spawn(move || {
                open.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                let _ = handle(&mut stream);
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (addr, open)
}

/// Reads one request; an error at the connection's end.
fn request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut seen = Vec::new();
    let mut bytes = [0; 1_024];
    while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => seen.extend_from_slice(&bytes[..count]),
        }
    }
    Ok(())
}

/// Answers, and says something more a moment later.
fn then(extra: &'static [u8]) -> impl Fn(&mut TcpStream) -> std::io::Result<()> {
    move |stream| {
        loop {
            request(stream)?;
            stream.write_all(OK)?;
            std::thread::sleep(Duration::from_millis(40));
            stream.write_all(extra)?;
        }
    }
}

fn kept(addr: SocketAddr) -> CheckSpec {
    let mut spec = CheckSpec {
        interval: INTERVAL,
        timeout: Duration::from_millis(200),
        rule: HealthRule::RiseFall { rise: 1, fall: 1 },
        ..CheckSpec::http(addr, "/")
    };
    if let Kind::Http(http) = &mut spec.kind {
        http.reuse = true;
    }
    spec
}

#[test]
fn what_comes_unasked_is_no_answer() {
    let unasked: [&[u8]; 4] = [
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        BAD,
        b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ];
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        for extra in unasked {
            let (addr, _) = origin(then(extra));
            bench
                .prober
                .start_check(Arc::new(kept(addr)), 1, None, First::PHASE);
        }
        bench.reports(INTERVAL * 9);
        let stats: Stats = bench.prober.stats();
        assert!(stats.passed() >= 16, "{backend}: {}", stats.passed());
        assert_eq!(stats.failed(), 0, "{backend}: {:?}", stats.by_reason);
        assert!(stats.reopened >= 12, "{backend}: {}", stats.reopened);
    }
}

#[test]
fn an_answer_to_the_last_question_is_none_to_the_next() {
    for backend in backends() {
        let bad = Arc::new(AtomicBool::new(false));
        let turned = Arc::clone(&bad);
        // It answers each request twice; once it is bad, each second answer
        // still says that all is well.
        let (addr, _) = origin(move |stream| {
            loop {
                request(stream)?;
                let bad = turned.load(Ordering::SeqCst);
                stream.write_all(if bad { BAD } else { OK })?;
                std::thread::sleep(Duration::from_millis(40));
                stream.write_all(OK)?;
            }
        });
        let mut bench = Bench::new(options(backend));
        bench
            .prober
            .start_check(Arc::new(kept(addr)), 1, None, First::PHASE);
        bench.reports(INTERVAL * 5);
        bad.store(true, Ordering::SeqCst);
        let reports = bench.reports(INTERVAL * 6);
        let verdicts: Vec<(Verdict, Reason)> = reports
            .iter()
            .filter_map(|report| match report.kind {
                ReportKind::Measured {
                    verdict, reason, ..
                } => Some((verdict, reason)),
                _ => None,
            })
            .collect();
        assert_eq!(
            verdicts,
            [(Verdict::Down, Reason::BadStatus)],
            "{backend}: it turns Down, and stays so"
        );
    }
}

#[test]
fn what_the_origin_has_ended_is_not_kept() {
    for backend in backends() {
        // It ends its side after an answer and waits for ours to end.
        let (addr, open) = origin(|stream| {
            request(stream)?;
            stream.write_all(OK)?;
            std::thread::sleep(Duration::from_millis(30));
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new())?;
            Ok(())
        });
        let mut bench = Bench::new(options(backend));
        let spec = CheckSpec {
            interval: Duration::from_secs(5),
            ..kept(addr)
        };
        bench.prober.start_check(
            Arc::new(spec),
            1,
            None,
            First::At(watchfire_probe::now() + Duration::from_millis(20)),
        );
        bench.reports(Duration::from_millis(600));
        assert_eq!(open.load(Ordering::SeqCst), 0, "{backend}");
        bench.settle();
    }
}
