//! OpenSSL, with the system's own defaults: whatever HAProxy and nginx beside
//! us accept in an origin, and nothing that they would refuse.

use core::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslRef, SslStream,
    SslVerifyMode, SslVersion,
};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509VerifyResult};
use rustls::pki_types::CertificateDer;
use watchfire_wire::Unmeasured;

use super::options::{MinVersion, TlsOptions};
use super::{Fed, fault};
use crate::limits::TLS_OUT_BYTES;
use crate::outcome::Outcome;
use crate::stream::TlsSpec;

/// What all its sessions share; made when the first one is needed.
pub(super) struct Context {
    roots: Vec<CertificateDer<'static>>,
    strict: OnceLock<Option<SslContext>>,
    lax: OnceLock<Option<SslContext>>,
}

impl Context {
    pub(super) const fn new(roots: Vec<CertificateDer<'static>>) -> Self {
        Self {
            roots,
            strict: OnceLock::new(),
            lax: OnceLock::new(),
        }
    }

    pub(super) fn connect(&self, spec: &TlsSpec, wall_s: u64) -> Result<Connection, Outcome> {
        let context = if spec.verify {
            self.strict.get_or_init(|| strict(&self.roots).ok())
        } else {
            self.lax.get_or_init(|| builder().map(|b| b.build()).ok())
        };
        let internal = Outcome::NotMeasured(Unmeasured::Internal);
        let context = context.as_ref().ok_or(internal)?;
        begin(context, spec, wall_s).map_err(|_| internal)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

fn builder() -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_mode(SslMode::RELEASE_BUFFERS | SslMode::ENABLE_PARTIAL_WRITE);
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(b"\x08http/1.1")?;
    Ok(builder)
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
fn apply(ssl: &mut SslRef, options: &TlsOptions, verify: bool) -> Result<(), ErrorStack> {
    if verify && options.has_ca() {
        ssl.set_verify_cert_store(store_of(&options.ca)?)?;
    }
    if options.min_version == MinVersion::Tls13 {
        ssl.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    }
    if let Some(names) = options.alpn_wire() {
        ssl.set_alpn_protos(&names)?;
    }
    if let Some(client) = &options.client {
        let mut chain = client.chain.iter();
        if let Some(own) = chain.next() {
            ssl.set_certificate(&*X509::from_der(own)?)?;
        }
        for issuer in chain {
            ssl.add_chain_cert(X509::from_der(issuer)?)?;
        }
        ssl.set_private_key(&*PKey::private_key_from_pem(client.key_pem())?)?;
    }
    Ok(())
}

fn begin(context: &SslContext, spec: &TlsSpec, wall_s: u64) -> Result<Connection, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
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
        apply(&mut ssl, options, spec.verify)?;
    }
    ssl.set_connect_state();
    Ok(Connection {
        tls: SslStream::new(ssl, Pipe::default())?,
        verify: spec.verify,
        shaken: false,
        failed: None,
    })
}

/// One session.
pub(super) struct Connection {
    tls: SslStream<Pipe>,
    verify: bool,
    shaken: bool,
    failed: Option<openssl::ssl::Error>,
}

impl Connection {
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
