//! The configuration in force, and how another takes its place: whole or not
//! at all.

use std::path::{Path, PathBuf};

use tokio::sync::watch;
use watchfire_core::gate::Keys;
use watchfire_host::OriginChange;

use super::ConfigState;
use super::origins::Fingerprint;
use crate::config::{AgentConfig, ConfigError, OriginSet, refusal};
use crate::gossip::command::{Command, CommandSender};
use crate::keys;

/// What is in force now and where it came from.
pub(crate) struct Configuration {
    agent: AgentConfig,
    origins: OriginSet,
    seen: Fingerprint,
    state: watch::Sender<ConfigState>,
}

impl Configuration {
    /// Takes what was read at the start.
    pub(crate) fn new(reading: Reading) -> Self {
        let state = ConfigState {
            loaded_ms: crate::clock::wall_ms(),
            error: None,
            table: reading.agent.table.path.display().to_string(),
        };
        Self {
            state: watch::Sender::new(state),
            agent: reading.agent,
            origins: reading.origins,
            seen: reading.seen,
        }
    }

    /// What connections show of it.
    pub(crate) fn state(&self) -> watch::Receiver<ConfigState> {
        self.state.subscribe()
    }

    /// How many origins there are.
    pub(crate) fn origins(&self) -> usize {
        self.origins.origins.names.len()
    }

    /// Tells the gossip thread all there is.
    pub(crate) async fn send_first(&self, gossip: &CommandSender) {
        let change = OriginChange::between(None, &self.origins.origins);
        self.origins
            .say_denied(None, |line| tracing::warn!("{line}"));
        gossip.send(Command::Origins(Box::new(change))).await;
    }

    /// Reads the files again if they look different from outside.
    pub(crate) async fn look(&mut self, gossip: &CommandSender) {
        if self.agent.watch_origins && self.seen != Fingerprint::of(&watched_files(&self.agent)) {
            // Success and refusal are both logged there.
            let _ = self.reload(gossip).await;
        }
    }

    /// Looks whether this server has gained or lost what checks need of it: an
    /// address, an interface.
    pub(crate) async fn look_at_ways(&mut self, gossip: &CommandSender) {
        let ability = watchfire_probe::Ability::new(&self.agent.probe);
        let policy = &self.agent.policy;
        let judged = self
            .origins
            .judged_again(&|spec| refusal(policy, &ability, spec));
        let Some((origins, lines)) = judged else {
            return;
        };
        for line in lines {
            tracing::warn!("{line}");
        }
        let change = OriginChange::between(Some(&self.origins.origins), &origins);
        gossip.send(Command::Origins(Box::new(change))).await;
        self.origins.origins = origins;
    }

    /// Reads everything again and puts it in force, or refuses it and changes
    /// nothing. Both answers are for people.
    pub(crate) async fn reload(&mut self, gossip: &CommandSender) -> Result<String, String> {
        let before = Fingerprint::of(&watched_files(&self.agent));
        let file = self.agent.file.clone();
        // Reading many origins takes a while, and people wait for answers.
        let read = tokio::task::spawn_blocking(move || read(&file)).await;
        let read = read.unwrap_or_else(|_| {
            let file = &self.agent.file;
            Err(ConfigError::of_file(
                file,
                "reading it failed",
                "see the log",
            ))
        });
        match read {
            Ok(Reading {
                agent,
                origins,
                keys,
                seen,
            }) => {
                let change = OriginChange::between(Some(&self.origins.origins), &origins.origins);
                let mut summary = format!(
                    "{} origins, {} checks: {} set, {} removed",
                    origins.origins.names.len(),
                    origins.origins.checks.len(),
                    change.names_set.len(),
                    change.names_removed.len()
                );
                let refused = origins.origins.refused.len();
                if refused > 0 {
                    summary.push_str(&format!(", {refused} not to be probed"));
                }
                origins.say_denied(Some(&self.origins), |line| tracing::warn!("{line}"));
                let waiting = self.waiting_for_a_restart(&agent);
                if !waiting.is_empty() {
                    summary.push_str("; in force after a restart only: ");
                    summary.push_str(&waiting.join(", "));
                }
                if origins.origins.names.is_empty() && !self.origins.origins.names.is_empty() {
                    tracing::warn!("no origin is left");
                }
                if agent.capacity != self.agent.capacity {
                    gossip.send(Command::Capacity(agent.capacity)).await;
                }
                gossip.send(Command::Keys(keys)).await;
                if !change.is_empty() {
                    gossip.send(Command::Origins(Box::new(change))).await;
                }
                self.agent.capacity = agent.capacity;
                self.agent.origins = agent.origins;
                self.agent.watch_origins = agent.watch_origins;
                self.agent.defaults = agent.defaults;
                self.agent.policy = agent.policy;
                self.agent.gossip.key_file = agent.gossip.key_file;
                self.origins = origins;
                self.seen = seen;
                self.state.send_modify(|state| {
                    state.loaded_ms = crate::clock::wall_ms();
                    state.error = None;
                });
                tracing::info!(summary, "configuration read");
                Ok(summary)
            }
            Err(error) => {
                // Not again before something changes.
                self.seen = before;
                let error = error.to_string();
                tracing::error!("configuration refused, the old one stays: {error}");
                self.state
                    .send_modify(|state| state.error = Some(error.clone()));
                Err(error)
            }
        }
    }

    /// Keys that have changed and that a running agent cannot change.
    fn waiting_for_a_restart(&self, new: &AgentConfig) -> Vec<&'static str> {
        let old = &self.agent;
        let changed = [
            ("node.name", old.name != new.name),
            ("node.state_dir", old.state_dir != new.state_dir),
            (
                "gossip.advertise",
                old.gossip.advertise != new.gossip.advertise,
            ),
            (
                "gossip.datagram_bytes",
                old.gossip.datagram_bytes != new.gossip.datagram_bytes,
            ),
            (
                "probe.join_patience",
                old.join_patience != new.join_patience,
            ),
            ("gossip.bind", old.gossip.bind != new.gossip.bind),
            ("gossip.join", old.gossip.join != new.gossip.join),
            ("gossip.period", old.gossip.period != new.gossip.period),
            ("probe", old.probe != new.probe),
            ("table", old.table != new.table),
            ("admin.socket", old.admin_socket != new.admin_socket),
            ("metrics.listen", old.metrics_listen != new.metrics_listen),
            (
                "agent_check.listen",
                old.agent_check_listen != new.agent_check_listen,
            ),
        ];
        let changed = changed.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(key, _)| key).collect()
    }
}

/// One whole reading of everything.
pub(crate) struct Reading {
    pub(crate) agent: AgentConfig,
    pub(crate) origins: OriginSet,
    pub(crate) keys: Keys,
    /// What the files looked like before they were read: a change while they
    /// are read is a change after it.
    seen: Fingerprint,
}

/// Reads the agent's file and all that it names.
pub(crate) fn read(file: &Path) -> Result<Reading, ConfigError> {
    let agent = AgentConfig::load(file)?;
    let seen = Fingerprint::of(&watched_files(&agent));
    let origins = agent.load_origins()?;
    let keys = keys::load(agent.gossip.key_file.as_deref())?;
    Ok(Reading {
        agent,
        origins,
        keys,
        seen,
    })
}

/// The files whose change is a reason to read everything again.
fn watched_files(agent: &AgentConfig) -> Vec<PathBuf> {
    let mut files = crate::config::origin_files(&agent.origins, agent.base());
    files.extend(agent.gossip.key_file.clone());
    files
}
