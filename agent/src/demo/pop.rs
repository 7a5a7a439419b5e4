//! A POP of agents as processes of their own: their files, their lives and
//! their ends.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::USER_AGENT_OF_NODE;

/// How long an agent may take to start.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Ports that are tried for one agent.
const PORT_TRIES: usize = 16;

/// Names that a table has room for at first; it grows by moving. Small, for a
/// container has 64 MB of shared memory.
const TABLE_NAMES: usize = 1_024;

/// Agents on loopback, each with its folder.
pub(crate) struct Pop {
    agents: Vec<Agent>,
}

/// One agent.
pub(crate) struct Agent {
    /// Its node name.
    pub(crate) name: String,
    /// Its table's file.
    pub(crate) table: PathBuf,
    config: PathBuf,
    log: PathBuf,
    process: Option<Child>,
}

impl Pop {
    /// Writes the files of so many agents into the folder; starts none.
    /// `tables` is a folder on a tmpfs.
    pub(crate) fn prepare(
        dir: &Path,
        tables: &Path,
        nodes: usize,
        origins: &str,
    ) -> io::Result<Self> {
        let ports = free_addresses(nodes)?;
        let key_file = dir.join("pop.key");
        crate::keys::create(&key_file, 1)?;
        let origins_file = dir.join("origins.toml");
        fs::write(&origins_file, origins)?;
        let mut agents = Vec::new();
        for (index, addr) in ports.iter().enumerate() {
            let name = format!("edge-{}", index + 1);
            let home = dir.join(&name);
            fs::create_dir_all(&home)?;
            let join: Vec<String> = ports.iter().map(|port| format!("\"{port}\"")).collect();
            let table = tables.join(format!("{name}.table"));
            let config = home.join("agent.toml");
            let mut file = File::create(&config)?;
            write!(
                file,
                "[node]\nname = \"{name}\"\nstate_dir = \"{home}\"\n\n\
                 [gossip]\nbind = \"{addr}\"\njoin = [{join}]\nkey_file = \"{key}\"\n\n\
                 [probe]\nuser_agent = \"{USER_AGENT_OF_NODE}\"\n\
                 allow = [\"127.0.0.0/8\"]\n\n\
                 [table]\npath = \"{table}\"\ncapacity = {TABLE_NAMES}\n\n\
                 [admin]\nsocket = \"{home}/admin.sock\"\n\n\
                 [origins]\nfiles = [\"{origins}\"]\n",
                home = home.display(),
                join = join.join(", "),
                key = key_file.display(),
                table = table.display(),
                origins = origins_file.display(),
            )?;
            agents.push(Agent {
                name,
                table,
                config,
                log: home.join("log"),
                process: None,
            });
        }
        Ok(Self { agents })
    }

    pub(crate) fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// Starts an agent that does not run.
    pub(crate) fn start(&mut self, index: usize) -> io::Result<()> {
        let agent = &mut self.agents[index];
        let log = File::options().create(true).append(true).open(&agent.log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg("--config")
            .arg(&agent.config)
            .arg("--end-with")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        agent.process = Some(child);
        Ok(())
    }

    /// Waits until every agent that was started shows its table.
    pub(crate) fn wait_for_tables(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_PATIENCE;
        for agent in &mut self.agents {
            while !agent.table.exists() {
                let ended = agent
                    .process
                    .as_mut()
                    .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
                if ended || Instant::now() > deadline {
                    return Err(format!(
                        "{} did not start:\n{}",
                        agent.name,
                        fs::read_to_string(&agent.log).unwrap_or_default()
                    ));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// Kills an agent with SIGKILL: no goodbye, no cleaning up.
    pub(crate) fn kill(&mut self, index: usize) -> io::Result<()> {
        if let Some(mut child) = self.agents[index].process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Names of agents that run no more though nobody killed them.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        self.agents
            .iter_mut()
            .filter_map(|agent| {
                let child = agent.process.as_mut()?;
                child.try_wait().ok().flatten().map(|_| agent.name.clone())
            })
            .collect()
    }

    /// The last lines of an agent's log.
    pub(crate) fn log_tail(&self, index: usize) -> String {
        let text = fs::read_to_string(&self.agents[index].log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        for index in 0..self.agents.len() {
            // On the way out there is nobody left to tell.
            let _ = self.kill(index);
            let _ = fs::remove_file(&self.agents[index].table);
        }
    }
}

/// Loopback addresses with a port each that is free for UDP and TCP. They are
/// not 127.0.0.1, from which the probes of this host connect: its ephemeral
/// ports come and go. Nothing holds them until the agents start, so an agent
/// may still find one taken, and says so.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let net = Ipv4Addr::new(127, 77, (std::process::id() % 250) as u8, 0);
    (1..=count)
        .map(|host| {
            let ip = Ipv4Addr::from(u32::from(net) + host as u32);
            let mut last = None;
            for _ in 0..PORT_TRIES {
                let tcp = TcpListener::bind((ip, 0))?;
                let addr = tcp.local_addr()?;
                match UdpSocket::bind(addr) {
                    Ok(_) => return Ok(addr),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
        })
        .collect()
}
