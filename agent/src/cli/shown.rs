//! What a probe said and heard, as people may see it: escaped, cut, and without
//! secrets.

use serde_json::{Value, json};
use watchfire_probe_core::tape::{Cut, Tape};
use watchfire_probe_core::{Kind, ProxyHeader};

/// Headers whose values anybody may see in a request; a check's own may be keys.
const PLAIN: [&str; 10] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "host",
    "te",
    "user-agent",
];

/// What a response's header is called by that nobody else should see.
const SECRET: [&str; 8] = [
    "auth",
    "cookie",
    "credential",
    "key",
    "passw",
    "secret",
    "session",
    "token",
];

/// Words of other protocols that a password follows.
const LOGINS: [&str; 5] = ["AUTH", "HELLO", "LOGIN", "PASS", "USER"];

/// Lines that are shown of what was sent, and of what came.
const LINES: usize = 40;

/// Bytes that are shown of one line.
const LINE_BYTES: usize = 400;

/// Which way the bytes went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Sent,
    Received,
}

/// All of it, for `--json`.
pub(super) fn as_json(tape: &Tape, kind: &Kind) -> Value {
    let tls = tape.tls.as_ref().map(|told| {
        let chain = told.chain.iter().map(|it| {
            json!({
                "subject": it.subject,
                "issuer": it.issuer,
                "not_after_s": it.not_after_s,
                "names": it.names,
            })
        });
        json!({
            "library": told.library,
            "version": told.version,
            "cipher": told.cipher,
            "alpn": told.alpn,
            "chain": chain.collect::<Vec<_>>(),
        })
    });
    let cut = |cut: &Cut, way| json!({ "head": all_lines(cut, kind, way), "bytes": cut.bytes });
    json!({
        "connections": tape.connections,
        "tls": tls,
        "sent": cut(&tape.sent, Way::Sent),
        "received": cut(&tape.received, Way::Received),
    })
}

/// The same for people.
pub(super) fn say(tape: &Tape, kind: &Kind) {
    if tape.connections > 1 {
        let again = "the probe began again on another connection; this is the last one";
        say!("  connections {} ({again})", tape.connections);
    }
    if let Some(told) = &tape.tls {
        let known = [&told.version, &told.cipher, &told.alpn];
        let known: Vec<&str> = known.into_iter().flatten().map(String::as_str).collect();
        say!("  tls         {} by {}", known.join(", "), told.library);
        for (place, it) in told.chain.iter().enumerate() {
            let ends = it.not_after_s.map_or_else(
                || "at an unknown time".to_owned(),
                |end_s| super::why::ends(end_s.saturating_mul(1_000)),
            );
            say!(
                "  certificate {place}: {}",
                printable(it.subject.as_bytes())
            );
            say!("    issuer    {}", printable(it.issuer.as_bytes()));
            say!("    {ends}");
            if !it.names.is_empty() {
                say!(
                    "    names     {}",
                    printable(it.names.join(", ").as_bytes())
                );
            }
        }
    }
    for (what, cut, way) in [
        ("sent", &tape.sent, Way::Sent),
        ("received", &tape.received, Way::Received),
    ] {
        if cut.bytes > 0 {
            say!("  {what}, {} bytes:", cut.bytes);
            for line in all_lines(cut, kind, way) {
                say!("    | {line}");
            }
        }
    }
}

/// What was sent or came, in lines that a terminal can be given. A PROXY header is
/// none of the kind's own: it has empty lines, which end no head.
fn all_lines(cut: &Cut, kind: &Kind, way: Way) -> Vec<String> {
    let (header, rest) = match way {
        Way::Sent => ProxyHeader::split(&cut.head),
        Way::Received => (None, &cut.head[..]),
    };
    let beyond = cut.bytes.saturating_sub(cut.head.len() as u64);
    let head = kind.legible(rest).into_owned();
    let own = Cut {
        bytes: head.len() as u64 + beyond,
        head,
    };
    let header = header.map(|header| format!("[PROXY header {}]", header.as_str()));
    let own = lines(&own, kind.has_heads(), way);
    header.into_iter().chain(own).collect()
}

/// A kind's own bytes in lines.
fn lines(cut: &Cut, http: bool, way: Way) -> Vec<String> {
    let mut in_head = http;
    let all = cut.head.split(|&byte| byte == b'\n');
    let mut shown: Vec<String> = all
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .map(|line| {
            if in_head && line.is_empty() {
                in_head = false;
            }
            redacted(line, in_head, http, way)
        })
        .take(LINES + 1)
        .collect();
    if shown.last().is_some_and(String::is_empty) {
        shown.pop();
    }
    if shown.len() > LINES || cut.bytes > cut.head.len() as u64 {
        shown.truncate(LINES);
        shown.push("[more]".to_owned());
    }
    shown
}

fn redacted(line: &[u8], in_head: bool, http: bool, way: Way) -> String {
    if in_head {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            // A folded line belongs to a header that may be a secret.
            let folded = line.first().is_some_and(|byte| b" \t".contains(byte));
            return if folded {
                "  [redacted]".to_owned()
            } else {
                printable(line)
            };
        };
        let name = String::from_utf8_lossy(&line[..colon])
            .trim()
            .to_ascii_lowercase();
        let secret = match way {
            Way::Sent => !PLAIN.contains(&name.as_str()),
            Way::Received => SECRET.iter().any(|part| name.contains(part)),
        };
        // The line of the request or of the status holds a colon now and then.
        let is_header = !name.contains(' ');
        if secret && is_header {
            return format!("{}: [redacted]", printable(&line[..colon]));
        }
        return printable(line);
    }
    let text = String::from_utf8_lossy(line).to_ascii_uppercase();
    let words: Vec<&str> = text.split_ascii_whitespace().take(3).collect();
    // IMAP has a tag before it.
    let login = words.iter().take(2).position(|word| LOGINS.contains(word));
    if way == Way::Sent && !http && login.is_some_and(|at| words.len() > at + 1) {
        return "[redacted: it may hold a password]".to_owned();
    }
    printable(line)
}

/// Without anything that a terminal would obey.
fn printable(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(LINE_BYTES)]
        .utf8_chunks()
        .map(|chunk| {
            let valid = chunk.valid().chars().map(|c| {
                if c.is_control() || c == '\u{2028}' || c == '\u{202e}' {
                    c.escape_default().to_string()
                } else {
                    c.to_string()
                }
            });
            valid.collect::<String>() + &chunk.invalid().escape_ascii().to_string()
        });
    let text: String = text.collect();
    if bytes.len() > LINE_BYTES {
        text + "[more]"
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: &[u8]) -> Cut {
        Cut {
            head: bytes.to_vec(),
            bytes: bytes.len() as u64,
        }
    }

    /// The second version of the header has the empty line in it that ends a head.
    #[test]
    fn a_proxy_header_uncovers_nothing() {
        let at = "192.0.2.10:80".parse().unwrap();
        let (kind, _) = super::super::target::read_kind("http", Vec::new(), &at).unwrap();
        let headers: [(&[u8], &str); 2] = [
            (b"PROXY UNKNOWN\r\n", "[PROXY header v1]"),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "[PROXY header v2]"),
        ];
        for (header, said) in headers {
            let request = b"GET / HTTP/1.1\r\nHost: shop\r\nX-Key: c2VjcmV0\r\n\r\n";
            let sent = cut(&[header, request].concat());
            let shown = all_lines(&sent, &kind, Way::Sent);
            assert_eq!(
                shown[..4],
                [said, "GET / HTTP/1.1", "Host: shop", "X-Key: [redacted]"]
            );
        }
    }

    #[test]
    fn secrets_stay_secret() {
        let sent = b"GET /a:b HTTP/1.1\r\nHost: shop\r\nAuthorization: Basic c2VjcmV0\r\n\
                     X-Gate: c2VjcmV0\r\nCookie: c2VjcmV0\r\nConnection: close\r\n\r\n";
        let shown = lines(&cut(sent), true, Way::Sent).join("\n");
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
        for plain in ["GET /a:b HTTP/1.1", "Host: shop", "X-Gate: [redacted]"] {
            assert!(shown.contains(plain), "{shown}");
        }
        let came =
            b"HTTP/1.1 200 OK\r\nSet-Cookie: c2VjcmV0\r\n c2VjcmV0\r\nX-Auth-Token: c2VjcmV0\r\n\
                     Server: nginx\r\n\r\nbody: here";
        let shown = lines(&cut(came), true, Way::Received).join("\n");
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
        for plain in ["Server: nginx", "body: here"] {
            assert!(shown.contains(plain), "{shown}");
        }
        for login in ["AUTH c2VjcmV0", "a1 LOGIN me c2VjcmV0", "PASS c2VjcmV0 x"] {
            let shown = lines(&cut(format!("{login}\r\n").as_bytes()), false, Way::Sent);
            assert!(!shown.join("").contains("c2VjcmV0"), "{shown:?}");
        }
    }

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        let came = b"HTTP/1.1 200 \x1b[2J\x07OK\r\nA: \xff\x9b\r\n\r\n\0";
        for line in lines(&cut(came), true, Way::Received) {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        let long = [b'x'; 5_000];
        let shown = lines(&cut(&long), false, Way::Received);
        assert!(shown[0].len() < LINE_BYTES + 10 && shown[0].ends_with("[more]"));
        let many = "a\n".repeat(900);
        assert!(lines(&cut(many.as_bytes()), false, Way::Received).len() <= LINES + 1);
    }
}
