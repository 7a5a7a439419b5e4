//! The status page: files that hold no data, served to whoever connects. What they
//! show they ask for at the API, with a key.
//!
//! An operator's browser reaches it at `admin.listen`; `watchfire page` prints its
//! address with a key that may read, in the fragment, which browsers send to nobody.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The page may load its own files and ask its own agent, and nothing else; nobody
/// may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The page's files.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Serves the files.
pub(super) fn router() -> Router {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            let file = move || async move { ([(header::CONTENT_TYPE, kind)], text) };
            router.route(path, get(file))
        })
}

/// What a browser is told with everything: keep nothing, guess nothing, tell nobody.
pub(super) async fn guarded(response: Response) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    let mut response = response.into_response();
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_and_makes_no_markup_of_what_it_is_told() {
        for (path, _, text) in FILES {
            let text = text.replace("http://www.w3.org/", "");
            for outside in ["http://", "https://", "src=\"//", "@import", "url("] {
                assert!(!text.contains(outside), "{path} has {outside}");
            }
            for dangerous in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=",
                " onclick=\"",
            ] {
                assert!(!text.contains(dangerous), "{path} has {dangerous}");
            }
        }
    }
}
