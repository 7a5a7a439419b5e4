//! From a fault to what an origin does: the bytes it sends, their pace, and
//! how it ends. Pure data; nothing here touches a socket.

use core::ops::Range;
use std::collections::HashMap;
use std::sync::Arc;

use crate::fault::{Fault, Phase};

/// What happens to a connection once all that was to be sent is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Wait for the next request.
    Keep,
    /// Close in good order.
    Close,
    /// Reset.
    Reset,
    /// End our direction, go on reading.
    HalfClose,
    /// Do nothing until the client leaves.
    Hang,
}

/// How an origin behaves from the accepted connection on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// Done to a connection right after it was accepted.
    pub(crate) at_accept: Option<After>,
    /// From the request to the first byte.
    pub(crate) delay_ms: u32,
    /// From one byte to the next; zero sends all at once.
    pub(crate) every_ms: u32,
    /// What is sent.
    pub(crate) bytes: Vec<u8>,
    /// How much of it is the head: all that a `HEAD` request gets.
    pub(crate) head_len: usize,
    /// What comes then.
    pub(crate) then: After,
    /// The connection is closed after so many responses; zero is never.
    pub(crate) responses_max: u32,
}

impl Behaviour {
    /// What an origin with this fault does; without one it answers 200.
    ///
    /// [`Fault::Refuse`] and [`Fault::Blackhole`] act before there is a
    /// connection, so what they say here is never seen.
    pub(crate) fn of(fault: Option<Fault>) -> Self {
        let healthy = Self::answering(status_head(200, BODY.len()), BODY);
        let Some(fault) = fault else { return healthy };
        match fault {
            Fault::Refuse | Fault::Blackhole => healthy,
            Fault::Hang => Self {
                then: After::Hang,
                ..Self::silent()
            },
            Fault::Reset(phase) => healthy.cut(phase, After::Reset),
            Fault::Close(phase) => healthy.cut(phase, After::Close),
            Fault::HalfClose => Self {
                then: After::HalfClose,
                ..Self::silent()
            },
            Fault::SlowFirstByte(ms) => Self {
                delay_ms: ms,
                ..healthy
            },
            Fault::Drip(ms) => Self {
                every_ms: ms,
                ..healthy
            },
            Fault::Status(code @ (204 | 304)) => Self::answering(bare_head(code), b""),
            Fault::Status(code) => Self::answering(status_head(code, BODY.len()), BODY),
            Fault::BigHead(bytes) => Self::answering(padded_head(bytes as usize), BODY),
            Fault::BigBody(bytes) => {
                let body = vec![b'x'; bytes as usize];
                Self::answering(status_head(200, body.len()), &body)
            }
            Fault::Junk => Self {
                then: After::Close,
                ..Self::answering(JUNK.to_vec(), b"")
            },
            Fault::Informational => {
                let mut head = EARLY_HINTS.to_vec();
                head.extend_from_slice(&status_head(200, BODY.len()));
                Self::answering(head, BODY)
            }
            Fault::Chunked => Self::answering(
                CHUNKED_HEAD.to_vec(),
                b"2\r\nok\r\n1;x=y\r\n\n\r\n0\r\n\r\n",
            ),
            Fault::BadChunked => Self {
                then: After::Close,
                ..Self::answering(CHUNKED_HEAD.to_vec(), b"2\r\nok\r\nzz\r\n\r\n0\r\n\r\n")
            },
            Fault::CloseAfter(requests) => Self {
                responses_max: requests,
                ..healthy
            },
        }
    }

    fn answering(head: Vec<u8>, body: &[u8]) -> Self {
        let head_len = head.len();
        let mut bytes = head;
        bytes.extend_from_slice(body);
        Self {
            at_accept: None,
            delay_ms: 0,
            every_ms: 0,
            bytes,
            head_len,
            then: After::Keep,
            responses_max: 0,
        }
    }

    fn silent() -> Self {
        Self::answering(Vec::new(), b"")
    }

    /// Gets as far as `phase`, then does `then`.
    fn cut(mut self, phase: Phase, then: After) -> Self {
        let keep = match phase {
            Phase::Accept => {
                self.at_accept = Some(then);
                0
            }
            Phase::Request => 0,
            Phase::Head => self.head_len / 2,
            Phase::Body => self.head_len + (self.bytes.len() - self.head_len) / 2,
        };
        self.bytes.truncate(keep);
        self.head_len = self.head_len.min(keep);
        self.then = then;
        self
    }
}

/// Which origin has which fault, and what it does because of it.
#[derive(Clone, Debug)]
pub(crate) struct Behaviours {
    faults: Vec<Option<Fault>>,
    index: Vec<u32>,
    distinct: Vec<Arc<Behaviour>>,
}

impl Behaviours {
    pub(crate) fn healthy(origins: u32) -> Self {
        Self {
            faults: vec![None; origins as usize],
            index: vec![0; origins as usize],
            distinct: vec![Arc::new(Behaviour::of(None))],
        }
    }

    /// The behaviour of `origin`.
    pub(crate) fn get(&self, origin: u32) -> &Arc<Behaviour> {
        &self.distinct[self.index[origin as usize] as usize]
    }

    pub(crate) fn fault(&self, origin: u32) -> Option<Fault> {
        self.faults[origin as usize]
    }

    /// The same with another fault for `origins`. Behaviours that no origin
    /// has any more are forgotten, so a million changes take no memory.
    pub(crate) fn with(&self, origins: Range<u32>, fault: Option<Fault>) -> Self {
        let mut faults = self.faults.clone();
        faults[origins.start as usize..origins.end as usize].fill(fault);
        let mut next = Self {
            faults: Vec::new(),
            index: vec![0; faults.len()],
            distinct: Vec::new(),
        };
        next.distinct.push(Arc::clone(&self.distinct[0]));
        let mut seen: HashMap<Option<Fault>, u32> = HashMap::from([(None, 0)]);
        for (origin, fault) in faults.iter().enumerate() {
            next.index[origin] = *seen.entry(*fault).or_insert_with(|| {
                let known = self.fault(origin as u32) == *fault;
                next.distinct.push(if known {
                    Arc::clone(self.get(origin as u32))
                } else {
                    Arc::new(Behaviour::of(*fault))
                });
                next.distinct.len() as u32 - 1
            });
        }
        next.faults = faults;
        next
    }

    /// The runs of neighbouring origins with this very fault.
    pub(crate) fn runs_of(&self, fault: Fault) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for (origin, has) in (0..).zip(&self.faults) {
            if *has != Some(fault) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == origin => run.end += 1,
                _ => runs.push(origin..origin + 1),
            }
        }
        runs
    }
}

const BODY: &[u8] = b"ok\n";
const JUNK: &[u8] = b"220 ftp.example.net ready\r\n\x00\xff\xfe\r\n";
const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
const CHUNKED_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: farm\r\nTransfer-Encoding: chunked\r\n\r\n";

fn status_head(code: u16, body_len: usize) -> Vec<u8> {
    let words = if code == 200 { "OK" } else { "As Told" };
    format!("HTTP/1.1 {code} {words}\r\nServer: farm\r\nContent-Type: text/plain\r\nContent-Length: {body_len}\r\n\r\n")
        .into_bytes()
}

/// The head of a response that has no body by definition.
fn bare_head(code: u16) -> Vec<u8> {
    format!("HTTP/1.1 {code} As Told\r\nServer: farm\r\n\r\n").into_bytes()
}

/// A head of `len` bytes, in header lines of ordinary length; a little longer
/// where `len` is too small for a proper head and a line to fill it up.
fn padded_head(len: usize) -> Vec<u8> {
    let plain = status_head(200, BODY.len());
    let mut head = plain[..plain.len() - 2].to_vec();
    while head.len() + 2 < len {
        let room = len - head.len() - 2;
        // The last line takes what remains, so that no remainder is too small
        // for a line of its own.
        let line = if room >= 200 { 100 } else { room };
        let filler = line.saturating_sub("X-Pad: \r\n".len());
        head.extend_from_slice(b"X-Pad: ");
        head.resize(head.len() + filler, b'p');
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_ends_inside_its_phase() {
        let whole = Behaviour::of(None);
        let head = Behaviour::of(Some(Fault::Reset(Phase::Head)));
        assert!(!head.bytes.is_empty() && head.bytes.len() < whole.head_len);
        let body = Behaviour::of(Some(Fault::Close(Phase::Body)));
        assert!(body.bytes.len() > whole.head_len && body.bytes.len() < whole.bytes.len());
        assert_eq!((head.then, body.then), (After::Reset, After::Close));
    }

    #[test]
    fn a_padded_head_has_the_length_asked_for() {
        for len in [200, 201, 299, 300, 4_096, 65_536] {
            assert_eq!(padded_head(len).len(), len);
        }
    }

    #[test]
    fn faults_come_go_and_leave_nothing_behind() {
        let mut table = Behaviours::healthy(10);
        for turn in 0..1_000 {
            table = table.with(turn % 10..10, Some(Fault::SlowFirstByte(turn + 1)));
        }
        assert!(table.distinct.len() <= 11);
        table = table
            .with(2..5, Some(Fault::Blackhole))
            .with(7..8, Some(Fault::Blackhole));
        assert_eq!(table.runs_of(Fault::Blackhole), vec![2..5, 7..8]);
        assert_eq!(table.with(0..10, None).distinct.len(), 1);
    }
}
