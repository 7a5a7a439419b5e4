//! What the origins' log says about who probed what when.

use std::collections::BTreeSet;
use std::ops::Range;

use super::span::Span;
use crate::clock::{SECOND, Us};

/// One request at one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// When it was answered.
    pub(crate) at: Us,
    /// Which origin.
    pub(crate) origin: u32,
    /// Which agent.
    pub(crate) who: u16,
    /// With which status.
    pub(crate) status: u16,
}

/// The probes of a run, by origin and then by time.
#[derive(Debug)]
pub(crate) struct Log {
    by_origin: Vec<Vec<Probe>>,
}

/// Two probes of an origin with none between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Which origin.
    pub(crate) origin: u32,
    /// From the one to the other.
    pub(crate) span: Span,
}

impl Log {
    /// Sorts the probes of a span of time.
    pub(crate) fn new(origins: usize, probes: &[Probe]) -> Self {
        let mut by_origin = vec![Vec::new(); origins];
        for probe in probes {
            if let Some(list) = by_origin.get_mut(probe.origin as usize) {
                list.push(*probe);
            }
        }
        for list in &mut by_origin {
            list.sort_by_key(|probe| probe.at);
        }
        Self { by_origin }
    }

    /// Those of some origins only, counted anew from the first of them.
    pub(crate) fn only(&self, origins: Range<usize>) -> Self {
        let to = origins.end.min(self.by_origin.len());
        Self {
            by_origin: self.by_origin[origins.start.min(to)..to].to_vec(),
        }
    }

    /// Probes in a span.
    pub(crate) fn count(&self, span: Span) -> u64 {
        let lists = self.by_origin.iter();
        lists.map(|list| within(list, span).len() as u64).sum()
    }

    /// Origins that two agents or more probed in a span.
    pub(crate) fn by_two(&self, span: Span) -> u64 {
        let lists = self.by_origin.iter();
        lists
            .filter(|list| probers(within(list, span)).len() > 1)
            .count() as u64
    }

    /// The first few of those in words: who probed each how often, and when first,
    /// seconds from the span's beginning.
    pub(crate) fn who_by_two(&self, span: Span, most: usize) -> Vec<String> {
        let lists = self.by_origin.iter().enumerate();
        let by_two = lists.filter_map(|(origin, list)| {
            let list = within(list, span);
            let each: Vec<String> = (probers(list).iter())
                .map(|who| {
                    let mut theirs = list.iter().filter(|probe| probe.who == *who);
                    let first = theirs.next().map_or(span.from, |probe| probe.at);
                    let count = 1 + theirs.count();
                    let after = crate::clock::seconds(first - span.from);
                    format!("agent {who} {count} times from {after:.1} s on")
                })
                .collect();
            (each.len() > 1).then(|| format!("origin {origin} was probed by {}", each.join(", ")))
        });
        by_two.take(most).collect()
    }

    /// Origins that nobody probed in a span.
    pub(crate) fn unprobed(&self, span: Span) -> u64 {
        let lists = self.by_origin.iter();
        lists.filter(|list| within(list, span).is_empty()).count() as u64
    }

    /// Most agents that probed one origin in a span.
    pub(crate) fn most_probers(&self, span: Span) -> u64 {
        let lists = self.by_origin.iter();
        let counts = lists.map(|list| probers(within(list, span)).len() as u64);
        counts.max().unwrap_or(0)
    }

    /// Probes of each whole second from the beginning of a span.
    pub(crate) fn per_second(&self, span: Span) -> Vec<u64> {
        let mut seconds = vec![0; (span.length() / SECOND) as usize];
        for probe in self.by_origin.iter().flat_map(|list| within(list, span)) {
            if let Some(second) = seconds.get_mut(((probe.at - span.from) / SECOND) as usize) {
                *second += 1;
            }
        }
        seconds
    }

    /// For each origin that one of the victims probed last before they were
    /// killed: from its last probe to the first by anybody else. Origins that
    /// nobody took over by the end have a gap that lasts until then.
    pub(crate) fn takeovers(&self, victims: &[usize], killed: Us, end: Us) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let dead = |probe: &Probe| victims.contains(&usize::from(probe.who));
        for (origin, list) in self.by_origin.iter().enumerate() {
            // Answers to probes under way at the kill come a little after it.
            let cut = list.partition_point(|probe| probe.at < killed);
            let Some(last) = list[..cut].last().filter(|last| dead(last)) else {
                continue;
            };
            let next = list[cut..].iter().find(|probe| !dead(probe));
            gaps.push(Gap {
                origin: origin as u32,
                span: Span {
                    from: last.at,
                    to: next.map_or(end, |next| next.at),
                },
            });
        }
        gaps
    }

    /// The longest time that each origin went unprobed in a span, both ends of
    /// the span included.
    pub(crate) fn longest_gaps(&self, span: Span) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (origin, list) in self.by_origin.iter().enumerate() {
            let inner = within(list, span).iter().map(|probe| probe.at);
            let moments: Vec<Us> = std::iter::once(span.from)
                .chain(inner)
                .chain(std::iter::once(span.to))
                .collect();
            let longest = moments.windows(2).max_by_key(|pair| pair[1] - pair[0]);
            if let Some(&[from, to]) = longest {
                gaps.push(Gap {
                    origin: origin as u32,
                    span: Span { from, to },
                });
            }
        }
        gaps
    }

    /// When some one agent had been given its `count`th answer of this kind in
    /// a row since a moment: the probe that decides.
    pub(crate) fn deciding(&self, origin: u32, from: Us, count: u8, bad: bool) -> Option<Us> {
        let list = &self.by_origin[origin as usize];
        let cut = list.partition_point(|probe| probe.at < from);
        let mut runs: Vec<(u16, u8)> = Vec::new();
        for probe in &list[cut..] {
            let run = match runs.iter_mut().find(|(who, _)| *who == probe.who) {
                Some((_, run)) => run,
                None => {
                    runs.push((probe.who, 0));
                    &mut runs.last_mut().expect("just pushed").1
                }
            };
            *run = if (probe.status >= 400) == bad {
                *run + 1
            } else {
                0
            };
            if *run == count {
                return Some(probe.at);
            }
        }
        None
    }

    /// The last answer by anybody in a span.
    pub(crate) fn last_answer(&self, origin: u32, span: Span) -> Option<Us> {
        let list = within(&self.by_origin[origin as usize], span);
        Some(list.last()?.at)
    }
}

/// The part of a list that lies in a span.
fn within(list: &[Probe], span: Span) -> &[Probe] {
    let from = list.partition_point(|probe| probe.at < span.from);
    let to = list.partition_point(|probe| probe.at < span.to);
    &list[from..to.max(from)]
}

fn probers(list: &[Probe]) -> BTreeSet<u16> {
    list.iter().map(|probe| probe.who).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn probe(at_s: u64, origin: u32, who: u16, status: u16) -> Probe {
        Probe {
            at: at_s * SECOND,
            origin,
            who,
            status,
        }
    }

    const fn span(from_s: u64, to_s: u64) -> Span {
        Span {
            from: from_s * SECOND,
            to: to_s * SECOND,
        }
    }

    fn log() -> Log {
        Log::new(
            3,
            &[
                probe(1, 0, 7, 200),
                probe(3, 0, 7, 200),
                probe(5, 0, 7, 200),
                probe(2, 1, 8, 200),
                probe(9, 1, 7, 200),
            ],
        )
    }

    #[test]
    fn probes_are_counted_in_their_span() {
        let log = log();
        assert_eq!(log.count(span(1, 5)), 3);
        assert_eq!(log.by_two(span(0, 10)), 1);
        assert_eq!(log.by_two(span(0, 9)), 0);
        let [told] = &log.who_by_two(span(0, 10), 3)[..] else {
            panic!("one of them");
        };
        assert!(told.contains(" times from "), "{told}");
        assert!(log.who_by_two(span(0, 9), 3).is_empty());
        assert_eq!(log.unprobed(span(0, 10)), 1);
        assert_eq!(log.most_probers(span(0, 10)), 2);
        assert_eq!(log.per_second(span(1, 4)), [1, 1, 1]);
    }

    #[test]
    fn a_takeover_is_from_the_victims_last_probe_to_anothers_first() {
        let gaps = log().takeovers(&[8], 4 * SECOND, 20 * SECOND);
        assert_eq!(
            gaps,
            [Gap {
                origin: 1,
                span: span(2, 9)
            }]
        );
        // Nobody took origin 0 over from agent 7.
        let gaps = log().takeovers(&[7], 6 * SECOND, 20 * SECOND);
        assert_eq!(
            gaps,
            [Gap {
                origin: 0,
                span: span(5, 20)
            }]
        );
    }

    #[test]
    fn the_longest_gap_counts_the_ends_of_the_span() {
        let gaps = log().longest_gaps(span(0, 10));
        assert_eq!(gaps[0].span, span(5, 10));
        assert_eq!(gaps[1].span, span(2, 9));
        assert_eq!(gaps[2].span, span(0, 10));
    }

    #[test]
    fn one_agents_run_of_failures_decides() {
        let log = Log::new(
            1,
            &[
                probe(1, 0, 1, 503),
                probe(2, 0, 2, 503),
                probe(3, 0, 1, 503),
                probe(4, 0, 1, 503),
            ],
        );
        assert_eq!(log.deciding(0, 0, 3, true), Some(4 * SECOND));
        assert_eq!(log.deciding(0, 0, 4, true), None);
        assert_eq!(log.deciding(0, 0, 1, false), None);
        let mended = Log::new(
            1,
            &[
                probe(1, 0, 1, 503),
                probe(2, 0, 1, 200),
                probe(3, 0, 1, 503),
            ],
        );
        assert_eq!(mended.deciding(0, 0, 2, true), None);
    }
}
