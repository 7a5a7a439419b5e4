//! The configuration in force, and how another takes its place: whole or not
//! at all.

use std::path::PathBuf;

use tokio::sync::watch;
use watchfire_core::gate::Keys;

use super::ConfigState;
use super::origins::{Fingerprint, OriginChange};
use crate::config::{AgentConfig, ConfigError, OriginSet, load_origins};
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
    pub(crate) fn new(agent: AgentConfig, origins: OriginSet) -> Self {
        let state = ConfigState {
            loaded_ms: crate::clock::wall_ms(),
            error: None,
            table: agent.table.path.display().to_string(),
        };
        let mut configuration = Self {
            seen: Fingerprint::default(),
            state: watch::Sender::new(state),
            agent,
            origins,
        };
        configuration.seen = Fingerprint::of(&configuration.watched_files());
        configuration
    }

    /// What connections show of it.
    pub(crate) fn state(&self) -> watch::Receiver<ConfigState> {
        self.state.subscribe()
    }

    /// Tells the gossip thread all there is.
    pub(crate) async fn send_first(&self, gossip: &CommandSender) {
        let change = OriginChange::between(None, &self.origins);
        gossip.send(Command::Origins(Box::new(change))).await;
    }

    /// Reads the files again if they look different from outside.
    pub(crate) async fn look(&mut self, gossip: &CommandSender) {
        if self.agent.watch_origins && self.seen != Fingerprint::of(&self.watched_files()) {
            // Success and refusal are both logged there.
            let _ = self.reload(gossip).await;
        }
    }

    /// Reads everything again and puts it in force, or refuses it and changes
    /// nothing. Both answers are for people.
    pub(crate) async fn reload(&mut self, gossip: &CommandSender) -> Result<String, String> {
        // Before reading: a change while we read is a change after it.
        self.seen = Fingerprint::of(&self.watched_files());
        match self.read() {
            Ok((agent, origins, keys)) => {
                let change = OriginChange::between(Some(&self.origins), &origins);
                let summary = format!(
                    "{} origins, {} checks: {} set, {} removed",
                    origins.origins.len(),
                    origins.checks.len(),
                    change.names_set.len(),
                    change.names_removed.len()
                );
                self.warn_of_restarts(&agent);
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
                self.agent.gossip.key_file = agent.gossip.key_file;
                self.origins = origins;
                self.seen = Fingerprint::of(&self.watched_files());
                self.state.send_modify(|state| {
                    state.loaded_ms = crate::clock::wall_ms();
                    state.error = None;
                });
                tracing::info!(summary, "configuration read");
                Ok(summary)
            }
            Err(error) => {
                let error = error.to_string();
                tracing::error!("configuration refused, the old one stays: {error}");
                self.state
                    .send_modify(|state| state.error = Some(error.clone()));
                Err(error)
            }
        }
    }

    fn read(&self) -> Result<(AgentConfig, OriginSet, Keys), ConfigError> {
        let agent = AgentConfig::load(&self.agent.file)?;
        let origins = load_origins(&agent.origins, agent.base(), &agent.defaults)?;
        let keys = keys::load(agent.gossip.key_file.as_deref())?;
        Ok((agent, origins, keys))
    }

    /// The files whose change is a reason to read everything again.
    fn watched_files(&self) -> Vec<PathBuf> {
        let mut files = crate::config::origin_files(&self.agent.origins, self.agent.base());
        files.extend(self.agent.gossip.key_file.clone());
        files
    }

    fn warn_of_restarts(&self, new: &AgentConfig) {
        let old = &self.agent;
        let changed = [
            ("node.name", old.name != new.name),
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
        for (key, _) in changed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "changed, and takes effect at the next start only");
        }
    }
}
