//! Processes begin, are configured, and end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use watchfire_host::OriginChange;
use watchfire_probe_core::schedule::Schedule;
use watchfire_wire::Time;

use crate::agent::{Agent, Boot};
use crate::cpu::{Command, Probes, Threads, gossip_of, probes_of};
use crate::faults::Fault;
use crate::host::CAPACITY;
use crate::limits;
use crate::world::{World, host_addr};

/// Seeds that every node is configured with.
const JOIN_SEEDS: usize = 3;

impl World {
    /// Starts a process.
    pub(crate) fn boot(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() {
            return;
        }
        let seeds: Vec<SocketAddr> = (0..self.options.nodes.min(JOIN_SEEDS))
            .filter(|&seed| seed != host)
            .map(host_addr)
            .collect();
        let mixed = self.options.faults.has(Fault::MixedVersions);
        let protocol_max =
            watchfire_wire::message::PROTOCOL + u8::from(mixed && host.is_multiple_of(2));
        let boot_id = self.rng.bits();
        let rng_seed = self.rng.seed_bytes();
        let it = &mut self.hosts[host];
        it.life += 1;
        it.started_us = self.now_us;
        let wall_at_zero_ms = it.clock.wall_at_zero_ms(self.now_us);
        it.schedule = Schedule::new(Time::ZERO, wall_at_zero_ms * 1_000);
        it.tick_due_us = u64::MAX;
        it.stalled_until_us = 0;
        it.table.verdicts.fill(None);
        let boot = Boot {
            name: it.name.clone(),
            addr: it.addr,
            boot: boot_id,
            persisted_epoch: it.disk_epoch,
            overrides: (*it.disk_overrides).clone(),
            wall_at_zero_ms,
            seeds,
            table: it.shown.clone(),
            names: self.options.names(),
            rng_seed,
            sealed: self.options.sealed,
            protocol_max,
            brake: self.options.uplink.is_some(),
            foreign_least: (self.options.faults.has(Fault::Liar)).then_some(limits::FOREIGN_LEAST),
            mutation: self.options.mutation,
        };
        let now = it.clock.local(self.now_us);
        it.agent = Some(Agent::start(&boot, now));
        self.load.booted(host);
        if let Some(cpu) = &self.options.cpu {
            let probes = Probes::new(it.schedule, now);
            it.threads = Some(Box::new(Threads::new(cpu, probes, self.now_us)));
            self.wake(gossip_of(host));
            self.wake(probes_of(host));
        }
        if self.options.faults.has(Fault::ClockRate) {
            self.fired.count(Fault::ClockRate);
        }
        if mixed && host.is_multiple_of(2) {
            self.fired.count(Fault::MixedVersions);
        }
        self.trace
            .line(self.now_us, Some(host), format_args!("starts"));
        let checks = (0..self.options.checks as u32)
            .filter(|&check| self.hosts[host].config[check as usize])
            .collect::<Vec<_>>();
        self.configure(host, &checks, &[]);
        if self.hosts[host].sick {
            self.command(host, Command::Healthy(false));
        }
        if self.hosts[host].capacity != CAPACITY {
            let capacity = self.hosts[host].capacity;
            self.command(host, Command::Capacity(capacity));
        }
        self.command(host, Command::Tick);
    }

    /// Tells a node of a change of its configuration.
    pub(crate) fn configure(&mut self, host: usize, add: &[u32], remove: &[u32]) {
        let (add, remove) = (add.to_vec(), remove.to_vec());
        self.command(host, Command::Checks { add, remove });
    }

    pub(crate) fn feed_checks(&mut self, host: usize, add: &[u32], remove: &[u32]) {
        let names = self.options.names();
        let name = |check: u32| Arc::clone(&self.names[check as usize % names]);
        let id = |check: u32| self.checks[check as usize];
        let it = &mut self.hosts[host];
        let first = std::mem::replace(&mut it.configured_life, it.life) != it.life;
        let given: BTreeSet<usize> = add.iter().map(|&check| check as usize % names).collect();
        let kept = |check: &u32| given.contains(&(*check as usize % names));
        let change = OriginChange {
            first,
            names_set: add.iter().map(|&check| (name(check), id(check))).collect(),
            names_removed: remove
                .iter()
                .filter(|&check| !kept(check))
                .map(|&check| name(check))
                .collect(),
            checks_added: add
                .iter()
                .map(|&check| (id(check), Arc::clone(&self.specs[check as usize])))
                .collect(),
            checks_removed: remove.iter().map(|&check| id(check)).collect(),
            ..OriginChange::default()
        };
        self.feed_with(host, |agent, now| agent.configure(now, &change));
    }

    /// Every node sees the origins again.
    pub(crate) fn end_blindness(&mut self) {
        for it in &mut self.hosts {
            if std::mem::take(&mut it.blind) {
                it.sighted_us = self.now_us;
            }
        }
    }

    /// Ends a process without a word.
    pub(crate) fn kill(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        let Some(agent) = it.agent.take() else { return };
        self.written_by_dead += agent.written();
        self.trace
            .line(self.now_us, Some(host), format_args!("ends"));
        it.life += 1;
        it.tick_due_us = u64::MAX;
        it.stalled_until_us = 0;
        for check in it.prober.checks() {
            self.oracles.coverage.excuse(check, self.now_us);
        }
        it.prober.clear();
        self.end_threads(host);
        let it = &mut self.hosts[host];
        it.writes.clear();
        it.table.verdicts.fill(None);
        self.drop_streams(host);
        for watch in self.spreading.values_mut() {
            watch.seen_by(host);
        }
    }
}
