//! The admin API: HTTP and JSON on the Unix socket and, if configured, on TCP. Every
//! verb of the command line that asks a running agent is a client of it.
//!
//! It serves the status page, too, which asks it like any other client.
//!
//! Whoever may connect to the socket may read. What changes something is for root
//! and the agent's own user; on TCP, for who has the token.

mod asked;
mod browser;
mod client;
mod handlers;
mod page;
mod token;

use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use nix::unistd::geteuid;
use utoipa::OpenApi;

use self::handlers as h;
use super::Doors;
use super::doors::{Door, Few, Peer};
use crate::limits::ADMIN_BODY_BYTES;

pub(crate) use self::asked::{
    Ended, Events, EventsAnswer, Flapping, Look, Reload, Sentence, Verb, WhyAsked,
};
pub(crate) use self::client::ask;
use self::token::May;
pub(crate) use self::token::{Token, reader_key};

/// What every request gets.
#[derive(Clone)]
struct Api {
    doors: Doors,
    /// What lets who comes over TCP in.
    token: Option<Arc<Token>>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Watchfire's admin API",
        description = "What one agent knows of its POP, and what operators tell it. An error's \
                       body is an object with `error`, a sentence with what to do.",
        license(name = "MIT OR Apache-2.0")
    ),
    paths(
        h::status,
        h::screen,
        h::origins,
        h::why,
        h::events,
        h::flapping,
        h::overrides,
        h::evictions,
        h::look,
        h::diff,
        h::decide,
        h::reload,
        h::drain,
        h::undrain
    )
)]
struct Document;

/// Serves the API on a listener from now on.
pub(super) fn serve<D: Door>(few: Few<D>, doors: Doors, token: Option<Token>) {
    let api = Api {
        doors,
        token: token.map(Arc::new),
    };
    let app = router(api).into_make_service_with_connect_info::<Peer>();
    tokio::spawn(async move {
        // Ends only with the runtime.
        let _ = axum::serve(few, app).await;
    });
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(h::status))
        .route("/v1/screen", get(h::screen))
        .route("/v1/origins", get(h::origins))
        .route("/v1/why", get(h::why))
        .route("/v1/events", get(h::events))
        .route("/v1/flapping", get(h::flapping))
        .route("/v1/overrides", get(h::overrides).post(h::decide))
        .route("/v1/evictions", get(h::evictions))
        .route("/v1/look", post(h::look))
        .route("/v1/diff", get(h::diff))
        .route("/v1/reload", post(h::reload))
        .route("/v1/drain", post(h::drain))
        .route("/v1/undrain", post(h::undrain))
        .route("/openapi.json", get(|| async { Json(Document::openapi()) }))
        .fallback(|| async {
            Refusal(
                StatusCode::NOT_FOUND,
                "there is no such page; /openapi.json says what there is".into(),
            )
        })
        .layer(DefaultBodyLimit::max(ADMIN_BODY_BYTES))
        .layer(from_fn_with_state(api.clone(), admit))
        .with_state(api)
        .merge(page::router())
        .layer(map_response(page::guarded))
}

/// Lets in who may do what is asked.
async fn admit(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(why) = browser::foreign(request.headers()) {
        return Refusal(StatusCode::FORBIDDEN, why.into()).into_response();
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let allowed = match (peer, &api.token) {
        (Peer::User(uid), _) if uid == 0 || uid == geteuid().as_raw() => Ok(()),
        // The socket's mode let it connect.
        (Peer::User(_), _) if reads => Ok(()),
        (Peer::User(_), _) => Err(Refusal(
            StatusCode::FORBIDDEN,
            "only the agent's user and root may change anything".into(),
        )),
        (Peer::Address(_), Some(token)) => {
            let said = request.headers().get(header::AUTHORIZATION);
            let said = said.and_then(|it| it.as_bytes().strip_prefix(b"Bearer "));
            match said.and_then(|said| token.lets(said)) {
                Some(May::Change) => Ok(()),
                Some(May::Read) if reads => Ok(()),
                Some(May::Read) => Err(Refusal(
                    StatusCode::FORBIDDEN,
                    "this key may only read; the token of admin.token_file may change things"
                        .into(),
                )),
                None => Err(Refusal(
                    StatusCode::UNAUTHORIZED,
                    "send the token of admin.token_file: Authorization: Bearer TOKEN".into(),
                )),
            }
        }
        (Peer::Address(_), None) => Err(Refusal(StatusCode::FORBIDDEN, "there is no token".into())),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            tracing::debug!(?peer, method = %request.method(), "refused on the admin API");
            refusal.into_response()
        }
    }
}

/// Why something is not answered.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_described_and_every_description_is_of_a_page() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: Vec<_> = paths.keys().map(String::as_str).collect();
        let text = include_str!("mod.rs");
        let routed: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"/v1")?.split('"').next())
            .map(|rest| format!("/v1{rest}"))
            .collect();
        assert_eq!(described.len(), routed.len(), "{described:?} {routed:?}");
        assert!(
            routed.iter().all(|path| described.contains(&path.as_str())),
            "{described:?}"
        );
        // Whatever a description refers to is there.
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at + 21..].split('"').next().unwrap();
            assert!(!document["components"]["schemas"][name].is_null(), "{name}");
        }
    }
}
