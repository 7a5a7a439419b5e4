//! Debian's nginx, which speaks TLS and logs what it saw of it.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One running nginx, and where each of its servers listens.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) addrs: Vec<SocketAddr>,
    log: PathBuf,
}

impl Nginx {
    /// Starts one with a server for each of these lines of its configuration;
    /// the certificate and key are `one.pem` and `one.key`. Nothing if it is not
    /// installed, which under `CI` is a failure.
    pub(crate) fn start(dir: &Path, servers: &[&str]) -> Option<Self> {
        let with_tls: Vec<_> = servers.iter().map(|lines| ("ssl", *lines)).collect();
        Self::start_as(dir, &with_tls)
    }

    /// The same with what follows each server's address on its `listen` line.
    pub(crate) fn start_as(dir: &Path, servers: &[(&str, &str)]) -> Option<Self> {
        let binary = ["/usr/sbin/nginx", "/usr/bin/nginx"];
        let Some(binary) = binary.into_iter().find(|path| Path::new(path).exists()) else {
            assert!(std::env::var_os("CI").is_none(), "nginx is not installed");
            eprintln!("skipped: nginx is not installed (Debian: apt-get install nginx-light)");
            return None;
        };
        let free: Vec<_> = servers
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let addrs = free.iter().map(|it| it.local_addr().expect("an address"));
        let addrs: Vec<_> = addrs.collect();
        drop(free);
        let path = dir.display();
        let servers: String = servers
            .iter()
            .zip(&addrs)
            .map(|((listen, lines), addr)| {
                format!(
                    "server {{ listen {addr} {listen}; ssl_certificate {path}/one.pem; \
                     ssl_certificate_key {path}/one.key; {lines} \
                     location = / {{ return 200 'ok'; }} location / {{ return 404; }} }}\n"
                )
            })
            .collect();
        let config = format!(
            "daemon off;\nworker_processes 1;\npid {path}/pid;\nerror_log {path}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n  log_format tls '$server_port $ssl_session_reused $ssl_protocol \
             $ssl_client_verify';\n  access_log {path}/access.log tls;\n  \
             client_body_temp_path {path}/a;\n  proxy_temp_path {path}/b;\n  \
             fastcgi_temp_path {path}/c;\n  uwsgi_temp_path {path}/d;\n  \
             scgi_temp_path {path}/e;\n{servers}}}\n"
        );
        std::fs::write(dir.join("nginx.conf"), config).expect("a folder to write to");
        let child = Command::new(binary)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx can be started");
        let nginx = Self {
            child,
            addrs,
            log: dir.join("access.log"),
        };
        super::openssl::await_port(nginx.addrs[0], "nginx");
        Some(nginx)
    }

    /// What it logged of the server of this place: whether the session was
    /// reused (`r` or `.`), which TLS, and what it thinks of the client.
    pub(crate) fn log(&self, server: usize) -> Vec<[String; 3]> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let port = self.addrs[server].port().to_string();
        let of = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            (words.next()? == port).then_some(())?;
            Some([words.next()?, words.next()?, words.next()?])
        };
        text.lines().filter_map(of).collect()
    }

    /// What it logged of a server, as soon as that are more than so many lines.
    pub(crate) fn log_beyond(&self, server: usize, count: usize) -> Vec<[String; 3]> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let log = self.log(server);
            if log.len() > count {
                return log;
            }
            assert!(Instant::now() < until, "{} of {count} requests", log.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes it forget the keys of its tickets: it reads its configuration anew.
    pub(crate) fn reload(&self) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGHUP).expect("it runs");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it only if it may say so.
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
