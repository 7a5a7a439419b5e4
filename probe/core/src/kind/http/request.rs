//! The bytes of a check's request, built once.

use core::fmt::Write as _;

use super::{Method, Spec};
use crate::limits::USER_AGENT_BYTES;

/// Headers that follow from other keys.
pub(super) const FORBIDDEN: &[&str] =
    &["host", "connection", "content-length", "transfer-encoding"];

/// The whole request of `spec`. What `user_agent` holds beyond its limit, and
/// bytes that no header value may hold, are left out.
#[must_use]
pub(super) fn build(spec: &Spec, user_agent: &str) -> Box<[u8]> {
    let agent: String = user_agent
        .chars()
        .filter(|&c| c == ' ' || c.is_ascii_graphic())
        .take(USER_AGENT_BYTES)
        .collect();
    let connection = if spec.reuse { "keep-alive" } else { "close" };
    let (method, path, host) = (spec.method.as_str(), &spec.path, &spec.host);
    let extra = spec.extra.as_deref();
    let version = if extra.is_some_and(|extra| extra.old_version) {
        "1.0"
    } else {
        "1.1"
    };
    let headers = extra.map_or(&[][..], |extra| &extra.headers);
    let body = extra.map_or("", |extra| &extra.body);
    let mut text = format!("{method} {path} HTTP/{version}\r\nHost: {host}\r\n");
    for (name, value) in [("User-Agent", agent.as_str()), ("Accept", "*/*")] {
        let own = headers
            .iter()
            .any(|(own, _)| own.eq_ignore_ascii_case(name));
        if !own {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(spec.method, Method::Post | Method::Put | Method::Patch) {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    let _ = write!(text, "Connection: {connection}\r\n\r\n{body}");
    text.into_bytes().into_boxed_slice()
}

/// Whether a text may be a header's name.
pub(super) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(super::head::is_token)
}

/// Whether a text may be a header's value in a request.
pub(super) fn is_header_value(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::super::Extra;
    use super::*;

    fn text(spec: &Spec, agent: &str) -> String {
        String::from_utf8(build(spec, agent).into_vec()).unwrap()
    }

    #[test]
    fn a_user_agent_cannot_add_a_header() {
        let spec = Spec::get(&"192.0.2.7:80".parse().unwrap(), "/h");
        assert_eq!(
            text(&spec, "watchfire/1 (a)\r\nX: y"),
            "GET /h HTTP/1.1\r\nHost: 192.0.2.7:80\r\nUser-Agent: watchfire/1 (a)X: y\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn what_is_configured_is_sent() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let spec = Spec {
            method: Method::Post,
            extra: Some(Box::new(Extra {
                old_version: true,
                body: "{}".to_owned(),
                headers: vec![header("user-agent", "mine"), header("X-Key", "s3cret")],
                ..Extra::default()
            })),
            ..Spec::get(&"192.0.2.7:80".parse().unwrap(), "/h")
        };
        assert_eq!(
            text(&spec, "watchfire/1"),
            "POST /h HTTP/1.0\r\nHost: 192.0.2.7:80\r\nAccept: */*\r\nuser-agent: mine\r\n\
             X-Key: s3cret\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        );
    }
}
