//! A TCP connection, and nothing on it.

use core::fmt;
use core::net::SocketAddr;

use watchfire_wire::Reason;

use super::{CheckKind, Exchange, Next, Transport};
use crate::check::Canonical;
use crate::keys::{self, KeyError, Keys};
use crate::stream::TlsSpec;

/// A TCP check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Reset the connection as soon as it stands, so that the origin's
    /// application does not see it: SYN, SYN-ACK, RST. Otherwise the handshake
    /// is completed and the application may accept the connection.
    pub half_open: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self { half_open: true }
    }
}

impl CheckKind for Spec {
    const NAMES: [&'static str; 2] = ["tcp", "tls"];
    const TAG: u8 = 0;
    const KEYS: &'static [&'static [&'static str]] = &[&["half_open"]];
    const CARRIES_BYTES: bool = false;
    type Exchange = Connected;

    fn read(keys: &mut dyn Keys, _target: &SocketAddr) -> Result<Self, KeyError> {
        Ok(Self {
            half_open: keys::flag(keys, "half_open")?.unwrap_or(true),
        })
    }

    fn validate(&self) -> Result<(), KeyError> {
        Ok(())
    }

    fn canonical(&self, tls: Option<&TlsSpec>, out: &mut Canonical) {
        // Nothing was written before there was a choice, and nothing is
        // written for what there was then: names are to stay.
        if !self.half_open || tls.is_some() {
            out.byte(u8::from(self.half_open));
            out.tls(tls);
        }
    }

    fn transport(&self, tls: bool) -> Transport {
        if self.half_open && !tls {
            Transport::HalfOpen
        } else {
            Transport::Stream {
                keep: false,
                origin_first: !tls,
                fin: false,
            }
        }
    }

    fn prepare(&self, _user_agent: &str, _tls: bool) -> Box<[u8]> {
        Box::default()
    }

    fn begin(&self) -> Connected {
        Connected
    }

    fn describe(&self, tls: bool, target: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.half_open || tls {
            ""
        } else {
            " (full connect)"
        };
        write!(f, "{} {target}{how}", Self::NAMES[usize::from(tls)])
    }
}

/// It passes as soon as the stream stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connected;

impl Exchange for Connected {
    type Spec = Spec;

    fn connected(&mut self, _spec: &Spec) -> Next {
        Next::Pass { keep: false }
    }

    fn receive(&mut self, _spec: &Spec, _bytes: &[u8]) -> Next {
        Next::Pass { keep: false }
    }

    fn ended(&mut self, _spec: &Spec) -> Next {
        Next::Fail(Reason::ClosedEarly)
    }

    fn outgoing<'a>(&'a self, _prepared: &'a [u8]) -> &'a [u8] {
        &[]
    }
}
