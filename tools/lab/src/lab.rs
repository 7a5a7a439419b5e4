//! One run: everything that lives while a scenario is played, and the words
//! that its steps have in common.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::agents::{Agents, Exit};
use crate::analysis::probes::Log;
use crate::analysis::span::Span;
use crate::analysis::stats;
use crate::canary::Canary;
use crate::clock::{self, SECOND, Us};
use crate::faults::Faults;
use crate::journal::Journal;
use crate::net::{self, Net};
use crate::observe::{Observer, Truth};
use crate::origins::Origins;
use crate::packets::Packets;
use crate::sampler::{Pids, Sampler};
use crate::scenario::{Pick, Scenario};
use crate::shell;

/// Where runs keep their files: a tmpfs, since tables must lie on one.
pub(crate) const ROOM: &str = "/dev/shm";

/// How often a step that waits looks.
const LOOK: Duration = Duration::from_millis(20);

/// How long the origins' log may lag behind: nginx's flush and the reader's
/// pause.
pub(crate) const LAG: Us = 400_000;

/// Names for twins.
const SPARE: usize = 1;

/// One run of one scenario.
pub(crate) struct Lab {
    pub(crate) scenario: Scenario,
    pub(crate) dir: PathBuf,
    pub(crate) net: Net,
    // In the order in which they must end: what asks before what is asked.
    sampler: Sampler,
    pub(crate) faults: Faults,
    pub(crate) agents: Agents,
    pub(crate) origins: Origins,
    pub(crate) observer: Observer,
    pub(crate) journal: Journal,
    pub(crate) canary: Canary,
    pub(crate) packets: Packets,
    pids: Pids,
    rng: ChaCha8Rng,
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) timeline: Vec<(Us, String)>,
    pub(crate) exits: Vec<Exit>,
    /// When the run began.
    pub(crate) begun: Us,
    /// When the last step that did something ended.
    pub(crate) acted: Us,
    /// Since when what was last waited for was so.
    pub(crate) reached: Us,
    /// What was waited for in vain: the steps after it would measure another
    /// POP than they mean.
    pub(crate) missed: Option<String>,
    /// Origins that an operator took out, without an end.
    pub(crate) taken_out: Vec<usize>,
    /// Parts of what was to be measured in which the machine stood still.
    pub(crate) voided: u64,
    /// Whether a measurement was voided as a whole.
    pub(crate) void: bool,
}

/// Whether a step that waits is done.
pub(crate) enum Wait<T> {
    /// Not yet.
    On,
    /// Yes, with this result.
    Done(T),
}

impl Lab {
    /// Makes namespaces, files, origins and all that watches; starts no agent.
    pub(crate) fn set_up(scenario: &Scenario, program: &Path, id: &str, seed: u64) -> Result<Self> {
        let pop = &scenario.pop;
        let dir = Path::new(ROOM).join(id);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let all = pop.agents + SPARE;
        let net = Net::make(id, pop.layout, all)?;
        let packets = Packets::start(&net, all)?;
        let origins = Origins::start(&net, &dir, pop.checks)?;
        let mut agents = Agents::prepare(program, &dir, &net, pop, SPARE)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for (pick, offset) in &pop.clocks {
            for agent in draw(&mut rng, pick, pop.agents) {
                agents.set_clock(agent, offset);
            }
        }
        let faults = Faults::new(id, &dir);
        for agent in 0..all {
            fs::create_dir_all(agents.table_dir(agent))?;
        }
        if let Some((pick, bytes)) = &pop.small_tmpfs {
            for agent in draw(&mut rng, pick, pop.agents) {
                mount_small(&agents.table_dir(agent), *bytes)?;
            }
        }
        let tables = (0..all).map(|agent| agents.table(agent)).collect();
        let logs = (0..all).map(|agent| agents.log(agent)).collect();
        let pids: Pids = Arc::new(Mutex::new(vec![None; all]));
        let observer = Observer::start(tables, pop.checks);
        let configured = pop.configured.unwrap_or(pop.checks);
        observer.board().set_truth(
            configured..pop.checks,
            Truth {
                configured: false,
                good: true,
                settled: false,
            },
        );
        Ok(Self {
            sampler: Sampler::start(packets.clone(), pids.clone()),
            journal: Journal::start(origins.log(), logs, pop.checks),
            observer,
            canary: Canary::start(),
            scenario: scenario.clone(),
            dir,
            net,
            faults,
            agents,
            origins,
            packets,
            pids,
            rng,
            metrics: BTreeMap::new(),
            timeline: Vec::new(),
            exits: Vec::new(),
            begun: clock::now(),
            acted: clock::now(),
            reached: 0,
            missed: None,
            taken_out: Vec::new(),
            voided: 0,
            void: false,
        })
    }

    /// Says what happens, for whoever watches and for the report.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        let (now, text) = (clock::now(), text.into());
        eprintln!("  {:7.2} s  {text}", clock::seconds(now - self.begun));
        self.timeline.push((now, text));
    }

    /// Notes a metric of a step.
    pub(crate) fn metric(&mut self, step: &str, what: &str, value: f64) {
        self.metrics.insert(format!("{step}.{what}"), value);
    }

    /// Notes the percentiles of a sample, if there is any.
    pub(crate) fn sample(&mut self, step: &str, what: &str, sample: &[f64]) {
        for (figure, value) in stats::summary(sample) {
            self.metric(step, &format!("{what}.{figure}"), value);
        }
    }

    /// The agents that are meant.
    pub(crate) fn pick_agents(&mut self, pick: &Pick) -> Vec<usize> {
        draw(&mut self.rng, pick, self.scenario.pop.agents)
    }

    /// The origins that are meant.
    pub(crate) fn pick_origins(&mut self, pick: &Pick) -> Vec<usize> {
        draw(&mut self.rng, pick, self.scenario.pop.checks)
    }

    /// A number below a bound, from the run's seed.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound.max(1))
    }

    /// Tells all that watch which agents run now.
    pub(crate) fn agents_changed(&mut self) {
        let running = self.agents.running();
        {
            let mut pids = self.pids.lock().expect("no holder panics");
            for (agent, pid) in pids.iter_mut().enumerate() {
                *pid = self.agents.pid(agent);
            }
        }
        self.observer.board().set_running(&running);
        self.acted = clock::now();
    }

    /// Starts an agent, and lets its old words count no more.
    pub(crate) fn start_agent(&mut self, agent: usize) -> Result<()> {
        self.packets.unsilence(agent)?;
        self.journal.forget(agent, clock::now());
        self.agents.start(agent)
    }

    /// Looks again and again until something is so, or time is up (nothing).
    pub(crate) fn wait<T>(
        &mut self,
        within: Duration,
        mut look: impl FnMut(&mut Self) -> Result<Wait<T>>,
    ) -> Result<Option<T>> {
        let until = clock::now() + clock::us(within);
        let mut told = clock::now();
        loop {
            if let Wait::Done(result) = look(self)? {
                return Ok(Some(result));
            }
            self.note_exits();
            let now = clock::now();
            if now > until {
                return Ok(None);
            }
            if now > told + 10 * SECOND {
                told = now;
                let state = self.state();
                self.say(format!("... {state}"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, length: Duration) -> Result<()> {
        self.wait(length, |_| Ok(Wait::<()>::On)).map(|_| ())
    }

    /// Notes agents that ended by themselves.
    pub(crate) fn note_exits(&mut self) {
        let exits = self.agents.exits();
        if exits.is_empty() {
            return;
        }
        for exit in &exits {
            self.say(format!(
                "n{} ended by itself ({}): {}",
                exit.agent, exit.how, exit.said
            ));
        }
        self.exits.extend(exits);
        let acted = self.acted;
        self.agents_changed();
        self.acted = acted;
    }

    /// One line on how the POP is.
    pub(crate) fn state(&self) -> String {
        let running = self.agents.running();
        let record = self.journal.record();
        let views = running.iter().map(|&agent| &record.views[agent]);
        let suspects: usize = views.clone().map(|view| view.suspects.len()).sum();
        let least = views
            .map(|view| view.member.iter().flatten().count() + 1)
            .min()
            .unwrap_or(0);
        let second = Span {
            from: clock::now() - LAG - SECOND,
            to: clock::now() - LAG,
        };
        let recent = record
            .probes
            .iter()
            .rev()
            .take_while(|probe| probe.at >= second.from);
        let probes = recent.filter(|probe| second.holds(probe.at)).count();
        drop(record);
        let board = self.observer.board();
        let (up, down) = running.iter().fold((0, 0), |(up, down), &agent| {
            (up + board.tally[agent][0], down + board.tally[agent][1])
        });
        format!(
            "{} agents, {least} known to the least informed, {suspects} suspicions, \
             {probes} probes/s, tables: {up} up, {down} down, {} false Downs",
            running.len(),
            board.false_downs.len()
        )
    }

    /// The origins' log so far.
    pub(crate) fn log(&self) -> Log {
        Log::new(self.scenario.pop.checks, &self.journal.record().probes)
    }

    /// Waits until everything up to now is in the origins' log.
    pub(crate) fn let_the_log_catch_up(&mut self) -> Result<()> {
        self.pass(Duration::from_micros(LAG))
    }

    /// Whether the machine stood still in a span; counted if it did.
    pub(crate) fn voids(&mut self, span: Span) -> bool {
        let met = self.canary.voids().iter().any(|void| void.meets(span));
        self.voided += u64::from(met);
        met
    }

    /// From one probe to the next.
    pub(crate) fn interval(&self) -> Us {
        clock::us(self.scenario.pop.interval.0)
    }

    /// What was sampled once a second.
    pub(crate) fn samples(&self) -> Vec<crate::sampler::Sample> {
        self.sampler.samples()
    }
}

/// The indices that are meant, of so many.
fn draw(rng: &mut ChaCha8Rng, pick: &Pick, many: usize) -> Vec<usize> {
    pick.of(many, |bound| rng.random_range(0..bound.max(1)))
}

fn mount_small(dir: &Path, bytes: u64) -> Result<()> {
    let size = format!("size={bytes}");
    let dir = dir.display().to_string();
    shell::run(&["mount", "-t", "tmpfs", "-o", &size, "wflab", &dir]).map(|_| ())
}

/// A name for a run of this process that no other has.
pub(crate) fn run_id(run: usize) -> String {
    format!("{}{}x{run}", net::PREFIX, std::process::id())
}
