//! The agents: their files, their lives and their ends. They are the built
//! `watchfire` program, and nothing of it is linked here but the table's
//! reader.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::clock::{self, Us};
use crate::faults::fakes;
use crate::net::{self, GOSSIP_PORT, Net, ORIGIN_PORT};
use crate::scenario::Pop;
use crate::shell;

/// Size of a table, names per name that is configured.
const TABLE_ROOM: f64 = 1.25;

/// Least size of a table, names.
const LEAST_NAMES: usize = 1_024;

/// All agents of a run. Those past the POP's own are spare names for twins.
pub(crate) struct Agents {
    program: PathBuf,
    dir: PathBuf,
    net: Net,
    pop: Pop,
    agents: Vec<Agent>,
}

/// One agent.
struct Agent {
    name: String,
    home: PathBuf,
    /// A wrong clock, in `faketime`'s words.
    clock: Option<String>,
    child: Option<Child>,
    /// Whether its end was asked for.
    ending: bool,
}

/// An agent that ended though nobody asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Exit {
    /// Which one.
    pub(crate) agent: usize,
    /// How.
    pub(crate) how: String,
    /// The last lines of its text.
    pub(crate) said: String,
}

impl Agents {
    /// Writes the files of all agents; starts none. `spare` more are prepared
    /// for twins.
    pub(crate) fn prepare(
        program: &Path,
        dir: &Path,
        net: &Net,
        pop: &Pop,
        spare: usize,
    ) -> Result<Self> {
        let mut agents = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            net: net.clone(),
            pop: pop.clone(),
            agents: Vec::new(),
        };
        agents.write_keys_of(&[1])?;
        agents.write_origins("all", 0, pop.configured.unwrap_or(pop.checks), false)?;
        for index in 0..pop.agents + spare {
            let name = format!("n{index}");
            let home = dir.join("agents").join(&name);
            fs::create_dir_all(&home)?;
            agents.agents.push(Agent {
                name,
                home,
                clock: None,
                child: None,
                ending: false,
            });
            agents.write_config(index)?;
            agents.give_origins(index, "all")?;
            agents.give_key(index, &[1])?;
        }
        Ok(agents)
    }

    fn write_config(&self, index: usize) -> Result<()> {
        let agent = &self.agents[index];
        let address = net::agent_address(index);
        let join: Vec<String> = (0..self.pop.seeds.min(self.pop.agents))
            .map(|seed| format!("\"{}:{GOSSIP_PORT}\"", net::agent_address(seed)))
            .collect();
        let roomy = (self.pop.checks as f64 * TABLE_ROOM) as usize;
        let capacity = self.pop.table_capacity.unwrap_or(roomy.max(LEAST_NAMES));
        let text = format!(
            "[node]\nname = \"{name}\"\nstate_dir = \"state\"\n\n\
             [gossip]\nbind = \"{address}:{GOSSIP_PORT}\"\njoin = [{join}]\nkey_file = \"pop.key\"\n\n\
             [probe]\nsource_addresses = [\"{address}\"]\n{allow}\n\
             [table]\npath = \"{table}\"\ncapacity = {capacity}\n\n\
             [admin]\nsocket = \"admin.sock\"\n\n\
             [origins]\nfiles = [\"origins.toml\"]\nwatch = false\n\
             removals_max_percent = 100\n\n{more}\n",
            name = agent.name,
            join = join.join(", "),
            allow = self.allow(),
            table = self.table(index).display(),
            more = self.pop.agent_toml,
        );
        let file = agent.home.join("agent.toml");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Agents that probe only where they are allowed to are allowed the lab's
    /// origins.
    fn allow(&self) -> String {
        let example = Command::new(&self.program)
            .args(["config", "example"])
            .output();
        let knows = example.is_ok_and(|example| {
            let text = String::from_utf8_lossy(&example.stdout).into_owned();
            text.lines()
                .any(|line| line.trim_start_matches("# ").starts_with("allow = "))
        });
        if knows {
            format!("allow = [\"{}\"]\n", net::ORIGIN_NET)
        } else {
            String::new()
        }
    }

    /// Gives an agent another name than its own, for twins.
    pub(crate) fn rename(&mut self, index: usize, name: &str) -> Result<()> {
        name.clone_into(&mut self.agents[index].name);
        self.write_config(index)
    }

    /// Gives an agent a wrong clock from its next start on.
    pub(crate) fn set_clock(&mut self, index: usize, offset: &str) {
        self.agents[index].clock = Some(offset.to_owned());
    }

    /// Writes an origins file of this name with so many checks from the first
    /// one on. `changed` makes every definition another check.
    pub(crate) fn write_origins(
        &self,
        file: &str,
        first: usize,
        checks: usize,
        changed: bool,
    ) -> Result<()> {
        let dir = self.dir.join("origins");
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{file}.toml"));
        let pop = &self.pop;
        let mut text = Vec::with_capacity(checks * 64);
        write!(
            text,
            "[defaults]\nkind = \"http\"\ninterval = \"{}\"\ntimeout = \"{}\"\n\
             fast_interval = \"{}\"\nrise = {}\nfall = {}\npath = \"{}\"\n\n",
            pop.interval,
            pop.timeout,
            pop.fast_interval,
            pop.rise,
            pop.fall,
            if changed { "/other" } else { "/" },
        )?;
        for origin in first..(first + checks).min(pop.checks) {
            writeln!(
                text,
                "[[origin]]\nname = \"{}\"\naddress = \"{}:{ORIGIN_PORT}\"\n",
                origin_name(origin),
                net::origin_address(origin)
            )?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Lets an agent read this origins file at its next start or reload.
    pub(crate) fn give_origins(&self, index: usize, file: &str) -> Result<()> {
        let link = self.agents[index].home.join("origins.toml");
        let target = self.dir.join("origins").join(format!("{file}.toml"));
        replace_link(&target, &link)
    }

    /// Makes the key files that hold these ids, the first of which seals.
    fn write_keys_of(&self, ids: &[u8]) -> Result<()> {
        let dir = self.dir.join("keys");
        fs::create_dir_all(&dir)?;
        let mut text = String::new();
        for id in ids {
            let path = dir.join(format!("{id}.key"));
            if !path.exists() {
                let (id, path) = (id.to_string(), path.display().to_string());
                let program = self.program.display().to_string();
                shell::run(&[&program, "key", "new", "--id", &id, &path])?;
            }
            text.push_str(&fs::read_to_string(&path)?);
            text.push('\n');
        }
        let path = dir.join(key_file(ids));
        fs::write(&path, text)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        Ok(fs::set_permissions(&path, mode)?)
    }

    /// Lets an agent read a key file with these ids at its next start or
    /// reload.
    pub(crate) fn give_key(&self, index: usize, ids: &[u8]) -> Result<()> {
        self.write_keys_of(ids)?;
        let link = self.agents[index].home.join("pop.key");
        replace_link(&self.dir.join("keys").join(key_file(ids)), &link)
    }

    /// How many there are, spare ones included.
    pub(crate) const fn len(&self) -> usize {
        self.agents.len()
    }

    /// Where an agent's table lies.
    pub(crate) fn table(&self, index: usize) -> PathBuf {
        self.agents[index].home.join("shm").join("table")
    }

    /// Where an agent's text goes.
    pub(crate) fn log(&self, index: usize) -> PathBuf {
        self.agents[index].home.join("log")
    }

    /// An agent's folder for its table: what a tmpfs of its own is mounted on.
    pub(crate) fn table_dir(&self, index: usize) -> PathBuf {
        self.agents[index].home.join("shm")
    }

    /// Starts an agent that does not run.
    pub(crate) fn start(&mut self, index: usize) -> Result<()> {
        let namespace = self.net.agent(index);
        let agent = &mut self.agents[index];
        if agent.child.is_some() {
            bail!("{} runs already", agent.name);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(agent.home.join("log"))?;
        let mut command = net::inside(&namespace);
        if let Some(offset) = &agent.clock {
            command.args(fakes::environment(offset)?);
        }
        let child = command
            .arg(&self.program)
            .arg("run")
            .arg("--config")
            .arg(agent.home.join("agent.toml"))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", agent.name))?;
        if agent.clock.is_some() {
            fakes::note(&self.dir, child.id())?;
        }
        agent.child = Some(child);
        agent.ending = false;
        Ok(())
    }

    /// Process id of an agent that runs.
    pub(crate) fn pid(&self, index: usize) -> Option<u32> {
        Some(self.agents[index].child.as_ref()?.id())
    }

    /// Agents that run, as far as is known.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.agents.len())
            .filter(|&index| self.agents[index].child.is_some())
            .collect()
    }

    /// Sends an agent a signal.
    pub(crate) fn signal(&self, index: usize, signal: Signal) -> Result<()> {
        match self.pid(index) {
            Some(pid) => Ok(kill(Pid::from_raw(pid.cast_signed()), signal)?),
            None => bail!("{} does not run", self.agents[index].name),
        }
    }

    /// Kills an agent: no goodbye, no cleaning up.
    pub(crate) fn kill(&mut self, index: usize) -> Result<Us> {
        let agent = &mut self.agents[index];
        agent.ending = true;
        let Some(mut child) = agent.child.take() else {
            return Ok(clock::now());
        };
        let at = clock::now();
        child.kill()?;
        child.wait()?;
        Ok(at)
    }

    /// Asks an agent to leave, and waits until it has.
    pub(crate) fn leave(&mut self, index: usize, within: Duration) -> Result<()> {
        self.agents[index].ending = true;
        self.signal(index, Signal::SIGTERM)?;
        let until = clock::now() + clock::us(within);
        while clock::now() < until {
            let child = self.agents[index].child.as_mut();
            if child.is_none_or(|child| child.try_wait().is_ok_and(|end| end.is_some())) {
                self.agents[index].child = None;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill(index).map(|_| ())
    }

    /// Agents that ended since the last look though nobody asked for it.
    pub(crate) fn exits(&mut self) -> Vec<Exit> {
        let mut exits = Vec::new();
        for (index, agent) in self.agents.iter_mut().enumerate() {
            let Some(child) = agent.child.as_mut() else {
                continue;
            };
            let Ok(Some(status)) = child.try_wait() else {
                continue;
            };
            agent.child = None;
            if !agent.ending {
                let text = fs::read_to_string(agent.home.join("log")).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                exits.push(Exit {
                    agent: index,
                    how: status.to_string(),
                    said: lines[lines.len().saturating_sub(5)..].join("\n"),
                });
            }
        }
        exits
    }

    /// Asks an agent by its own command line.
    pub(crate) fn ask(&self, index: usize, verb: &str) -> Result<Value> {
        let agent = &self.agents[index];
        let path = agent.home.join("admin.sock");
        let output = Command::new(&self.program)
            .args([verb, "--json", "--socket"])
            .arg(&path)
            .output()?;
        if !output.status.success() {
            bail!(
                "{} refused: {}",
                agent.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Takes an origin out on an agent, as an operator does.
    pub(crate) fn take_out(
        &self,
        index: usize,
        origin: usize,
        length: Option<Duration>,
    ) -> Result<()> {
        let program = self.program.display().to_string();
        let socket = self.agents[index].home.join("admin.sock");
        let (socket, origin) = (socket.display().to_string(), origin_name(origin));
        let mut words = vec![&*program, "origin", "down", &*origin, "--socket", &*socket];
        let length = length.map(|length| format!("{}s", length.as_secs()));
        if let Some(length) = &length {
            words.extend(["--for", length]);
        }
        shell::run(&words).map(drop)
    }

    /// Kills all that run.
    pub(crate) fn kill_all(&mut self) {
        for agent in &mut self.agents {
            agent.ending = true;
            if let Some(child) = &mut agent.child {
                // One that is gone already is as dead.
                let _ = child.kill();
            }
        }
        for agent in &mut self.agents {
            if let Some(mut child) = agent.child.take() {
                let _ = child.wait();
            }
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// The name of an origin in the tables.
pub(crate) fn origin_name(origin: usize) -> String {
    format!("o{origin}")
}

fn key_file(ids: &[u8]) -> String {
    let ids: Vec<String> = ids.iter().map(u8::to_string).collect();
    format!("ring-{}.key", ids.join("-"))
}

/// Makes a link that leads to the target, whatever was there.
fn replace_link(target: &Path, link: &Path) -> Result<()> {
    let new = link.with_extension("new");
    // A link that an earlier attempt left.
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(target, &new)?;
    Ok(fs::rename(&new, link)?)
}
