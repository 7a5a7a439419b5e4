//! What the farm's log says about who probed what when: pure functions over
//! hits, with no word of the agents in them.

use std::collections::BTreeSet;

/// One request at one origin, by the farm's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Which origin.
    pub(crate) origin: u32,
    /// When it arrived, microseconds.
    pub(crate) at_us: u64,
    /// When the answer was out, microseconds.
    pub(crate) ended_us: u64,
    /// Which agent, by its User-Agent.
    pub(crate) who: u32,
}

/// A span of the farm's time, microseconds, the end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from_us: u64,
    pub(crate) to_us: u64,
}

impl Window {
    fn holds(self, at_us: u64) -> bool {
        (self.from_us..self.to_us).contains(&at_us)
    }

    fn length_us(self) -> u64 {
        self.to_us.saturating_sub(self.from_us)
    }
}

/// All probes of a run, by origin and then by time.
#[derive(Debug)]
pub(crate) struct Log {
    by_origin: Vec<Vec<Probe>>,
}

/// Two agents at one origin within one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overlaps {
    /// At any other time.
    pub(crate) duplicates: u64,
    /// Near a kill or a restart.
    pub(crate) handovers: u64,
}

/// What became of a killed agent's origins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Takeover {
    /// Origins that it probed last before it died.
    pub(crate) owned: Vec<u32>,
    /// From its last probe to the first of another agent, per origin that was
    /// taken over, microseconds, in order.
    pub(crate) gaps_us: Vec<u64>,
    /// From the kill to the first probe of any of its origins by another.
    pub(crate) detected_us: Option<u64>,
}

impl Log {
    /// Sorts what the farm saw.
    pub(crate) fn new(origins: u32, probes: &[Probe]) -> Self {
        let mut by_origin = vec![Vec::new(); origins as usize];
        for probe in probes {
            if let Some(list) = by_origin.get_mut(probe.origin as usize) {
                list.push(*probe);
            }
        }
        for list in &mut by_origin {
            list.sort_by_key(|probe| probe.at_us);
        }
        Self { by_origin }
    }

    /// All probes.
    pub(crate) fn count(&self) -> u64 {
        self.by_origin.iter().map(|list| list.len() as u64).sum()
    }

    /// The probes of one origin, in order of time.
    pub(crate) fn of(&self, origin: u32) -> &[Probe] {
        &self.by_origin[origin as usize]
    }

    /// Probes per origin and interval over these windows: the median origin's.
    pub(crate) fn rate_p50(&self, windows: &[Window], interval_us: u64) -> f64 {
        let intervals: f64 = windows
            .iter()
            .map(|window| window.length_us() as f64 / interval_us as f64)
            .sum();
        let mut rates: Vec<f64> = self
            .by_origin
            .iter()
            .map(|list| {
                let probes = list
                    .iter()
                    .filter(|probe| windows.iter().any(|window| window.holds(probe.at_us)))
                    .count();
                probes as f64 / intervals
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(0.0)
    }

    /// Counts probes that came less than an interval after another agent's
    /// probe of the same origin. `slack_us` of the interval is forgiven:
    /// clocks of two processes start their intervals that much apart. Those
    /// within one of the windows are handovers.
    pub(crate) fn overlaps(
        &self,
        from_us: u64,
        interval_us: u64,
        slack_us: u64,
        handovers: &[Window],
    ) -> Overlaps {
        let mut overlaps = Overlaps::default();
        for list in &self.by_origin {
            for (index, probe) in list.iter().enumerate() {
                let since = probe.at_us.saturating_sub(interval_us - slack_us);
                let doubled = list[..index]
                    .iter()
                    .rev()
                    .take_while(|earlier| earlier.at_us > since)
                    .any(|earlier| earlier.who != probe.who);
                if !doubled || probe.at_us < from_us {
                    continue;
                }
                if handovers.iter().any(|window| window.holds(probe.at_us)) {
                    overlaps.handovers += 1;
                } else {
                    overlaps.duplicates += 1;
                }
            }
        }
        overlaps
    }

    /// Origins that went unprobed for longer than `bound_us` at any time in
    /// the window, its end included.
    pub(crate) fn uncovered(&self, window: Window, bound_us: u64) -> u64 {
        let gap_too_long = |list: &Vec<Probe>| {
            let mut last = window.from_us;
            for probe in list.iter().filter(|probe| window.holds(probe.at_us)) {
                if probe.at_us - last > bound_us {
                    return true;
                }
                last = probe.at_us;
            }
            window.to_us.saturating_sub(last) > bound_us
        };
        self.by_origin
            .iter()
            .filter(|list| gap_too_long(list))
            .count() as u64
    }

    /// What became of the origins of an agent that was killed at this time.
    pub(crate) fn takeover(&self, who: u32, killed_us: u64) -> Takeover {
        let mut takeover = Takeover::default();
        for (origin, list) in self.by_origin.iter().enumerate() {
            let cut = list.partition_point(|probe| probe.at_us < killed_us);
            let Some(last) = list[..cut].last().filter(|last| last.who == who) else {
                continue;
            };
            takeover.owned.push(origin as u32);
            let Some(next) = list[cut..].iter().find(|probe| probe.who != who) else {
                continue;
            };
            takeover.gaps_us.push(next.at_us - last.at_us);
            let after_us = next.at_us - killed_us;
            let first = takeover.detected_us.get_or_insert(after_us);
            *first = after_us.min(*first);
        }
        takeover.gaps_us.sort_unstable();
        takeover
    }

    /// Origins whose last prober before `from_us` is another than their last
    /// before `to_us`.
    pub(crate) fn moved(&self, from_us: u64, to_us: u64) -> u64 {
        let prober = |list: &[Probe], at_us: u64| {
            let cut = list.partition_point(|probe| probe.at_us < at_us);
            list[..cut].last().map(|probe| probe.who)
        };
        let moved = |list: &&Vec<Probe>| prober(list, from_us) != prober(list, to_us);
        self.by_origin.iter().filter(moved).count() as u64
    }

    /// Everybody who probed anything.
    pub(crate) fn agents(&self) -> BTreeSet<u32> {
        let probes = self.by_origin.iter().flatten();
        probes.map(|probe| probe.who).collect()
    }

    /// When the probe ended that was the `count`th at this origin to arrive
    /// at `from_us` or later.
    pub(crate) fn ended_nth(&self, origin: u32, from_us: u64, count: usize) -> Option<u64> {
        let list = self.of(origin);
        let cut = list.partition_point(|probe| probe.at_us < from_us);
        list.get(cut + count - 1).map(|probe| probe.ended_us)
    }
}

/// The value that so many of 100 values do not exceed; 0 of none.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    if sorted.is_empty() {
        return 0;
    }
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn log(probes: &[(u32, u64, u32)]) -> Log {
        let probes: Vec<_> = probes
            .iter()
            .map(|&(origin, at_us, who)| Probe {
                origin,
                at_us,
                ended_us: at_us + 100,
                who,
            })
            .collect();
        Log::new(
            1 + probes.iter().map(|probe| probe.origin).max().unwrap(),
            &probes,
        )
    }

    #[test]
    fn one_agent_per_second_is_a_rate_of_one_and_no_overlap() {
        let log = log(&[(0, S, 1), (0, 2 * S, 1), (0, 3 * S, 1)]);
        let window = Window {
            from_us: S,
            to_us: 4 * S,
        };
        assert!((log.rate_p50(&[window], S) - 1.0).abs() < 1e-9);
        assert_eq!(log.overlaps(0, S, S / 20, &[]), Overlaps::default());
    }

    #[test]
    fn a_second_agent_within_the_interval_is_a_duplicate_unless_near_a_kill() {
        let log = log(&[(0, S, 1), (0, S + S / 2, 2), (0, 3 * S, 1)]);
        assert_eq!(log.overlaps(0, S, S / 20, &[]).duplicates, 1);
        let near = Window {
            from_us: S,
            to_us: 2 * S,
        };
        let overlaps = log.overlaps(0, S, S / 20, &[near]);
        assert_eq!((overlaps.duplicates, overlaps.handovers), (0, 1));
    }

    #[test]
    fn a_gap_counts_at_both_ends_of_the_window_too() {
        let log = log(&[(0, 2 * S, 1), (0, 3 * S, 1)]);
        let uncovered = |from_us, to_us| log.uncovered(Window { from_us, to_us }, 2 * S);
        assert_eq!(uncovered(S, 4 * S), 0);
        assert_eq!(uncovered(S, 6 * S), 1, "silent at the end");
        let late = Log::new(1, &log.of(0)[1..]);
        assert_eq!(
            late.uncovered(
                Window {
                    from_us: 0,
                    to_us: 4 * S
                },
                2 * S
            ),
            1
        );
    }

    #[test]
    fn a_takeover_is_told_by_the_killed_agents_last_probes() {
        let log = log(&[(0, S, 1), (1, S, 2), (0, 2 * S + 5, 2), (1, 2 * S, 2)]);
        let takeover = log.takeover(1, S + 10);
        assert_eq!(takeover.owned, [0]);
        assert_eq!(takeover.gaps_us, [S + 5]);
        assert_eq!(takeover.detected_us, Some(S - 5));
        assert_eq!(log.moved(S + 10, 3 * S), 1);
        assert_eq!(log.agents(), BTreeSet::from([1, 2]));
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        assert_eq!(percentile(&[], 99), 0);
        assert_eq!(percentile(&[7], 50), 7);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), 50);
        assert_eq!(percentile(&hundred, 99), 99);
    }
}
