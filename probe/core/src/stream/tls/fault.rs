//! Whose fault a TLS error is, and which. An origin's certificate that does
//! not hold and a handshake that it breaks are its own.

use openssl::ssl::{Error, SslRef};
use rustls::CertificateError;
use watchfire_wire::{Reason, Unmeasured};

use crate::outcome::Outcome;

/// What rustls says. During a handshake OpenSSL is asked too, and says the
/// last word.
pub(super) fn of_rustls(error: rustls::Error) -> Outcome {
    Outcome::Fail(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Reason::TlsName
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Reason::TlsExpired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Reason::TlsNotYetValid
            }
            CertificateError::UnknownIssuer => Reason::TlsUnknownIssuer,
            CertificateError::Revoked => Reason::TlsRevoked,
            CertificateError::BadEncoding => Reason::TlsMalformed,
            _ => Reason::TlsCertificate,
        },
        rustls::Error::NoCertificatesPresented => Reason::TlsCertificate,
        rustls::Error::FailedToGetCurrentTime
        | rustls::Error::FailedToGetRandomBytes
        | rustls::Error::General(_) => return Outcome::NotMeasured(Unmeasured::Internal),
        rustls::Error::PeerIncompatible(_) => Reason::TlsProtocol,
        rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            Reason::TlsProtocol
        }
        rustls::Error::NoApplicationProtocol
        | rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => {
            Reason::TlsAlpn
        }
        _ => Reason::TlsHandshake,
    })
}

/// What OpenSSL says.
pub(super) fn of_openssl(ssl: &SslRef, error: &Error, verify: bool) -> Outcome {
    let judged = ssl.verify_result().as_raw();
    if verify && judged != VERIFIED {
        return of_verification(judged);
    }
    let Some(first) = error.ssl_error().and_then(|stack| stack.errors().first()) else {
        return Outcome::Fail(Reason::TlsHandshake);
    };
    let library = first.library().unwrap_or_default();
    if first
        .reason()
        .is_some_and(|reason| reason.contains("malloc"))
    {
        return Outcome::NotMeasured(Unmeasured::OutOfMemory);
    }
    Outcome::Fail(
        if library.starts_with("asn1") || library.starts_with("x509") {
            Reason::TlsMalformed
        } else {
            match first.reason_code() {
                UNSUPPORTED_PROTOCOL
                | WRONG_SSL_VERSION
                | ALERT_PROTOCOL_VERSION
                | LEGACY_SIGALG => Reason::TlsProtocol,
                ALERT_NO_APPLICATION_PROTOCOL => Reason::TlsAlpn,
                _ => Reason::TlsHandshake,
            }
        },
    )
}

/// What a number of OpenSSL's verification means (`X509_V_ERR_...`).
fn of_verification(error: i32) -> Outcome {
    Outcome::Fail(match error {
        // Our own trouble: out of memory, an unusable call or store.
        1 | 17 | 65 | 69 | 70 => return Outcome::NotMeasured(Unmeasured::Internal),
        9 | 13 => Reason::TlsNotYetValid,
        10 | 14 => Reason::TlsExpired,
        2 | 18..=21 | 27 => Reason::TlsUnknownIssuer,
        23 => Reason::TlsRevoked,
        62..=64 => Reason::TlsName,
        4 | 6 => Reason::TlsMalformed,
        _ => Reason::TlsCertificate,
    })
}

/// `X509_V_OK`.
const VERIFIED: i32 = 0;

/// `SSL_R_UNSUPPORTED_PROTOCOL`: the origin chose a version that is too old.
const UNSUPPORTED_PROTOCOL: i32 = 258;

/// `SSL_R_LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED`: what TLS below 1.2 signs
/// with.
const LEGACY_SIGALG: i32 = 333;

/// `SSL_R_WRONG_SSL_VERSION`.
const WRONG_SSL_VERSION: i32 = 266;

/// `SSL_R_TLSV1_ALERT_PROTOCOL_VERSION`: the origin found ours too new or old.
const ALERT_PROTOCOL_VERSION: i32 = 1_070;
/// `SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL`: it speaks none of what was offered.
const ALERT_NO_APPLICATION_PROTOCOL: i32 = 1_120;
