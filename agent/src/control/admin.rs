//! The admin socket: one JSON line in, one JSON line out, for the agent's own
//! user and root only.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use super::{Doors, Request};
use crate::gossip::command::Command;
use crate::limits::{ADMIN_CONNECTIONS, ADMIN_LINE_BYTES, EVENTS_ANSWERED, LINE_PATIENCE};
use crate::recorder::Query;

/// What a person may ask of a running agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verb", deny_unknown_fields)]
pub(crate) enum Verb {
    /// Members, checks, counters.
    Status,
    /// Why an origin has its verdict.
    Why {
        origin: String,
        /// As of then, milliseconds since 1970; now if nothing.
        #[serde(default)]
        at_ms: Option<u64>,
    },
    /// Transitions that this agent has kept, the newest of them.
    Events {
        /// Those after this number, which an earlier answer gave.
        #[serde(default)]
        after: u64,
        /// Those since then.
        #[serde(default)]
        since_ms: u64,
        /// Of origins of such a name.
        #[serde(default)]
        name: Option<String>,
        /// So many.
        limit: usize,
    },
    /// Origins that changed more than once since then, those that did the most first.
    Flapping { since_ms: u64 },
    /// Read the configuration again.
    Reload {
        /// Origins may leave, however many.
        #[serde(default)]
        allow_removals: bool,
    },
    /// What a reload would do.
    Diff,
    /// An operator decides of origins, or of the POP.
    Decide(super::overrides::Ask),
    /// What operators decided.
    Overrides {
        /// What has ended too.
        #[serde(default)]
        ended: bool,
    },
    /// What every member of the POP sees of an origin when it probes it now.
    Look { origin: String },
    /// Members that operators put out of the POP.
    Evictions,
    /// The names of all origins that are configured.
    Origins,
    /// Hand over all checks and take no new ones.
    Drain,
    /// Take part again.
    Undrain,
}

/// The answer: one of the two.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Error(String),
}

/// Why the socket could not be had, or not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("another agent answers on {0}\n  help: stop it, or give this one another admin.socket")]
    Taken(PathBuf),
    #[error("{0} is there and is no socket\n  help: remove it, or choose another admin.socket")]
    NoSocket(PathBuf),
    #[error(
        "cannot make the admin socket {0}: {1}\n  help: create its folder and let the agent's user write there"
    )]
    Bind(PathBuf, io::Error),
    #[error(
        "no agent answers on {0}: {1}\n  help: is it running? `--socket` or `--config` names another socket; only the agent's user and root may ask"
    )]
    NobodyThere(PathBuf, io::Error),
    #[error(
        "this user may not ask the agent on {0}\n  help: ask as the agent's user or as root, like \
         `sudo -u watchfire watchfire status`"
    )]
    NotAllowed(PathBuf),
    #[error(
        "an agent has {0} and did not answer within {1} s\n  help: is it stopped, or its machine \
         overloaded? its log may say"
    )]
    Silent(PathBuf, u64),
    #[error("{0}")]
    Refused(String),
}

/// The socket, bound before anything else is made. Its file is removed at the
/// end.
pub(crate) struct AdminSocket {
    listener: std::os::unix::net::UnixListener,
    file: SocketFile,
}

/// Removes the socket's file at the end, unless another has taken its place.
struct SocketFile {
    path: PathBuf,
    inode: Option<u64>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            // Already gone is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

impl AdminSocket {
    /// Takes the socket's path, if no other agent has it.
    pub(crate) fn bind(path: &Path) -> Result<Self, AdminError> {
        clear_way(path)?;
        let bind_error = |error| AdminError::Bind(path.to_owned(), error);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(bind_error)?;
        }
        // The mode must be right from the first instant: set by the mask, not after.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = std::os::unix::net::UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(bind_error)?;
        let file = SocketFile {
            path: path.to_owned(),
            inode: inode(path),
        };
        listener.set_nonblocking(true).map_err(bind_error)?;
        Ok(Self { listener, file })
    }

    /// Serves it from now on, for as long as the answer is kept.
    pub(super) fn serve(self, doors: Doors) -> Result<impl Drop, AdminError> {
        let listener = UnixListener::from_std(self.listener)
            .map_err(|error| AdminError::Bind(self.file.path.clone(), error))?;
        tokio::spawn(accept(listener, doors));
        Ok(self.file)
    }
}

/// Asks a running agent, from a program that is no agent itself.
pub(crate) fn ask(path: &Path, verb: &Verb) -> Result<Value, AdminError> {
    ask_for(path, verb, Duration::from_secs(10))
}

/// The same with another patience than ten seconds.
pub(crate) fn ask_for(path: &Path, verb: &Verb, patience: Duration) -> Result<Value, AdminError> {
    let talk = || -> io::Result<Answer> {
        let mut stream = BlockingStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        let mut line = serde_json::to_vec(verb).expect("a verb is plain data");
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(io::Error::from)
    };
    let nobody = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => AdminError::NotAllowed(path.to_owned()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            AdminError::Silent(path.to_owned(), patience.as_secs())
        }
        _ => AdminError::NobodyThere(path.to_owned(), error),
    };
    match talk().map_err(nobody)? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(error) => Err(AdminError::Refused(error)),
    }
}

/// A socket that a dead agent left is removed; one that answers is not.
fn clear_way(path: &Path) -> Result<(), AdminError> {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        return Err(AdminError::NoSocket(path.to_owned()));
    }
    // Only a socket that nobody holds refuses. An agent that is stopped or busy
    // does not answer, and is there.
    match BlockingStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(_) | Err(_) => return Err(AdminError::Taken(path.to_owned())),
    }
    fs::remove_file(path).map_err(|e| AdminError::Bind(path.to_owned(), e))
}

async fn accept(listener: UnixListener, doors: Doors) {
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let doors = doors.clone();
        tokio::spawn(async move {
            converse(stream, doors).await;
            drop(place);
        });
    }
}

async fn converse(stream: UnixStream, doors: Doors) {
    let asker = stream.peer_cred().map(|peer| peer.uid());
    let friend = asker
        .as_ref()
        .is_ok_and(|uid| *uid == 0 || *uid == geteuid().as_raw());
    let user = asker.map_or_else(|_| String::new(), user_of);
    if !friend {
        tracing::warn!("a stranger asked on the admin socket and got no answer");
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader);
    while let Some(line) = super::read_line(&mut reader, ADMIN_LINE_BYTES, LINE_PATIENCE).await {
        let answer = match serde_json::from_str(&line) {
            Ok(verb) => answer(verb, &user, &doors).await,
            Err(error) => Answer::Error(format!("cannot read the request: {error}")),
        };
        let mut reply = serde_json::to_vec(&answer).expect("an answer is plain data");
        reply.push(b'\n');
        if writer.write_all(&reply).await.is_err() {
            return;
        }
    }
}

/// A user's name, or the number where it has none.
fn user_of(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(uid.into());
    let name = user.ok().flatten().map(|user| user.name);
    name.unwrap_or_else(|| uid.to_string())
}

async fn answer(verb: Verb, user: &str, doors: &Doors) -> Answer {
    match verb {
        Verb::Decide(ask) => match super::overrides::decide(ask, user, doors).await {
            Ok(done) => show(&done),
            Err(error) => Answer::Error(error),
        },
        Verb::Overrides { ended } => {
            let (reply, answer) = oneshot::channel();
            doors.gossip.send(Command::Overrides(ended, reply)).await;
            match answer.await {
                Ok(all) => show(&all),
                Err(_) => Answer::Error("the agent is ending".into()),
            }
        }
        Verb::Look { origin } => {
            let (reply, answer) = oneshot::channel();
            doors.gossip.send(Command::Look(origin, reply)).await;
            match answer.await {
                Ok(Ok(seen)) => show(&seen),
                Ok(Err(error)) => Answer::Error(error),
                Err(_) => Answer::Error("the agent is ending".into()),
            }
        }
        Verb::Evictions => {
            let (reply, answer) = oneshot::channel();
            doors.gossip.send(Command::Evictions(reply)).await;
            match answer.await {
                Ok(all) => show(&all),
                Err(_) => Answer::Error("the agent is ending".into()),
            }
        }
        Verb::Origins => {
            let (reply, answer) = oneshot::channel();
            doors.gossip.send(Command::Names(reply)).await;
            match answer.await {
                Ok(names) => show(&names),
                Err(_) => Answer::Error("the agent is ending".into()),
            }
        }
        Verb::Status => match doors.status().await {
            Some(status) => show(&status),
            None => Answer::Error("the agent is ending".into()),
        },
        Verb::Why { origin, at_ms } => match doors.gossip.why(origin.clone()).await {
            Some(mut why) => {
                doors.sights.recall(&mut why, at_ms.unwrap_or(u64::MAX));
                show(&why)
            }
            None => Answer::Error(format!(
                "no origin is named \"{origin}\" in this agent's configuration"
            )),
        },
        Verb::Reload { allow_removals } => {
            let (reply, answer) = oneshot::channel();
            let request = Request::Reload {
                allow_removals,
                reply,
            };
            if doors.requests.send(request).await.is_err() {
                return Answer::Error("the agent is ending".into());
            }
            match answer.await {
                Ok(Ok(summary)) => Answer::Ok(Value::String(summary)),
                Ok(Err(error)) => Answer::Error(error),
                Err(_) => Answer::Error("the agent is ending".into()),
            }
        }
        Verb::Diff => {
            let (reply, answer) = oneshot::channel();
            if doors.requests.send(Request::Diff(reply)).await.is_err() {
                return Answer::Error("the agent is ending".into());
            }
            match answer.await {
                Ok(Ok(diff)) => show(&diff),
                Ok(Err(error)) => Answer::Error(error),
                Err(_) => Answer::Error("the agent is ending".into()),
            }
        }
        Verb::Events {
            after,
            since_ms,
            name,
            limit,
        } => {
            let name = match name.as_deref().map(glob::Pattern::new).transpose() {
                Ok(name) => name,
                Err(error) => return Answer::Error(format!("that is not a pattern: {error}")),
            };
            let query = Query {
                after,
                since_ms,
                name,
                limit: limit.min(EVENTS_ANSWERED),
            };
            let (events, last) = doors.sights.recorder.journal().find(&query);
            show(&serde_json::json!({ "events": events, "last": last }))
        }
        Verb::Flapping { since_ms } => {
            let journal = doors.sights.recorder.journal();
            show(&journal.flapping(since_ms, EVENTS_ANSWERED))
        }
        Verb::Drain => {
            doors.gossip.send(Command::Drain(true)).await;
            Answer::Ok(Value::String("draining".into()))
        }
        Verb::Undrain => {
            doors.gossip.send(Command::Drain(false)).await;
            Answer::Ok(Value::String("not draining any more".into()))
        }
    }
}

fn show<T: Serialize>(value: &T) -> Answer {
    match serde_json::to_value(value) {
        Ok(value) => Answer::Ok(value),
        Err(error) => Answer::Error(format!("cannot show the answer: {error}")),
    }
}
