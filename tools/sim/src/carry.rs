//! Carrying out what nodes want: datagrams, streams, probes, tables, disks.

use watchfire_core::io::{Event as Word, Published};
use watchfire_host::{Effect, Probing};
use watchfire_probe_core::engine::Inherited;
use watchfire_wire::limits::DATAGRAM_BYTES;
use watchfire_wire::{Actor, CheckId, First, NodeId, Time, Verdict};

use crate::cpu::ProbeCommand;
use crate::faults::Fault;
use crate::limits;
use crate::measure::SpreadWatch;
use crate::workload::Phase;
use crate::world::{Event, Peer, World};

/// Bytes of IP and UDP headers per datagram.
const UDP_HEADER_BYTES: u64 = 28;

impl World {
    pub(crate) fn carry_out(&mut self, host: usize, effect: Effect) {
        match effect {
            Effect::Datagram { to, bytes } => self.send(host, to, bytes),
            Effect::BulkConnect { conn, to, hello } => {
                if let Some(peer) = Peer::of(to, self.hosts.len()) {
                    self.connect(host, conn, peer, hello);
                }
            }
            Effect::BulkSend { conn, bytes } => self.stream_send(host, conn, bytes),
            Effect::BulkClose { conn } => self.stream_close(host, conn),
            Effect::Probe(what) => self.carry_out_probing(host, what),
            Effect::Published { check, what } => self.publish(host, check, what),
            // Nobody asks there.
            Effect::Looked { .. } => {}
            Effect::PersistEpoch(epoch) => self.hosts[host].disk_epoch = epoch,
            Effect::KeepOverrides(kept) => self.hosts[host].disk_overrides = kept,
            Effect::Left => {
                self.fired.count(Fault::Leave);
                self.kill(host);
            }
            Effect::Conflict { addr, actor } => {
                self.oracles.violate(self.now_us, Some(host), "names", || {
                    format!("gave up its name to {actor:?} at {addr}, and nobody else bears it")
                });
                self.kill(host);
            }
            Effect::Event(word) => self.on_word(host, &word),
            Effect::Trouble(trouble) => {
                self.oracles.violate(self.now_us, Some(host), "tables", || {
                    format!("a table on the heap is in trouble: {trouble:?}")
                });
            }
        }
    }

    fn carry_out_probing(&mut self, host: usize, what: Probing) {
        match what {
            Probing::Start {
                check,
                generation,
                inherited,
                first,
                ..
            } => self.start_probing(host, check, generation, inherited, first),
            // Its origins have addresses.
            Probing::Retarget { .. } => {}
            Probing::Stop(check) => {
                let check = self.check_index[&check];
                self.say(host, || format!("stops probing check {check}"));
                self.reasons_to_write += 1;
                self.hosts[host].prober.stop(check);
                self.ask_prober(host, ProbeCommand::Stop(check));
            }
            Probing::Attend(check) => {
                let check = self.check_index[&check];
                self.hosts[host].prober.attend(check);
                self.ask_prober(host, ProbeCommand::Attend(check));
            }
            Probing::Hurry(hurry) => {
                self.hosts[host].prober.hurry = hurry;
                if let Some(threads) = &mut self.hosts[host].threads {
                    threads.probes.set_hurry(hurry);
                }
            }
            Probing::Ask { check, ask, .. } => self.ask(host, check, ask),
        }
    }

    fn send(&mut self, host: usize, to: std::net::SocketAddr, bytes: Vec<u8>) {
        if self.is_silenced(host, &bytes) {
            return;
        }
        if bytes.len() > DATAGRAM_BYTES {
            self.oracles.violate(self.now_us, Some(host), "bounds", || {
                format!("sent a datagram of {} bytes", bytes.len())
            });
        }
        let sender = &mut self.hosts[host];
        sender.packets_sent += 1;
        sender.bytes_sent += bytes.len() as u64 + UDP_HEADER_BYTES;
        if self.has_cpu() {
            self.load.sent(self.now_us, host, &bytes, UDP_HEADER_BYTES);
        }
        match Peer::of(to, self.hosts.len()) {
            Some(Peer::Host(target)) => {
                let sent_us = self.sent_us(host);
                let arrivals = self.net.carry(host, target, bytes, &mut self.fired);
                for arrival in arrivals.into_iter().flatten() {
                    let from = Peer::Host(host);
                    let event = Event::Datagram {
                        host: target,
                        from,
                        bytes: arrival.bytes,
                    };
                    self.queue.push(sent_us + arrival.after_us, event);
                }
            }
            Some(Peer::Stranger(stranger)) => {
                if let Some(words) = self.oracles.gate.answered(stranger, bytes.len()) {
                    self.oracles
                        .violate(self.now_us, Some(host), "gate", || words);
                }
            }
            None => self.oracles.violate(self.now_us, Some(host), "gate", || {
                format!("sent a datagram to {to}, which nobody told it of")
            }),
        }
    }

    fn start_probing(
        &mut self,
        host: usize,
        id: CheckId,
        generation: u32,
        inherit: Option<Inherited>,
        first: First,
    ) {
        let check = self.check_index[&id];
        self.reasons_to_write += 1;
        let now = self.local(host);
        let interval = std::time::Duration::from_micros(self.options.interval_us);
        let due = self.hosts[host].schedule.begin(id, interval, first, now);
        self.say(host, || {
            format!("starts probing check {check}, inherits {inherit:?}")
        });
        let it = &mut self.hosts[host];
        if it.prober.target(check).is_some() {
            self.oracles
                .violate(self.now_us, Some(host), "contract", || {
                    format!("starts check {check}, which it probes already")
                });
        }
        it.prober.start(check, generation, inherit, due);
        if self.has_cpu() {
            let command = ProbeCommand::Start {
                check,
                generation,
                inherit,
                first,
            };
            self.ask_prober(host, command);
        } else {
            self.schedule_probe(host, check, generation, due);
        }
    }

    fn publish(&mut self, host: usize, id: CheckId, what: Option<Published>) {
        let check = self.check_index[&id];
        self.say(host, || format!("publishes check {check}: {what:?}"));
        let now_us = self.now_us;
        let old = std::mem::replace(&mut self.hosts[host].table.verdicts[check as usize], what);
        let Some(new) = what else { return };
        if self.host_of(new.owner) == Some(host) {
            self.judge_write(host, check);
        }
        if let Some(watch) = self.spreading.get_mut(&check)
            && watch.verdict == new.verdict
            && watch.seen_by(host)
        {
            let took_ms = (now_us - watch.at_us) as f64 / 1e3;
            let mass = watch.mass;
            let sample = if mass {
                &mut self.measures.mass_spread_ms
            } else {
                &mut self.measures.spread_ms
            };
            sample.push(took_ms);
            self.spreading.remove(&check);
        }
        if old.is_none_or(|old| old.verdict != new.verdict) {
            self.oracles.truth.published(check, now_us);
        }
    }

    fn on_word(&mut self, host: usize, word: &Word) {
        self.say(host, || format!("{word:?}"));
        match *word {
            Word::Suspected(_) => self.load.suspected += 1,
            Word::Died(actor) => self.on_death(host, actor),
            Word::Transition(check, old, new) => self.on_transition(host, check, old, new),
            _ => {}
        }
    }

    fn on_death(&mut self, observer: usize, dead: Actor) {
        let Some(&subject) = self.by_node.get(&dead.node) else {
            return;
        };
        let is_running = self.is_current(subject, dead);
        self.load.died += u64::from(is_running);
        if let Some(watch) = self.crash.as_mut().filter(|_| !is_running)
            && watch.victim == subject
            && std::mem::take(&mut watch.untold[observer])
        {
            let took_ms = (self.now_us - watch.at_us) as f64 / 1e3;
            if !std::mem::replace(&mut watch.first_told, true) {
                self.measures.detect_first_ms.push(took_ms);
            }
            if watch.untold.iter().all(|&untold| !untold) {
                self.measures.detect_all_ms.push(took_ms);
            }
        }
        self.judge_death_after_stall(observer, subject, is_running);
        // A stopped, slow or unreachable member is rightly held for dead, and
        // who was stopped itself may well be wrong and tell others.
        let calm_since_us = self.disturbed_us() + limits::HEALTHY_AFTER_US;
        // Who was put out hears nobody, and is right to hold them for dead.
        let hears = !self.is_liar(observer);
        if hears && is_running && self.net.is_whole() && calm_since_us < self.now_us {
            self.measures.false_positives += 1;
            self.oracles
                .violate(self.now_us, Some(observer), "membership", || {
                    format!("holds n{subject} for dead, which is alive and well")
                });
        }
    }

    fn on_transition(&mut self, host: usize, id: CheckId, old: Verdict, new: Verdict) {
        self.reasons_to_write += 1;
        let check = self.check_index[&id];
        if new == Verdict::Down {
            let reach_us = limits::TRUTH_INTERVALS * self.options.interval_us;
            let since_us = self.now_us.saturating_sub(reach_us);
            // Nobody can tell a node that is blind and cut off at once from a
            // POP whose origins have all died.
            let cut_off = !self.net.is_whole() || self.healed_us > since_us;
            let it = &self.hosts[host];
            let forlorn = (it.blind || it.sighted_us > since_us) && cut_off;
            self.load.false_downs += u64::from(!self.origins.was_bad_since(check, since_us));
            if !forlorn && !self.origins.was_bad_since(check, since_us) {
                self.measures.false_downs += 1;
                self.oracles
                    .violate(self.now_us, Some(host), "truthfulness", || {
                        format!("wrote Down for check {check}, whose origin is good")
                    });
            }
        }
        let mass = match self.phase {
            Phase::Single => false,
            Phase::Mass => true,
            _ => return,
        };
        if mass {
            self.measures.mass_transitions += 1;
        }
        if old == Verdict::Unknown {
            return;
        }
        let mut missing = vec![0_u64; self.hosts.len().div_ceil(64)];
        let mut missing_hosts = 0;
        for other in self.living().filter(|&other| other != host) {
            let has = self.hosts[other].table.verdicts[check as usize];
            if has.is_none_or(|has| has.verdict != new) {
                missing[other / 64] |= 1 << (other % 64);
                missing_hosts += 1;
            }
        }
        if missing_hosts > 0 {
            let at_us = self.now_us;
            let watch = SpreadWatch {
                at_us,
                verdict: new,
                mass,
                missing,
                missing_hosts,
            };
            self.spreading.insert(check, watch);
        }
    }

    /// Whether this is the life that the host's process lives.
    pub(crate) fn is_current(&self, host: usize, actor: Actor) -> bool {
        self.hosts[host]
            .agent
            .as_ref()
            .is_some_and(|agent| agent.actor() == actor)
    }

    /// When a host was last started, stopped, held back or cut off.
    fn disturbed_us(&self) -> u64 {
        let hosts = self
            .hosts
            .iter()
            .map(|it| it.started_us.max(it.stalled_until_us).max(it.held_until_us));
        hosts.max().unwrap_or(0).max(self.healed_us)
    }

    /// When what a host sends now is on the wire.
    pub(crate) fn sent_us(&self, host: usize) -> u64 {
        let spent_us = (self.spent as f64 * self.times(host) / 1e3) as u64;
        (self.now_us + spent_us).max(self.hosts[host].held_until_us)
    }

    pub(crate) fn local(&self, host: usize) -> Time {
        self.hosts[host].clock.local(self.now_us)
    }

    /// A line of the history, if one is written.
    pub(crate) fn say(&mut self, host: usize, words: impl FnOnce() -> String) {
        if self.trace.is_on() {
            self.trace
                .line(self.now_us, Some(host), format_args!("{}", words()));
        }
    }

    /// The host that bears this name.
    pub(crate) fn host_of(&self, node: NodeId) -> Option<usize> {
        self.by_node.get(&node).copied()
    }
}
