//! Durations as people write them: `"500ms"`, `"1s"`, `"2m"`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Longest duration that a configuration may name. It leaves every sum of
/// durations far from overflow.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// A positive duration of at least one millisecond and at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

/// Reads a duration, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if text.trim_start().starts_with('-') {
        return Err(format!(
            "\"{text}\" is negative; a duration here is at least \"1ms\""
        ));
    }
    let duration = humantime::parse_duration(text)
        .map_err(|e| format!("\"{text}\" is not a duration like \"500ms\" or \"1s\": {e}"))?;
    if duration < Duration::from_millis(1) {
        return Err(format!(
            "\"{text}\" is too short; a duration here is at least \"1ms\""
        ));
    }
    if duration > LONGEST {
        return Err(format!(
            "\"{text}\" is too long; a duration here is at most \"24h\""
        ));
    }
    Ok(duration)
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, like \"500ms\" or \"1s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        parse(text).map(Span).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Span, E> {
        Err(E::custom(format!(
            "{number} has no unit; write a duration like \"500ms\" or \"1s\""
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Shape {
        d: Span,
    }

    fn parse(value: &str) -> Result<Duration, String> {
        toml::from_str::<Shape>(&format!("d = {value}\n"))
            .map(|shape| shape.d.0)
            .map_err(|e| e.message().to_owned())
    }

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse("\"500ms\"").unwrap(), Duration::from_millis(500));
        assert_eq!(parse("\"1m 30s\"").unwrap(), Duration::from_secs(90));
    }

    #[test]
    fn refuses_zero_negative_endless_and_unitless() {
        assert!(parse("\"0s\"").unwrap_err().contains("too short"));
        assert!(parse("\"-1s\"").unwrap_err().contains("negative"));
        assert!(parse("\"2days\"").unwrap_err().contains("too long"));
        assert!(parse("5").unwrap_err().contains("no unit"));
        assert!(parse("\"soon\"").unwrap_err().contains("not a duration"));
    }
}
