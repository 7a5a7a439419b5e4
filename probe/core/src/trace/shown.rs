//! The head of what an origin answered, and of what it was asked, as people may
//! see it: without secrets, without bytes that do something to a terminal, and not
//! long.

use crate::limits::TRACED_TEXT_BYTES;

/// Header names that hold one of these hold secrets.
const SECRET: [&str; 9] = [
    "auth",
    "cookie",
    "token",
    "secret",
    "key",
    "passw",
    "session",
    "credential",
    "signature",
];

/// What stands in a secret's place.
const HIDDEN: &str = "(hidden)";

/// The head of `bytes`: lines up to the first empty one.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut hides = false;
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        // A folded line is of the header before it.
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .filter(|_| !folded);
        if !folded {
            hides = colon.is_some_and(|colon| is_secret(&line[..colon]));
        }
        let shown = match colon {
            _ if folded && hides => &[][..],
            Some(colon) if hides => &line[..=colon],
            Some(colon) if line[..colon].eq_ignore_ascii_case(b"location") => {
                let query = line.iter().position(|byte| *byte == b'?');
                &line[..query.unwrap_or(line.len())]
            }
            _ => line,
        };
        text.extend(shown.escape_ascii().map(char::from));
        if hides {
            text.push(' ');
        }
        if shown.len() < line.len() {
            text.push_str(HIDDEN);
        }
        text.push('\n');
        if text.len() >= TRACED_TEXT_BYTES {
            text.truncate(TRACED_TEXT_BYTES);
            text.push_str("...\n");
            break;
        }
    }
    text
}

fn is_secret(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let holds = |word: &str| name.windows(word.len()).any(|part| part == word.as_bytes());
    SECRET.iter().any(|word| holds(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_head_is_all_there_is() {
        let head = b"HTTP/1.1 503 Busy\r\nServer: x\x1b[2J\r\nSet-Cookie: id=s3cret\r\n \
                     more=s3cret\r\nLOCATION: /login?next=s3cret\r\nX-Api-Key: s3cret\r\n\
                     proxy-authorization:s3cret\r\nRetry-After: 5\r\n\r\nbody s3cret";
        assert_eq!(
            shown(head),
            "HTTP/1.1 503 Busy\nServer: x\\x1b[2J\nSet-Cookie: (hidden)\n (hidden)\n\
             LOCATION: /login(hidden)\nX-Api-Key: (hidden)\nproxy-authorization: (hidden)\n\
             Retry-After: 5\n"
        );
        // Cut anywhere, nothing more is seen.
        for end in 0..head.len() {
            assert!(!shown(&head[..end]).contains("s3"), "{end}");
        }
    }

    #[test]
    fn whatever_comes_is_printable_and_bounded() {
        let bytes: Vec<u8> = (0..=255)
            .cycle()
            .take(100_000)
            .filter(|b| *b != b'\n')
            .collect();
        let text = shown(&bytes);
        assert!(text.len() <= TRACED_TEXT_BYTES + 4);
        assert!(text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)));
        assert_eq!(shown(b""), "");
    }
}
