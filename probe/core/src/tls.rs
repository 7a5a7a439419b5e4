//! TLS for HTTP checks: rustls, fed with bytes and asked for bytes.
//!
//! No resumption: each new connection shakes hands in full, so that a passed
//! check means that the origin can do so. The wall clock that certificates are
//! judged by is set from outside ([`TlsContext::set_wall_s`]). The handshake's
//! randomness is the cryptography's own affair and decides nothing here.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use watchfire_wire::{Reason, Unmeasured};

use crate::check::TlsSpec;
use crate::limits::TLS_OUT_BYTES;
use crate::outcome::Outcome;

/// What all TLS checks of a prober share.
#[derive(Debug)]
pub struct TlsContext {
    /// Nothing if no trusted root was given: then nothing can be verified.
    strict: Option<Arc<ClientConfig>>,
    lax: Arc<ClientConfig>,
    clock: Arc<WallClock>,
}

impl TlsContext {
    /// A context that trusts `roots`.
    ///
    /// # Errors
    ///
    /// The cryptography cannot serve TLS 1.2 and 1.3.
    pub fn new(roots: RootCertStore, wall_s: u64) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clock = Arc::new(WallClock(AtomicU64::new(wall_s)));
        let build = |verifier: Arc<dyn ServerCertVerifier>| {
            let time: Arc<dyn TimeProvider> = Arc::<WallClock>::clone(&clock);
            let mut config = ClientConfig::builder_with_details(Arc::clone(&provider), time)
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            config.resumption = Resumption::disabled();
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        let strict = match WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        )
        .build()
        {
            Ok(verifier) => Some(build(verifier)?),
            Err(_) => None,
        };
        let lax = build(Arc::new(AnyCertificate(Arc::clone(&provider))))?;
        Ok(Self { strict, lax, clock })
    }

    /// Tells the wall clock, whole seconds since 1970.
    pub fn set_wall_s(&self, wall_s: u64) {
        self.clock.0.store(wall_s, Ordering::Relaxed);
    }

    /// A new session with an origin: its first flight is ready to be sent.
    ///
    /// # Errors
    ///
    /// What the probe's outcome is if none can be had: always our own trouble.
    pub(crate) fn connect(&self, spec: &TlsSpec) -> Result<Box<Session>, Outcome> {
        let unsupported = Outcome::NotMeasured(Unmeasured::Unsupported);
        let config = if spec.verify {
            self.strict.as_ref().ok_or(unsupported)?
        } else {
            &self.lax
        };
        let name = ServerName::try_from(spec.server_name.clone()).map_err(|_| unsupported)?;
        let tls = ClientConnection::new(Arc::clone(config), name)
            .map_err(|_| Outcome::NotMeasured(Unmeasured::Internal))?;
        let mut session = Box::new(Session {
            tls,
            out: Vec::new(),
            requested: false,
        });
        session.pull()?;
        Ok(session)
    }
}

/// One TLS session.
pub(crate) struct Session {
    tls: ClientConnection,
    /// Bytes to send; untouched while they are being sent.
    out: Vec<u8>,
    requested: bool,
}

impl Session {
    /// What is to be sent now.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// All of it was sent.
    pub(crate) fn sent(&mut self) {
        self.out.clear();
    }

    /// Whether the handshake is still going on.
    pub(crate) fn handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Queues another request on a session that is already established.
    pub(crate) fn request(&mut self, request: &[u8]) -> Result<(), Outcome> {
        self.requested = true;
        self.tls
            .writer()
            .write_all(request)
            .map_err(|_| Outcome::NotMeasured(Unmeasured::Internal))?;
        self.pull()
    }

    /// Takes bytes from the origin; hands what they decrypt to to `plain`, and
    /// queues `request` as soon as the handshake is done.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        request: &[u8],
        mut plain: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Outcome> {
        let mut buffer = [0; 4_096];
        while !bytes.is_empty() {
            let before = bytes.len();
            let read = self.tls.read_tls(&mut bytes);
            let state = self.tls.process_new_packets().map_err(fault)?;
            if read.is_err() || (bytes.len() == before && state.plaintext_bytes_to_read() == 0) {
                return Err(Outcome::Fail(Reason::TlsHandshake));
            }
            loop {
                match self.tls.reader().read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        if !plain(&buffer[..count]) {
                            return Ok(());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Outcome::Fail(Reason::ClosedEarly)),
                }
            }
        }
        if !self.requested && !self.tls.is_handshaking() {
            return self.request(request);
        }
        self.pull()
    }

    /// Moves what TLS wants to send into `out`.
    fn pull(&mut self) -> Result<(), Outcome> {
        while self.tls.wants_write() {
            if self.out.len() > TLS_OUT_BYTES || self.tls.write_tls(&mut self.out).is_err() {
                return Err(Outcome::NotMeasured(Unmeasured::Internal));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("handshaking", &self.tls.is_handshaking())
            .field("out", &self.out.len())
            .finish_non_exhaustive()
    }
}

/// Whose fault a TLS error is. An origin's certificate that does not hold and
/// a handshake that it breaks are its own.
fn fault(error: rustls::Error) -> Outcome {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Outcome::Fail(Reason::TlsCertificate)
        }
        rustls::Error::FailedToGetCurrentTime
        | rustls::Error::FailedToGetRandomBytes
        | rustls::Error::General(_) => Outcome::NotMeasured(Unmeasured::Internal),
        _ => Outcome::Fail(Reason::TlsHandshake),
    }
}

/// The wall clock, as it was last told.
#[derive(Debug)]
struct WallClock(AtomicU64);

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let wall_s = self.0.load(Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(wall_s)))
    }
}

/// Takes any certificate, but only if the origin holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
