//! Asks a running agent, from a program that is no agent itself.

use std::io;
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;

use super::Verb;
use crate::control::admin::AdminError;
use crate::limits::LOOK_ANSWER;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer, bytes: that of an agent with a million names.
const ANSWER_BYTES: usize = 512 << 20;

/// Asks on this socket, and waits for the answer.
///
/// # Errors
///
/// Nobody answers, or not in time; or why it is refused.
pub(crate) fn ask(socket: &Path, verb: &Verb) -> Result<Value, AdminError> {
    let nobody = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => AdminError::NotAllowed(socket.to_owned()),
        _ => AdminError::NobodyThere(socket.to_owned(), error),
    };
    let patience = match verb {
        Verb::Look(_) => LOOK_ANSWER,
        _ => PATIENCE,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let answered = runtime
        .map_err(nobody)?
        .block_on(async { tokio::time::timeout(patience, talk(socket, verb)).await });
    let (status, body) = match answered {
        Ok(answered) => answered.map_err(nobody)?,
        Err(_) => return Err(AdminError::Silent(socket.to_owned(), patience.as_secs())),
    };
    let refused = body.get("error").and_then(Value::as_str);
    match (status, refused) {
        (StatusCode::OK, _) => Ok(body),
        (StatusCode::FORBIDDEN, _) => Err(AdminError::NotAllowed(socket.to_owned())),
        (_, Some(error)) => Err(AdminError::Refused(error.to_owned())),
        (status, None) => Err(AdminError::Refused(format!("the agent answers {status}"))),
    }
}

async fn talk(socket: &Path, verb: &Verb) -> io::Result<(StatusCode, Value)> {
    let (method, target, body) = request(verb);
    let request = axum::http::Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(io::Error::other)?;
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    let answer = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES)
        .await
        .map_err(io::Error::other)?;
    Ok((status, serde_json::from_slice(&body)?))
}

/// The request that a verb is.
fn request(verb: &Verb) -> (Method, String, String) {
    let get = |path: &str| (Method::GET, path.to_owned(), String::new());
    let with = |method, path: &str, query: Value| {
        let pairs = query.as_object().into_iter().flatten();
        let mut written = form_urlencoded::Serializer::new(String::new());
        for (key, value) in pairs {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            written.append_pair(key, &value);
        }
        (
            method,
            format!("{path}?{}", written.finish()),
            String::new(),
        )
    };
    match verb {
        Verb::Status => get("/v1/status"),
        Verb::Origins => get("/v1/origins"),
        Verb::Diff => get("/v1/diff"),
        Verb::Screen(asked) => with(Method::GET, "/v1/screen", value(asked)),
        Verb::Why(asked) => with(Method::GET, "/v1/why", value(asked)),
        Verb::Events(asked) => with(Method::GET, "/v1/events", value(asked)),
        Verb::Flapping(asked) => with(Method::GET, "/v1/flapping", value(asked)),
        Verb::Overrides(asked) => with(Method::GET, "/v1/overrides", value(asked)),
        Verb::Evictions => get("/v1/evictions"),
        Verb::Look(asked) => with(Method::POST, "/v1/look", value(asked)),
        Verb::Reload(asked) => with(Method::POST, "/v1/reload", value(asked)),
        Verb::Decide(ask) => (
            Method::POST,
            "/v1/overrides".to_owned(),
            value(ask).to_string(),
        ),
        Verb::Drain => (Method::POST, "/v1/drain".to_owned(), String::new()),
        Verb::Undrain => (Method::POST, "/v1/undrain".to_owned(), String::new()),
    }
}

fn value<T: Serialize>(asked: &T) -> Value {
    serde_json::to_value(asked).expect("what is asked is plain data")
}

#[cfg(test)]
mod tests {
    use super::super::{Events, WhyAsked};
    use super::*;

    #[test]
    fn whatever_an_origin_is_called_it_is_asked_for_by_that_name() {
        let asked = WhyAsked {
            origin: "a b&at_ms=1/ä?#".to_owned(),
            at_ms: None,
        };
        let (method, target, body) = request(&Verb::Why(asked));
        assert_eq!(target, "/v1/why?origin=a+b%26at_ms%3D1%2F%C3%A4%3F%23");
        assert_eq!((method, body.as_str()), (Method::GET, ""));
        let (_, target, _) = request(&Verb::Events(Events::default()));
        assert_eq!(target, "/v1/events?after=0&since_ms=0");
    }
}
