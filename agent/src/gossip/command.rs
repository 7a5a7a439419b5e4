//! What the control thread asks of the gossip thread, and how it is woken.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use mio::Waker;
use tokio::sync::oneshot;
use watchfire_core::gate::Keys;
use watchfire_core::overrides::{Decided, Refused, Request};
use watchfire_host::OriginChange;
use watchfire_probe::Trust;

use super::glance::Glance;
use super::status::Status;
use crate::limits::COMMANDS;

/// One thing asked of the gossip thread.
pub(crate) enum Command {
    /// The origins changed.
    Origins(Box<OriginChange>),
    /// The configured capacity changed.
    Capacity(u16),
    /// The POP's keys changed.
    Keys(Keys),
    /// The certificates that checks trust changed.
    Trust(Trust),
    /// Hand over all checks, or take part again.
    Drain(bool),
    /// What is there now.
    Status(oneshot::Sender<Box<Status>>),
    /// What a screen shows of the POP.
    Glance(oneshot::Sender<Box<Glance>>),
    /// Which probe belongs to a check behind this origin name, in words.
    Why(String, oneshot::Sender<Option<super::status::Why>>),
    /// How long ago the probe thread that has turned the least has turned.
    Beat(oneshot::Sender<Duration>),
    /// An operator decides. The answer comes with the names that this agent
    /// does not know.
    Decide(
        Request,
        oneshot::Sender<Result<(Decided, Vec<String>), Refused>>,
    ),
    /// What operators decided: in force, or whatever is remembered.
    Overrides(bool, oneshot::Sender<Vec<super::overrides::OverrideStatus>>),
    /// Every member looks at this origin's check, and its probe's outcome is told.
    Look(String, super::looks::Reply),
    /// Members that operators put out.
    Evictions(oneshot::Sender<Vec<super::overrides::OverrideStatus>>),
    /// The names of all origins that are configured.
    Names(oneshot::Sender<Vec<String>>),
    /// Say goodbye and end.
    Leave,
}

/// The control thread's end.
#[derive(Clone)]
pub(crate) struct CommandSender {
    sender: Sender<Command>,
    waker: Arc<Waker>,
}

impl CommandSender {
    /// Hands over a command, waiting while the queue is full. Says whether the
    /// gossip thread still lives.
    pub(crate) async fn send(&self, mut command: Command) -> bool {
        loop {
            match self.sender.try_send(command) {
                Ok(()) => return self.waker.wake().is_ok(),
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) => {
                    command = back;
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// What is there now; nothing if the gossip thread has ended.
    pub(crate) async fn status(&self) -> Option<Box<Status>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Status(reply)).await;
        answer.await.ok()
    }

    /// How long ago the probe thread that has turned the least has turned;
    /// nothing if the gossip thread has ended.
    pub(crate) async fn oldest_beat(&self) -> Option<Duration> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Beat(reply)).await;
        answer.await.ok()
    }
}

/// A bounded queue that wakes the gossip loop.
pub(crate) fn queue(waker: Arc<Waker>) -> (CommandSender, Receiver<Command>) {
    let (sender, receiver) = bounded(COMMANDS);
    (CommandSender { sender, waker }, receiver)
}
