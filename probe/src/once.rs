//! One probe, for people at a terminal.

use core::time::Duration;
use std::sync::Arc;

use crossbeam::sync::Parker;
use watchfire_probe_core::engine::ReportKind;
use watchfire_probe_core::tape::{Recorder, Tape};
use watchfire_probe_core::{CheckSpec, Outcome, Phases};
use watchfire_wire::Unmeasured;

use crate::error::StartError;
use crate::options::{Backend, Options};
use crate::prober::Prober;

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnceReport {
    /// Pass, fail or not measured, and why.
    pub outcome: Outcome,
    /// How long each phase took.
    pub phases: Phases,
    /// The driver that probed.
    pub backend: Backend,
    /// Why it is not io_uring, if it might have been.
    pub fallback: Option<String>,
    /// What it said and heard.
    pub tape: Tape,
}

/// How much longer than its timeout a probe is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Probes `spec`, which must be [valid](CheckSpec::validate), one time on a
/// thread of its own.
///
/// # Errors
///
/// The thread cannot be started.
pub fn once(spec: CheckSpec, options: &Options) -> Result<OnceReport, StartError> {
    let parker = Parker::new();
    let unparker = parker.unparker().clone();
    let options = Options {
        threads: 1,
        in_flight_max: 4,
        ..options.clone()
    };
    let mut prober = Prober::start(options, Arc::new(move || unparker.unpark()))?;
    let until = crate::now() + spec.timeout * 2 + PATIENCE;
    let recorder = Arc::<Recorder>::default();
    prober.record(&recorder);
    prober.ask(Arc::new(spec), 0);
    prober.flush();
    let mut outcome = Outcome::NotMeasured(Unmeasured::Internal);
    let mut phases = Phases::default();
    while crate::now() < until {
        if let Some(report) = prober.poll() {
            if let ReportKind::Opinion {
                outcome: found,
                phases: took,
                ..
            } = report.kind
            {
                (outcome, phases) = (found, took);
                break;
            }
        } else {
            parker.park_timeout(Duration::from_millis(100));
        }
    }
    Ok(OnceReport {
        outcome,
        phases,
        backend: prober.backend(),
        fallback: prober.fallback().map(str::to_owned),
        tape: recorder.with(core::mem::take),
    })
}
