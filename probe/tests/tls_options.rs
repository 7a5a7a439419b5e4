//! What a check asks of TLS beyond a name, with OpenSSL's own server as the
//! judge: on both drivers, and by both libraries (the servers that speak CBC
//! alone are the broad one's).

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Bench, backends, options};
use watchfire_probe::{CheckSpec, Outcome};
use watchfire_probe_core::TlsSpec;
use watchfire_probe_core::keys::{Keys, Value};
use watchfire_probe_core::stream::tls::TlsOptions;
use watchfire_wire::Reason;

/// A server that rustls cannot speak with.
const BROAD: &str = "-tls1_2 -cipher ECDHE-RSA-AES128-SHA";

struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(dir: &Path, of: &str, arguments: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = free.local_addr().expect("an address");
        drop(free);
        let child = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", "-accept"])
            .arg(addr.port().to_string())
            .args(["-cert", &format!("{of}.pem"), "-key", &format!("{of}.key")])
            .args(arguments.split_whitespace())
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let server = Self { child, addr };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(addr).is_err() {
            assert!(Instant::now() < until, "s_server {arguments}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority of this name, and a certificate by it for `origin.test`.
fn authority(dir: &Path, name: &str) {
    let line = format!(
        "openssl req -x509 -nodes -newkey rsa:2048 -keyout {name}-ca.key -out {name}-ca.pem \
         -subj /CN={name}-ca -days 9 && \
         openssl req -new -nodes -newkey rsa:2048 -keyout {name}.key -out {name}.csr \
         -subj /CN=origin.test && \
         printf 'subjectAltName=DNS:origin.test' > {name}.ext && \
         openssl x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key \
         -CAcreateserial -days 9 -extfile {name}.ext -out {name}.pem"
    );
    let status = Command::new("sh")
        .args(["-c", &line])
        .current_dir(dir)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("a shell").success(), "{line}");
}

struct Given(Vec<(&'static str, Value)>);

impl Keys for Given {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(at).1)
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn file(dir: &Path, name: &str) -> Value {
    Value::Text(std::fs::read_to_string(dir.join(name)).expect("it was made"))
}

/// A check of this server with these keys.
fn https(server: &Server, keys: Vec<(&'static str, Value)>) -> CheckSpec {
    let options = TlsOptions::read(&mut Given(keys)).expect("good keys");
    CheckSpec {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        tls: Some(TlsSpec {
            server_name: "origin.test".to_owned(),
            verify: true,
            options: options.map(Arc::new),
        }),
        ..CheckSpec::http(server.addr, "/")
    }
}

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
                    let spec = https(server, vec![("ca_file", trusted)]);
                    let wanted = if ca == *name {
                        Outcome::Pass
                    } else {
                        Outcome::Fail(Reason::TlsUnknownIssuer)
                    };
                    assert_eq!(bench.ask(&spec).0, wanted, "{backend}, {library}: {ca}");
                }
                // The origin's own certificate is a pin.
                let pinned = file(dir, &format!("{name}.pem"));
                let spec = https(server, vec![("ca_file", pinned)]);
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
            let found = bench.ask(&https(&server, known)).0;
            assert_eq!(found, Outcome::Pass, "{backend}, {library}");
            let stranger = vec![
                ca(),
                ("client_certificate", file(dir, "one.pem")),
                ("client_key", file(dir, "one.key")),
            ];
            for refused in [vec![ca()], stranger] {
                let found = bench.ask(&https(&server, refused)).0;
                let is_fault = matches!(found, Outcome::Fail(_));
                assert!(is_fault, "{backend}, {library}: {found:?}");
            }
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
        let mut ask = |server: &Server, keys| bench.ask(&https(server, keys)).0;
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
