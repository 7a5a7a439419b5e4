//! What is written down while a scenario runs: the origins' log, which is the
//! record of who probed what when, and the agents' own text, a side record of
//! who saw whom join, suspected, dead.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::analysis::lines::{self, Line};
use crate::analysis::probes::Probe;
use crate::clock::{self, SECOND, Us};

/// How often the files are read on.
const EVERY: Duration = Duration::from_millis(100);

/// How far an agent's clock may be off before its own times are not taken.
const CLOCK_TRUST: Us = 5 * SECOND;

/// Everything written down so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Probes in the order in which they were answered.
    pub(crate) probes: Vec<Probe>,
    /// Per origin, who probes it at last.
    pub(crate) last: Vec<Option<LastProber>>,
    /// Members' changes as agents told them.
    pub(crate) told: Vec<Told>,
    /// Per agent, what it thinks of the others.
    pub(crate) views: Vec<View>,
    /// Lines of agents that tell of a changed verdict to Down.
    pub(crate) downs_told: u64,
}

/// Who probes an origin at last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastProber {
    /// Which agent.
    pub(crate) who: u16,
    /// Since when nobody else has.
    pub(crate) since: Us,
    /// Its last probe.
    pub(crate) last: Us,
}

/// One agent's word on another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// When.
    pub(crate) at: Us,
    /// Who says so.
    pub(crate) by: usize,
    /// Of whom.
    pub(crate) of: usize,
    /// What.
    pub(crate) what: Word,
}

/// What an agent may say of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It is a member now.
    Joined,
    /// It does not answer.
    Suspected,
    /// It does after all.
    Refuted,
    /// It is dead.
    Died,
    /// It left.
    Left,
}

/// What an agent thinks of the others, by its text.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Since when each is a member.
    pub(crate) member: Vec<Option<Us>>,
    /// Who is suspected.
    pub(crate) suspects: BTreeSet<usize>,
    /// When that last changed.
    pub(crate) changed: Us,
    /// Lines from before its last start do not count.
    pub(crate) from: Us,
}

/// The thread that reads the files, and what it has read.
pub(crate) struct Journal {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Begins to read these files, whether they are there yet or not.
    pub(crate) fn start(access_log: PathBuf, logs: Vec<PathBuf>, origins: usize) -> Self {
        let agents = logs.len();
        let record = Arc::new(Mutex::new(Record {
            last: vec![None; origins],
            views: vec![View::of(agents, 0); agents],
            ..Record::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (record, stop) = (record.clone(), stop.clone());
            thread::spawn(move || follow(access_log, logs, &record, &stop))
        };
        Self {
            record,
            stop,
            thread: Some(thread),
        }
    }

    /// What was read so far.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("the reader does not panic")
    }

    /// Forgets what an agent thought: it starts anew.
    pub(crate) fn forget(&self, agent: usize, at: Us) {
        let mut record = self.record();
        let agents = record.views.len();
        record.views[agent] = View::of(agents, at);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

impl View {
    fn of(agents: usize, from: Us) -> Self {
        Self {
            member: vec![None; agents],
            from,
            ..Self::default()
        }
    }
}

impl Record {
    /// Forgets what is older.
    pub(crate) fn forget_before(&mut self, at: Us) {
        self.probes.retain(|probe| probe.at >= at);
        self.told.retain(|told| told.at >= at);
    }

    fn probe(&mut self, probe: Probe) {
        if let Some(last) = self.last.get_mut(probe.origin as usize) {
            *last = Some(match *last {
                Some(before) if before.who == probe.who => LastProber {
                    last: probe.at,
                    ..before
                },
                _ => LastProber {
                    who: probe.who,
                    since: probe.at,
                    last: probe.at,
                },
            });
        }
        self.probes.push(probe);
    }

    fn told(&mut self, told: Told) {
        let Some(view) = self
            .views
            .get_mut(told.by)
            .filter(|view| told.at >= view.from)
        else {
            return;
        };
        if told.of >= view.member.len() {
            return;
        }
        match told.what {
            Word::Joined => view.member[told.of] = Some(told.at),
            Word::Died | Word::Left => view.member[told.of] = None,
            Word::Suspected | Word::Refuted => {}
        }
        if told.what == Word::Suspected {
            view.suspects.insert(told.of);
        } else {
            view.suspects.remove(&told.of);
        }
        view.changed = view.changed.max(told.at);
        self.told.push(told);
    }
}

/// Reads on in all files until told to stop.
fn follow(access_log: PathBuf, logs: Vec<PathBuf>, record: &Mutex<Record>, stop: &AtomicBool) {
    let mut access = Tail::of(access_log);
    let mut texts: Vec<Tail> = logs.into_iter().map(Tail::of).collect();
    loop {
        // One more look after the end was asked for.
        let last = stop.load(Ordering::Relaxed);
        read_probes(&mut access, record);
        for (agent, text) in texts.iter_mut().enumerate() {
            read_text(agent, text, record);
        }
        if last {
            return;
        }
        thread::sleep(EVERY);
    }
}

fn read_probes(access: &mut Tail, record: &Mutex<Record>) {
    let probes: Vec<Probe> = access.lines().lines().filter_map(lines::probe).collect();
    if !probes.is_empty() {
        let mut record = record.lock().expect("no holder panics");
        for probe in probes {
            record.probe(probe);
        }
    }
}

fn read_text(agent: usize, text: &mut Tail, record: &Mutex<Record>) {
    let read = text.lines();
    if read.is_empty() {
        return;
    }
    let now = clock::now();
    let mut record = record.lock().expect("no holder panics");
    for line in read.lines() {
        match lines::agent(line) {
            Some(Line::Member { at, of, what }) => {
                let at = if at.abs_diff(now) > CLOCK_TRUST {
                    now
                } else {
                    at
                };
                record.told(Told {
                    at,
                    by: agent,
                    of,
                    what,
                });
            }
            Some(Line::Down { origins }) => record.downs_told += origins,
            None => {}
        }
    }
}

/// A file that grows.
struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Tail {
    const fn of(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            rest: Vec::new(),
        }
    }

    /// Whole lines that were added since the last look.
    fn lines(&mut self) -> String {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else {
            return String::new();
        };
        let mut bytes = std::mem::take(&mut self.rest);
        if file.read_to_end(&mut bytes).is_err() {
            return String::new();
        }
        let end = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        self.rest = bytes.split_off(end);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
