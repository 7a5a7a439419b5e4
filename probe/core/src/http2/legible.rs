//! What was said over HTTP/2, as lines that people can read: a head field by field,
//! an empty line, and content.

use watchfire_wire::Reason;

use super::PREFACE;
use super::frame::{self, HEAD_BYTES, Head};
use super::hpack::Decoder;
use super::request::TABLE_BYTES;
use crate::limits::HTTP2_FRAME_BYTES;

/// The beginning of what one side said, legible as far as it goes; what is no HTTP/2
/// as it is. Frames that hold nothing of a request or a response are passed over, but
/// for those that end it, which are told.
pub(crate) fn legible(bytes: &[u8]) -> Vec<u8> {
    // What stands before a preface is another layer's.
    let preface = bytes
        .windows(PREFACE.len())
        .position(|part| part == PREFACE);
    let mut rest = preface.map_or(bytes, |at| &bytes[at + PREFACE.len()..]);
    let first = Head::read(rest);
    if first.is_none_or(|head| head.kind > frame::CONTINUATION || head.length > HTTP2_FRAME_BYTES) {
        return bytes.to_vec();
    }
    let mut text = Vec::new();
    let mut decoder = Decoder::new(TABLE_BYTES as usize);
    let mut block = Vec::new();
    let mut in_body = false;
    while let Some(head) = Head::read(rest) {
        let after = &rest[HEAD_BYTES..];
        let (payload, next) = after.split_at_checked(head.length).unwrap_or((after, &[]));
        rest = next;
        match head.kind {
            frame::HEADERS | frame::CONTINUATION => {
                let mut piece = payload;
                if head.kind == frame::HEADERS {
                    piece = head.unpadded(payload).unwrap_or_default();
                    if head.has(frame::WITH_PRIORITY) {
                        piece = piece.get(5..).unwrap_or_default();
                    }
                }
                block.extend_from_slice(piece);
                // Of a block that was cut the fields before the cut.
                if head.has(frame::END_HEADERS) || rest.is_empty() {
                    put_fields(&mut decoder, &block, &mut text);
                    block.clear();
                }
            }
            frame::DATA => {
                if !core::mem::replace(&mut in_body, true) {
                    text.extend(b"\r\n");
                }
                text.extend_from_slice(head.unpadded(payload).unwrap_or_default());
            }
            frame::GOAWAY => put_end("GOAWAY", payload.get(4..8), in_body, &mut text),
            frame::RST_STREAM => put_end("RST_STREAM", payload.get(..4), in_body, &mut text),
            _ => {}
        }
    }
    text
}

/// Puts a head as HTTP/1.1 writes it. What cannot be read is not shown: it might be a
/// secret.
fn put_fields(decoder: &mut Decoder, block: &[u8], text: &mut Vec<u8>) {
    let (mut first, mut host) = ([&b""[..]; 3].map(<[u8]>::to_vec), Vec::new());
    let mut begun = false;
    let mut begin = |first: &[Vec<u8>; 3], host: &[u8], text: &mut Vec<u8>| {
        if core::mem::replace(&mut begun, true) {
            return;
        }
        let [method, path, status] = first;
        if !status.is_empty() {
            put_line(&[b"HTTP/2 ", status], text);
        } else if !method.is_empty() {
            put_line(&[method, b" ", path, b" HTTP/2"], text);
            put_line(&[b"host: ", host], text);
        }
    };
    let _ = decoder.decode(block, |name, value| {
        match name {
            b":method" => first[0] = value.to_vec(),
            b":path" => first[1] = value.to_vec(),
            b":status" => first[2] = value.to_vec(),
            b":authority" => host = value.to_vec(),
            [b':', ..] => {}
            _ => {
                begin(&first, &host, text);
                put_line(&[name, b": ", value], text);
            }
        }
        // More than that is not shown in any case.
        if text.len() > HTTP2_FRAME_BYTES {
            return Err(Reason::HeadersTooLarge);
        }
        Ok(())
    });
    begin(&first, &host, text);
}

/// Puts one line, whatever stands in its parts.
fn put_line(parts: &[&[u8]], text: &mut Vec<u8>) {
    let bytes = parts.iter().flat_map(|part| part.iter());
    text.extend(bytes.map(|byte| match byte {
        b'\r' | b'\n' => &b' ',
        other => other,
    }));
    text.extend_from_slice(b"\r\n");
}

fn put_end(what: &str, error: Option<&[u8]>, in_body: bool, text: &mut Vec<u8>) {
    if in_body {
        text.extend_from_slice(b"\r\n");
    }
    let error = error.and_then(|error| error.first_chunk::<4>());
    let error = error.map_or(0, |error| u32::from_be_bytes(*error));
    text.extend_from_slice(format!("{what} with error {error}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;

    #[test]
    fn a_request_and_a_response_read_like_those_of_http_1() {
        let request = Request {
            method: "GET",
            tls: true,
            path: "/health",
            authority: "shop.test",
            user_agent: "test",
            plain: &[],
            own: &[("X-Key".to_owned(), "s3cret".to_owned())],
            body: b"ask",
        };
        let built = request.build();
        let sent = legible(&built);
        // A header of PROXY before it is not shown, and nothing is because of it.
        let proxied = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], &built].concat();
        assert_eq!(legible(&proxied), sent);
        assert_eq!(
            String::from_utf8_lossy(&sent),
            "GET /health HTTP/2\r\nhost: shop.test\r\nuser-agent: test\r\ncontent-length: 3\r\n\
             x-key: s3cret\r\n\r\nask"
        );
        let mut came = b"\0\0\0\x04\0\0\0\0\0".to_vec();
        let block = b"\x88\x0f\x28\x03a=b";
        frame::put(frame::HEADERS, frame::END_HEADERS, 1, block, &mut came);
        frame::put(frame::DATA, frame::END_STREAM, 1, b"ok", &mut came);
        frame::put(frame::GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\x02", &mut came);
        let text = legible(&came);
        let text = String::from_utf8_lossy(&text);
        assert_eq!(
            text,
            "HTTP/2 200\r\nset-cookie: a=b\r\n\r\nok\r\nGOAWAY with error 2\r\n"
        );
        // Cut anywhere it is legible so far.
        for end in 0..came.len() {
            legible(&came[..end]);
        }
        assert_eq!(
            legible(b"HTTP/1.1 400 Bad Request\r\n"),
            b"HTTP/1.1 400 Bad Request\r\n"
        );
        assert_eq!(legible(b""), b"");
    }
}
