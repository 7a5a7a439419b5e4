//! The POP's keys: what one is, a ring of several by id, and the key file.
//!
//! A key file is text. Each line is an id (1 to 4294967295), spaces, and 32
//! bytes in 64 hexadecimal digits; empty lines and lines that begin with `#`
//! are skipped. The first key seals what goes out, all of them open what comes
//! in:
//!
//! ```text
//! # made by: openssl rand -hex 32
//! 2 6c1f...
//! 1 a90b...
//! ```
//!
//! Rotation is three steps, each on every node: add the new key below the old
//! one, move it to the top, remove the old one. This module reads no file.

use core::fmt;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

use crate::limits::{KEY_FILE_BYTES, KEYS};

/// Names a key on the wire. 0 is no key: a frame with a checksum only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl KeyId {
    /// No key: the frame carries a checksum, which proves nothing.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One shared secret. Its bytes are never shown, and wiped when it goes.
#[derive(Clone)]
pub struct Key(XChaCha20Poly1305);

impl Key {
    /// The key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(bytes.into()))
    }

    pub(crate) const fn cipher(&self) -> &XChaCha20Poly1305 {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Up to [`KEYS`] keys; the first seals, all open.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<(KeyId, Key)>,
}

impl KeyRing {
    /// A ring of one key.
    ///
    /// # Errors
    /// The id is 0. Nothing was made.
    pub fn of(id: KeyId, key: Key) -> Result<Self, RingError> {
        let mut ring = Self { keys: Vec::new() };
        ring.add(id, key)?;
        Ok(ring)
    }

    /// Reads the text of a key file, in the format of the [module](self).
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        if text.len() > KEY_FILE_BYTES {
            return Err(KeyFileError::TooLarge { bytes: text.len() });
        }
        let mut ring = Self { keys: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) = parse_line(line).map_err(|fault| KeyFileError::Line {
                line: line_number,
                fault,
            })?;
            ring.add(id, key).map_err(|error| KeyFileError::Line {
                line: line_number,
                fault: LineFault::Ring(error),
            })?;
        }
        if ring.keys.is_empty() {
            return Err(KeyFileError::Empty);
        }
        Ok(ring)
    }

    /// The key that seals.
    ///
    /// # Panics
    /// Never: no way of making or changing a ring leaves it empty.
    #[must_use]
    pub fn primary(&self) -> (KeyId, &Key) {
        let (id, key) = self.keys.first().expect("a ring is never empty");
        (*id, key)
    }

    /// The key of this id.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&Key> {
        self.keys
            .iter()
            .find(|(other, _)| *other == id)
            .map(|(_, key)| key)
    }

    /// All ids, the primary's first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|(id, _)| *id)
    }

    /// Adds a key that opens and does not seal yet.
    ///
    /// # Errors
    /// The id is 0 or taken, or the ring is full. Nothing changed.
    pub fn add(&mut self, id: KeyId, key: Key) -> Result<(), RingError> {
        if id == KeyId::NONE {
            return Err(RingError::Zero);
        }
        if self.get(id).is_some() {
            return Err(RingError::Taken(id));
        }
        if self.keys.len() >= KEYS {
            return Err(RingError::Full);
        }
        self.keys.push((id, key));
        Ok(())
    }

    /// Seals with this key from now on.
    ///
    /// # Errors
    /// No such key. Nothing changed.
    pub fn use_key(&mut self, id: KeyId) -> Result<(), RingError> {
        let at = self.position(id)?;
        let key = self.keys.remove(at);
        self.keys.insert(0, key);
        Ok(())
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// No such key, or it is the one that seals. Nothing changed.
    pub fn remove(&mut self, id: KeyId) -> Result<(), RingError> {
        let at = self.position(id)?;
        if at == 0 {
            return Err(RingError::InUse(id));
        }
        self.keys.remove(at);
        Ok(())
    }

    fn position(&self, id: KeyId) -> Result<usize, RingError> {
        self.keys
            .iter()
            .position(|(other, _)| *other == id)
            .ok_or(RingError::Missing(id))
    }
}

/// Why a ring was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// 0 means "no key".
    #[error("key id 0 means 'no key'; choose an id from 1 to 4294967295")]
    Zero,
    /// The id names another key already.
    #[error("key id {0} is in the ring already; give the new key another id")]
    Taken(KeyId),
    /// [`KEYS`] keys are in it.
    #[error("the ring holds {KEYS} keys already; remove one that no node seals with any more")]
    Full,
    /// No key of that id.
    #[error("the ring has no key {0}; add it first")]
    Missing(KeyId),
    /// The key that seals cannot go.
    #[error("key {0} seals what this node sends; use another key first, then remove it")]
    InUse(KeyId),
}

/// Why a key file was refused. No key of it is in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// More than [`KEY_FILE_BYTES`].
    #[error(
        "the key file has {bytes} bytes, more than {KEY_FILE_BYTES}; is it the file that you meant?"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No line of it holds a key.
    #[error(
        "the key file holds no key; write a line '1 KEY' with the output of: openssl rand -hex 32"
    )]
    Empty,
    /// One line is wrong.
    #[error("line {line} of the key file: {fault}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// What is wrong with a line of a key file. The line itself is never shown: it
/// may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Not two words.
    #[error("expected an id, a space and a key of 64 hexadecimal digits")]
    NotTwoWords,
    /// The first word is not an id.
    #[error("the id is not a whole number from 1 to 4294967295")]
    BadId,
    /// The second word has another length.
    #[error("the key has {digits} characters instead of 64 (make one with: openssl rand -hex 32)")]
    BadLength {
        /// How many.
        digits: usize,
    },
    /// The second word has a character that is no hexadecimal digit.
    #[error("character {at} of the key is no hexadecimal digit")]
    BadDigit {
        /// Which, from 1.
        at: usize,
    },
    /// The ring would not take it.
    #[error("{0}")]
    Ring(RingError),
}

fn parse_line(line: &str) -> Result<(KeyId, Key), LineFault> {
    let mut words = line.split_whitespace();
    let (Some(id), Some(key), None) = (words.next(), words.next(), words.next()) else {
        return Err(LineFault::NotTwoWords);
    };
    let id = id.parse().map_err(|_| LineFault::BadId)?;
    Ok((KeyId(id), parse_key(key)?))
}

fn parse_key(hex: &str) -> Result<Key, LineFault> {
    let digits = hex.as_bytes();
    if digits.len() != 64 {
        return Err(LineFault::BadLength {
            digits: digits.len(),
        });
    }
    let mut bytes = [0; 32];
    for (at, digit) in digits.iter().enumerate() {
        let value = char::from(*digit)
            .to_digit(16)
            .ok_or(LineFault::BadDigit { at: at + 1 })?;
        // `to_digit(16)` is at most 15.
        bytes[at / 2] = bytes[at / 2] << 4 | value as u8;
    }
    Ok(Key::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F20";

    fn fault(text: &str) -> (usize, LineFault) {
        match KeyRing::parse(text) {
            Err(KeyFileError::Line { line, fault }) => (line, fault),
            other => panic!("expected a fault of a line, got {other:?}"),
        }
    }

    #[test]
    fn the_first_key_of_the_file_seals() {
        let text = format!("# ours\n\n  7 {ONE}\n3\t{ONE}\r\n");
        let ring = KeyRing::parse(&text).expect("a good file");
        assert_eq!(ring.primary().0, KeyId(7));
        assert_eq!(ring.ids().collect::<Vec<_>>(), [KeyId(7), KeyId(3)]);
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line_and_without_its_secret() {
        assert_eq!(
            KeyRing::parse("# nothing\n").unwrap_err(),
            KeyFileError::Empty
        );
        assert_eq!(fault("1\n"), (1, LineFault::NotTwoWords));
        assert_eq!(
            fault(&format!("\n0 {ONE}")),
            (2, LineFault::Ring(RingError::Zero))
        );
        assert_eq!(fault(&format!("x {ONE}")), (1, LineFault::BadId));
        assert_eq!(fault("1 abc"), (1, LineFault::BadLength { digits: 3 }));
        let bad = ONE.replacen('3', "g", 1);
        assert_eq!(
            fault(&format!("1 {bad}")),
            (1, LineFault::BadDigit { at: 6 })
        );
        let twice = format!("1 {ONE}\n1 {ONE}");
        assert_eq!(
            fault(&twice),
            (2, LineFault::Ring(RingError::Taken(KeyId(1))))
        );
        let error = KeyRing::parse(&format!("1 {bad}")).unwrap_err();
        assert!(!error.to_string().contains(&bad[8..]));
        assert!(!format!("{:?}", KeyRing::parse(&format!("1 {ONE}"))).contains("0102"));
        assert!(matches!(
            KeyRing::parse(&"#".repeat(KEY_FILE_BYTES + 1)),
            Err(KeyFileError::TooLarge { .. })
        ));
    }

    #[test]
    fn rotation_adds_uses_and_removes() {
        let mut ring = KeyRing::parse(&format!("1 {ONE}")).expect("a good file");
        ring.add(KeyId(2), Key::from_bytes(&[2; 32])).expect("room");
        assert_eq!(ring.primary().0, KeyId(1));
        assert_eq!(ring.remove(KeyId(1)), Err(RingError::InUse(KeyId(1))));
        ring.use_key(KeyId(2)).expect("it is there");
        ring.remove(KeyId(1)).expect("it no longer seals");
        assert_eq!(ring.remove(KeyId(1)), Err(RingError::Missing(KeyId(1))));
        assert_eq!(ring.ids().collect::<Vec<_>>(), [KeyId(2)]);
        for id in 10.. {
            if let Err(error) = ring.add(KeyId(id), Key::from_bytes(&[0; 32])) {
                assert_eq!(error, RingError::Full);
                break;
            }
        }
        assert_eq!(ring.ids().count(), KEYS);
    }
}
