//! Sets of HTTP status codes, as people write them: `200-299, 304`, `2xx`,
//! `2xx, !204`.

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
    #[error(
        "\"{0}\" is neither a status code nor a range; write for example \"200-299\", \"304\", \"2xx\" or \"!204\""
    )]
    Malformed(String),
    /// A code outside 100 to 999.
    #[error("{0} is not a status code: they go from 100 to 999")]
    OutOfRange(u16),
    /// Its end is before its start.
    #[error("the range {0}-{1} ends before it starts; swap its ends")]
    Reversed(u16, u16),
    /// Nothing is left that could end a response.
    #[error(
        "\"{0}\" holds interim statuses only, which never end a response; expect 101, or 200 or above"
    )]
    Interim(String),
    /// What is excluded is all that there was.
    #[error("\"{0}\" excludes every status that it names; leave one in")]
    Nothing(String),
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

    /// Reads a list of codes, ranges and classes; those after a `!` are taken
    /// out of all the others, wherever they stand. Exclusions alone are taken
    /// out of all statuses.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Err(StatusSetError::Empty);
        }
        let (mut named, mut excluded) = (Vec::new(), Vec::new());
        for part in text.split(',') {
            if named.len() + excluded.len() == STATUS_RANGES {
                return Err(StatusSetError::TooMany);
            }
            match part.trim().strip_prefix('!') {
                Some(part) => excluded.push(parse_range(part.trim())?),
                None => named.push(parse_range(part.trim())?),
            }
        }
        if named.is_empty() {
            named.push((LOWEST, HIGHEST));
        }
        for &hole in &excluded {
            named = named
                .iter()
                .flat_map(|&range| without(range, hole))
                .collect();
        }
        let ranges = merged(named);
        if ranges.is_empty() {
            return Err(StatusSetError::Nothing(text.to_owned()));
        }
        let set = Self { ranges };
        if !set.contains(101) && set.ranges.iter().all(|&(_, high)| high < 200) {
            return Err(StatusSetError::Interim(text.to_owned()));
        }
        if set.ranges.len() > STATUS_RANGES {
            return Err(StatusSetError::TooMany);
        }
        Ok(set)
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

/// The lowest and the highest status: any three digits that do not begin with
/// a zero.
const LOWEST: u16 = 100;
const HIGHEST: u16 = 999;

/// Sorts ranges, and makes one of those that overlap or touch.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// What `hole` leaves of a range: nothing, one or two.
fn without((low, high): (u16, u16), hole: (u16, u16)) -> impl Iterator<Item = (u16, u16)> {
    let below = (low < hole.0).then(|| (low, high.min(hole.0 - 1)));
    let above = (high > hole.1).then(|| (low.max(hole.1 + 1), high));
    below.into_iter().chain(above)
}

fn parse_range(part: &str) -> Result<(u16, u16), StatusSetError> {
    let malformed = || StatusSetError::Malformed(part.to_owned());
    if let Some(class) = part.strip_suffix("xx").or(part.strip_suffix("XX")) {
        return match class.as_bytes() {
            [digit @ b'1'..=b'9'] => {
                let low = u16::from(digit - b'0') * 100;
                Ok((low, low + 99))
            }
            _ => Err(malformed()),
        };
    }
    let (low, high) = part.split_once('-').unwrap_or((part, part));
    let code = |text: &str| -> Result<u16, StatusSetError> {
        let text = text.trim();
        if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        match text.parse().map_err(|_| malformed())? {
            code @ LOWEST..=HIGHEST => Ok(code),
            code => Err(StatusSetError::OutOfRange(code)),
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
    fn classes_and_exclusions_are_sets_too() {
        let shown = |text: &str| text.parse::<StatusSet>().unwrap().to_string();
        assert_eq!(shown("2xx"), "200-299");
        assert_eq!(shown("200-299, 301, 2xx, !204"), "200-203,205-299,301");
        assert_eq!(shown("!204,2xx"), "200-203,205-299");
        assert_eq!(shown("!5xx"), "100-499,600-999");
        assert_eq!(shown("999,101"), "101,999");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        assert_eq!("".parse::<StatusSet>(), Err(StatusSetError::Empty));
        assert_eq!(
            "299-200".parse::<StatusSet>(),
            Err(StatusSetError::Reversed(299, 200))
        );
        assert_eq!(
            "100,1xx,!101".parse::<StatusSet>(),
            Err(StatusSetError::Interim("100,1xx,!101".to_owned()))
        );
        assert_eq!(
            "099".parse::<StatusSet>(),
            Err(StatusSetError::OutOfRange(99))
        );
        assert!(matches!(
            "204,!2xx".parse::<StatusSet>(),
            Err(StatusSetError::Nothing(_))
        ));
        for text in [
            "0xx", "20x", "!", "xx", "+20", "200-", ",", "200,,204", "2000",
        ] {
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
            parts in proptest::collection::vec((200_u16..1_000, 0_u16..50), 1..STATUS_RANGES)
        ) {
            let parts: Vec<(u16, u16)> =
                parts.into_iter().map(|(low, len)| (low, (low + len).min(999))).collect();
            let text =
                parts.iter().map(|(low, high)| format!("{low}-{high}")).collect::<Vec<_>>().join(",");
            let set: StatusSet = text.parse().unwrap();
            for code in 200..1_000 {
                let wanted = parts.iter().any(|&(low, high)| (low..=high).contains(&code));
                prop_assert_eq!(set.contains(code), wanted);
            }
            prop_assert_eq!(set.to_string().parse::<StatusSet>().unwrap(), set);
        }
    }
}
