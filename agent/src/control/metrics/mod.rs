//! Metrics over HTTP: OpenMetrics or Prometheus' own text, as the scraper asks.
//!
//! Nothing is kept here: each scrape asks the gossip thread once, looks at the
//! table and at what the probe threads published, and renders what they say.

mod page;
mod series;
mod text;

use std::io;
use std::net::TcpListener;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use self::page::Page;
use super::Doors;
use super::doors::Few;
use crate::limits::{METRICS_CONNECTIONS, METRICS_PER_ADDRESS};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves `/metrics` from now on.
pub(super) fn serve(listener: TcpListener, doors: Doors) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = Router::new()
        .route("/metrics", get(scrape))
        .with_state(doors);
    let most = (METRICS_CONNECTIONS, METRICS_PER_ADDRESS);
    tokio::spawn(async move {
        // Ends only with the runtime.
        let _ = axum::serve(Few::new(listener, most), app).await;
    });
    Ok(())
}

async fn scrape(State(doors): State<Doors>, headers: HeaderMap) -> impl IntoResponse {
    let Some(status) = doors.status().await else {
        let ending = "the agent is ending\n".to_owned();
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, PROMETHEUS)],
            ending,
        );
    };
    let page = render(Page::new(*status, &doors.sights));
    let accept = headers.get(header::ACCEPT).map(|value| value.as_bytes());
    let open = accept.is_some_and(text::wants_open_metrics);
    let (kind, page) = if open {
        (OPEN_METRICS, page)
    } else {
        (PROMETHEUS, text::to_prometheus(&page))
    };
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], page)
}

fn render(page: Page) -> String {
    let mut registry = Registry::with_prefix("watchfire");
    registry.register_collector(Box::new(page));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string does not fail");
    text
}
