//! Resumes OpenSSL's sessions, which its wrapper leaves to unsafe code.

use openssl::ssl::SslRef;
use watchfire_probe_core::stream::tls::KeptSession;

/// Puts an earlier session on a new connection; whether it did.
pub(crate) fn resume(ssl: &mut SslRef, kept: &KeptSession) -> bool {
    if !kept.is_of(ssl) {
        return false;
    }
    // SAFETY: OpenSSL asks that the session came about in the context of the
    // connection, which `is_of` has seen: a kept session holds its context, so
    // that no other one can have its address.
    let done = unsafe { ssl.set_session(kept.session()) };
    done.is_ok()
}
