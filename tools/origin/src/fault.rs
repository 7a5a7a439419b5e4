//! What can be wrong with an origin, and how it is written on a command line.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

use crate::limits::{ANSWER_BYTES_MAX, DELAY_MS_MAX};

/// How far an exchange gets before something happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Right after the connection was accepted, before a byte was read.
    Accept,
    /// When the whole request was read, before a byte was answered.
    Request,
    /// In the middle of the response's head.
    Head,
    /// In the middle of the response's body.
    Body,
}

/// What is wrong with an origin.
///
/// In a TCP farm only those make a difference that act before the request is
/// read: [`Fault::Refuse`], [`Fault::Blackhole`], and a reset or close at
/// [`Phase::Accept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The kernel answers a SYN with a reset: nobody listens.
    Refuse,
    /// The SYN is dropped: a host that is gone.
    Blackhole,
    /// Accepts, reads the request, and never answers.
    Hang,
    /// Resets the connection.
    Reset(Phase),
    /// Closes the connection in good order, too early.
    Close(Phase),
    /// After the request, ends its own direction without a byte and keeps
    /// reading: the connection stays half open.
    HalfClose,
    /// The first byte comes so many milliseconds after the request.
    SlowFirstByte(u32),
    /// One byte of the response, then so many milliseconds of nothing, and so on.
    Drip(u32),
    /// A whole response with this status.
    Status(u16),
    /// A head of so many bytes before a small body.
    BigHead(u32),
    /// A body of so many bytes.
    BigBody(u32),
    /// Bytes that are no HTTP.
    Junk,
    /// `103 Early Hints` first, then the proper response.
    Informational,
    /// A proper response in chunked coding.
    Chunked,
    /// A response whose chunked coding is broken.
    BadChunked,
    /// Closes the connection after so many responses, without a word of it
    /// before: a client that keeps connections finds it gone.
    CloseAfter(u32),
}

/// A fault that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FaultError {
    /// No fault has this name.
    #[error("no fault is called {0:?}; the faults are: {names}", names = Fault::SYNTAX)]
    Unknown(String),
    /// The number behind the name is missing or no number.
    #[error("{0:?} wants a number behind it, as in {0}={1}")]
    Number(&'static str, u32),
    /// The number is out of range.
    #[error("{name}={value}: give a number from {least} to {most}")]
    Range {
        /// The fault.
        name: &'static str,
        /// What was asked for.
        value: u32,
        /// The least that goes.
        least: u32,
        /// The most that goes.
        most: u32,
    },
}

impl Fault {
    /// Every fault as it is written on a command line.
    pub const SYNTAX: &'static str = "refuse, blackhole, hang, reset-accept, reset-request, \
        reset-head, reset-body, close-accept, close-request, close-head, close-body, half-close, \
        slow=MS, drip=MS, status=CODE, big-head=BYTES, big-body=BYTES, junk, 1xx, chunked, \
        bad-chunked, close-after=REQUESTS";

    /// One of each kind, with a sensible number: for tests that want them all.
    pub const EXAMPLES: &'static [Self] = &[
        Self::Refuse,
        Self::Blackhole,
        Self::Hang,
        Self::Reset(Phase::Accept),
        Self::Reset(Phase::Request),
        Self::Reset(Phase::Head),
        Self::Reset(Phase::Body),
        Self::Close(Phase::Accept),
        Self::Close(Phase::Request),
        Self::Close(Phase::Head),
        Self::Close(Phase::Body),
        Self::HalfClose,
        Self::SlowFirstByte(300),
        Self::Drip(100),
        Self::Status(503),
        Self::BigHead(65_536),
        Self::BigBody(1 << 20),
        Self::Junk,
        Self::Informational,
        Self::Chunked,
        Self::BadChunked,
        Self::CloseAfter(2),
    ];

    /// Checks that the number in the fault is one that the farm can serve.
    ///
    /// # Errors
    ///
    /// [`FaultError::Range`] if it is not.
    pub fn check(self) -> Result<Self, FaultError> {
        let (value, least, most) = match self {
            Self::SlowFirstByte(ms) | Self::Drip(ms) => (ms, 1, DELAY_MS_MAX),
            Self::Status(code) => (u32::from(code), 200, 999),
            Self::BigHead(bytes) | Self::BigBody(bytes) => (bytes, 64, ANSWER_BYTES_MAX),
            Self::CloseAfter(requests) => (requests, 1, u32::MAX),
            _ => return Ok(self),
        };
        if (least..=most).contains(&value) {
            Ok(self)
        } else {
            Err(FaultError::Range {
                name: self.name(),
                value,
                least,
                most,
            })
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Blackhole => "blackhole",
            Self::Hang => "hang",
            Self::Reset(Phase::Accept) => "reset-accept",
            Self::Reset(Phase::Request) => "reset-request",
            Self::Reset(Phase::Head) => "reset-head",
            Self::Reset(Phase::Body) => "reset-body",
            Self::Close(Phase::Accept) => "close-accept",
            Self::Close(Phase::Request) => "close-request",
            Self::Close(Phase::Head) => "close-head",
            Self::Close(Phase::Body) => "close-body",
            Self::HalfClose => "half-close",
            Self::SlowFirstByte(_) => "slow",
            Self::Drip(_) => "drip",
            Self::Status(_) => "status",
            Self::BigHead(_) => "big-head",
            Self::BigBody(_) => "big-body",
            Self::Junk => "junk",
            Self::Informational => "1xx",
            Self::Chunked => "chunked",
            Self::BadChunked => "bad-chunked",
            Self::CloseAfter(_) => "close-after",
        }
    }

    const fn number(self) -> Option<u32> {
        match self {
            Self::SlowFirstByte(n)
            | Self::Drip(n)
            | Self::BigHead(n)
            | Self::BigBody(n)
            | Self::CloseAfter(n) => Some(n),
            Self::Status(code) => Some(code as u32),
            _ => None,
        }
    }

    /// The same kind of fault with another number.
    fn with_number(self, n: u32) -> Self {
        match self {
            Self::SlowFirstByte(_) => Self::SlowFirstByte(n),
            Self::Drip(_) => Self::Drip(n),
            Self::BigHead(_) => Self::BigHead(n),
            Self::BigBody(_) => Self::BigBody(n),
            Self::CloseAfter(_) => Self::CloseAfter(n),
            Self::Status(_) => Self::Status(u16::try_from(n).unwrap_or(u16::MAX)),
            other => other,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.number() {
            Some(n) => write!(f, "={n}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let example = Self::EXAMPLES
            .iter()
            .find(|example| example.name() == name)
            .ok_or_else(|| FaultError::Unknown(text.to_owned()))?;
        match (example.number(), number) {
            (None, None) => Ok(*example),
            (None, Some(_)) => Err(FaultError::Unknown(text.to_owned())),
            (Some(usual), number) => {
                let n = number
                    .and_then(|digits| digits.parse().ok())
                    .ok_or(FaultError::Number(example.name(), usual))?;
                example.with_number(n).check()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_reads_back_as_it_is_written() {
        for fault in Fault::EXAMPLES {
            assert_eq!(fault.to_string().parse(), Ok(*fault));
        }
    }

    #[test]
    fn the_syntax_names_every_fault() {
        for fault in Fault::EXAMPLES {
            assert!(
                Fault::SYNTAX
                    .split(", ")
                    .any(|word| word.split('=').next() == Some(fault.name())),
                "{fault} is missing"
            );
        }
    }

    #[test]
    fn nonsense_is_refused_with_advice() {
        let number = "drip".parse::<Fault>().unwrap_err();
        assert_eq!(number, FaultError::Number("drip", 100));
        assert!("status=70000".parse::<Fault>().is_err());
        assert!("slow=0".parse::<Fault>().is_err());
        assert!("hang=3".parse::<Fault>().is_err());
        let unknown = "explode".parse::<Fault>().unwrap_err().to_string();
        assert!(unknown.contains("bad-chunked"), "{unknown}");
    }
}
