//! Talks that are ready-made: what each server says when it is well, and a
//! polite end, for some count clients that vanish.

use super::Step;
use crate::keys::KeyError;
use crate::pattern::Pattern;

/// Makes a recipe's steps.
pub(super) type Recipe = fn() -> Result<Vec<Step>, KeyError>;

/// Every recipe, by the name of what it is for.
pub(super) const ALL: [(&str, Recipe); 7] = [
    ("redis", redis),
    ("memcached", memcached),
    ("smtp", smtp),
    ("imap", imap),
    ("ldap", ldap),
    ("mysql", mysql),
    ("postgresql", postgresql),
];

fn send(bytes: &[u8]) -> Step {
    Step::Send(bytes.to_vec())
}

fn expect(bytes: &[u8]) -> Step {
    Step::Expect(bytes.to_vec())
}

fn matches(pattern: &str) -> Result<Step, KeyError> {
    Ok(Step::Matches(Pattern::new("recipe", pattern)?))
}

/// PING, PONG.
fn redis() -> Result<Vec<Step>, KeyError> {
    Ok(vec![
        send(b"PING\r\n"),
        expect(b"+PONG\r\n"),
        send(b"QUIT\r\n"),
        expect(b"+OK"),
    ])
}

/// Its version.
fn memcached() -> Result<Vec<Step>, KeyError> {
    Ok(vec![
        send(b"version\r\n"),
        expect(b"VERSION "),
        send(b"quit\r\n"),
    ])
}

/// A greeting, an answer to EHLO, a farewell.
fn smtp() -> Result<Vec<Step>, KeyError> {
    Ok(vec![
        matches("220 [^\r\n]*\r\n")?,
        send(b"EHLO localhost\r\n"),
        matches("250 [^\r\n]*\r\n")?,
        send(b"QUIT\r\n"),
        expect(b"221"),
    ])
}

/// A greeting and a farewell.
fn imap() -> Result<Vec<Step>, KeyError> {
    Ok(vec![
        matches("^\\* (OK|PREAUTH)")?,
        send(b"a1 LOGOUT\r\n"),
        expect(b"a1 OK"),
    ])
}

/// An anonymous bind, answered with success, and an unbind.
fn ldap() -> Result<Vec<Step>, KeyError> {
    Ok(vec![
        send(b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"),
        matches("(?s)^\\x30.\\x02\\x01\\x01\\x61.\\x0a\\x01\\x00")?,
        send(b"\x30\x05\x02\x01\x02\x42\x00"),
    ])
}

/// The server's greeting, and a login that may be refused: a client that goes
/// without one counts as broken, and too many of those block their host.
fn mysql() -> Result<Vec<Step>, KeyError> {
    let mut login = Vec::from(*b"\x2b\x00\x00\x01\x01\x82\x00\x00\x00\x00\x00\x01\x21");
    login.extend_from_slice(&[0; 23]);
    login.extend_from_slice(b"watchfire\0\0");
    // The length that the packet says of itself.
    login[0] = u8::try_from(login.len() - 4).unwrap_or(u8::MAX);
    Ok(vec![
        matches("(?s)^...\\x00\\x0a")?,
        // The rest of the greeting ends with the name of a plugin.
        matches("_password\\x00")?,
        Step::Send(login),
        matches("(?s)^...\\x02[\\x00\\xfe\\xff]")?,
    ])
}

/// Whether it would speak TLS: a question that costs it no session.
fn postgresql() -> Result<Vec<Step>, KeyError> {
    Ok(vec![
        send(b"\x00\x00\x00\x08\x04\xd2\x16\x2f"),
        matches("^[SN]")?,
    ])
}

#[cfg(test)]
mod tests {
    use super::super::Spec;
    use super::*;
    use crate::kind::CheckKind as _;

    #[test]
    fn every_recipe_is_valid() {
        for (name, recipe) in ALL {
            let steps = recipe().unwrap();
            assert_eq!(Spec { steps }.validate(), Ok(()), "{name}");
        }
    }
}
