//! A probe thread: turns of a driver and an engine, until it is dismissed.

use core::mem::ManuallyDrop;
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use watchfire_probe_core::engine::{Action, Config, Engine, Report, ReportKind};
use watchfire_probe_core::limits::TRACE_WAITING;
use watchfire_probe_core::sickness::Sickness;
use watchfire_probe_core::stream::tls::TlsContext;
use watchfire_probe_core::trace::Probed;
use watchfire_wire::{Time, Unmeasured};

use crate::clock;
use crate::driver::Driver;
use crate::limits::{COMMANDS_PER_TURN, END_WITHIN, PUBLISH_EVERY, REPORT_RETRY, WAIT_MAX};
use crate::mailbox::{Command, Mailbox};

/// Called after reports were put into a mailbox.
pub(crate) type Waker = Arc<dyn Fn() + Send + Sync>;

/// One thread's state.
pub(crate) struct Worker<'a, D> {
    driver: D,
    /// Freed only after an orderly end: a panic that unwinds must not free what the
    /// kernel may still read.
    engine: ManuallyDrop<Engine>,
    mailbox: &'a Mailbox,
    waker: Waker,
    actions: Vec<Action>,
    /// Reports that found no room, or that come before those of the engine.
    held: VecDeque<Report>,
    /// The last ticket for a publication that was served.
    served: u64,
    /// When the statistics are published next.
    publish_at: Time,
    sickness: Sickness,
    /// Probes that are yet to be remembered.
    probed: Vec<Probed>,
    /// Told the wall clock, by which certificates are judged.
    tls: Option<Arc<TlsContext>>,
}

impl<'a, D: Driver> Worker<'a, D> {
    pub(crate) fn new(driver: D, config: Config, mailbox: &'a Mailbox, waker: Waker) -> Self {
        let now = clock::now();
        let tls = config.tls.clone();
        let mut engine = Engine::new(config, now);
        engine.tell_of_probes();
        Self {
            driver,
            engine: ManuallyDrop::new(engine),
            mailbox,
            waker,
            actions: Vec::new(),
            held: VecDeque::new(),
            served: 0,
            publish_at: now + PUBLISH_EVERY,
            sickness: Sickness::new(now),
            probed: Vec::new(),
            tls,
        }
    }

    /// Turns until dismissed.
    ///
    /// # Errors
    ///
    /// The driver broke.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let ended = self.turns();
        // What the engine holds to be sent may still be read by a kernel that the
        // driver lost sight of, or that was too slow to end: then it stays, for as
        // long as the process does. A panic does not come here either.
        if ended.is_ok() && self.engine.slots_in_use() == 0 {
            drop(ManuallyDrop::into_inner(self.engine));
        }
        ended
    }

    fn turns(&mut self) -> io::Result<()> {
        let mut looked = clock::now();
        while !self.mailbox.quit.load(Ordering::Acquire) {
            self.take_commands(looked);
            looked = self.turn(looked)?;
        }
        self.end(looked)
    }

    /// One turn; returns the clock at its look.
    fn turn(&mut self, looked: Time) -> io::Result<Time> {
        self.engine.advance(looked);
        self.engine.take_actions(&mut self.actions);
        self.driver.carry_out(&self.engine, &self.actions);
        let all_reported = self.hand_over_reports();
        self.remember();
        self.publish_if_due(looked);
        let ready = clock::now();
        let timeout = self.timeout(ready, all_reported);
        self.driver.wait(timeout)?;
        let now = clock::now();
        // Not looking: while busy, and while oversleeping.
        let overslept = now.since(ready).saturating_sub(timeout);
        let late = ready.since(looked) + overslept;
        let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.mailbox
            .pulse
            .late_us
            .fetch_max(late_us, Ordering::Relaxed);
        self.engine.begin_turn(late_us);
        self.driver.harvest(&mut self.engine, now)?;
        self.mailbox.pulse.beat_us.store(now.0, Ordering::Relaxed);
        Ok(now)
    }

    /// How long there is nothing to do.
    fn timeout(&self, now: Time, all_reported: bool) -> Duration {
        if !self.mailbox.commands.is_empty() {
            return Duration::ZERO;
        }
        let wait = match self.engine.next_timeout() {
            Some(next) => next.since(now).min(WAIT_MAX),
            None => WAIT_MAX,
        };
        if all_reported {
            wait
        } else {
            wait.min(REPORT_RETRY)
        }
    }

    fn take_commands(&mut self, now: Time) {
        let hurry = self.mailbox.hurry.load(Ordering::Relaxed);
        self.engine.set_hurry(hurry);
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.mailbox.commands.pop() else {
                return;
            };
            match command {
                Command::Start {
                    id,
                    spec,
                    generation,
                    inherit,
                    first,
                    caps,
                } => {
                    let engine = &mut self.engine;
                    let taken = engine.start(id, &spec, generation, inherit, first, caps, now);
                    if taken.is_err() {
                        // Its owner releases it as one that cannot be measured.
                        self.held.push_back(Report {
                            check: id,
                            generation,
                            degraded: false,
                            kind: ReportKind::Unmeasured {
                                reason: Unmeasured::InFlightFull,
                                in_a_row: u32::MAX,
                            },
                        });
                    }
                }
                Command::Trust(tls) => {
                    self.tls = Some(Arc::clone(&tls));
                    self.engine.trust(tls);
                }
                Command::Record(recorder) => self.engine.record(recorder),
                Command::Retarget { id, spec, caps } => self.engine.retarget(id, &spec, caps),
                Command::Stop(id) => self.engine.stop(id),
                Command::Attend(id) => self.engine.attend(id),
                Command::Ask {
                    id,
                    spec,
                    ask,
                    caps,
                } => self.engine.ask(id, &spec, ask, caps, now),
            }
        }
    }

    /// Puts reports into the mailbox while there is room. Returns whether all
    /// went in.
    fn hand_over_reports(&mut self) -> bool {
        let mut any = false;
        let all = loop {
            let next = self.held.pop_front().or_else(|| self.engine.poll_report());
            let Some(report) = next else { break true };
            match self.mailbox.reports.push(report) {
                Ok(()) => any = true,
                Err(report) => {
                    self.held.push_front(report);
                    break false;
                }
            }
        };
        if any || !all {
            (self.waker)();
        }
        all
    }

    /// Remembers the probes that have ended. Whoever looks at them is not waited
    /// for.
    fn remember(&mut self) {
        self.engine.take_probed(&mut self.probed);
        if self.probed.is_empty() {
            return;
        }
        if let Some(mut trace) = self.mailbox.try_trace() {
            for probed in self.probed.drain(..) {
                trace.record(probed);
            }
        } else if self.probed.len() > TRACE_WAITING {
            let over = (self.probed.len() - TRACE_WAITING) as u64;
            self.mailbox.untraced.fetch_add(over, Ordering::Relaxed);
            self.probed.truncate(TRACE_WAITING);
        }
    }

    fn publish_if_due(&mut self, now: Time) {
        let ticket = self.mailbox.publish.load(Ordering::Acquire);
        if now >= self.publish_at || ticket != self.served {
            self.publish_at = now + PUBLISH_EVERY;
            self.publish(ticket, now);
            if let Some(tls) = &self.tls {
                tls.set_wall_s(clock::wall_us() / 1_000_000);
            }
        }
    }

    fn publish(&mut self, ticket: u64, now: Time) {
        self.served = ticket;
        let (ours, outcomes) = self.engine.take_trouble();
        let stats = self.engine.stats();
        let sick = self.sickness.observe(now, ours, outcomes);
        self.mailbox.pulse.sick.store(sick, Ordering::Relaxed);
        let mut published = self.mailbox.published();
        stats.move_into(&mut published.stats);
        published.cpu_us = clock::thread_cpu_us();
        published.ticket = ticket;
    }

    /// Resets what is in flight and waits for it to be closed, within bounds.
    fn end(&mut self, mut looked: Time) -> io::Result<()> {
        let until = looked + END_WITHIN;
        self.engine.stop_all();
        while self.engine.slots_in_use() > 0 && looked < until {
            looked = self.turn(looked)?;
        }
        let ticket = self.mailbox.publish.load(Ordering::Acquire);
        self.publish(ticket, looked);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use watchfire_probe_core::engine::Pacing;
    use watchfire_probe_core::schedule::Schedule;

    use super::*;

    /// A driver that panics, breaks or is dismissed at its first wait.
    struct Ends<'a>(&'a Mailbox, Manner);

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Manner {
        Panics,
        Breaks,
        IsDismissed,
    }

    impl Driver for Ends<'_> {
        fn carry_out(&mut self, _: &Engine, _: &[Action]) {}

        fn wait(&mut self, _: Duration) -> io::Result<()> {
            match self.1 {
                Manner::Panics => panic!("a fault of this test's own"),
                Manner::Breaks => Err(io::ErrorKind::BrokenPipe.into()),
                Manner::IsDismissed => {
                    self.0.quit.store(true, Ordering::Release);
                    Ok(())
                }
            }
        }

        fn harvest(&mut self, _: &mut Engine, _: Time) -> io::Result<bool> {
            Ok(false)
        }
    }

    #[test]
    fn what_the_kernel_may_still_read_is_freed_only_after_an_orderly_end() {
        for manner in [Manner::Panics, Manner::Breaks, Manner::IsDismissed] {
            let tls = Arc::new(TlsContext::new(Vec::new(), 1_700_000_000).unwrap());
            let mailbox = Mailbox::new(1).unwrap();
            let config = Config {
                slots: 4,
                pacing: Pacing::Scheduled,
                user_agent: "test".to_owned(),
                schedule: Schedule::new(clock::now(), clock::wall_us()),
                tls: Some(Arc::clone(&tls)),
            };
            let driver = Ends(&mailbox, manner);
            let worker = Worker::new(driver, config, &mailbox, Arc::new(|| {}));
            // The worker's own is dropped in any case; the engine's shows whether
            // that was.
            let ended = catch_unwind(AssertUnwindSafe(|| worker.run().is_ok()));
            assert_eq!(
                ended.ok(),
                match manner {
                    Manner::Panics => None,
                    Manner::Breaks => Some(false),
                    Manner::IsDismissed => Some(true),
                }
            );
            let freed = Arc::strong_count(&tls) == 1;
            assert_eq!(freed, manner == Manner::IsDismissed, "{manner:?}");
        }
    }
}
