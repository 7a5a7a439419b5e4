//! The flight recorder: what became of each origin, POP-wide, kept for whoever asks
//! later, written for whoever collects it, and said in the log.
//!
//! The gossip thread hands over what it saw and never waits; a thread of its own
//! does all that may block. What finds no room is counted.

mod journal;
mod lines;
mod packed;
mod probes;
mod record;
mod told;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, after, bounded, never};
use crossbeam::select;
use watchfire_wire::{CheckId, Verdict};

pub(crate) use self::journal::{Journal, Query};
use self::lines::Lines;
pub(crate) use self::probes::{AnswerRecord, ProbeRecord, told};
pub(crate) use self::record::{Record, Said};
use self::told::Told;
use crate::clock;
use crate::config::Events;
use crate::gossip::{reason_key, reason_words};
use crate::limits::{HAPPENINGS, HISTORY_BYTES, TRANSITIONS};

/// How often it is tried again to write what waits, and to say the log's summary.
const EVERY: Duration = Duration::from_millis(250);

/// What the gossip thread saw.
#[derive(Debug)]
pub(crate) enum Happening {
    /// What the POP holds of a check changed its verdict.
    Turned(Box<Turned>),
    /// A round of second opinions is over.
    Opinions(Box<(CheckId, Vec<Said>)>),
}

/// A change of verdict.
#[derive(Debug)]
pub(crate) struct Turned {
    pub(crate) at_ms: u64,
    pub(crate) check: CheckId,
    pub(crate) origins: Vec<Arc<str>>,
    /// What it was; nothing if this agent saw it for the first time since its start
    /// or the check's definition: history may know more.
    pub(crate) from: Option<Verdict>,
    pub(crate) to: Verdict,
    pub(crate) reason: u8,
    pub(crate) since_ms: u64,
    pub(crate) latency_us: u32,
    pub(crate) owner: String,
    /// This agent decided it.
    pub(crate) mine: bool,
}

/// What whoever asks, and whoever tells, holds of the recorder.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    sender: Sender<Happening>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    journal: Mutex<Journal>,
    /// What found no room on its way to the thread.
    lost: AtomicU64,
    /// Events that found no room to wait for the file.
    unwritten: AtomicU64,
}

/// The thread; dropping it ends it, with all that was told written.
pub(crate) struct Recording {
    quit: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.quit.try_send(());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

impl Recorder {
    /// Reads what an earlier start left in `history`, and goes on from there.
    pub(crate) fn start(
        history: PathBuf,
        events: Option<&Events>,
    ) -> std::io::Result<(Self, Recording)> {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = bounded(HAPPENINGS);
        let (quit, quits) = bounded(1);
        let mut thread = Thread {
            shared: Arc::clone(&shared),
            history: Lines::new(&history, HISTORY_BYTES, 1),
            events: events.map(|events| {
                let lines = Lines::new(&events.file, events.max_bytes, events.keep);
                (lines, events.all)
            }),
            told: Told::default(),
            opinions: HashMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || {
                thread.load(&history);
                thread.run(&receiver, &quits);
            })?;
        let recording = Recording {
            quit,
            thread: Some(thread),
        };
        Ok((Self { sender, shared }, recording))
    }

    /// Takes what happened, or counts it as lost.
    pub(crate) fn tell(&self, happening: Happening) {
        if self.sender.try_send(happening).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is kept.
    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.shared.journal()
    }

    /// What found no room: on its way here, and on its way to the file.
    pub(crate) fn lost(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.shared.lost), read(&self.shared.unwritten))
    }
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Thread {
    shared: Arc<Shared>,
    history: Lines,
    events: Option<(Lines, bool)>,
    told: Told,
    /// What was said of checks that have not turned since.
    opinions: HashMap<CheckId, Vec<Said>>,
}

impl Thread {
    /// Takes up what an earlier start wrote. A line that cannot be read is one that
    /// a crash cut, or of another version: the others count.
    fn load(&self, history: &Path) {
        let mut older = history.as_os_str().to_owned();
        older.push(".1");
        let mut journal = self.shared.journal();
        for file in [Path::new(&older), history] {
            let text = fs::read_to_string(file).unwrap_or_default();
            for line in text.lines() {
                if let Ok(record) = serde_json::from_str(line) {
                    journal.push(&record);
                }
            }
        }
    }

    fn run(&mut self, receiver: &Receiver<Happening>, quits: &Receiver<()>) {
        loop {
            // Nothing wakes an agent at which nothing happens.
            let again = if self.is_done() {
                never()
            } else {
                after(EVERY)
            };
            let mut last = false;
            select! {
                recv(receiver) -> happening => match happening {
                    Ok(happening) => self.take(happening),
                    Err(_) => last = true,
                },
                recv(quits) -> _ => last = true,
                recv(again) -> _ => {}
            }
            while let Ok(happening) = receiver.try_recv() {
                self.take(happening);
            }
            self.flush();
            if last {
                return;
            }
        }
    }

    /// Whether all that was told is written and said.
    fn is_done(&self) -> bool {
        let written = |lines: &Lines| !lines.has_waiting();
        self.told.is_said()
            && written(&self.history)
            && self
                .events
                .as_ref()
                .is_none_or(|(events, _)| written(events))
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Opinions(opinions) => {
                let (check, said) = *opinions;
                if self.opinions.len() >= TRANSITIONS {
                    self.opinions.clear();
                }
                self.opinions.insert(check, said);
            }
            Happening::Turned(turned) => self.turned(&turned),
        }
    }

    fn turned(&mut self, turned: &Turned) {
        let mut opinions = self.opinions.remove(&turned.check).unwrap_or_default();
        if !turned.mine || turned.to != Verdict::Down {
            opinions.clear();
        }
        for origin in &turned.origins {
            let known = self.shared.journal().of(origin).next_back();
            let known = known.map(|it| it.to);
            let from = match turned.from {
                Some(from) => from.as_str().to_owned(),
                None => known.unwrap_or_else(|| Verdict::Unknown.as_str().to_owned()),
            };
            if from == turned.to.as_str() {
                continue;
            }
            let record = Record {
                id: format!("{}-{}-{}", turned.check, turned.owner, turned.since_ms),
                at_ms: turned.at_ms,
                since_ms: turned.since_ms,
                origin: origin.to_string(),
                from,
                to: turned.to.as_str().to_owned(),
                reason: reason_key(turned.reason).to_owned(),
                owner: turned.owner.clone(),
                latency_us: turned.latency_us,
                opinions: opinions.clone(),
            };
            self.say(&record, turned);
            let line = record.line();
            if let Some((events, all)) = &mut self.events
                && (turned.mine || *all)
            {
                events.push(line.clone());
            }
            self.history.push(line);
            self.shared.journal().push(&record);
        }
    }

    /// Who decided says it for the POP.
    fn say(&mut self, record: &Record, turned: &Turned) {
        if !turned.mine {
            tracing::debug!(
                origin = record.origin,
                from = record.from,
                to = record.to,
                reason = record.reason,
                owner = record.owner,
                "verdict changed"
            );
            return;
        }
        if !self.told.has_line(turned.at_ms, &record.to, &record.reason) {
            return;
        }
        let because = reason_words(turned.reason);
        if turned.to == Verdict::Down {
            tracing::warn!(
                origin = record.origin, from = record.from, to = record.to,
                reason = record.reason, because, check = %turned.check, "verdict changed"
            );
        } else {
            tracing::info!(
                origin = record.origin, from = record.from, to = record.to,
                reason = record.reason, because, check = %turned.check, "verdict changed"
            );
        }
    }

    fn flush(&mut self) {
        if let Some((count, causes)) = self.told.summary(clock::wall_ms()) {
            tracing::warn!(
                count,
                causes,
                "more verdicts changed, without a line for each"
            );
        }
        self.history.flush();
        if let Some((events, _)) = &mut self.events {
            events.flush();
            self.shared.unwritten.store(events.lost, Ordering::Relaxed);
        }
    }
}
