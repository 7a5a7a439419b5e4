//! What each page of the API does.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::oneshot;

use super::asked::{Ended, Events, EventsAnswer, Flapping, Look, Reload, Sentence, WhyAsked};
use super::{Api, Refusal};
use crate::control::Request;
use crate::control::doors::Peer;
use crate::control::overrides::{self, Ask, Done};
use crate::control::reload::Diff;
use crate::control::screen::{Screen, ScreenAsked};
use crate::gossip::Seen;
use crate::gossip::command::Command;
use crate::gossip::overrides::OverrideStatus;
use crate::gossip::status::{Status, Why};
use crate::limits::EVENTS_ANSWERED;
use crate::recorder::Query as Wanted;

type Answer<T> = Result<Json<T>, Refusal>;
type Asked<T> = Result<Query<T>, QueryRejection>;

fn answer<T: Serialize>(value: Option<T>) -> Answer<T> {
    value.map(Json).ok_or_else(ending)
}

fn ending() -> Refusal {
    Refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent is ending".into(),
    )
}

fn refused(error: impl ToString) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, error.to_string())
}

/// What was asked, or what is wrong with it.
fn asked<T>(query: Asked<T>) -> Result<T, Refusal> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(refused(rejection.body_text())),
    }
}

/// Asks the gossip thread.
async fn gossip<T>(api: &Api, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    api.doors.gossip.send(command(reply)).await;
    answer.await.ok()
}

/// Members, checks, counters.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(api): State<Api>) -> Answer<Status> {
    answer(api.doors.status().await.map(|status| *status))
}

/// What a screen shows of the POP, and what has changed since it last asked. Few may
/// wait for news at once; others are answered at once.
#[utoipa::path(get, path = "/v1/screen", params(ScreenAsked), responses((status = 200, body = Screen)))]
pub(super) async fn screen(State(api): State<Api>, query: Asked<ScreenAsked>) -> Answer<Screen> {
    let asked = asked(query)?;
    answer(api.doors.screens.answer(&asked, &api.doors).await)
}

/// The names of all origins that are configured.
#[utoipa::path(get, path = "/v1/origins", responses((status = 200, body = Vec<String>)))]
pub(super) async fn origins(State(api): State<Api>) -> Answer<Vec<String>> {
    answer(gossip(&api, Command::Names).await)
}

/// Why an origin has its verdict.
#[utoipa::path(
    get, path = "/v1/why", params(WhyAsked),
    responses((status = 200, body = Why), (status = 404, description = "No origin has this name."))
)]
pub(super) async fn why(State(api): State<Api>, query: Asked<WhyAsked>) -> Answer<Why> {
    let WhyAsked { origin, at_ms } = asked(query)?;
    let why = gossip(&api, |reply| Command::Why(origin.clone(), reply)).await;
    let Some(mut why) = why.ok_or_else(ending)? else {
        return Err(Refusal(
            StatusCode::NOT_FOUND,
            format!("no origin is named \"{origin}\" in this agent's configuration"),
        ));
    };
    api.doors.sights.recall(&mut why, at_ms.unwrap_or(u64::MAX));
    Ok(Json(why))
}

/// The last transitions that this agent has kept, POP-wide, the oldest first.
#[utoipa::path(
    get, path = "/v1/events", params(Events), responses((status = 200, body = EventsAnswer))
)]
pub(super) async fn events(State(api): State<Api>, query: Asked<Events>) -> Answer<EventsAnswer> {
    let asked = asked(query)?;
    let name = asked.name.as_deref().map(glob::Pattern::new).transpose();
    let name = name.map_err(|error| refused(format!("that is not a pattern: {error}")))?;
    let (events, last) = api.doors.sights.recorder.journal().find(&Wanted {
        after: asked.after,
        since_ms: asked.since_ms,
        name,
        limit: asked.limit.unwrap_or(EVENTS_ANSWERED).min(EVENTS_ANSWERED),
    });
    Ok(Json(EventsAnswer { events, last }))
}

/// Origins that changed more than once since then, with how often, those that did
/// the most first.
#[utoipa::path(
    get, path = "/v1/flapping", params(Flapping),
    responses((status = 200, body = Vec<(String, usize)>))
)]
pub(super) async fn flapping(
    State(api): State<Api>,
    query: Asked<Flapping>,
) -> Answer<Vec<(String, usize)>> {
    let since_ms = asked(query)?.since_ms;
    let journal = api.doors.sights.recorder.journal();
    Ok(Json(journal.flapping(since_ms, EVENTS_ANSWERED)))
}

/// What operators decided.
#[utoipa::path(
    get, path = "/v1/overrides", params(Ended),
    responses((status = 200, body = Vec<OverrideStatus>))
)]
pub(super) async fn overrides(
    State(api): State<Api>,
    query: Asked<Ended>,
) -> Answer<Vec<OverrideStatus>> {
    let ended = asked(query)?.ended;
    answer(gossip(&api, |reply| Command::Overrides(ended, reply)).await)
}

/// Members that operators put out of the POP.
#[utoipa::path(
    get, path = "/v1/evictions", responses((status = 200, body = Vec<OverrideStatus>))
)]
pub(super) async fn evictions(State(api): State<Api>) -> Answer<Vec<OverrideStatus>> {
    answer(gossip(&api, Command::Evictions).await)
}

/// Every member probes this origin once, now. It changes nothing, but it costs the
/// origin a probe for each member: not for everybody who may read.
#[utoipa::path(
    post, path = "/v1/look", params(Look), responses((status = 200, body = Vec<Seen>))
)]
pub(super) async fn look(State(api): State<Api>, query: Asked<Look>) -> Answer<Vec<Seen>> {
    let Look { origin } = asked(query)?;
    let seen = gossip(&api, |reply| Command::Look(origin, reply)).await;
    seen.ok_or_else(ending)?.map(Json).map_err(refused)
}

/// An operator decides of origins, or of the POP.
#[utoipa::path(post, path = "/v1/overrides", request_body = Ask, responses((status = 200, body = Done)))]
pub(super) async fn decide(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<Ask>, JsonRejection>,
) -> Answer<Done> {
    let Json(ask) = body.map_err(|rejection| refused(rejection.body_text()))?;
    let done = overrides::decide(ask, &peer.name(), &api.doors).await;
    done.map(Json).map_err(refused)
}

/// What a reload would do.
#[utoipa::path(get, path = "/v1/diff", responses((status = 200, body = Diff)))]
pub(super) async fn diff(State(api): State<Api>) -> Answer<Diff> {
    let (reply, answer) = oneshot::channel();
    let sent = api.doors.requests.send(Request::Diff(reply)).await;
    sent.map_err(|_| ending())?;
    let diff = answer.await.map_err(|_| ending())?;
    diff.map(Json).map_err(refused)
}

/// Reads the configuration again; the answer says what changed.
#[utoipa::path(post, path = "/v1/reload", params(Reload), responses((status = 200, body = Sentence)))]
pub(super) async fn reload(State(api): State<Api>, query: Asked<Reload>) -> Answer<Sentence> {
    let (reply, answer) = oneshot::channel();
    let request = Request::Reload {
        allow_removals: asked(query)?.allow_removals,
        reply,
    };
    let sent = api.doors.requests.send(request).await;
    sent.map_err(|_| ending())?;
    let summary = answer.await.map_err(|_| ending())?;
    summary
        .map(|summary| Json(Sentence { done: summary }))
        .map_err(refused)
}

/// Hands over all checks and takes no new ones.
#[utoipa::path(post, path = "/v1/drain", responses((status = 200, body = Sentence)))]
pub(super) async fn drain(State(api): State<Api>) -> Answer<Sentence> {
    order(&api, Command::Drain(true), "draining").await
}

/// Takes part again.
#[utoipa::path(post, path = "/v1/undrain", responses((status = 200, body = Sentence)))]
pub(super) async fn undrain(State(api): State<Api>) -> Answer<Sentence> {
    order(&api, Command::Drain(false), "not draining any more").await
}

async fn order(api: &Api, command: Command, done: &str) -> Answer<Sentence> {
    if api.doors.gossip.send(command).await {
        Ok(Json(Sentence { done: done.into() }))
    } else {
        Err(ending())
    }
}
