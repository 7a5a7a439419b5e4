//! TLS under any stream: fed with bytes and asked for bytes.
//!
//! Two libraries stand behind one session. `modern` is rustls: a third of
//! the CPU time of a handshake, and memory-safe, but without CBC, static RSA,
//! DHE, P-521 and what else the proxies beside us still speak. `broad` is
//! OpenSSL, the proxies' own library: a handshake that rustls does not bring to
//! an end is tried again with it, on a connection of its own within the same
//! probe, and its word is the one that counts. So a certificate or a server
//! fails here if it fails there, and for the same reason.
//!
//! A check resumes its last session, unless it is not to, and shakes hands in
//! full every now and then: see `memory`. A handshake that offered a session
//! and failed is tried again without one, so that no verdict depends on what we
//! remember. The wall clock that certificates are judged by is set from outside
//! ([`TlsContext::set_wall_s`]). The handshake's randomness is the cryptography's
//! own affair and decides nothing here.

mod broad;
mod fault;
mod memory;
mod modern;
mod options;
mod told;

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::x509::X509Ref;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use watchfire_wire::{Time, Unmeasured};

pub use self::broad::{KeptSession, Resume};
pub(crate) use self::memory::Memory;
pub use self::options::{CLIENT_KEY, FILE_KEYS, TlsOptions};
pub use self::told::{Certificate, Told};
use crate::outcome::Outcome;
use crate::stream::TlsSpec;

/// What all TLS checks of a prober share.
#[derive(Debug)]
pub struct TlsContext {
    modern: modern::Context,
    broad: broad::Context,
    clock: Arc<WallClock>,
}

/// Why the libraries cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl TlsContext {
    /// A context that trusts `roots`. Those that a library cannot read are
    /// passed over: system stores hold a few that nobody should trust.
    ///
    /// # Errors
    ///
    /// The cryptography cannot serve TLS 1.2 and 1.3.
    pub fn new(roots: Vec<CertificateDer<'static>>, wall_s: u64) -> Result<Self, TlsError> {
        let clock = Arc::new(WallClock(AtomicU64::new(wall_s)));
        Ok(Self {
            modern: modern::Context::new(&roots, &clock).map_err(|e| TlsError(e.to_string()))?,
            broad: broad::Context::new(roots),
            clock,
        })
    }

    /// The same, whose OpenSSL sessions are resumed by this.
    #[must_use]
    pub fn resuming_by(mut self, resume: Resume) -> Self {
        self.broad.resume_by(resume);
        self
    }

    /// The wall clock as it was last told.
    pub(crate) fn wall_s(&self) -> u64 {
        self.clock.wall_s()
    }

    /// Tells the wall clock, whole seconds since 1970.
    pub fn set_wall_s(&self, wall_s: u64) {
        self.clock.0.store(wall_s, Ordering::Relaxed);
    }

    /// A new session with an origin: its first flight is ready to be sent. It offers
    /// the protocol `alpn` of its kind, unless the check names others.
    ///
    /// # Errors
    ///
    /// What the probe's outcome is if none can be had: always our own trouble.
    pub(crate) fn connect(
        &self,
        spec: &TlsSpec,
        alpn: Option<&str>,
        memory: &mut Memory,
        now: Time,
    ) -> Result<Box<Session>, Outcome> {
        let wall_s = self.clock.wall_s();
        let resume = memory.may_resume(now, wall_s);
        let modern = match memory.side(now) {
            Side::Modern => self.modern.connect(spec, alpn, memory, resume)?,
            Side::Broad => None,
        };
        let library = match modern {
            Some(connection) => Library::Modern(connection),
            None => Library::Broad(self.broad.connect(spec, alpn, memory, (resume, wall_s))?),
        };
        let mut session = Box::new(Session {
            offered: match &library {
                Library::Modern(connection) => connection.offered(),
                Library::Broad(connection) => connection.offered(),
            },
            library,
            out: Vec::new(),
            told_done: false,
        });
        session.shake(&[])?;
        Ok(session)
    }
}

/// Which library a session uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// rustls.
    Modern,
    /// OpenSSL.
    Broad,
}

/// One TLS session.
pub(crate) struct Session {
    library: Library,
    /// Bytes to send; untouched while they are being sent.
    out: Vec<u8>,
    /// The handshake's end was noticed.
    told_done: bool,
    /// An earlier session was offered to the origin.
    offered: bool,
}

/// A session of either library.
#[expect(
    clippy::large_enum_variant,
    reason = "it is in its session's box, and the large one is the usual one"
)]
enum Library {
    Modern(modern::Connection),
    Broad(broad::Connection),
}

/// What a session says of bytes that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// It goes on.
    Open,
    /// The origin ended its side (`close_notify`): what comes after it is to
    /// be ignored (RFC 8446, section 6.1).
    Closed,
}

impl Session {
    /// What is to be sent now.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// These bytes go before all else, in the clear.
    pub(crate) fn put_first(&mut self, bytes: &[u8]) {
        self.out.splice(0..0, bytes.iter().copied());
    }

    /// All of it was sent.
    pub(crate) fn sent(&mut self) {
        self.out.clear();
    }

    /// What its library said when it failed.
    pub(crate) fn complaint(&self) -> Option<String> {
        match &self.library {
            Library::Modern(connection) => connection.complaint(),
            Library::Broad(connection) => connection.complaint(),
        }
    }

    /// Which library it uses.
    pub(crate) const fn side(&self) -> Side {
        match self.library {
            Library::Modern(_) => Side::Modern,
            Library::Broad(_) => Side::Broad,
        }
    }

    /// Whether an earlier session was offered to the origin.
    pub(crate) const fn offered(&self) -> bool {
        self.offered
    }

    /// Whether it goes on with an earlier session, and showed no certificate.
    /// Known when the handshake is done.
    pub(crate) fn is_resumed(&self) -> bool {
        match &self.library {
            Library::Modern(connection) => connection.is_resumed(),
            Library::Broad(connection) => connection.is_resumed(),
        }
    }

    /// Whether both sides agreed to this protocol. Known when the handshake is done.
    pub(crate) fn speaks(&self, alpn: &str) -> bool {
        let agreed = match &self.library {
            Library::Modern(connection) => connection.agreed(),
            Library::Broad(connection) => connection.agreed(),
        };
        agreed == Some(alpn.as_bytes())
    }

    /// When the origin's own certificate ends, seconds since 1970. Known when a
    /// full handshake is done.
    pub(crate) fn not_after_s(&self) -> Option<u64> {
        let own = match &self.library {
            Library::Modern(connection) => connection.certificate(),
            Library::Broad(connection) => connection.certificate(),
        };
        own.as_deref().and_then(seconds_of)
    }

    /// What is to be told of it to people.
    pub(crate) fn told(&self) -> Told {
        match &self.library {
            Library::Modern(connection) => connection.told(),
            Library::Broad(connection) => connection.told(),
        }
    }

    /// Whether the handshake is still going on.
    pub(crate) const fn handshaking(&self) -> bool {
        !self.told_done
    }

    /// Queues bytes to be sent; the handshake is done.
    ///
    /// # Errors
    ///
    /// They cannot be encrypted: our own trouble.
    pub(crate) fn request(&mut self, request: &[u8]) -> Result<(), Outcome> {
        let written = match &mut self.library {
            Library::Modern(connection) => connection.write(request, &mut self.out),
            Library::Broad(connection) => connection.write(request, &mut self.out),
        };
        written.ok_or(Outcome::NotMeasured(Unmeasured::Internal))
    }

    /// Takes bytes from the origin; hands what they decrypt to to `plain`
    /// until that has enough.
    ///
    /// # Errors
    ///
    /// What the probe's outcome is.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        mut plain: impl FnMut(&[u8]) -> bool,
    ) -> Result<Fed, Outcome> {
        let fed = match &mut self.library {
            Library::Modern(connection) => connection.receive(bytes, &mut self.out, &mut plain),
            Library::Broad(connection) => connection.receive(bytes, &mut self.out, &mut plain),
        }?;
        self.note_done();
        Ok(fed)
    }

    /// Takes bytes that came while no request is outstanding. Whether TLS said
    /// something of its own in them, and nothing else: the session lives on.
    pub(crate) fn is_housekeeping(&mut self, bytes: &[u8]) -> bool {
        let mut spoke = false;
        let fed = self.receive(bytes, |_| {
            spoke = true;
            false
        });
        // An answer of TLS's own goes out with the next request.
        fed == Ok(Fed::Open) && !spoke
    }

    fn shake(&mut self, bytes: &[u8]) -> Result<(), Outcome> {
        let fed = match &mut self.library {
            Library::Modern(connection) => connection.receive(bytes, &mut self.out, &mut |_| true),
            Library::Broad(connection) => connection.receive(bytes, &mut self.out, &mut |_| true),
        };
        self.note_done();
        fed.map(|_| ())
    }

    fn note_done(&mut self) {
        if !self.told_done {
            self.told_done = match &self.library {
                Library::Modern(connection) => !connection.handshaking(),
                Library::Broad(connection) => !connection.handshaking(),
            };
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("side", &self.side())
            .field("handshaking", &self.handshaking())
            .field("out", &self.out.len())
            .finish_non_exhaustive()
    }
}

/// The end of a certificate, seconds since 1970; one that was over by then says
/// nothing.
fn seconds_of(certificate: &X509Ref) -> Option<u64> {
    let zero = Asn1Time::from_unix(0).ok()?;
    let span = zero.diff(certificate.not_after()).ok()?;
    let seconds = i64::from(span.days) * 86_400 + i64::from(span.secs);
    u64::try_from(seconds).ok()
}

/// The wall clock, as it was last told.
#[derive(Debug)]
struct WallClock(AtomicU64);

impl WallClock {
    fn wall_s(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            self.wall_s(),
        )))
    }
}
