//! Measures the engine: open loop at a rate, or closed loop at the maximum.
//!
//! What is measured is what runs in production: the same threads, engine and
//! drivers. Only the caps on destinations are off, so it must be pointed at
//! origins of one's own.

use core::time::Duration;
use std::io::{self, Write};
use std::sync::Arc;

use hdrhistogram::Histogram;
use watchfire_probe_core::engine::Pacing;
use watchfire_probe_core::limits::SLOTS;
use watchfire_probe_core::{CheckSpec, Stats};

use crate::clock;
use crate::error::StartError;
use crate::options::Options;
use crate::prober::Prober;
use watchfire_wire::First;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// What to probe, all of one kind; not empty, and each
    /// [valid](CheckSpec::validate). Intervals are set by the bench.
    pub specs: Vec<CheckSpec>,
    /// How fast.
    pub rate: BenchRate,
    /// In an open loop, about the interval of each check; targets are probed
    /// by several checks each where they are too few for the rate. As long as
    /// in production, or a prober at its limit is helped by short timers.
    pub interval: Duration,
    /// For how long it is measured.
    pub duration: Duration,
    /// For how long it runs before that.
    pub warm_up: Duration,
    /// How the prober is set up; the caps are ignored. In a closed loop
    /// `in_flight_max` probes of each thread are in flight all the time.
    pub prober: Options,
}

/// How fast a bench probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchRate {
    /// Open loop: so many probes a second are due, whatever becomes of them;
    /// at least 1.
    PerSecond(u32),
    /// Closed loop: the next one starts when one ends.
    Max,
}

/// How far a bench has come.
#[derive(Clone, Copy, Debug)]
pub struct BenchProgress {
    /// Since its start, warm-up included.
    pub elapsed: Duration,
    /// Until its end.
    pub total: Duration,
    /// Probes started so far.
    pub probes: u64,
}

/// What was measured. The public fields are those of the JSON form.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BenchResult {
    /// The kind's name, like `tcp` or `https`.
    pub kind: &'static str,
    /// The driver: `io_uring` or `epoll`.
    pub backend: &'static str,
    /// Probe threads.
    pub threads: usize,
    /// Targets as given.
    pub targets: usize,
    /// Probes that ended, one way or another.
    pub probes: u64,
    /// Those that passed.
    pub ok: u64,
    /// Those that the origin failed.
    pub failed: u64,
    /// Those that measured nothing.
    pub not_measured: u64,
    /// Probes that ended, per second.
    pub rate_per_s: f64,
    /// CPU time of the probe threads per probe, user and system, microseconds.
    pub cpu_us_per_probe: f64,
    /// Median of scheduled against actual start, microseconds; 0 in a closed
    /// loop, which has no schedule.
    pub late_us_p50: u64,
    /// The same, 99th percentile.
    pub late_us_p99: u64,
    /// Median of what a measured probe took, microseconds.
    pub latency_us_p50: u64,
    /// The same, 99th percentile.
    pub latency_us_p99: u64,
    /// Due times that went by without a probe.
    pub skipped: u64,
    /// Resident memory of the whole process at the end.
    pub rss_bytes: u64,
    /// What measured probes took, microseconds.
    #[serde(skip)]
    pub latency_us: Histogram<u64>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// There is nothing to probe.
    #[error("no targets; name at least one")]
    NoTargets,
    /// A rate of nothing.
    #[error("a rate of 0 measures nothing; choose at least 1 probe per second, or \"max\"")]
    NoRate,
    /// The prober did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// From one call of `progress` to the next.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Slots for each check that keeps its connection: not all of a thread's may
/// be kept, and the threads do not get equally many checks.
const SLOTS_PER_KEPT: u32 = 3;

/// Runs a bench; `progress` is called a few times a second.
///
/// # Errors
///
/// There is nothing to do, or the prober cannot be started.
pub fn bench(
    options: BenchOptions,
    mut progress: impl FnMut(BenchProgress),
) -> Result<BenchResult, BenchError> {
    let Some(first) = options.specs.first() else {
        return Err(BenchError::NoTargets);
    };
    let kind = first.kind_key();
    let mut prober = Options {
        rate_per_address: None,
        rate_per_prefix: None,
        ..options.prober.clone()
    };
    let (pacing, specs) = match options.rate {
        BenchRate::PerSecond(0) => return Err(BenchError::NoRate),
        BenchRate::PerSecond(rate) => (
            Pacing::Scheduled,
            open_loop(&options.specs, rate, options.interval),
        ),
        BenchRate::Max => {
            let wanted = prober.in_flight_max as usize * prober.threads;
            let keeps = first.kind.keeps_connection();
            if keeps {
                // As many checks as are to be in flight, and for each of them
                // a connection of its own.
                prober.in_flight_max = (prober.in_flight_max * SLOTS_PER_KEPT).min(SLOTS);
            }
            let from = if keeps {
                &options.specs[..options.specs.len().min(wanted)]
            } else {
                &options.specs[..]
            };
            (Pacing::Closed, copies(from, wanted))
        }
    };
    let mut prober = Prober::start_paced(prober, Arc::new(|| {}), pacing)?;
    for spec in specs {
        prober.start_check(Arc::new(spec), 1, None, First::PHASE);
    }
    let began = clock::now();
    let total = options.warm_up + options.duration;
    let mut run_until = |span: Duration| {
        loop {
            let all = prober.flush();
            while prober.poll().is_some() {}
            let elapsed = clock::now().since(began);
            progress(BenchProgress {
                elapsed: elapsed.min(total),
                total,
                probes: prober.stats().started,
            });
            let Some(left) = span.checked_sub(elapsed).filter(|left| !left.is_zero()) else {
                break;
            };
            let pause = if all {
                PROGRESS_EVERY
            } else {
                Duration::from_millis(1)
            };
            std::thread::sleep(left.min(pause));
        }
        (prober.census(), clock::now())
    };
    let ((before, cpu_before_us), from) = run_until(options.warm_up);
    let ((after, cpu_after_us), until) = run_until(total);
    let measured = Measured {
        before,
        after,
        cpu_us: cpu_after_us.saturating_sub(cpu_before_us),
        wall: until.since(from),
    };
    let backend = prober.backend().as_str();
    let rss_bytes = rss_bytes();
    prober.shutdown();
    Ok(measured.result(kind, backend, &options, rss_bytes))
}

impl BenchResult {
    /// Writes what measured probes took in the text form that HdrHistogram's
    /// plotting tools read (`.hgrm`), in microseconds.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn write_hgrm(&self, mut to: impl Write) -> io::Result<()> {
        let histogram = &self.latency_us;
        writeln!(
            to,
            "       Value     Percentile TotalCount 1/(1-Percentile)\n"
        )?;
        for step in histogram.iter_quantiles(5) {
            let quantile = step.quantile_iterated_to();
            write!(
                to,
                "{:12.3} {quantile:1.12} {:10}",
                step.value_iterated_to() as f64,
                histogram.count_between(0, step.value_iterated_to()),
            )?;
            if quantile < 1.0 {
                writeln!(to, " {:14.2}", 1.0 / (1.0 - quantile))?;
            } else {
                writeln!(to)?;
            }
        }
        writeln!(
            to,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
            histogram.mean(),
            histogram.stdev()
        )?;
        writeln!(
            to,
            "#[Max     = {:12.3}, Total count    = {:12}]",
            histogram.max() as f64,
            histogram.len()
        )
    }
}

/// Two counts and what lies between them.
struct Measured {
    before: Stats,
    after: Stats,
    cpu_us: u64,
    wall: Duration,
}

impl Measured {
    fn result(
        &self,
        kind: &'static str,
        backend: &'static str,
        options: &BenchOptions,
        rss_bytes: u64,
    ) -> BenchResult {
        let (before, after) = (&self.before, &self.after);
        let ok = after.passed() - before.passed();
        let failed = after.failed() - before.failed();
        let not_measured = after.not_measured() - before.not_measured();
        let probes = ok + failed + not_measured;
        let late_us = difference(&after.lateness_us, &before.lateness_us);
        let mut latency_us = Stats::new().lateness_us;
        for (after, before) in after.kinds.iter().zip(&before.kinds) {
            // Equal bounds: the one kind that was probed adds up.
            let _ = latency_us.add(difference(&after.total_us, &before.total_us));
        }
        BenchResult {
            kind,
            backend,
            threads: options.prober.threads,
            targets: options.specs.len(),
            probes,
            ok,
            failed,
            not_measured,
            rate_per_s: probes as f64 / self.wall.as_secs_f64().max(f64::EPSILON),
            cpu_us_per_probe: self.cpu_us as f64 / (probes.max(1)) as f64,
            late_us_p50: late_us.value_at_quantile(0.5),
            late_us_p99: late_us.value_at_quantile(0.99),
            latency_us_p50: latency_us.value_at_quantile(0.5),
            latency_us_p99: latency_us.value_at_quantile(0.99),
            skipped: after.skipped - before.skipped,
            rss_bytes,
            latency_us,
        }
    }
}

fn difference(after: &Histogram<u64>, before: &Histogram<u64>) -> Histogram<u64> {
    let mut difference = after.clone();
    difference
        .subtract(before)
        .expect("counts only grow, and the bounds are equal");
    difference
}

/// Checks that are due `rate` times a second in all, each about once per
/// `interval`, or less often if there are many.
fn open_loop(specs: &[CheckSpec], rate: u32, interval: Duration) -> Vec<CheckSpec> {
    let wanted = f64::from(rate) * interval.as_secs_f64();
    let mut checks = copies(specs, wanted as usize);
    let interval = Duration::from_micros(checks.len() as u64 * 1_000_000 / u64::from(rate));
    for check in &mut checks {
        check.interval = interval;
        check.timeout = check.timeout.min(interval);
        check.fast_interval = None;
        check.down_interval = None;
    }
    checks
}

/// The specs, so often that there are at least `wanted`. A check is named by
/// its content: copies differ by some microseconds of timeout.
fn copies(specs: &[CheckSpec], wanted: usize) -> Vec<CheckSpec> {
    let rounds = wanted.div_ceil(specs.len()).max(1);
    (0..rounds as u64)
        .flat_map(|round| {
            specs.iter().map(move |spec| CheckSpec {
                timeout: spec.timeout.saturating_sub(Duration::from_micros(round)),
                ..spec.clone()
            })
        })
        .collect()
}

/// Resident memory of this process; 0 if the kernel does not say.
fn rss_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok());
    pages.unwrap_or(0) * page.unwrap_or(4_096)
}
