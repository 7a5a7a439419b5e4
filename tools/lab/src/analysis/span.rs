//! Spans of time, and what is left of one when others are cut out.

use crate::clock::Us;

/// From here to there, the end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Span {
    /// Its beginning.
    pub(crate) from: Us,
    /// Its end.
    pub(crate) to: Us,
}

impl Span {
    /// Whether a moment lies in it.
    pub(crate) const fn holds(self, at: Us) -> bool {
        self.from <= at && at < self.to
    }

    /// How long it is.
    pub(crate) const fn length(self) -> Us {
        self.to.saturating_sub(self.from)
    }

    /// Whether they share any moment.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The same spans, in order, those that touch as one.
    pub(crate) fn merged(spans: &[Self]) -> Vec<Self> {
        let mut sorted = spans.to_vec();
        sorted.sort_by_key(|span| span.from);
        let mut merged: Vec<Self> = Vec::new();
        for span in sorted {
            match merged.last_mut() {
                Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
                _ => merged.push(span),
            }
        }
        merged
    }

    /// What is left of it without the others, which are in order and apart.
    pub(crate) fn without(self, others: &[Self]) -> Vec<Self> {
        let mut left = Vec::new();
        let mut from = self.from;
        for other in others.iter().filter(|other| self.meets(**other)) {
            if other.from > from {
                left.push(Self {
                    from,
                    to: other.from,
                });
            }
            from = from.max(other.to);
        }
        if from < self.to {
            left.push(Self { from, to: self.to });
        }
        left
    }

    /// The same, longer at both ends.
    pub(crate) const fn widened(self, before: Us, after: Us) -> Self {
        Self {
            from: self.from.saturating_sub(before),
            to: self.to.saturating_add(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn span(from: Us, to: Us) -> Span {
        Span { from, to }
    }

    #[test]
    fn spans_that_touch_become_one() {
        let merged = Span::merged(&[span(5, 7), span(1, 3), span(3, 4), span(6, 9)]);
        assert_eq!(merged, [span(1, 4), span(5, 9)]);
    }

    #[test]
    fn what_is_cut_out_is_gone() {
        let left = span(0, 10).without(&[span(2, 3), span(8, 12)]);
        assert_eq!(left, [span(0, 2), span(3, 8)]);
        assert_eq!(span(0, 10).without(&[span(0, 20)]), []);
        assert_eq!(span(0, 10).without(&[]), [span(0, 10)]);
    }
}
