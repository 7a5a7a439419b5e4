//! What one probe said and heard, for people who look at it.

use crate::limits::TAPE_BYTES;
use crate::shelf::Shelf;
use crate::stream::tls::Told;

/// The tape of a probe; of one that began again on another connection, of the
/// last of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tape {
    /// What was sent, within TLS.
    pub sent: Cut,
    /// What came, within TLS.
    pub received: Cut,
    /// The TLS session.
    pub tls: Option<Told>,
    /// Connections that were opened for it.
    pub connections: u32,
}

/// The beginning of something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// At most [`TAPE_BYTES`] of it.
    pub head: Vec<u8>,
    /// Bytes in all.
    pub bytes: u64,
}

impl Cut {
    fn add(&mut self, bytes: &[u8]) {
        let room = TAPE_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.bytes += bytes.len() as u64;
    }
}

/// A tape that an engine records on.
pub type Recorder = Shelf<Tape>;

/// A connection is opened: what was on the tape is of an earlier one.
pub(crate) fn begin(recorder: &Recorder) {
    recorder.with(|tape| {
        let connections = tape.connections + 1;
        // Certificates that one library refused are worth keeping until the
        // other one shows some.
        let tls = tape.tls.take();
        *tape = Tape {
            connections,
            tls,
            ..Tape::default()
        };
    });
}

pub(crate) fn sent(recorder: &Recorder, bytes: &[u8]) {
    recorder.with(|tape| tape.sent.add(bytes));
}

pub(crate) fn received(recorder: &Recorder, bytes: &[u8]) {
    recorder.with(|tape| tape.received.add(bytes));
}

pub(crate) fn shook(recorder: &Recorder, told: Told) {
    recorder.with(|tape| tape.tls = Some(told));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tape_is_short_and_counts_on() {
        let recorder = Recorder::default();
        begin(&recorder);
        let long = vec![b'x'; TAPE_BYTES - 1];
        for _ in 0..3 {
            received(&recorder, &long);
        }
        recorder.with(|tape| {
            assert_eq!(tape.received.head.len(), TAPE_BYTES);
            assert_eq!(tape.received.bytes, 3 * long.len() as u64);
        });
        begin(&recorder);
        recorder.with(|tape| assert_eq!((tape.received.bytes, tape.connections), (0, 2)));
    }
}
