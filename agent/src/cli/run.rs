//! `watchfire run`: one agent, in the foreground.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nix::sys::signal::Signal;
use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use watchfire_core::node::{Node, NodeConfig};
use watchfire_table::{Writer as TableWriter, WriterOptions};
use watchfire_wire::Actor;

use super::Failure;
use crate::config::AgentConfig;
use crate::control::overrides::DecisionsFile;
use crate::control::reload::Configuration;
use crate::control::sources::Sources;
use crate::files::Kept;
use crate::gossip::{Ending, Gossip};
use crate::limits::LOG_LINES;
use crate::names::Resolver;
use crate::recorder::Recorder;
use crate::{clock, control};

#[derive(Args)]
#[command(
    after_help = "Signals:\n  TERM, INT  hand over, say goodbye, end (twice: at once)\n  \
                        HUP        read the configuration again\n\n\
                        The log goes to standard error; RUST_LOG=debug shows more of it."
)]
pub(super) struct Options {
    /// The agent's configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,
    /// End as soon as this process, our parent, has ended
    #[arg(long, hide = true, value_name = "PID")]
    end_with: Option<i32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    if let Some(parent) = options.end_with {
        // Whoever kills a demonstration means all of it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        if nix::unistd::getppid().as_raw() != parent {
            return Err(Failure::Error(format!(
                "process {parent} is not our parent"
            )));
        }
    }
    // A reload that comes while we start waits until we can hear it: the default
    // would be to end. The log's thread never hears a signal; while files are
    // read, which may take for ever, this one does.
    control::hold_back(&[Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT])?;
    let (_log, lines_lost) = start_log(options.log);
    control::let_through(&[Signal::SIGTERM, Signal::SIGINT])?;
    let kept = |agent: &AgentConfig| Some(Kept::new(&agent.state_dir, &agent.name));
    let (sources, reading) = Sources::start(&options.config, kept)?;
    let config = reading.agent.clone();
    let keys = reading.keys.clone().expect("a start reads them");

    let persisted_epoch = control::epoch::load(&config.state_dir, &config.name);
    let mut random = [0; 40];
    getrandom::fill(&mut random)?;
    let (boot, seed) = random.split_at(8);
    let now = clock::now();
    let mut node_config = NodeConfig {
        boot: u64::from_le_bytes(boot.try_into().expect("eight bytes")),
        rng_seed: seed.try_into().expect("thirty-two bytes"),
        persisted_epoch,
        wall_at_zero_ms: clock::wall_at_zero().at_zero_ms,
        wall_synchronised: clock::wall_at_zero().synchronised,
        overrides: DecisionsFile::new(&config.state_dir, &config.name).load(),
        seeds: config
            .gossip
            .join
            .iter()
            .copied()
            .filter(|seed| *seed != config.gossip.advertise)
            .collect(),
        capacity: config.capacity,
        keys,
        join_patience: config.join_patience,
        datagram_bytes: config.gossip.datagram_bytes,
        ..NodeConfig::new(config.name.clone(), config.gossip.advertise)
    }
    .with_period(config.gossip.period);
    node_config.ownership.brake = config.brake.clone();

    let node = Node::new(node_config, now);
    // From here on there is something to clear away before we end.
    control::hold_back(&[Signal::SIGTERM, Signal::SIGINT])?;
    // The table comes last: a start that fails leaves nothing behind.
    let listeners = control::Listeners::bind(&config)?;
    let actor = node.actor();
    let history = config.state_dir.join(format!("{}.history", config.name));
    let (recorder, _recording) = Recorder::start(history, config.events.as_ref())?;
    let (resolver, news) = Resolver::start(&config.resolver)?;
    let configuration = Configuration::new(sources, reading, resolver);
    let first = configuration.first();
    let gossip = Gossip::start(&config, node, &first, recorder.clone(), || {
        open_table(&config, actor)
    })?;
    match control::run(
        configuration,
        gossip,
        &config,
        listeners,
        (lines_lost, recorder, news),
    )? {
        Ending::Left => {
            tracing::info!("left the POP");
            Ok(())
        }
        Ending::Abandoned => Ok(()),
        Ending::Conflict(what) => Err(Failure::Error(format!(
            "{what}\n  help: give each server its own node.name, or stop the other agent first"
        ))),
        Ending::Failed(what) => Err(Failure::Error(what)),
    }
}

fn open_table(config: &AgentConfig, actor: Actor) -> Result<TableWriter, String> {
    if let Some(dir) = config.table.path.parent() {
        fs::create_dir_all(dir).map_err(|error| {
            format!(
                "cannot make the folder of the table, {}: {error}\n  help: choose a table.path on \
                 a tmpfs where the agent's user may write, like /run/watchfire/table",
                dir.display()
            )
        })?;
    }
    let options = WriterOptions {
        capacity: config.table.capacity,
        mode: config.table.mode,
        group: config.table.group.as_deref().map(group_id).transpose()?,
        ..WriterOptions::new(actor, &config.name)
    };
    TableWriter::open(&config.table.path, &options, clock::now_ns()).map_err(|e| e.to_string())
}

fn group_id(name: &str) -> Result<u32, String> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(format!(
            "there is no group \"{name}\" on this host\n  help: name one of /etc/group as \
             table.group, or leave it out"
        )),
    }
}

/// What is logged unless RUST_LOG says otherwise. The resolver has a line for each
/// datagram that is no answer to it, and whoever forges them chooses how many.
const FILTER: &str = "info,hickory_net=error";

/// Log lines go to standard error through a bounded queue: what reads them
/// cannot hold the agent up.
fn start_log(format: LogFormat) -> (WorkerGuard, ErrorCounter) {
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES)
        .finish(std::io::stderr());
    let lost = writer.error_counter();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text if is_journal() => log.event_format(Journal::new()).init(),
        LogFormat::Text => log.init(),
    }
    (guard, lost)
}

/// Whether standard error goes to the journal, by its own word: the device and
/// inode of what it gave us.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(std::io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Lines for the journal, which has a time and a priority of its own for each.
struct Journal(Format<Full, ()>);

impl Journal {
    fn new() -> Self {
        let format = tracing_subscriber::fmt::format().without_time();
        Self(format.with_target(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        // Each line of one event has to say it.
        let mut text = String::new();
        self.0
            .format_event(context, Writer::new(&mut text), event)?;
        for line in text.lines() {
            writeln!(writer, "<{priority}>{line}")?;
        }
        Ok(())
    }
}
