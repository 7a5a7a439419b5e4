//! What whoever asks can look at without the gossip thread: the table, what the
//! probe threads published, and what the shell counted.

use std::sync::{Arc, Mutex, PoisonError};

use tracing_appender::non_blocking::ErrorCounter;
use watchfire_core::counters::Counter;
use watchfire_host::resolve::Queries;
use watchfire_probe::Statistics;
use watchfire_table::Reader;
use watchfire_wire::NodeId;

use crate::clock;
use crate::config::Chosen;
use crate::gossip::Timings;
use crate::gossip::status::{Status, Why};
use crate::names::Book;
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
    /// What is known of names, and what was asked.
    pub(crate) names: (Arc<Mutex<Book>>, Arc<Mutex<Queries>>),
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
        why.resolved = self.book().of(spec);
        why.sent = spec.kind.sent(&self.user_agent, spec.tls.is_some());
        if let Some(traced) = self.statistics.trace(spec.id()) {
            let zero_ms = clock::wall_at_zero().at_zero_ms;
            (why.probes, why.answers) = recorder::told(traced, zero_ms);
            why.probes.retain(|it| it.at_ms <= until_ms);
            why.answers.retain(|it| it.at_ms <= until_ms);
        }
    }

    /// Adds what is known of names.
    pub(crate) fn name(&self, status: &mut Status) {
        status.names = self.book().status();
        let (_, asked) = &self.names;
        let asked = *asked.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = [
            Counter::new(
                "name_queries",
                "Questions for an origin's name.",
                asked.queries,
            ),
            Counter::new(
                "name_queries_failed",
                "Questions for an origin's name that nobody answered; what was known stays.",
                asked.failed,
            ),
            Counter::new(
                "name_queries_missing",
                "Questions for an origin's name answered by: there is none, or no address.",
                asked.missing,
            ),
            Counter::new(
                "name_changes",
                "Answers with other addresses than before.",
                asked.changed,
            ),
        ];
        let by_name = counters.iter().map(|it| (it.name.to_owned(), it.count));
        status.counters.extend(by_name);
        status.counted.extend(counters);
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.names.0.lock().unwrap_or_else(PoisonError::into_inner)
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
