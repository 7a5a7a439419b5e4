//! The head of a response: its status line and headers.
//!
//! What HAProxy forwards and curl takes is a head; what either of them refuses
//! is none. So some of what the grammar forbids passes (folded headers, several
//! spaces, control characters in a value), and some of what one of them lets
//! through does not. docs/verdicts.md has both lists.

use core::mem::MaybeUninit;

use watchfire_wire::Reason;

use super::judge::Wanted;
use crate::limits::HEADERS;

/// What every response starts with.
pub(super) const START: &[u8] = b"HTTP/";

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none, or it is empty.
    None,
    /// By its length.
    Length(u64),
    /// By its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// What a head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The version keeps connections open unless it says otherwise.
    persistent: bool,
    length: Option<u64>,
    coded: bool,
    close: bool,
    keep: bool,
}

/// What a piece of bytes holds.
pub(super) enum Found {
    /// A whole head, and how long it is.
    Whole(Head, usize),
    /// One that must be looked at to its end and then parsed with patience.
    Unclear,
}

impl Head {
    /// Looks for a head at the start of `bytes`: nearly always it is whole and
    /// as the grammar wants it.
    ///
    /// # Errors
    ///
    /// What the head says of its body makes no sense, or it is too large.
    pub(super) fn quick(bytes: &[u8], wanted: &mut impl Wanted) -> Result<Found, Reason> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let result = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            bytes,
            &mut headers,
        );
        let Ok(httparse::Status::Complete(length)) = result else {
            return Ok(Found::Unclear);
        };
        let mut head = Self {
            status: parsed.code.unwrap_or(0),
            persistent: parsed.version == Some(1),
            ..Self::default()
        };
        if head.status < LOWEST {
            return Err(Reason::NotHttp);
        }
        for header in parsed.headers.iter() {
            head.header(header.name.as_bytes(), header.value)?;
            wanted.header(header.name.as_bytes(), header.value);
        }
        Ok(Found::Whole(head, length))
    }

    /// Parses a head that `bytes` hold to its last byte, with as much patience
    /// as the proxies have.
    ///
    /// # Errors
    ///
    /// It is none, or what it says of its body makes no sense, or it is too
    /// large.
    pub(super) fn patient(bytes: &[u8], wanted: &mut impl Wanted) -> Result<Self, Reason> {
        let mut lines = bytes
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut head = status_line(lines.next().unwrap_or_default()).ok_or(Reason::NotHttp)?;
        // The header so far, for a next line that continues it.
        let mut header: Option<(&[u8], Vec<u8>)> = None;
        let mut count = 0;
        for line in lines {
            if line.iter().any(|byte| matches!(byte, b'\0' | b'\r')) {
                return Err(Reason::NotHttp);
            }
            if let [b' ' | b'\t', folded @ ..] = line {
                let (name, value) = header.as_mut().ok_or(Reason::NotHttp)?;
                if is(name, b"content-length") {
                    // HAProxy joins the lines, curl does not.
                    return Err(Reason::BadBody);
                }
                value.push(b' ');
                value.extend_from_slice(folded);
                continue;
            }
            if let Some((name, value)) = header.take() {
                head.header(name, &value)?;
                wanted.header(name, &value);
            }
            if line.is_empty() {
                return Ok(head);
            }
            let colon = line.iter().position(|&byte| byte == b':');
            let (name, value) = line.split_at(colon.ok_or(Reason::NotHttp)?);
            if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
                return Err(Reason::NotHttp);
            }
            count += 1;
            if count > HEADERS {
                return Err(Reason::HeadersTooLarge);
            }
            header = Some((name, value[1..].to_vec()));
        }
        Err(Reason::NotHttp)
    }

    /// Takes note of one header.
    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Reason> {
        // Lengths first: they tell nearly all headers apart.
        match name.len() {
            14 if is(name, b"content-length") => {
                let length = content_length(value).ok_or(Reason::BadBody)?;
                if self.length.is_some_and(|known| known != length) {
                    return Err(Reason::BadBody);
                }
                self.length = Some(length);
            }
            17 if is(name, b"transfer-encoding") => {
                for token in tokens(value) {
                    // No other coding is forwarded, and none twice.
                    if self.coded || !token.eq_ignore_ascii_case(b"chunked") {
                        return Err(Reason::BadBody);
                    }
                    self.coded = true;
                }
            }
            10 if is(name, b"connection") => {
                for token in tokens(value) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether it is followed by another head.
    pub(super) const fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// How the body ends (RFC 9112, section 6.3).
    pub(super) const fn framing(&self, head_only: bool) -> Framing {
        if head_only || matches!(self.status, 101 | 204 | 304) {
            return Framing::None;
        }
        match (self.coded, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        }
    }

    /// Whether the connection outlives the body.
    pub(super) const fn keeps_alive(&self) -> bool {
        !self.close && (self.keep || self.persistent) && !(self.coded && self.length.is_some())
    }
}

/// The lowest status.
const LOWEST: u16 = 100;

/// `HTTP/1.1 200 OK`, with any number of spaces.
fn status_line(line: &[u8]) -> Option<Head> {
    if line.iter().any(|byte| matches!(byte, b'\0' | b'\r')) {
        return None;
    }
    let rest = line.strip_prefix(START)?;
    let persistent = match rest.get(..3)? {
        // Some servers answer 1.1 with 2.0, and mean 1.1.
        b"1.1" | b"2.0" => true,
        b"1.0" => false,
        _ => return None,
    };
    let rest = rest[3..].strip_prefix(b" ")?.trim_ascii_start();
    let (digits, after) = rest.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(after.first(), None | Some(b' ' | b'\t'))
    {
        return None;
    }
    let status = digits
        .iter()
        .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    (status >= LOWEST).then_some(Head {
        status,
        persistent,
        ..Head::default()
    })
}

/// Whether a byte may be part of a header's name.
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn is(name: &[u8], lower: &[u8]) -> bool {
    name.eq_ignore_ascii_case(lower)
}

/// The value of a Content-Length; a list of equal values counts as one.
fn content_length(value: &[u8]) -> Option<u64> {
    let mut length = None;
    for token in value.split(|&byte| byte == b',') {
        let token = token.trim_ascii();
        if token.is_empty() || !token.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = token.iter().try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })?;
        if length.is_some_and(|length| length != number) {
            return None;
        }
        length = Some(number);
    }
    length
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes every header and every status.
    struct Anything;

    impl Wanted for Anything {
        fn header(&mut self, _name: &[u8], _value: &[u8]) {}

        fn again(&mut self) {}

        fn judge(&mut self, _status: u16) -> Result<(), Reason> {
            Ok(())
        }
    }

    #[test]
    fn what_haproxy_and_curl_take_is_a_head() {
        for text in [
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1   200   OK\r\n\r\n",
            "HTTP/1.1 200\tOK\r\n\r\n",
            "HTTP/1.1 200 O\u{1}K\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n \r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\u{1}\u{7f}b\r\n\r\n",
            "HTTP/1.1 200 OK\nX: a\n\n",
        ] {
            let head = Head::patient(text.as_bytes(), &mut Anything);
            assert_eq!(head.map(|head| head.status), Ok(200), "{text:?}");
        }
    }

    #[test]
    fn what_either_refuses_is_none() {
        for text in [
            "HTTP/1.1\t200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.10 200 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/3.0 200 OK\r\n\r\n",
            "HTTP/1.1 99 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200OK\r\n\r\n",
            "HTTP/1.1 20x OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n X: folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX Y: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX-é: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        ] {
            let head = Head::patient(text.as_bytes(), &mut Anything);
            assert_eq!(head, Err(Reason::NotHttp), "{text:?}");
        }
    }

    #[test]
    fn the_two_parsers_agree_where_both_have_an_opinion() {
        let headers = [
            "Content-Length: 2\r\n",
            "Content-Length: 00000000000000000000000000000000002\r\n",
            "Content-Length: 2, 2\r\nConnection: close\r\n",
            "Transfer-Encoding: Chunked\r\nContent-Length: 2\r\n",
            "Transfer-Encoding: \r\nConnection: Keep-Alive, x\r\n",
            "Content-Length: +2\r\n",
            "Content-Length: 2\r\nContent-Length: 3\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
        ];
        for version in ["HTTP/1.1 200 OK\r\n", "HTTP/1.0 204\r\n"] {
            for header in headers {
                let text = format!("{version}{header}\r\n");
                let quick = match Head::quick(text.as_bytes(), &mut Anything) {
                    Ok(Found::Whole(head, length)) => {
                        assert_eq!(length, text.len());
                        Ok(head)
                    }
                    Ok(Found::Unclear) => panic!("{text:?} is plain"),
                    Err(reason) => Err(reason),
                };
                assert_eq!(
                    quick,
                    Head::patient(text.as_bytes(), &mut Anything),
                    "{text:?}"
                );
            }
        }
    }
}
