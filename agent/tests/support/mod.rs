//! Real agents as processes, for the tests that run them.

// Each test file is a program of its own and uses its own part of this.
#![allow(dead_code, reason = "shared between test programs")]

pub(crate) mod browser;
pub(crate) mod dns;
pub(crate) mod nginx;
pub(crate) mod origin;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use watchfire_table::{Reader, TableVerdict, monotonic_ns};

pub(crate) const WATCHFIRE: &str = env!("CARGO_BIN_EXE_watchfire");

/// Runs the program.
pub(crate) fn watchfire(args: &[&str]) -> Output {
    Command::new(WATCHFIRE).args(args).output().unwrap()
}

/// One agent's files and, while it runs, its process.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    pub(crate) gossip: SocketAddr,
    /// What its process finds in its environment beside this one's.
    pub(crate) env: Vec<(String, String)>,
    /// What its command line begins with, such as what takes a right away.
    pub(crate) behind: Vec<String>,
    process: Option<Child>,
}

impl Agent {
    pub(crate) fn config(&self) -> PathBuf {
        self.home.join("agent.toml")
    }

    pub(crate) fn origins_file(&self) -> PathBuf {
        self.home.join("origins.toml")
    }

    /// Changes its configuration's text, which must hold `from`.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    /// For what a check lacks no member is ineligible, and none of the counters
    /// that this picks has counted anything.
    pub(crate) fn assert_calm(&self, of_ours: impl Fn(&str) -> bool) {
        let status = self.status();
        for member in status["members"].as_array().unwrap() {
            assert_eq!(member["prober_healthy"], true, "{member}");
        }
        for (name, count) in status["counters"].as_object().unwrap() {
            assert!(!of_ours(name) || *count == 0, "{name} is {count}");
        }
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.home.join("table")
    }

    /// Gives it these origins, whole or not at all, as an operator's tool would.
    pub(crate) fn write_origins(&self, text: &str) {
        let temporary = self.home.join("origins.new");
        fs::write(&temporary, text).unwrap();
        fs::rename(&temporary, self.origins_file()).unwrap();
    }

    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.join("log"))
            .unwrap();
        let program = WATCHFIRE.to_owned();
        let mut line = self.behind.iter().chain([&program]);
        let child = Command::new(line.next().unwrap())
            .args(line)
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.process.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, which: nix::sys::signal::Signal) {
        signal(self.process.as_ref().expect("it runs"), which);
    }

    /// SIGTERM, and waits for the goodbye.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let mut child = self.process.take().expect("it runs");
        signal(&child, nix::sys::signal::Signal::SIGTERM);
        child.wait().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait_for_end(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                self.process = None;
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// Runs a verb against this agent.
    pub(crate) fn ask(&self, verb: &[&str]) -> Output {
        Command::new(WATCHFIRE)
            .args(verb)
            .arg("--config")
            .arg(self.config())
            .output()
            .unwrap()
    }

    /// `watchfire status --json` of this agent.
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.ask(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}\n{}", self.log());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// How many entries of its table show this verdict.
    pub(crate) fn count(&self, verdict: TableVerdict) -> usize {
        let Ok(reader) = Reader::open(&self.table()) else {
            return 0;
        };
        if !reader.freshness(monotonic_ns()).fresh {
            return 0;
        }
        let entries = reader.entries();
        entries
            .iter()
            .filter(|(_, entry)| entry.verdict == verdict)
            .count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// A POP of agents in one folder on a tmpfs.
pub(crate) struct Pop {
    pub(crate) agents: Vec<Agent>,
    dir: tempfile::TempDir,
}

impl Pop {
    /// Writes the files of so many agents, with no origins yet; starts none.
    pub(crate) fn new(nodes: usize) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("watchfire-test-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let made = Command::new(WATCHFIRE)
            .args(["key", "new"])
            .arg(dir.path().join("pop.key"))
            .status()
            .unwrap();
        assert!(made.success());
        let addresses = free_addresses(nodes);
        let agents = addresses
            .iter()
            .enumerate()
            .map(|(index, gossip)| {
                let agent = Agent {
                    name: format!("node-{index}"),
                    home: dir.path().join(format!("node-{index}")),
                    gossip: *gossip,
                    env: Vec::new(),
                    behind: Vec::new(),
                    process: None,
                };
                fs::create_dir_all(&agent.home).unwrap();
                fs::write(agent.config(), agent_toml(&agent.name, *gossip, &addresses)).unwrap();
                agent.write_origins("");
                agent
            })
            .collect();
        Self { agents, dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until every agent's table shows so many of this verdict.
    pub(crate) fn wait_for(
        &self,
        verdict: TableVerdict,
        count: usize,
        patience: Duration,
    ) -> Duration {
        let started = Instant::now();
        loop {
            let counts: Vec<_> = self
                .agents
                .iter()
                .map(|agent| agent.count(verdict))
                .collect();
            if counts.iter().all(|shown| *shown == count) {
                return started.elapsed();
            }
            assert!(
                started.elapsed() < patience,
                "{counts:?} origins are {verdict} after {patience:?}, not {count}\n{}",
                self.agents[0].log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn agent_toml(name: &str, gossip: SocketAddr, join: &[SocketAddr]) -> String {
    let join: Vec<_> = join.iter().map(|addr| format!("\"{addr}\"")).collect();
    format!(
        "[node]\nname = \"{name}\"\nstate_dir = \"state\"\n\n\
         [gossip]\nbind = \"{gossip}\"\njoin = [{}]\nkey_file = \"../pop.key\"\n\n\
         [probe]\nuser_agent = \"watchfire/{{version}} ({{node}})\"\n\
         allow = [\"127.0.0.0/8\"]\n\n\
         [table]\npath = \"table\"\n\n\
         [admin]\nsocket = \"admin.sock\"\n\n\
         [origins]\nfiles = [\"origins.toml\"]\n",
        join.join(", ")
    )
}

/// So many HTTP origins on consecutive loopback addresses.
pub(crate) fn origins_toml(range: std::ops::Range<u32>, port: u16) -> String {
    let mut text = String::from("[defaults]\npath = \"/health\"\ninterval = \"1s\"\n\n");
    for index in range {
        text.push_str(&format!(
            "[[origin]]\nname = \"origin-{index}\"\naddress = \"{}:{port}\"\n\n",
            origin_address(index)
        ));
    }
    text
}

pub(crate) fn origin_address(index: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(127, 40, 0, 1)) + index)
}

/// Addresses for gossip, each free for UDP and TCP. Not 127.0.0.1, from which
/// probes connect: its ephemeral ports come and go.
pub(crate) fn free_addresses(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let net = u32::from(Ipv4Addr::new(127, 78, (std::process::id() % 250) as u8, 0));
    (0..count)
        .map(|_| {
            let ip = Ipv4Addr::from(net + NEXT.fetch_add(1, Ordering::Relaxed));
            let tcp = TcpListener::bind((ip, 0)).unwrap();
            let addr = tcp.local_addr().unwrap();
            drop(UdpSocket::bind(addr).unwrap());
            addr
        })
        .collect()
}

pub(crate) fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}
