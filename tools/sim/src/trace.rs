//! A readable history of a run, and a fingerprint of it: two runs of one seed
//! must give the same fingerprint, event by event.

use std::fmt;
use std::io::{self, Write};

/// Where a run's history goes.
pub struct Trace {
    sink: Option<Box<dyn Write + Send>>,
    failed: Option<io::Error>,
    fingerprint: u64,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            sink: None,
            failed: None,
            fingerprint: 0xcbf2_9ce4_8422_2325,
        }
    }
}

impl Trace {
    /// A trace that writes every line.
    #[must_use]
    pub fn to(sink: Box<dyn Write + Send>) -> Self {
        Self {
            sink: Some(sink),
            ..Self::default()
        }
    }

    /// Whether lines are wanted, so that nobody formats them in vain.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Writes one line: time in milliseconds, node, words.
    pub fn line(&mut self, now_us: u64, node: Option<usize>, words: fmt::Arguments<'_>) {
        let Some(sink) = &mut self.sink else { return };
        let at_ms = now_us as f64 / 1e3;
        let written = match node {
            Some(node) => writeln!(sink, "{at_ms:>13.3} n{node:<4} {words}"),
            None => writeln!(sink, "{at_ms:>13.3} -     {words}"),
        };
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    /// Mixes an event into the fingerprint.
    pub fn mix(&mut self, a: u64, b: u64) {
        let mixed = (self.fingerprint.rotate_left(5) ^ a).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.fingerprint = (mixed.rotate_left(23) ^ b).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }

    /// All that was mixed in, in order.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    ///
    /// If that, or any line before it, could not be written.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.sink.as_mut().map_or(Ok(()), |sink| sink.flush())
    }
}
