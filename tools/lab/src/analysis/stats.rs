//! Percentiles of small samples.

/// The value that at least this share (0 to 1) of the sample does not exceed:
/// the nearest rank, never an interpolation. Nothing of nothing.
pub(crate) fn percentile(sample: &[f64], share: f64) -> Option<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The mean. Nothing of nothing.
pub(crate) fn mean(sample: &[f64]) -> Option<f64> {
    (!sample.is_empty()).then(|| sample.iter().sum::<f64>() / sample.len() as f64)
}

/// The figures that are told of every sample, with the ends of their names.
pub(crate) fn summary(sample: &[f64]) -> Vec<(&'static str, f64)> {
    let figures = [
        ("p50", percentile(sample, 0.5)),
        ("p99", percentile(sample, 0.99)),
        ("max", percentile(sample, 1.0)),
        ("mean", mean(sample)),
    ];
    figures
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let sample: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&sample, 0.5), Some(50.0));
        assert_eq!(percentile(&sample, 0.99), Some(99.0));
        assert_eq!(percentile(&sample, 1.0), Some(100.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.99), Some(3.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn nothing_has_no_summary() {
        assert!(summary(&[]).is_empty());
        assert_eq!(mean(&[1.0, 3.0]), Some(2.0));
    }
}
