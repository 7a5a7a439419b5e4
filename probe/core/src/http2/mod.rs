//! HTTP/2 (RFC 9113) as a client that asks one thing of each connection: frames,
//! HPACK, and what every check that rides on it shares.
//!
//! A client here sends all that it has to say at once, and then acknowledges what
//! must be. It takes nothing that it did not announce: no pushes, no table of header
//! fields, no frame beyond the smallest limit that there may be. Its memory is one
//! frame, one block of headers and the acknowledgements that wait to leave.

mod client;
mod frame;
mod hpack;
mod huffman;
mod legible;
mod request;
mod static_table;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use client::{Client, Hears, Progress};
pub(crate) use legible::legible;
pub(crate) use request::{FORBIDDEN, Request};

/// The protocol's name in TLS (ALPN).
pub(crate) const ALPN: &str = "h2";

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The stream of the one request.
const STREAM: u32 = 1;
