//! Everything that a configuration is read from: the agent's own file, the
//! origins files, the key file and the certificates that checks trust.

use std::path::{Path, PathBuf};

use watchfire_core::gate::Keys;
use watchfire_probe::Trust;

use crate::config::{AgentConfig, ConfigError, ConfigErrors};
use crate::files::{Files, Held, How, Kept, Look, Read};
use crate::keys;

/// One reading of what has changed.
pub(crate) struct Reading {
    /// The agent's own file, which is read when somebody asks.
    pub(crate) agent: AgentConfig,
    /// The origins files, if any was taken.
    pub(crate) read: Option<Read>,
    /// The keys, if their file was read.
    pub(crate) keys: Option<Keys>,
    /// The trusted certificates, if their file was read.
    pub(crate) trust: Option<Trust>,
    /// Files beside the origins files that do not count as they are.
    pub(crate) held: Vec<Held>,
}

/// The files, and what they looked like.
pub(crate) struct Sources {
    files: Files,
    key: Single,
    roots: Single,
}

impl Sources {
    /// Reads everything for the first time, beside what is kept of an earlier
    /// life, or for somebody who only wants to know.
    ///
    /// # Errors
    ///
    /// All that keeps an agent from starting.
    pub(crate) fn start(
        file: &Path,
        kept: impl FnOnce(&AgentConfig) -> Option<Kept>,
    ) -> Result<(Self, Reading), ConfigErrors> {
        let agent = AgentConfig::load(file)?;
        let mut sources = Self {
            files: Files::new(&agent, kept(&agent)),
            key: Single::default(),
            roots: Single::default(),
        };
        let mut errors = crate::preflight::errors(&agent);
        sources.key.take(agent.gossip.key_file.as_deref());
        sources.roots.take(Trust::file(&agent.probe).as_deref());
        let keys = keys::load(agent.gossip.key_file.as_deref());
        let trust = trust(&agent);
        let read = sources.files.read(&agent, How::Start);
        let keys = keys.map_err(|error| errors.push(error)).ok();
        let trust = trust.map_err(|error| errors.push(error)).ok();
        let read = read.map_err(|more| errors.extend(more.0)).ok().flatten();
        if !errors.is_empty() {
            // Whoever mends the one mends the others in the same go.
            let held = read.iter().flat_map(|read| &read.held);
            errors.extend(held.flat_map(|held| held.errors.clone()));
            return Err(ConfigErrors(errors));
        }
        let reading = Reading {
            agent,
            read,
            keys,
            trust,
            held: Vec::new(),
        };
        Ok((sources, reading))
    }

    /// Reads what has changed.
    ///
    /// # Errors
    ///
    /// The agent's own file is refused, or the origins cannot be looked at.
    /// Nothing has changed.
    pub(crate) fn read(&mut self, old: &AgentConfig, how: How) -> Result<Reading, ConfigErrors> {
        let asked = how != How::Look;
        let agent = if asked {
            let before = Look::of(&old.file);
            let agent = AgentConfig::load(&old.file)?;
            let read = self.files.read(&agent, how)?;
            if before != Look::of(&old.file) {
                return Err(being_written(&old.file).into());
            }
            (agent, read)
        } else {
            (old.clone(), self.files.read(old, how)?)
        };
        let (agent, read) = agent;
        let mut held = Vec::new();
        let key_file = agent.gossip.key_file.as_deref();
        if how == How::Plan {
            let keys = keys::load(key_file).map(drop).err();
            let trust = trust(&agent).map(drop).err();
            let errors = keys.into_iter().chain(trust);
            held.extend(errors.map(|error| Held {
                file: error.file.clone(),
                errors: vec![error],
                since_ms: crate::clock::wall_ms(),
                has_last_good: true,
            }));
            return Ok(Reading {
                agent,
                read,
                keys: None,
                trust: None,
                held,
            });
        }
        let keys = self.key.read(key_file, asked, || keys::load(key_file));
        held.extend(self.key.held.clone());
        let roots = Trust::file(&agent.probe);
        let trust = self.roots.read(roots.as_deref(), asked, || trust(&agent));
        held.extend(self.roots.held.clone());
        Ok(Reading {
            agent,
            read,
            keys,
            trust,
            held,
        })
    }
}

fn being_written(file: &Path) -> ConfigError {
    ConfigError::of_file(
        file,
        "it changed while it was read",
        "wait until it is written, and reload again",
    )
}

fn trust(agent: &AgentConfig) -> Result<Trust, ConfigError> {
    Trust::read(&agent.probe).map_err(|error| {
        ConfigError::of_file(
            &agent.file,
            error.to_string(),
            "correct probe.tls_roots, or leave it out for the system's own",
        )
    })
}

/// One file whose content counts when it has looked the same twice.
#[derive(Debug, Default)]
struct Single {
    path: Option<PathBuf>,
    seen: Option<Look>,
    fresh: Option<Look>,
    held: Option<Held>,
}

impl Single {
    /// What it looks like now is what was read.
    fn take(&mut self, path: Option<&Path>) {
        self.path = path.map(Path::to_owned);
        self.seen = path.map(Look::of);
        self.fresh = None;
    }

    /// Reads it if it has changed and is at rest, or if somebody asked. What is
    /// wrong with it is remembered until it changes; the old content stays.
    fn read<T>(
        &mut self,
        path: Option<&Path>,
        asked: bool,
        load: impl FnOnce() -> Result<T, ConfigError>,
    ) -> Option<T> {
        let look = path.map(Look::of);
        let same = self.seen == look && self.path.as_deref() == path;
        if !asked && same {
            self.fresh = None;
            return None;
        }
        if !asked && self.fresh != look {
            self.fresh = look;
            return None;
        }
        self.take(path);
        match load() {
            Ok(value) => {
                self.held = None;
                Some(value)
            }
            Err(error) => {
                let errors = vec![error];
                if self.held.as_ref().is_none_or(|held| held.errors != errors) {
                    let error = ConfigErrors(errors.clone());
                    tracing::error!("what was read before stays in force: {error}");
                    self.held = Some(Held {
                        file: path.map(Path::to_owned).unwrap_or_default(),
                        since_ms: crate::clock::wall_ms(),
                        has_last_good: true,
                        errors,
                    });
                }
                None
            }
        }
    }
}
