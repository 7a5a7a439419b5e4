//! The certificates that HTTPS checks trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use watchfire_probe_core::stream::tls::TlsContext;

use crate::clock;
use crate::error::StartError;
use crate::options::Options;
use crate::tls_session;

/// Where distributions keep the certificates that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What is trusted: the file that is named, or the system's; nothing if that
/// is not there.
pub(crate) fn roots(options: &Options) -> Result<Vec<CertificateDer<'static>>, StartError> {
    match &options.tls_roots {
        Some(path) => read(path).map_err(|cause| StartError::TlsRoots {
            path: path.clone(),
            cause,
        }),
        None => Ok(SYSTEM
            .iter()
            .find_map(|path| read(Path::new(path)).ok())
            .unwrap_or_default()),
    }
}

/// The certificates that checks trust, read from disk.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(crate) context: Arc<TlsContext>,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Trust {
    /// Reads the file that the options name, or the system's own. Without any
    /// trusted certificate, checks that verify measure nothing; a file that was
    /// named must hold one.
    ///
    /// # Errors
    ///
    /// The named file cannot be read or holds no certificate.
    pub fn read(options: &Options) -> Result<Self, StartError> {
        let roots = roots(options)?;
        let certificates = roots.clone().into();
        let context = TlsContext::new(roots, clock::wall_us() / 1_000_000)
            .map_err(|error| StartError::Tls(error.to_string()))?
            .resuming_by(tls_session::resume);
        Ok(Self {
            context: Arc::new(context),
            certificates,
        })
    }

    /// How many certificates it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.certificates.len()
    }

    /// Whether both hold the same certificates, in the same order.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }

    /// The file that [`read`](Self::read) would read now: to be watched.
    #[must_use]
    pub fn file(options: &Options) -> Option<PathBuf> {
        let system = || SYSTEM.iter().map(PathBuf::from).find(|path| path.exists());
        options.tls_roots.clone().or_else(system)
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let roots: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if roots.is_empty() {
        return Err("it holds no usable certificate".to_owned());
    }
    Ok(roots)
}
