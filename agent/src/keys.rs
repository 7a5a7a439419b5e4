//! The POP's key file: reading it and making one.

use std::fmt::Write as _;
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
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::of_file(
            path,
            format!("cannot read the key file: {error}"),
            "make one with `watchfire key new`, and let the agent's user read it",
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

/// The text of a new key file with one random key.
pub(crate) fn generate() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    let mut text = String::from(
        "# A Watchfire key: every agent of the POP needs it, nobody else may have it.\n1 ",
    );
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
        assert!(KeyRing::parse(&generate()).is_ok());
        assert_ne!(generate(), generate());
    }
}
