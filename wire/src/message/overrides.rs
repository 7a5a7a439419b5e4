//! What members say about operators' decisions: overrides of origins, and the
//! freeze of the POP.

#![allow(
    missing_docs,
    reason = "rkyv's derive leaves the fields of an enum's resolver without docs; all that is written here has some"
)]

use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::Actor;

/// A body about decisions.
#[derive(Clone, Debug, PartialEq, Archive, Serialize)]
pub enum Overrides {
    /// "Our states differ: do our decisions?" Answered by a
    /// [`Overrides::Compare`] if this digest is not the receiver's.
    Digest {
        /// Of all decisions that the sender holds.
        digest: u64,
    },
    /// "These are the sums of my decisions, bucket by bucket." Answered by the
    /// decisions of the buckets that differ.
    Compare {
        /// One for each bucket of names.
        sums: Vec<u64>,
        /// This is itself an answer: it is not answered by another one.
        answer: bool,
    },
    /// Decisions: news, or what a comparison asked for.
    Decisions {
        /// How many rounds this news has travelled.
        hops: u8,
        /// In any order.
        decisions: Vec<Decision>,
    },
}

/// One decision of an operator, and names that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Decision {
    /// Greater than that of any decision which its writer knew of.
    pub counter: u64,
    /// The agent that took it from the operator. Counter and agent together are
    /// its id; of one name the decision with the greatest id counts.
    pub by: Actor,
    /// What was decided.
    pub op: Op,
    /// When, POP time, milliseconds since 1970.
    pub at_ms: u64,
    /// When it ends, POP time, milliseconds since 1970; 0 for never.
    pub until_ms: u64,
    /// Who decided it.
    pub who: String,
    /// Why, in the operator's words.
    pub why: String,
    /// Of which origins; an empty name is the POP itself, one behind a
    /// [`MEMBER_MARK`] is a member's.
    pub names: Vec<String>,
}

/// Stands before the name of a member, and in no origin's.
pub const MEMBER_MARK: char = '\u{1}';

/// What an operator can decide of an origin, of a member, or of the POP. The numbers are on
/// the wire and never change.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize,
)]
#[rkyv(derive(Clone, Copy, PartialEq, Eq))]
#[repr(u8)]
pub enum Op {
    /// What the probes find counts again.
    Auto = 0,
    /// It is Up, whatever the probes find.
    Up = 1,
    /// It is Down.
    Down = 2,
    /// It drains: what is open ends, nothing new comes.
    Drain = 3,
    /// Of the POP: no verdict changes.
    Freeze = 4,
    /// Of a member: it is put out of the POP.
    Evict = 5,
    /// Of a member that is gone, or was put out: its name may begin anew.
    Forget = 6,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Auto,
        Self::Up,
        Self::Down,
        Self::Drain,
        Self::Freeze,
        Self::Evict,
        Self::Forget,
    ];

    /// One word, as people and tools read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Up => "up",
            Self::Down => "down",
            Self::Drain => "drain",
            Self::Freeze => "freeze",
            Self::Evict => "evict",
            Self::Forget => "forget",
        }
    }

    /// The one with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str() == word)
    }
}
