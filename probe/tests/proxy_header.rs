//! The PROXY protocol's header before all else, against real servers that take
//! no connection without one: HAProxy and nginx, in the clear and before TLS,
//! and an origin that speaks first.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, backends, options};
use watchfire_probe::{CheckSpec, Outcome};
use watchfire_probe_core::keys::{Keys, Value};
use watchfire_probe_core::{Kind, ProxyHeader, TlsSpec};
use watchfire_wire::Reason;

/// A server that ends with its test.
struct Server(Child);

impl Server {
    fn start(program: &str, arguments: &[&str], addr: SocketAddr) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}, which this test needs: {error}"));
        let server = Self(child);
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(addr).is_err() {
            assert!(Instant::now() < until, "{program} does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Addresses that nobody uses now.
fn free<const N: usize>() -> [SocketAddr; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.each_ref()
        .map(|held| held.local_addr().expect("an address"))
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn spec(addr: SocketAddr, tls: bool, reuse: bool, proxy: Option<ProxyHeader>) -> CheckSpec {
    let mut spec = CheckSpec::http(addr, "/health");
    if let Kind::Http(http) = &mut spec.kind {
        http.reuse = reuse;
    }
    CheckSpec {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        tls: tls.then(|| TlsSpec {
            server_name: "origin.test".to_owned(),
            verify: false,
            options: None,
        }),
        proxy,
        ..spec
    }
}

/// What passes with each header, and not without one.
fn judge(what: &str, addr: SocketAddr, tls: bool) {
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        for proxy in [ProxyHeader::V1, ProxyHeader::V2] {
            for reuse in [false, true] {
                let (outcome, _) = bench.ask(&spec(addr, tls, reuse, Some(proxy)));
                assert_eq!(outcome, Outcome::Pass, "{backend}: {what} {proxy:?}");
            }
        }
        let (outcome, _) = bench.ask(&spec(addr, tls, false, None));
        assert!(
            matches!(outcome, Outcome::Fail(_)),
            "{backend}: {what}: {outcome:?}"
        );
        bench.settle();
    }
}

#[test]
fn haproxy_takes_it_in_the_clear_and_before_tls() {
    let dir = tempfile::tempdir().unwrap();
    let [plain, tls] = free();
    let key = rcgen::generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let pem = key.cert.pem() + &key.signing_key.serialize_pem();
    let pem = write(dir.path(), "both.pem", &pem);
    let config = format!(
        "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n\
         frontend f\n bind {plain} accept-proxy\n bind {tls} accept-proxy ssl crt {pem}\n \
         http-request return status 200 content-type text/plain string ok\n"
    );
    let config = write(dir.path(), "haproxy.cfg", &config);
    let _server = Server::start("haproxy", &["-db", "-f", &config], plain);
    judge("haproxy", plain, false);
    judge("haproxy with TLS", tls, true);
}

#[test]
fn nginx_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let [plain] = free();
    let at = dir.path().display();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/log; events {{}}\n\
         http {{ access_log off; client_body_temp_path {at}; proxy_temp_path {at};\n\
         fastcgi_temp_path {at}; uwsgi_temp_path {at}; scgi_temp_path {at};\n\
         server {{ listen {plain} proxy_protocol; location / {{ return 200 ok; }} }} }}\n"
    );
    let config = write(dir.path(), "nginx.conf", &config);
    let log = format!("{at}/log");
    let _server = Server::start("nginx", &["-e", &log, "-c", &config], plain);
    judge("nginx", plain, false);
}

struct Steps(Option<Value>);

impl Keys for Steps {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        (key == "steps").then(|| self.0.take()).flatten()
    }
}

/// One that greets who has said who he is, and answers him.
#[test]
fn an_origin_that_speaks_first_hears_the_header_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut header = [0; 15];
            if stream.read_exact(&mut header).is_err() || &header != b"PROXY UNKNOWN\r\n" {
                continue;
            }
            let _ = stream.write_all(b"220 hello\r\n");
            let mut said = [0; 6];
            if stream.read_exact(&mut said).is_ok() && &said == b"QUIT\r\n" {
                let _ = stream.write_all(b"221 bye\r\n");
            }
        }
    });
    let step = |verb: &str, text: &str| {
        Value::Table(vec![(verb.to_owned(), Value::Text(text.to_owned()))])
    };
    let steps = Value::List(vec![
        step("expect", "220 "),
        step("send", "QUIT\r\n"),
        step("expect", "221"),
    ]);
    let read = Kind::read("send-expect", &mut Steps(Some(steps)), &addr);
    let (kind, _) = read.expect("a kind").expect("steps");
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        let spec = |proxy| CheckSpec {
            kind: kind.clone(),
            proxy,
            ..CheckSpec::tcp(addr)
        };
        let (outcome, _) = bench.ask(&spec(Some(ProxyHeader::V1)));
        assert_eq!(outcome, Outcome::Pass, "{backend}");
        let (outcome, _) = bench.ask(&spec(None));
        assert_eq!(
            outcome,
            Outcome::Fail(Reason::FirstByteTimeout),
            "{backend}"
        );
        bench.settle();
    }
}
