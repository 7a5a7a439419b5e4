//! What a check asks of TLS beyond a name and whether to verify: whom to trust,
//! who it is itself, and what to speak. All of it is content, not paths, so that
//! a certificate that was renewed is another check, which begins anew.

use core::fmt;
use core::hash::{Hash, Hasher};

use openssl::pkey::PKey;
use openssl::x509::X509;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use watchfire_wire::CheckId;

use crate::keys::{self, KeyError, Keys, Value};
use crate::limits::{ALPN_BYTES, ALPN_NAMES, TLS_CERTIFICATES};

/// The keys that name PEM files; whoever reads the configuration gives their
/// text.
pub const FILE_KEYS: &[&str] = &["ca_file", "client_certificate", CLIENT_KEY];

/// The key whose file is a secret.
pub const CLIENT_KEY: &str = "client_key";

/// The least version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum MinVersion {
    /// What the libraries speak today.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// Who this side is: a chain, its own certificate first, and the key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Client {
    /// The key as rustls wants it; nothing for a form that it does not know.
    pub(super) fn rustls_key(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.key).ok()
    }

    /// The key's PEM.
    pub(super) fn key_pem(&self) -> &[u8] {
        &self.key
    }
}

/// What a check asks of TLS beyond the usual.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// Trusted instead of the prober's; empty for those.
    pub(super) ca: Vec<CertificateDer<'static>>,
    pub(super) client: Option<Client>,
    pub(super) min_version: MinVersion,
    /// Protocols that are offered, in order; nothing for the usual one.
    pub(super) alpn: Option<Vec<String>>,
    /// Its last session is resumed.
    resumption: bool,
    /// Names all of it.
    name: [u8; 16],
}

impl TlsOptions {
    /// The keys that it takes.
    pub const KEYS: &'static [&'static str] = &[
        "ca_file",
        "client_certificate",
        CLIENT_KEY,
        "tls_min_version",
        "alpn",
        "tls_resumption",
    ];

    /// Takes its keys; nothing if none says anything.
    ///
    /// # Errors
    ///
    /// A key that means nothing, a file without what it should hold, or a
    /// certificate and a key that do not belong together.
    pub fn read(keys: &mut dyn Keys) -> Result<Option<Self>, KeyError> {
        let ca = match keys::text(keys, "ca_file")? {
            Some(pem) => certificates("ca_file", &pem)?,
            None => Vec::new(),
        };
        let chain = keys::text(keys, "client_certificate")?;
        let key = keys::text(keys, CLIENT_KEY)?;
        let client = match (chain, key) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some(client(&chain, key)?),
            (Some(_), None) => {
                return Err(KeyError::new(
                    "client_certificate",
                    "a client certificate without its key",
                    "write client_key = \"FILE\" beside it, or leave both out",
                ));
            }
            (None, Some(_)) => {
                return Err(KeyError::new(
                    CLIENT_KEY,
                    "a client key without its certificate",
                    "write client_certificate = \"FILE\" beside it, or leave both out",
                ));
            }
        };
        let versions = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
        let min_version = keys::word(keys, "tls_min_version", &versions)?.unwrap_or_default();
        let alpn = alpn(keys)?;
        let resumption = keys::flag(keys, "tls_resumption")?.unwrap_or(true);
        let usual = alpn.is_none() && min_version == MinVersion::default() && resumption;
        if usual && ca.is_empty() && client.is_none() {
            return Ok(None);
        }
        let mut options = Self {
            ca,
            client,
            min_version,
            alpn,
            resumption,
            name: [0; 16],
        };
        options.name = CheckId::of_canonical(&options.bytes()).0;
        Ok(Some(options))
    }

    /// All of it, as bytes that say where each part ends.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        };
        put(&[self.min_version as u8, u8::from(self.alpn.is_some())]);
        put(&[u8::from(self.client.is_some())]);
        for name in self.alpn.iter().flatten() {
            put(name.as_bytes());
        }
        put(&[]);
        for certificate in &self.ca {
            put(certificate);
        }
        put(&[]);
        if let Some(client) = &self.client {
            for certificate in &client.chain {
                put(certificate);
            }
            put(&client.key);
        }
        // Written only where it is not the usual: names are to stay.
        if !self.resumption {
            put(b"no resumption");
        }
        bytes
    }

    /// Whether it trusts others than the prober does.
    pub(crate) const fn has_ca(&self) -> bool {
        !self.ca.is_empty()
    }

    /// Whether its last session is resumed.
    pub(crate) const fn resumption(&self) -> bool {
        self.resumption
    }

    /// Whether it leaves it to the kind what is offered, or offers this itself.
    pub(crate) fn offers(&self, alpn: &str) -> bool {
        let names = self.alpn.as_ref();
        names.is_none_or(|names| names.iter().any(|name| name == alpn))
    }

    /// What the canonical bytes of a check hold of it.
    pub(crate) const fn canonical(&self) -> [u8; 16] {
        self.name
    }
}

/// What is offered (ALPN) where neither a check nor its kind says anything.
const USUAL_ALPN: &str = "http/1.1";

/// What a session offers: what its check says, or else what its kind speaks.
pub(super) fn offered<'a>(options: Option<&'a TlsOptions>, kind: Option<&'a str>) -> Vec<&'a str> {
    match options.and_then(|options| options.alpn.as_ref()) {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => vec![kind.unwrap_or(USUAL_ALPN)],
    }
}

impl Hash for TlsOptions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("ca", &self.ca.len())
            .field("client", &self.client.is_some())
            .field("min_version", &self.min_version)
            .field("alpn", &self.alpn)
            .field("resumption", &self.resumption)
            .finish_non_exhaustive()
    }
}

/// The certificates of a PEM text, at least one.
fn certificates(key: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| {
        KeyError::new(
            key,
            format!("the file of {key} is no PEM: {error}"),
            "name a file of -----BEGIN CERTIFICATE----- blocks",
        )
    })?;
    if found.is_empty() {
        return Err(KeyError::new(
            key,
            format!("the file of {key} holds no certificate"),
            "name a file of -----BEGIN CERTIFICATE----- blocks",
        ));
    }
    if found.len() > TLS_CERTIFICATES {
        return Err(KeyError::new(
            key,
            format!("the file of {key} holds {} certificates", found.len()),
            format!(
                "name a file of at most {TLS_CERTIFICATES}: what this origin needs, not all that the system trusts"
            ),
        ));
    }
    if let Some(at) = found.iter().position(|der| X509::from_der(der).is_err()) {
        return Err(KeyError::new(
            key,
            format!("certificate {} in the file of {key} cannot be read", at + 1),
            "make the file anew",
        ));
    }
    Ok(found)
}

fn client(chain: &str, key: String) -> Result<Client, KeyError> {
    let chain = certificates("client_certificate", chain)?;
    let private = PKey::private_key_from_pem_callback(key.as_bytes(), |_| Ok(0)).map_err(|_| {
        KeyError::new(
            CLIENT_KEY,
            "the file of client_key holds no private key that can be read",
            "name a file with one -----BEGIN PRIVATE KEY----- block, without a pass phrase",
        )
    })?;
    let own = X509::from_der(&chain[0]).and_then(|own| own.public_key());
    if !own.is_ok_and(|own| own.public_eq(&private)) {
        return Err(KeyError::new(
            CLIENT_KEY,
            "the key is not that of the first certificate in client_certificate",
            "name the key that the certificate was made for, and put its own certificate first",
        ));
    }
    Ok(Client {
        chain,
        key: key.into_bytes(),
    })
}

fn alpn(keys: &mut dyn Keys) -> Result<Option<Vec<String>>, KeyError> {
    let bad = |what: String| {
        KeyError::new(
            "alpn",
            what,
            format!(
                "write a list of at most {ALPN_NAMES} protocols of 1 to {ALPN_BYTES} bytes, like [\"http/1.1\"], or [] to offer none"
            ),
        )
    };
    let list = match keys.take("alpn") {
        None => return Ok(None),
        Some(Value::List(list)) => list,
        Some(_) => return Err(bad("alpn is no list".to_owned())),
    };
    if list.len() > ALPN_NAMES {
        return Err(bad(format!("alpn has {} protocols", list.len())));
    }
    let names = list.into_iter().map(|value| match value {
        Value::Text(name) if (1..=ALPN_BYTES).contains(&name.len()) => Ok(name),
        other => Err(bad(format!("{other:?} in alpn is no protocol's name"))),
    });
    names.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given(Vec<(&'static str, Value)>);

    impl Keys for Given {
        fn take(&mut self, key: &'static str) -> Option<Value> {
            let at = self.0.iter().position(|(name, _)| *name == key)?;
            Some(self.0.swap_remove(at).1)
        }
    }

    fn read(given: &[(&'static str, Value)]) -> Result<Option<TlsOptions>, KeyError> {
        TlsOptions::read(&mut Given(given.to_vec()))
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn list(names: &[&str]) -> Value {
        Value::List(names.iter().map(|name| text(name)).collect())
    }

    #[test]
    fn what_is_usual_is_nothing() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("tls_min_version", text("1.2"))]), Ok(None));
        assert_eq!(read(&[("tls_resumption", Value::Flag(true))]), Ok(None));
    }

    #[test]
    fn each_choice_has_its_own_name() {
        let all = [
            read(&[("tls_min_version", text("1.3"))]),
            read(&[("tls_resumption", Value::Flag(false))]),
            read(&[
                ("tls_resumption", Value::Flag(false)),
                ("tls_min_version", text("1.3")),
            ]),
            read(&[("alpn", list(&[]))]),
            read(&[("alpn", list(&["h2"]))]),
            read(&[("alpn", list(&["h2", "http/1.1"]))]),
            read(&[("alpn", list(&["h2"])), ("tls_min_version", text("1.3"))]),
        ]
        .map(|read| read.unwrap().unwrap().canonical());
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn what_cannot_work_names_its_key_and_the_way_out() {
        let none = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let rows = [
            (vec![("ca_file", text(""))], "ca_file", "no certificate"),
            (vec![("ca_file", text(none))], "ca_file", "no certificate"),
            (
                vec![("client_certificate", text("x"))],
                "client_certificate",
                "without its key",
            ),
            (
                vec![("client_key", text(none))],
                "client_key",
                "without its certificate",
            ),
            (
                vec![("tls_min_version", text("1.1"))],
                "tls_min_version",
                "means nothing",
            ),
            (
                vec![("tls_resumption", text("no"))],
                "tls_resumption",
                "true or false",
            ),
            (vec![("alpn", text("h2"))], "alpn", "no list"),
            (vec![("alpn", list(&[""]))], "alpn", "no protocol"),
        ];
        for (given, key, what) in rows {
            let error = read(&given).expect_err(what);
            assert_eq!(error.key, key);
            assert!(error.what.contains(what), "{error}");
            assert!(!error.hint.is_empty());
        }
    }
}
