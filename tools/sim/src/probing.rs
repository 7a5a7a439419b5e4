//! Probes in virtual time: when they are due, what they find, and what they
//! are said to have found.

use watchfire_wire::{CheckId, Reason, Time, Unmeasured};

use crate::cpu::ProbeCommand;
use crate::faults::Fault;
use crate::origin::Health;
use crate::prober::Outcome;
use crate::workload::Phase;
use crate::world::{Event, World};

/// What a probe of a good origin takes at least and at most, microseconds.
const LATENCY_US: (u64, u64) = (500, 5_000);
/// Share of single probes that fail under [`Fault::LostProbe`].
const LOST_PROBES: f64 = 0.005;

/// Which checks cannot be measured by a node that is out of local ports for
/// some.
pub(crate) fn is_unmeasurable(check: u32) -> bool {
    check.is_multiple_of(2)
}

impl World {
    pub(crate) fn schedule_probe(&mut self, host: usize, check: u32, generation: u32, due: Time) {
        let it = &self.hosts[host];
        let at_us = it.clock.when_us(due).max(self.now_us);
        let life = it.life;
        self.queue.push(
            at_us,
            Event::Probe {
                host,
                life,
                check,
                generation,
                due,
            },
        );
    }

    pub(crate) fn on_probe_due(
        &mut self,
        host: usize,
        life: u32,
        check: u32,
        generation: u32,
        due: Time,
    ) {
        let now = self.local(host);
        let interval = std::time::Duration::from_micros(self.options.interval_us);
        let it = &mut self.hosts[host];
        let Some(target) = it.prober.target_mut(check) else {
            return;
        };
        if it.life != life || target.generation != generation || target.due != due {
            return;
        }
        let next = it
            .schedule
            .next(self.checks[check as usize], due, interval, true, now);
        target.due = next.due;
        self.schedule_probe(host, check, generation, next.due);
        if next.skipped > 0 {
            // Overrun is skipped, never made up for.
            return;
        }
        let (outcome, took_us) = self.probe(host, check);
        if !matches!(outcome, Outcome::NotMeasured(_)) {
            self.note_probe(host, check);
        }
        if self.hosts[host].prober.matters(check, outcome) {
            let at_us = self.now_us + took_us;
            let took_us = took_us as u32;
            let event = Event::Probed {
                host,
                life,
                check,
                generation,
                outcome,
                took_us,
            };
            self.queue.push(at_us, event);
        }
    }

    pub(crate) fn on_probed(
        &mut self,
        host: usize,
        life: u32,
        check: u32,
        generation: u32,
        outcome: Outcome,
        took_us: u32,
    ) {
        let it = &mut self.hosts[host];
        if it.life != life {
            return;
        }
        if let Some(kind) = it.prober.observe(check, generation, outcome, took_us) {
            self.report(host, check, generation, kind);
        }
    }

    /// A probe for somebody's second opinion, beside any schedule.
    pub(crate) fn ask(&mut self, host: usize, id: CheckId, ask: u64) {
        let check = self.check_index[&id];
        if self.has_cpu() {
            return self.ask_prober(host, ProbeCommand::Ask { check, ask });
        }
        let (outcome, took_us) = self.probe(host, check);
        let life = self.hosts[host].life;
        let event = Event::Asked {
            host,
            life,
            check,
            ask,
            outcome,
        };
        self.queue.push(self.now_us + took_us, event);
    }

    /// What a probe that starts now finds, and how long that takes.
    pub(crate) fn probe(&mut self, host: usize, check: u32) -> (Outcome, u64) {
        let it = &self.hosts[host];
        let timeout_us = self.options.timeout_us();
        if it.sick {
            return (Outcome::NotMeasured(Unmeasured::OutOfFiles), 10);
        }
        if it.unmeasurable && is_unmeasurable(check) {
            self.fired.count(Fault::Unmeasurable);
            return (Outcome::NotMeasured(Unmeasured::OutOfPorts), 10);
        }
        if it.blind {
            self.fired.count(Fault::Blind);
            return (Outcome::Fail(Reason::ConnectTimeout), timeout_us);
        }
        if let Some(outcome) = self.through_uplink(host) {
            return (outcome, timeout_us);
        }
        let took_us = self.rng.range(LATENCY_US.0, LATENCY_US.1);
        match self.origins.health(check) {
            Health::Good => {
                // Not while a node is blind: a jury that is asked then must be
                // able to tell, and it has three voices only.
                let asked = self.options.faults.has(Fault::LostProbe)
                    && !self.hosts.iter().any(|host| host.blind);
                if asked && self.phase < Phase::Rest && self.rng.chance(LOST_PROBES) {
                    self.fired.count(Fault::LostProbe);
                    return (Outcome::Fail(Reason::ConnectTimeout), timeout_us);
                }
                (Outcome::Pass, took_us)
            }
            Health::Refusing => (Outcome::Fail(Reason::ConnectRefused), took_us),
            Health::Hanging => (Outcome::Fail(Reason::FirstByteTimeout), timeout_us),
        }
    }

    /// The origin's log: who probed, and when.
    pub(crate) fn note_probe(&mut self, host: usize, check: u32) {
        let component = self.net.component(host);
        let now_us = self.now_us;
        self.trace
            .mix(5, now_us ^ (host as u64) << 48 ^ u64::from(check));
        if self.trace.is_on() {
            self.trace
                .line(now_us, Some(host), format_args!("probes check {check}"));
        }
        let is_second = self.oracles.coverage.probed(check, component, now_us);
        if self.phase == Phase::Quiet {
            self.measures.quiet_probes += 1;
            self.measures.quiet_duplicates += u64::from(is_second);
            if is_second {
                self.trace
                    .line(now_us, Some(host), format_args!("that was a second one"));
            }
        }
        self.load.probed(host, check);
        self.count_probe();
        let interval_us = self.options.interval_us;
        if let Some(watch) = &mut self.crash
            && let Some(last_us) = watch.orphans.remove(&check)
        {
            let gap_us = (now_us - last_us).saturating_sub(interval_us);
            self.measures.takeover_gap_ms.push(gap_us as f64 / 1e3);
        }
    }
}
