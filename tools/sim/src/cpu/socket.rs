//! A socket's receive buffer: first in, first out, finite in bytes.

use std::collections::VecDeque;

/// What waits in a socket.
#[derive(Debug)]
pub(crate) struct Socket<P> {
    waiting: VecDeque<Waiting<P>>,
    bytes: usize,
    most_bytes: usize,
    overhead_bytes: usize,
    /// Datagrams that found no room.
    pub(crate) dropped: u64,
}

/// A datagram that waits.
#[derive(Debug)]
pub(crate) struct Waiting<P> {
    /// When it came, microseconds: the kernel's timestamp.
    pub(crate) at_us: u64,
    /// Who sent it.
    pub(crate) from: P,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
}

impl<P> Socket<P> {
    pub(crate) fn new(most_bytes: usize, overhead_bytes: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            most_bytes,
            overhead_bytes,
            dropped: 0,
        }
    }

    /// A datagram comes. At the limit it is lost, and counted.
    pub(crate) fn push(&mut self, at_us: u64, from: P, bytes: Vec<u8>) {
        let takes = bytes.len() + self.overhead_bytes;
        if self.bytes + takes > self.most_bytes {
            self.dropped += 1;
            return;
        }
        self.bytes += takes;
        self.waiting.push_back(Waiting { at_us, from, bytes });
    }

    /// The oldest one.
    pub(crate) fn pop(&mut self) -> Option<Waiting<P>> {
        let oldest = self.waiting.pop_front()?;
        self.bytes -= oldest.bytes.len() + self.overhead_bytes;
        Some(oldest)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_lost_and_counted() {
        let mut socket = Socket::new(250, 20);
        for at in 0..3 {
            socket.push(at, (), vec![0; 100]);
        }
        assert_eq!((socket.len(), socket.dropped), (2, 1));
        assert_eq!(socket.pop().map(|oldest| oldest.at_us), Some(0));
        socket.push(3, (), vec![0; 100]);
        assert_eq!((socket.len(), socket.dropped), (2, 1));
    }
}
