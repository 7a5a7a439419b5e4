//! The last probes of a check as they are shown: what this agent's probe threads
//! remember, with the time of the day.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watchfire_probe::Traced;
use watchfire_wire::{Reason, Time};

use crate::gossip::{reason_key, reason_words};

/// One probe. Times are true to within a part in a hundred.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct ProbeRecord {
    /// When it ended, milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// pass, fail or not_measured.
    pub(crate) outcome: String,
    /// The reason's stable name.
    pub(crate) reason: String,
    /// Since its start, microseconds: until the connection stood.
    pub(crate) connect_us: Option<u32>,
    /// Until the TLS handshake was done.
    pub(crate) tls_us: Option<u32>,
    /// Until the first byte of the response.
    pub(crate) first_byte_us: Option<u32>,
    /// Until the outcome was known.
    pub(crate) total_us: u32,
    /// The status of the response, if one came.
    pub(crate) status: Option<u16>,
}

/// What came when a verdict turned here.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct AnswerRecord {
    /// When, milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// What the probes turned to, before any second opinion: up or down.
    pub(crate) to: String,
    /// The reason's stable name.
    pub(crate) reason: String,
    /// The reason in words.
    pub(crate) because: String,
    /// What the TLS library said, if it failed there.
    pub(crate) tls: Option<String>,
    /// The head of what the origin said, without secrets, escaped, line by line.
    pub(crate) head: String,
}

/// What is remembered of a check's last probes, the oldest first, and of what
/// came when they turned its verdict; `zero_ms` is the wall clock at the probes'
/// time zero.
pub(crate) fn told(traced: Traced, zero_ms: u64) -> (Vec<ProbeRecord>, Vec<AnswerRecord>) {
    let wall_ms = |at: Time| zero_ms + at.as_millis();
    let probes = traced.probes.into_iter().map(|probe| ProbeRecord {
        at_ms: wall_ms(probe.at),
        outcome: match Reason::from_code(probe.code) {
            Some(Reason::Passed) => "pass",
            Some(_) => "fail",
            None => "not_measured",
        }
        .to_owned(),
        reason: reason_key(probe.code).to_owned(),
        connect_us: probe.phases.connect_us,
        tls_us: probe.phases.tls_us,
        first_byte_us: probe.phases.first_byte_us,
        total_us: probe.phases.total_us,
        status: probe.phases.status,
    });
    let answers = traced.answers.into_iter().map(|it| AnswerRecord {
        at_ms: wall_ms(it.at),
        to: it.to.as_str().to_owned(),
        reason: reason_key(it.code).to_owned(),
        because: reason_words(it.code).to_owned(),
        tls: it.tls.map(Into::into),
        head: it.answer.into(),
    });
    (probes.collect(), answers.collect())
}
