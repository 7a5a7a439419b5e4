//! The first flight of a client: what it is, and the whole request behind it.

use super::client::OF_CONNECTIONS;
use super::frame::{self, END_HEADERS, END_STREAM};
use super::{PREFACE, STREAM, hpack};
use crate::limits::{
    BODY_SENT_BYTES, HEAD_BYTES, HEADERS_SENT, HEADERS_SENT_BYTES, HOST_BYTES, HTTP2_FRAME_BYTES,
    HTTP2_WINDOW_BYTES, PATH_BYTES, USER_AGENT_BYTES,
};

/// Header fields that no check may send over HTTP/2 as its own, beside those that
/// follow from other keys: they are of connections of HTTP/1.1.
pub(crate) const FORBIDDEN: [&str; 5] = OF_CONNECTIONS;

/// What our table of header fields may hold: nothing, for each connection asks once.
pub(super) const TABLE_BYTES: u32 = 0;

/// What is asked.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) tls: bool,
    pub(crate) path: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) user_agent: &'a str,
    /// Fields that the kind itself sends.
    pub(crate) plain: &'a [(&'a str, &'a str)],
    /// Fields that the check names: they may be secrets.
    pub(crate) own: &'a [(String, String)],
    pub(crate) body: &'a [u8],
}

impl Request<'_> {
    /// The bytes of it: the preface, what we announce, and the request. A user agent
    /// is cut at its limit, and what no field may hold is left out of it.
    pub(crate) fn build(&self) -> Box<[u8]> {
        let mut out = PREFACE.to_vec();
        frame::put(frame::SETTINGS, 0, 0, &settings(), &mut out);
        // The connection's window, beside that of each stream.
        let more = HTTP2_WINDOW_BYTES - 65_535;
        frame::put(frame::WINDOW_UPDATE, 0, 0, &more.to_be_bytes(), &mut out);
        let block = self.block();
        let (flags, body) = (END_HEADERS, self.body);
        let ends = if body.is_empty() { END_STREAM } else { 0 };
        frame::put(frame::HEADERS, flags | ends, STREAM, &block, &mut out);
        if !body.is_empty() {
            frame::put(frame::DATA, END_STREAM, STREAM, body, &mut out);
        }
        out.into_boxed_slice()
    }

    fn block(&self) -> Vec<u8> {
        let mut block = Vec::new();
        let mut put = |name: &str, value: &str| hpack::encode(name, value, false, &mut block);
        put(":method", self.method);
        put(":scheme", if self.tls { "https" } else { "http" });
        put(":authority", self.authority);
        put(":path", self.path);
        let agent: String = self
            .user_agent
            .chars()
            .filter(|&c| c == ' ' || c.is_ascii_graphic())
            .take(USER_AGENT_BYTES)
            .collect();
        let is_own = |name: &str| {
            self.own
                .iter()
                .any(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        for &(name, value) in [("user-agent", agent.as_str())].iter().chain(self.plain) {
            if !is_own(name) {
                put(name, value);
            }
        }
        if !self.body.is_empty() {
            put("content-length", &self.body.len().to_string());
        }
        for (name, value) in self.own {
            hpack::encode(&name.to_ascii_lowercase(), value, true, &mut block);
        }
        block
    }
}

/// What we announce: no table, no pushes, room for what a check reads, and how large
/// a head may be.
fn settings() -> Vec<u8> {
    let pairs: [(u16, u32); 4] = [
        (1, TABLE_BYTES),
        (2, 0),
        (4, HTTP2_WINDOW_BYTES),
        (6, HEAD_BYTES as u32),
    ];
    pairs
        .iter()
        .flat_map(|(key, value)| [&key.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect()
}

// One frame holds a head, and one a body.
const _: () = assert!(BODY_SENT_BYTES <= HTTP2_FRAME_BYTES);
const _: () = assert!(
    PATH_BYTES + HOST_BYTES + USER_AGENT_BYTES + HEADERS_SENT_BYTES + 8 * HEADERS_SENT + 512
        <= HTTP2_FRAME_BYTES
);
const _: () = assert!(HTTP2_WINDOW_BYTES > 65_535);
