//! Operators' decisions: what the admin socket takes, and the file that keeps
//! them over a restart.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use utoipa::ToSchema;
use watchfire_core::overrides::{
    Decided, Decision, DecisionId, Kept, Op, POP, Request, member_key,
};
use watchfire_wire::message::overrides as wire;
use watchfire_wire::{Actor, NodeId};

use super::Doors;
use crate::gossip::command::Command;

/// How long an operator waits for the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// What an operator asks for, as the admin socket takes it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Ask {
    /// auto, up, down, drain or freeze; of members, evict or forget.
    pub(crate) op: String,
    /// Origins, or members; none for the POP itself.
    pub(crate) names: Vec<String>,
    /// For how long, milliseconds; without end unless said.
    pub(crate) for_ms: Option<u64>,
    /// Why.
    pub(crate) why: String,
}

/// What became of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Done {
    /// auto, up, down, drain or freeze.
    pub(crate) op: String,
    /// How many names it is about; 0 for the POP.
    pub(crate) names: usize,
    /// Those among them that this agent does not know (yet).
    pub(crate) unknown_here: Vec<String>,
    /// When it ends, milliseconds since 1970.
    pub(crate) until_ms: Option<u64>,
    /// On how many servers' clocks that rests.
    pub(crate) clocks: usize,
    /// What went wrong beside it.
    pub(crate) warning: Option<String>,
}

/// What is on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct OnDisk {
    /// The last version that was tried.
    pub(crate) version: u64,
    /// Why it is not there.
    pub(crate) error: Option<String>,
}

/// Hands a decision to the gossip thread, and waits for the disk.
pub(super) async fn decide(ask: Ask, user: &str, doors: &Doors) -> Result<Done, String> {
    let op = Op::from_word(&ask.op).ok_or_else(|| format!("\"{}\" is no decision", ask.op))?;
    let names: Vec<Arc<str>> = match ask.names.as_slice() {
        [] if matches!(op, Op::Auto | Op::Freeze) => vec![POP.into()],
        names if matches!(op, Op::Evict | Op::Forget) => {
            names.iter().map(|name| member_key(name)).collect()
        }
        names => names.iter().map(|name| name.as_str().into()).collect(),
    };
    let request = Request {
        op,
        names,
        for_ms: ask.for_ms,
        who: format!("{user}@{}", doors.node),
        why: ask.why,
    };
    let (reply, answer) = oneshot::channel();
    doors.gossip.send(Command::Decide(request, reply)).await;
    let ending = || "the agent is ending".to_owned();
    let decided = answer.await.map_err(|_| ending())?;
    let (decided, unknown_here) = decided.map_err(|refused| refused.to_string())?;
    let warning = on_disk(doors.on_disk.clone(), &decided).await;
    Ok(Done {
        op: op.as_str().to_owned(),
        names: ask.names.len(),
        unknown_here,
        until_ms: decided.decision.until_ms,
        clocks: decided.clocks,
        warning,
    })
}

/// Waits until a decision is on disk; says why it is not.
async fn on_disk(mut state: watch::Receiver<OnDisk>, decided: &Decided) -> Option<String> {
    let there = state.wait_for(|disk| disk.version >= decided.version);
    let error = match tokio::time::timeout(DISK_PATIENCE, there).await {
        Ok(Ok(disk)) => disk.error.clone()?,
        Ok(Err(_)) => "the agent is ending".to_owned(),
        Err(_) => "the disk does not answer".to_owned(),
    };
    Some(format!(
        "it is in force, and the other members are told, but this server will not know it after \
         a restart by itself: {error}; look at node.state_dir"
    ))
}

/// The file of one node.
#[derive(Debug)]
pub(crate) struct DecisionsFile {
    path: PathBuf,
    /// A failure was told.
    told: bool,
}

/// How it looks.
#[derive(Debug, Deserialize, Serialize)]
struct Content {
    version: u32,
    counter: u64,
    decisions: Vec<Row>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Row {
    counter: u64,
    node: u64,
    epoch: u64,
    boot: u64,
    op: String,
    at_ms: u64,
    until_ms: Option<u64>,
    who: String,
    why: String,
    names: Vec<String>,
}

const VERSION: u32 = 1;

impl DecisionsFile {
    /// That of this node.
    pub(crate) fn new(state_dir: &Path, node: &str) -> Self {
        Self {
            path: state_dir.join(format!("{node}.overrides")),
            told: false,
        }
    }

    /// What an earlier start kept. A file that cannot be read is set aside and
    /// said: the other members know what it held.
    pub(crate) fn load(&self) -> Kept {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Kept::default(),
            Err(error) => {
                self.complain(&error.to_string());
                return Kept::default();
            }
        };
        match parse(&text) {
            Ok(kept) => kept,
            Err(error) => {
                let aside = self.path.with_extension("overrides.bad");
                // If it stays where it is the next write replaces it.
                let _ = fs::rename(&self.path, &aside);
                self.complain(&format!("{error}; it is now {}", aside.display()));
                Kept::default()
            }
        }
    }

    /// Writes all of them, whole or not at all.
    pub(crate) fn store(&mut self, kept: &Kept) -> OnDisk {
        let error = self.try_store(kept).err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|_| !self.told) {
            tracing::error!(
                file = %self.path.display(), error,
                "cannot keep operators' overrides for the next start; set node.state_dir"
            );
        }
        self.told = error.is_some();
        OnDisk {
            version: kept.version,
            error,
        }
    }

    fn try_store(&self, kept: &Kept) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
        let mut writer = io::BufWriter::new(temporary.as_file_mut());
        serde_json::to_writer(&mut writer, &content(kept))?;
        writer.flush()?;
        drop(writer);
        temporary.as_file().sync_all()?;
        temporary.persist(&self.path).map_err(|e| e.error)?;
        // The rename itself has to last.
        fs::File::open(dir)?.sync_all()
    }

    fn complain(&self, error: &str) {
        tracing::error!(
            file = %self.path.display(), error,
            "cannot read the overrides that were kept; those that other members know come back \
             from them"
        );
    }
}

fn content(kept: &Kept) -> Content {
    let row = |(decision, names): &(Arc<Decision>, Vec<Arc<str>>)| Row {
        counter: decision.id.counter,
        node: decision.id.by.node.0,
        epoch: decision.id.by.epoch,
        boot: decision.id.by.boot,
        op: decision.op.as_str().to_owned(),
        at_ms: decision.at_ms,
        until_ms: decision.until_ms,
        who: decision.who.to_string(),
        why: decision.why.to_string(),
        names: names.iter().map(ToString::to_string).collect(),
    };
    Content {
        version: VERSION,
        counter: kept.counter,
        decisions: kept.decisions.iter().map(row).collect(),
    }
}

fn parse(text: &str) -> Result<Kept, String> {
    let content: Content = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!(
            "its version is {}, and this agent knows {VERSION}",
            content.version
        ));
    }
    let mut kept = Kept {
        counter: content.counter,
        ..Kept::default()
    };
    for row in content.decisions {
        let said = wire::Decision {
            counter: row.counter,
            by: Actor {
                node: NodeId(row.node),
                epoch: row.epoch,
                boot: row.boot,
            },
            op: Op::from_word(&row.op).ok_or_else(|| format!("\"{}\" is no decision", row.op))?,
            at_ms: row.at_ms,
            until_ms: row.until_ms.unwrap_or(0),
            who: row.who,
            why: row.why,
            names: Vec::new(),
        };
        let decision = Decision::of_wire(&said)
            .ok_or_else(|| format!("no agent wrote decision {}", row.counter))?;
        debug_assert_eq!(
            decision.id,
            DecisionId {
                counter: said.counter,
                by: said.by
            }
        );
        let names = row.names.iter().map(|name| name.as_str().into()).collect();
        kept.decisions.push((Arc::new(decision), names));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let decision = Decision {
            id: DecisionId {
                counter: 7,
                by: Actor {
                    node: NodeId(u64::MAX),
                    epoch: 2,
                    boot: 3,
                },
            },
            op: Op::Drain,
            at_ms: 4,
            until_ms: Some(5),
            who: "root@a".into(),
            why: "a \"reason\"".into(),
        };
        Kept {
            version: 1,
            counter: 9,
            decisions: vec![(Arc::new(decision), vec!["".into(), "shöp".into()])],
        }
    }

    #[test]
    fn what_was_kept_is_there_after_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = DecisionsFile::new(&dir.path().join("state"), "a");
        assert_eq!(file.load(), Kept::default());
        let stored = file.store(&kept());
        assert_eq!((stored.version, stored.error), (1, None));
        let loaded = file.load();
        assert_eq!(loaded.counter, 9);
        assert_eq!(loaded.decisions, kept().decisions);
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        for broken in ["", "{}", "{\"version\":2,\"counter\":1,\"decisions\":[]}"] {
            let dir = tempfile::tempdir().unwrap();
            let file = DecisionsFile::new(dir.path(), "a");
            fs::write(dir.path().join("a.overrides"), broken).unwrap();
            assert_eq!(file.load(), Kept::default());
            assert!(dir.path().join("a.overrides.bad").exists());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("no-folder");
        fs::write(&blocked, "").unwrap();
        let mut file = DecisionsFile::new(&blocked, "a");
        assert!(file.store(&kept()).error.is_some());
    }
}
