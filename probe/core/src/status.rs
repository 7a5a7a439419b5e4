//! Sets of HTTP status codes, as people write them: `200-299,304`.

use core::fmt;
use core::str::FromStr;

use crate::limits::STATUS_RANGES;

/// A set of HTTP status codes: sorted, disjoint ranges that do not touch, so
/// that equal sets are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusSet {
    ranges: Vec<(u16, u16)>,
}

/// Why a text is not a [`StatusSet`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusSetError {
    /// There is nothing in it.
    #[error("an empty set of status codes matches nothing; write for example \"200-299,304\"")]
    Empty,
    /// A part is neither a code nor a range.
    #[error("\"{0}\" is neither a status code nor a range; write for example \"200-299,304\"")]
    Malformed(String),
    /// A code outside 100 to 599.
    #[error("{0} is not a status code: they go from 100 to 599")]
    OutOfRange(u16),
    /// Its end is before its start.
    #[error("the range {0}-{1} ends before it starts; swap its ends")]
    Reversed(u16, u16),
    /// A final status below 200 never comes.
    #[error("{0} is an interim status and never ends a response; expect 200 or above")]
    Interim(u16),
    /// Too many ranges.
    #[error("more than {STATUS_RANGES} separate ranges of status codes; merge some")]
    TooMany,
}

impl StatusSet {
    /// 200 to 299.
    #[must_use]
    pub fn success() -> Self {
        Self {
            ranges: vec![(200, 299)],
        }
    }

    /// Whether `status` is in the set.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.ranges
            .iter()
            .any(|&(low, high)| (low..=high).contains(&status))
    }

    /// The ranges, sorted, both ends included.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }
}

impl Default for StatusSet {
    fn default() -> Self {
        Self::success()
    }
}

impl FromStr for StatusSet {
    type Err = StatusSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Err(StatusSetError::Empty);
        }
        let mut ranges = Vec::new();
        for part in text.split(',') {
            if ranges.len() == STATUS_RANGES {
                return Err(StatusSetError::TooMany);
            }
            ranges.push(parse_range(part.trim())?);
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Ok(Self { ranges: merged })
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &(low, high)) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if low == high {
                write!(f, "{low}")?;
            } else {
                write!(f, "{low}-{high}")?;
            }
        }
        Ok(())
    }
}

fn parse_range(part: &str) -> Result<(u16, u16), StatusSetError> {
    let malformed = || StatusSetError::Malformed(part.to_owned());
    let (low, high) = part.split_once('-').unwrap_or((part, part));
    let code = |text: &str| -> Result<u16, StatusSetError> {
        let text = text.trim();
        if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let code: u16 = text.parse().map_err(|_| malformed())?;
        match code {
            100..=199 => Err(StatusSetError::Interim(code)),
            200..=599 => Ok(code),
            _ => Err(StatusSetError::OutOfRange(code)),
        }
    };
    let (low, high) = (code(low)?, code(high)?);
    if high < low {
        return Err(StatusSetError::Reversed(low, high));
    }
    Ok((low, high))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_normalized() {
        let set: StatusSet = "304, 200-299".parse().unwrap();
        assert_eq!(set.to_string(), "200-299,304");
        assert!(set.contains(200) && set.contains(299) && set.contains(304));
        assert!(!set.contains(300) && !set.contains(199) && !set.contains(503));
        let merged: StatusSet = "200-204,205,203-210".parse().unwrap();
        assert_eq!(merged.ranges(), &[(200, 210)]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        assert_eq!("".parse::<StatusSet>(), Err(StatusSetError::Empty));
        assert_eq!(
            "299-200".parse::<StatusSet>(),
            Err(StatusSetError::Reversed(299, 200))
        );
        assert_eq!(
            "100".parse::<StatusSet>(),
            Err(StatusSetError::Interim(100))
        );
        assert_eq!(
            "600".parse::<StatusSet>(),
            Err(StatusSetError::OutOfRange(600))
        );
        for text in ["2xx", "+20", "200-", ",", "200,,204", "2000"] {
            assert!(
                matches!(text.parse::<StatusSet>(), Err(StatusSetError::Malformed(_))),
                "{text}"
            );
        }
        let many = (0..=STATUS_RANGES as u16)
            .map(|n| (200 + 2 * n).to_string())
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(many.parse::<StatusSet>(), Err(StatusSetError::TooMany));
    }

    proptest! {
        #[test]
        fn parsing_keeps_membership_and_display_round_trips(
            parts in proptest::collection::vec((200_u16..600, 0_u16..50), 1..STATUS_RANGES)
        ) {
            let parts: Vec<(u16, u16)> =
                parts.into_iter().map(|(low, len)| (low, (low + len).min(599))).collect();
            let text =
                parts.iter().map(|(low, high)| format!("{low}-{high}")).collect::<Vec<_>>().join(",");
            let set: StatusSet = text.parse().unwrap();
            for code in 200..600 {
                let wanted = parts.iter().any(|&(low, high)| (low..=high).contains(&code));
                prop_assert_eq!(set.contains(code), wanted);
            }
            prop_assert_eq!(set.to_string().parse::<StatusSet>().unwrap(), set);
        }
    }
}
