//! One exchange: from a connection to an outcome.
//!
//! Here is decided whose fault an ending is. Every path leads to
//! [`Engine::conclude`] exactly once, and every slot that was opened to a
//! close.

use watchfire_wire::{Reason, Time, Unmeasured};

use super::entry::Flags;
use super::flight::Stage;
use super::report::Report;
use super::tell::hear;
use super::{Action, During, Engine, Event, NONE, Slot};
use crate::errno::{Fault, Step, classify};
use crate::health::Transition;
use crate::kind::{AnyExchange, Next, Transport};
use crate::limits::{CLEAN_IN_A_ROW, GRACE_FACTOR, TLS_SESSIONS};
use crate::outcome::{Outcome, Phases};
use crate::stream::tls::{Fed, Memory, Session, Side};
use crate::tape;

impl Engine {
    /// Tells what happened to a slot.
    pub fn on_event(&mut self, now: Time, slot: Slot, event: Event<'_>) {
        let flight = &mut self.flights[slot as usize];
        flight.credit(self.late_turn, self.turn_late_us);
        match (flight.stage, event) {
            (Stage::Closing, Event::Closed) => self.vacate(slot),
            (Stage::Opening, Event::Connected) => {
                flight.connect_us = flight.elapsed_us(now);
                if flight.half_open {
                    // The driver resets it by itself.
                    flight.stage = Stage::Closing;
                    self.conclude(slot, Outcome::Pass, now);
                } else {
                    self.connected(slot, now);
                }
            }
            (Stage::Opening, Event::Failed { during, errno }) => {
                let outcome = match &self.entries[flight.check as usize].spec.egress {
                    Some(_) if lacks_way(during, errno) => Outcome::NotMeasured(Unmeasured::NoWay),
                    _ => outcome_of(classify(step_of(during, false, false), errno)),
                };
                if flight.half_open {
                    flight.stage = Stage::Closing;
                    self.conclude(slot, outcome, now);
                } else {
                    self.finish(slot, outcome, false, now);
                }
            }
            (Stage::Exchanging, Event::Received(bytes)) => self.received(slot, bytes, now),
            (Stage::Exchanging, Event::Eof) => self.ended(slot, now),
            (Stage::Exchanging, Event::Failed { during, errno }) => {
                self.broke(slot, during, errno, now);
            }
            (Stage::Parked, event) => self.idle_ended(slot, event),
            (Stage::Ending, Event::Closed) => self.vacate(slot),
            (Stage::Ending, _) => {
                if flight.half_open {
                    flight.stage = Stage::Closing;
                } else {
                    self.close(slot, true);
                }
            }
            // A driver that keeps its word never comes here.
            (Stage::Free | Stage::Closing, _) | (Stage::Opening | Stage::Exchanging, _) => {}
        }
    }

    /// A slot's time is up. What we spent looking elsewhere is given back to
    /// the origin first, within bounds; a probe that has still not ended when
    /// they are used up measured nothing. This turn's own lateness excuses
    /// nothing here, short of a stall: whatever had come was told before.
    pub(super) fn deadline_passed(&mut self, slot: Slot, now: Time) {
        let flight = &mut self.flights[slot as usize];
        if !flight.in_progress() {
            return;
        }
        let timeout = self.entries[flight.check as usize].spec.timeout;
        let timeout_us = u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX);
        let elapsed_us = flight.elapsed_us(now);
        let attentive_us = elapsed_us.saturating_sub(flight.late_us);
        let outcome = if attentive_us >= timeout_us {
            Outcome::Fail(self.step(slot).timeout())
        } else if elapsed_us < timeout_us.saturating_mul(GRACE_FACTOR) {
            let again = flight.started
                + timeout
                + core::time::Duration::from_micros(u64::from(flight.late_us));
            let last = flight.started + timeout * GRACE_FACTOR;
            self.deadlines.arm(slot, again.min(last));
            return;
        } else {
            Outcome::NotMeasured(Unmeasured::Late)
        };
        self.flights[slot as usize].stage = Stage::Ending;
        self.actions.push(Action::Cancel(slot));
        self.conclude(slot, outcome, now);
    }

    /// Goes on with a new probe on a connection that stands.
    pub(super) fn resume(&mut self, slot: Slot, now: Time) {
        self.flights[slot as usize].stage = Stage::Exchanging;
        self.stream_stands(slot, now);
    }

    /// Closes a connection.
    pub(super) fn close(&mut self, slot: Slot, reset: bool) {
        self.flights[slot as usize].stage = Stage::Closing;
        self.actions.push(Action::Close { slot, reset });
    }

    /// Accounts for a due probe that was not started.
    pub(super) fn conclude_unstarted(&mut self, index: u32, unmeasured: Unmeasured, now: Time) {
        let (outcome, phases) = (Outcome::NotMeasured(unmeasured), Phases::default());
        self.tell_of(index, outcome, phases, now);
        self.judge(index, outcome, phases, false);
    }

    /// A connection for an exchange stands.
    fn connected(&mut self, slot: Slot, now: Time) {
        let flight = &mut self.flights[slot as usize];
        flight.stage = Stage::Exchanging;
        if let Some(recorder) = &self.recorder {
            tape::begin(recorder);
            let entry = &self.entries[flight.check as usize];
            tape::sent(recorder, &entry.prepared[..usize::from(entry.header)]);
        }
        let entry = &mut self.entries[flight.check as usize];
        let Some(tls) = &entry.spec.tls else {
            flight.headed = entry.header > 0;
            return self.stream_stands(slot, now);
        };
        let session = match &self.config.tls {
            Some(context) => {
                let memory = entry.tls.get_or_insert_with(|| {
                    let once = entry.flags.has(Flags::ONCE);
                    let remembers = !once && tls.resumes() && self.tls_sessions < TLS_SESSIONS;
                    self.tls_sessions += u32::from(remembers);
                    Box::new(Memory::new(remembers))
                });
                if self.recorder.is_some() {
                    memory.be_curious();
                }
                context.connect(tls, entry.spec.kind.alpn(), memory, now)
            }
            None => Err(Outcome::NotMeasured(Unmeasured::Unsupported)),
        };
        match session {
            Ok(mut session) => {
                session.put_first(&entry.prepared[..usize::from(entry.header)]);
                flight.tls = Some(session);
                self.actions.push(Action::Exchange(slot));
            }
            Err(outcome) => self.finish(slot, outcome, true, now),
        }
    }

    /// The stream stands: the kind speaks, or listens.
    fn stream_stands(&mut self, slot: Slot, now: Time) {
        let flight = &mut self.flights[slot as usize];
        let kind = &self.entries[flight.check as usize].spec.kind;
        let next = match &mut flight.exchange {
            Some(exchange) => exchange.connected(kind),
            None => Next::More,
        };
        self.go_on(slot, next, now);
    }

    /// Bytes came.
    fn received(&mut self, slot: Slot, bytes: &[u8], now: Time) {
        let telling = self.probed.is_some();
        let flight = &mut self.flights[slot as usize];
        let entry = &self.entries[flight.check as usize];
        let kind = &entry.spec.kind;
        let on_edge = telling && entry.health.may_turn();
        let elapsed_us = flight.elapsed_us(now);
        let Some(exchange) = &mut flight.exchange else {
            return;
        };
        flight.headed = false;
        if core::mem::take(&mut flight.sending) {
            exchange.flushed();
        }
        let Some(session) = &mut flight.tls else {
            if let Some(recorder) = &self.recorder {
                tape::received(recorder, bytes);
            }
            let next = exchange.receive(kind, bytes);
            if flight.first_byte_us == NONE && exchange.has_answered() {
                flight.first_byte_us = elapsed_us;
            }
            if telling && (on_edge || exchange.is_down_at_once()) {
                hear(&mut flight.heard, bytes);
            }
            return self.go_on(slot, next, now);
        };
        session.sent();
        let was_handshaking = session.handshaking();
        let first_byte_us = &mut flight.first_byte_us;
        let heard = &mut flight.heard;
        let mut next = Next::More;
        let fed = session.receive(bytes, |plain| {
            if let Some(recorder) = &self.recorder {
                tape::received(recorder, plain);
            }
            next = further(next, exchange.receive(kind, plain));
            if *first_byte_us == NONE && exchange.has_answered() {
                *first_byte_us = elapsed_us;
            }
            if telling && (on_edge || exchange.is_down_at_once()) {
                hear(heard, plain);
            }
            matches!(next, Next::More | Next::Send)
        });
        let established = was_handshaking && !session.handshaking();
        if let Some(recorder) = &self.recorder
            && was_handshaking
            && (established || fed.is_err())
        {
            tape::shook(recorder, session.told());
        }
        let has_another_way = was_handshaking && has_another_way(session);
        match fed {
            Err(Outcome::Fail(_)) if has_another_way => return self.shake_again(slot, now),
            Err(outcome) => return self.finish(slot, outcome, true, now),
            Ok(_) => {}
        }
        if established
            && let (Some(alpn), Some(tls)) = (kind.alpn(), &entry.spec.tls)
            && tls.offers(alpn)
            && !session.speaks(alpn)
        {
            return self.finish(slot, Outcome::Fail(Reason::TlsAlpn), true, now);
        }
        if established {
            flight.tls_us = elapsed_us;
            if next == Next::More {
                next = exchange.connected(kind);
            }
            self.note_certificate(slot, now);
        }
        if fed == Ok(Fed::Closed) && matches!(next, Next::More | Next::Send) {
            self.ended(slot, now);
        } else {
            self.go_on(slot, next, now);
        }
    }

    /// A handshake is done: takes down what a certificate said, if one was shown.
    fn note_certificate(&mut self, slot: Slot, now: Time) {
        let flight = &self.flights[slot as usize];
        let entry = &mut self.entries[flight.check as usize];
        if let (Some(session), Some(memory)) = (&flight.tls, &mut entry.tls)
            && !session.is_resumed()
            && memory.shown(now, session.not_after_s())
            && !entry.flags.any(Flags::ONCE | Flags::STOPPED)
        {
            entry.flags.set(Flags::CERTIFICATE);
            if !entry.flags.has(Flags::LISTED) {
                entry.flags.set(Flags::LISTED);
                self.dirty.push_back(flight.check);
            }
        }
    }

    /// Does what a kind said.
    fn go_on(&mut self, slot: Slot, next: Next, now: Time) {
        let flight = &mut self.flights[slot as usize];
        let entry = &self.entries[flight.check as usize];
        match next {
            Next::More => {
                let more = match &flight.tls {
                    Some(session) => !session.outgoing().is_empty(),
                    // An origin that speaks first waits for the header.
                    None => flight.headed,
                };
                self.actions.push(if more {
                    Action::Exchange(slot)
                } else {
                    Action::Receive(slot)
                });
            }
            Next::Send => {
                flight.sending = true;
                if let (Some(recorder), Some(exchange)) = (&self.recorder, &flight.exchange) {
                    let prepared = &entry.prepared[usize::from(entry.header)..];
                    tape::sent(recorder, exchange.outgoing(prepared));
                }
                if let (Some(session), Some(exchange)) = (&mut flight.tls, &flight.exchange) {
                    let prepared = &entry.prepared[usize::from(entry.header)..];
                    let written = session.request(exchange.outgoing(prepared));
                    if let Err(outcome) = written {
                        return self.finish(slot, outcome, true, now);
                    }
                }
                self.actions.push(Action::Exchange(slot));
            }
            Next::Pass { keep } => {
                let (wanted, fin) = match entry.spec.transport() {
                    Transport::Stream { keep, fin, .. } => (keep, fin),
                    Transport::HalfOpen => (false, false),
                };
                let room = self.parked_max.saturating_sub(self.parked);
                // A kept connection shows no certificate.
                let is_fresh = match (&entry.tls, &self.config.tls) {
                    (Some(memory), Some(context)) => !memory.wants_full(now, context.wall_s()),
                    _ => true,
                };
                if keep && wanted && is_fresh && self.places.may_park(entry.destination, room) {
                    self.park(slot, now);
                } else {
                    self.finish(slot, Outcome::Pass, !fin, now);
                }
            }
            Next::Stale(_) if flight.reused => self.reopen(slot, now),
            Next::Stale(reason) | Next::Fail(reason) => {
                self.finish(slot, Outcome::Fail(reason), true, now);
            }
        }
    }

    /// The origin closed its side.
    fn ended(&mut self, slot: Slot, now: Time) {
        let flight = &mut self.flights[slot as usize];
        if flight.reused && flight.first_byte_us == NONE {
            self.reopen(slot, now);
            return;
        }
        if self.may_shake_again(slot) {
            return self.shake_again(slot, now);
        }
        let outcome = if self.step(slot) == Step::Tls {
            Outcome::Fail(Reason::TlsHandshake)
        } else {
            let flight = &mut self.flights[slot as usize];
            let kind = &self.entries[flight.check as usize].spec.kind;
            match flight
                .exchange
                .as_mut()
                .map(|exchange| exchange.ended(kind))
            {
                Some(Next::Pass { .. }) => Outcome::Pass,
                Some(Next::Fail(reason) | Next::Stale(reason)) => Outcome::Fail(reason),
                Some(Next::More | Next::Send) | None => Outcome::Fail(Reason::ClosedEarly),
            }
        };
        self.finish(slot, outcome, outcome == Outcome::Pass, now);
    }

    /// Sending or receiving failed.
    fn broke(&mut self, slot: Slot, during: During, errno: i32, now: Time) {
        let flight = &self.flights[slot as usize];
        let tls = self.step(slot) == Step::Tls;
        let begun = flight.first_byte_us != NONE;
        let fault = classify(step_of(during, tls, begun), errno);
        let reset = matches!(
            fault,
            Fault::Origin(Reason::SendReset | Reason::ReceiveReset)
        );
        if flight.reused && !begun && reset {
            self.reopen(slot, now);
        } else if tls && matches!(fault, Fault::Origin(_)) && self.may_shake_again(slot) {
            self.shake_again(slot, now);
        } else {
            self.finish(slot, outcome_of(fault), true, now);
        }
    }

    /// Whether a slot is shaking hands in a way that is not the last one.
    fn may_shake_again(&self, slot: Slot) -> bool {
        let session = self.flights[slot as usize].tls.as_ref();
        session.is_some_and(|tls| tls.handshaking() && has_another_way(tls))
    }

    /// A handshake did not come to its end. The same probe begins again on a new
    /// connection: without the session that was offered, if one was, and then
    /// with the broad library, whose word counts, and with which the check stays
    /// for a while.
    fn shake_again(&mut self, slot: Slot, now: Time) {
        let flight = &self.flights[slot as usize];
        let offered = flight.tls.as_ref().is_some_and(|tls| tls.offered());
        if let Some(memory) = &mut self.entries[flight.check as usize].tls {
            if offered {
                memory.forget();
            } else {
                memory.broaden(now);
            }
        }
        self.begin_again(slot, now);
    }

    /// The origin had closed a kept connection between two probes: that is its
    /// right. The same probe begins again on a new one.
    fn reopen(&mut self, slot: Slot, now: Time) {
        self.stats.reopened += 1;
        self.begin_again(slot, now);
    }

    fn begin_again(&mut self, slot: Slot, now: Time) {
        let flight = &self.flights[slot as usize];
        let (index, started, late_us) = (flight.check, flight.started, flight.late_us);
        let late_turn = flight.late_turn;
        if self.entries[index as usize].flight != slot {
            // Stopped while it was in flight: nobody waits for its outcome.
            self.deadlines.disarm(slot);
            return self.close(slot, true);
        }
        if self.in_use >= self.config.slots {
            let full = Outcome::NotMeasured(Unmeasured::InFlightFull);
            self.finish(slot, full, true, now);
            return;
        }
        self.deadlines.disarm(slot);
        self.close(slot, true);
        let fresh = self.occupy(index, started);
        let entry = &mut self.entries[index as usize];
        entry.flight = fresh;
        let flight = &mut self.flights[fresh as usize];
        let exchange: AnyExchange = entry.spec.kind.begin();
        flight.begin(started, Some(exchange));
        flight.late_us = late_us;
        flight.late_turn = late_turn;
        self.deadlines.arm(fresh, started + entry.spec.timeout);
        self.actions.push(Action::Open(fresh));
    }

    /// The outcome is known and the connection goes.
    fn finish(&mut self, slot: Slot, outcome: Outcome, reset: bool, now: Time) {
        self.close(slot, reset);
        self.conclude(slot, outcome, now);
    }

    /// Something came on a kept connection while no request was outstanding.
    /// It is no answer to anything (RFC 9112, section 9.2), whatever it looks
    /// like: the connection goes, and the next probe has one of its own. TLS
    /// alone may speak of itself there, with a new ticket or key.
    fn idle_ended(&mut self, slot: Slot, event: Event<'_>) {
        let flight = &mut self.flights[slot as usize];
        if let (Some(session), Event::Received(bytes)) = (&mut flight.tls, event)
            && session.is_housekeeping(bytes)
        {
            self.actions.push(Action::Watch(slot));
            return;
        }
        let index = flight.check;
        self.entries[index as usize].parked = NONE;
        self.unparked(index);
        self.stats.reopened += 1;
        self.close(slot, true);
    }

    /// The probe passed and the connection stays for the next one, unless the
    /// check was stopped meanwhile.
    fn park(&mut self, slot: Slot, now: Time) {
        let flight = &mut self.flights[slot as usize];
        let index = flight.check;
        let entry = &mut self.entries[index as usize];
        if entry.flags.any(Flags::STOPPED | Flags::ONCE) {
            self.finish(slot, Outcome::Pass, true, now);
            return;
        }
        flight.stage = Stage::Parked;
        entry.parked = slot;
        self.parked += 1;
        self.places.parked(entry.destination, true);
        self.actions.push(Action::Watch(slot));
        self.conclude(slot, Outcome::Pass, now);
    }

    /// Takes a probe's outcome to its check, and sets the next one's time.
    fn conclude(&mut self, slot: Slot, outcome: Outcome, now: Time) {
        self.deadlines.disarm(slot);
        let flight = &mut self.flights[slot as usize];
        let index = flight.check;
        let entry = &mut self.entries[index as usize];
        if entry.flight != slot {
            // Stopped while it was in flight.
            return;
        }
        entry.flight = NONE;
        let outcome = excuse(outcome, flight.late_us, entry.spec.timeout);
        if let (Outcome::Fail(_), Some(memory)) = (outcome, &mut entry.tls) {
            // No fail counts twice because of what we remember.
            memory.forget();
        }
        let mut phases = flight.phases(now);
        if u128::from(phases.total_us) * 2 >= entry.spec.timeout.as_micros() {
            entry.flags.set(Flags::SLOW);
        } else {
            entry.flags.clear(Flags::SLOW);
        }
        let mut at_once = false;
        if let Some(exchange) = &flight.exchange {
            let kind = &entry.spec.kind;
            phases.degraded =
                outcome == Outcome::Pass && exchange.is_degraded(kind, flight.first_byte_us);
            at_once = exchange.is_down_at_once();
        }
        if !matches!(outcome, Outcome::NotMeasured(_)) {
            self.stats.time(usize::from(entry.kind), &phases);
        }
        self.tell_of(index, outcome, phases, now);
        if let Some(transition) = self.judge(index, outcome, phases, at_once) {
            self.tell_of_turn(slot, transition);
        }
        self.reschedule(index, now);
    }

    /// What an outcome does to its check, and what of it is to be reported.
    fn judge(
        &mut self,
        index: u32,
        outcome: Outcome,
        phases: Phases,
        at_once: bool,
    ) -> Option<Transition> {
        self.stats.count(outcome);
        let entry = &mut self.entries[index as usize];
        self.places.count(entry.destination, outcome);
        if entry.flags.has(Flags::ONCE) {
            let report = Report::opinion(entry.id, entry.ask, outcome, phases);
            self.opinions.push_back(report);
            self.retire(index);
            return None;
        }
        let mut transition = None;
        let news = match outcome {
            Outcome::NotMeasured(unmeasured) => {
                entry.unmeasured = unmeasured;
                entry.unmeasured_in_a_row = entry.unmeasured_in_a_row.saturating_add(1);
                let count = entry.unmeasured_in_a_row;
                if count <= REPORTED_IN_A_ROW || count.is_power_of_two() {
                    // Whoever heard of the trouble hears of its end.
                    entry.flags.set(Flags::ATTEND | Flags::UNMEASURED);
                    true
                } else {
                    false
                }
            }
            Outcome::Pass | Outcome::Fail(_) => {
                entry.reason = match outcome {
                    Outcome::Fail(reason) => reason,
                    Outcome::Pass | Outcome::NotMeasured(_) => Reason::Passed,
                };
                entry.unmeasured_in_a_row = 0;
                entry.flags.clear(Flags::UNMEASURED);
                entry.latency_us = phases.total_us;
                let was_contrary = entry.health.contrary() > 0;
                transition = match outcome {
                    Outcome::Fail(_) if at_once => entry.health.record_down(),
                    outcome => entry.health.record(outcome == Outcome::Pass),
                };
                self.stats.transitions += u64::from(transition.is_some());
                let was_degraded = entry.flags.has(Flags::DEGRADED);
                if phases.degraded {
                    entry.flags.set(Flags::DEGRADED);
                    entry.clean_in_a_row = 0;
                } else if outcome == Outcome::Pass {
                    // An origin on the edge is no news at each probe.
                    entry.clean_in_a_row = entry.clean_in_a_row.saturating_add(1);
                    if entry.clean_in_a_row >= CLEAN_IN_A_ROW {
                        entry.flags.clear(Flags::DEGRADED);
                    }
                }
                // The core weighs first failures against each other.
                let turned = was_contrary != (entry.health.contrary() > 0);
                let degraded = entry.flags.has(Flags::DEGRADED);
                let changed = transition.is_some() || turned || was_degraded != degraded;
                let news = changed || entry.flags.has(Flags::ATTEND);
                if news {
                    entry.flags.clear(Flags::ATTEND);
                    entry.flags.set(Flags::MEASURED);
                }
                news
            }
        };
        if news && !entry.flags.has(Flags::LISTED) {
            entry.flags.set(Flags::LISTED);
            self.dirty.push_back(index);
        }
        transition
    }

    /// What a probe is doing now.
    fn step(&self, slot: Slot) -> Step {
        let flight = &self.flights[slot as usize];
        if flight.stage == Stage::Opening {
            Step::Connect
        } else if flight.tls.as_ref().is_some_and(|tls| tls.handshaking()) {
            Step::Tls
        } else if flight.first_byte_us != NONE {
            Step::Rest
        } else {
            Step::FirstByte
        }
    }
}

/// What two words of a kind in one go come to: what is to be sent stays to be
/// sent until the kind has nothing more to ask.
const fn further(before: Next, after: Next) -> Next {
    match (before, after) {
        (Next::Send, Next::More) => Next::Send,
        (_, after) => after,
    }
}

/// Whether a handshake that fails may be tried in another way.
fn has_another_way(session: &Session) -> bool {
    session.offered() || session.side() == Side::Modern
}

/// Unmeasured probes in a row that are each reported; later ones only when
/// their number has doubled.
const REPORTED_IN_A_ROW: u32 = 8;

/// A fail while we were not looking for half of the timeout may be the origin
/// losing patience with us. A refusal is its own word whenever we read it, and
/// a timeout was judged by our lateness already.
fn excuse(outcome: Outcome, late_us: u32, timeout: core::time::Duration) -> Outcome {
    let spoiled = u128::from(late_us) > timeout.as_micros() / 2;
    match outcome {
        Outcome::Fail(
            Reason::ConnectRefused
            | Reason::HostUnreachable
            | Reason::ConnectTimeout
            | Reason::TlsTimeout
            | Reason::FirstByteTimeout
            | Reason::ResponseTimeout,
        ) => outcome,
        Outcome::Fail(_) if spoiled => Outcome::NotMeasured(Unmeasured::Late),
        other => other,
    }
}

/// Whether a check's own way was refused before anything left this host: it
/// lacks the address, the interface, or the right to them.
const fn lacks_way(during: During, errno: i32) -> bool {
    matches!(during, During::Open)
        && matches!(
            errno,
            libc::EADDRNOTAVAIL | libc::ENODEV | libc::EPERM | libc::EACCES | libc::EINVAL
        )
}

const fn outcome_of(fault: Fault) -> Outcome {
    match fault {
        Fault::Origin(reason) => Outcome::Fail(reason),
        Fault::Ours(unmeasured) => Outcome::NotMeasured(unmeasured),
    }
}

/// The step of a probe that failed during `during`.
const fn step_of(during: During, tls: bool, begun: bool) -> Step {
    match (during, tls, begun) {
        (During::Open | During::Route, ..) => Step::Open,
        (During::Connect, ..) => Step::Connect,
        (_, true, _) => Step::Tls,
        (During::Send, ..) => Step::Send,
        (During::Receive, _, false) => Step::FirstByte,
        (During::Receive, _, true) => Step::Rest,
    }
}
