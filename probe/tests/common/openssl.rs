//! OpenSSL's own server and certificates, and the keys of a check's TLS.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchfire_probe::CheckSpec;
use watchfire_probe_core::TlsSpec;
use watchfire_probe_core::keys::{Keys, Value};
use watchfire_probe_core::stream::tls::TlsOptions;

/// A server that rustls cannot speak with.
pub(crate) const BROAD: &str = "-tls1_2 -cipher ECDHE-RSA-AES128-SHA";

/// A self-signed certificate for `origin.test`, for [`certificate`].
pub(crate) const RSA: &str = "-newkey rsa:2048 -addext subjectAltName=DNS:origin.test";

/// OpenSSL's server, which answers every request with a page.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Serves `of`.pem with `of`.key.
    pub(crate) fn start(dir: &Path, of: &str, arguments: &str) -> Self {
        Self::start_with(dir, &format!("{of}.pem"), &format!("{of}.key"), arguments)
    }

    pub(crate) fn start_with(dir: &Path, cert: &str, key: &str, arguments: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = free.local_addr().expect("an address");
        drop(free);
        let child = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", "-accept"])
            .arg(addr.port().to_string())
            .args(["-cert", cert, "-key", key])
            .args(arguments.split_whitespace())
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let server = Self { child, addr };
        await_port(addr, arguments);
        server
    }

    /// Whether curl takes what it says, any certificate or this one.
    pub(crate) fn curl(&self, trusted: Option<&Path>) -> bool {
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

pub(crate) fn await_port(addr: SocketAddr, what: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < until, "{what} does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a line of a shell there.
pub(crate) fn shell(dir: &Path, line: &str) {
    let status = Command::new("sh")
        .args(["-c", line])
        .current_dir(dir)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("a shell").success(), "{line}");
}

/// Makes a self-signed certificate and its key, `name`.pem and `name`.key.
pub(crate) fn certificate(dir: &Path, name: &str, how: &str) {
    shell(
        dir,
        &format!(
            "openssl req -x509 -nodes -keyout {name}.key -out {name}.pem -subj /CN=origin.test \
             -days 9 {how}"
        ),
    );
}

/// An authority of this name, and a certificate by it for `origin.test`.
pub(crate) fn authority(dir: &Path, name: &str) {
    shell(
        dir,
        &format!(
            "openssl req -x509 -nodes -newkey rsa:2048 -keyout {name}-ca.key -out {name}-ca.pem \
             -subj /CN={name}-ca -days 9 && \
             openssl req -new -nodes -newkey rsa:2048 -keyout {name}.key -out {name}.csr \
             -subj /CN=origin.test && \
             printf 'subjectAltName=DNS:origin.test' > {name}.ext && \
             openssl x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key \
             -CAcreateserial -days 9 -extfile {name}.ext -out {name}.pem"
        ),
    );
}

/// Keys as a configuration gives them.
pub(crate) struct Given(pub(crate) Vec<(&'static str, Value)>);

impl Keys for Given {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(at).1)
    }
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(crate) fn file(dir: &Path, name: &str) -> Value {
    Value::Text(std::fs::read_to_string(dir.join(name)).expect("it was made"))
}

/// A check of this server with these keys, which verifies `origin.test`.
pub(crate) fn https(addr: SocketAddr, keys: Vec<(&'static str, Value)>) -> CheckSpec {
    let options = TlsOptions::read(&mut Given(keys)).expect("good keys");
    CheckSpec {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        tls: Some(TlsSpec {
            server_name: "origin.test".to_owned(),
            verify: true,
            options: options.map(Arc::new),
        }),
        ..CheckSpec::http(addr, "/")
    }
}
