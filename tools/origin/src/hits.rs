//! The farm's access log: who asked which origin when. It is kept in memory
//! until it is taken, and it never grows beyond its limit.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::time::{ClockId, clock_gettime};

use crate::limits::{AGENT_BYTES_MAX, AGENTS_MAX, HITS_MAX};

/// One request at an HTTP origin, or one accepted connection at a TCP origin.
///
/// What the kernel ends before the farm accepts it (a half-open check, a
/// refused connection) leaves no hit; [`KernelCounts`](crate::KernelCounts)
/// counts those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which origin, counted from the farm's first address.
    pub origin: u32,
    /// When the farm first saw it, microseconds on `CLOCK_MONOTONIC`: the
    /// accepted connection for the first request on it, the arrival of the
    /// request for later ones.
    pub at_us: u64,
    /// When the answer was out or the connection gone, on the same clock.
    pub ended_us: u64,
    /// Who asked, as an index for [`Farm::who`](crate::Farm::who).
    pub who: u32,
}

/// Now, in microseconds on `CLOCK_MONOTONIC`: the clock of [`Hit`].
#[must_use]
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1_000
}

/// The index of those who did not say who they are.
pub(crate) const NOBODY: u32 = 0;
/// The index of all that came after [`AGENTS_MAX`] names were known.
const OTHERS: u32 = 1;

/// Hits that wait to be taken, shared by a farm's threads.
#[derive(Debug, Default)]
pub(crate) struct HitLog {
    waiting: Mutex<Vec<Hit>>,
    dropped: AtomicU64,
}

impl HitLog {
    /// Moves all of `hits` into the log, or drops what has no room.
    pub(crate) fn append(&self, hits: &mut Vec<Hit>) {
        let mut waiting = self
            .waiting
            .lock()
            .expect("no thread panics while it holds the log");
        let room = HITS_MAX - waiting.len();
        let taken = hits.len().min(room);
        waiting.extend_from_slice(&hits[..taken]);
        self.dropped
            .fetch_add((hits.len() - taken) as u64, Ordering::Relaxed);
        hits.clear();
    }

    /// Appends everything to `into` and forgets it.
    pub(crate) fn take(&self, into: &mut Vec<Hit>) {
        let mut waiting = self
            .waiting
            .lock()
            .expect("no thread panics while it holds the log");
        into.append(&mut waiting);
    }

    /// How many hits found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The user agents seen so far, by index.
#[derive(Debug)]
pub(crate) struct Agents {
    known: Mutex<Vec<String>>,
}

impl Agents {
    pub(crate) fn new() -> Self {
        Self {
            known: Mutex::new(vec!["-".to_owned(), "(others)".to_owned()]),
        }
    }

    pub(crate) fn name(&self, who: u32) -> Option<String> {
        self.lock().get(who as usize).cloned()
    }

    fn index_of(&self, agent: &[u8]) -> u32 {
        let name = String::from_utf8_lossy(agent);
        let mut known = self.lock();
        let found = known.iter().position(|have| *have == name);
        if let Some(index) = found {
            return index as u32;
        }
        if known.len() >= AGENTS_MAX {
            return OTHERS;
        }
        known.push(name.into_owned());
        known.len() as u32 - 1
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.known
            .lock()
            .expect("no thread panics while it holds the names")
    }
}

/// One thread's view of the agents: most requests come from one that it has
/// just seen, and need no lock.
#[derive(Debug, Default)]
pub(crate) struct AgentCache {
    last: (Vec<u8>, u32),
    all: HashMap<Vec<u8>, u32>,
}

impl AgentCache {
    pub(crate) fn index_of(&mut self, agents: &Agents, agent: &[u8]) -> u32 {
        if agent.is_empty() {
            return NOBODY;
        }
        let agent = &agent[..agent.len().min(AGENT_BYTES_MAX)];
        if self.last.0 == agent {
            return self.last.1;
        }
        let index = match self.all.get(agent) {
            Some(index) => *index,
            None => {
                let index = agents.index_of(agent);
                if self.all.len() < AGENTS_MAX {
                    self.all.insert(agent.to_vec(), index);
                }
                index
            }
        };
        self.last.0.clear();
        self.last.0.extend_from_slice(agent);
        self.last.1 = index;
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_drops_and_counts_what_has_no_room() {
        let log = HitLog::default();
        let hit = Hit {
            origin: 1,
            at_us: 2,
            ended_us: 3,
            who: NOBODY,
        };
        log.append(&mut vec![hit; HITS_MAX - 1]);
        log.append(&mut vec![hit; 3]);
        assert_eq!(log.dropped(), 2);
        let mut taken = Vec::new();
        log.take(&mut taken);
        assert_eq!(taken.len(), HITS_MAX);
        log.append(&mut vec![hit]);
        log.take(&mut taken);
        assert_eq!(taken.len(), HITS_MAX + 1);
    }

    #[test]
    fn agents_keep_their_index_and_their_number_is_bounded() {
        let agents = Agents::new();
        let mut cache = AgentCache::default();
        let a = cache.index_of(&agents, b"a");
        let b = cache.index_of(&agents, b"b");
        assert_ne!(a, b);
        assert_eq!(cache.index_of(&agents, b"a"), a);
        assert_eq!(AgentCache::default().index_of(&agents, b"b"), b);
        assert_eq!(agents.name(b).as_deref(), Some("b"));
        assert_eq!(cache.index_of(&agents, b""), NOBODY);
        for n in 0..2 * AGENTS_MAX {
            cache.index_of(&agents, n.to_string().as_bytes());
        }
        assert_eq!(cache.index_of(&agents, b"one more"), OTHERS);
        assert_eq!(agents.lock().len(), AGENTS_MAX);
    }
}
