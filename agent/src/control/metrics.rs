//! Metrics in the OpenMetrics text format, over HTTP.
//!
//! Nothing is kept here: each scrape asks the gossip thread once and renders
//! what it says.

use std::io;
use std::net::TcpListener;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Doors;
use crate::gossip::status::Status;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` from now on.
pub(super) fn serve(listener: TcpListener, doors: Doors) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = Router::new()
        .route("/metrics", get(scrape))
        .with_state(doors);
    tokio::spawn(async move {
        // Ends only with the runtime.
        let _ = axum::serve(listener, app).await;
    });
    Ok(())
}

async fn scrape(State(doors): State<Doors>) -> impl IntoResponse {
    match doors.status().await {
        Some(status) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, CONTENT_TYPE)],
            render(*status),
        ),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "text/plain")],
            "the agent is ending\n".to_owned(),
        ),
    }
}

fn render(status: Status) -> String {
    let mut registry = Registry::with_prefix("watchfire");
    registry.register_collector(Box::new(Snapshot(status)));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("writing to a string does not fail");
    page
}

/// One answer of the gossip thread, as metrics.
#[derive(Debug)]
struct Snapshot(Status);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = &self.0;
        let gauge = |encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64| {
            let metric = ConstGauge::new(value);
            let family = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(family)
        };
        let numbers = [
            ("origins", "Origins configured here", status.origins),
            (
                "checks",
                "Distinct checks (equal origins share one)",
                status.checks,
            ),
            (
                "checks_probed",
                "Checks probed by this agent",
                status.checks_probed,
            ),
            ("members_alive", "Members alive", self.members_in("alive")),
            (
                "members_suspect",
                "Members suspected to be dead",
                self.members_in("suspect"),
            ),
            (
                "config_refused",
                "Whether the last reload was refused, in whole or in part",
                usize::from(status.config_error.is_some()),
            ),
            (
                "config_files_held",
                "Files that are refused and keep their last good content",
                status.files_held.len(),
            ),
            (
                "braked",
                "Whether this agent holds new Downs back because so much fails at once",
                usize::from(status.braked.is_some()),
            ),
            (
                "checks_held",
                "Failing checks that are not called Down while this agent is braked",
                status.braked.map_or(0, |braked| braked.held),
            ),
            (
                "members_braked",
                "Members that hold new Downs back",
                status.members.iter().filter(|m| m.braked).count(),
            ),
            (
                "origins_forced",
                "Origins configured here whose verdict is an operator's",
                status.origins_forced,
            ),
            (
                "frozen",
                "1 while an operator has frozen the POP: no verdict changes in the table",
                usize::from(status.overrides.frozen.is_some()),
            ),
            ("draining", "1 while draining", usize::from(status.draining)),
        ];
        for (name, help, value) in numbers {
            gauge(
                &mut encoder,
                name,
                help,
                i64::try_from(value).unwrap_or(i64::MAX),
            )?;
        }
        super::overrides::encode(&status.overrides, &mut encoder)?;
        let metric = ConstGauge::new(i64::try_from(status.uptime_s).unwrap_or(i64::MAX));
        let family = encoder.encode_descriptor(
            "uptime",
            "Time since the start",
            Some(&Unit::Seconds),
            metric.metric_type(),
        )?;
        metric.encode(family)?;

        let verdicts = [
            ("up", status.up),
            ("down", status.down),
            ("unknown", status.unknown),
            ("draining", status.origins_draining),
        ];
        let sample = ConstGauge::new(0i64);
        let mut family = encoder.encode_descriptor(
            "origins_by_verdict",
            "Origins by what the POP holds of them",
            None,
            sample.metric_type(),
        )?;
        for (verdict, count) in verdicts {
            let metric = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            metric.encode(family.encode_family(&[("verdict", verdict)])?)?;
        }
        for (name, count) in &status.counters {
            let metric = ConstCounter::new(*count);
            let help = name.replace('_', " ");
            let family = encoder.encode_descriptor(name, &help, None, metric.metric_type())?;
            metric.encode(family)?;
        }
        let unit = Unit::Other("microseconds".into());
        let mut family = encoder.encode_descriptor(
            "latency",
            "Quantiles since the start, by what was timed",
            Some(&unit),
            sample.metric_type(),
        )?;
        for (what, latency) in &status.latencies {
            for (quantile, value) in [("0.5", latency.p50_us), ("0.99", latency.p99_us)] {
                let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                let labels = [("of", what.as_str()), ("quantile", quantile)];
                metric.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Snapshot {
    fn members_in(&self, state: &str) -> usize {
        let members = self.0.members.iter();
        members.filter(|member| member.state == state).count()
    }
}
