//! Real HAProxy obeys the table through its agent-check, with the example's
//! configuration and the example's server.

mod common;

#[path = "../examples/agentcheck.rs"]
mod agentcheck;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{folder, options};
use watchfire_table::{
    Entry, Reader, TableVerdict, WhenStale, Writer, WriterOptions, monotonic_ns,
};

const UP: [&str; 2] = ["2", "0"];
const DOWN: [&str; 2] = ["0", "0"];
const MAINT: [&str; 2] = ["0", "1"];
const DRAIN_BY_HAND: [&str; 2] = ["2", "8"];
const ORIGINS: [&str; 4] = ["origin-a", "origin-b", "origin-c", "origin-d"];

/// HAProxy with the example's configuration; killed at the end.
struct Haproxy {
    process: Child,
    socket: PathBuf,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Haproxy {
    fn start(folder: &Path, agent_port: u16) -> Self {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/haproxy/haproxy.cfg");
        let mut configuration = fs::read_to_string(example).expect("there");
        let socket = folder.join("haproxy.sock");
        for (from, to) in [
            ("unix@haproxy.sock", socket.display().to_string()),
            (
                "bind 127.0.0.1:8080",
                format!("bind unix@{}", folder.join("web").display()),
            ),
            ("agent-port 5777", format!("agent-port {agent_port}")),
            ("agent-inter 500ms", "agent-inter 20ms".to_owned()),
        ] {
            assert!(configuration.contains(from));
            configuration = configuration.replace(from, &to);
        }
        let path = folder.join("haproxy.cfg");
        fs::write(&path, configuration).expect("writable");
        let process = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&path)
            .spawn()
            .expect("haproxy is installed");
        Self { process, socket }
    }

    /// Each server's state: operational ("0" stopped, "2" running) and
    /// administrative ("0" ready, "8" draining), as HAProxy numbers them.
    fn states(&self) -> Option<HashMap<String, [String; 2]>> {
        let mut socket = UnixStream::connect(&self.socket).ok()?;
        socket.write_all(b"show servers state origins\n").ok()?;
        let mut table = String::new();
        socket.read_to_string(&mut table).ok()?;
        let rows = table
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let servers = rows.filter(|row| row.get(1) == Some(&"origins") && row.len() > 6);
        let state = |row: Vec<&str>| (row[3].to_owned(), [row[5].to_owned(), row[6].to_owned()]);
        Some(servers.map(state).collect())
    }

    /// Gives a command as an operator does, and returns the answer.
    fn command(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(&self.socket).expect("haproxy runs");
        writeln!(socket, "{command}").expect("haproxy reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("haproxy answers");
        answer
    }

    /// Waits until a server has this weight, of a first one of 1.
    fn await_weight(&self, name: &str, expected: &str) {
        let start = Instant::now();
        loop {
            let weight = self.command(&format!("get weight origins/{name}"));
            if weight.starts_with(expected) {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{name}, not {expected}: {weight}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a server is in this state.
    fn await_state(&self, name: &str, expected: [&str; 2]) {
        let start = Instant::now();
        loop {
            let states = self.states();
            let state = states.as_ref().and_then(|states| states.get(name));
            if state.is_some_and(|state| state == &expected) {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{name}, not {expected:?}: {states:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn has_haproxy() -> bool {
    let has = Command::new("haproxy").arg("-v").output().is_ok();
    if !has {
        let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!ci, "haproxy must be installed here");
        eprintln!("skipped: no haproxy");
    }
    has
}

#[test]
fn haproxy_follows_the_table_through_its_agent_check() {
    if !has_haproxy() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("table");
    let options = WriterOptions {
        stale_after_ms: 60_000,
        ..options(64)
    };
    let mut writer = Writer::open(&path, &options, monotonic_ns()).expect("writable");
    let mut set = |name: &str, verdict| {
        let entry = Entry {
            verdict,
            reason: 1,
            ..Entry::default()
        };
        writer.set(name.as_bytes(), &entry).expect("it fits");
    };
    for name in ORIGINS {
        set(name, TableVerdict::Up);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let reader = Reader::open(&path).expect("a table");
    std::thread::spawn(move || agentcheck::serve(&listener, &reader, WhenStale::Static));
    let haproxy = Haproxy::start(folder.path(), port);

    haproxy.await_state("origin-a", UP);
    set("origin-a", TableVerdict::Down);
    haproxy.await_state("origin-a", DOWN);
    set("origin-b", TableVerdict::Draining);
    haproxy.await_weight("origin-b", "0 ");
    // What is not known leaves the state as it was.
    set("origin-a", TableVerdict::Unknown);
    set("origin-c", TableVerdict::Unknown);
    std::thread::sleep(Duration::from_millis(200));
    haproxy.await_state("origin-a", DOWN);
    haproxy.await_state("origin-c", UP);
    haproxy.await_state("origin-d", UP);
    set("origin-a", TableVerdict::Up);
    set("origin-b", TableVerdict::Up);
    haproxy.await_state("origin-a", UP);
    haproxy.await_state("origin-b", UP);
    haproxy.await_weight("origin-b", "1 ");

    // What an operator sets by hand stays, whatever the verdict.
    for (word, up, down) in [
        ("maint", MAINT, MAINT),
        ("drain", DRAIN_BY_HAND, ["0", "8"]),
    ] {
        haproxy.command(&format!("set server origins/origin-b state {word}"));
        for (verdict, state) in [
            (TableVerdict::Up, up),
            (TableVerdict::Down, down),
            (TableVerdict::Draining, up),
            (TableVerdict::Unknown, up),
            (TableVerdict::Up, up),
        ] {
            set("origin-b", verdict);
            std::thread::sleep(Duration::from_millis(200));
            haproxy.await_state("origin-b", state);
        }
        haproxy.command("set server origins/origin-b state ready");
        haproxy.await_state("origin-b", UP);
    }
}

#[test]
fn haproxy_accepts_the_example_as_printed() {
    if !has_haproxy() {
        return;
    }
    let folder = folder();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/haproxy/haproxy.cfg");
    let check = Command::new("haproxy")
        .current_dir(folder.path())
        .arg("-c")
        .arg("-f")
        .arg(example)
        .output()
        .expect("haproxy is installed");
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{said}");
}
