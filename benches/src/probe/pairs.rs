//! Runs in turn, A B A B, and what two columns of figures say of each other.

/// The middle one of some figures; of an even number the mean of the middle
/// two. Nothing of nothing.
pub(super) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        n if n % 2 == 1 => Some(figures[middle]),
        _ => Some((figures[middle - 1] + figures[middle]) / 2.0),
    }
}

/// The median of the ratios of neighbours: what disturbs the machine for
/// longer than one turn disturbs both.
pub(super) fn ratio(of: &[f64], to: &[f64]) -> Option<f64> {
    median(
        of.iter()
            .zip(to)
            .filter(|(_, to)| **to > 0.0)
            .map(|(of, to)| of / to)
            .collect(),
    )
}

/// Three digits are as many as such a figure has.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(ratio(&[2.0, 30.0, 4.0], &[1.0, 10.0, 4.0]), Some(2.0));
        assert_eq!(ratio(&[2.0], &[0.0]), None);
    }
}
