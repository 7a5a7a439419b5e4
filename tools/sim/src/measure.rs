//! What a run is measured by: how soon a crash is known and made good, how soon
//! a transition is everywhere, what idleness costs, and what was wrong.
//!
//! It watches and never interferes.

use crate::stats::Sample;

/// The figures of one run, or of many added up.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// From a crash to the first member that held it for dead, milliseconds.
    pub detect_first_ms: Sample,
    /// To the last living member, milliseconds.
    pub detect_all_ms: Sample,
    /// Last probe before a crash to the first after it, less the interval.
    pub takeover_gap_ms: Sample,
    /// From the write of a lone transition until every living table has it.
    pub spread_ms: Sample,
    /// The same for each transition of a mass event.
    pub mass_spread_ms: Sample,
    /// Living, running and reachable members that were held for dead, counted
    /// at each member that did.
    pub false_positives: u64,
    /// Writes of Down for an origin that had not been bad.
    pub false_downs: u64,
    /// Probes in the quiet minute, and those that were a second one of their
    /// interval.
    pub quiet_probes: u64,
    /// See [`Measures::quiet_probes`].
    pub quiet_duplicates: u64,
    /// Bytes sent in the quiet minute, headers counted.
    pub quiet_bytes: u64,
    /// Packets sent in the quiet minute.
    pub quiet_packets: u64,
    /// Seconds of quiet, times nodes.
    pub quiet_node_s: u64,
    /// Bytes sent during the mass event, headers counted.
    pub mass_bytes: u64,
    /// Transitions written during it.
    pub mass_transitions: u64,
    /// Seconds that it lasted, times nodes.
    pub mass_node_s: u64,
    /// Events that the simulator carried out.
    pub steps: u64,
}

impl Measures {
    /// Adds another run's figures.
    pub fn add(&mut self, other: &Self) {
        self.detect_first_ms.extend(&other.detect_first_ms);
        self.detect_all_ms.extend(&other.detect_all_ms);
        self.takeover_gap_ms.extend(&other.takeover_gap_ms);
        self.spread_ms.extend(&other.spread_ms);
        self.mass_spread_ms.extend(&other.mass_spread_ms);
        self.false_positives += other.false_positives;
        self.false_downs += other.false_downs;
        self.quiet_probes += other.quiet_probes;
        self.quiet_duplicates += other.quiet_duplicates;
        self.quiet_bytes += other.quiet_bytes;
        self.quiet_packets += other.quiet_packets;
        self.quiet_node_s += other.quiet_node_s;
        self.mass_bytes += other.mass_bytes;
        self.mass_transitions += other.mass_transitions;
        self.mass_node_s += other.mass_node_s;
        self.steps += other.steps;
    }

    /// Share of the quiet minute's probes that were a second one of their
    /// interval.
    #[must_use]
    pub fn duplicate_ratio(&self) -> f64 {
        ratio(self.quiet_duplicates as f64, self.quiet_probes as f64)
    }

    /// Bytes per second that an idle node sends.
    #[must_use]
    pub fn idle_bytes_per_node_s(&self) -> f64 {
        ratio(self.quiet_bytes as f64, self.quiet_node_s as f64)
    }

    /// Packets per second that an idle node sends.
    #[must_use]
    pub fn idle_packets_per_node_s(&self) -> f64 {
        ratio(self.quiet_packets as f64, self.quiet_node_s as f64)
    }

    /// What a mass event cost beyond idleness, in bytes per transition and
    /// replica.
    #[must_use]
    pub fn mass_bytes_per_slot(&self, nodes: usize) -> f64 {
        let idle = self.idle_bytes_per_node_s() * self.mass_node_s as f64;
        let slots = self.mass_transitions as f64 * nodes.saturating_sub(1) as f64;
        ratio(self.mass_bytes as f64 - idle, slots)
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// A crash whose consequences are being watched.
#[derive(Debug)]
pub struct CrashWatch {
    /// When, microseconds.
    pub at_us: u64,
    /// Whose.
    pub victim: usize,
    /// Who has not learnt of it yet.
    pub untold: Vec<bool>,
    /// Whether somebody has.
    pub first_told: bool,
    /// Check to the time of its last probe, of those that only the dead node
    /// probed.
    pub orphans: std::collections::BTreeMap<u32, u64>,
}

/// A transition on its way.
#[derive(Clone, Debug)]
pub struct SpreadWatch {
    /// When it was written, microseconds.
    pub at_us: u64,
    /// What it turned to.
    pub verdict: watchfire_wire::Verdict,
    /// Part of a mass event.
    pub mass: bool,
    /// Hosts whose tables lack it, as a set of bits.
    pub missing: Vec<u64>,
    /// How many bits are set.
    pub missing_hosts: u32,
}

impl SpreadWatch {
    /// This host has it now; whether it was the last.
    pub fn seen_by(&mut self, host: usize) -> bool {
        let bit = 1 << (host % 64);
        let word = &mut self.missing[host / 64];
        if *word & bit != 0 {
            *word &= !bit;
            self.missing_hosts -= 1;
        }
        self.missing_hosts == 0
    }
}
