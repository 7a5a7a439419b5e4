//! The certificates that HTTPS checks trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use watchfire_probe_core::stream::tls::TlsContext;

use crate::error::StartError;
use crate::options::Options;

/// Where distributions keep the certificates that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The TLS context of a prober. Without any trusted certificate, checks that
/// verify measure nothing; a file that was named must hold one.
pub(crate) fn context(options: &Options, wall_s: u64) -> Result<Arc<TlsContext>, StartError> {
    TlsContext::new(roots(options)?, wall_s)
        .map(Arc::new)
        .map_err(|error| StartError::Tls(error.to_string()))
}

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
            .map(PathBuf::from)
            .find_map(|path| read(&path).ok())
            .unwrap_or_default()),
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
