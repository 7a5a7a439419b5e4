//! What an operator decides, and how it is known from another decision.

use std::sync::Arc;

use watchfire_wire::Actor;
use watchfire_wire::limits::{NODE_NAME_BYTES, ORIGIN_NAME_BYTES, WHO_BYTES, WHY_BYTES};
pub use watchfire_wire::message::overrides::Op;
use watchfire_wire::message::overrides::{self as wire, MEMBER_MARK};

/// The name under which decisions about the POP itself are held: no origin's.
pub const POP: &str = "";

/// The name under which decisions about a member are held.
#[must_use]
pub fn member_key(name: &str) -> Arc<str> {
    format!("{MEMBER_MARK}{name}").into()
}

/// The member that decisions under this name are about.
#[must_use]
pub fn member_of(key: &str) -> Option<&str> {
    key.strip_prefix(MEMBER_MARK)
}

/// Of two decisions about one name the one with the greater id counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId {
    /// Greater than all that its agent knew of, so what was decided knowing
    /// something beats it.
    pub counter: u64,
    /// The agent that took it. Two that decide at once have equal counters.
    pub by: Actor,
}

/// A decision of an operator, about one name or many. Ordered by its id; what
/// else it says only decides between two that pretend to be the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision {
    /// Its id.
    pub id: DecisionId,
    /// What was decided.
    pub op: Op,
    /// When, POP time, milliseconds since 1970.
    pub at_ms: u64,
    /// When it ends, POP time, milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// Who decided it.
    pub who: Arc<str>,
    /// Why.
    pub why: Arc<str>,
}

impl Decision {
    /// From what a member or a file says; nothing if no agent can have said it.
    #[must_use]
    pub fn of_wire(said: &wire::Decision) -> Option<Self> {
        let fits = said.who.len() <= WHO_BYTES && said.why.len() <= WHY_BYTES;
        let plain = |text: &str| !text.chars().any(char::is_control);
        (fits && plain(&said.who) && plain(&said.why)).then(|| Self {
            id: DecisionId {
                counter: said.counter,
                by: said.by,
            },
            op: said.op,
            at_ms: said.at_ms,
            until_ms: (said.until_ms > 0).then_some(said.until_ms),
            who: said.who.as_str().into(),
            why: said.why.as_str().into(),
        })
    }

    /// As it is sent, about these names.
    #[must_use]
    pub fn to_wire(&self, names: Vec<String>) -> wire::Decision {
        wire::Decision {
            counter: self.id.counter,
            by: self.id.by,
            op: self.op,
            at_ms: self.at_ms,
            until_ms: self.until_ms.unwrap_or(0),
            who: self.who.to_string(),
            why: self.why.to_string(),
            names,
        }
    }

    /// Whether it can be about this name: the POP can be frozen, an origin not, and
    /// only a member can be put out.
    #[must_use]
    pub fn suits(&self, name: &str) -> bool {
        let (text, most) = match member_of(name) {
            Some(member) => (member, NODE_NAME_BYTES),
            None => (name, ORIGIN_NAME_BYTES),
        };
        let plain = text.len() <= most && !text.chars().any(char::is_control);
        let of_member = member_of(name).is_some();
        let kind = match self.op {
            Op::Auto => !of_member,
            Op::Freeze => name == POP,
            Op::Up | Op::Down | Op::Drain => name != POP && !of_member,
            Op::Evict | Op::Forget => of_member && !text.is_empty(),
        };
        plain && kind
    }

    /// Whether it has no say at this POP time; at an unknown one only what has
    /// none at any time.
    #[must_use]
    pub fn is_over(&self, pop_ms: Option<u64>) -> bool {
        let ended = |until: u64| pop_ms.is_some_and(|now| until <= now);
        matches!(self.op, Op::Auto | Op::Forget) || self.until_ms.is_some_and(ended)
    }
}

/// What an operator asks of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is decided.
    pub op: Op,
    /// Of which names; [`POP`] for the POP.
    pub names: Vec<Arc<str>>,
    /// For how long, milliseconds.
    pub for_ms: Option<u64>,
    /// Who decides.
    pub who: String,
    /// Why.
    pub why: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The decision.
    pub decision: Arc<Decision>,
    /// On how many clocks its end rests.
    pub clocks: usize,
    /// What has to be on disk for it to outlive this agent; see
    /// [`Kept::version`].
    pub version: u64,
}

/// Why a request was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// About nothing.
    #[error("the decision names no origin")]
    Nothing,
    /// More names than one decision may have.
    #[error("one decision names at most {most} origins, not {0}", most = crate::limits::NAMES_PER_DECISION)]
    TooMany(usize),
    /// No origin can have this name.
    #[error("\"{0}\" is no name of an origin")]
    Name(String),
    /// The reason is too long.
    #[error("the reason has {0} bytes; at most {WHY_BYTES} are kept")]
    Why(usize),
    /// The reason cannot be printed.
    #[error("the reason holds a control character")]
    Unprintable,
    /// A member that lives and was not put out cannot be forgotten.
    #[error("member \"{0}\" lives; `watchfire member evict` puts it out")]
    Lives(String),
    /// The agent that was asked is this member.
    #[error("this agent is \"{0}\"; ask another one to put it out, or stop it")]
    Itself(String),
    /// As many names as are remembered have a decision in force.
    #[error(
        "{most} origins have overrides in force already, which is as many as are kept; end some first",
        most = crate::limits::OVERRIDES
    )]
    Full,
}

/// Everything that must be on disk, to start from again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Grows with every change in one life of an agent.
    pub version: u64,
    /// The greatest counter ever seen.
    pub counter: u64,
    /// The last decision about each name.
    pub decisions: Vec<(Arc<Decision>, Vec<Arc<str>>)>,
}
