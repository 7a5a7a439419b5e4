//! Percentiles of small samples. Exact: a simulator has no excuse to estimate.

/// Values, sorted when they are asked about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Adds one value.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds all values of another sample.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values in the order in which they came.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The smallest value with at least this share of all values at or below
    /// it (`share` in 0 to 1); nothing without values.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied()
    }

    /// The median.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        self.percentile(0.5)
    }

    /// The largest value.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        self.percentile(1.0)
    }

    /// The arithmetic mean.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let mut sample = Sample::default();
        assert_eq!(sample.percentile(0.99), None);
        for value in (1..=100).rev() {
            sample.push(f64::from(value));
        }
        assert_eq!(sample.median(), Some(50.0));
        assert_eq!(sample.percentile(0.99), Some(99.0));
        assert_eq!(sample.max(), Some(100.0));
        assert_eq!(sample.mean(), Some(50.5));
    }
}
