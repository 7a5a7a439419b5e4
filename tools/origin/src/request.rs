//! As much of an HTTP request as an origin farm needs: where it ends, whether
//! the client wants the connection kept, and who is asking. Bodies of requests
//! are not understood: health checks have none.

/// A whole request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// Bytes up to and with the empty line.
    pub(crate) len: usize,
    /// The client wants no body.
    pub(crate) is_head: bool,
    /// The client will not send another request on this connection.
    pub(crate) last: bool,
    /// The value of `User-Agent`, empty if there is none.
    pub(crate) agent: &'a [u8],
}

impl<'a> Request<'a> {
    /// The request at the start of `bytes`, if all of it is there.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let first = take_line(&mut rest)?;
        let mut last = first.ends_with(b"HTTP/1.0");
        let mut agent: &[u8] = b"";
        loop {
            let line = take_line(&mut rest)?;
            match line.first() {
                None => break,
                Some(b'c' | b'C') => match value_of(line, b"connection") {
                    Some(value) if contains(value, b"close") => last = true,
                    Some(value) if contains(value, b"keep-alive") => last = false,
                    _ => {}
                },
                Some(b'u' | b'U') => agent = value_of(line, b"user-agent").unwrap_or(agent),
                Some(_) => {}
            }
        }
        Some(Self {
            len: bytes.len() - rest.len(),
            is_head: first.starts_with(b"HEAD "),
            last,
            agent,
        })
    }
}

/// Cuts the first line, without its end, off `rest`.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    head.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn contains(value: &[u8], word: &[u8]) -> bool {
    value
        .windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_or_not_there() {
        let text = b"GET /health HTTP/1.1\r\nHost: a\r\nUser-Agent: watchfire/n1\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(Request::parse(&text[..cut]), None);
        }
        let request = Request::parse(text).unwrap();
        assert_eq!(request.len, text.len());
        assert_eq!(request.agent, b"watchfire/n1");
        assert!(!request.last && !request.is_head);
    }

    #[test]
    fn the_end_of_a_connection_is_understood() {
        let last = |text: &str| Request::parse(text.as_bytes()).unwrap().last;
        assert!(last("GET / HTTP/1.0\r\n\r\n"));
        assert!(!last("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(last("GET / HTTP/1.1\r\nconnection: close\r\n\r\n"));
        assert!(!last("GET / HTTP/1.1\nConnections: close\n\n"));
        assert!(Request::parse(b"HEAD / HTTP/1.1\r\n\r\n").unwrap().is_head);
    }
}
