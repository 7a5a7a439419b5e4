//! The gate: an address that is no member's draws no more bytes than it sent.

use std::collections::BTreeMap;

use crate::limits::STRANGER_EXCESS_BYTES;

/// Bytes in and out, by stranger.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    heard: BTreeMap<u16, u64>,
    answered: BTreeMap<u16, u64>,
}

impl Gate {
    /// A stranger sent this much.
    pub(crate) fn heard(&mut self, stranger: u16, bytes: usize) {
        *self.heard.entry(stranger).or_default() += bytes as u64;
    }

    /// A stranger was sent this much; what is wrong with that, if anything.
    pub(crate) fn answered(&mut self, stranger: u16, bytes: usize) -> Option<String> {
        let answered = self.answered.entry(stranger).or_default();
        *answered += bytes as u64;
        let heard = self.heard.get(&stranger).copied().unwrap_or(0);
        (*answered > heard + STRANGER_EXCESS_BYTES)
            .then(|| format!("a stranger sent {heard} bytes and drew {answered}"))
    }

    /// All that strangers ever drew.
    pub(crate) fn drawn(&self) -> u64 {
        self.answered.values().sum()
    }
}
