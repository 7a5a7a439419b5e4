//! Real nginx obeys the table: the example's configuration, in front of real
//! sockets.

#[path = "../../tests/common/mod.rs"]
mod common;
mod library;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use common::{folder, options};
use watchfire_table::{Entry, TableVerdict, Writer, WriterOptions, monotonic_ns};

const ORIGINS: [&str; 4] = ["origin-a", "origin-b", "origin-c", "origin-d"];

/// nginx with the example's configuration on a port of its own; killed at the
/// end.
struct Nginx {
    process: Child,
    port: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The worker follows when its master's channel closes; SIGTERM lets
        // the master take it along.
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

impl Nginx {
    fn start(folder: &Path, table: &Path, ports: &[u16]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nginx");
        for file in ["watchfire.lua", "pool.lua"] {
            fs::copy(example.join(file), folder.join(file)).expect("writable");
        }
        let mut configuration = fs::read_to_string(example.join("nginx.conf")).expect("there");
        for (from, to) in [
            ("/run/watchfire/table", table.display().to_string()),
            (
                "/usr/lib/libwatchfire_table.so",
                library::folder()
                    .join("libwatchfire_table.so")
                    .display()
                    .to_string(),
            ),
            ("listen 127.0.0.1:8080", format!("listen 127.0.0.1:{port}")),
        ] {
            assert!(configuration.contains(from));
            configuration = configuration.replace(from, &to);
        }
        for (i, to) in ports.iter().enumerate() {
            let from = format!("port = {}", 9_001 + i);
            assert!(configuration.contains(&from));
            configuration = configuration.replace(&from, &format!("port = {to}"));
        }
        // The test's folder belongs to its user alone, and so must the worker.
        configuration.insert_str(0, &format!("user {};\n", user()));
        Self::run(folder, &configuration, port)
    }

    /// nginx in this folder with this configuration, once it listens.
    fn run(folder: &Path, configuration: &str, port: u16) -> Self {
        fs::write(folder.join("nginx.conf"), configuration).expect("writable");
        let process = Command::new("nginx")
            .arg("-p")
            .arg(folder)
            .args(["-c", "nginx.conf"])
            .spawn()
            .expect("nginx is installed");
        let nginx = Self { process, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(folder.join("error.log")).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "nginx: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        nginx
    }

    /// Which origin answers a request.
    fn ask(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).expect("nginx listens");
        write!(socket, "GET {path} HTTP/1.0\r\n\r\n").expect("nginx reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("nginx answers");
        let body = answer.rsplit("\r\n\r\n").next().expect("a body");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        body.to_owned()
    }

    /// How many of so many requests each origin answers.
    fn share(&self, path: &str, requests: usize) -> HashMap<String, usize> {
        let mut share = HashMap::new();
        for _ in 0..requests {
            *share.entry(self.ask(path)).or_default() += 1;
        }
        share
    }
}

/// An origin that answers every request with its name.
fn origin(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 4_096];
            let _ = socket.read(&mut request);
            let length = name.len();
            let _ = write!(
                socket,
                "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{name}"
            );
        }
    });
    port
}

fn only_a_is_down(writer: &mut Writer) {
    for name in ORIGINS {
        let verdict = if name == "origin-a" {
            TableVerdict::Down
        } else {
            TableVerdict::Up
        };
        let entry = Entry {
            verdict,
            ..Entry::default()
        };
        writer.set(name.as_bytes(), &entry).expect("it fits");
    }
}

fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok()
        .flatten()
        .map_or_else(|| "nobody".to_owned(), |user| user.name)
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

fn has_nginx() -> bool {
    let has_lua = Path::new("/usr/lib/nginx/modules/ngx_http_lua_module.so").exists();
    let has = has_lua && Command::new("nginx").arg("-v").output().is_ok();
    if !has {
        let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!ci, "nginx with its Lua module must be installed here");
        eprintln!("skipped: no nginx with its Lua module (libnginx-mod-http-lua)");
    }
    has
}

#[test]
fn nginx_obeys_the_table_within_one_request() {
    if !has_nginx() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("table");
    let options = WriterOptions {
        stale_after_ms: 60_000,
        ..options(64)
    };
    let mut writer = Writer::open(&path, &options, monotonic_ns()).expect("writable");
    let mut set = |name: &str, verdict, since_ms| {
        let entry = Entry {
            verdict,
            since_ms,
            ..Entry::default()
        };
        writer.set(name.as_bytes(), &entry).expect("it fits");
    };
    let long_ago = now_ms() - 3_600_000;
    for name in ORIGINS {
        set(name, TableVerdict::Up, long_ago);
    }
    let ports = ORIGINS.map(origin);
    let nginx = Nginx::start(folder.path(), &path, &ports);

    assert_eq!(nginx.share("/", 200).len(), 4, "all are up and used");

    // Within one request, again and again.
    for round in 0..50 {
        let down = ORIGINS[round % 4];
        set(down, TableVerdict::Down, now_ms());
        assert_ne!(nginx.ask("/"), down, "the request after the verdict");
        assert_eq!(nginx.share("/", 5).get(down), None);
        set(down, TableVerdict::Up, long_ago);
    }

    // An origin that has just come up gets less than its share; later all.
    set("origin-a", TableVerdict::Up, now_ms());
    let early = nginx.share("/", 300).get("origin-a").copied().unwrap_or(0);
    set("origin-a", TableVerdict::Up, long_ago);
    let late = nginx.share("/", 300).get("origin-a").copied().unwrap_or(0);
    assert!(
        early * 2 < late,
        "slow start: {early} of 300 at first, {late} later"
    );

    // Below the panic threshold all are used, but for what drains.
    set("origin-a", TableVerdict::Down, long_ago);
    set("origin-b", TableVerdict::Down, long_ago);
    assert_eq!(
        nginx.share("/", 100).len(),
        2,
        "half of the pool still stands"
    );
    set("origin-c", TableVerdict::Down, long_ago);
    set("origin-d", TableVerdict::Draining, long_ago);
    let panic = nginx.share("/", 200);
    assert_eq!((panic.len(), panic.get("origin-d")), (3, None), "{panic:?}");
}

#[test]
fn a_stale_table_fails_static_or_open_as_the_pool_says() {
    if !has_nginx() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("table");
    let options = WriterOptions {
        stale_after_ms: 1,
        ..options(64)
    };
    let mut writer = Writer::open(&path, &options, monotonic_ns()).expect("writable");
    only_a_is_down(&mut writer);
    let ports = ORIGINS.map(origin);
    let nginx = Nginx::start(folder.path(), &path, &ports);
    // Nobody has written a heartbeat since; the agent is gone.
    drop(writer);
    assert_eq!(nginx.share("/", 200).len(), 3, "the last verdicts hold");
    assert_eq!(nginx.share("/open/", 200).len(), 4, "every origin is used");

    // The agent is back, with a larger table in another file, and alive: both
    // obey it, through the handle that they opened before.
    let options = WriterOptions {
        capacity: 10_000,
        stale_after_ms: 60_000,
        ..options
    };
    let writer = Writer::open(&path, &options, monotonic_ns()).expect("it adopts");
    assert_eq!(writer.view().generation(), 2);
    for path in ["/", "/open/"] {
        assert_eq!(nginx.share(path, 200).get("origin-a"), None, "{path}");
    }
}

/// Every case of the rule, asked through the Lua files.
#[test]
fn lua_follows_the_one_rule() {
    if !has_nginx() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("table");
    common::rule_table(&path);
    let cases = folder.path().join("cases");
    let lines: Vec<_> = common::rule_cases().collect();
    fs::write(&cases, lines.join("\n") + "\n").expect("writable");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port();
    let library = library::folder().join("libwatchfire_table.so");
    let configuration = format!(
        "user {};\nload_module /usr/lib/nginx/modules/ndk_http_module.so;\n\
         load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;\ndaemon off;\n\
         worker_processes 1;\npid nginx.pid;\nerror_log error.log warn;\nevents {{}}\n\
         http {{ access_log off; lua_package_path \"{}/?.lua;;\";\n\
         server {{ listen 127.0.0.1:{port}; location / {{\n\
         set $wf_table {}; set $wf_library {}; set $wf_cases {};\n\
         content_by_lua_file {}; }} }} }}\n",
        user(),
        here.join("../examples/nginx").display(),
        path.display(),
        library.display(),
        cases.display(),
        here.join("tests/lua_rule.lua").display(),
    );
    let nginx = Nginx::run(folder.path(), &configuration, port);
    assert_eq!(nginx.ask("/"), format!("{} cases", lines.len()));
}

#[test]
fn nginx_may_start_before_the_agent() {
    if !has_nginx() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("table");
    let ports = ORIGINS.map(origin);
    let nginx = Nginx::start(folder.path(), &path, &ports);
    for pool in ["/", "/open/"] {
        assert_eq!(nginx.share(pool, 200).len(), 4, "{pool}: all are used");
    }
    let options = WriterOptions {
        stale_after_ms: 60_000,
        ..options(64)
    };
    let mut writer = Writer::open(&path, &options, monotonic_ns()).expect("writable");
    only_a_is_down(&mut writer);
    // It looks once a second, and nobody reloads it.
    let appeared = Instant::now();
    while nginx.share("/", 40).contains_key("origin-a") {
        assert!(
            appeared.elapsed() < Duration::from_secs(5),
            "it never looks"
        );
    }
    assert_eq!(nginx.share("/open/", 100).get("origin-a"), None);
}
