//! What an engine reports to the POP core.

use watchfire_wire::message::replica::Answer;
use watchfire_wire::{CheckId, Reason, Unmeasured, Verdict};

use crate::outcome::{Outcome, Phases};

/// One report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of which check.
    pub check: CheckId,
    /// Of which start; 0 for an opinion.
    pub generation: u32,
    /// What happened.
    pub kind: ReportKind,
    /// One of the last few passes showed a sign of trouble all the same.
    pub degraded: bool,
}

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// A probe was measured: reported for the first one after a start, after
    /// an attend and after unmeasured ones, and for every one that changed the
    /// verdict, whether the last outcome contradicts it, or whether it is
    /// degraded.
    Measured {
        /// After rise and fall.
        verdict: Verdict,
        /// The last outcome's.
        reason: Reason,
        /// Outcomes contrary to the verdict, in a row.
        contrary: u8,
        /// What the last probe took, microseconds.
        latency_us: u32,
    },
    /// So many probes in a row measured nothing: reported for the first few,
    /// and then each time their number has doubled.
    Unmeasured {
        /// The last one's.
        reason: Unmeasured,
        /// How many in a row.
        in_a_row: u32,
    },
    /// A full TLS handshake showed a certificate that ends at another time than
    /// the last one's.
    Certificate {
        /// Its last second, since 1970.
        not_after_s: u64,
    },
    /// The answer to a question.
    Opinion {
        /// The question's.
        ask: u64,
        /// What the probe found, in one word.
        answer: Answer,
        /// What it found.
        outcome: Outcome,
        /// What it took.
        phases: Phases,
    },
}

impl Report {
    pub(super) const fn opinion(
        check: CheckId,
        ask: u64,
        outcome: Outcome,
        phases: Phases,
    ) -> Self {
        let answer = match outcome {
            Outcome::Pass => Answer::Pass,
            Outcome::Fail(_) => Answer::Fail,
            Outcome::NotMeasured(_) => Answer::Silent,
        };
        Self {
            check,
            generation: 0,
            degraded: phases.degraded,
            kind: ReportKind::Opinion {
                ask,
                answer,
                outcome,
                phases,
            },
        }
    }
}
