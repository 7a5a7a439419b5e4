//! Making the plan happen.

use watchfire_core::io::Input;

use crate::cpu::{Command, gossip_of, probes_of};
use crate::faults::Fault;
use crate::measure::CrashWatch;
use crate::net::Weather;
use crate::probing::is_unmeasurable;
use crate::workload::{Action, Phase};
use crate::world::{Event, Peer, World};

/// A wall clock that is set back: an hour, a multiple of any usual interval.
const AMNESIA_MS: i64 = -3_600_000;

impl World {
    pub(crate) fn act(&mut self, action: Action) {
        if self.trace.is_on() && !matches!(action, Action::Mischief | Action::LieOn) {
            self.trace
                .line(self.now_us, None, format_args!("{action:?}"));
        }
        match action {
            Action::Boot { host } => self.boot(host),
            Action::BootAmnesic { host } => {
                self.kill(host);
                self.fired.count(Fault::EpochReuse);
                self.hosts[host].disk_epoch = 0;
                self.hosts[host].clock.set_wall_offset_ms(AMNESIA_MS);
                self.boot(host);
            }
            Action::Kill { host, why } => {
                if self.hosts[host].agent.is_some() {
                    self.fired.count(why);
                    self.watch_crash(host);
                    self.kill(host);
                }
            }
            Action::Leave { host } => {
                let host = self.living_from(host);
                self.command(host, Command::Leave);
            }
            Action::Weigh { host, capacity } => {
                self.hosts[host].capacity = capacity;
                if self.hosts[host].agent.is_some() {
                    self.fired.count(Fault::Capacity);
                    self.command(host, Command::Capacity(capacity));
                }
            }
            Action::Drain { host, on } => {
                let host = self.living_from(host);
                self.fired.count(Fault::Drain);
                self.excuse_host(host);
                self.command(host, Command::Drain(on));
            }
            Action::Stall { host, for_us, why } => {
                let host = self.living_from(host);
                if self.hosts[host].agent.is_some() {
                    self.fired.count(why);
                    self.excuse_host(host);
                    let until_us = (self.now_us + for_us).max(self.hosts[host].stalled_until_us);
                    self.hosts[host].stalled_until_us = until_us;
                    self.queue.push(until_us, Event::Resume { host });
                }
            }
            Action::Hold { host, for_us } => {
                self.fired.count(Fault::Slow);
                self.excuse_host(host);
                let it = &mut self.hosts[host];
                it.held_until_us = it.held_until_us.max(self.now_us + for_us);
            }
            Action::Leap { host, by_us } => self.leap(host, by_us),
            Action::Cut { mut hosts, one_way } => {
                // Cutting off the dead is no cut.
                if !hosts.iter().any(|&host| self.hosts[host].agent.is_some()) {
                    hosts[0] = self.living_from(hosts[0]);
                }
                self.oracles.coverage.split(self.now_us);
                self.net.cut(&hosts, one_way);
            }
            Action::Heal => {
                self.oracles.coverage.excuse_all(self.now_us);
                self.net.heal();
                self.healed_us = self.now_us;
            }
            Action::Give { host, checks, why } => {
                self.fired.count(why);
                self.reconfigure(host, checks, true);
            }
            Action::Take { host, checks } => self.reconfigure(host, checks, false),
            Action::Origins {
                checks,
                health,
                why,
            } => {
                if let Some(why) = why {
                    self.fired.count(why);
                }
                for check in checks {
                    self.origins.set(self.now_us, check, health);
                }
            }
            Action::Blind { host, on } => {
                // One at a time.
                let host = self.probing_from(host, |_| true);
                self.end_blindness();
                self.hosts[host].blind = on;
            }
            Action::Uplink(uplink) => self.uplink = uplink,
            Action::JudgeDowns => self.judge_downs(),
            Action::JudgeReturn => self.judge_return(),
            Action::Unmeasurable { host, on } => {
                let host = self.probing_from(host, is_unmeasurable);
                self.excuse_host(host);
                for it in &mut self.hosts {
                    it.unmeasurable = false;
                }
                self.hosts[host].unmeasurable = on;
            }
            Action::Sick { host, on: true } => {
                let host = self.living_from(host);
                self.fired.count(Fault::ProberSick);
                self.excuse_host(host);
                self.hosts[host].sick = true;
                self.command(host, Command::Healthy(false));
            }
            Action::Sick { on: false, .. } => {
                for host in 0..self.hosts.len() {
                    if std::mem::take(&mut self.hosts[host].sick) {
                        self.command(host, Command::Healthy(true));
                    }
                }
            }
            Action::Slow { hosts, times } => {
                for host in hosts {
                    self.hosts[host].slowness = times;
                }
            }
            Action::Hog { for_us } => {
                self.hogs_until_us = self.now_us + for_us;
                for hog in 0..self.options.hogs {
                    self.wake(2 * self.hosts.len() + hog);
                }
            }
            Action::Reload { host, take, give } => self.reload(host, take, give),
            Action::Load { on } => self.load.loaded(self.now_us, on),
            Action::Mischief => self.mischief(),
            Action::Decide {
                host,
                name,
                op,
                for_ms,
            } => self.decide(host, name, op, for_ms),
            Action::WallOff { host, by_ms } => self.hosts[host].clock.set_wall_offset_ms(by_ms),
            Action::RestartAll => {
                for host in self.living().collect::<Vec<_>>() {
                    self.kill(host);
                    self.boot(host);
                }
                self.oracles.calm_since_us = self.now_us;
                self.oracles.coverage.excuse_all(self.now_us);
            }
            Action::Lie { host } => self.lie(host),
            Action::LieOn => self.lie_on(),
            Action::EndLies { evict } => self.end_lies(evict),
            Action::JudgeDead => self.judge_dead(),
            Action::JudgeLies => self.judge_lies(),
            Action::Phase(phase) => self.enter(phase),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.leave_phase();
        self.phase = phase;
        match phase {
            Phase::Settle => self.net.weather = self.bad_weather(),
            Phase::Calm => {
                self.net.heal();
                self.healed_us = self.now_us;
                // Whatever the turmoil left behind ends here.
                self.end_blindness();
                for host in 0..self.hosts.len() {
                    self.hosts[host].unmeasurable = false;
                    self.boot(host);
                }
                self.net.set_recording(false);
                self.oracles.calm_since_us = self.now_us;
                self.oracles.coverage.excuse_all(self.now_us);
            }
            Phase::Quiet => {
                self.reset_traffic();
                self.written_before = self.agents().map(|agent| agent.written()).sum();
            }
            Phase::Mass => self.reset_traffic(),
            Phase::Rest => {
                self.net.weather = Weather::default();
                self.oracles.calm_since_us = self.now_us;
            }
            Phase::End => self.final_judgement(),
            Phase::Turmoil | Phase::Single | Phase::Crash | Phase::Restart => {}
        }
    }

    fn leave_phase(&mut self) {
        let bytes: u64 = self.hosts.iter().map(|host| host.bytes_sent).sum();
        let packets: u64 = self.hosts.iter().map(|host| host.packets_sent).sum();
        let nodes = self.hosts.len() as u64;
        match self.phase {
            Phase::Quiet => {
                self.judge_quiet_writes();
                self.measures.quiet_bytes += bytes;
                self.measures.quiet_packets += packets;
                self.measures.quiet_node_s += nodes * self.options.quiet_s;
            }
            Phase::Mass => {
                self.measures.mass_bytes += bytes;
                let lasted_us = 20 * self.options.interval_us;
                self.measures.mass_node_s += nodes * lasted_us / 1_000_000;
            }
            Phase::Crash => {
                // Checks that nobody took over are the coverage oracle's.
                let untold = |watch: &CrashWatch| {
                    (0..watch.untold.len())
                        .filter(|&host| watch.untold[host])
                        .collect()
                };
                let untold: Vec<usize> = self.crash.as_ref().map(untold).unwrap_or_default();
                if !untold.is_empty() {
                    self.oracles
                        .violate(self.now_us, untold.first().copied(), "detection", || {
                            format!("nodes {untold:?} have not learnt of a crash 14 s ago")
                        });
                }
                self.crash = None;
            }
            _ => {}
        }
    }

    fn reset_traffic(&mut self) {
        for host in &mut self.hosts {
            host.bytes_sent = 0;
            host.packets_sent = 0;
        }
    }

    fn bad_weather(&self) -> Weather {
        let share = |fault, share| {
            if self.options.faults.has(fault) {
                share
            } else {
                0.0
            }
        };
        Weather {
            loss: share(Fault::Loss, self.options.loss),
            duplication: share(Fault::Duplication, 0.02),
            reordering: share(Fault::Reordering, 0.05),
            late: share(Fault::Delay, 0.02),
            truncation: share(Fault::Truncation, 0.005),
            bit_flips: share(Fault::BitFlips, 0.005),
            ..Weather::default()
        }
    }

    fn watch_crash(&mut self, victim: usize) {
        if self.phase != Phase::Crash {
            return;
        }
        let mut orphans = std::collections::BTreeMap::new();
        for check in self.hosts[victim].prober.checks() {
            let shared = self
                .living()
                .any(|other| other != victim && self.hosts[other].prober.target(check).is_some());
            let last = self.oracles.coverage.last_probe(check, 0);
            if let Some(last_us) = last.filter(|_| !shared) {
                orphans.insert(check, last_us);
            }
        }
        let mut untold = vec![false; self.hosts.len()];
        for host in self.living().filter(|&host| host != victim) {
            untold[host] = true;
        }
        let at_us = self.now_us;
        self.crash = Some(CrashWatch {
            at_us,
            victim,
            untold,
            first_told: false,
            orphans,
        });
    }

    fn reconfigure(&mut self, host: usize, checks: Vec<u32>, has: bool) {
        let changed: Vec<u32> = checks
            .into_iter()
            .filter(|&check| self.hosts[host].config[check as usize] != has)
            .collect();
        for &check in &changed {
            self.hosts[host].config[check as usize] = has;
            self.oracles.coverage.excuse(check, self.now_us);
        }
        if self.hosts[host].agent.is_none() {
            return;
        }
        if has {
            self.configure(host, &changed, &[]);
        } else {
            self.configure(host, &[], &changed);
            for check in changed {
                self.hosts[host].table.verdicts[check as usize] = None;
            }
        }
    }

    /// All definitions of a host change in one go.
    fn reload(&mut self, host: usize, take: Vec<u32>, give: Vec<u32>) {
        let config = &mut self.hosts[host].config;
        for &check in &take {
            config[check as usize] = false;
        }
        for &check in &give {
            config[check as usize] = true;
        }
        for &check in take.iter().chain(&give) {
            self.oracles.coverage.excuse(check, self.now_us);
        }
        if self.hosts[host].agent.is_some() {
            self.configure(host, &give, &take);
            for check in take {
                self.hosts[host].table.verdicts[check as usize] = None;
            }
        }
    }

    /// This host, or the next one with a running process.
    pub(crate) fn living_from(&self, host: usize) -> usize {
        let all = self.hosts.len();
        let next = (0..all).map(|i| (host + i) % all);
        next.into_iter()
            .find(|&it| self.hosts[it].agent.is_some())
            .unwrap_or(host)
    }

    /// This host, or the next one that runs freely and probes such a check: a
    /// fault of its probes shows nowhere else.
    fn probing_from(&self, host: usize, such: impl Fn(u32) -> bool) -> usize {
        let all = self.hosts.len();
        let mut next = (0..all).map(|i| (host + i) % all);
        next.find(|&it| {
            let it = &self.hosts[it];
            let runs = it.stalled_until_us.max(it.held_until_us) <= self.now_us;
            runs && !it.sick && it.prober.checks().any(&such)
        })
        .unwrap_or_else(|| self.living_from(host))
    }

    /// What a host probes may go unprobed for the time of a takeover.
    fn excuse_host(&mut self, host: usize) {
        for check in self.hosts[host].prober.checks() {
            self.oracles.coverage.excuse(check, self.now_us);
        }
    }

    fn leap(&mut self, host: usize, by_us: u64) {
        let host = self.living_from(host);
        if self.hosts[host].agent.is_none() {
            return;
        }
        self.fired.count(Fault::ClockJump);
        self.excuse_host(host);
        let it = &mut self.hosts[host];
        it.clock.leap(by_us);
        // All timers are due earlier now.
        it.tick_due_us = u64::MAX;
        if self.has_cpu() {
            self.wake(gossip_of(host));
            self.wake(probes_of(host));
            return;
        }
        // An agent looks at its wall clock now and then.
        if self.hosts[host].stalled_until_us <= self.now_us {
            let at_zero_ms = self.hosts[host].clock.wall_at_zero_ms(self.now_us);
            let wall = watchfire_core::overrides::Wall {
                at_zero_ms,
                synchronised: true,
            };
            self.feed(host, Input::Wall(wall));
        }
        let it = &mut self.hosts[host];
        let mut checks: Vec<u32> = it.prober.checks().collect();
        checks.sort_unstable();
        for check in checks {
            let target = self.hosts[host].prober.target(check).expect("it is probed");
            let (generation, due) = (target.generation, target.due);
            self.schedule_probe(host, check, generation, due);
        }
        self.arm(host);
    }

    /// Strangers send junk, and recorded datagrams come again.
    fn mischief(&mut self) {
        let living: Vec<usize> = self.living().collect();
        if living.is_empty() {
            return;
        }
        let stranger = Peer::Stranger(self.rng.below(8) as u16);
        if self.options.faults.has(Fault::Junk) {
            let host = living[self.rng.index(living.len())];
            let mut junk: Vec<u8> = (0..self.rng.index(600))
                .map(|_| self.rng.bits() as u8)
                .collect();
            if let Some(recorded) = self.net.recorded().filter(|_| self.rng.chance(0.5)) {
                // A real frame, spoilt behind its header.
                junk = recorded.bytes;
                if let Some(last) = junk.last_mut() {
                    *last ^= 0x55;
                }
            }
            self.fired.count(Fault::Junk);
            // Whatever is due by now is not the junk's doing.
            self.feed(host, Input::Tick);
            let before = self.digest(host);
            let drawn = self.oracles.gate.drawn();
            self.receive(host, stranger, &junk, std::time::Duration::ZERO);
            if self.digest(host) != before || self.oracles.gate.drawn() != drawn {
                self.oracles.violate(self.now_us, Some(host), "gate", || {
                    format!("{} bytes of junk were not ignored", junk.len())
                });
            }
        }
        if self.options.faults.has(Fault::Replay)
            && let Some(recorded) = self.net.recorded()
        {
            self.fired.count(Fault::Replay);
            let honest = self.rng.chance(0.5);
            let from = if honest {
                Peer::Host(recorded.from)
            } else {
                stranger
            };
            let (host, bytes) = (recorded.to, recorded.bytes);
            self.queue
                .push(self.now_us, Event::Datagram { host, from, bytes });
        }
    }

    fn digest(&self, host: usize) -> Option<u64> {
        self.hosts[host].agent.as_ref().map(|agent| agent.digest())
    }
}
