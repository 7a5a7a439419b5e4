//! rustls: TLS 1.2 and 1.3 with today's algorithms.

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

use super::options::{MinVersion, TlsOptions};
use super::{Fed, WallClock, fault};
use crate::limits::TLS_OUT_BYTES;
use crate::outcome::Outcome;
use crate::stream::TlsSpec;

/// What all its sessions share.
#[derive(Debug)]
pub(super) struct Context {
    /// Nothing if no trusted root was given: then nothing can be verified.
    strict: Option<Arc<ClientConfig>>,
    lax: Arc<ClientConfig>,
    provider: Arc<CryptoProvider>,
    clock: Arc<WallClock>,
    roots: Arc<RootCertStore>,
}

impl Context {
    pub(super) fn new(
        roots: &[CertificateDer<'static>],
        clock: &Arc<WallClock>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = store_of(roots);
        let strict = match verifier(&provider, &roots) {
            Some(verifier) => Some(build(&provider, clock, verifier, None)?),
            None => None,
        };
        let any = Arc::new(AnyCertificate(Arc::clone(&provider)));
        let lax = build(&provider, clock, any, None)?;
        Ok(Self {
            strict,
            lax,
            provider,
            clock: Arc::clone(clock),
            roots,
        })
    }

    /// The configuration of a check with options of its own, made for each
    /// session: a few dozen microseconds beside a handshake's hundreds. Nothing
    /// for a key that rustls does not know.
    fn make(&self, options: &TlsOptions, verify: bool) -> Option<Arc<ClientConfig>> {
        let verifier = if !verify {
            Arc::new(AnyCertificate(Arc::clone(&self.provider)))
        } else if options.ca.is_empty() {
            verifier(&self.provider, &self.roots)?
        } else {
            verifier(&self.provider, &store_of(&options.ca))?
        };
        build(&self.provider, &self.clock, verifier, Some(options)).ok()
    }

    /// A session; nothing if its options are beyond rustls.
    pub(super) fn connect(&self, spec: &TlsSpec) -> Result<Option<Connection>, Outcome> {
        let unsupported = Outcome::NotMeasured(Unmeasured::Unsupported);
        let special = match &spec.options {
            None => None,
            Some(_) if spec.verify && self.strict.is_none() && !spec.has_own_ca() => {
                return Err(unsupported);
            }
            Some(options) => match self.make(options, spec.verify) {
                Some(config) => Some(config),
                None => return Ok(None),
            },
        };
        let config = match &special {
            Some(special) => special,
            None if spec.verify => self.strict.as_ref().ok_or(unsupported)?,
            None => &self.lax,
        };
        let name = ServerName::try_from(spec.server_name.clone()).map_err(|_| unsupported)?;
        ClientConnection::new(Arc::clone(config), name)
            .map(|tls| Some(Connection { tls, failed: None }))
            .map_err(|_| Outcome::NotMeasured(Unmeasured::Internal))
    }
}

fn store_of(roots: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    Arc::new(store)
}

/// Nothing if no root can be trusted.
fn verifier(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
) -> Option<Arc<dyn ServerCertVerifier>> {
    let roots = Arc::clone(roots);
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .ok()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
}

fn build(
    provider: &Arc<CryptoProvider>,
    clock: &Arc<WallClock>,
    verifier: Arc<dyn ServerCertVerifier>,
    options: Option<&TlsOptions>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let time: Arc<dyn TimeProvider> = Arc::<WallClock>::clone(clock);
    let versions = match options.map(|options| options.min_version) {
        Some(MinVersion::Tls13) => &[&rustls::version::TLS13][..],
        Some(MinVersion::Tls12) | None => rustls::DEFAULT_VERSIONS,
    };
    let builder = ClientConfig::builder_with_details(Arc::clone(provider), time)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match options.and_then(|options| options.client.as_ref()) {
        Some(client) => {
            let key = client
                .rustls_key()
                .ok_or(rustls::Error::General("a key of another kind".to_owned()))?;
            builder.with_client_auth_cert(client.chain.clone(), key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match options.and_then(|options| options.alpn.as_ref()) {
        Some(names) => names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        None => vec![b"http/1.1".to_vec()],
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// One session.
pub(super) struct Connection {
    tls: ClientConnection,
    failed: Option<rustls::Error>,
}

impl Connection {
    pub(super) fn handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// What it failed with.
    pub(super) fn complaint(&self) -> Option<String> {
        self.failed.as_ref().map(ToString::to_string)
    }

    /// Encrypts `bytes` into `out`; nothing if that is not possible.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.tls.writer().write_all(bytes).ok()?;
        self.pull(out)
    }

    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Fed, Outcome> {
        let mut buffer = [0; 4_096];
        let mut fed = Fed::Open;
        while !bytes.is_empty() && fed == Fed::Open {
            let before = bytes.len();
            let read = self.tls.read_tls(&mut bytes);
            let state = match self.tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(fault::of_rustls(error));
                }
            };
            if read.is_err() || (bytes.len() == before && state.plaintext_bytes_to_read() == 0) {
                return Err(Outcome::Fail(Reason::TlsHandshake));
            }
            loop {
                match self.tls.reader().read(&mut buffer) {
                    Ok(0) => {
                        fed = Fed::Closed;
                        break;
                    }
                    Ok(count) => {
                        if !plain(&buffer[..count]) {
                            return Ok(Fed::Open);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Outcome::Fail(Reason::ClosedEarly)),
                }
            }
        }
        self.pull(out)
            .ok_or(Outcome::NotMeasured(Unmeasured::Internal))?;
        Ok(fed)
    }

    /// Moves what TLS wants to send into `out`.
    fn pull(&mut self, out: &mut Vec<u8>) -> Option<()> {
        while self.tls.wants_write() {
            if out.len() > TLS_OUT_BYTES {
                return None;
            }
            self.tls.write_tls(out).ok()?;
        }
        Some(())
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
