//! Reads one HTTP/1.x response: its status, and where it ends.
//!
//! Bytes come in as they arrive, in pieces of any size; the result does not
//! depend on where they were cut. The body is measured; of its content only as
//! much is kept as a check looks at.

use watchfire_wire::Reason;

use super::head::{Found, Framing, Head, START};
use super::judge::Wanted;
use crate::limits::{BODY_BYTES, CHUNK_LINE_BYTES, HEAD_BYTES, INTERIM_HEADS, TRAILER_BYTES};

/// What is known after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The response goes on.
    More,
    /// The response ended.
    Done {
        /// The final status.
        status: u16,
        /// Whether the connection may carry another request.
        keep_alive: bool,
    },
    /// It is not a response, or not one that ends well.
    Failed(Reason),
}

/// A response being read.
#[derive(Debug)]
pub(super) struct Response {
    state: State,
    /// The request was HEAD: there is no body whatever the head says.
    head_only: bool,
    keep_alive: bool,
    interim: u8,
    status: u16,
    /// Bytes of the body so far, framing included.
    body: u64,
    /// The current head's bytes, if it did not come in one piece.
    partial: Vec<u8>,
    /// The body's content so far, at most `keep` bytes of it.
    kept: Vec<u8>,
    keep: u32,
    /// A body of so many bytes, framing included, is read no further.
    enough: u64,
}

/// Where in the response the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a head, with so many bytes in its current line.
    Head { line: u32 },
    /// In a body of known length, with so many bytes to come.
    Length(u64),
    /// In a body that the connection's end will end.
    UntilClose,
    /// In a chunk's size.
    Size { value: u64, digits: u8 },
    /// In what follows a chunk's size on its line.
    Extension { value: u64, length: u32 },
    /// In a chunk, with so many bytes to come.
    Chunk(u64),
    /// In the line end after a chunk.
    ChunkEnd { cr: bool },
    /// In the trailer: bytes so far, bytes in the current line, and whether a
    /// colon was among them.
    Trailer { total: u32, line: u32, colon: bool },
    /// Over.
    Ended,
}

impl Response {
    /// A response to a request whose method was HEAD, or another. So many
    /// bytes of its content are kept, and then, or after so many bytes of its
    /// body, the rest is not read.
    #[must_use]
    pub(super) const fn new(head_only: bool, keep: u32, enough: u64) -> Self {
        Self {
            state: State::Head { line: 0 },
            head_only,
            keep_alive: false,
            interim: 0,
            status: 0,
            body: 0,
            partial: Vec::new(),
            kept: Vec::new(),
            keep,
            enough,
        }
    }

    /// Takes the next bytes. After `Done` or `Failed` nothing more is read.
    pub(super) fn feed(&mut self, bytes: &[u8], wanted: &mut impl Wanted) -> Progress {
        let mut rest = bytes;
        loop {
            if matches!(self.state, State::Head { .. }) {
                match self.head(&mut rest, wanted) {
                    Progress::More if rest.is_empty() => return Progress::More,
                    Progress::More => {}
                    ended => return ended,
                }
            } else {
                return match self.body(&mut rest) {
                    Progress::Done { status, keep_alive } => Progress::Done {
                        status,
                        // Bytes after the end belong to no request of ours.
                        keep_alive: keep_alive && rest.is_empty(),
                    },
                    other => other,
                };
            }
        }
    }

    /// The origin closed its side.
    pub(super) fn eof(&mut self) -> Progress {
        let state = core::mem::replace(&mut self.state, State::Ended);
        if state == State::UntilClose {
            return Progress::Done {
                status: self.status,
                keep_alive: false,
            };
        }
        Progress::Failed(Reason::ClosedEarly)
    }

    /// Reads (the rest of) one head. `More` with bytes left means that it
    /// ended and that the next state reads on.
    fn head(&mut self, rest: &mut &[u8], wanted: &mut impl Wanted) -> Progress {
        // Nearly always the whole head is here in one piece.
        if self.partial.is_empty() && rest.starts_with(START) {
            match Head::quick(rest, wanted) {
                Ok(Found::Whole(head, length)) => {
                    if length > HEAD_BYTES {
                        return self.fail(Reason::HeadersTooLarge);
                    }
                    let next = self.begin(&head, wanted);
                    *rest = &rest[length..];
                    return self.after_head(next, rest.is_empty());
                }
                Ok(Found::Unclear) => wanted.again(),
                Err(reason) => return self.fail(reason),
            }
        }
        // Otherwise its end is looked for byte by byte, and only then is it
        // parsed: once, however many pieces it came in.
        let State::Head { mut line } = self.state else {
            return Progress::More;
        };
        for (index, &byte) in rest.iter().enumerate() {
            let at = self.partial.len() + index;
            if at < START.len() && byte != START[at] {
                return self.fail(Reason::NotHttp);
            }
            if at >= HEAD_BYTES {
                return self.fail(Reason::HeadersTooLarge);
            }
            match byte {
                b'\n' if line == 0 => {
                    self.partial.extend_from_slice(&rest[..=index]);
                    *rest = &rest[index + 1..];
                    return self.whole_head(wanted, rest.is_empty());
                }
                b'\n' => line = 0,
                // A bare CR within a line is the parser's to refuse.
                b'\r' => {}
                _ => line += 1,
            }
        }
        self.partial.extend_from_slice(rest);
        self.state = State::Head { line };
        *rest = &[];
        Progress::More
    }

    /// Parses the head that `partial` holds to its last byte.
    fn whole_head(&mut self, wanted: &mut impl Wanted, last: bool) -> Progress {
        let bytes = core::mem::take(&mut self.partial);
        let parsed = match Head::quick(&bytes, wanted) {
            Ok(Found::Whole(head, length)) if length == bytes.len() => Ok(head),
            Ok(_) => {
                wanted.again();
                Head::patient(&bytes, wanted)
            }
            Err(reason) => Err(reason),
        };
        let next = parsed.and_then(|head| self.begin(&head, wanted));
        self.after_head(next, last)
    }

    /// Judges a parsed head: what state follows it.
    fn begin(&mut self, head: &Head, wanted: &mut impl Wanted) -> Result<State, Reason> {
        if head.is_interim() {
            self.interim += 1;
            if self.interim > INTERIM_HEADS {
                return Err(Reason::NotHttp);
            }
            wanted.again();
            return Ok(State::Head { line: 0 });
        }
        self.status = head.status;
        // What an unwanted response looks like further on does not matter.
        wanted.judge(head.status)?;
        self.keep_alive = head.keeps_alive();
        Ok(match head.framing(self.head_only) {
            Framing::None => State::Ended,
            Framing::Length(length) if length > BODY_BYTES => return Err(Reason::BodyTooLarge),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size {
                value: 0,
                digits: 0,
            },
            Framing::UntilClose => {
                self.keep_alive = false;
                State::UntilClose
            }
        })
    }

    fn after_head(&mut self, next: Result<State, Reason>, last: bool) -> Progress {
        match next {
            Err(reason) => self.fail(reason),
            Ok(State::Ended) => {
                self.state = State::Ended;
                Progress::Done {
                    status: self.status,
                    keep_alive: self.keep_alive && last,
                }
            }
            Ok(state) => {
                self.state = state;
                Progress::More
            }
        }
    }

    /// Reads the body as far as it came.
    fn body(&mut self, rest: &mut &[u8]) -> Progress {
        while let Some((&byte, after)) = rest.split_first() {
            if self.has_enough() {
                break;
            }
            if self.body >= BODY_BYTES && !matches!(self.state, State::Ended) {
                return self.fail(Reason::BodyTooLarge);
            }
            match self.state {
                State::Length(left) => match self.skip(rest, left) {
                    0 => return self.done(),
                    left => self.state = State::Length(left),
                },
                State::UntilClose => {
                    self.skip(rest, u64::MAX);
                }
                State::Chunk(left) => match self.skip(rest, left) {
                    0 => self.state = State::ChunkEnd { cr: false },
                    left => self.state = State::Chunk(left),
                },
                State::Ended | State::Head { .. } => return Progress::More,
                framing => {
                    self.body += 1;
                    *rest = after;
                    match chunk_byte(framing, byte) {
                        Some(State::Ended) => return self.done(),
                        Some(state) => self.state = state,
                        None => return self.fail(Reason::BadBody),
                    }
                }
            }
        }
        if self.has_enough() && !matches!(self.state, State::Ended | State::Head { .. }) {
            self.keep_alive = false;
            return self.done();
        }
        Progress::More
    }

    /// What is to come would change nothing.
    fn has_enough(&self) -> bool {
        self.body >= self.enough || self.keep > 0 && self.kept.len() >= self.keep as usize
    }

    /// Passes over at most `left` bytes of `rest`, never more than the limit
    /// allows; returns what is left of `left`.
    fn skip(&mut self, rest: &mut &[u8], left: u64) -> u64 {
        let most = BODY_BYTES.min(self.enough) - self.body;
        let count = left.min(rest.len() as u64).min(most);
        self.body += count;
        self.keep(&rest[..usize::try_from(count).unwrap_or(rest.len())]);
        *rest = &rest[usize::try_from(count).unwrap_or(rest.len())..];
        left - count
    }

    fn keep(&mut self, content: &[u8]) {
        let room = (self.keep as usize).saturating_sub(self.kept.len());
        self.kept
            .extend_from_slice(&content[..content.len().min(room)]);
    }

    /// The part of the body's content that was kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    fn done(&mut self) -> Progress {
        self.state = State::Ended;
        Progress::Done {
            status: self.status,
            keep_alive: self.keep_alive,
        }
    }

    fn fail(&mut self, reason: Reason) -> Progress {
        self.state = State::Ended;
        Progress::Failed(reason)
    }

    /// The final status, once its head came; 0 before.
    #[must_use]
    pub(super) const fn status(&self) -> u16 {
        self.status
    }
}

/// Hex digits of a chunk's size, which cannot overflow with so many.
const SIZE_DIGITS: u8 = 16;

/// The state after one byte of a chunked body's framing; nothing if the byte
/// is not allowed there.
fn chunk_byte(state: State, byte: u8) -> Option<State> {
    Some(match (state, byte) {
        (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
            if digits == SIZE_DIGITS {
                return None;
            }
            let digit = char::from(byte).to_digit(16)?;
            State::Size {
                value: value * 16 + u64::from(digit),
                digits: digits + 1,
            }
        }
        (State::Size { digits: 0, .. }, _) => return None,
        (State::Size { value, .. }, b'\n') => after_size(value),
        (State::Size { value, .. }, b'\r' | b';' | b' ' | b'\t') => {
            State::Extension { value, length: 0 }
        }
        (State::Extension { value, .. }, b'\n') => after_size(value),
        (State::Extension { value, length }, _) if length < CHUNK_LINE_BYTES => State::Extension {
            value,
            length: length + 1,
        },
        (State::ChunkEnd { cr: false }, b'\r') => State::ChunkEnd { cr: true },
        (State::ChunkEnd { .. }, b'\n') => State::Size {
            value: 0,
            digits: 0,
        },
        (State::Trailer { line: 0, .. }, b'\n') => State::Ended,
        // A line that is no header.
        (State::Trailer { colon: false, .. }, b'\n') => return None,
        (State::Trailer { line: 0, .. }, b':') => return None,
        (State::Trailer { total, line, colon }, _) if total < TRAILER_BYTES => State::Trailer {
            total: total + 1,
            line: match byte {
                b'\n' => 0,
                b'\r' => line,
                _ if line >= CHUNK_LINE_BYTES => return None,
                _ => line + 1,
            },
            colon: byte != b'\n' && (colon || byte == b':'),
        },
        _ => return None,
    })
}

fn after_size(value: u64) -> State {
    if value == 0 {
        State::Trailer {
            total: 0,
            line: 0,
            colon: false,
        }
    } else {
        State::Chunk(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::HEADERS;

    /// Wants some statuses.
    struct Only(fn(u16) -> bool);

    impl Wanted for Only {
        fn header(&mut self, _name: &[u8], _value: &[u8]) {}

        fn again(&mut self) {}

        fn judge(&mut self, status: u16) -> Result<(), Reason> {
            if (self.0)(status) {
                Ok(())
            } else {
                Err(Reason::BadStatus)
            }
        }
    }

    /// The result of feeding `bytes` in pieces that end at `cuts`, then EOF.
    fn read(bytes: &[u8], cuts: &[usize], head_only: bool) -> Progress {
        let mut response = Response::new(head_only, 0, u64::MAX);
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            let cut = cut.clamp(from, bytes.len());
            let progress = response.feed(&bytes[from..cut], &mut Only(|status| status == 200));
            if progress != Progress::More {
                return progress;
            }
            from = cut;
        }
        response.eof()
    }

    fn whole(text: &str) -> Progress {
        read(text.as_bytes(), &[], false)
    }

    const fn done(keep_alive: bool) -> Progress {
        Progress::Done {
            status: 200,
            keep_alive,
        }
    }

    #[test]
    fn every_framing_ends_where_it_says() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok?", false),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", false),
            ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", true),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n0\r\n\r\n",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000002\r\nok\r\n0\r\n\r\n",
                true,
            ),
        ];
        for (text, keep_alive) in cases {
            assert_eq!(whole(text), done(keep_alive), "{text:?}");
        }
    }

    #[test]
    fn a_body_is_read_no_further_than_it_tells_anything() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text = format!("{head}{}", "1\r\nx\r\n".repeat(100_000));
        for cut in [1, 7, 1_024, text.len()] {
            let mut response = Response::new(false, 0, 16_384);
            let mut read = 0;
            let ended = text.as_bytes().chunks(cut).find_map(|piece| {
                read += piece.len();
                let progress = response.feed(piece, &mut Only(|_| true));
                (progress != Progress::More).then_some(progress)
            });
            assert_eq!(ended, Some(done(false)), "{cut}");
            assert!(read <= head.len() + 16_384 + cut, "{cut}");
        }
        // What breaks off before that is broken.
        let mut response = Response::new(false, 0, 16_384);
        let text = format!("{head}{}zz", "1\r\nx\r\n".repeat(1_000));
        let progress = response.feed(text.as_bytes(), &mut Only(|_| true));
        assert_eq!(progress, Progress::Failed(Reason::BadBody));
        let mut response = Response::new(false, 8, u64::MAX);
        let text = b"HTTP/1.1 200 OK\r\n\r\n0123456789";
        assert_eq!(response.feed(text, &mut Only(|_| true)), done(false));
        assert!(response.kept().starts_with(b"01234567"));
    }

    #[test]
    fn a_head_request_and_some_statuses_have_no_body() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n";
        assert_eq!(read(text, &[], true), done(true));
        let mut response = Response::new(false, 0, u64::MAX);
        let text = b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n";
        assert!(matches!(
            response.feed(text, &mut Only(|_| true)),
            Progress::Done { status: 204, .. }
        ));
    }

    #[test]
    fn every_fault_has_its_reason() {
        let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(HEAD_BYTES));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(HEADERS + 1));
        let long = format!(
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "a".repeat(BODY_BYTES as usize + 1)
        );
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(usize::from(INTERIM_HEADS) + 1);
        let cases = [
            ("SSH-2.0-OpenSSH\r\n", Reason::NotHttp),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Reason::NotHttp),
            ("HTTP/2 200 OK\r\n\r\n", Reason::NotHttp),
            ("HTTP/1.1 abc OK\r\n\r\n", Reason::NotHttp),
            ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n", Reason::NotHttp),
            (interim.as_str(), Reason::NotHttp),
            ("", Reason::ClosedEarly),
            ("HTTP/1.1 200 OK\r\nContent-", Reason::ClosedEarly),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
                Reason::ClosedEarly,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
                Reason::ClosedEarly,
            ),
            (
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\n",
                Reason::BadStatus,
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\n\r\n",
                Reason::BadStatus,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                Reason::BadBody,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                Reason::BadBody,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                Reason::BadBody,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                Reason::BadBody,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxyz",
                Reason::BadBody,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nxyz\r\n\r\n",
                Reason::BadBody,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
                Reason::BadBody,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
                Reason::BadBody,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
                Reason::BodyTooLarge,
            ),
            (long.as_str(), Reason::BodyTooLarge),
            (huge.as_str(), Reason::HeadersTooLarge),
            (many.as_str(), Reason::HeadersTooLarge),
        ];
        for (text, reason) in cases {
            let shown = &text[..text.len().min(80)];
            assert_eq!(whole(text), Progress::Failed(reason), "{shown:?}");
        }
    }

    /// Responses, near-responses and junk.
    fn any_response() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            Just("HTTP/1.1 200 OK\r\n".to_owned()),
            Just("HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
            Just("HTTP/1.0 200 OK\n".to_owned()),
            Just("HTTP/1.1 404 No\r\n".to_owned()),
            Just("Content-Length: 5\r\n".to_owned()),
            Just("Transfer-Encoding: chunked\r\n".to_owned()),
            Just("Connection: keep-alive\r\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("\n".to_owned()),
            Just("\r".to_owned()),
            Just("5\r\nhello\r\n".to_owned()),
            Just("0\r\n\r\n".to_owned()),
            "[ -~\r\n\t]{0,12}",
        ];
        (any::<bool>(), proptest::collection::vec(line, 0..9)).prop_map(|(honest, lines)| {
            let start = if honest { "HTTP/1.1 200 OK\r\n" } else { "" };
            format!("{start}{}", lines.concat()).into_bytes()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn the_result_does_not_depend_on_where_the_bytes_are_cut(
            bytes in any_response(),
            mut cuts in proptest::collection::vec(0_usize..120, 0..12),
            head_only: bool,
        ) {
            cuts.sort_unstable();
            let all: Vec<usize> = (0..bytes.len()).collect();
            // Bytes behind the end are seen only if they come with it.
            let verdict = |progress| match progress {
                Progress::Done { status, .. } => Progress::Done { status, keep_alive: false },
                other => other,
            };
            let at_once = verdict(read(&bytes, &[], head_only));
            prop_assert_eq!(at_once, verdict(read(&bytes, &cuts, head_only)));
            prop_assert_eq!(at_once, verdict(read(&bytes, &all, head_only)));
        }
    }
}
