//! The token that opens the API over TCP.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::ConfigError;

/// Shortest token, bytes.
const TOKEN_BYTES: usize = 16;

/// A secret, by its hash: two hashes are compared in constant time.
pub(crate) struct Token(blake3::Hash);

impl Token {
    /// Reads the first line of a file that is its owner's alone.
    ///
    /// # Errors
    ///
    /// It cannot be read, others may read it, or it is too short.
    pub(crate) fn read(file: &Path) -> Result<Self, ConfigError> {
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
        Ok(Self(blake3::hash(token.as_bytes())))
    }

    /// Whether this is it.
    pub(super) fn is(&self, said: &[u8]) -> bool {
        blake3::hash(said) == self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_long_and_its_owners_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str, mode| {
            fs::write(file.path(), text).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            Token::read(file.path()).map_err(|error| error.to_string())
        };
        let token = read("0123456789abcdef\n", 0o600).ok().unwrap();
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeg") && !token.is(b""));
        assert!(
            read("0123456789abcdef", 0o640)
                .err()
                .unwrap()
                .contains("chmod 600")
        );
        assert!(read("short", 0o600).err().unwrap().contains("of 5 bytes"));
    }
}
