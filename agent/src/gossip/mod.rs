//! The gossip thread: the POP core, its sockets and the table.
//!
//! One mio loop feeds the core with datagrams, bulk frames, probe reports,
//! commands and the time, and does what the core wants done. It waits for
//! nothing else: whatever may block (files, DNS, people) is the control
//! thread's.

mod act;
mod bulk;
pub(crate) mod command;
mod datagrams;
mod generations;
pub(crate) mod glance;
mod looks;
mod observer;
pub(crate) mod overrides;
mod sockets;
pub(crate) mod status;
mod turn;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mio::{Poll, Waker};
use tokio::sync::{oneshot, watch};
use watchfire_core::node::Node;
use watchfire_core::overrides::Kept;
use watchfire_host::{Host, OriginChange};
use watchfire_probe::{Prober, Statistics};
use watchfire_table::Writer;
use watchfire_wire::NodeId;

pub(crate) use self::act::{reason_key, reason_words};
use self::bulk::BulkStreams;
use self::command::CommandSender;
use self::datagrams::Datagrams;
pub(crate) use self::looks::Seen;
use self::observer::Observer;
pub(crate) use self::observer::Timings;
use self::turn::{Shell, WAKER};
use crate::config::AgentConfig;
use crate::recorder::Recorder;

/// How the gossip thread ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By a goodbye.
    Left,
    /// Without one: it took too long, or nobody wanted to wait for it.
    Abandoned,
    /// Another live process bears this node's name.
    Conflict(String),
    /// It failed.
    Failed(String),
}

/// Why the gossip thread could not start. Nothing was left running.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Bind(#[from] sockets::BindError),
    #[error("{0}")]
    Table(String),
    #[error(transparent)]
    Probe(#[from] watchfire_probe::StartError),
    #[error(
        "cannot set up the gossip loop: {0}\n  help: check the limit of open files (`ulimit -n`)"
    )]
    Io(#[from] std::io::Error),
}

/// The running gossip thread.
pub(crate) struct Gossip {
    /// What to ask of it.
    pub(crate) commands: CommandSender,
    /// The epoch that belongs on disk: a state, so that the last one wins.
    pub(crate) epoch: watch::Receiver<u64>,
    /// The decisions of operators that belong on disk.
    pub(crate) kept: watch::Receiver<Arc<Kept>>,
    /// What the probe threads did.
    pub(crate) statistics: Statistics,
    /// How long news took.
    pub(crate) timings: Timings,
    /// Tells that the thread has ended, and how.
    pub(crate) ended: oneshot::Receiver<Ending>,
    thread: JoinHandle<()>,
}

impl Gossip {
    /// Binds the sockets, starts the probe threads, makes the table and starts the
    /// gossip thread, which knows its first set of origins before it joins: what a
    /// member configures is part of how it introduces itself, and need not be spread
    /// a moment later as news.
    pub(crate) fn start(
        config: &AgentConfig,
        node: Node,
        first: &OriginChange,
        recorder: Recorder,
        table: impl FnOnce() -> Result<Writer, String>,
    ) -> Result<Self, StartError> {
        let (udp, listener) = sockets::bind(config.gossip.bind)?;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let prober = {
            let waker = waker.clone();
            // A wake-up that fails (it cannot, short of a closed descriptor)
            // costs the time until the next tick.
            Prober::start(config.probe.clone(), Arc::new(move || drop(waker.wake())))?
        };
        if let Some(why) = prober.fallback() {
            tracing::warn!("{why}");
        }
        let table = table().map_err(StartError::Table)?;
        let (commands, receiver) = command::queue(waker);
        let wall_at_zero_ms =
            crate::clock::wall_ms().saturating_sub(crate::clock::now().as_millis());
        let mut host = Host::new(node, &config.name, table, wall_at_zero_ms);
        host.configure(crate::clock::now(), first);
        let name = config.name.clone();
        let statistics = prober.statistics();
        let timings = Timings::new();
        let observer = Observer::new(NodeId::of_name(&config.name), timings.clone());
        let own = config.gossip.advertise;
        let expects_peers = config.gossip.join.iter().any(|seed| *seed != own);
        let (epoch_sender, epoch) = watch::channel(0);
        let (kept_sender, kept) = watch::channel(Arc::new(Kept::default()));
        let (ending, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("gossip".into())
            .spawn(move || {
                let shell = Shell {
                    name,
                    udp: Datagrams::new(udp),
                    listener,
                    streams: BulkStreams::new(),
                    prober,
                    host,
                    commands: receiver,
                    epoch: epoch_sender,
                    kept: kept_sender,
                    expects_peers,
                    observer,
                    recorder,
                };
                // Nobody may be waiting any more; then nobody wants to know.
                let _ = ending.send(turn::run(poll, shell));
            })?;
        Ok(Self {
            commands,
            epoch,
            statistics,
            timings,
            kept,
            ended,
            thread,
        })
    }

    /// Waits until the thread is gone, table lock and sockets with it.
    pub(crate) fn join(self) {
        // A panic was reported by its own hook already.
        let _ = self.thread.join();
    }
}
