//! Answers HAProxy's agent-check from the table: the agent does the same on
//! its `agent_check` address, this is for trying it and for reading.
//!
//! `cargo run -p watchfire-table --example agentcheck -- TABLE ADDRESS [open]`

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use watchfire_table::agentcheck::{self, LINE_BYTES, Question, Told};
use watchfire_table::{Reader, WhenStale, monotonic_ns};

/// A client that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(1);

#[allow(dead_code)] // The test beside this example calls `serve` alone.
fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (table, address, when_stale) = match &args[..] {
        [table, address] => (table, address, WhenStale::Static),
        [table, address, open] if open == "open" => (table, address, WhenStale::Open),
        _ => return Err("usage: agentcheck TABLE ADDRESS [open]".into()),
    };
    let table = Reader::open(Path::new(table))?;
    serve(&TcpListener::bind(address)?, &table, when_stale);
    Ok(())
}

/// Answers one client after the other, for ever.
pub(crate) fn serve(listener: &TcpListener, table: &Reader, when_stale: WhenStale) {
    let mut told = Told::default();
    for client in listener.incoming() {
        // A client that fails is HAProxy's to notice: it asks again.
        let _ = client.and_then(|client| converse(client, table, when_stale, &mut told));
    }
}

fn converse(
    mut client: TcpStream,
    table: &Reader,
    when_stale: WhenStale,
    told: &mut Told,
) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut received = [0; LINE_BYTES];
    let mut length = 0;
    loop {
        match agentcheck::question(&received[..length]) {
            Question::Incomplete => {}
            Question::Bad => return client.write_all(agentcheck::BAD_ANSWER.as_bytes()),
            Question::Name(name) => {
                let found = table.get(name, monotonic_ns());
                return client.write_all(told.answer(name, &found, when_stale).as_bytes());
            }
        }
        match client.read(&mut received[length..])? {
            0 => return Ok(()),
            read => length += read,
        }
    }
}
