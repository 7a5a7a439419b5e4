//! Browsers come with other people's pages: none of those may ask an agent, whoever
//! the browser's user is. Over a Unix socket that ssh forwards to a port, nothing
//! else would keep them out.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// Why a browser's request is not its own user's; nothing if it is, or is no
/// browser's.
pub(super) fn foreign(headers: &HeaderMap) -> Option<&'static str> {
    let text = |name: &str| headers.get(name).map(|it| it.to_str().unwrap_or_default());
    let site = text("sec-fetch-site");
    let origin = text(header::ORIGIN.as_str());
    let agent = text(header::USER_AGENT.as_str());
    let is_browser =
        site.is_some() || origin.is_some() || agent.is_some_and(|it| it.starts_with("Mozilla/"));
    if !is_browser {
        return None;
    }
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Some("another site's page may not ask an agent");
    }
    let host = text(header::HOST.as_str()).unwrap_or_default();
    if origin.is_some_and(|origin| origin.strip_prefix("http://") != Some(host)) {
        return Some("another site's page may not ask an agent");
    }
    // A name that somebody else's DNS leads here makes his page one of this site.
    if !is_local(host) {
        return Some("browsers reach an agent by localhost or a loopback address alone");
    }
    None
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let address: Result<IpAddr, _> = address.parse();
    name == "localhost" || address.is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn pages_of_other_sites_are_told_from_ones_own_and_from_programs() {
        let own = [
            &[("host", "agent"), ("user-agent", "curl/8")][..],
            &[
                ("host", "localhost:9465"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("host", "127.0.0.1:9465"), ("sec-fetch-site", "none")],
            &[("host", "[::1]:9465"), ("origin", "http://[::1]:9465")],
            &[("host", "[::1]"), ("user-agent", "Mozilla/5.0")],
        ];
        for headers in own {
            assert_eq!(foreign(&with(headers)), None, "{headers:?}");
        }
        let others = [
            &[("host", "localhost:9465"), ("sec-fetch-site", "cross-site")][..],
            &[("host", "localhost:9465"), ("sec-fetch-site", "same-site")],
            &[
                ("host", "localhost:9465"),
                ("origin", "http://localhost:80"),
            ],
            &[("host", "localhost:9465"), ("origin", "null")],
            &[
                ("host", "evil.example:9465"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[
                ("host", "127.0.0.1.evil.example"),
                ("user-agent", "Mozilla/5.0"),
            ],
            &[("user-agent", "Mozilla/5.0")],
        ];
        for headers in others {
            assert!(foreign(&with(headers)).is_some(), "{headers:?}");
        }
    }
}
