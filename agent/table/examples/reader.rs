//! How a proxy in Rust asks the table before it sends a request.
//!
//! `cargo run -p watchfire-table --example reader -- TABLE NAME...`

use std::error::Error;
use std::path::Path;

use watchfire_table::entry::reason_words;
use watchfire_table::{Lookup, Reader, TableVerdict, monotonic_ns};

/// What to do with an origin.
#[derive(Debug)]
enum Use {
    Send,
    SendNone,
    KeepWhatYouKnew,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: reader TABLE NAME...")?;
    // One handle for the whole process: share it by reference between threads.
    let table = Reader::open(Path::new(&path))?;
    for name in args {
        // A proxy reads the clock once per request or per turn of its loop.
        let found = table.get(name.as_bytes(), monotonic_ns());
        println!("{name}: {:?}", decide(&found));
        if let Some(entry) = found.entry() {
            let owner = entry.owner.and_then(|owner| table.owner_name(owner));
            println!(
                "  {} because {}, says {}",
                entry.verdict,
                reason_words(entry.reason),
                owner.as_deref().unwrap_or("an unknown node"),
            );
        }
        if !found.freshness().fresh {
            println!("  but the agent has been silent: these are its last words");
        }
    }
    Ok(())
}

/// Fail static: a stale table's last verdicts hold. A proxy that prefers to
/// fail open sends whenever the table is not fresh.
fn decide(found: &Lookup) -> Use {
    match found {
        Lookup::Found { entry, .. } => match entry.verdict {
            TableVerdict::Up | TableVerdict::Unknown => Use::Send,
            TableVerdict::Down | TableVerdict::Draining => Use::SendNone,
        },
        Lookup::NotInTable { .. } => Use::Send,
        Lookup::Busy { .. } => Use::KeepWhatYouKnew,
    }
}
