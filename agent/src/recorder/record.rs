//! One transition as it is kept, written and shown: one JSON object a line.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A change of verdict of one origin.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Record {
    /// The same at every member: check, who decided, and when.
    pub(crate) id: String,
    /// When this agent heard of it, milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// When it was decided, on the clock of who did.
    pub(crate) since_ms: u64,
    /// The origin's name.
    pub(crate) origin: String,
    /// up, down or unknown.
    pub(crate) from: String,
    /// up, down or unknown.
    pub(crate) to: String,
    /// The reason's stable name.
    pub(crate) reason: String,
    /// Who decided.
    pub(crate) owner: String,
    /// What the probe took that decided it, microseconds.
    pub(crate) latency_us: u32,
    /// What others said who were asked before: only the one who asked knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) opinions: Vec<Said>,
}

/// One second opinion.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Said {
    /// Who.
    pub(crate) node: String,
    /// pass, fail, or silent: it had nothing to say, or said it too late.
    pub(crate) said: String,
}

impl Record {
    /// As it stands in files.
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("a record is plain data");
        line.push('\n');
        line
    }
}
