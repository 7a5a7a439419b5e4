//! Servers and certificates that the proxies beside us accept, and that one
//! TLS library alone would not: played by OpenSSL's own server, judged by curl
//! too. And every fault of a certificate by its own name.

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, backends, options};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use watchfire_probe::{CheckSpec, Options, Outcome};
use watchfire_probe_core::TlsSpec;
use watchfire_wire::Reason;

/// OpenSSL's server, which answers every request with a page.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(cert: &Path, key: &Path, arguments: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = free.local_addr().expect("an address");
        drop(free);
        let child = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", "-accept"])
            .arg(addr.port().to_string())
            .arg("-cert")
            .arg(cert)
            .arg("-key")
            .arg(key)
            .args(arguments.split_whitespace())
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

    /// Whether curl takes what it says, any certificate or this one.
    fn curl(&self, trusted: Option<&Path>) -> bool {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "10", "-o", "/dev/null"]);
        match trusted {
            Some(file) => curl.arg("--cacert").arg(file),
            None => curl.arg("-k"),
        };
        let name = format!("origin.test:{}:127.0.0.1", self.addr.port());
        let url = format!("https://origin.test:{}/", self.addr.port());
        let status = curl.args(["--resolve", &name, &url]).status();
        status.expect("curl is installed").success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(dir: &Path, line: &str) {
    let status = Command::new("sh")
        .args(["-c", line])
        .current_dir(dir)
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("a shell").success(), "{line}");
}

/// Makes a self-signed certificate and its key.
fn certificate(dir: &Path, name: &str, how: &str) -> (PathBuf, PathBuf) {
    openssl(
        dir,
        &format!(
            "openssl req -x509 -nodes -keyout {name}.key -out {name}.pem -subj /CN=origin.test \
             -days 9 {how}"
        ),
    );
    (
        dir.join(format!("{name}.pem")),
        dir.join(format!("{name}.key")),
    )
}

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

const RSA: &str = "-newkey rsa:2048 -addext subjectAltName=DNS:origin.test";

#[test]
fn what_the_proxies_speak_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let rsa = certificate(dir, "rsa", RSA);
    let small = certificate(dir, "small", "-newkey rsa:1024");
    let odd = certificate(
        dir,
        "odd",
        &format!("{RSA} -addext 1.2.3.4=critical,ASN1:UTF8String:x"),
    );
    let p521 = certificate(
        dir,
        "p521",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-521 -addext subjectAltName=DNS:origin.test",
    );
    openssl(
        dir,
        "openssl req -new -key rsa.key -subj /CN=origin.test -out v1.csr && \
         openssl x509 -req -in v1.csr -signkey rsa.key -days 9 -out v1.pem",
    );
    let v1 = (dir.join("v1.pem"), rsa.1.clone());
    let servers = [
        ("CBC only", &rsa, "-tls1_2 -cipher ECDHE-RSA-AES128-SHA"),
        ("static RSA", &rsa, "-tls1_2 -cipher AES128-GCM-SHA256"),
        (
            "DHE only",
            &rsa,
            "-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384",
        ),
        ("P-521 only", &rsa, "-tls1_3 -groups P-521"),
        ("P-521 key", &p521, ""),
        ("RSA 1024", &small, "-cipher DEFAULT@SECLEVEL=0"),
        ("X.509 v1", &v1, ""),
        ("unknown critical extension", &odd, ""),
        ("plain RSA", &rsa, ""),
    ]
    .map(|(name, (cert, key), arguments)| (name, Server::start(cert, key, arguments)));
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
    let (cert, key) = certificate(dir.path(), "pinned", RSA);
    let server = Server::start(&cert, &key, "");
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
        let paths = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        );
        std::fs::write(&paths.0, cert.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
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
        .map(|((cert, _), _)| std::fs::read_to_string(cert).unwrap())
        .collect();
    std::fs::write(&trusted, pem).unwrap();
    let servers: Vec<Server> = cases
        .iter()
        .map(|((cert, key), _)| Server::start(cert, key, ""))
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
    let (cert, key) = certificate(dir.path(), "rsa", RSA);
    // The proxies' own default refuses it too.
    let server = Server::start(&cert, &key, "-tls1 -cipher DEFAULT@SECLEVEL=0");
    assert!(!server.curl(None));
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let (outcome, _) = bench.ask(&https(server.addr, false));
        assert_eq!(outcome, Outcome::Fail(Reason::TlsProtocol), "{backend}");
    }
}
