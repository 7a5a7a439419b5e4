//! The control thread: files, signals, the admin socket, metrics and
//! HAProxy's agent checks.
//!
//! Everything that may block or that a person started ends here, on one tokio
//! thread, so that the gossip thread never waits for any of it. It decides
//! nothing about origins or members.

pub(crate) mod admin;
mod agent_check;
pub(crate) mod api;
mod doors;
pub(crate) mod epoch;
mod metrics;
pub(crate) mod overrides;
pub(crate) mod reload;
pub(crate) mod screen;
pub(crate) mod sights;
pub(crate) mod sources;
mod supervisor;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing_appender::non_blocking::ErrorCounter;
use watchfire_host::resolve::News;
use watchfire_table::Reader;
use watchfire_wire::NodeId;

use self::reload::{Configuration, DiffReply, Reply};
use self::sights::Sights;
use self::supervisor::Supervisor;
use crate::config::AgentConfig;
use crate::files::Held;
use crate::gossip::command::{Command, CommandSender};
use crate::gossip::status::{HeldStatus, of_probes};
use crate::gossip::{Ending, Gossip};
use crate::limits::{
    ADMIN_CONNECTIONS, ADMIN_PER_USER, COMMANDS, LEAVE_PATIENCE, NEWS_AT_ONCE, ORIGINS_WATCH,
    WAYS_WATCH,
};
use crate::recorder::Recorder;

/// What connections ask of the control loop.
pub(crate) enum Request {
    /// Read the configuration again; the answer says what changed or why it
    /// was refused.
    Reload {
        /// Origins may leave, however many.
        allow_removals: bool,
        reply: Reply,
    },
    /// What a reload would do, as JSON; nothing is done.
    Diff(DiffReply),
}

/// What connections show of the configuration in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigState {
    /// When it was read, milliseconds since 1970.
    pub(crate) loaded_ms: u64,
    /// Why the last attempt to read another was refused, in whole or in part.
    pub(crate) error: Option<String>,
    /// Files that do not count as they are.
    pub(crate) held: Vec<Held>,
    /// The table's file.
    pub(crate) table: String,
}

/// What every connection gets.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) gossip: CommandSender,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) config: watch::Receiver<ConfigState>,
    /// This node's name.
    pub(crate) node: std::sync::Arc<str>,
    /// Which decisions of operators are on disk.
    pub(crate) on_disk: watch::Receiver<overrides::OnDisk>,
    pub(crate) sights: Arc<Sights>,
    pub(crate) screens: Arc<screen::Screens>,
}

impl Doors {
    /// What the agent says of itself, with what only this thread knows.
    pub(crate) async fn status(&self) -> Option<Box<crate::gossip::status::Status>> {
        let mut status = self.gossip.status().await?;
        let (counters, latencies) = of_probes(&self.sights.statistics.sum());
        status.counters.extend(counters);
        status.latencies = latencies;
        self.sights.name(&mut status);
        let config = self.config.borrow();
        status.table.clone_from(&config.table);
        status.config_loaded_ms = config.loaded_ms;
        status.config_error.clone_from(&config.error);
        status.files_held = config.held.iter().map(HeldStatus::of).collect();
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
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Table(#[from] watchfire_table::TableError),
    #[error(
        "cannot set up the control thread: {0}\n  help: check the limit of open files (`ulimit -n`)"
    )]
    Set(std::io::Error),
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
}

/// What people and programs connect to, bound before anything is made that a
/// failed start would leave behind.
pub(crate) struct Listeners {
    admin: admin::AdminSocket,
    admin_tcp: Option<(TcpListener, api::Token)>,
    metrics: Option<TcpListener>,
    agent_check: Option<TcpListener>,
}

impl Listeners {
    /// Binds all of them, or none.
    pub(crate) fn bind(config: &AgentConfig) -> Result<Self, ControlError> {
        let listen = |addr: Option<SocketAddr>, what| {
            let listen = |addr| {
                let bound = TcpListener::bind(addr).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                });
                bound.map_err(|source| ControlError::Listen { addr, what, source })
            };
            addr.map(listen).transpose()
        };
        Ok(Self {
            metrics: listen(config.metrics_listen, "metrics")?,
            agent_check: listen(config.agent_check_listen, "agent checks")?,
            admin_tcp: match &config.admin_tcp {
                None => None,
                Some(tcp) => {
                    let token = api::Token::read(&tcp.token_file)?;
                    listen(Some(tcp.listen), "the admin API")?.map(|listener| (listener, token))
                }
            },
            admin: admin::AdminSocket::bind(&config.admin_socket, config.admin_group.as_deref())?,
        })
    }
}

/// Runs the control loop on this thread until the gossip thread ends.
pub(crate) fn run(
    configuration: Configuration,
    gossip: Gossip,
    config: &AgentConfig,
    listeners: Listeners,
    (log, recorder, news): (ErrorCounter, Recorder, mpsc::Receiver<Vec<News>>),
) -> Result<Ending, ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControlError::Set)?;
    let ending = runtime.block_on(control(
        configuration,
        gossip,
        config,
        listeners,
        (log, recorder, news),
    ));
    // Connections that still wait for an answer will not get one.
    runtime.shutdown_background();
    ending
}

async fn control(
    mut configuration: Configuration,
    mut gossip: Gossip,
    config: &AgentConfig,
    listeners: Listeners,
    (log, recorder, mut news): (ErrorCounter, Recorder, mpsc::Receiver<Vec<News>>),
) -> Result<Ending, ControlError> {
    let mut heard = Vec::new();
    let sights = Sights {
        me: NodeId::of_name(&config.name),
        statistics: gossip.statistics.clone(),
        timings: gossip.timings.clone(),
        table: Reader::open(&config.table.path)?,
        chosen: config.metrics_origins.clone(),
        log,
        recorder,
        user_agent: config.probe.user_agent.clone(),
        names: configuration.names(),
    };
    let (requests, mut inbox) = mpsc::channel(COMMANDS);
    let (disk, on_disk) = watch::channel(overrides::OnDisk::default());
    let mut decisions = overrides::DecisionsFile::new(&config.state_dir, &config.name);
    let mut kept = gossip.kept.clone();
    let doors = Doors {
        gossip: gossip.commands.clone(),
        requests,
        config: configuration.state(),
        node: config.name.as_str().into(),
        on_disk,
        sights: Arc::new(sights),
        // Another at every start: the process's id keeps two of one millisecond apart.
        screens: Arc::new(screen::Screens::new(
            crate::clock::wall_ms() << 22 | u64::from(std::process::id()),
        )),
    };
    let mut hangup = listen(SignalKind::hangup())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // Those that came while we started come now.
    let_through(&[Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT])?;
    let _socket = listeners.admin.serve(doors.clone())?;
    if let Some((listener, token)) = listeners.admin_tcp {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(ControlError::Set)?;
        let most = (ADMIN_CONNECTIONS, ADMIN_PER_USER);
        api::serve(doors::Few::new(listener, most), doors.clone(), Some(token));
    }
    if let Some(listener) = listeners.metrics {
        metrics::serve(listener, doors.clone()).map_err(ControlError::Set)?;
    }
    if let Some(listener) = listeners.agent_check {
        agent_check::serve(
            listener,
            &config.table.path,
            &config.state_dir,
            &config.name,
        )?;
    }
    tracing::info!(
        node = config.name,
        gossip = %config.gossip.bind,
        origins = configuration.origins(),
        table = %config.table.path.display(),
        version = crate::VERSION,
        "started"
    );

    let supervisor = Supervisor::from_environment();
    let commands = gossip.commands.clone();
    let watched_over = async {
        if let Some(supervisor) = &supervisor {
            supervisor.watch_over(&commands, config).await;
        }
        std::future::pending::<()>().await
    };
    tokio::pin!(watched_over);
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
            Some(request) = inbox.recv() => match request {
                Request::Reload { allow_removals, reply } => {
                    configuration.ask(Some(reply), allow_removals);
                }
                Request::Diff(reply) => configuration.diff(reply),
            },
            // Success and refusal are both logged where they happen.
            _ = hangup.recv() => configuration.ask(None, false),
            _ = look.tick() => configuration.look(),
            1.. = news.recv_many(&mut heard, NEWS_AT_ONCE) => {
                let heard = heard.drain(..).flatten().collect();
                configuration.hear(heard, &gossip.commands).await;
            }
            _ = ways.tick() => configuration.look_at_ways(&gossip.commands).await,
            done = configuration.done() => {
                if let Err(error) = configuration.finish(done, &gossip.commands).await {
                    return Ok(Ending::Failed(error));
                }
            }
            Ok(()) = epochs.changed() => {
                let epoch = *epochs.borrow_and_update();
                epoch::store(&config.state_dir, &config.name, epoch);
            }
            Ok(()) = kept.changed() => {
                let kept = kept.borrow_and_update().clone();
                disk.send_replace(decisions.store(&kept));
            }
            () = &mut watched_over => {}
            _ = terminate.recv() => leave(&mut leaving, &gossip, supervisor.as_ref()).await,
            _ = interrupt.recv() => leave(&mut leaving, &gossip, supervisor.as_ref()).await,
            () = until(leaving) => {
                tracing::warn!("stopping at once, without handing over; other agents will take over");
                return Ok(Ending::Abandoned);
            }
        }
    }
}

/// The first signal says goodbye, the second does not wait for it.
async fn leave(
    leaving: &mut Option<tokio::time::Instant>,
    gossip: &Gossip,
    supervisor: Option<&Supervisor>,
) {
    let now = tokio::time::Instant::now();
    if leaving.is_none() {
        tracing::info!("handing over and leaving; a second signal ends at once");
        *leaving = Some(now + LEAVE_PATIENCE);
        if let Some(supervisor) = supervisor {
            supervisor.stopping();
        }
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

/// Lets these signals wait until the control loop hears them. Threads that are
/// started meanwhile never do.
pub(crate) fn hold_back(which: &[Signal]) -> Result<(), ControlError> {
    let held = signals(which).thread_block();
    held.map_err(|errno| ControlError::Signals(errno.into()))
}

/// Lets these signals come, those that waited first.
pub(crate) fn let_through(which: &[Signal]) -> Result<(), ControlError> {
    let passed = signals(which).thread_unblock();
    passed.map_err(|errno| ControlError::Signals(errno.into()))
}

fn signals(which: &[Signal]) -> SigSet {
    which.iter().copied().collect()
}

fn listen(kind: SignalKind) -> Result<unix::Signal, ControlError> {
    unix::signal(kind).map_err(ControlError::Signals)
}
