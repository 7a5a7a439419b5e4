//! How much of many transitions is said in the log: each while they are few, and
//! above a rate one line a second that counts them by cause. Nothing is left out
//! of the counts.

use std::collections::BTreeMap;

use crate::limits::TRANSITION_LINES_PER_SECOND;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The second that is counted, since 1970.
    second: u64,
    lines: u32,
    /// What got no line of its own, by verdict and reason.
    rest: BTreeMap<(String, String), u64>,
}

impl Told {
    /// Whether a transition gets a line of its own; otherwise it is counted.
    pub(super) fn has_line(&mut self, at_ms: u64, to: &str, reason: &str) -> bool {
        let second = at_ms / 1_000;
        if second != self.second {
            self.second = second;
            self.lines = 0;
        }
        self.lines += 1;
        if self.lines <= TRANSITION_LINES_PER_SECOND {
            return true;
        }
        let cause = (to.to_owned(), reason.to_owned());
        *self.rest.entry(cause).or_default() += 1;
        false
    }

    /// Whether there is nothing left to sum up.
    pub(super) fn is_said(&self) -> bool {
        self.rest.is_empty()
    }

    /// What got no line of its own up to a second that is over: how many, and by
    /// cause, like `down bad_status 12, up passed 3`.
    pub(super) fn summary(&mut self, now_ms: u64) -> Option<(u64, String)> {
        if self.rest.is_empty() || now_ms / 1_000 == self.second {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let causes = rest.iter();
        let causes: Vec<_> = causes
            .map(|((to, reason), count)| format!("{to} {reason} {count}"))
            .collect();
        Some((rest.values().sum(), causes.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_have_lines_and_of_many_none_is_lost_to_the_counts() {
        let mut told = Told::default();
        let mut lines = 0;
        let mut counted = 0;
        for n in 0..10_000_u64 {
            let reason = if n % 3 == 0 { "late" } else { "bad_status" };
            lines += u64::from(told.has_line(5_000 + n / 5, "down", reason));
            counted += told.summary(5_000 + n / 5).map_or(0, |(count, _)| count);
        }
        let (count, causes) = told.summary(9_000).unwrap();
        assert_eq!(lines + counted + count, 10_000);
        assert_eq!(lines, 2 * u64::from(TRANSITION_LINES_PER_SECOND));
        assert!(causes.starts_with("down bad_status "), "{causes}");
        assert_eq!(told.summary(10_000), None);
    }
}
