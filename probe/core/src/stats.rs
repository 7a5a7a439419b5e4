//! Counters and histograms of one probe thread, and their sum over threads.

use hdrhistogram::Histogram;
use watchfire_wire::{Reason, Unmeasured};

use crate::kind::KIND_KEYS;
use crate::outcome::{Outcome, Phases};

/// Longest time that a histogram tells apart, microseconds. Longer ones count
/// as this.
const LONGEST_US: u64 = 60_000_000;

/// Significant digits of the histograms: one percent.
const DIGITS: u8 = 2;

/// What a prober did since its start.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Probes that were started.
    pub started: u64,
    /// Outcomes that the origin caused, by the code of [`Reason`]; the first
    /// one is "passed".
    pub by_reason: [u64; Reason::ALL.len()],
    /// Outcomes that we caused, by the code of [`Unmeasured`] less 128.
    pub by_unmeasured: [u64; Unmeasured::ALL.len()],
    /// Due times that went by without a probe.
    pub skipped: u64,
    /// Changes of verdict.
    pub transitions: u64,
    /// Connections that the origin had closed between two probes, and that
    /// were opened anew without a fail.
    pub reopened: u64,
    /// Scheduled against actual start, microseconds.
    pub lateness_us: Histogram<u64>,
    /// Phases, by kind, in the order of [`KIND_KEYS`].
    pub kinds: [KindStats; KIND_KEYS.len()],
    /// Checks that are held now.
    pub checks: u64,
    /// Slots that are in use now: in flight, closing or parked.
    pub slots: u64,
    /// Connections that wait for their next probe now.
    pub parked: u64,
    /// Due checks that wait for a slot now.
    pub waiting: u64,
}

/// How long the phases of one kind of check took.
#[derive(Clone, Debug)]
pub struct KindStats {
    /// Until the connection stood, microseconds.
    pub connect_us: Histogram<u64>,
    /// Until the TLS handshake was done, microseconds.
    pub tls_us: Histogram<u64>,
    /// Until the first byte of the response, microseconds.
    pub first_byte_us: Histogram<u64>,
    /// Until the outcome, microseconds; measured outcomes only.
    pub total_us: Histogram<u64>,
}

impl Stats {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: 0,
            by_reason: [0; Reason::ALL.len()],
            by_unmeasured: [0; Unmeasured::ALL.len()],
            skipped: 0,
            transitions: 0,
            reopened: 0,
            lateness_us: histogram(),
            kinds: std::array::from_fn(|_| KindStats {
                connect_us: histogram(),
                tls_us: histogram(),
                first_byte_us: histogram(),
                total_us: histogram(),
            }),
            checks: 0,
            slots: 0,
            parked: 0,
            waiting: 0,
        }
    }

    /// Outcomes that the origin caused.
    #[must_use]
    pub fn measured(&self) -> u64 {
        self.by_reason.iter().sum()
    }

    /// Probes that passed.
    #[must_use]
    pub const fn passed(&self) -> u64 {
        self.by_reason[0]
    }

    /// Probes that the origin failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.by_reason[1..].iter().sum()
    }

    /// Probes that measured nothing.
    #[must_use]
    pub fn not_measured(&self) -> u64 {
        self.by_unmeasured.iter().sum()
    }

    /// Fails with this reason.
    #[must_use]
    pub const fn reason(&self, reason: Reason) -> u64 {
        self.by_reason[reason.code() as usize]
    }

    /// Probes that measured nothing for this reason.
    #[must_use]
    pub const fn unmeasured(&self, unmeasured: Unmeasured) -> u64 {
        self.by_unmeasured[(unmeasured.code() - FIRST_UNMEASURED) as usize]
    }

    /// Adds what another thread did.
    pub fn add(&mut self, other: &Self) {
        self.started += other.started;
        for (sum, part) in self.by_reason.iter_mut().zip(&other.by_reason) {
            *sum += part;
        }
        for (sum, part) in self.by_unmeasured.iter_mut().zip(&other.by_unmeasured) {
            *sum += part;
        }
        self.skipped += other.skipped;
        self.transitions += other.transitions;
        self.reopened += other.reopened;
        merge(&mut self.lateness_us, &other.lateness_us);
        for (sum, part) in self.kinds.iter_mut().zip(&other.kinds) {
            merge(&mut sum.connect_us, &part.connect_us);
            merge(&mut sum.tls_us, &part.tls_us);
            merge(&mut sum.first_byte_us, &part.first_byte_us);
            merge(&mut sum.total_us, &part.total_us);
        }
        self.checks += other.checks;
        self.slots += other.slots;
        self.parked += other.parked;
        self.waiting += other.waiting;
    }

    /// Adds what happened here to `total`, whose gauges become these, and
    /// starts again from nothing.
    pub fn move_into(&mut self, total: &mut Self) {
        (total.checks, total.slots, total.parked, total.waiting) = (0, 0, 0, 0);
        total.add(self);
        self.started = 0;
        self.by_reason = [0; Reason::ALL.len()];
        self.by_unmeasured = [0; Unmeasured::ALL.len()];
        self.skipped = 0;
        self.transitions = 0;
        self.reopened = 0;
        clear(&mut self.lateness_us);
        for kind in &mut self.kinds {
            clear(&mut kind.connect_us);
            clear(&mut kind.tls_us);
            clear(&mut kind.first_byte_us);
            clear(&mut kind.total_us);
        }
    }

    /// Counts a probe's outcome without its times.
    pub(crate) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::NotMeasured(unmeasured) => {
                self.by_unmeasured[usize::from(unmeasured.code() - FIRST_UNMEASURED)] += 1;
            }
            Outcome::Pass | Outcome::Fail(_) => {
                self.by_reason[usize::from(outcome.code())] += 1;
            }
        }
    }

    /// Records the times of a measured probe.
    pub(crate) fn time(&mut self, kind: usize, phases: &Phases) {
        let kind = &mut self.kinds[kind];
        if let Some(us) = phases.connect_us {
            kind.connect_us.saturating_record(u64::from(us).max(1));
        }
        if let Some(us) = phases.tls_us {
            kind.tls_us.saturating_record(u64::from(us).max(1));
        }
        if let Some(us) = phases.first_byte_us {
            kind.first_byte_us.saturating_record(u64::from(us).max(1));
        }
        kind.total_us
            .saturating_record(u64::from(phases.total_us).max(1));
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

const FIRST_UNMEASURED: u8 = Unmeasured::ALL[0].code();

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("constant bounds that fit")
}

/// Most histograms of a thread are of kinds that it has no check of: those cost
/// nothing, a second after a second.
fn clear(histogram: &mut Histogram<u64>) {
    if !histogram.is_empty() {
        histogram.reset();
    }
}

fn merge(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    if part.is_empty() {
        return;
    }
    sum.add(part)
        .expect("all histograms here have equal bounds");
}

// Codes are places in the arrays.
const _: () = {
    let mut index = 0;
    while index < Reason::ALL.len() {
        assert!(Reason::ALL[index].code() as usize == index);
        index += 1;
    }
    index = 0;
    while index < Unmeasured::ALL.len() {
        assert!(Unmeasured::ALL[index].code() as usize == index + FIRST_UNMEASURED as usize);
        index += 1;
    }
};
