//! HTTP/2 against real servers, with and without TLS, on both drivers: nginx, HAProxy,
//! and OpenSSL's server, which speaks none.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::nginx::Nginx;
use common::openssl::{BROAD, Server, authority, await_port, file, text};
use common::{Bench, backends, check_of, options};
use watchfire_probe::{CheckSpec, Outcome};
use watchfire_probe_core::ProxyHeader;
use watchfire_probe_core::keys::Value;
use watchfire_wire::Reason;

fn table(name: &str, value: &str) -> Value {
    Value::Table(vec![(name.to_owned(), text(value))])
}

/// What a check comes to on every driver, and the status that it saw.
fn ask(spec: &CheckSpec) -> (Outcome, Option<u16>) {
    let found: Vec<_> = backends()
        .into_iter()
        .map(|backend| {
            let mut bench = Bench::new(options(backend));
            let (outcome, phases) = bench.ask(spec);
            bench.settle();
            (outcome, phases.status)
        })
        .collect();
    assert!(
        found.windows(2).all(|pair| pair[0] == pair[1]),
        "{spec}: {found:?}"
    );
    found[0]
}

#[test]
fn nginx_without_tls() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    std::fs::write(dir.join("big"), vec![b'x'; 300_000]).unwrap();
    let big = format!(
        "location = /big {{ root {}; }} location = /echo {{ return 200 \"$http_x_key $request_method $host\"; }}",
        dir.display()
    );
    let servers = [
        ("http2", big.as_str()),
        ("", ""),
        ("http2 proxy_protocol", ""),
    ];
    let Some(nginx) = Nginx::start_as(dir, &servers) else {
        return;
    };
    // Debian's nginx drops its rights in a folder of ours.
    let _ = Command::new("chmod").arg("755").arg(dir).status();
    let [speaks, old, behind] = [nginx.addrs[0], nginx.addrs[1], nginx.addrs[2]];
    let h2 = |keys| ask(&check_of("h2", speaks, keys));
    let pass = (Outcome::Pass, Some(200));
    assert_eq!(h2(vec![]), pass);
    assert_eq!(h2(vec![("method", text("HEAD"))]), pass);
    let fails = |reason| (Outcome::Fail(reason), Some(200));
    let missing = h2(vec![("path", text("/nothing"))]);
    assert_eq!(missing, (Outcome::Fail(Reason::BadStatus), Some(404)));
    assert_eq!(h2(vec![("expect_body", text("ok"))]), pass);
    assert_eq!(
        h2(vec![("expect_body", text("no"))]),
        fails(Reason::BadContent)
    );
    assert_eq!(
        h2(vec![("expect_headers", table("Server", "~^nginx"))]),
        pass
    );
    let other = table("Server", "other");
    assert_eq!(
        h2(vec![("expect_headers", other)]),
        fails(Reason::BadHeader)
    );
    let echo = vec![
        ("path", text("/echo")),
        ("method", text("POST")),
        ("host", text("shop.test")),
        ("body", text(&"x".repeat(16_384))),
        ("headers", table("X-Key", "s3cret")),
        ("expect_body", text("s3cret POST shop.test")),
    ];
    assert_eq!(h2(echo), pass);
    // More than any window lets through is read no further than is looked at.
    assert_eq!(h2(vec![("path", text("/big"))]), pass);
    let far = vec![("path", text("/big")), ("expect_body", text("y"))];
    assert_eq!(h2(far), fails(Reason::BadContent));
    // One that speaks HTTP/1 alone says so in its own words.
    let found = ask(&check_of("h2", old, vec![])).0;
    assert_eq!(found, Outcome::Fail(Reason::NotHttp2));
    for proxy in [ProxyHeader::V1, ProxyHeader::V2] {
        let spec = CheckSpec {
            proxy: Some(proxy),
            ..check_of("h2", behind, vec![])
        };
        assert_eq!(ask(&spec), pass);
    }
}

#[test]
fn nginx_in_tls() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    authority(dir, "two");
    let broad = "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-RSA-AES128-SHA;";
    let servers = [
        ("ssl http2", ""),
        ("ssl http2", broad),
        ("ssl", ""),
        ("ssl", broad),
    ];
    let Some(nginx) = Nginx::start_as(dir, &servers) else {
        return;
    };
    let trusting = |ca: &str| vec![("ca_file", file(dir, ca))];
    for place in 0..2 {
        let addr = nginx.addrs[place];
        let found = ask(&check_of("h2-tls", addr, trusting("one-ca.pem")));
        assert_eq!(found, (Outcome::Pass, Some(200)), "{place}");
        let found = ask(&check_of("h2-tls", addr, trusting("two-ca.pem"))).0;
        assert_eq!(found, Outcome::Fail(Reason::TlsUnknownIssuer), "{place}");
        // HTTP/1.1 is spoken there too, by who asks for it.
        let found = ask(&check_of("https", addr, trusting("one-ca.pem")));
        assert_eq!(found, (Outcome::Pass, Some(200)), "{place}");
    }
    let alpn = |names: &[&str]| Value::List(names.iter().map(|name| text(name)).collect());
    for place in 2..4 {
        let addr = nginx.addrs[place];
        for offers in [vec![], vec![("alpn", alpn(&["h2", "http/1.1"]))]] {
            let found = ask(&check_of("h2-tls", addr, offers)).0;
            assert_eq!(found, Outcome::Fail(Reason::TlsAlpn), "{place}");
        }
    }
    // Who offers nothing takes the origin at its word.
    let silent = vec![("alpn", alpn(&[]))];
    let found = ask(&check_of("h2-tls", nginx.addrs[2], silent)).0;
    assert_eq!(found, Outcome::Fail(Reason::NotHttp2));
}

#[test]
fn an_origin_that_knows_no_alpn_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    for arguments in ["", BROAD, "-alpn http/1.1"] {
        let server = Server::start(dir, "one", arguments);
        let found = ask(&check_of("h2-tls", server.addr, vec![])).0;
        assert_eq!(found, Outcome::Fail(Reason::TlsAlpn), "{arguments}");
    }
}

struct Haproxy(Child);

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy with a frontend for each of these words behind its address.
fn haproxy(dir: &Path, binds: &[&str]) -> Option<(Haproxy, Vec<SocketAddr>)> {
    if !Path::new("/usr/sbin/haproxy").exists() {
        assert!(std::env::var_os("CI").is_none(), "haproxy is not installed");
        eprintln!("skipped: haproxy is not installed");
        return None;
    }
    let free: Vec<_> = binds
        .iter()
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let addrs = free.iter().map(|it| it.local_addr().expect("an address"));
    let addrs: Vec<SocketAddr> = addrs.collect();
    drop(free);
    let frontends = binds.iter().zip(&addrs).enumerate().map(|(place, (bind, addr))| {
        format!(
            "frontend f{place}\n bind {addr} {bind}\n http-request return status 200 content-type \
             text/plain hdr X-Ready yes string ok if {{ path / }}\n http-request return status 503\n"
        )
    });
    let config = format!(
        "global\n maxconn 100\ndefaults\n mode http\n timeout client 9s\n timeout connect 9s\n \
         timeout server 9s\n{}",
        frontends.collect::<String>()
    );
    std::fs::write(dir.join("h.cfg"), config).expect("a folder");
    let child = Command::new("/usr/sbin/haproxy")
        .args(["-db", "-f", "h.cfg"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haproxy can be started");
    let child = Haproxy(child);
    for addr in &addrs {
        await_port(*addr, "haproxy");
    }
    Some((child, addrs))
}

#[test]
fn haproxy_with_and_without_tls() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    common::openssl::shell(dir, "cat one.pem one.key > both.pem");
    let binds = [
        "proto h2",
        "ssl crt both.pem alpn h2,http/1.1",
        "ssl crt both.pem alpn http/1.1",
    ];
    let Some((_running, addrs)) = haproxy(dir, &binds) else {
        return;
    };
    let pass = (Outcome::Pass, Some(200));
    for (kind, addr) in [("h2", addrs[0]), ("h2-tls", addrs[1])] {
        let holds = vec![
            ("expect_headers", table("x-ready", "yes")),
            ("expect_body_regex", text("^ok$")),
        ];
        assert_eq!(ask(&check_of(kind, addr, holds)), pass, "{kind}");
        let bad = ask(&check_of(kind, addr, vec![("path", text("/x"))]));
        assert_eq!(bad, (Outcome::Fail(Reason::BadStatus), Some(503)), "{kind}");
        let fin = vec![("close", text("fin"))];
        assert_eq!(ask(&check_of(kind, addr, fin)), pass, "{kind}");
    }
    let found = ask(&check_of("h2-tls", addrs[2], vec![])).0;
    assert_eq!(found, Outcome::Fail(Reason::TlsAlpn));
}
