//! HAProxy's agent checks: an origin's name in, `up`, `down` or a weight
//! out, straight from the table. The conversation is
//! [`watchfire_table::agentcheck`]'s.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use watchfire_table::agentcheck::{BAD_ANSWER, LINE_BYTES, Question, Told, question};
use watchfire_table::{Lookup, Reader, WhenStale};

use super::ControlError;
use super::doors::Lines;
use crate::clock;
use crate::limits::{AGENT_CHECK_CONNECTIONS, AGENT_CHECK_PER_ADDRESS, LINE_PATIENCE};

/// Answers agent checks from now on.
pub(super) fn serve(
    listener: std::net::TcpListener,
    table: &Path,
    state_dir: &Path,
    node: &str,
) -> Result<(), ControlError> {
    let reader = Reader::open(table)?;
    let listener = TcpListener::from_std(listener).map_err(ControlError::Set)?;
    let drains = Drains::load(state_dir.join(format!("{node}.drains")));
    tokio::spawn(accept(listener, Arc::new(reader), drains));
    Ok(())
}

/// What HAProxy was told to drain, and still holds when this agent starts
/// again: a file of names, one a line.
struct Drains {
    told: Told,
    path: PathBuf,
    complained: bool,
}

impl Drains {
    fn load(path: PathBuf) -> Self {
        let names = fs::read(&path).unwrap_or_default();
        let names = names.split(|byte| *byte == b'\n');
        let names = names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        Self {
            told: Told::again(names),
            path,
            complained: false,
        }
    }

    /// The answer; what it drains for the first time is on disk before.
    fn answer(&mut self, name: &[u8], found: &Lookup) -> String {
        let before = self.told.drained().len();
        let answer = self.told.answer(name, found, WhenStale::Static);
        if self.told.drained().len() != before
            && let Err(error) = self.store()
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(
                file = %self.path.display(), %error,
                "cannot keep what HAProxy was told to drain: after a restart of this agent its \
                 weight stays at 0 until it is set by hand; set node.state_dir"
            );
        }
        answer
    }

    fn store(&self) -> std::io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
        for name in self.told.drained() {
            temporary.write_all(name)?;
            temporary.write_all(b"\n")?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(&self.path)?;
        Ok(())
    }
}

async fn accept(listener: TcpListener, reader: Arc<Reader>, drains: Drains) {
    let mut lines = Lines::new(AGENT_CHECK_CONNECTIONS, AGENT_CHECK_PER_ADDRESS);
    let told = Arc::new(Mutex::new(drains));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (reader, told) = (reader.clone(), told.clone());
        let task = tokio::spawn(async move {
            // Whoever is too slow or goes away gets no answer and keeps what
            // it knew.
            let _ = tokio::time::timeout(LINE_PATIENCE, converse(stream, &reader, &told)).await;
        });
        lines.add(peer.ip().to_canonical(), task.abort_handle());
    }
}

async fn converse(
    mut stream: TcpStream,
    reader: &Reader,
    told: &Mutex<Drains>,
) -> std::io::Result<()> {
    let mut received = [0; LINE_BYTES];
    let mut length = 0;
    let reply = loop {
        match question(&received[..length]) {
            Question::Name(name) => {
                let found = reader.get(name, clock::now_ns());
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                break told.answer(name, &found);
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
