//! `[brake]`: when new Downs are held back because so much fails at once.

use serde::Deserialize;
use toml::Spanned;
use watchfire_core::ownership::BrakeConfig;

use super::agent::within;
use super::duration::Span;
use super::source::{ConfigError, Source};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBrake {
    enabled: Option<bool>,
    share_percent: Option<Spanned<u64>>,
    hold: Option<Spanned<Span>>,
    hold_dark: Option<Spanned<Span>>,
}

/// The brake as the file wants it.
pub(super) fn brake(source: &Source, raw: &RawBrake) -> Result<BrakeConfig, ConfigError> {
    let mut brake = BrakeConfig::default();
    if let Some(enabled) = raw.enabled {
        brake.enabled = enabled;
    }
    if let Some(share) = &raw.share_percent {
        let share = within(source, share, SHARE_LEAST, SHARE_MOST, "share_percent")?;
        brake.share = share * 10;
        brake.share_to_let_go = share * 10 * 5 / 6;
        brake.share_of_few = brake.share_of_few.max(brake.share);
    }
    if let Some(hold) = &raw.hold {
        brake.hold = hold.get_ref().0;
        brake.hold_dark = brake.hold_dark.max(brake.hold);
    }
    if let Some(hold) = &raw.hold_dark {
        brake.hold_dark = hold.get_ref().0;
        if brake.hold_dark < brake.hold {
            return Err(source.error(
                hold.span(),
                "hold_dark is shorter than hold",
                "where nothing answers at all there is less reason to believe it: choose at \
                 least hold, or leave it out",
            ));
        }
    }
    Ok(brake)
}

/// Below this a provider that fails would brake, above it half of an uplink
/// would not.
const SHARE_LEAST: u64 = 20;
const SHARE_MOST: u64 = 95;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<BrakeConfig, String> {
        let source = Source::from_text(Path::new("a.toml"), text.to_owned()).unwrap();
        let raw: RawBrake = source.parse().map_err(|error| error.to_string())?;
        brake(&source, &raw).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_is_the_default_and_mistakes_have_their_line() {
        assert_eq!(read("").unwrap(), BrakeConfig::default());
        let other = read("share_percent = 60\nhold = \"2h\"\n").unwrap();
        assert_eq!((other.share, other.share_to_let_go), (600, 500));
        assert_eq!(other.hold_dark, Duration::from_secs(7_200));
        assert!(!read("enabled = false\n").unwrap().enabled);
        for (text, word) in [
            ("share_percent = 5\n", "choose 20 to 95"),
            ("hold_dark = \"1m\"\n", "shorter than hold"),
            ("share = 5\n", "unknown"),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                error.contains(word) && error.contains("a.toml:1"),
                "{error}"
            );
        }
    }
}
