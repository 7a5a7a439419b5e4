//! How a proxy in Rust asks the table before it sends a request.
//!
//! `cargo run -p watchfire-table --example reader -- TABLE NAME...`

use std::error::Error;
use std::path::Path;

use watchfire_table::entry::reason_words;
use watchfire_table::{PoolRule, Reader, Usage, WhenStale, monotonic_ns};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: reader TABLE NAME...")?;
    let names: Vec<_> = args.collect();
    // One handle for the whole process: share it by reference between threads.
    // A proxy that may start before its agent uses every origin until the table
    // opens, and tries again once a second.
    let table = Reader::open(Path::new(&path))?;
    // A proxy reads the clock once per request or per turn of its loop.
    let now_ns = monotonic_ns();
    for name in &names {
        let usage = table.usage(name.as_bytes(), now_ns, WhenStale::Static);
        println!("{name}: {}", usage.as_str());
        let found = table.get(name.as_bytes(), now_ns);
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
    // The same as a pool, of which half must be usable.
    let rule = PoolRule {
        share_percent: 50,
        ..PoolRule::default()
    };
    let pool: Vec<_> = names.iter().map(String::as_bytes).collect();
    let mut usages = vec![Usage::default(); pool.len()];
    if table.pool(&pool, now_ns, &rule, &mut usages) {
        println!("panic: too few are usable, so all are used");
    }
    Ok(())
}
