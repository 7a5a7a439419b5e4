//! The token that opens the API over TCP, and the key made of it that reads.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::ConfigError;

/// Shortest token, bytes.
const TOKEN_BYTES: usize = 16;

/// What the key is made for.
const READER: &str = "Watchfire 2026-11 admin API: a key that reads";

/// A secret, by its hash: two hashes are compared in constant time.
pub(crate) struct Token {
    token: blake3::Hash,
    reader: blake3::Hash,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    Read,
    Change,
}

impl Token {
    /// Reads the first line of a file that is its owner's alone.
    ///
    /// # Errors
    ///
    /// It cannot be read, others may read it, or it is too short.
    pub(crate) fn read(file: &Path) -> Result<Self, ConfigError> {
        let token = text(file)?;
        Ok(Self {
            token: blake3::hash(token.as_bytes()),
            reader: blake3::hash(reader(&token).as_bytes()),
        })
    }

    /// What who says this may do.
    pub(super) fn lets(&self, said: &[u8]) -> Option<May> {
        let said = blake3::hash(said);
        if said == self.token {
            return Some(May::Change);
        }
        (said == self.reader).then_some(May::Read)
    }
}

/// The key that reads, of the token in this file. The token cannot be told from it.
///
/// # Errors
///
/// Like [`Token::read`].
pub(crate) fn reader_key(file: &Path) -> Result<String, ConfigError> {
    text(file).map(|token| reader(&token))
}

fn reader(token: &str) -> String {
    let key = blake3::derive_key(READER, token.as_bytes());
    blake3::Hash::from_bytes(key).to_hex().to_string()
}

fn text(file: &Path) -> Result<String, ConfigError> {
    let refuse = |what: String, hint: &str| ConfigError::of_file(file, what, hint);
    let found = fs::metadata(file).and_then(|meta| Ok((meta, fs::read_to_string(file)?)));
    let (meta, text) = found.map_err(|error| {
        refuse(
            format!("admin.token_file cannot be read: {error}"),
            "make one: (umask 077; openssl rand -hex 32 > FILE), owned by the agent's user",
        )
    })?;
    if meta.mode() & 0o077 != 0 {
        return Err(refuse(
            "admin.token_file: others may read it".into(),
            "chmod 600 it",
        ));
    }
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < TOKEN_BYTES {
        return Err(refuse(
            format!("admin.token_file holds a token of {} bytes", token.len()),
            "16 at least: openssl rand -hex 32",
        ));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_long_and_its_owners_alone_and_its_key_reads() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str, mode| {
            fs::write(file.path(), text).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            Token::read(file.path()).map_err(|error| error.to_string())
        };
        let token = read("0123456789abcdef\n", 0o600).ok().unwrap();
        assert_eq!(token.lets(b"0123456789abcdef"), Some(May::Change));
        let key = reader_key(file.path()).unwrap();
        assert_eq!(token.lets(key.as_bytes()), Some(May::Read));
        for wrong in [&b"0123456789abcdeg"[..], b""] {
            assert_eq!(token.lets(wrong), None);
        }
        assert!(
            read("0123456789abcdef", 0o640)
                .err()
                .unwrap()
                .contains("chmod 600")
        );
        assert!(read("short", 0o600).err().unwrap().contains("of 5 bytes"));
    }
}
