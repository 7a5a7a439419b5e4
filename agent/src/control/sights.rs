//! What whoever asks can look at without the gossip thread: the table, what the
//! probe threads published, and what the shell counted.

use tracing_appender::non_blocking::ErrorCounter;
use watchfire_probe::Statistics;
use watchfire_table::Reader;
use watchfire_wire::NodeId;

use crate::clock;
use crate::config::Chosen;
use crate::gossip::Timings;
use crate::gossip::status::Why;
use crate::recorder::{self, Recorder};

/// See the module.
pub(crate) struct Sights {
    pub(crate) me: NodeId,
    pub(crate) statistics: Statistics,
    pub(crate) timings: Timings,
    pub(crate) table: Reader,
    /// Which origins have metrics of their own though they are Up.
    pub(crate) chosen: Chosen,
    pub(crate) log: ErrorCounter,
    pub(crate) recorder: Recorder,
    /// What checks that send HTTP call themselves.
    pub(crate) user_agent: String,
}

impl Sights {
    /// Adds to what the gossip thread knows of an origin what was seen of it: up to
    /// then, milliseconds since 1970.
    pub(crate) fn recall(&self, why: &mut Why, until_ms: u64) {
        let journal = self.recorder.journal();
        let kept = journal.of(&why.origin);
        why.history = kept.filter(|it| it.since_ms <= until_ms).collect();
        drop(journal);
        let Some(spec) = &why.spec else {
            return;
        };
        why.sent = spec.kind.sent(&self.user_agent, spec.tls.is_some());
        if let Some(traced) = self.statistics.trace(spec.id()) {
            let zero_ms = clock::wall_at_zero().at_zero_ms;
            (why.probes, why.answers) = recorder::told(traced, zero_ms);
            why.probes.retain(|it| it.at_ms <= until_ms);
            why.answers.retain(|it| it.at_ms <= until_ms);
        }
    }

    /// Memory that holds what was seen, bytes.
    pub(crate) fn recorder_bytes(&self) -> usize {
        self.recorder.journal().bytes() + self.statistics.trace_size().0
    }

    /// Log lines that were dropped.
    pub(crate) fn lines_lost(&self) -> u64 {
        u64::try_from(self.log.dropped_lines()).unwrap_or(u64::MAX)
    }
}
