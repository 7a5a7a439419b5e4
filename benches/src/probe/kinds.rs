//! What a probe of each kind costs beside a half-open one, at one rate. nginx is the
//! origin, but for gRPC, which has one of this bench's own.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchfire_probe::{CheckSpec, Kind};
use watchfire_probe_core::TlsSpec;
use watchfire_probe_core::keys::{Keys, Value};
use watchfire_probe_core::stream::tls::TlsOptions;

use super::pairs::{median, ratio};
use super::{Bench, room, schedule};

/// Probes a second: what a busy server has, and each server here can answer.
const RATE: u32 = 1_000;
/// The interval of each check.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one kind is watched.
const WINDOW: Duration = Duration::from_secs(4);
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A row of the table: its name, its kind, its origin, its keys.
type Row = (
    &'static str,
    &'static str,
    SocketAddr,
    Vec<(&'static str, Value)>,
);

/// Measures each kind in turn, so many times.
pub(super) fn measure(bench: &mut Bench, rounds: usize) -> Result<(), Box<dyn Error>> {
    let core = bench.load.core.unwrap_or(0);
    // Servers inherit the core of whoever starts them.
    room::pin(core + 1)?;
    let folder = tempfile::tempdir()?;
    let nginx = Nginx::start(folder.path())?;
    let grpc = serve_grpc()?;
    room::pin(core)?;
    let ca = std::fs::read_to_string(folder.path().join("ca.pem"))?;
    let rows = rows(nginx.addrs, grpc, &ca);
    let mut columns = vec![Vec::new(); rows.len()];
    for _ in 0..rounds {
        for ((_, kind, addr, keys), column) in rows.iter().zip(&mut columns) {
            let specs = vec![check(kind, *addr, keys.clone())?];
            let result = schedule::run(specs, Some(core), RATE, INTERVAL, WINDOW)?;
            column.push(result.cpu_us_per_probe);
        }
    }
    let half_open = columns[0].clone();
    for ((name, ..), column) in rows.iter().zip(columns) {
        bench.figure(&format!("{name}_vs_tcp"), ratio(&column, &half_open));
        bench.figure(&format!("{name}_us"), median(column));
    }
    Ok(())
}

fn rows(nginx: [SocketAddr; 4], grpc: SocketAddr, ca: &str) -> Vec<Row> {
    let [plain, h2, tls, h2_tls] = nginx;
    let text = |text: &str| Value::Text(text.to_owned());
    let step = |key: &str, value| Value::Table(vec![(key.to_owned(), text(value))]);
    let steps = Value::List(vec![
        step("send", "GET / HTTP/1.0\r\n\r\n"),
        step("expect", "200 OK"),
    ]);
    let trusted = || vec![("path", text("/")), ("ca_file", text(ca))];
    let path = || vec![("path", text("/"))];
    let with = |mut keys: Vec<(&'static str, Value)>, key, value| {
        keys.push((key, value));
        keys
    };
    vec![
        ("tcp", "tcp", plain, Vec::new()),
        (
            "tcp_full",
            "tcp",
            plain,
            with(Vec::new(), "half_open", Value::Flag(false)),
        ),
        ("send_expect", "send-expect", plain, vec![("steps", steps)]),
        ("http", "http", plain, path()),
        (
            "http_kept",
            "http",
            plain,
            with(path(), "connection", text("reuse")),
        ),
        (
            "https_full",
            "https",
            tls,
            with(trusted(), "tls_resumption", Value::Flag(false)),
        ),
        ("https_resumed", "https", tls, trusted()),
        ("h2", "h2", h2, path()),
        ("h2_tls_resumed", "h2-tls", h2_tls, trusted()),
        ("grpc", "grpc", grpc, Vec::new()),
    ]
}

/// A check of this kind with these keys.
fn check(
    kind: &str,
    addr: SocketAddr,
    keys: Vec<(&'static str, Value)>,
) -> Result<CheckSpec, Box<dyn Error>> {
    let mut keys = Given(keys);
    let read = Kind::read(kind, &mut keys, &addr).ok_or("no such kind")?;
    let (kind, in_tls) = read?;
    let options = TlsOptions::read(&mut keys)?;
    let spec = CheckSpec {
        kind,
        tls: in_tls.then(|| TlsSpec {
            server_name: "origin.test".to_owned(),
            verify: true,
            options: options.map(Arc::new),
        }),
        ..CheckSpec::tcp(addr)
    };
    spec.validate()?;
    match keys.0.first() {
        None => Ok(spec),
        Some((key, _)) => Err(format!("nobody took {key}").into()),
    }
}

struct Given(Vec<(&'static str, Value)>);

impl Keys for Given {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Debian's nginx with a server of each kind; it ends with this value.
struct Nginx {
    child: Child,
    /// Plain HTTP, HTTP/2, HTTPS, HTTP/2 in TLS.
    addrs: [SocketAddr; 4],
}

impl Nginx {
    fn start(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let made = Command::new("sh")
            .current_dir(folder)
            .args(["-ec", CERTIFICATES])
            .stderr(Stdio::null())
            .status()?;
        if !made.success() {
            return Err("openssl made no certificates; install Debian's package openssl".into());
        }
        let mut addrs = [SocketAddr::from(([127, 0, 0, 1], 0)); 4];
        let mut servers = String::new();
        for (addr, flags) in addrs.iter_mut().zip(["", "http2", "ssl", "ssl http2"]) {
            *addr = TcpListener::bind(*addr)?.local_addr()?;
            servers.push_str(&format!(
                "server {{ listen {addr} {flags} backlog=4096; location / {{ return 200 ok; }} }}\n"
            ));
        }
        let config = format!(
            "daemon off; worker_processes 1; pid nginx.pid; error_log error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 1000000; keepalive_timeout 60;\n\
             ssl_certificate one.pem; ssl_certificate_key one.key;\n{servers}}}\n"
        );
        std::fs::write(folder.join("nginx.conf"), config)?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start nginx ({error}); install nginx-light"))?;
        let nginx = Self { child, addrs };
        let began = Instant::now();
        while TcpStream::connect(addrs[3]).is_err() {
            if began.elapsed() > PATIENCE {
                return Err("nginx does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends by the master's word, not by the master's death.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A P-256 key, as most of the web has, and an authority for it.
const CERTIFICATES: &str = "\
    key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    openssl req -x509 $key -keyout ca.key -out ca.pem -subj /CN=bench-ca -days 9
    openssl req -new $key -keyout one.key -out one.csr -subj /CN=origin.test
    printf 'subjectAltName=DNS:origin.test' > one.ext
    openssl x509 -req -in one.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 \
        -extfile one.ext -out one.pem";

/// Serves gRPC's health check on a thread: always the same answer, as frames.
fn serve_grpc() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // All of a request comes at once; an answer that is not read is counted as
            // a probe that failed.
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(GRPC_ANSWER);
            let _ = stream.read(&mut [0; 4_096]);
        }
    });
    Ok(addr)
}

/// SETTINGS and its acknowledgement, a head (`:status: 200`, `content-type:
/// application/grpc`), SERVING, and a trailer (`grpc-status: 0`).
const GRPC_ANSWER: &[u8] = b"\
    \0\0\0\x04\0\0\0\0\0\
    \0\0\0\x04\x01\0\0\0\0\
    \0\0\x14\x01\x04\0\0\0\x01\x88\x0f\x10\x10application/grpc\
    \0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08\x01\
    \0\0\x0f\x01\x05\0\0\0\x01\0\x0bgrpc-status\x010";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_long_as_they_say() {
        let mut rest = GRPC_ANSWER;
        let mut frames = 0;
        while let Some((head, after)) = rest.split_at_checked(9) {
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            rest = &after[length..];
            frames += 1;
        }
        assert_eq!((frames, rest.len()), (5, 0));
    }

    #[test]
    fn every_row_is_a_check() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        for (name, kind, addr, mut keys) in rows([addr; 4], addr, "") {
            keys.retain(|(key, _)| *key != "ca_file");
            assert!(check(kind, addr, keys).is_ok(), "{name}");
        }
    }
}
