//! Debian's nginx as the origins: one `listen` answers on every address of
//! 127.0.0.0/8, and its access log says who asked whom when.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One line of the access log.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The origin's address.
    pub(crate) origin: String,
    /// Wall clock, seconds since 1970.
    pub(crate) at_s: f64,
    /// The User-Agent.
    pub(crate) who: String,
}

pub(crate) struct Nginx {
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Nginx {
    /// Starts nginx on a free port, or says that it is not installed. Under
    /// `CI=true` that is a failure.
    pub(crate) fn start() -> Option<Self> {
        if !binary().exists() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "nginx is not installed, and this test must run in CI"
            );
            eprintln!("skipped: nginx is not installed (Debian: apt-get install nginx-light)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // nginx's worker may run as another user; it must get at its files.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.path(), mode).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let path = dir.path().display();
        let config = format!(
            "daemon off;\nworker_processes 1;\npid {path}/pid;\nerror_log {path}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  log_format who '$server_addr $msec $http_user_agent';\n  \
             access_log {path}/access.log who;\n  client_body_temp_path {path}/a;\n  \
             proxy_temp_path {path}/b;\n  fastcgi_temp_path {path}/c;\n  uwsgi_temp_path {path}/d;\n  \
             scgi_temp_path {path}/e;\n  server {{ listen {port} backlog=4096; \
             location / {{ return 200 'ok'; }} }}\n}}\n"
        );
        fs::write(dir.path().join("nginx.conf"), config).unwrap();
        let mut nginx = Self {
            port,
            dir,
            process: None,
        };
        nginx.run();
        Some(nginx)
    }

    /// Starts it again after [`stop`](Self::stop).
    pub(crate) fn run(&mut self) {
        let child = Command::new(binary())
            .arg("-c")
            .arg(self.dir.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "nginx did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn stop(&mut self) {
        let mut child = self.process.take().expect("it runs");
        super::signal(&child, nix::sys::signal::Signal::SIGTERM);
        child.wait().unwrap();
    }

    /// Probes of these origins that were logged so far, by origin, in order of
    /// time.
    pub(crate) fn log(&self, origins: std::ops::Range<u32>) -> BTreeMap<String, Vec<Request>> {
        let text = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        let mut log: BTreeMap<String, Vec<Request>> = origins
            .map(|index| (super::origin_address(index).to_string(), Vec::new()))
            .collect();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(origin), Some(at), Some(who)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if let (Some(requests), Ok(at_s)) = (log.get_mut(origin), at.parse()) {
                requests.push(Request {
                    origin: origin.to_owned(),
                    at_s,
                    who: who.to_owned(),
                });
            }
        }
        log
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
    }
}

/// The wall clock that nginx's log uses, seconds since 1970.
pub(crate) fn wall_s() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// The longest time within `from_s..to_s` that this origin was not probed,
/// both ends included.
pub(crate) fn longest_gap_s(requests: &[Request], from_s: f64, to_s: f64) -> f64 {
    let mut last = from_s;
    let mut longest: f64 = 0.0;
    for request in requests.iter().filter(|r| (from_s..to_s).contains(&r.at_s)) {
        longest = longest.max(request.at_s - last);
        last = request.at_s;
    }
    longest.max(to_s - last)
}

/// Requests that came less than `within_s` after another agent's, in
/// `from_s..to_s`.
pub(crate) fn doubles(requests: &[Request], from_s: f64, to_s: f64, within_s: f64) -> usize {
    requests
        .windows(2)
        .filter(|pair| (from_s..to_s).contains(&pair[1].at_s))
        .filter(|pair| pair[0].who != pair[1].who && pair[1].at_s - pair[0].at_s < within_s)
        .count()
}

fn binary() -> PathBuf {
    ["/usr/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .unwrap_or_else(|| "/usr/sbin/nginx".into())
}
