//! How the POP is, as the table's readers are told: an operator's freeze hides
//! the brake, and both may come and go in any order.

use watchfire_table::{Condition, PopState};

/// What is known of the POP's state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct States {
    /// This agent holds new Downs back since then, milliseconds since 1970.
    pub(crate) braked_ms: Option<u64>,
    /// An operator froze the POP then.
    pub(crate) frozen_ms: Option<u64>,
}

impl States {
    /// What the table is to say.
    pub(crate) fn shown(self) -> PopState {
        let frozen = self.frozen_ms.map(|since| (Condition::Frozen, since));
        let braked = self.braked_ms.map(|since| (Condition::Braked, since));
        let (condition, since_ms) = frozen.or(braked).unwrap_or_default();
        PopState {
            condition,
            since_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state() {
        let rows = [
            (None, None, Condition::Normal, 0),
            (Some(5), None, Condition::Braked, 5),
            (None, Some(7), Condition::Frozen, 7),
            (Some(5), Some(7), Condition::Frozen, 7),
        ];
        for (braked_ms, frozen_ms, condition, since_ms) in rows {
            let states = States {
                braked_ms,
                frozen_ms,
            };
            let shown = PopState {
                condition,
                since_ms,
            };
            assert_eq!(states.shown(), shown);
        }
    }
}
