//! Once a second: packets and CPU of every agent, for the worst second and for
//! the plots.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{self, Us};
use crate::packets::{Packets, Traffic};
use crate::procs;

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// One look at all agents.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// When.
    pub(crate) at: Us,
    /// What each sent and received so far.
    pub(crate) traffic: Vec<Traffic>,
    /// CPU of each so far, nanoseconds; nothing of those that do not run.
    pub(crate) cpu_ns: Vec<Option<u64>>,
    /// Their processes: who was started anew begins at zero.
    pub(crate) pids: Vec<Option<u32>>,
}

/// Shared with the run: which process each agent is now.
pub(crate) type Pids = Arc<Mutex<Vec<Option<u32>>>>;

/// The thread that samples.
pub(crate) struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts it.
    pub(crate) fn start(packets: Packets, pids: Pids) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (samples, stop) = (samples.clone(), stop.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    thread::park_timeout(EVERY);
                    if let Some(sample) = sample(&packets, &pids) {
                        samples.lock().expect("no holder panics").push(sample);
                    }
                }
            })
        };
        Self {
            samples,
            stop,
            thread: Some(thread),
        }
    }

    /// All samples so far.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().expect("no holder panics").clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn sample(packets: &Packets, pids: &Pids) -> Option<Sample> {
    // One that cannot be taken is one that is missing in a plot.
    let traffic = packets.read().ok()?;
    let at = clock::now();
    let pids = pids.lock().expect("no holder panics").clone();
    let cpu_ns = pids.iter().map(|pid| pid.and_then(procs::cpu_ns)).collect();
    Some(Sample {
        at,
        traffic,
        cpu_ns,
        pids,
    })
}

/// What happened between two samples, per second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    /// When it ended.
    pub(crate) at: Us,
    /// Datagrams sent per agent.
    pub(crate) packets: Vec<f64>,
    /// Datagram bytes sent per agent.
    pub(crate) bytes: Vec<f64>,
    /// Bulk bytes sent per agent.
    pub(crate) bulk: Vec<f64>,
    /// Percent of a core per agent that ran at both.
    pub(crate) cpu: Vec<f64>,
}

/// The differences of a series.
pub(crate) fn seconds(samples: &[Sample]) -> Vec<Second> {
    let pairs = samples.windows(2);
    pairs.map(|pair| difference(&pair[0], &pair[1])).collect()
}

/// The most datagrams a second that any agent sent over ten samples in a row
/// (over all of them, if there are fewer).
pub(crate) fn worst_ten(seconds: &[Second]) -> f64 {
    let agents = seconds
        .iter()
        .map(|second| second.packets.len())
        .min()
        .unwrap_or(0);
    let length = seconds.len().clamp(1, 10);
    let means = (0..agents).flat_map(|agent| {
        seconds.windows(length).map(move |ten| {
            ten.iter().map(|second| second.packets[agent]).sum::<f64>() / length as f64
        })
    });
    means.fold(0.0, f64::max)
}

fn difference(from: &Sample, to: &Sample) -> Second {
    let length = clock::seconds(to.at.saturating_sub(from.at)).max(0.001);
    let rate = |of: fn(&Traffic) -> u64| -> Vec<f64> {
        let pairs = from.traffic.iter().zip(&to.traffic);
        pairs
            .map(|(from, to)| of(to).saturating_sub(of(from)) as f64 / length)
            .collect()
    };
    let agents = 0..from.cpu_ns.len().min(to.cpu_ns.len());
    let cpu = agents
        .filter(|&agent| from.pids[agent] == to.pids[agent])
        .filter_map(|agent| {
            let used = to.cpu_ns[agent]?.saturating_sub(from.cpu_ns[agent]?);
            Some(used as f64 / 1e9 / length * 100.0)
        })
        .collect();
    Second {
        at: to.at,
        packets: rate(|traffic| traffic.udp_out.packets),
        bytes: rate(|traffic| traffic.udp_out.bytes),
        bulk: rate(|traffic| traffic.tcp_out.bytes),
        cpu,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::Count;

    fn sample_of(at_s: u64, packets: u64, cpu_ns: u64, pid: u32) -> Sample {
        let udp_out = Count {
            packets,
            bytes: packets * 100,
        };
        Sample {
            at: at_s * clock::SECOND,
            traffic: vec![Traffic {
                udp_out,
                ..Traffic::default()
            }],
            cpu_ns: vec![Some(cpu_ns)],
            pids: vec![Some(pid)],
        }
    }

    #[test]
    fn rates_are_differences_by_time() {
        let series = seconds(&[sample_of(1, 10, 0, 5), sample_of(3, 30, 200_000_000, 5)]);
        assert_eq!(series[0].packets, [10.0]);
        assert_eq!(series[0].cpu, [10.0]);
    }

    #[test]
    fn the_worst_ten_seconds_are_a_mean() {
        let burst: Vec<Second> = (0..12)
            .map(|at| Second {
                packets: vec![if at == 5 { 100.0 } else { 10.0 }],
                ..Second::default()
            })
            .collect();
        assert_eq!(worst_ten(&burst), 19.0);
        assert_eq!(worst_ten(&[]), 0.0);
    }

    #[test]
    fn a_process_that_was_started_anew_has_no_rate() {
        let series = seconds(&[sample_of(1, 10, 900, 5), sample_of(2, 30, 5, 6)]);
        assert!(series[0].cpu.is_empty());
    }
}
