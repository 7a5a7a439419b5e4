//! The oracles: what must hold at every moment, and what must hold after calm.
//! One file for each kind of invariant; what they need to see comes to them
//! from the [world](crate::world).

pub mod bounds;
pub mod convergence;
pub mod coverage;
pub mod gate;
pub mod membership;
pub mod overrides;
pub mod truth;

use std::collections::BTreeMap;

use crate::faults::Fault;
use crate::limits;
use crate::workload::{Options, happens_in_turmoil};

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// When, microseconds of virtual time.
    pub at_us: u64,
    /// At which node, if it is one's.
    pub node: Option<usize>,
    /// Which invariant.
    pub invariant: &'static str,
    /// What happened.
    pub words: String,
}

/// All that the oracles remember.
#[derive(Debug)]
pub(crate) struct Oracles {
    pub(crate) violations: Vec<Violation>,
    pub(crate) coverage: coverage::Coverage,
    pub(crate) gate: gate::Gate,
    pub(crate) truth: truth::Truth,
    pub(crate) overrides: overrides::Made,
    /// Since when no fault but the network's has happened.
    pub(crate) calm_since_us: u64,
    pub(crate) sweeps: u64,
    /// Checks that more than one node probes, and since when.
    pub(crate) overlaps: BTreeMap<u32, u64>,
    /// How often each invariant was broken.
    pub(crate) broken: BTreeMap<&'static str, u64>,
    /// A run goes on whatever is broken.
    pub(crate) goes_on: bool,
}

impl Oracles {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            violations: Vec::new(),
            coverage: coverage::Coverage::new(options),
            gate: gate::Gate::default(),
            truth: truth::Truth::new(options.checks),
            overrides: overrides::Made::default(),
            calm_since_us: 0,
            sweeps: 0,
            overlaps: BTreeMap::new(),
            broken: BTreeMap::new(),
            goes_on: false,
        }
    }

    /// Whether so much is broken that a run ends.
    pub(crate) fn is_full(&self) -> bool {
        !self.goes_on && self.violations.len() >= limits::VIOLATIONS
    }

    pub(crate) fn violate(
        &mut self,
        at_us: u64,
        node: Option<usize>,
        invariant: &'static str,
        words: impl FnOnce() -> String,
    ) {
        *self.broken.entry(invariant).or_default() += 1;
        if self.violations.len() < limits::VIOLATIONS {
            self.violations.push(Violation {
                at_us,
                node,
                invariant,
                words: words(),
            });
        }
    }
}

/// How long a check may go unprobed beyond its interval: less if at most one
/// kind of event was asked for, on a network that delivers.
pub(crate) fn takeover_bound_us(options: &Options) -> u64 {
    let spoils = |fault: &Fault| {
        matches!(
            fault,
            Fault::Loss | Fault::Delay | Fault::Truncation | Fault::BitFlips
        )
    };
    let delivers = !options.faults.iter().any(|fault| spoils(&fault));
    let events = options
        .faults
        .iter()
        .filter(|&fault| happens_in_turmoil(fault))
        .count();
    if delivers && events <= 1 {
        limits::TAKEOVER_BOUND_US
    } else {
        limits::TAKEOVER_BOUND_ROUGH_US
    }
}
