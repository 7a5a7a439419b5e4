//! The bytes of a check's request, built once.

use crate::check::HttpSpec;
use crate::limits::USER_AGENT_BYTES;

/// The whole HTTP/1.1 request of `spec`. What `user_agent` holds beyond its
/// limit, and bytes that no header value may hold, are left out.
#[must_use]
pub(crate) fn build(spec: &HttpSpec, user_agent: &str) -> Box<[u8]> {
    let agent: String = user_agent
        .chars()
        .filter(|&c| c == ' ' || c.is_ascii_graphic())
        .take(USER_AGENT_BYTES)
        .collect();
    let connection = if spec.reuse { "keep-alive" } else { "close" };
    let (method, path, host) = (spec.method.as_str(), &spec.path, &spec.host);
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\nConnection: {connection}\r\n\r\n"
    )
    .into_bytes()
    .into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use crate::check::{CheckSpec, Kind};

    #[test]
    fn a_user_agent_cannot_add_a_header() {
        let spec = CheckSpec::http("192.0.2.7:80".parse().unwrap(), "/h");
        let Kind::Http(http) = &spec.kind else {
            panic!("an HTTP check")
        };
        let bytes = super::build(http, "watchfire/1 (a)\r\nX: y");
        assert_eq!(
            std::str::from_utf8(&bytes).unwrap(),
            "GET /h HTTP/1.1\r\nHost: 192.0.2.7:80\r\nUser-Agent: watchfire/1 (a)X: y\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        );
    }
}
