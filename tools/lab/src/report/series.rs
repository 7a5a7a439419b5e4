//! What is plotted of a run: one figure per second.

use crate::analysis::span::Span;
use crate::analysis::stats::percentile;
use crate::clock::{self, SECOND};
use crate::journal::Word;
use crate::lab::Lab;
use crate::sampler;

/// One line of a plot: seconds since the beginning, and values.
pub(crate) type Points = Vec<(f64, f64)>;

/// Everything that is plotted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    /// Probes a second in the POP, and what is expected.
    pub(crate) probes: Points,
    /// Expected of one prober per check.
    pub(crate) expected: f64,
    /// Datagrams sent a second: the median agent's and the worst one's.
    pub(crate) packets: [Points; 2],
    /// Percent of a core: the median agent's and the worst one's.
    pub(crate) cpu: [Points; 2],
    /// Suspicions and deaths told a second, all agents.
    pub(crate) told: [Points; 2],
}

impl Series {
    /// Of a run that ends.
    pub(crate) fn of(lab: &Lab) -> Self {
        let begun = lab.begun;
        let span = Span {
            from: begun,
            to: clock::now(),
        };
        let since = |at| clock::seconds(at) - clock::seconds(begun);
        let per_second = |values: Vec<u64>| -> Points {
            let numbered = values.into_iter().enumerate();
            numbered
                .map(|(second, value)| (second as f64, value as f64))
                .collect()
        };
        let seconds = sampler::seconds(&lab.samples());
        let line = |of: fn(&sampler::Second) -> &Vec<f64>, share: f64| -> Points {
            let points = seconds
                .iter()
                .filter_map(|second| Some((since(second.at), percentile(of(second), share)?)));
            points.collect()
        };
        let told = |word: Word| {
            let mut seconds = vec![0; (span.length() / SECOND) as usize + 1];
            for told in lab
                .journal
                .record()
                .told
                .iter()
                .filter(|told| told.what == word)
            {
                let second = (told.at.saturating_sub(begun) / SECOND) as usize;
                if let Some(count) = seconds.get_mut(second) {
                    *count += 1;
                }
            }
            per_second(seconds)
        };
        let checks = lab
            .scenario
            .pop
            .configured
            .unwrap_or(lab.scenario.pop.checks);
        Self {
            probes: per_second(lab.log().per_second(span)),
            expected: checks as f64 / clock::seconds(lab.interval()),
            packets: [line(|s| &s.packets, 0.5), line(|s| &s.packets, 1.0)],
            cpu: [line(|s| &s.cpu, 0.5), line(|s| &s.cpu, 1.0)],
            told: [told(Word::Suspected), told(Word::Died)],
        }
    }
}
