//! HAProxy's agent checks: an origin's name in, `up`, `down` or a weight
//! out, straight from the table. The conversation is
//! [`watchfire_table::agentcheck`]'s.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use watchfire_table::agentcheck::{BAD_ANSWER, LINE_BYTES, Question, Told, question};
use watchfire_table::{Reader, WhenStale};

use super::ControlError;
use crate::clock;
use crate::limits::{AGENT_CHECK_CONNECTIONS, LINE_PATIENCE};

/// Answers agent checks from now on.
pub(super) fn serve(listener: std::net::TcpListener, table: &Path) -> Result<(), ControlError> {
    let reader = Reader::open(table)?;
    let listener = TcpListener::from_std(listener).map_err(ControlError::Set)?;
    tokio::spawn(accept(listener, Arc::new(reader)));
    Ok(())
}

async fn accept(listener: TcpListener, reader: Arc<Reader>) {
    let places = Arc::new(Semaphore::new(AGENT_CHECK_CONNECTIONS));
    let told = Arc::new(Mutex::new(Told::default()));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let (reader, told) = (reader.clone(), told.clone());
        tokio::spawn(async move {
            // Whoever is too slow or goes away gets no answer and keeps what
            // it knew.
            let _ = tokio::time::timeout(LINE_PATIENCE, converse(stream, &reader, &told)).await;
            drop(place);
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    reader: &Reader,
    told: &Mutex<Told>,
) -> std::io::Result<()> {
    let mut received = [0; LINE_BYTES];
    let mut length = 0;
    let reply = loop {
        match question(&received[..length]) {
            Question::Name(name) => {
                let found = reader.get(name, clock::now_ns());
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                break told.answer(name, &found, WhenStale::Static);
            }
            Question::Bad => break BAD_ANSWER.to_owned(),
            Question::Incomplete => {}
        }
        let count = stream.read(&mut received[length..]).await?;
        if count == 0 {
            return Ok(());
        }
        length += count;
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}
