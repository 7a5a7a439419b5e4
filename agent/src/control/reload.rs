//! The configuration in force, and how what has changed takes its place: each
//! file by itself, whole or not at all.
//!
//! Reading is done on a thread of its own, one reading at a time: a file on a
//! mount that does not answer holds up later readings, and nothing else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use utoipa::ToSchema;
use watchfire_core::gate::Keys;
use watchfire_host::resolve::{News, Queries};
use watchfire_host::{OriginChange, Origins};
use watchfire_probe::{Ability, CheckSpec, Trust};

use super::ConfigState;
use super::sources::{Reading, Sources};
use crate::config::{AgentConfig, ConfigErrors, OriginSet, refusal};
use crate::files::{Held, How, Read};
use crate::gossip::command::{Command, CommandSender};
use crate::names::{Book, Judge, Resolver};

/// Who asked for a reading waits no longer for its answer.
const READ_PATIENCE: Duration = Duration::from_secs(8);

/// The answer to who asked: what was done, or what was refused, for people.
pub(crate) type Reply = oneshot::Sender<Result<String, String>>;

/// The answer to who asked what a reload would do.
pub(crate) type DiffReply = oneshot::Sender<Result<Diff, String>>;

/// What a reload would do.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
pub(crate) struct Diff {
    /// Names that would be new.
    pub(crate) added: Vec<String>,
    /// Names that would have another check.
    pub(crate) changed: Vec<String>,
    /// Names that would go.
    pub(crate) removed: Vec<String>,
    /// What would be refused, and why.
    pub(crate) refused: Vec<String>,
    /// Keys of the agent's own file that wait for a restart.
    pub(crate) after_restart: Vec<String>,
}

/// What is in force now and where it came from.
pub(crate) struct Configuration {
    agent: AgentConfig,
    origins: OriginSet,
    keys: Option<Keys>,
    trust: Option<Trust>,
    state: watch::Sender<ConfigState>,
    /// Not here while a reading is going on.
    sources: Option<Sources>,
    running: Option<Running>,
    /// Asked for while a reading was going on: one reading answers all.
    waiting: Vec<Asked>,
    plans: Vec<DiffReply>,
    /// Why the last reading was refused as a whole.
    refused: Option<String>,
    /// Origins files that do not count as they are.
    held_origins: Vec<Held>,
    resolver: Resolver,
    /// What is known of names.
    names: Arc<Mutex<Book>>,
}

struct Running {
    task: JoinHandle<Done>,
    how: How,
    asked: Vec<Asked>,
}

struct Asked {
    reply: Option<Reply>,
    allow_removals: bool,
    since: Instant,
}

/// A reading that has ended, and the files with it.
type Done = (Sources, Result<Reading, ConfigErrors>);

impl Configuration {
    /// Takes what was read at the start, and who resolves its names.
    pub(crate) fn new(sources: Sources, reading: Reading, resolver: Resolver) -> Self {
        let (origins, held) = match reading.read {
            Some(Read { origins, held, .. }) => (origins, held),
            None => (OriginSet::default(), Vec::new()),
        };
        let state = ConfigState {
            loaded_ms: crate::clock::wall_ms(),
            error: in_words(&held),
            table: reading.agent.table.path.display().to_string(),
            held: held.clone(),
        };
        let mut new = Self {
            resolver,
            names: Arc::default(),
            state: watch::Sender::new(state),
            agent: reading.agent,
            origins,
            keys: reading.keys,
            trust: reading.trust,
            sources: Some(sources),
            running: None,
            waiting: Vec::new(),
            plans: Vec::new(),
            refused: None,
            held_origins: held,
        };
        let mut origins = std::mem::take(&mut new.origins);
        new.open_names(&mut origins);
        new.origins = origins;
        new
    }

    /// What is known of names, and who knows what was asked.
    pub(crate) fn names(&self) -> (Arc<Mutex<Book>>, Arc<Mutex<Queries>>) {
        (Arc::clone(&self.names), self.resolver.asked())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives checks of names the addresses that are known already, and lets the rest be
    /// asked for.
    fn open_names(&self, origins: &mut OriginSet) {
        let ability = Ability::new(&self.agent.probe);
        let policy = &self.agent.policy;
        let judge = |spec: &CheckSpec| refusal(policy, &ability, spec);
        let wanted = self.book().open(&mut origins.origins, &judge);
        self.resolver.want(wanted);
    }

    /// Takes what became known of names.
    pub(crate) async fn hear(&mut self, news: Vec<News>, gossip: &CommandSender) {
        self.change_names(
            |book, origins, judge| book.hear(news, origins, judge),
            gossip,
        )
        .await;
    }

    async fn change_names(
        &mut self,
        how: impl FnOnce(&mut Book, &mut Origins, Judge<'_>) -> (Option<OriginChange>, Vec<String>),
        gossip: &CommandSender,
    ) {
        let ability = Ability::new(&self.agent.probe);
        let policy = &self.agent.policy;
        let judge = |spec: &CheckSpec| refusal(policy, &ability, spec);
        let names = Arc::clone(&self.names);
        let (change, lines) = {
            let mut book = names.lock().unwrap_or_else(PoisonError::into_inner);
            how(&mut book, &mut self.origins.origins, &judge)
        };
        for line in lines {
            tracing::warn!("{line}");
        }
        if let Some(change) = change {
            gossip.send(Command::Origins(Box::new(change))).await;
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

    /// All there is at the start.
    pub(crate) fn first(&self) -> OriginChange {
        self.origins
            .say_denied(None, |line| tracing::warn!("{line}"));
        OriginChange::between(None, &self.origins.origins)
    }

    /// Somebody wants everything read again.
    pub(crate) fn ask(&mut self, reply: Option<Reply>, allow_removals: bool) {
        self.waiting.push(Asked {
            reply,
            allow_removals,
            since: Instant::now(),
        });
        self.begin_asked();
    }

    /// Somebody wants to know what a reload would do.
    pub(crate) fn diff(&mut self, reply: DiffReply) {
        self.plans.push(reply);
        self.begin_asked();
    }

    /// Looks for changes, unless a reading is going on; who has waited for too
    /// long is answered.
    pub(crate) fn look(&mut self) {
        if self.running.is_none() {
            if self.agent.watch_origins {
                self.begin(How::Look, Vec::new());
            }
            return;
        }
        let running = self.running.iter_mut().flat_map(|run| &mut run.asked);
        for asked in running.chain(&mut self.waiting) {
            if asked.since.elapsed() >= READ_PATIENCE
                && let Some(reply) = asked.reply.take()
            {
                let _ = reply.send(Err(
                    "the files are still being read: one may lie on a mount that does not \
                     answer\n  help: the old configuration stays in force; `status` and the log \
                     say when they were read"
                        .into(),
                ));
            }
        }
    }

    /// Looks whether this server has gained or lost what checks need of it: an
    /// address, an interface.
    pub(crate) async fn look_at_ways(&mut self, gossip: &CommandSender) {
        self.change_names(Book::look_at_ways, gossip).await;
        let ability = Ability::new(&self.agent.probe);
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

    fn begin_asked(&mut self) {
        if self.sources.is_none() {
            return;
        }
        if self.waiting.is_empty() {
            if !self.plans.is_empty() {
                self.begin(How::Plan, Vec::new());
            }
            return;
        }
        let asked = std::mem::take(&mut self.waiting);
        let allow_removals = asked.iter().any(|asked| asked.allow_removals);
        self.begin(How::Reload { allow_removals }, asked);
    }

    fn begin(&mut self, how: How, asked: Vec<Asked>) {
        let Some(mut sources) = self.sources.take() else {
            return;
        };
        let agent = self.agent.clone();
        let task = tokio::task::spawn_blocking(move || {
            let result = sources.read(&agent, how);
            (sources, result)
        });
        self.running = Some(Running { task, how, asked });
    }

    /// Waits for the reading that is going on; for ever, if there is none.
    pub(crate) async fn done(&mut self) -> Result<Done, JoinError> {
        match &mut self.running {
            Some(running) => (&mut running.task).await,
            None => std::future::pending().await,
        }
    }

    /// Puts what was read in force, or says why not.
    pub(crate) async fn finish(
        &mut self,
        done: Result<Done, JoinError>,
        gossip: &CommandSender,
    ) -> Result<(), String> {
        let Some(Running { how, asked, .. }) = self.running.take() else {
            return Ok(());
        };
        let (sources, result) =
            done.map_err(|error| format!("reading the configuration failed: {error}"))?;
        self.sources = Some(sources);
        if how == How::Plan {
            for reply in std::mem::take(&mut self.plans) {
                let _ = reply.send(match &result {
                    Ok(reading) => Ok(self.planned(reading)),
                    Err(errors) => Err(errors.to_string()),
                });
            }
            self.begin_asked();
            return Ok(());
        }
        let answer = match result {
            Ok(reading) => self.take(reading, how, gossip).await,
            Err(errors) => Err(self.refuse(errors, how)),
        };
        for reply in asked.into_iter().filter_map(|asked| asked.reply) {
            // Whoever asked may be gone; the log has the answer too.
            let _ = reply.send(answer.clone());
        }
        self.begin_asked();
        Ok(())
    }

    fn planned(&self, reading: &Reading) -> Diff {
        let Some(read) = &reading.read else {
            return Diff::default();
        };
        let (old, new) = (&self.origins.origins.names, &read.origins.origins.names);
        let change = OriginChange::between(Some(&self.origins.origins), &read.origins.origins);
        let set = change.names_set.iter().map(|(name, _)| name);
        let (changed, added): (Vec<_>, Vec<_>) = set.partition(|name| old.contains_key(*name));
        let names = |names: Vec<&Arc<str>>| names.into_iter().map(ToString::to_string).collect();
        let held = reading.held.iter().chain(&read.held);
        let waiting = read.waiting.iter();
        let waiting = waiting.map(|file| format!("{}: somebody is writing it", file.display()));
        debug_assert!(
            change
                .names_removed
                .iter()
                .all(|name| !new.contains_key(name))
        );
        Diff {
            added: names(added),
            changed: names(changed),
            removed: names(change.names_removed.iter().collect()),
            refused: held
                .flat_map(|held| held.errors.iter().map(ToString::to_string))
                .chain(waiting)
                .collect(),
            after_restart: self
                .waiting_for_a_restart(&reading.agent)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }
    }

    fn refuse(&mut self, errors: ConfigErrors, how: How) -> String {
        let error = errors.to_string();
        // What nobody asked for is said once.
        if how != How::Look || self.refused.as_ref() != Some(&error) {
            tracing::error!("configuration refused, the old one stays: {error}");
        }
        self.refused = Some(error.clone());
        self.state
            .send_modify(|state| state.error = Some(error.clone()));
        error
    }

    /// The answer for people; nothing is in it that was not logged.
    async fn take(
        &mut self,
        reading: Reading,
        how: How,
        gossip: &CommandSender,
    ) -> Result<String, String> {
        let mut notes = Vec::new();
        let took = reading.read.is_some() || how != How::Look;
        self.take_keys(reading.keys, gossip).await;
        self.take_trust(reading.trust, gossip).await;
        let mut waiting = Vec::new();
        let mut summary = None;
        let mut held = reading.held;
        if let Some(read) = reading.read {
            waiting = read.waiting;
            self.held_origins = read.held;
            summary = Some(self.take_origins(read.origins, gossip).await);
        }
        held.extend(self.held_origins.iter().cloned());
        if how != How::Look {
            let restart = self.waiting_for_a_restart(&reading.agent);
            if !restart.is_empty() {
                notes.push(format!(
                    "in force after a restart only: {}",
                    restart.join(", ")
                ));
            }
            self.take_agent(reading.agent, gossip).await;
        }
        let errors = in_words(&held);
        self.state.send_modify(|state| {
            if took {
                state.loaded_ms = crate::clock::wall_ms();
            }
            state.error = in_words(&held);
            state.held = held;
        });
        self.refused = None;
        let Some(summary) = summary else {
            return Ok("nothing has changed".into());
        };
        let summary = std::iter::once(summary).chain(notes);
        let summary = summary.collect::<Vec<_>>().join("; ");
        tracing::info!(summary, "configuration read");
        if !waiting.is_empty() {
            let names = waiting.iter().map(|path| path.display().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(format!(
                "{names}: somebody is writing it; it is read when they have closed it\n  help: \
                 {summary}"
            ));
        }
        match errors {
            None => Ok(summary),
            Some(errors) => Err(format!("{errors}\n  of the other files: {summary}")),
        }
    }

    async fn take_origins(&mut self, mut origins: OriginSet, gossip: &CommandSender) -> String {
        self.open_names(&mut origins);
        let change = OriginChange::between(Some(&self.origins.origins), &origins.origins);
        let mut summary = format!(
            "{} origins, {} checks: {} added or changed, {} removed",
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
        if origins.origins.names.is_empty() && !self.origins.origins.names.is_empty() {
            tracing::warn!("no origin is left");
        }
        if !change.is_empty() {
            gossip.send(Command::Origins(Box::new(change))).await;
        }
        self.origins = origins;
        summary
    }

    async fn take_keys(&mut self, keys: Option<Keys>, gossip: &CommandSender) {
        let Some(keys) = keys else { return };
        let words = key_words(&keys);
        let old = self.keys.as_ref().map(key_words);
        if old.as_ref() != Some(&words) {
            tracing::info!("the POP's keys have changed: {words}");
        }
        self.keys = Some(keys.clone());
        gossip.send(Command::Keys(keys)).await;
    }

    async fn take_trust(&mut self, trust: Option<Trust>, gossip: &CommandSender) {
        let Some(trust) = trust else { return };
        if self.trust.as_ref().is_some_and(|old| old.is_same(&trust)) {
            return;
        }
        tracing::info!(
            certificates = trust.count(),
            "the certificates that checks trust have changed; handshakes from now on go by them"
        );
        self.trust = Some(trust.clone());
        gossip.send(Command::Trust(trust)).await;
    }

    async fn take_agent(&mut self, agent: AgentConfig, gossip: &CommandSender) {
        if agent.capacity != self.agent.capacity {
            gossip.send(Command::Capacity(agent.capacity)).await;
        }
        self.agent.capacity = agent.capacity;
        self.agent.origins = agent.origins;
        self.agent.watch_origins = agent.watch_origins;
        self.agent.removals_max_percent = agent.removals_max_percent;
        self.agent.defaults = agent.defaults;
        self.agent.policy = agent.policy;
        self.agent.gossip.key_file = agent.gossip.key_file;
        self.agent.probe.tls_roots = agent.probe.tls_roots;
    }

    /// Keys that have changed and that a running agent cannot change.
    fn waiting_for_a_restart(&self, new: &AgentConfig) -> Vec<&'static str> {
        let old = &self.agent;
        let mut probe = new.probe.clone();
        probe.tls_roots.clone_from(&old.probe.tls_roots);
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
            ("probe", old.probe != probe),
            ("resolver", old.resolver != new.resolver),
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

/// What is wrong with files, if anything is.
fn in_words(held: &[Held]) -> Option<String> {
    let errors: Vec<_> = held.iter().flat_map(|held| held.errors.clone()).collect();
    (!errors.is_empty()).then(|| ConfigErrors(errors).to_string())
}

/// Which keys there are, by number and by nothing else.
fn key_words(keys: &Keys) -> String {
    match keys {
        Keys::Insecure => "frames are not sealed".into(),
        Keys::Sealed(ring) => {
            let ids = ring.ids().map(|id| id.0.to_string());
            format!(
                "{} seals, {} open",
                ring.primary().0.0,
                ids.collect::<Vec<_>>().join(", ")
            )
        }
    }
}
