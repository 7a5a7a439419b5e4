//! A server of the POP: its clocks, its process while there is one, and what
//! the oracles remember of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use watchfire_core::io::Published;
use watchfire_core::overrides::Kept;
use watchfire_probe_core::schedule::Schedule;
use watchfire_table::HeapHome;
use watchfire_wire::Time;

use crate::agent::Agent;
use crate::clock::Clock;
use crate::cpu::Threads;
use crate::faults::Fault;
use crate::prober::Prober;
use crate::rng::Rng;
use crate::workload::Options;

/// The weight of a node unless it changes.
pub(crate) const CAPACITY: u16 = 100;

/// A server of the POP.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) clock: Clock,
    /// The process, while there is one.
    pub(crate) agent: Option<Agent>,
    /// Counts its starts, so that what was meant for one does not reach the
    /// next.
    pub(crate) life: u32,
    pub(crate) started_us: u64,
    /// When checks are due, as the process worked it out at its start.
    pub(crate) schedule: Schedule,
    /// Stopped until then.
    pub(crate) stalled_until_us: u64,
    /// Its network holds everything back until then.
    pub(crate) held_until_us: u64,
    pub(crate) waiting_datagrams: usize,
    pub(crate) tick_due_us: u64,
    pub(crate) prober: Prober,
    pub(crate) disk_epoch: u64,
    pub(crate) disk_overrides: Arc<Kept>,
    pub(crate) capacity: u16,
    /// When some node last held it for dead.
    pub(crate) died_us: u64,
    /// What it wrote of each check, and whether a report has come since.
    pub(crate) writes: HashMap<u32, Written>,
    pub(crate) config: Vec<bool>,
    pub(crate) table: Table,
    pub(crate) blind: bool,
    /// When it was last blind, if it is not any more.
    pub(crate) sighted_us: u64,
    pub(crate) unmeasurable: bool,
    pub(crate) sick: bool,
    pub(crate) bytes_sent: u64,
    pub(crate) packets_sent: u64,
    /// The threads of the process, where processors cost time.
    pub(crate) threads: Option<Box<Threads>>,
    /// Where its table is, from one process to the next.
    pub(crate) shown: HeapHome,
    /// The life that was given its first set of origins.
    pub(crate) configured_life: u32,
    /// Everything takes so many times longer than it should.
    pub(crate) slowness: f64,
}

/// A node's last word on a check.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// In which epoch: a greater one writes all anew.
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) reported: bool,
}

/// What a host's table says, as far as the oracles care.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) verdicts: Vec<Option<Published>>,
}

impl Host {
    pub(crate) fn new(options: &Options, name: String, addr: SocketAddr, rng: &mut Rng) -> Self {
        let boot_us = rng.below(1 << 40);
        let rate_ppm = if options.faults.has(Fault::ClockRate) {
            rng.below(4_001) as i32 - 2_000
        } else {
            0
        };
        Self {
            name,
            addr,
            clock: Clock::new(boot_us, rate_ppm),
            agent: None,
            life: 0,
            started_us: 0,
            schedule: Schedule::new(Time::ZERO, 0),
            stalled_until_us: 0,
            held_until_us: 0,
            waiting_datagrams: 0,
            tick_due_us: u64::MAX,
            prober: Prober::default(),
            disk_epoch: 0,
            disk_overrides: Arc::default(),
            capacity: CAPACITY,
            died_us: 0,
            writes: HashMap::new(),
            config: vec![true; options.checks],
            table: Table {
                verdicts: vec![None; options.checks],
            },
            blind: false,
            sighted_us: 0,
            unmeasurable: false,
            sick: false,
            bytes_sent: 0,
            packets_sent: 0,
            threads: None,
            shown: HeapHome::new(),
            configured_life: 0,
            slowness: 1.0,
        }
    }
}
