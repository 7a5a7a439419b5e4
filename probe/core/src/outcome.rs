//! What one probe found.

use watchfire_wire::{Reason, Unmeasured};

/// The outcome of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The origin answered as expected.
    Pass,
    /// The origin failed.
    Fail(Reason),
    /// We failed; nothing was learnt about the origin.
    NotMeasured(Unmeasured),
}

impl Outcome {
    /// The number of the reason, as reports and records carry it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => Reason::Passed.code(),
            Self::Fail(reason) => reason.code(),
            Self::NotMeasured(unmeasured) => unmeasured.code(),
        }
    }

    /// The reason's stable name, for metrics and JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Pass => Reason::Passed.key(),
            Self::Fail(reason) => reason.key(),
            Self::NotMeasured(unmeasured) => unmeasured.key(),
        }
    }

    /// The reason in words, to follow "because".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Pass => Reason::Passed.words(),
            Self::Fail(reason) => reason.words(),
            Self::NotMeasured(unmeasured) => unmeasured.words(),
        }
    }
}

/// How long each phase of one probe took, from its start on, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Until the connection stood; nothing if it never did, or stood before.
    pub connect_us: Option<u32>,
    /// Until the TLS handshake was done; nothing without TLS.
    pub tls_us: Option<u32>,
    /// Until the first byte of the response.
    pub first_byte_us: Option<u32>,
    /// Until the outcome was known.
    pub total_us: u32,
    /// The response's final status, if one came.
    pub status: Option<u16>,
    /// It passed, and showed a sign of trouble all the same.
    pub degraded: bool,
}
