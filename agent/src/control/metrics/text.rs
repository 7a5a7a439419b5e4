//! From OpenMetrics to Prometheus' older text, for whoever does not ask for the
//! former: counters are then called by their samples' name.

use std::collections::HashSet;

/// Whether an `Accept` header names OpenMetrics.
pub(super) fn wants_open_metrics(accept: &[u8]) -> bool {
    let wanted = b"application/openmetrics-text";
    accept.windows(wanted.len()).any(|part| part == wanted)
}

/// The same page in the format 0.0.4.
pub(super) fn to_prometheus(page: &str) -> String {
    let counters: HashSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        let (hash, what, name) = (words.next(), words.next(), words.next());
        match (hash, what, name) {
            (Some("#"), Some("EOF" | "UNIT"), _) => continue,
            (Some("#"), Some(what), Some(name)) if counters.contains(name) => {
                let rest = words.next().unwrap_or_default();
                text.push_str(&format!("# {what} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_get_their_samples_name_and_what_is_open_metrics_goes() {
        let page = "# HELP a A.\n# TYPE a counter\na_total{b=\"c\"} 1\n# HELP d_seconds D.\n\
                    # TYPE d_seconds gauge\n# UNIT d_seconds seconds\nd_seconds 2\n# EOF\n";
        let expected = "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\
                        # HELP d_seconds D.\n# TYPE d_seconds gauge\nd_seconds 2\n";
        assert_eq!(to_prometheus(page), expected);
        assert!(wants_open_metrics(
            b"text/plain, application/openmetrics-text;q=0.9"
        ));
        assert!(!wants_open_metrics(b"*/*"));
    }
}
