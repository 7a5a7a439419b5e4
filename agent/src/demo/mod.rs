//! `watchfire demo`: the main job before one's eyes.
//!
//! An origin farm inside this program, a POP of agents as processes of their
//! own, and a story: settle, turn origins bad and good again, kill an agent,
//! restart it. What is reported comes from the farm's log and from the tables;
//! the agents' own counters are never asked.

mod analysis;
mod pop;
mod progress;
mod report;
mod tables;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use watchfire_origin::{Farm, FarmOptions, Fault, Phase};
use watchfire_table::TableVerdict;

use self::analysis::{Log, Probe, Window, percentile};
use self::pop::Pop;
use self::progress::Progress;
pub(crate) use self::report::Report;
use self::tables::{Flip, Truth, Watcher};
use crate::clock;
use crate::config::{USER_AGENT_OF_NODE, user_agent};

/// What the checks of the demo say, and what its judgement builds on.
const INTERVAL: Duration = Duration::from_secs(1);
const RISE: usize = 2;
const FALL: usize = 3;

/// An origin that goes unprobed for longer is uncovered: an interval and the
/// takeover bound.
const UNCOVERED_AFTER: Duration = Duration::from_secs(3);

/// Around the kill and the restart, for so long, two probes in one interval
/// are a handover.
const HANDOVER: Duration = Duration::from_secs(2);

/// Two agents' clocks start an interval at most this far apart: the phase is
/// the same by construction, the processes' wake-ups are not.
const PHASE_SLACK: Duration = Duration::from_millis(50);

/// A change that some table has not shown after this long is a wrong verdict.
const FLIP_PATIENCE: Duration = Duration::from_secs(8);

/// One of so many origins turns bad, and at most so many of all.
const ORIGINS_PER_FLIP: u32 = 125;
const FLIPPED_MAX: u32 = 40;

/// How long the POP may take to settle before the demo gives up.
const SETTLE_PATIENCE: Duration = Duration::from_secs(20);

/// How long the checks take to come to those members who came later.
const HANDOVERS: Duration = Duration::from_secs(6);

/// Time that the story itself takes; what the user allows beyond it makes the
/// quiet times longer.
const STORY: Duration = Duration::from_secs(18);

/// What the user chose.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) origins: u32,
    pub(crate) nodes: usize,
    pub(crate) seconds: u64,
    /// Where to write every probe that the origins saw.
    pub(crate) trace: Option<PathBuf>,
}

/// Why the demo could not be played.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error(
        "cannot set the stage: {0}\n  help: the demo needs a folder for temporary files, free ports on loopback and open files (`ulimit -n`)"
    )]
    Io(#[from] std::io::Error),
    #[error("the origin farm failed: {0}")]
    Farm(#[from] watchfire_origin::FarmError),
    #[error("{0}")]
    Agent(String),
    #[error("the POP did not settle within {limit} s: {0}", limit = SETTLE_PATIENCE.as_secs())]
    Unsettled(String),
    #[error("interrupted")]
    Interrupted,
}

/// Plays the whole story.
pub(crate) fn play(options: Options) -> Result<Report, DemoError> {
    let stage = Stage::build(options)?;
    stage.play()
}

/// Everything that the story needs.
struct Stage {
    options: Options,
    farm: Farm,
    pop: Pop,
    watcher: Watcher,
    names: Vec<String>,
    progress: Progress,
    interrupted: Arc<AtomicBool>,
    quiet: Duration,
    /// Removed when the story is over; declared last, so after the agents.
    _home: TempDir,
    _tables: TempDir,
}

impl Stage {
    fn build(options: Options) -> Result<Self, DemoError> {
        let interrupted = watch_for_interrupts()?;
        let progress = Progress::new(options.seconds);
        progress.phase("starting the origins and the agents");
        // Every connection of the farm, and each agent's table.
        watchfire_origin::raise_open_files()?;
        let farm = Farm::start(FarmOptions {
            count: options.origins,
            record: true,
            ..FarmOptions::default()
        })?;
        let names: Vec<String> = (1..=options.origins)
            .map(|number| format!("origin-{number:05}"))
            .collect();
        let home = tempfile::Builder::new()
            .prefix("watchfire-demo-")
            .tempdir()?;
        let tables = tmpfs_folder()?;
        let origins = origins_file(&farm, &names);
        let mut pop = Pop::prepare(home.path(), tables.path(), options.nodes, &origins)?;
        for index in 0..options.nodes {
            pop.start(index)?;
        }
        pop.wait_for_tables().map_err(DemoError::Agent)?;
        let paths = pop
            .agents()
            .iter()
            .map(|agent| agent.table.clone())
            .collect();
        Ok(Self {
            watcher: Watcher::start(paths, names.clone()),
            quiet: Duration::from_secs(options.seconds).saturating_sub(STORY) / 2,
            options,
            farm,
            pop,
            names,
            progress,
            interrupted,
            _home: home,
            _tables: tables,
        })
    }

    fn play(mut self) -> Result<Report, DemoError> {
        self.progress
            .phase("waiting until every table knows every origin");
        self.settle()?;
        let settled_us = now_us();
        self.watcher
            .board(|board| board.truth.fill(Some(Truth::Good)));
        self.progress
            .phase("steady state: one probe per origin per second");
        self.wait(Duration::from_secs(2) + self.quiet)?;
        let flipped_us = now_us();

        let chosen = self.choose_origins();
        self.progress
            .phase(&format!("{} origins turn bad", chosen.len()));
        self.flip(&chosen, TableVerdict::Down)?;
        self.progress.phase("and they recover");
        self.flip(&chosen, TableVerdict::Up)?;
        self.check_all();

        let victim = self.options.nodes / 2;
        let name = self.pop.agents()[victim].name.clone();
        self.progress.phase(&format!("{name} is killed"));
        self.watcher.board(|board| board.skip[victim] = true);
        let killed_us = now_us();
        self.pop.kill(victim)?;
        self.wait(Duration::from_millis(3_500))?;
        self.check_all();
        self.progress.phase(&format!("{name} is started again"));
        let restarted_us = now_us();
        self.pop.start(victim)?;
        self.wait(Duration::from_millis(3_500))?;
        self.watcher.board(|board| board.skip[victim] = false);
        let calm_us = now_us();
        self.progress.phase("steady state again");
        self.wait(Duration::from_secs(1) + self.quiet)?;
        self.check_all();
        let tables_agree = self.tables_agree()?;
        let end_us = now_us();
        if let Some(name) = self.pop.ended().first() {
            return Err(DemoError::Agent(format!("{name} ended by itself")));
        }

        let log = self.log();
        if let Some(file) = &self.options.trace {
            self.write_trace(file, &log, killed_us)?;
        }
        let times = Times {
            settled_us,
            flipped_us,
            killed_us,
            restarted_us,
            calm_us,
            end_us,
        };
        let report = self.judge(&log, &times, &name, tables_agree);
        self.progress.finish();
        Ok(report)
    }

    /// Waits until all tables show all origins Up.
    fn settle(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + SETTLE_PATIENCE;
        loop {
            let missing = self.count_unlike(TableVerdict::Up);
            if missing == 0 {
                // Those who came later have their share of the checks soon.
                return self.wait(HANDOVERS);
            }
            if Instant::now() > deadline {
                return Err(DemoError::Unsettled(format!(
                    "{missing} entries are not up; the last words of the first agent:\n{}",
                    self.pop.log_tail(0)
                )));
            }
            if let Some(name) = self.pop.ended().first() {
                let index = self
                    .pop
                    .agents()
                    .iter()
                    .position(|agent| agent.name == *name);
                return Err(DemoError::Agent(format!(
                    "{name} ended by itself:\n{}",
                    self.pop.log_tail(index.unwrap_or(0))
                )));
            }
            self.wait(Duration::from_millis(50))?;
        }
    }

    /// Entries over all tables that do not show this verdict.
    fn count_unlike(&self, verdict: TableVerdict) -> usize {
        self.pop
            .agents()
            .iter()
            .map(|agent| match tables::verdicts(&agent.table, &self.names) {
                Ok(verdicts) => verdicts.iter().filter(|shown| **shown != verdict).count(),
                Err(_) => self.names.len(),
            })
            .sum()
    }

    /// Some origins, spread over all. They are few on purpose: before one
    /// turns Down two more agents probe it once, and those second opinions
    /// count as duplicates.
    fn choose_origins(&self) -> Vec<u32> {
        let count = (self.options.origins / ORIGINS_PER_FLIP).clamp(1, FLIPPED_MAX);
        let step = (self.options.origins / count) as usize;
        let chosen = (0..self.options.origins).step_by(step);
        chosen.take(count as usize).collect()
    }

    /// Turns origins bad or good, one after the other within a second, and
    /// waits until all tables have shown it.
    fn flip(&mut self, origins: &[u32], to: TableVerdict) -> Result<(), DemoError> {
        let tables = self.options.nodes;
        let pause = Duration::from_secs(1) / u32::try_from(origins.len()).unwrap_or(1).max(1);
        for (index, &origin) in origins.iter().enumerate() {
            self.watcher
                .board(|board| board.truth[origin as usize] = Some(Truth::Changing));
            let range = origin..origin + 1;
            match to {
                TableVerdict::Up => self.farm.clear_fault(range)?,
                _ if index % 2 == 0 => self.farm.set_fault(range, Fault::Status(503))?,
                _ => self.farm.set_fault(range, Fault::Reset(Phase::Request))?,
            }
            let flip = Flip {
                origin,
                set_us: now_us(),
                to,
                seen_us: vec![None; tables],
            };
            self.watcher.board(|board| board.waiting.push(flip));
            self.wait(pause)?;
        }
        let deadline = Instant::now() + FLIP_PATIENCE;
        while self.watcher.board(|board| !board.waiting.is_empty()) && Instant::now() < deadline {
            self.wait(Duration::from_millis(20))?;
        }
        let truth = match to {
            TableVerdict::Up => Truth::Good,
            _ => Truth::Bad,
        };
        self.watcher.board(|board| {
            for &origin in origins {
                board.truth[origin as usize] = Some(truth);
            }
        });
        Ok(())
    }

    /// At a quiet moment every table must show every origin as it is.
    fn check_all(&self) {
        let truth = self.watcher.board(|board| board.truth.clone());
        let skip = self.watcher.board(|board| board.skip.clone());
        for (agent, _) in self.pop.agents().iter().zip(skip).filter(|(_, skip)| !skip) {
            let shown = tables::verdicts(&agent.table, &self.names);
            let Ok(shown) = shown else { continue };
            for (origin, (truth, shown)) in truth.iter().zip(shown).enumerate() {
                let expected = match truth {
                    Some(Truth::Good) => TableVerdict::Up,
                    Some(Truth::Bad) => TableVerdict::Down,
                    Some(Truth::Changing) | None => continue,
                };
                if shown != expected {
                    let what = format!("the table of {} says {shown}", agent.name);
                    self.watcher
                        .board(|board| board.wrong.insert(origin as u32, what));
                }
            }
        }
    }

    fn tables_agree(&self) -> Result<bool, DemoError> {
        let mut all = Vec::new();
        for agent in self.pop.agents() {
            all.push(tables::verdicts(&agent.table, &self.names).map_err(DemoError::Agent)?);
        }
        Ok(all.windows(2).all(|pair| pair[0] == pair[1]))
    }

    fn log(&self) -> Log {
        let mut hits = Vec::new();
        self.farm.take_hits(&mut hits);
        let probes: Vec<_> = hits
            .iter()
            .map(|hit| Probe {
                origin: hit.origin,
                at_us: hit.at_us,
                ended_us: hit.ended_us,
                who: hit.who,
            })
            .collect();
        Log::new(self.options.origins, &probes)
    }

    /// Every probe by origin and time, in seconds from the kill.
    fn write_trace(&self, file: &Path, log: &Log, killed_us: u64) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
        writeln!(out, "origin,at_s,took_ms,agent")?;
        for (origin, name) in self.names.iter().enumerate() {
            for probe in log.of(origin as u32) {
                writeln!(
                    out,
                    "{name},{:.6},{:.3},{}",
                    (probe.at_us as f64 - killed_us as f64) / 1e6,
                    millis(probe.ended_us.saturating_sub(probe.at_us)),
                    self.farm.who(probe.who)
                )?;
            }
        }
        out.flush()
    }

    fn judge(&self, log: &Log, times: &Times, killed: &str, tables_agree: bool) -> Report {
        let interval_us = micros(INTERVAL);
        let near = |from_us| Window {
            from_us,
            to_us: from_us + micros(HANDOVER),
        };
        let handovers = [near(times.killed_us), near(times.restarted_us)];
        let slack_us = micros(PHASE_SLACK);
        let overlaps = log.overlaps(times.settled_us, interval_us, slack_us, &handovers);
        let quiet = [
            window_of_whole_intervals(times.settled_us, times.flipped_us),
            window_of_whole_intervals(times.flipped_us, times.killed_us),
        ];
        let whole = Window {
            from_us: times.settled_us,
            to_us: times.end_us,
        };
        let takeover = self
            .who(log, killed)
            .map(|who| log.takeover(who, times.killed_us))
            .unwrap_or_default();
        let moved_back = log.moved(times.restarted_us, times.calm_us);
        let (flips, delays_us) = self.flip_delays(log);
        let wrong = self.watcher.board(|board| {
            let late = std::mem::take(&mut board.waiting);
            for flip in late {
                let what = format!("not {} on every table in time", flip.to);
                board.wrong.insert(flip.origin, what);
            }
            board.wrong.clone()
        });
        for (origin, what) in &wrong {
            self.progress
                .note(&format!("{}: {what}", self.names[*origin as usize]));
        }
        Report {
            nodes: self.options.nodes,
            origins: self.options.origins,
            probes: log.count(),
            probes_per_check_interval_p50: log.rate_p50(&quiet, interval_us),
            duplicate_probes: overlaps.duplicates,
            handover_probes: overlaps.handovers,
            moved_checks: takeover.owned.len() as u64 + moved_back,
            killed: killed.to_owned(),
            takeover_gap_ms_p50: millis(percentile(&takeover.gaps_us, 50)),
            takeover_gap_ms_p99: millis(percentile(&takeover.gaps_us, 99)),
            takeover_gap_ms_max: millis(percentile(&takeover.gaps_us, 100)),
            detect_ms: millis(takeover.detected_us.unwrap_or(0)),
            flips,
            flip_to_all_tables_ms_p50: millis(percentile(&delays_us, 50)),
            flip_to_all_tables_ms_p99: millis(percentile(&delays_us, 99)),
            flip_to_all_tables_ms_max: millis(percentile(&delays_us, 100)),
            wrong_verdicts: wrong.len() as u64,
            uncovered_checks: log.uncovered(whole, micros(UNCOVERED_AFTER)),
            tables_agree,
        }
    }

    /// From the answer that completed fall or rise to the last table, for
    /// every flip that all tables showed.
    fn flip_delays(&self, log: &Log) -> (u64, Vec<u64>) {
        let (seen, waiting) = self
            .watcher
            .board(|board| (board.seen.clone(), board.waiting.len()));
        let mut delays_us: Vec<u64> = seen
            .iter()
            .filter_map(|flip| {
                let needed = match flip.to {
                    TableVerdict::Up => RISE,
                    _ => FALL,
                };
                let cause_us = log.ended_nth(flip.origin, flip.set_us, needed)?;
                Some(flip.seen_by_all_us()?.saturating_sub(cause_us))
            })
            .collect();
        delays_us.sort_unstable();
        ((seen.len() + waiting) as u64, delays_us)
    }

    /// The farm's number for an agent.
    fn who(&self, log: &Log, node: &str) -> Option<u32> {
        let agent = user_agent(USER_AGENT_OF_NODE, node);
        log.agents()
            .into_iter()
            .find(|who| self.farm.who(*who) == agent)
    }

    fn wait(&self, duration: Duration) -> Result<(), DemoError> {
        let until = Instant::now() + duration;
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(DemoError::Interrupted);
            }
            self.progress.tick(self.watcher.board(|board| board.tally));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

/// The moments of the story, microseconds of the farm's clock.
struct Times {
    settled_us: u64,
    flipped_us: u64,
    killed_us: u64,
    restarted_us: u64,
    calm_us: u64,
    end_us: u64,
}

/// The longest window of whole intervals that ends here: an origin's phase
/// must not decide whether it got one probe more.
fn window_of_whole_intervals(from_us: u64, to_us: u64) -> Window {
    let interval_us = micros(INTERVAL);
    let length_us = (to_us - from_us) / interval_us * interval_us;
    Window {
        from_us: to_us - length_us,
        to_us,
    }
}

fn origins_file(farm: &Farm, names: &[String]) -> String {
    let mut text = format!(
        "[defaults]\nkind = \"http\"\npath = \"/health\"\ninterval = \"{}s\"\n\
         timeout = \"500ms\"\nrise = {RISE}\nfall = {FALL}\n\n",
        INTERVAL.as_secs()
    );
    for (index, name) in names.iter().enumerate() {
        let address = farm.address(index as u32);
        text.push_str(&format!(
            "[[origin]]\nname = \"{name}\"\naddress = \"{address}\"\n\n"
        ));
    }
    text
}

/// A folder for tables: on the tmpfs that every Linux has, if it is there.
fn tmpfs_folder() -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("watchfire-demo-");
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        builder.tempdir_in(shm)
    } else {
        builder.tempdir()
    }
}

/// A flag that the first Ctrl-C raises, so that agents and folders are
/// cleaned up.
fn watch_for_interrupts() -> std::io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            // Without a handler Ctrl-C ends the demo the hard way.
            if tokio::signal::ctrl_c().await.is_ok() {
                raised.store(true, Ordering::Relaxed);
            }
        });
    });
    Ok(flag)
}

fn now_us() -> u64 {
    clock::now().as_micros()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(us: u64) -> f64 {
    us as f64 / 1_000.0
}
