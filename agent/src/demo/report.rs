//! What the demo found, for people and for programs.

use std::fmt;

use serde::Serialize;

/// The demo's result: the last line of `watchfire demo --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Agents, each a process.
    pub(crate) nodes: usize,
    /// Origins in the farm.
    pub(crate) origins: u32,
    /// Requests that the farm saw.
    pub(crate) probes: u64,
    /// Requests per origin and interval in quiet times, the median origin's.
    pub(crate) probes_per_check_interval_p50: f64,
    /// Requests within one interval after another agent's, in quiet times;
    /// second opinions before a Down are among them.
    pub(crate) duplicate_probes: u64,
    /// The same within 2 s of the kill or of the restart.
    pub(crate) handover_probes: u64,
    /// Origins that changed their prober at the kill and at the restart.
    pub(crate) moved_checks: u64,
    /// The agent that was killed.
    pub(crate) killed: String,
    /// From the last probe of the killed agent to the first of another.
    pub(crate) takeover_gap_ms_p50: f64,
    /// The same, 99 of 100 origins.
    pub(crate) takeover_gap_ms_p99: f64,
    /// The same, the worst origin.
    pub(crate) takeover_gap_ms_max: f64,
    /// From the kill to the first probe of its origins by another agent.
    pub(crate) detect_ms: f64,
    /// Changes of origins between good and bad.
    pub(crate) flips: u64,
    /// From the answer that completed fall or rise to the last table's change.
    pub(crate) flip_to_all_tables_ms_p50: f64,
    /// The same, 99 of 100 flips.
    pub(crate) flip_to_all_tables_ms_p99: f64,
    /// The same, the worst flip.
    pub(crate) flip_to_all_tables_ms_max: f64,
    /// Origins that any table showed against the truth, or late beyond reason.
    pub(crate) wrong_verdicts: u64,
    /// Origins that went unprobed for longer than the takeover bound.
    pub(crate) uncovered_checks: u64,
    /// Whether all tables said the same at the end.
    pub(crate) tables_agree: bool,
}

impl Report {
    /// Whether the run was as it should be.
    pub(crate) fn is_good(&self) -> bool {
        self.wrong_verdicts == 0 && self.uncovered_checks == 0 && self.tables_agree
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes_no = |good: bool| if good { "yes" } else { "NO" };
        writeln!(f, "What the origins saw ({} probes)", self.probes)?;
        writeln!(
            f,
            "  each origin probed            {:.2} times per interval, by one agent",
            self.probes_per_check_interval_p50
        )?;
        writeln!(
            f,
            "  probed twice in quiet times   {} ({:.3} %), second opinions before a Down included",
            self.duplicate_probes,
            100.0 * self.duplicate_probes as f64 / (self.probes.max(1)) as f64
        )?;
        writeln!(
            f,
            "  probed twice around handovers {} for {} checks that moved",
            self.handover_probes, self.moved_checks
        )?;
        writeln!(f, "\nWhen {} was killed", self.killed)?;
        writeln!(
            f,
            "  others took over after        {:.0} ms",
            self.detect_ms
        )?;
        writeln!(
            f,
            "  longest time without a probe  {:.0} ms (median {:.0}, p99 {:.0})",
            self.takeover_gap_ms_max, self.takeover_gap_ms_p50, self.takeover_gap_ms_p99
        )?;
        writeln!(
            f,
            "  origins nobody probed         {}",
            self.uncovered_checks
        )?;
        writeln!(f, "\nWhat the proxies read ({} tables)", self.nodes)?;
        writeln!(
            f,
            "  a change reached all tables   {:.0} ms after the probe that decided it (median), p99 {:.0}, \
             worst {:.0}",
            self.flip_to_all_tables_ms_p50,
            self.flip_to_all_tables_ms_p99,
            self.flip_to_all_tables_ms_max
        )?;
        writeln!(f, "  changes seen                  {}", self.flips)?;
        writeln!(f, "  wrong verdicts                {}", self.wrong_verdicts)?;
        write!(
            f,
            "  all tables agree              {}",
            yes_no(self.tables_agree)
        )
    }
}
