//! What a check asks of TLS beyond a name, with OpenSSL's own server as the
//! judge: on both drivers, and by both libraries (the servers that speak CBC
//! alone are the broad one's).

mod common;

use common::nginx::Nginx;
use common::openssl::{BROAD, Given, Server, authority, file, https, text};
use common::{Bench, backends, options};
use watchfire_probe::Outcome;
use watchfire_probe_core::keys::Value;
use watchfire_probe_core::stream::tls::TlsOptions;
use watchfire_wire::Reason;

#[test]
fn each_check_trusts_whom_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    authority(dir, "two");
    for (library, arguments) in [("rustls", ""), ("OpenSSL", BROAD)] {
        let servers = ["one", "two"].map(|name| (name, Server::start(dir, name, arguments)));
        for backend in backends() {
            let mut bench = Bench::new(options(backend));
            for (name, server) in &servers {
                for ca in ["one", "two"] {
                    let trusted = file(dir, &format!("{ca}-ca.pem"));
                    let spec = https(server.addr, vec![("ca_file", trusted)]);
                    let wanted = if ca == *name {
                        Outcome::Pass
                    } else {
                        Outcome::Fail(Reason::TlsUnknownIssuer)
                    };
                    assert_eq!(bench.ask(&spec).0, wanted, "{backend}, {library}: {ca}");
                }
                // The origin's own certificate is a pin.
                let pinned = file(dir, &format!("{name}.pem"));
                let spec = https(server.addr, vec![("ca_file", pinned)]);
                assert_eq!(bench.ask(&spec).0, Outcome::Pass, "{backend}, {library}");
            }
        }
    }
}

#[test]
fn an_origin_that_wants_to_know_who_asks_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    authority(dir, "two");
    let wants = "-Verify 1 -verify_return_error -CAfile two-ca.pem";
    for (library, more) in [("rustls", ""), ("OpenSSL", BROAD)] {
        let server = Server::start(dir, "one", &format!("{wants} {more}"));
        for backend in backends() {
            let mut bench = Bench::new(options(backend));
            let ca = || ("ca_file", file(dir, "one-ca.pem"));
            let known = vec![
                ca(),
                ("client_certificate", file(dir, "two.pem")),
                ("client_key", file(dir, "two.key")),
            ];
            let found = bench.ask(&https(server.addr, known)).0;
            assert_eq!(found, Outcome::Pass, "{backend}, {library}");
            let stranger = vec![
                ca(),
                ("client_certificate", file(dir, "one.pem")),
                ("client_key", file(dir, "one.key")),
            ];
            for refused in [vec![ca()], stranger] {
                let found = bench.ask(&https(server.addr, refused)).0;
                let is_fault = matches!(found, Outcome::Fail(_));
                assert!(is_fault, "{backend}, {library}: {found:?}");
            }
        }
    }
}

#[test]
fn nginx_that_wants_to_know_who_asks_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    authority(dir, "two");
    let wants = format!(
        "ssl_verify_client on; ssl_client_certificate {}/two-ca.pem;",
        dir.display()
    );
    let broad = format!("{wants} ssl_protocols TLSv1.2; ssl_ciphers ECDHE-RSA-AES128-SHA;");
    let Some(nginx) = Nginx::start(dir, &[&wants, &broad]) else {
        return;
    };
    for (place, library) in ["rustls", "OpenSSL"].into_iter().enumerate() {
        for backend in backends() {
            let mut bench = Bench::new(options(backend));
            let ca = || ("ca_file", file(dir, "one-ca.pem"));
            let client = |name: &str| {
                vec![
                    ca(),
                    ("client_certificate", file(dir, &format!("{name}.pem"))),
                    ("client_key", file(dir, &format!("{name}.key"))),
                ]
            };
            let mut ask = |keys| bench.ask(&https(nginx.addrs[place], keys)).0;
            let before = nginx.log(place).len();
            assert_eq!(ask(client("two")), Outcome::Pass, "{backend}, {library}");
            let seen = nginx.log_beyond(place, before);
            assert_eq!(seen[before][2], "SUCCESS", "{backend}, {library}");
            // It says so in a response of status 400.
            let refused = Outcome::Fail(Reason::BadStatus);
            assert_eq!(ask(client("one")), refused, "{backend}, {library}");
            assert_eq!(ask(vec![ca()]), refused, "{backend}, {library}");
        }
    }
}

#[test]
fn versions_below_the_least_are_refused_and_protocols_are_offered() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    let old = Server::start(dir, "one", "-tls1_2");
    let new = Server::start(dir, "one", "-tls1_3");
    let odd = Server::start(dir, "one", "-alpn odd");
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let ca = || ("ca_file", file(dir, "one-ca.pem"));
        let least = |version| vec![ca(), ("tls_min_version", text(version))];
        let mut ask = |server: &Server, keys| bench.ask(&https(server.addr, keys)).0;
        assert_eq!(ask(&old, least("1.2")), Outcome::Pass, "{backend}");
        assert_eq!(ask(&new, least("1.3")), Outcome::Pass, "{backend}");
        let below = ask(&old, least("1.3"));
        assert_eq!(below, Outcome::Fail(Reason::TlsProtocol), "{backend}");
        let offers = |names: &[&str]| {
            let names = names.iter().map(|name| text(name)).collect();
            vec![ca(), ("alpn", Value::List(names))]
        };
        assert_eq!(ask(&odd, offers(&["odd"])), Outcome::Pass, "{backend}");
        assert_eq!(ask(&odd, offers(&[])), Outcome::Pass, "{backend}");
    }
}

/// The finding of many a rotation: a key that is not the certificate's.
#[test]
fn a_key_of_another_certificate_is_refused_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    authority(dir, "one");
    authority(dir, "two");
    let mut keys = Given(vec![
        ("client_certificate", file(dir, "one.pem")),
        ("client_key", file(dir, "two.key")),
    ]);
    let error = TlsOptions::read(&mut keys).expect_err("they do not belong together");
    assert_eq!(error.key, "client_key");
    assert!(error.to_string().contains("not that of"), "{error}");
    let mut swapped = Given(vec![
        ("client_certificate", file(dir, "one.key")),
        ("client_key", file(dir, "one.pem")),
    ]);
    let error = TlsOptions::read(&mut swapped).expect_err("swapped");
    assert!(
        error.to_string().contains("holds no certificate"),
        "{error}"
    );
}
