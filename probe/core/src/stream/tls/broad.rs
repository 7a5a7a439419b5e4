//! OpenSSL, with the system's own defaults: whatever HAProxy and nginx beside
//! us accept in an origin, and nothing that they would refuse.

use core::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    ErrorCode, ShutdownState, Ssl, SslContext, SslContextBuilder, SslContextRef, SslMethod,
    SslMode, SslRef, SslSession, SslSessionCacheMode, SslSessionRef, SslStream, SslVerifyMode,
    SslVersion,
};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509VerifyResult};
use rustls::pki_types::CertificateDer;
use watchfire_wire::Unmeasured;

use super::memory::Memory;
use super::options::{MinVersion, TlsOptions, offered};
use super::{Certificate, Fed, Told, fault};
use crate::limits::TLS_OUT_BYTES;
use crate::outcome::Outcome;
use crate::shelf::Shelf;
use crate::stream::TlsSpec;

/// What all its sessions share; made when the first one is needed.
pub(super) struct Context {
    roots: Vec<CertificateDer<'static>>,
    strict: OnceLock<Option<SslContext>>,
    lax: OnceLock<Option<SslContext>>,
    resume: Option<Resume>,
}

/// Puts an earlier session on a new connection of the same context; whether it
/// did. OpenSSL's function for that is not a safe one, so it comes from outside.
pub type Resume = fn(&mut SslRef, &KeptSession) -> bool;

/// A session that may be resumed, and the context that it came about in.
pub struct KeptSession {
    session: SslSession,
    context: SslContext,
}

impl KeptSession {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &SslSessionRef {
        &self.session
    }

    /// Whether it came about in the context of this connection.
    #[must_use]
    pub fn is_of(&self, ssl: &SslRef) -> bool {
        core::ptr::eq::<SslContextRef>(ssl.ssl_context(), &*self.context)
    }
}

/// Where the last session of one check lies.
type Last = Shelf<Option<KeptSession>>;

/// What a check keeps: what it asks for, read once, and its last session.
pub(super) struct Own {
    /// Of a check that trusts others than the prober does.
    context: Option<SslContext>,
    /// Who it is: its certificate, and those above it.
    chain: Vec<X509>,
    key: Option<PKey<Private>>,
    /// Nothing for a check that resumes none.
    last: Option<Arc<Last>>,
    /// Where certificates are put that fail to be verified; nothing unless
    /// somebody wants to look at them.
    refused: Option<Arc<Shelf<Vec<Certificate>>>>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

impl Own {
    fn new(spec: &TlsSpec, memory: &Memory) -> Result<Self, ErrorStack> {
        let mut own = Self {
            context: None,
            chain: Vec::new(),
            key: None,
            last: memory.remembers().then(Arc::<Last>::default),
            refused: memory.is_curious().then(Arc::default),
        };
        let Some(options) = &spec.options else {
            return Ok(own);
        };
        if spec.verify && options.has_ca() {
            own.context = Some(strict(&options.ca)?);
        }
        if let Some(client) = &options.client {
            let chain = client.chain.iter().map(|der| X509::from_der(der));
            own.chain = chain.collect::<Result<_, _>>()?;
            own.key = Some(PKey::private_key_from_pem(client.key_pem())?);
        }
        Ok(own)
    }
}

impl Context {
    pub(super) const fn new(roots: Vec<CertificateDer<'static>>) -> Self {
        Self {
            roots,
            strict: OnceLock::new(),
            lax: OnceLock::new(),
            resume: None,
        }
    }

    pub(super) const fn resume_by(&mut self, resume: Resume) {
        self.resume = Some(resume);
    }

    pub(super) fn connect(
        &self,
        spec: &TlsSpec,
        alpn: Option<&str>,
        memory: &mut Memory,
        (resume, wall_s): (bool, u64),
    ) -> Result<Connection, Outcome> {
        let internal = Outcome::NotMeasured(Unmeasured::Internal);
        let own = match &memory.broad {
            Some(own) => own,
            None => {
                let own = Own::new(spec, memory).map_err(|_| internal)?;
                memory.broad.insert(own)
            }
        };
        let shared = match &own.context {
            Some(_) => None,
            None if spec.verify => self
                .strict
                .get_or_init(|| strict(&self.roots).ok())
                .as_ref(),
            None => self.lax.get_or_init(|| lax().ok()).as_ref(),
        };
        let context = own.context.as_ref().or(shared).ok_or(internal)?;
        let resume = self.resume.filter(|_| resume);
        let alpn = wire(&offered(spec.options.as_deref(), alpn));
        begin(context, spec, &alpn, own, resume, wall_s).map_err(|_| internal)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

/// Where a connection keeps the place of its check's session.
fn place() -> Option<Index<Ssl, Arc<Last>>> {
    static PLACE: OnceLock<Option<Index<Ssl, Arc<Last>>>> = OnceLock::new();
    *PLACE.get_or_init(|| Ssl::new_ex_index().ok())
}

fn builder() -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_mode(SslMode::RELEASE_BUFFERS | SslMode::ENABLE_PARTIAL_WRITE);
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
    builder.set_new_session_callback(|ssl, session| {
        if let Some(last) = place().and_then(|place| ssl.ex_data(place)) {
            let context = ssl.ssl_context().to_owned();
            last.with(|last| *last = Some(KeptSession { session, context }));
        }
    });
    Ok(builder)
}

fn lax() -> Result<SslContext, ErrorStack> {
    builder().map(SslContextBuilder::build)
}

fn strict(roots: &[CertificateDer<'static>]) -> Result<SslContext, ErrorStack> {
    let mut builder = builder()?;
    builder.set_cert_store(store_of(roots)?);
    builder.set_verify(SslVerifyMode::PEER);
    Ok(builder.build())
}

fn store_of(roots: &[CertificateDer<'static>]) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for root in roots {
        if let Ok(root) = X509::from_der(root) {
            store.add_cert(root)?;
        }
    }
    // A certificate that is trusted by name needs no issuer: a pinned one.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    Ok(store.build())
}

/// What a check asks for beyond the usual.
fn apply(ssl: &mut SslRef, options: &TlsOptions, own: &Own) -> Result<(), ErrorStack> {
    if options.min_version == MinVersion::Tls13 {
        ssl.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    }
    let mut chain = own.chain.iter();
    if let (Some(first), Some(key)) = (chain.next(), &own.key) {
        ssl.set_certificate(first)?;
        for issuer in chain {
            ssl.add_chain_cert(issuer.clone())?;
        }
        ssl.set_private_key(key)?;
    }
    Ok(())
}

/// Protocols as they are sent: each with its length before it.
fn wire(names: &[&str]) -> Vec<u8> {
    let with_length = |name: &&str| {
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        core::iter::once(length)
            .chain(name.bytes())
            .collect::<Vec<u8>>()
    };
    names.iter().flat_map(with_length).collect()
}

fn begin(
    context: &SslContext,
    spec: &TlsSpec,
    alpn: &[u8],
    own: &Own,
    resume: Option<Resume>,
    wall_s: u64,
) -> Result<Connection, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    ssl.set_alpn_protos(alpn)?;
    let address: Result<IpAddr, _> = spec.server_name.parse();
    if address.is_err() {
        ssl.set_hostname(&spec.server_name)?;
    }
    if spec.verify {
        let param = ssl.param_mut();
        param.set_time(i64::try_from(wall_s).unwrap_or(i64::MAX));
        match address {
            Ok(address) => param.set_ip(address)?,
            Err(_) => param.set_host(&spec.server_name)?,
        }
    }
    if let Some(options) = &spec.options {
        apply(&mut ssl, options, own)?;
    }
    if let (Some(refused), true) = (&own.refused, spec.verify) {
        let refused = Arc::clone(refused);
        ssl.set_verify_callback(SslVerifyMode::PEER, move |good, verified| {
            let chain = verified.chain().into_iter().flatten();
            let chain: Vec<_> = chain.map(Certificate::of).collect();
            refused.with(|refused| *refused = chain);
            good
        });
    }
    let mut offered = false;
    if let (Some(last), Some(place)) = (&own.last, place()) {
        offered = last.with(|last| match (resume, last) {
            (Some(resume), Some(kept)) => resume(&mut ssl, kept),
            _ => false,
        });
        ssl.set_ex_data(place, Arc::clone(last));
    }
    ssl.set_connect_state();
    Ok(Connection {
        tls: SslStream::new(ssl, Pipe::default())?,
        verify: spec.verify,
        shaken: false,
        offered,
        refused: own.refused.clone(),
        failed: None,
    })
}

/// One session.
pub(super) struct Connection {
    tls: SslStream<Pipe>,
    verify: bool,
    shaken: bool,
    offered: bool,
    refused: Option<Arc<Shelf<Vec<Certificate>>>>,
    failed: Option<openssl::ssl::Error>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.shaken {
            // We close by a reset; OpenSSL takes a session whose end it was not
            // told of for one that must not be resumed.
            self.tls.set_shutdown(ShutdownState::SENT);
        }
    }
}

impl Connection {
    pub(super) const fn offered(&self) -> bool {
        self.offered
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.tls.ssl().session_reused()
    }

    /// The protocol that both sides agreed to.
    pub(super) fn agreed(&self) -> Option<&[u8]> {
        self.tls.ssl().selected_alpn_protocol()
    }

    pub(super) fn told(&self) -> Told {
        let ssl = self.tls.ssl();
        let cipher = ssl.current_cipher();
        let shown = ssl.peer_cert_chain().into_iter().flatten();
        let mut chain: Vec<_> = shown.map(Certificate::of).collect();
        if let (true, Some(refused)) = (chain.is_empty(), &self.refused) {
            chain = refused.with(core::mem::take);
        }
        Told {
            library: "OpenSSL",
            version: cipher.map(|_| ssl.version_str().to_owned()),
            cipher: cipher.map(|cipher| cipher.name().to_owned()),
            alpn: ssl
                .selected_alpn_protocol()
                .map(|name| name.escape_ascii().to_string()),
            chain,
        }
    }

    /// The origin's own certificate.
    pub(super) fn certificate(&self) -> Option<X509> {
        self.tls.ssl().peer_certificate()
    }

    pub(super) const fn handshaking(&self) -> bool {
        !self.shaken
    }

    fn fail(&mut self, error: openssl::ssl::Error) -> Outcome {
        let outcome = fault::of_openssl(self.tls.ssl(), &error, self.verify);
        self.failed = Some(error);
        outcome
    }

    /// What it failed with.
    pub(super) fn complaint(&self) -> Option<String> {
        let error = self.failed.as_ref()?;
        let judged = self.tls.ssl().verify_result();
        if self.verify && judged != X509VerifyResult::OK {
            return Some(judged.error_string().to_owned());
        }
        let stack = error.ssl_error().map_or(&[][..], |stack| stack.errors());
        let reason = stack.first().and_then(|first| first.reason());
        Some(reason.map_or_else(|| error.to_string(), str::to_owned))
    }

    /// Encrypts `bytes` into `out`; nothing if that is not possible.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.tls.ssl_write(rest).ok()?;
            rest = &rest[count..];
        }
        self.pull(out)
    }

    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Fed, Outcome> {
        let internal = Outcome::NotMeasured(Unmeasured::Internal);
        self.tls.get_mut().incoming.extend_from_slice(bytes);
        if !self.shaken {
            match self.tls.do_handshake() {
                Ok(()) => self.shaken = true,
                Err(error) if error.code() == ErrorCode::WANT_READ => {
                    self.pull(out).ok_or(internal)?;
                    return Ok(Fed::Open);
                }
                Err(error) => {
                    return Err(self.fail(error));
                }
            }
        }
        let mut buffer = [0; 4_096];
        let fed = loop {
            match self.tls.ssl_read(&mut buffer) {
                Ok(count) => {
                    if !plain(&buffer[..count]) {
                        return Ok(Fed::Open);
                    }
                }
                Err(error) if error.code() == ErrorCode::WANT_READ => break Fed::Open,
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => break Fed::Closed,
                Err(error) => {
                    return Err(self.fail(error));
                }
            }
        };
        self.pull(out).ok_or(internal)?;
        Ok(fed)
    }

    /// Moves what TLS wants to send into `out`.
    fn pull(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let outgoing = &mut self.tls.get_mut().outgoing;
        if out.len() + outgoing.len() > TLS_OUT_BYTES {
            return None;
        }
        out.append(outgoing);
        Some(())
    }
}

/// What stands for the network: bytes that came, and bytes to send.
#[derive(Default)]
struct Pipe {
    incoming: Vec<u8>,
    taken: usize,
    outgoing: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waiting = &self.incoming[self.taken..];
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.incoming.len() {
            self.incoming.clear();
            self.taken = 0;
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
