//! Reads all tables of the POP, as proxies would, and notes what they show
//! when.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use watchfire_table::{Reader, TableVerdict};

use crate::clock;

/// How often the origins that are waited for are looked up in every table.
const LOOK: Duration = Duration::from_millis(2);

/// Every so many looks, all origins are looked up for verdicts that are wrong.
const SWEEP_EVERY: u32 = 50;

/// What the farm does to an origin now, and so what a table may say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// It answers: Down is wrong.
    Good,
    /// It fails: Up is wrong once the flip was seen.
    Bad,
    /// It has just changed: either may show.
    Changing,
}

/// One change of one origin, and when each table showed it.
#[derive(Clone, Debug)]
pub(crate) struct Flip {
    /// Which origin.
    pub(crate) origin: u32,
    /// When the farm changed it, microseconds.
    pub(crate) set_us: u64,
    /// What the tables are to show.
    pub(crate) to: TableVerdict,
    /// When each table first did, microseconds.
    pub(crate) seen_us: Vec<Option<u64>>,
}

impl Flip {
    /// When the last table showed it.
    pub(crate) fn seen_by_all_us(&self) -> Option<u64> {
        self.seen_us
            .iter()
            .copied()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
    }
}

/// What the watcher and the demo share.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Truth by origin; the farm's doing.
    pub(crate) truth: Vec<Option<Truth>>,
    /// Flips that are waited for.
    pub(crate) waiting: Vec<Flip>,
    /// Flips that every table has shown.
    pub(crate) seen: Vec<Flip>,
    /// Origins that a table showed against the truth, with the last table
    /// and verdict.
    pub(crate) wrong: BTreeMap<u32, String>,
    /// Tables of dead agents are not looked at.
    pub(crate) skip: Vec<bool>,
    /// Origins by verdict in the first living table, for the progress line.
    pub(crate) tally: [u64; 3],
}

/// A thread that reads all tables all the time.
pub(crate) struct Watcher {
    board: Arc<Mutex<Board>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to watch these tables for these names.
    pub(crate) fn start(paths: Vec<PathBuf>, names: Vec<String>) -> Self {
        let board = Arc::new(Mutex::new(Board {
            truth: vec![None; names.len()],
            skip: vec![false; paths.len()],
            ..Board::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (board, stop) = (board.clone(), stop.clone());
            thread::spawn(move || watch(&paths, &names, &board, &stop))
        };
        Self {
            board,
            stop,
            thread: Some(thread),
        }
    }

    /// Looks at or changes the board.
    pub(crate) fn board<T>(&self, with: impl FnOnce(&mut Board) -> T) -> T {
        with(
            &mut self
                .board
                .lock()
                .expect("no thread panics while it holds the board"),
        )
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell that the board does not say.
            let _ = thread.join();
        }
    }
}

/// All verdicts of one table, by origin.
pub(crate) fn verdicts(
    path: &std::path::Path,
    names: &[String],
) -> Result<Vec<TableVerdict>, String> {
    let reader = Reader::open(path).map_err(|e| e.to_string())?;
    Ok(names
        .iter()
        .map(|name| look_up(&reader, name).unwrap_or_default())
        .collect())
}

fn look_up(reader: &Reader, name: &str) -> Option<TableVerdict> {
    let found = reader.get(name.as_bytes(), clock::now_ns());
    Some(found.entry()?.verdict)
}

fn watch(paths: &[PathBuf], names: &[String], board: &Mutex<Board>, stop: &AtomicBool) {
    let mut readers: Vec<Option<Reader>> = paths.iter().map(|_| None).collect();
    let mut round = 0u32;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        round = round.wrapping_add(1);
        for (reader, path) in readers.iter_mut().zip(paths) {
            if reader.is_none() {
                *reader = Reader::open(path).ok();
            }
        }
        let mut board = board
            .lock()
            .expect("no thread panics while it holds the board");
        look_for_flips(&mut board, &readers, names);
        if round.is_multiple_of(SWEEP_EVERY) {
            sweep(&mut board, &readers, names);
        }
    }
}

fn look_for_flips(board: &mut Board, readers: &[Option<Reader>], names: &[String]) {
    let skip = board.skip.clone();
    for flip in &mut board.waiting {
        let name = &names[flip.origin as usize];
        for (table, reader) in readers.iter().enumerate() {
            if flip.seen_us[table].is_some() || skip[table] {
                continue;
            }
            let verdict = reader.as_ref().and_then(|reader| look_up(reader, name));
            if verdict == Some(flip.to) {
                flip.seen_us[table] = Some(clock::now().as_micros());
            }
        }
    }
    let (seen, waiting) = std::mem::take(&mut board.waiting)
        .into_iter()
        .partition(|flip: &Flip| flip.seen_by_all_us().is_some());
    board.waiting = waiting;
    board.seen.extend::<Vec<Flip>>(seen);
}

/// Looks up every origin in every table for verdicts that cannot be right.
fn sweep(board: &mut Board, readers: &[Option<Reader>], names: &[String]) {
    let mut counted = false;
    let mut tally = [0; 3];
    for (table, reader) in readers.iter().enumerate() {
        let Some(reader) = reader.as_ref().filter(|_| !board.skip[table]) else {
            continue;
        };
        for (origin, name) in names.iter().enumerate() {
            let verdict = look_up(reader, name).unwrap_or_default();
            let wrong = matches!(
                (board.truth[origin], verdict),
                (Some(Truth::Good), TableVerdict::Down) | (Some(Truth::Bad), TableVerdict::Up)
            );
            if wrong {
                let what = format!("table {} says {verdict}", table + 1);
                board.wrong.insert(origin as u32, what);
            }
            if !counted {
                tally[match verdict {
                    TableVerdict::Up => 0,
                    TableVerdict::Down => 1,
                    _ => 2,
                }] += 1;
            }
        }
        if !counted {
            board.tally = tally;
        }
        counted = true;
    }
}
