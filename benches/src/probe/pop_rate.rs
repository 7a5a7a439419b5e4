//! At the rate of one server of a POP: few probes a second, so that what is paid for
//! is being woken. HAProxy has the same checks, in turn.

use std::error::Error;
use std::time::Duration;

use super::farm::FarmProcess;
use super::haproxy::HaProxy;
use super::pairs::{median, ratio};
use super::{Bench, Kind, schedule};

/// Checks, each due once a second: 600 of five servers.
const CHECKS: u32 = 120;
/// The interval of each.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one contender is watched: whole intervals, or the count of probes would
/// depend on when it begins.
const WINDOW: Duration = Duration::from_secs(5);
/// When slow origins answer, milliseconds after they were asked.
const SLOW_MS: (u32, u32) = (5, 50);

/// Measures TCP and HTTP with origins that answer at once, then HTTP with slow ones.
pub(super) fn measure(bench: &mut Bench, rounds: usize) -> Result<(), Box<dyn Error>> {
    let core = bench.load.core.unwrap_or(0);
    let mut farm = FarmProcess::start(CHECKS, core + 1)?;
    for kind in [Kind::Tcp, Kind::Http] {
        compare(bench, rounds, kind, &mut farm, kind.word())?;
    }
    farm.answer_after(CHECKS, SLOW_MS)?;
    compare(bench, rounds, Kind::Http, &mut farm, "slow_http")
}

fn compare(
    bench: &mut Bench,
    rounds: usize,
    kind: Kind,
    farm: &mut FarmProcess,
    word: &str,
) -> Result<(), Box<dyn Error>> {
    let targets: Vec<_> = (0..CHECKS).map(|origin| farm.address(origin)).collect();
    let (mut engines, mut haproxies) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..rounds {
        let specs = targets
            .iter()
            .map(|&target| kind.spec(target, false))
            .collect();
        let result = schedule::run(specs, bench.load.core, CHECKS, INTERVAL, WINDOW)?;
        engines.push(result.cpu_us_per_probe);
        last = Some(result);
        let mut haproxy = HaProxy::start(kind, farm, CHECKS, CHECKS)?;
        std::thread::sleep(schedule::WARM_UP + INTERVAL);
        haproxies.push(haproxy.watch(kind, farm, WINDOW)?.cpu_us_each());
    }
    let name = |what: &str| format!("pop_rate_{word}_{what}");
    bench.figure(&name("cpu_vs_haproxy"), ratio(&engines, &haproxies));
    bench.figure(&name("cpu_us"), median(engines));
    bench.figure(&name("haproxy_cpu_us"), median(haproxies));
    if let Some(result) = last {
        bench.note(&name("latency_us_p50"), result.latency_us_p50.into());
        bench.note(&name("latency_us_p99"), result.latency_us_p99.into());
        bench.note(&name("late_us_p99"), result.late_us_p99.into());
    }
    Ok(())
}
