//! The canary: says when the machine itself stood still.
//!
//! One thread per processor with a real-time priority sleeps a little, again
//! and again. Nothing on this machine can hold it up but the machine: a virtual
//! processor that was taken away, or somebody with a higher priority. What was
//! measured then is nobody's figure, and is left out.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use crate::analysis::span::Span;
use crate::clock::{self, Us};
use crate::shell;

/// How long the canary sleeps.
const NAP: Duration = Duration::from_millis(20);

/// Lateness beyond which the machine stood still.
const LATE: Us = 200_000;

/// Priority of the canary among real-time threads.
const PRIORITY: &str = "50";

/// How often stolen time is looked at.
const STEAL_EVERY: Us = 1_000_000;

/// Share of all processors' time that may be stolen.
const STEAL_SHARE: f64 = 0.2;

/// A run's canary.
pub(crate) struct Canary {
    voids: Arc<Mutex<Vec<Span>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Canary {
    /// Starts it.
    pub(crate) fn start() -> Self {
        let voids = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..processors)
            .map(|processor| {
                let (voids, stop) = (voids.clone(), stop.clone());
                thread::spawn(move || sing(processor, processors, &voids, &stop))
            })
            .collect();
        Self {
            voids,
            stop,
            threads,
        }
    }

    /// When the machine stood still, so far.
    pub(crate) fn voids(&self) -> Vec<Span> {
        let voids = self.voids.lock().expect("the canary does not panic");
        Span::merged(&voids)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// Gives the calling thread a real-time priority, as far as the system lets it.
pub(crate) fn hurry(priority: &str) {
    let thread = gettid().to_string();
    // Without the right to it the thread is an ordinary one, and the canary
    // voids more than it must.
    let _ = shell::run(&["chrt", "-f", "-p", priority, &thread]);
}

fn sing(processor: usize, processors: usize, voids: &Mutex<Vec<Span>>, stop: &AtomicBool) {
    let mut set = CpuSet::new();
    if set.set(processor).is_ok() {
        // On any processor it is a canary still.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
    hurry(PRIORITY);
    let mut steal = (clock::now(), stolen_ticks());
    while !stop.load(Ordering::Relaxed) {
        let due = clock::now() + clock::us(NAP);
        thread::sleep(NAP);
        let now = clock::now();
        let void = |from, to| {
            let mut voids = voids.lock().expect("the canary does not panic");
            voids.push(Span { from, to });
        };
        if now > due + LATE {
            void(due, now);
        }
        if processor == 0 && now >= steal.0 + STEAL_EVERY {
            let ticks = stolen_ticks();
            // A tick is 10 ms of one processor.
            let stolen = ticks.saturating_sub(steal.1) as f64 * 10_000.0;
            if stolen > STEAL_SHARE * (now - steal.0) as f64 * processors as f64 {
                void(steal.0, now);
            }
            steal = (now, ticks);
        }
    }
}

/// Time that the hypervisor took away since boot, all processors, ticks.
fn stolen_ticks() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    steal_of(&text).unwrap_or(0)
}

fn steal_of(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    line.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_the_eighth_figure() {
        assert_eq!(steal_of("cpu  1 2 3 4 5 6 7 30 9 10\ncpu0 1\n"), Some(30));
        assert_eq!(steal_of("intr 5"), None);
    }
}
