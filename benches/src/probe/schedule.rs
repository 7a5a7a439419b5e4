//! The engine at half of its greatest rate, as a prober lives: how punctual it
//! is, how evenly it starts, and what a hundred thousand checks cost more than
//! a few.

use std::error::Error;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use watchfire_origin::KernelCounts;
use watchfire_probe::{Backend, BenchOptions, BenchRate, BenchResult, CheckSpec, Kind};
use watchfire_probe_core::TcpSpec;

/// What was seen of the schedule.
pub(super) struct Punctuality {
    /// The bench's own figures.
    pub(super) result: BenchResult,
    /// The most starts in a bucket against the mean of all, counted by the
    /// kernel.
    pub(super) busiest_vs_mean: Option<f64>,
}

/// Runs TCP checks of one second at `rate_per_s` for `duration`.
pub(super) fn at_rate(
    targets: &[SocketAddrV4],
    core: Option<usize>,
    rate_per_s: u32,
    duration: Duration,
) -> Result<Punctuality, Box<dyn Error>> {
    let over = AtomicBool::new(false);
    let (result, buckets) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| count_starts(&over));
        let specs = copies(targets, targets.len());
        let result = run(specs, core, rate_per_s, Duration::from_secs(1), duration);
        over.store(true, Ordering::Relaxed);
        (result, counting.join())
    });
    let buckets = buckets.map_err(|_| "the counting thread failed")??;
    Ok(Punctuality {
        result: result?,
        busiest_vs_mean: busiest(&buckets),
    })
}

/// Many checks and few, in turn.
pub(super) struct ManyAndFew {
    /// CPU time per probe with many, microseconds.
    pub(super) many: Vec<f64>,
    /// The same with few.
    pub(super) few: Vec<f64>,
    /// Resident memory with the many.
    pub(super) rss_bytes: u64,
}

/// The same rate from many checks of mixed kinds and from few.
pub(super) fn many_against_few(
    targets: &[SocketAddrV4],
    core: Option<usize>,
    rounds: usize,
) -> Result<ManyAndFew, Box<dyn Error>> {
    // The same addresses for both, or the kernel's own caches are compared too.
    let targets = &targets[..targets.len().min(FEW)];
    let (mut many, mut few) = (Vec::new(), Vec::new());
    let mut rss_bytes = 0;
    for _ in 0..rounds {
        let run = |checks| {
            run(
                mixed(copies(targets, checks)),
                core,
                RATE,
                FEW_INTERVAL,
                ROUND,
            )
        };
        few.push(run(FEW)?.cpu_us_per_probe);
        let result = run(MANY)?;
        rss_bytes = rss_bytes.max(result.rss_bytes);
        many.push(result.cpu_us_per_probe);
    }
    Ok(ManyAndFew {
        many,
        few,
        rss_bytes,
    })
}

/// How many checks are many.
const MANY: usize = 100_000;
/// How many are few.
const FEW: usize = 1_000;
/// Probes per second in that comparison: the same for both, or they would
/// differ by how much work each wake-up finds.
const RATE: u32 = 5_000;
/// The interval of the few; that of the many is longer by as much as they are
/// more.
const FEW_INTERVAL: Duration = Duration::from_millis(200);
const _: () = assert!(FEW as u128 * 1_000 == RATE as u128 * FEW_INTERVAL.as_millis());
/// Length of one of its runs.
const ROUND: Duration = Duration::from_secs(2);
/// A bucket of starts.
const BUCKET: Duration = Duration::from_millis(100);
/// Until the first checks have been started.
pub(super) const WARM_UP: Duration = Duration::from_millis(1_100);

/// Runs checks of one kind on a schedule; `interval` is about that of each.
pub(super) fn run(
    specs: Vec<CheckSpec>,
    core: Option<usize>,
    rate_per_s: u32,
    interval: Duration,
    duration: Duration,
) -> Result<BenchResult, Box<dyn Error>> {
    let result = watchfire_probe::bench(
        BenchOptions {
            specs,
            rate: BenchRate::PerSecond(rate_per_s),
            interval,
            duration,
            warm_up: WARM_UP,
            prober: watchfire_probe::Options {
                backend: Backend::IoUring,
                pin_cores: core.map(|core| vec![core]),
                ..watchfire_probe::Options::default()
            },
        },
        |_| {},
    )?;
    if result.failed > 0 {
        return Err(format!("{} probes of healthy origins failed", result.failed).into());
    }
    Ok(result)
}

/// `wanted` different checks of these targets. What a check is called follows
/// from its content, so copies differ by microseconds of timeout; the
/// addresses stay few, to leave the kernel's own caches out of it.
fn copies(targets: &[SocketAddrV4], wanted: usize) -> Vec<CheckSpec> {
    let rounds = wanted.div_ceil(targets.len()) as u64;
    (0..rounds)
        .flat_map(|round| {
            targets.iter().map(move |&target| {
                let spec = CheckSpec::tcp(target.into());
                let timeout = spec.timeout - Duration::from_micros(round);
                CheckSpec { timeout, ..spec }
            })
        })
        .take(wanted)
        .collect()
}

/// Every other one over HTTP, and every fourth with a whole connection.
fn mixed(mut specs: Vec<CheckSpec>) -> Vec<CheckSpec> {
    for (n, spec) in specs.iter_mut().enumerate() {
        spec.kind = match n % 4 {
            0 | 2 => CheckSpec::http(spec.target, "/health").kind,
            1 => Kind::Tcp(TcpSpec { half_open: false }),
            _ => continue,
        };
    }
    specs
}

/// Starts per second in each bucket until `over`.
fn count_starts(over: &AtomicBool) -> std::io::Result<Vec<f64>> {
    let mut buckets = Vec::new();
    let mut before = (Instant::now(), KernelCounts::read()?);
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(BUCKET);
        let now = (Instant::now(), KernelCounts::read()?);
        // Whoever counts late counts a longer bucket.
        let lasted = now.0.duration_since(before.0).as_secs_f64();
        buckets.push(now.1.since(before.1).asked as f64 / lasted);
        before = now;
    }
    Ok(buckets)
}

/// The busiest bucket against the mean, without those of the start and the end.
fn busiest(buckets: &[f64]) -> Option<f64> {
    let warm_up = (WARM_UP.as_millis() / BUCKET.as_millis()) as usize + 1;
    let steady = buckets.get(warm_up..buckets.len().checked_sub(2)?)?;
    let mean = steady.iter().sum::<f64>() / steady.len().max(1) as f64;
    let most = steady.iter().copied().fold(0.0, f64::max);
    (mean > 0.0).then(|| most / mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_different_checks_of_the_same_targets() {
        let targets = [
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.2:1".parse().unwrap(),
        ];
        let specs = copies(&targets, 5);
        let ids: std::collections::HashSet<_> = specs.iter().map(CheckSpec::id).collect();
        assert_eq!((specs.len(), ids.len()), (5, 5));
        assert!(specs.iter().all(|spec| spec.validate().is_ok()));
    }

    #[test]
    fn the_busiest_bucket_is_found_among_the_steady_ones() {
        let mut buckets = vec![100.0; 12];
        buckets.extend([10.0, 10.0, 16.0, 4.0, 50.0, 0.0]);
        assert_eq!(busiest(&buckets), Some(1.6));
        assert_eq!(busiest(&buckets[..5]), None);
    }
}
