//! The observer: reads all tables of the POP as proxies do, every millisecond
//! while something is waited for.
//!
//! It is cheap, since it shares the processors with what it watches: a table
//! whose count of writes stands still is not looked into, only origins that are
//! waited for are looked up at once, everything else a few times a second, and
//! after each look it rests four times as long as the look took.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use watchfire_table::{Lookup, Reader, TableVerdict, monotonic_ns};

use crate::agents::origin_name;
use crate::canary;
use crate::clock::{self, Us};
use crate::procs;

/// The observer's priority among real-time threads.
const PRIORITY: &str = "10";

/// Pause between two looks while something is waited for.
const PAUSE: Duration = Duration::from_millis(1);

/// Pause while nothing is.
const IDLE: Duration = Duration::from_millis(10);

/// How many times longer than a look the pause after it is, at least.
const REST: u32 = 4;

/// How often everything in changed tables is looked up.
const SWEEP: Us = 250_000;

/// How often a table that is not there yet is looked for.
const OPEN: Us = 50_000;

/// What the tables show, and what is waited for.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// What each origin does.
    pub(crate) truth: Vec<Truth>,
    /// Tables that are not looked into: their agents do not run.
    pub(crate) skip: Vec<bool>,
    /// Changes that are waited for, in the order in which they were asked for.
    pub(crate) awaited: Vec<Awaited>,
    /// Per table, those that it has not shown yet.
    pending: Vec<Vec<usize>>,
    /// Origins that answer and are Down in a table, with the first such moment
    /// and table.
    pub(crate) false_downs: BTreeMap<u32, (Us, usize)>,
    /// Origins whose verdict a table had and lost, though nothing changed.
    pub(crate) lost: BTreeMap<u32, (Us, usize)>,
    /// Per table, origins that it shows otherwise than they are, as of the last
    /// sweep; nothing before its first.
    pub(crate) wrong: Vec<Option<u32>>,
    /// Per table, origins by verdict: up, down, anything else.
    pub(crate) tally: Vec<[u32; 3]>,
    /// Sweeps so far.
    pub(crate) sweeps: u64,
    /// Something of the above changed: look at everything again.
    again: bool,
}

/// What an origin does, and so what a table may say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    /// Whether it is configured at all.
    pub(crate) configured: bool,
    /// Whether it answers.
    pub(crate) good: bool,
    /// Whether it has done so for long enough that all tables must show it.
    pub(crate) settled: bool,
}

/// A change of one origin, and when each table showed it.
#[derive(Clone, Debug)]
pub(crate) struct Awaited {
    /// Which origin.
    pub(crate) origin: u32,
    /// What the tables are to show.
    pub(crate) to: TableVerdict,
    /// When each table did; those of agents that do not run never do.
    pub(crate) seen: Vec<Option<Us>>,
    /// Tables that have not shown it.
    pub(crate) missing: usize,
}

/// The thread that looks, and what it saw.
pub(crate) struct Observer {
    board: Arc<Mutex<Board>>,
    stop: Arc<AtomicBool>,
    cpu_ns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Begins to look at these tables, whether they are there yet or not.
    pub(crate) fn start(paths: Vec<PathBuf>, origins: usize) -> Self {
        let unsettled = Truth {
            configured: true,
            good: true,
            settled: true,
        };
        let tables = paths.len();
        let board = Arc::new(Mutex::new(Board {
            truth: vec![unsettled; origins],
            skip: vec![true; tables],
            pending: vec![Vec::new(); tables],
            wrong: vec![None; tables],
            tally: vec![[0; 3]; tables],
            ..Board::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let thread = {
            let (board, stop, cpu_ns) = (board.clone(), stop.clone(), cpu_ns.clone());
            thread::spawn(move || look(paths, origins, &board, &stop, &cpu_ns))
        };
        Self {
            board,
            stop,
            cpu_ns,
            thread: Some(thread),
        }
    }

    /// What was seen so far.
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("the observer does not panic")
    }

    /// CPU that looking took so far, nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell that the board does not say.
            let _ = thread.join();
        }
    }
}

impl Board {
    /// Waits for these origins to be shown like this by every table that is
    /// looked into. What was waited for before is forgotten.
    pub(crate) fn await_change(&mut self, origins: &[usize], to: TableVerdict) {
        let tables: Vec<usize> = (0..self.skip.len()).filter(|&t| !self.skip[t]).collect();
        self.awaited = origins
            .iter()
            .map(|&origin| Awaited {
                origin: origin as u32,
                to,
                seen: vec![None; self.skip.len()],
                missing: tables.len(),
            })
            .collect();
        for pending in &mut self.pending {
            pending.clear();
        }
        for table in tables {
            self.pending[table] = (0..origins.len()).collect();
        }
        self.again = true;
    }

    /// Whether every table has shown everything that is waited for.
    pub(crate) fn all_shown(&self) -> bool {
        self.awaited.iter().all(|awaited| awaited.missing == 0)
    }

    /// Says what origins do from now on.
    pub(crate) fn set_truth(&mut self, origins: impl IntoIterator<Item = usize>, truth: Truth) {
        for origin in origins {
            self.truth[origin] = truth;
        }
        self.again = true;
    }

    /// Says which agents run, and so which tables count.
    pub(crate) fn set_running(&mut self, running: &[usize]) {
        for (table, skip) in self.skip.iter_mut().enumerate() {
            *skip = !running.contains(&table);
        }
        self.again = true;
    }

    /// Whether every table that counts was looked into and shows what every
    /// origin does.
    pub(crate) fn all_right(&self) -> bool {
        let counted = self
            .wrong
            .iter()
            .zip(&self.skip)
            .filter(|(_, skip)| !**skip);
        !self.again && counted.into_iter().all(|(wrong, _)| *wrong == Some(0))
    }

    fn note(&mut self, table: usize, readers: &[Option<Table>], names: &Names) {
        let Some(Some(open)) = readers.get(table) else {
            return;
        };
        let now_ns = monotonic_ns();
        let mut pending = std::mem::take(&mut self.pending[table]);
        pending.retain(|&index| {
            let awaited = &mut self.awaited[index];
            if names.look_up(&open.reader, awaited.origin as usize, now_ns) != Some(awaited.to) {
                return true;
            }
            awaited.seen[table] = Some(clock::now());
            awaited.missing = awaited.missing.saturating_sub(1);
            false
        });
        self.pending[table] = pending;
    }

    /// Looks everything up in one table.
    fn sweep(&mut self, table: usize, open: &mut Table, names: &Names) {
        let (now, now_ns) = (clock::now(), monotonic_ns());
        let mut wrong = 0;
        let mut tally = [0; 3];
        for (origin, before) in open.shown.iter_mut().enumerate() {
            let truth = self.truth[origin];
            let shown = names.look_up(&open.reader, origin, now_ns);
            let place = match shown {
                Some(TableVerdict::Up) => 0,
                Some(TableVerdict::Down) => 1,
                _ => 2,
            };
            if truth.configured {
                tally[place] += 1;
                let right = if truth.good { 0 } else { 1 };
                wrong += u32::from(place != right);
                if truth.settled && truth.good && place == 1 {
                    self.false_downs
                        .entry(origin as u32)
                        .or_insert((now, table));
                }
                if truth.settled && place == 2 && *before != 2 {
                    self.lost.entry(origin as u32).or_insert((now, table));
                }
            }
            *before = place;
        }
        self.wrong[table] = Some(wrong);
        self.tally[table] = tally;
    }
}

/// The origins' names.
struct Names(Vec<String>);

impl Names {
    fn of(origins: usize) -> Self {
        Self((0..origins).map(origin_name).collect())
    }

    /// What a table says of an origin; nothing if it is not in it.
    fn look_up(&self, reader: &Reader, origin: usize, now_ns: u64) -> Option<TableVerdict> {
        let name = &self.0[origin];
        loop {
            match reader.get(name.as_bytes(), now_ns) {
                Lookup::Found { entry, .. } => return Some(entry.verdict),
                Lookup::NotInTable { .. } => return None,
                Lookup::Busy { .. } => {}
            }
        }
    }
}

/// One table that is open.
struct Table {
    reader: Reader,
    writes: u64,
    /// Written since the last sweep.
    dirty: bool,
    /// What it showed at the last sweep, as places in a tally.
    shown: Vec<usize>,
}

fn look(
    paths: Vec<PathBuf>,
    origins: usize,
    board: &Mutex<Board>,
    stop: &AtomicBool,
    cpu_ns: &AtomicU64,
) {
    canary::hurry(PRIORITY);
    let names = Names::of(origins);
    let mut tables: Vec<Option<Table>> = paths.iter().map(|_| None).collect();
    let mut opened = 0;
    let mut swept = 0;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let now = clock::now();
        if now > opened + OPEN {
            opened = now;
            open_new(&paths, &mut tables, origins);
        }
        let mut held = board.lock().expect("no holder panics");
        let again = held.again;
        for table in 0..tables.len() {
            let skip = held.skip[table];
            let Some(open) = tables[table].as_mut().filter(|_| !skip) else {
                continue;
            };
            let writes = open.reader.writes();
            let changed = writes != open.writes;
            open.writes = writes;
            open.dirty |= changed || again;
            if (changed || again) && !held.pending[table].is_empty() {
                held.note(table, &tables, &names);
            }
        }
        held.again = false;
        if again || now > swept + SWEEP {
            swept = now;
            held.sweeps += 1;
            for (table, open) in tables.iter_mut().enumerate() {
                let skip = held.skip[table];
                if let Some(open) = open.as_mut().filter(|open| open.dirty && !skip) {
                    open.dirty = false;
                    // A lookup follows a table that moved; its count is another.
                    held.sweep(table, open, &names);
                }
            }
            cpu_ns.store(procs::own_thread_ns(), Ordering::Relaxed);
        }
        let pause = if held.all_shown() { IDLE } else { PAUSE };
        drop(held);
        thread::sleep(pause.max(begun.elapsed() * REST));
    }
}

fn open_new(paths: &[PathBuf], tables: &mut [Option<Table>], origins: usize) {
    for (path, table) in paths.iter().zip(tables) {
        if table.is_none()
            && let Ok(reader) = Reader::open(path)
        {
            *table = Some(Table {
                reader,
                writes: 0,
                dirty: true,
                shown: vec![2; origins],
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_counts_running_tables_only() {
        let mut board = Board {
            skip: vec![false, true, false],
            pending: vec![Vec::new(); 3],
            ..Board::default()
        };
        board.await_change(&[4, 5], TableVerdict::Down);
        assert_eq!(board.awaited[1].missing, 2);
        assert!(board.pending[1].is_empty() && board.pending[2].len() == 2);
        assert!(!board.all_shown());
    }
}
