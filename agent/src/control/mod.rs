//! The control thread: files, signals, the admin socket, metrics and
//! HAProxy's agent checks.
//!
//! Everything that may block or that a person started ends here, on one tokio
//! thread, so that the gossip thread never waits for any of it. It decides
//! nothing about origins or members.

pub(crate) mod admin;
mod agent_check;
pub(crate) mod epoch;
mod metrics;
pub(crate) mod origins;
pub(crate) mod reload;

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use self::reload::Configuration;
use crate::config::AgentConfig;
use crate::gossip::command::{Command, CommandSender};
use crate::gossip::{Ending, Gossip};
use crate::limits::{COMMANDS, LEAVE_PATIENCE, ORIGINS_WATCH, WAYS_WATCH};

/// What connections ask of the control loop.
pub(crate) enum Request {
    /// Read the configuration again; the answer says what changed or why it
    /// was refused.
    Reload(oneshot::Sender<Result<String, String>>),
}

/// What connections show of the configuration in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigState {
    /// When it was read, milliseconds since 1970.
    pub(crate) loaded_ms: u64,
    /// Why the last attempt to read another was refused.
    pub(crate) error: Option<String>,
    /// The table's file.
    pub(crate) table: String,
}

/// What every connection gets.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) gossip: CommandSender,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) config: watch::Receiver<ConfigState>,
}

impl Doors {
    /// What the agent says of itself, with what only this thread knows.
    pub(crate) async fn status(&self) -> Option<Box<crate::gossip::status::Status>> {
        let mut status = self.gossip.status().await?;
        let config = self.config.borrow();
        status.table.clone_from(&config.table);
        status.config_loaded_ms = config.loaded_ms;
        status.config_error.clone_from(&config.error);
        Some(status)
    }
}

/// Why the control thread could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("{0}")]
    Admin(#[from] admin::AdminError),
    #[error(
        "cannot listen on {addr} for {what}: {source}\n  help: choose another address, or find who has it with `ss -ltnp`"
    )]
    Listen {
        addr: std::net::SocketAddr,
        what: &'static str,
        source: std::io::Error,
    },
    #[error(transparent)]
    Table(#[from] watchfire_table::TableError),
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the control loop on this thread until the gossip thread ends.
pub(crate) fn run(
    configuration: Configuration,
    gossip: Gossip,
    config: &AgentConfig,
) -> Result<Ending, ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControlError::Signals)?;
    let ending = runtime.block_on(control(configuration, gossip, config));
    // Connections that still wait for an answer will not get one.
    runtime.shutdown_background();
    ending
}

async fn control(
    mut configuration: Configuration,
    mut gossip: Gossip,
    config: &AgentConfig,
) -> Result<Ending, ControlError> {
    let (requests, mut inbox) = mpsc::channel(COMMANDS);
    let doors = Doors {
        gossip: gossip.commands.clone(),
        requests,
        config: configuration.state(),
    };
    let _socket = admin::serve(&config.admin_socket, doors.clone())?;
    if let Some(addr) = config.metrics_listen {
        metrics::serve(addr, doors.clone()).await?;
    }
    if let Some(addr) = config.agent_check_listen {
        agent_check::serve(addr, &config.table.path).await?;
    }
    configuration.send_first(&gossip.commands).await;
    tracing::info!(
        node = config.name,
        gossip = %config.gossip.bind,
        origins = configuration.origins(),
        table = %config.table.path.display(),
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );

    let mut hangup = listen(SignalKind::hangup())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut look = tokio::time::interval(ORIGINS_WATCH);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ways = tokio::time::interval(WAYS_WATCH);
    ways.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut epochs = gossip.epoch.clone();
    let mut leaving: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            ended = &mut gossip.ended => {
                gossip.join();
                return Ok(ended.unwrap_or_else(|_| {
                    Ending::Failed("the gossip thread panicked; its message is above".into())
                }));
            }
            Some(Request::Reload(reply)) = inbox.recv() => {
                // Whoever asked may be gone; the log has the answer too.
                let _ = reply.send(configuration.reload(&gossip.commands).await);
            }
            _ = hangup.recv() => {
                // Success and refusal are both logged where they happen.
                let _ = configuration.reload(&gossip.commands).await;
            }
            _ = look.tick() => configuration.look(&gossip.commands).await,
            _ = ways.tick() => configuration.look_at_ways(&gossip.commands).await,
            Ok(()) = epochs.changed() => {
                let epoch = *epochs.borrow_and_update();
                epoch::store(&config.state_dir, &config.name, epoch);
            }
            _ = terminate.recv() => leave(&mut leaving, &gossip).await,
            _ = interrupt.recv() => leave(&mut leaving, &gossip).await,
            () = until(leaving) => {
                tracing::warn!("ending without a goodbye; the others will take over");
                return Ok(Ending::Abandoned);
            }
        }
    }
}

/// The first signal says goodbye, the second does not wait for it.
async fn leave(leaving: &mut Option<tokio::time::Instant>, gossip: &Gossip) {
    let now = tokio::time::Instant::now();
    if leaving.is_none() {
        tracing::info!("handing over and leaving; a second signal ends at once");
        *leaving = Some(now + LEAVE_PATIENCE);
        gossip.commands.send(Command::Leave).await;
    } else {
        *leaving = Some(now);
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn listen(kind: SignalKind) -> Result<Signal, ControlError> {
    signal(kind).map_err(ControlError::Signals)
}

/// Reads one line of at most `limit` bytes, within `patience`. Nothing comes
/// of a longer, slower or broken one.
async fn read_line<R: tokio::io::AsyncBufRead + Unpin>(
    reader: &mut R,
    limit: usize,
    patience: Duration,
) -> Option<String> {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};
    let mut line = String::new();
    let limit = u64::try_from(limit).expect("limits are small");
    let mut limited = reader.take(limit);
    let read = tokio::time::timeout(patience, limited.read_line(&mut line));
    match read.await {
        Ok(Ok(count)) if count > 0 && line.ends_with('\n') => {
            line.truncate(line.trim_end().len());
            Some(line)
        }
        _ => None,
    }
}
