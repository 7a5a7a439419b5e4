//! All checks of one probe thread: what is due, what is in flight, what was
//! found.
//!
//! The engine owns no socket and reads no clock. A driver tells it the time
//! and what happened to each slot, and carries out the [`Action`]s that it
//! asks for; io_uring, epoll and virtual time drive the same engine.
//!
//! A turn of a driver is: [`begin_turn`](Engine::begin_turn) with the clock,
//! [`on_event`](Engine::on_event) for **everything** that had happened by then,
//! [`advance`](Engine::advance), and the actions. That order is what keeps an
//! answer that came in time, and that we were late to read, from being taken
//! for a timeout.

mod boundary;
mod entry;
mod exchange;
mod flight;
mod places;
mod report;
mod retarget;
mod tell;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use watchfire_wire::{CheckId, First, Time, Unmeasured};

use crate::check::CheckSpec;
use crate::egress::Egress;
use crate::health::Health;
use crate::kind::Transport;
use crate::limits::{ASKS, CHECKS, PARKED_PERCENT, PUNCTUAL_US, SLOTS, STALL_US};
use crate::outcome::Outcome;
use crate::rate::Caps;
use crate::schedule::step;
use crate::stats::Stats;
use crate::stream::tls::TlsContext;
use crate::tape::Recorder;
use crate::trace::Probed;
use crate::wheel::Wheel;

pub use boundary::{Action, Config, During, Event, Inherited, Pacing, Slot, Target, TooManyChecks};
use entry::{Entry, Flags};
use flight::{Flight, Stage};
use places::Places;
pub use report::{Report, ReportKind};

/// The probe engine of one thread.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    entries: Vec<Entry>,
    free_entries: Vec<u32>,
    index: HashMap<CheckId, u32>,
    flights: Vec<Flight>,
    free_slots: Vec<Slot>,
    in_use: u32,
    parked: u32,
    parked_max: u32,
    starts: Wheel,
    deadlines: Wheel,
    /// Who holds slots, and which due checks wait for one.
    places: Places,
    /// All checks in turn, where that is the pacing.
    round: VecDeque<u32>,
    /// Scratch for timers that fired.
    fired: Vec<u32>,
    actions: Vec<Action>,
    /// Checks with something to report.
    dirty: VecDeque<u32>,
    opinions: VecDeque<Report>,
    asking: usize,
    /// Checks that keep a TLS session for their next probe.
    tls_sessions: u32,
    /// How often all checks are due in 1,000 seconds, at their base intervals.
    per_1000_s: u64,
    /// How late this turn's look at the events was.
    turn_late_us: u32,
    /// Numbers the turns.
    late_turn: u32,
    /// What is in doubt is probed at its fast interval.
    hurry: bool,
    /// Slots whose operation was handed to the driver in the last turn.
    submitted: Vec<Slot>,
    /// For people who look at one probe.
    recorder: Option<Arc<Recorder>>,
    stats: Stats,
    /// Probes that have ended, for whoever remembers them; nothing unless
    /// somebody does.
    probed: Option<Vec<Probed>>,
}

/// No check, no slot.
const NONE: u32 = u32::MAX;

impl Engine {
    /// An engine without checks.
    #[must_use]
    pub fn new(config: Config, now: Time) -> Self {
        let slots = config.slots.clamp(1, SLOTS);
        let parked_max = match config.pacing {
            Pacing::Scheduled => slots * PARKED_PERCENT / 100,
            // No connection idles: each is taken up again in the next turn. One
            // slot is left for a check that has none to take up.
            Pacing::Closed => slots - 1,
        };
        Self {
            config: Config { slots, ..config },
            entries: Vec::new(),
            free_entries: Vec::new(),
            index: HashMap::new(),
            flights: Vec::new(),
            free_slots: Vec::new(),
            in_use: 0,
            parked: 0,
            parked_max,
            starts: Wheel::new(now),
            deadlines: Wheel::new(now),
            places: Places::default(),
            round: VecDeque::new(),
            fired: Vec::new(),
            actions: Vec::new(),
            dirty: VecDeque::new(),
            opinions: VecDeque::new(),
            asking: 0,
            tls_sessions: 0,
            per_1000_s: 0,
            turn_late_us: 0,
            late_turn: 0,
            hurry: true,
            submitted: Vec::new(),
            recorder: None,
            stats: Stats::new(),
            probed: None,
        }
    }

    /// Probes a check from now on, the first time at `first`. A check
    /// that is probed already goes on as it is, under the new generation, and
    /// inherits nothing; its next outcome is reported.
    ///
    /// # Errors
    ///
    /// The thread is full; nothing changed.
    #[expect(clippy::too_many_arguments, reason = "one call per start of a check")]
    pub fn start(
        &mut self,
        id: CheckId,
        spec: &Arc<CheckSpec>,
        generation: u32,
        inherited: Option<Inherited>,
        first: First,
        caps: Caps,
        now: Time,
    ) -> Result<(), TooManyChecks> {
        if let Some(&index) = self.index.get(&id) {
            self.retarget(id, spec, caps.clone());
            let entry = &mut self.entries[index as usize];
            entry.generation = generation;
            entry.caps = caps;
            // Whoever starts it may not have heard of its certificate.
            entry.flags.set(Flags::ATTEND | Flags::CERTIFICATE);
            return Ok(());
        }
        let health = match inherited {
            Some(Inherited { verdict, contrary }) => {
                Health::inherited(spec.rule, verdict, contrary)
            }
            None => Health::new(spec.rule),
        };
        let entry = Entry::new(id, spec, generation, health, caps, &self.config.user_agent);
        let index = self.insert(entry)?;
        self.index.insert(id, index);
        self.per_1000_s += per_1000_s(spec);
        self.config.schedule.gather(self.per_1000_s);
        let due = self.config.schedule.begin(id, spec.interval, first, now);
        self.entries[index as usize].due = due;
        match self.config.pacing {
            Pacing::Scheduled => self.starts.arm(index, due),
            Pacing::Closed => self.next_round(index, now),
        }
        Ok(())
    }

    /// Probes a check no more. An outcome that is still to come is dropped.
    pub fn stop(&mut self, id: CheckId) {
        if let Some(index) = self.index.remove(&id) {
            self.per_1000_s -= per_1000_s(&self.entries[index as usize].spec);
            self.config.schedule.gather(self.per_1000_s);
            self.retire(index);
        }
    }

    /// Whether what is in doubt is probed at its fast interval, as it is unless
    /// this says otherwise.
    pub const fn set_hurry(&mut self, hurry: bool) {
        self.hurry = hurry;
    }

    /// Reports the next measured outcome of a check even if nothing changes.
    pub fn attend(&mut self, id: CheckId) {
        if let Some(&index) = self.index.get(&id) {
            self.entries[index as usize].flags.set(Flags::ATTEND);
        }
    }

    /// Records what is said and heard from now on: of an engine that probes one
    /// check for people.
    pub fn record(&mut self, recorder: Arc<Recorder>) {
        self.recorder = Some(recorder);
    }

    /// Sessions that begin from now on trust by this context; those that stand
    /// go on.
    pub fn trust(&mut self, tls: Arc<TlsContext>) {
        self.config.tls = Some(tls);
        for entry in &mut self.entries {
            // Made by the other context, and of those whom that one trusted.
            entry.tls = None;
        }
        self.tls_sessions = 0;
    }

    /// Probes `spec` once, now, beside any schedule, and answers with
    /// [`ReportKind::Opinion`]. Beyond [`ASKS`] the answer is silence at once.
    pub fn ask(&mut self, id: CheckId, spec: &Arc<CheckSpec>, ask: u64, caps: Caps, now: Time) {
        let health = Health::new(spec.rule);
        let mut entry = Entry::new(id, spec, 0, health, caps, &self.config.user_agent);
        entry.due = now;
        entry.ask = ask;
        entry.flags.set(Flags::ONCE);
        let asked = if self.asking < ASKS {
            self.insert(entry)
        } else {
            Err(TooManyChecks)
        };
        match asked {
            Ok(index) => {
                self.asking += 1;
                match self.config.pacing {
                    Pacing::Scheduled => self.wait(index, now + spec.timeout),
                    Pacing::Closed => self.next_round(index, now),
                }
            }
            Err(TooManyChecks) => {
                let full = Outcome::NotMeasured(Unmeasured::InFlightFull);
                self.stats.count(full);
                // Beyond that silence is an answer too.
                if self.opinions.len() < 2 * ASKS {
                    let report = Report::opinion(id, ask, full, Default::default());
                    self.opinions.push_back(report);
                }
            }
        }
    }

    /// Stops every check and resets every connection: the first step of an
    /// orderly end. It is over when [`slots_in_use`](Self::slots_in_use) is 0.
    pub fn stop_all(&mut self) {
        let ids: Vec<CheckId> = self.index.keys().copied().collect();
        for id in ids {
            self.stop(id);
        }
        for index in 0..self.entries.len() as u32 {
            if self.entries[index as usize].flags.has(Flags::ONCE) {
                self.retire(index);
            }
        }
        for slot in 0..self.flights.len() as Slot {
            let flight = &mut self.flights[slot as usize];
            if matches!(flight.stage, Stage::Opening | Stage::Exchanging) {
                flight.stage = Stage::Ending;
                self.deadlines.disarm(slot);
                self.actions.push(Action::Cancel(slot));
            }
        }
    }

    /// Begins a turn: the driver looked at the clock and then takes stock.
    /// `late_us` is for how long it was not looking, beyond what it had
    /// planned: busy with the last turn, or not woken in time. What the last
    /// turn handed over may have waited for that long before it began.
    pub fn begin_turn(&mut self, late_us: u64) {
        let late = u32::try_from(late_us).unwrap_or(u32::MAX);
        self.turn_late_us = if late_us > PUNCTUAL_US { late } else { 0 };
        self.late_turn = self.late_turn.wrapping_add(1);
        if late_us >= STALL_US {
            for flight in &mut self.flights {
                flight.credit(self.late_turn, late);
            }
        } else {
            // However short: a long response takes many turns.
            for &slot in &self.submitted {
                self.flights[slot as usize].credit(self.late_turn, late);
            }
        }
        self.submitted.clear();
    }

    /// Lets deadlines pass and starts what is due. Everything that had
    /// happened by `now` must have been told before.
    pub fn advance(&mut self, now: Time) {
        let mut fired = core::mem::take(&mut self.fired);
        self.deadlines.expire(now, |slot| fired.push(slot));
        for slot in fired.drain(..) {
            self.deadline_passed(slot, now);
        }
        self.starts.expire(now, |index| fired.push(index));
        for index in fired.drain(..) {
            if self.entries[index as usize].flags.has(Flags::WAITING) {
                self.give_up(index, now);
            } else {
                self.fall_due(index, now);
            }
        }
        self.fired = fired;
        while let Some(index) = self.places.next(self.config.slots - self.in_use) {
            self.entries[index as usize].flags.clear(Flags::WAITING);
            self.starts.disarm(index);
            self.launch(index, now);
        }
        // What joins the round meanwhile waits for the next turn.
        for _ in 0..self.round.len() {
            let Some(&index) = self.round.front() else {
                break;
            };
            let entry = &self.entries[index as usize];
            let stopped = entry.flags.has(Flags::STOPPED);
            if !stopped && entry.parked == NONE && self.in_use >= self.config.slots {
                break;
            }
            self.round.pop_front();
            self.entries[index as usize].flags.clear(Flags::WAITING);
            if stopped {
                self.release_if_idle(index);
            } else {
                self.launch(index, now);
            }
        }
    }

    /// What the driver is to do, in order; `into` takes the place of the
    /// engine's own list, so that both keep their room.
    pub fn take_actions(&mut self, into: &mut Vec<Action>) {
        into.clear();
        core::mem::swap(&mut self.actions, into);
        for action in into.iter() {
            if let Action::Open(slot) | Action::Exchange(slot) | Action::Receive(slot) = *action {
                self.submitted.push(slot);
            }
        }
    }

    /// When something may fall due next, if nothing happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        match (self.starts.next(), self.deadlines.next()) {
            (Some(start), Some(deadline)) => Some(start.min(deadline)),
            (start, deadline) => start.or(deadline),
        }
    }

    /// The next thing to report. What is not taken waits, and only its latest
    /// state is kept.
    pub fn poll_report(&mut self) -> Option<Report> {
        if let Some(opinion) = self.opinions.pop_front() {
            return Some(opinion);
        }
        while let Some(&index) = self.dirty.front() {
            let entry = &mut self.entries[index as usize];
            if let Some(report) = entry.take_report() {
                return Some(report);
            }
            entry.flags.clear(Flags::LISTED);
            self.dirty.pop_front();
            self.release_if_idle(index);
        }
        None
    }

    /// Where and how to open slot `slot`.
    #[must_use]
    pub fn target(&self, slot: Slot) -> Target {
        let flight = &self.flights[slot as usize];
        Target {
            addr: self.entries[flight.check as usize].spec.target,
            half_open: flight.half_open,
            origin_first: flight.origin_first,
        }
    }

    /// The way that slot `slot` is to take out of this host.
    #[must_use]
    pub fn egress(&self, slot: Slot) -> Option<&Egress> {
        let flight = &self.flights[slot as usize];
        self.entries[flight.check as usize].spec.egress.as_deref()
    }

    /// What slot `slot` is to send. The bytes stay where they are until the
    /// exchange has ended.
    #[must_use]
    pub fn outgoing(&self, slot: Slot) -> &[u8] {
        let flight = &self.flights[slot as usize];
        match (&flight.tls, &flight.exchange) {
            (Some(session), _) => session.outgoing(),
            (None, Some(exchange)) => {
                let entry = &self.entries[flight.check as usize];
                let (header, prepared) = entry.prepared.split_at(usize::from(entry.header));
                match (flight.headed, flight.sending) {
                    (false, _) => exchange.outgoing(prepared),
                    (true, false) => header,
                    // What a kind says first stands first.
                    (true, true) => {
                        let first = exchange.outgoing(prepared).len();
                        &entry.prepared[..header.len() + first]
                    }
                }
            }
            (None, None) => &[],
        }
    }

    /// Slots that hold a connection or are about to close one.
    #[must_use]
    pub const fn slots_in_use(&self) -> u32 {
        self.in_use
    }

    /// Checks that are probed.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.index.len()
    }

    /// Counters and histograms since the last [`Stats::new`], with the gauges
    /// as of now.
    pub fn stats(&mut self) -> &mut Stats {
        self.stats.checks = self.index.len() as u64;
        self.stats.slots = u64::from(self.in_use);
        self.stats.parked = u64::from(self.parked);
        self.stats.waiting = (self.places.waiting() + self.round.len()) as u64;
        &mut self.stats
    }

    /// Outcomes since the last call that failed on our side, and all of them:
    /// see [`Sickness`](crate::sickness::Sickness). Where most tenants fare well
    /// none is this thread's own.
    pub fn take_trouble(&mut self) -> (u64, u64) {
        self.places.take_trouble()
    }

    fn insert(&mut self, mut entry: Entry) -> Result<u32, TooManyChecks> {
        if self.free_entries.is_empty() && self.entries.len() >= CHECKS as usize {
            return Err(TooManyChecks);
        }
        let addr = entry.spec.target.ip().to_canonical();
        entry.destination = self.places.enroll(entry.caps.tenant, addr);
        if let Some(index) = self.free_entries.pop() {
            self.entries[index as usize] = entry;
            return Ok(index);
        }
        self.entries.push(entry);
        Ok((self.entries.len() - 1) as u32)
    }

    /// Queues a check for its next turn, where all have theirs in a round.
    fn next_round(&mut self, index: u32, due: Time) {
        let entry = &mut self.entries[index as usize];
        entry.due = due;
        entry.flags.set(Flags::WAITING);
        self.round.push_back(index);
    }

    /// Queues a due check for a place, until then.
    fn wait(&mut self, index: u32, until: Time) {
        let entry = &mut self.entries[index as usize];
        entry.flags.set(Flags::WAITING);
        let slow = entry.flags.has(Flags::SLOW);
        self.places.wait(entry.destination, slow, index);
        self.starts.arm(index, until);
    }

    /// A check has waited for a place for as long as it may: this probe measured
    /// nothing.
    fn give_up(&mut self, index: u32, now: Time) {
        let entry = &mut self.entries[index as usize];
        entry.flags.clear(Flags::WAITING);
        self.places.forgo(entry.destination, index);
        if !entry.flags.has(Flags::ONCE) {
            self.reschedule(index, now);
            self.shift(index);
        }
        self.conclude_unstarted(index, Unmeasured::InFlightFull, now);
    }

    /// A check's time has come: it waits for a slot, unless we were so late
    /// that starting it now would only pile it onto what is due next.
    fn fall_due(&mut self, index: u32, now: Time) {
        let entry = &mut self.entries[index as usize];
        let (step, align) = step(&entry.spec, &entry.health, self.hurry);
        let late = now.since(entry.due);
        if late > step / 2 {
            let next = self
                .config
                .schedule
                .next(entry.id, entry.due, step, align, now);
            // The one that fell due was not started either.
            self.stats.skipped += next.skipped + 1;
            entry.due = next.due;
            self.starts.arm(index, next.due);
            self.conclude_unstarted(index, Unmeasured::Late, now);
        } else {
            let slow = entry.flags.has(Flags::SLOW);
            let free = self.config.slots - self.in_use;
            let until = entry.due + step / 2;
            let keeps = entry.parked != NONE;
            if keeps || self.places.admits(entry.destination, slow, free) {
                self.launch(index, now);
            } else {
                self.wait(index, until);
            }
        }
    }

    /// Starts a probe: on the parked connection, or on a new one.
    fn launch(&mut self, index: u32, now: Time) {
        let entry = &mut self.entries[index as usize];
        let late_us = now.0.saturating_sub(entry.due.0);
        let once = entry.flags.has(Flags::ONCE);
        if !once && self.config.pacing == Pacing::Scheduled {
            self.stats.lateness_us.saturating_record(late_us.max(1));
        }
        if entry.caps_apply && !entry.caps.take(now) {
            self.reschedule(index, now);
            self.shift(index);
            self.conclude_unstarted(index, Unmeasured::RateCapped, now);
            return;
        }
        if !entry.spec.has_address() {
            // Nobody starts such a check; where its address went is no origin's fault.
            self.reschedule(index, now);
            self.conclude_unstarted(index, Unmeasured::NameUnresolved, now);
            return;
        }
        self.stats.started += 1;
        let timeout = entry.spec.timeout;
        let parked = core::mem::replace(&mut entry.parked, NONE);
        let slot = if parked == NONE {
            self.occupy(index, now)
        } else {
            self.unparked(index);
            parked
        };
        let entry = &mut self.entries[index as usize];
        entry.flight = slot;
        let flight = &mut self.flights[slot as usize];
        let exchange = (!flight.half_open).then(|| entry.spec.kind.begin());
        flight.begin(now, exchange);
        if parked == NONE {
            self.actions.push(Action::Open(slot));
        } else {
            flight.reused = true;
            self.resume(slot, now);
        }
        if self.flights[slot as usize].in_progress() {
            self.deadlines.arm(slot, now + timeout);
        }
    }

    /// Takes a free slot for a check. The caller saw that there is one.
    fn occupy(&mut self, index: u32, now: Time) -> Slot {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.flights.push(Flight::free());
            (self.flights.len() - 1) as Slot
        });
        let entry = &mut self.entries[index as usize];
        entry.slots += 1;
        self.in_use += 1;
        self.places.take(entry.destination);
        let flight = &mut self.flights[slot as usize];
        flight.check = index;
        flight.stage = Stage::Opening;
        (flight.half_open, flight.origin_first) = match entry.spec.transport() {
            Transport::HalfOpen => (true, false),
            Transport::Stream { origin_first, .. } => (false, origin_first && entry.header == 0),
        };
        flight.reused = false;
        flight.started = now;
        slot
    }

    /// A slot's connection is gone.
    fn vacate(&mut self, slot: Slot) {
        let flight = &mut self.flights[slot as usize];
        let index = flight.check;
        flight.stage = Stage::Free;
        flight.tls = None;
        flight.exchange = None;
        flight.heard = Vec::new();
        self.in_use -= 1;
        self.free_slots.push(slot);
        let entry = &mut self.entries[index as usize];
        entry.slots -= 1;
        self.places.give(entry.destination);
        self.release_if_idle(index);
    }

    /// A kept connection is taken up, or goes.
    fn unparked(&mut self, index: u32) {
        self.parked -= 1;
        let destination = self.entries[index as usize].destination;
        self.places.parked(destination, false);
    }

    /// Sets the time of a check's next probe.
    fn reschedule(&mut self, index: u32, now: Time) {
        let entry = &mut self.entries[index as usize];
        if entry.flags.any(Flags::STOPPED | Flags::ONCE) {
            return;
        }
        if self.config.pacing == Pacing::Closed {
            self.next_round(index, now);
            return;
        }
        let (step, align) = step(&entry.spec, &entry.health, self.hurry);
        let next = self
            .config
            .schedule
            .next(entry.id, entry.due, step, align, now);
        self.stats.skipped += next.skipped;
        entry.due = next.due;
        self.starts.arm(index, next.due);
    }

    /// Moves a capped check's next probe off its phase, by another part of its
    /// step each time: the cap has a phase of its own, and would let the same
    /// checks pass for ever.
    fn shift(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if !self.starts.is_armed(index) {
            return;
        }
        let (step, _) = step(&entry.spec, &entry.health, self.hurry);
        let step_us = u64::try_from(step.as_micros()).unwrap_or(u64::MAX).max(1);
        let part = entry.id.prefix().rotate_left(entry.unmeasured_in_a_row) % step_us;
        // Between half a step and one and a half from now: a step on average.
        entry.due = Time(entry.due.0.saturating_sub(step_us / 2).saturating_add(part));
        self.starts.arm(index, entry.due);
    }

    /// Takes a check out: at once if nothing refers to it, otherwise when its
    /// last slot is closed. Its probe ends now, and gives its place back.
    fn retire(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if entry.flags.has(Flags::STOPPED) {
            return;
        }
        entry.flags.set(Flags::STOPPED);
        let flight = core::mem::replace(&mut entry.flight, NONE);
        if entry.flags.has(Flags::WAITING) && self.config.pacing == Pacing::Scheduled {
            entry.flags.clear(Flags::WAITING);
            self.places.forgo(entry.destination, index);
        }
        if entry.flags.has(Flags::ONCE) {
            self.asking -= 1;
        }
        self.starts.disarm(index);
        let parked = core::mem::replace(&mut entry.parked, NONE);
        if flight != NONE && self.flights[flight as usize].in_progress() {
            self.flights[flight as usize].stage = Stage::Ending;
            self.deadlines.disarm(flight);
            self.actions.push(Action::Cancel(flight));
        }
        if parked != NONE {
            self.unparked(index);
            self.flights[parked as usize].stage = Stage::Ending;
            self.actions.push(Action::Cancel(parked));
        }
        self.release_if_idle(index);
    }

    fn release_if_idle(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let held = Flags::WAITING | Flags::LISTED | Flags::FREE;
        if entry.flags.has(Flags::STOPPED) && !entry.flags.any(held) && entry.slots == 0 {
            self.places.leave(entry.destination);
            if entry.tls.as_ref().is_some_and(|tls| tls.remembers()) {
                self.tls_sessions -= 1;
            }
            *entry = Entry::vacant();
            self.free_entries.push(index);
        }
    }
}

/// How often a check is due in 1,000 seconds.
fn per_1000_s(spec: &CheckSpec) -> u64 {
    let interval_us = u64::try_from(spec.interval.as_micros()).unwrap_or(u64::MAX);
    1_000_000_000 / interval_us.max(1)
}
