//! Servers and certificates that the proxies beside us accept, and that one
//! TLS library alone would not: played by OpenSSL's own server, judged by curl
//! too. And every fault of a certificate by its own name.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::openssl::{RSA, Server, certificate, shell};
use common::{Bench, backends, options};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use watchfire_probe::{CheckSpec, Options, Outcome};
use watchfire_probe_core::TlsSpec;
use watchfire_wire::Reason;

fn https(addr: SocketAddr, verify: bool) -> CheckSpec {
    CheckSpec {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        tls: Some(TlsSpec {
            server_name: "origin.test".to_owned(),
            verify,
            options: None,
        }),
        ..CheckSpec::http(addr, "/")
    }
}

#[test]
fn what_the_proxies_speak_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificate(dir, "rsa", RSA);
    certificate(dir, "small", "-newkey rsa:1024");
    certificate(
        dir,
        "odd",
        &format!("{RSA} -addext 1.2.3.4=critical,ASN1:UTF8String:x"),
    );
    certificate(
        dir,
        "p521",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-521 -addext subjectAltName=DNS:origin.test",
    );
    shell(
        dir,
        "openssl req -new -key rsa.key -subj /CN=origin.test -out v1.csr && \
         openssl x509 -req -in v1.csr -signkey rsa.key -days 9 -out v1.pem && cp rsa.key v1.key",
    );
    let servers = [
        ("CBC only", "rsa", "-tls1_2 -cipher ECDHE-RSA-AES128-SHA"),
        ("static RSA", "rsa", "-tls1_2 -cipher AES128-GCM-SHA256"),
        (
            "DHE only",
            "rsa",
            "-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384",
        ),
        ("P-521 only", "rsa", "-tls1_3 -groups P-521"),
        ("P-521 key", "p521", ""),
        ("RSA 1024", "small", "-cipher DEFAULT@SECLEVEL=0"),
        ("X.509 v1", "v1", ""),
        ("unknown critical extension", "odd", ""),
        ("plain RSA", "rsa", ""),
    ]
    .map(|(name, of, arguments)| (name, Server::start(dir, of, arguments)));
    for (name, server) in &servers {
        assert!(server.curl(None), "curl -k refuses {name}");
    }
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let specs: Vec<CheckSpec> = servers
            .iter()
            .map(|(_, server)| https(server.addr, false))
            .collect();
        for ((name, _), found) in servers.iter().zip(bench.ask_all(&specs)) {
            assert_eq!(found.0, Outcome::Pass, "{backend}: {name}");
        }
        bench.settle();
    }
}

#[test]
fn a_pinned_certificate_is_trusted_whatever_it_says_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    // OpenSSL makes an authority of what signs itself.
    certificate(dir.path(), "pinned", RSA);
    let cert = dir.path().join("pinned.pem");
    let server = Server::start(dir.path(), "pinned", "");
    assert!(server.curl(Some(&cert)));
    for backend in backends() {
        let mut bench = Bench::new(Options {
            tls_roots: Some(cert.clone()),
            ..options(backend)
        });
        let (outcome, _) = bench.ask(&https(server.addr, true));
        assert_eq!(outcome, Outcome::Pass, "{backend}");
    }
}

#[test]
fn every_fault_of_a_certificate_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let own = |name: &str, bears: &str, from: i32, until: i32| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![bears.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        name.to_owned()
    };
    let cases = [
        (own("good", "origin.test", 2020, 2099), None),
        (own("name", "else.test", 2020, 2099), Some(Reason::TlsName)),
        (
            own("old", "origin.test", 2020, 2021),
            Some(Reason::TlsExpired),
        ),
        (
            own("new", "origin.test", 2098, 2099),
            Some(Reason::TlsNotYetValid),
        ),
        (
            own("unknown", "origin.test", 2020, 2099),
            Some(Reason::TlsUnknownIssuer),
        ),
    ];
    let trusted = dir.join("trusted.pem");
    let pem: String = cases
        .iter()
        .filter(|(_, reason)| *reason != Some(Reason::TlsUnknownIssuer))
        .map(|(name, _)| std::fs::read_to_string(dir.join(format!("{name}.pem"))).unwrap())
        .collect();
    std::fs::write(&trusted, pem).unwrap();
    let servers: Vec<Server> = cases
        .iter()
        .map(|(name, _)| Server::start(dir, name, ""))
        .collect();
    for backend in backends() {
        let mut bench = Bench::new(Options {
            tls_roots: Some(trusted.clone()),
            ..options(backend)
        });
        for ((_, reason), server) in cases.iter().zip(&servers) {
            let (outcome, _) = bench.ask(&https(server.addr, true));
            let wanted = reason.map_or(Outcome::Pass, Outcome::Fail);
            assert_eq!(outcome, wanted, "{backend}");
            assert_eq!(server.curl(Some(&trusted)), reason.is_none(), "{reason:?}");
        }
    }
}

#[test]
fn a_server_of_another_age_is_named_so() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "rsa", RSA);
    // The proxies' own default refuses it too.
    let server = Server::start(dir.path(), "rsa", "-tls1 -cipher DEFAULT@SECLEVEL=0");
    assert!(!server.curl(None));
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let (outcome, _) = bench.ask(&https(server.addr, false));
        assert_eq!(outcome, Outcome::Fail(Reason::TlsProtocol), "{backend}");
    }
}
