//! The POP's key file: reading it and making one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use watchfire_core::gate::Keys;
use watchfire_wire::keys::KeyRing;

use crate::config::ConfigError;

/// Reads a key file; without one, frames carry a checksum only.
///
/// # Errors
///
/// The file cannot be read, or its text is not a key file's.
pub(crate) fn load(path: Option<&Path>) -> Result<Keys, ConfigError> {
    let Some(path) = path else {
        return Ok(Keys::Insecure);
    };
    let is_file = std::fs::metadata(path).map(|meta| meta.is_file());
    if let Ok(false) = is_file {
        return Err(ConfigError::of_file(
            path,
            "the key file is not a regular file",
            "name a file that `watchfire key new FILE` made",
        ));
    }
    let open_to_all = std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o007 != 0);
    if open_to_all {
        return Err(ConfigError::of_file(
            path,
            "everybody on this host may use the key file",
            format!("chmod 0600 {}", path.display()),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::of_file(
            path,
            format!("cannot read the key file: {error}"),
            if error.kind() == std::io::ErrorKind::NotFound {
                "copy the POP's key file here; for a new POP `watchfire key new FILE` makes one"
            } else {
                "let the agent's user read it: chown root:watchfire and chmod 0640, if it runs as \
                 watchfire"
            },
        )
    })?;
    KeyRing::parse(&text).map(Keys::Sealed).map_err(|error| {
        ConfigError::of_file(
            path,
            error.to_string(),
            "each line is an id and 64 hexadecimal digits; `watchfire key new` makes one",
        )
    })
}

/// Writes a new key file that its owner alone may use.
///
/// # Errors
///
/// The file is there already, or cannot be made.
pub(crate) fn create(path: &Path, id: u32) -> std::io::Result<()> {
    let mut options = std::fs::File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(generate(id).as_bytes())?;
    file.sync_all()
}

/// The text of a new key file with one random key.
pub(crate) fn generate(id: u32) -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    let mut text = String::from(
        "# A Watchfire key: every agent of the POP needs it, nobody else may have it.\n",
    );
    write!(text, "{id} ").expect("writing to a string does not fail");
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_file_can_be_read_and_two_differ() {
        assert!(KeyRing::parse(&generate(7)).is_ok());
        assert_ne!(generate(1), generate(1));
    }

    #[test]
    fn a_key_file_is_its_owners_alone_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pop.key");
        create(&file, 1).unwrap();
        assert!(matches!(load(Some(&file)), Ok(Keys::Sealed(_))));
        assert!(create(&file, 2).is_err());
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file, open).unwrap();
        assert!(load(Some(&file)).is_err());
        // What is no key file must not be changed by whoever follows the advice.
        let error = load(Some(dir.path())).unwrap_err();
        assert!(!error.hint.contains("chmod"), "{error}");
    }
}
