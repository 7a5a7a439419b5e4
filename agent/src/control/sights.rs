//! What whoever asks can look at without the gossip thread: the table, what the
//! probe threads published, and what the shell counted.

use tracing_appender::non_blocking::ErrorCounter;
use watchfire_probe::Statistics;
use watchfire_table::Reader;
use watchfire_wire::NodeId;

use crate::config::Chosen;
use crate::gossip::Timings;

/// See the module.
pub(crate) struct Sights {
    pub(crate) me: NodeId,
    pub(crate) statistics: Statistics,
    pub(crate) timings: Timings,
    pub(crate) table: Reader,
    /// Which origins have metrics of their own though they are Up.
    pub(crate) chosen: Chosen,
    pub(crate) log: ErrorCounter,
}

impl Sights {
    /// Log lines that were dropped.
    pub(crate) fn lines_lost(&self) -> u64 {
        u64::try_from(self.log.dropped_lines()).unwrap_or(u64::MAX)
    }
}
