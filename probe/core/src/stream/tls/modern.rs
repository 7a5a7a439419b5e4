//! rustls: TLS 1.2 and 1.3 with today's algorithms.

use std::io::{self, Read, Write};
use std::sync::Arc;

use openssl::x509::X509;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup,
    RootCertStore, SignatureScheme,
};
use watchfire_wire::{Reason, Unmeasured};

use super::memory::Memory;
use super::options::{MinVersion, TlsOptions, offered};
use super::{Certificate, Fed, Told, WallClock, fault};
use crate::limits::TLS_OUT_BYTES;
use crate::outcome::Outcome;
use crate::shelf::Shelf;
use crate::stream::TlsSpec;

/// What all its sessions share.
#[derive(Debug)]
pub(super) struct Context {
    /// Nothing if no trusted root was given: then nothing can be verified.
    strict: Option<Shared>,
    lax: Shared,
    provider: Arc<CryptoProvider>,
    clock: Arc<WallClock>,
}

/// One way to judge certificates, and the configuration of checks that ask for
/// nothing else.
#[derive(Debug)]
struct Shared {
    verifier: Arc<dyn ServerCertVerifier>,
    config: Arc<ClientConfig>,
}

/// What a check keeps: its configuration, and where its sessions lie.
#[derive(Debug)]
pub(super) enum Own {
    /// It asks for what rustls does not know.
    Beyond,
    /// One that rustls can serve.
    Usable {
        config: Arc<ClientConfig>,
        /// Nothing for a check that resumes none.
        sessions: Option<Arc<Sessions>>,
    },
}

impl Context {
    pub(super) fn new(
        roots: &[CertificateDer<'static>],
        clock: &Arc<WallClock>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let share = |verifier: Arc<dyn ServerCertVerifier>| -> Result<Shared, rustls::Error> {
            let config = build(&provider, clock, Arc::clone(&verifier), None)?;
            let config = Arc::new(config);
            Ok(Shared { verifier, config })
        };
        let strict = verifier(&provider, roots).map(share).transpose()?;
        let lax = share(Arc::new(AnyCertificate(Arc::clone(&provider))))?;
        Ok(Self {
            strict,
            lax,
            provider,
            clock: Arc::clone(clock),
        })
    }

    /// What a check is to keep.
    fn make(&self, spec: &TlsSpec, alpn: Option<&str>, remembers: bool) -> Result<Own, Outcome> {
        let unsupported = Outcome::NotMeasured(Unmeasured::Unsupported);
        let shared = match self.strict.as_ref() {
            _ if !spec.verify => &self.lax,
            Some(strict) => strict,
            None if spec.has_own_ca() => &self.lax,
            None => return Err(unsupported),
        };
        let sessions = remembers.then(Arc::<Sessions>::default);
        let config = match (&spec.options, &sessions) {
            (None, None) if alpn.is_none() => Arc::clone(&shared.config),
            (None, sessions) => {
                let mut config = ClientConfig::clone(&shared.config);
                config.alpn_protocols = wire(&offered(None, alpn));
                if let Some(sessions) = sessions {
                    config.resumption = Resumption::store(Arc::<Sessions>::clone(sessions));
                }
                Arc::new(config)
            }
            (Some(options), sessions) => {
                let verifier = if spec.verify && options.has_ca() {
                    // Certificates that rustls cannot read are OpenSSL's to judge.
                    verifier(&self.provider, &options.ca)
                } else {
                    Some(Arc::clone(&shared.verifier))
                };
                let build = |verifier| build(&self.provider, &self.clock, verifier, Some(options));
                let Some(mut config) = verifier.and_then(|verifier| build(verifier).ok()) else {
                    return Ok(Own::Beyond);
                };
                config.alpn_protocols = wire(&offered(Some(options), alpn));
                if let Some(sessions) = sessions {
                    config.resumption = Resumption::store(Arc::<Sessions>::clone(sessions));
                }
                Arc::new(config)
            }
        };
        Ok(Own::Usable { config, sessions })
    }

    /// A session, which goes on with the last one if it may; nothing if its
    /// options are beyond rustls.
    pub(super) fn connect(
        &self,
        spec: &TlsSpec,
        alpn: Option<&str>,
        memory: &mut Memory,
        resume: bool,
    ) -> Result<Option<Connection>, Outcome> {
        let remembers = memory.remembers();
        let own = match &memory.modern {
            Some(own) => own,
            None => memory.modern.insert(self.make(spec, alpn, remembers)?),
        };
        let Own::Usable { config, sessions } = own else {
            return Ok(None);
        };
        let offered = match sessions {
            Some(sessions) if resume => sessions.holds_one(),
            Some(sessions) => {
                sessions.clear();
                false
            }
            None => false,
        };
        let name = ServerName::try_from(spec.server_name.clone())
            .map_err(|_| Outcome::NotMeasured(Unmeasured::Unsupported))?;
        ClientConnection::new(Arc::clone(config), name)
            .map(|tls| {
                Some(Connection {
                    tls,
                    offered,
                    failed: None,
                })
            })
            .map_err(|_| Outcome::NotMeasured(Unmeasured::Internal))
    }
}

/// The last session of one check: one of each version, and what the server
/// liked to exchange keys by.
#[derive(Debug, Default)]
pub(super) struct Sessions(Shelf<Last>);

#[derive(Default)]
struct Last {
    group: Option<NamedGroup>,
    tls12: Option<Box<Tls12ClientSessionValue>>,
    tls13: Option<Box<Tls13ClientSessionValue>>,
}

impl Sessions {
    fn holds_one(&self) -> bool {
        self.0
            .with(|last| last.tls12.is_some() || last.tls13.is_some())
    }

    fn clear(&self) {
        self.0.with(|last| (last.tls12, last.tls13) = (None, None));
    }
}

// A check has one server name.
impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _name: ServerName<'static>, group: NamedGroup) {
        self.0.with(|last| last.group = Some(group));
    }

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.with(|last| last.group)
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.with(|last| last.tls12 = Some(Box::new(value)));
    }

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.with(|last| last.tls12.as_deref().cloned())
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {
        self.0.with(|last| last.tls12 = None);
    }

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.with(|last| last.tls13 = Some(Box::new(value)));
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.with(|last| last.tls13.take()).map(|value| *value)
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
    roots: &[CertificateDer<'static>],
) -> Option<Arc<dyn ServerCertVerifier>> {
    WebPkiServerVerifier::builder_with_provider(store_of(roots), Arc::clone(provider))
        .build()
        .ok()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
}

fn build(
    provider: &Arc<CryptoProvider>,
    clock: &Arc<WallClock>,
    verifier: Arc<dyn ServerCertVerifier>,
    options: Option<&TlsOptions>,
) -> Result<ClientConfig, rustls::Error> {
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
    config.alpn_protocols = wire(&offered(options, None));
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Protocols as rustls wants them.
fn wire(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// One session.
pub(super) struct Connection {
    tls: ClientConnection,
    offered: bool,
    failed: Option<rustls::Error>,
}

impl Connection {
    pub(super) const fn offered(&self) -> bool {
        self.offered
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The protocol that both sides agreed to.
    pub(super) fn agreed(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    pub(super) fn told(&self) -> Told {
        let version = self.tls.protocol_version();
        let suite = self.tls.negotiated_cipher_suite();
        let alpn = self.tls.alpn_protocol();
        let shown = self.tls.peer_certificates().unwrap_or_default().iter();
        Told {
            library: "rustls",
            version: version
                .and_then(|version| version.as_str())
                .map(|version| version.replace('_', ".")),
            cipher: suite
                .and_then(|suite| suite.suite().as_str())
                .map(str::to_owned),
            alpn: alpn.map(|name| name.escape_ascii().to_string()),
            chain: shown.filter_map(|der| Certificate::of_der(der)).collect(),
        }
    }

    /// The origin's own certificate.
    pub(super) fn certificate(&self) -> Option<X509> {
        X509::from_der(self.tls.peer_certificates()?.first()?).ok()
    }

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
