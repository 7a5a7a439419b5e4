//! The handle that holds the probe threads: checks go in, reports come out.
//!
//! Nothing here waits. Commands that find no room stay in the handle, merged
//! by check, until the next flush; reports that find no room stay with their
//! thread, merged by check, until they are polled.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use watchfire_probe_core::engine::{Inherited, Pacing, Report};
use watchfire_probe_core::stream::tls::TlsContext;
use watchfire_probe_core::tape::Recorder;
use watchfire_probe_core::{CheckSpec, Outcome, Phases, Stats, Tenant};
use watchfire_wire::message::replica::Answer;
use watchfire_wire::{CheckId, First, Time, Unmeasured};

use crate::clock;
use crate::error::StartError;
use crate::limits::{ASKS_WAITING, STUCK_AFTER};
use crate::mailbox::{Command, Mailbox};
use crate::options::{Backend, Options};
use crate::paces::Paces;
use crate::start::{self, Started};
use crate::statistics::{Ailment, Statistics};
use crate::tls_roots::Trust;
use crate::worker::Waker;

/// The probe threads.
///
/// Dropping it ends the threads, as [`shutdown`](Self::shutdown) does.
#[derive(Debug)]
pub struct Prober {
    lanes: Vec<Lane>,
    paces: Paces,
    backend: Backend,
    fallback: Option<String>,
    /// Questions that found no room anywhere.
    refused: VecDeque<Report>,
    /// The lane to poll first.
    turn: usize,
}

/// One thread, and what waits to be told to it.
#[derive(Debug)]
struct Lane {
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
    pending: HashMap<CheckId, Pending>,
    /// The checks of `pending`, in the order in which they got there.
    order: VecDeque<CheckId>,
    asks: VecDeque<Command>,
    /// What the thread is to trust by, if it was not told yet.
    trust: Option<Arc<TlsContext>>,
}

/// What one check's thread is to be told: only the last word counts.
#[derive(Debug, Default)]
struct Pending {
    /// Stop it; before the start, if there is one.
    stop: bool,
    start: Option<Command>,
    retarget: Option<Command>,
    attend: bool,
}

impl Prober {
    /// Starts the threads. `waker` is called on them whenever there is
    /// something to [`poll`](Self::poll); it must not block.
    ///
    /// # Errors
    ///
    /// What is wrong with the options or the host, and the way out. Nothing is
    /// left running.
    pub fn start(options: Options, waker: Waker) -> Result<Self, StartError> {
        Self::start_paced(options, waker, Pacing::Scheduled)
    }

    /// Whether the driver that the options insist on works here. Nothing is left
    /// running.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn try_backend(options: &Options) -> Result<(), StartError> {
        start::choose(options).map(drop)
    }

    pub(crate) fn start_paced(
        options: Options,
        waker: Waker,
        pacing: Pacing,
    ) -> Result<Self, StartError> {
        options.validate()?;
        let paces = Paces::new(&options);
        let Started {
            threads,
            backend,
            fallback,
        } = start::start(&options, &waker, pacing)?;
        let lanes = threads
            .into_iter()
            .map(|(mailbox, thread)| Lane {
                mailbox,
                thread: Some(thread),
                pending: HashMap::new(),
                order: VecDeque::new(),
                asks: VecDeque::new(),
                trust: None,
            })
            .collect();
        Ok(Self {
            lanes,
            paces,
            backend,
            fallback,
            refused: VecDeque::new(),
            turn: 0,
        })
    }

    /// Probes a check from now on, under `generation`, the first time at `first`.
    /// Takes effect with the next [`flush`](Self::flush).
    ///
    /// A check that is probed already goes on as it is and inherits nothing.
    /// The spec must be [valid](CheckSpec::validate).
    pub fn start_check(
        &mut self,
        spec: Arc<CheckSpec>,
        generation: u32,
        inherit: Option<Inherited>,
        first: First,
    ) {
        self.start_check_for(Tenant::NOBODY, spec, generation, inherit, first);
    }

    /// The same for a check of this tenant, who shares places and allowances
    /// with others.
    pub fn start_check_for(
        &mut self,
        tenant: Tenant,
        spec: Arc<CheckSpec>,
        generation: u32,
        inherit: Option<Inherited>,
        first: First,
    ) {
        let id = spec.id();
        let caps = self.paces.of(spec.target.ip(), tenant);
        let start = Command::Start {
            id,
            spec,
            generation,
            inherit,
            first,
            caps,
        };
        self.lane(id).pending(id).start = Some(start);
    }

    /// Goes on with a check of this tenant at the address of `spec`, which is another
    /// one of its name's: see [`Engine::retarget`]. Takes effect with the next flush.
    ///
    /// [`Engine::retarget`]: watchfire_probe_core::Engine::retarget
    pub fn retarget_for(&mut self, tenant: Tenant, spec: Arc<CheckSpec>) {
        let id = spec.id();
        let caps = self.paces.of(spec.target.ip(), tenant);
        self.lane(id).pending(id).retarget = Some(Command::Retarget { id, spec, caps });
    }

    /// Probes a check no more. Takes effect with the next flush; a report of it
    /// that is on its way still comes.
    pub fn stop_check(&mut self, id: CheckId) {
        *self.lane(id).pending(id) = Pending {
            stop: true,
            ..Pending::default()
        };
    }

    /// Reports the next measured outcome of a check even if nothing changes.
    /// Takes effect with the next flush.
    pub fn attend(&mut self, id: CheckId) {
        self.lane(id).pending(id).attend = true;
    }

    /// Whether what is in doubt is probed at its fast interval, as it is unless
    /// this says otherwise. Each thread follows with its next turn.
    pub fn set_hurry(&mut self, hurry: bool) {
        for lane in &self.lanes {
            lane.mailbox.hurry.store(hurry, Ordering::Relaxed);
        }
    }

    /// Probes `spec` once, now, beside any schedule; the answer is a
    /// [`ReportKind::Opinion`](watchfire_probe_core::engine::ReportKind).
    /// Takes effect with the next flush.
    pub fn ask(&mut self, spec: Arc<CheckSpec>, ask: u64) {
        self.ask_for(Tenant::NOBODY, spec, ask);
    }

    /// The same for a check of this tenant.
    pub fn ask_for(&mut self, tenant: Tenant, spec: Arc<CheckSpec>, ask: u64) {
        let id = spec.id();
        let caps = self.paces.of(spec.target.ip(), tenant);
        let lane = self.lane(id);
        if lane.asks.len() < ASKS_WAITING {
            lane.asks.push_back(Command::Ask {
                id,
                spec,
                ask,
                caps,
            });
            return;
        }
        if self.refused.len() >= ASKS_WAITING {
            // Silence is an answer too.
            return;
        }
        self.refused.push_back(Report {
            check: id,
            generation: 0,
            degraded: false,
            kind: watchfire_probe_core::engine::ReportKind::Opinion {
                ask,
                answer: Answer::Silent,
                outcome: Outcome::NotMeasured(Unmeasured::InFlightFull),
                phases: Phases::default(),
            },
        });
    }

    /// Records on this what is said and heard from now on, of a prober that was
    /// just started for one probe.
    pub(crate) fn record(&self, recorder: &Arc<Recorder>) {
        for lane in &self.lanes {
            lane.send(Command::Record(Arc::clone(recorder)));
        }
    }

    /// Sessions that begin from now on trust by this. Takes effect with the next
    /// flush; connections that are kept open go on.
    pub fn trust(&mut self, trust: &Trust) {
        for lane in &mut self.lanes {
            lane.trust = Some(Arc::clone(&trust.context));
        }
    }

    /// Hands what waits to the threads and wakes them. Returns whether
    /// everything found room; the rest waits for the next flush, which a
    /// caller does at the latest when it is woken or after some milliseconds.
    pub fn flush(&mut self) -> bool {
        let mut all = true;
        for lane in &mut self.lanes {
            all &= lane.flush();
        }
        all
    }

    /// The next report, if there is one.
    pub fn poll(&mut self) -> Option<Report> {
        if let Some(report) = self.refused.pop_front() {
            return Some(report);
        }
        for step in 0..self.lanes.len() {
            let lane = (self.turn + step) % self.lanes.len();
            if let Some(report) = self.lanes[lane].mailbox.reports.pop() {
                self.turn = lane;
                return Some(report);
            }
        }
        self.turn = (self.turn + 1) % self.lanes.len();
        None
    }

    /// What all threads did since their start, at most a second old.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.statistics().sum()
    }

    /// What all threads did since their start, to be looked at from any thread.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let mailboxes = self.lanes.iter().map(|lane| Arc::clone(&lane.mailbox));
        Statistics::new(mailboxes.collect())
    }

    /// By how much a thread's turn was late at most since this was last asked.
    pub fn take_lateness(&self) -> core::time::Duration {
        let late = self
            .lanes
            .iter()
            .map(|lane| lane.mailbox.pulse.late_us.swap(0, Ordering::Relaxed));
        core::time::Duration::from_micros(late.max().unwrap_or(0))
    }

    /// Whether the threads can measure: see [`ailment`](Self::ailment).
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.ailment().is_none()
    }

    /// Why the threads cannot measure, if they cannot.
    #[must_use]
    pub fn ailment(&self) -> Option<Ailment> {
        let now = clock::now();
        let of = |lane: &Lane| {
            let pulse = &lane.mailbox.pulse;
            let beat = Time(pulse.beat_us.load(Ordering::Relaxed));
            if pulse.ended.load(Ordering::Relaxed) {
                Some(Ailment::Ended)
            } else if now.since(beat) >= STUCK_AFTER {
                Some(Ailment::Stuck)
            } else if pulse.sick.load(Ordering::Relaxed) {
                Some(Ailment::Failing)
            } else {
                None
            }
        };
        self.lanes.iter().find_map(of)
    }

    /// A thread has ended, by a broken driver or a fault of its own. Its checks are
    /// measured no more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| lane.mailbox.pulse.ended.load(Ordering::Relaxed))
    }

    /// How long ago the thread that has turned the least began a turn; a thread
    /// that has ended turns no more.
    #[must_use]
    pub fn oldest_beat(&self) -> core::time::Duration {
        let now = clock::now();
        let beat = |lane: &Lane| {
            let pulse = &lane.mailbox.pulse;
            if pulse.ended.load(Ordering::Relaxed) {
                return core::time::Duration::MAX;
            }
            now.since(Time(pulse.beat_us.load(Ordering::Relaxed)))
        };
        self.lanes.iter().map(beat).max().unwrap_or_default()
    }

    /// The driver that probes: io_uring or epoll, never auto.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Why io_uring was not taken though it was allowed, in one line for the
    /// log.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Ends the threads: what is in flight is reset and measures nothing.
    pub fn shutdown(mut self) {
        self.end();
    }

    /// What all threads did until now, and the CPU time that they used for it,
    /// microseconds. Waits for each thread to say so.
    pub(crate) fn census(&self) -> (Stats, u64) {
        let mut sum = Stats::new();
        let mut cpu_us = 0;
        for lane in &self.lanes {
            let ticket = lane.mailbox.publish.fetch_add(1, Ordering::AcqRel) + 1;
            lane.mailbox.ring();
            loop {
                let published = lane.mailbox.published();
                let gone = lane.mailbox.pulse.ended.load(Ordering::Relaxed);
                if published.ticket >= ticket || gone {
                    sum.add(&published.stats);
                    cpu_us += published.cpu_us;
                    break;
                }
                drop(published);
                std::thread::sleep(core::time::Duration::from_micros(200));
            }
        }
        (sum, cpu_us)
    }

    fn end(&mut self) {
        for lane in &self.lanes {
            lane.mailbox.dismiss();
        }
        for lane in &mut self.lanes {
            if let Some(thread) = lane.thread.take() {
                // Its panic was printed when it happened.
                let _ = thread.join();
            }
        }
    }

    /// The lane of a check: always the same.
    fn lane(&mut self, id: CheckId) -> &mut Lane {
        let lanes = self.lanes.len() as u128;
        // The upper bits choose the thread, the lower ones the phase.
        let lane = (u128::from(id.prefix()) * lanes) >> 64;
        &mut self.lanes[lane as usize]
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.end();
    }
}

impl Lane {
    fn pending(&mut self, id: CheckId) -> &mut Pending {
        self.pending.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            Pending::default()
        })
    }

    fn flush(&mut self) -> bool {
        let mut any = false;
        let all = loop {
            // A check's words go together, or wait together.
            if self.mailbox.commands.capacity() - self.mailbox.commands.len() < WORDS_PER_CHECK {
                break self.order.is_empty() && self.asks.is_empty() && self.trust.is_none();
            }
            if let Some(trust) = self.trust.take() {
                any = true;
                self.send(Command::Trust(trust));
                continue;
            }
            if let Some(ask) = self.asks.pop_front() {
                any = true;
                self.send(ask);
                continue;
            }
            let Some(id) = self.order.pop_front() else {
                break true;
            };
            let Some(pending) = self.pending.remove(&id) else {
                continue;
            };
            any = true;
            if pending.stop {
                self.send(Command::Stop(id));
            }
            if let Some(start) = pending.start {
                self.send(start);
            }
            if let Some(retarget) = pending.retarget {
                self.send(retarget);
            }
            if pending.attend {
                self.send(Command::Attend(id));
            }
        };
        if any {
            self.mailbox.ring();
        }
        all
    }

    fn send(&self, command: Command) {
        let sent = self.mailbox.commands.push(command);
        // This handle is the queue's only producer, and it looked before.
        debug_assert!(sent.is_ok(), "room was there");
    }
}

/// Most commands that one check's pending words make.
const WORDS_PER_CHECK: usize = 4;
