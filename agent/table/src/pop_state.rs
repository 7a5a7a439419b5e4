//! How the POP is, as one word of the header: for people and for metrics. No
//! reader decides by it, for what it means for an origin stands in the origin's
//! own entry.

use core::fmt;

/// How the POP is by this agent's word.
///
/// The numbers are part of the layout and of the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Condition {
    /// Verdicts follow what is measured.
    #[default]
    Normal = 0,
    /// So much fails at once that the POP's own uplink may be at fault: new
    /// Downs are held back.
    Braked = 1,
    /// An operator has frozen all verdicts.
    Frozen = 2,
}

impl Condition {
    /// One word, as people and tools read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Braked => "braked",
            Self::Frozen => "frozen",
        }
    }

    /// The condition with this number. One that this version does not know is
    /// no ground to behave otherwise.
    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Braked,
            2 => Self::Frozen,
            _ => Self::Normal,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the POP is, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PopState {
    /// How it is.
    pub condition: Condition,
    /// Since when, milliseconds since 1970 on this server's clock; 48 bits are
    /// kept. Zero while it is normal.
    pub since_ms: u64,
}

/// The since field's bits.
const SINCE_MASK: u64 = (1 << 48) - 1;

impl PopState {
    /// As it lies in the header.
    pub(crate) fn word(self) -> u64 {
        self.since_ms.min(SINCE_MASK) | u64::from(self.condition as u8) << 48
    }

    /// From the header.
    pub(crate) const fn from_word(word: u64) -> Self {
        Self {
            condition: Condition::from_code((word >> 48) as u8),
            since_ms: word & SINCE_MASK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_how_and_since_when() {
        for condition in [Condition::Normal, Condition::Braked, Condition::Frozen] {
            let state = PopState {
                condition,
                since_ms: 1_800_000_000_000,
            };
            assert_eq!(PopState::from_word(state.word()), state);
        }
        let later = PopState::from_word(99 << 48 | 5);
        assert_eq!(later.condition, Condition::Normal, "of a later version");
        assert_eq!(PopState::default().word(), 0, "what is not named is zero");
    }
}
