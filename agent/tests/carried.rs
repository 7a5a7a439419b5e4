//! A verdict outlives what befalls the agent and its configuration: an origin
//! that is Down is never shown Up or Unknown meanwhile, nor the reverse.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use support::origin::{Does, Origin};
use support::{Agent, Pop};
use watchfire_table::{Reader, TableVerdict, monotonic_ns};

const PATIENCE: Duration = Duration::from_secs(20);

/// Checks that are probed seldom: what is shown between probes is the point.
fn origins(origin: &Origin, good: &str, timeout: &str) -> String {
    [(good, "/good"), ("bad", "/bad")]
        .map(|(name, path)| {
            format!(
                "[[origin]]\nname = \"{name}\"\naddress = \"{}\"\npath = \"{path}\"\n\
                 interval = \"3s\"\ntimeout = \"{timeout}\"\nfast_interval = \"1s\"\n\n",
                origin.addr
            )
        })
        .concat()
}

/// What the table shows of these names while something is done to the agent,
/// and for so long afterwards.
fn seen(
    agent: &mut Agent,
    names: [&str; 2],
    then: Duration,
    act: impl FnOnce(&mut Agent),
) -> [BTreeSet<String>; 2] {
    let table = agent.table();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = [BTreeSet::new(), BTreeSet::new()];
            while !done.load(Ordering::Relaxed) {
                for (name, seen) in names.iter().zip(&mut seen) {
                    let reader = Reader::open(&table).unwrap();
                    // A name that is not there yet has no verdict.
                    if let Some(entry) = reader.get(name.as_bytes(), monotonic_ns()).entry() {
                        seen.insert(format!("{:?}", entry.verdict));
                    }
                }
                sleep(Duration::from_millis(5));
            }
            seen
        });
        act(agent);
        sleep(then);
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    })
}

#[test]
fn one_verdict_is_shown_whatever_befalls_the_agent() {
    let origin = Origin::new("127.47.0.1", |path| match path {
        "/good" => Does::Status(200),
        _ => Does::Status(503),
    });
    let mut pop = Pop::new(1);
    pop.agents[0].write_origins(&origins(&origin, "good", "900ms"));
    pop.agents[0].start();
    pop.wait_for(TableVerdict::Up, 1, PATIENCE);
    pop.wait_for(TableVerdict::Down, 1, PATIENCE);
    let agent = &mut pop.agents[0];
    let only = |verdict: &str| BTreeSet::from([verdict.to_owned()]);
    let expected = [only("Up"), only("Down")];
    let then = Duration::from_secs(5);

    let names = ["good", "bad"];
    let reloaded = seen(agent, names, Duration::from_secs(1), |agent| {
        assert!(agent.ask(&["reload"]).status.success());
    });
    assert_eq!(reloaded, expected, "reloaded");
    let changed = seen(agent, names, then, |agent| {
        agent.write_origins(&origins(&origin, "good", "800ms"));
    });
    assert_eq!(changed, expected, "another definition");
    let ended = seen(agent, names, then, |agent| {
        agent.stop();
        agent.start();
    });
    assert_eq!(ended, expected, "ended and started");
    let killed = seen(agent, names, then, |agent| {
        agent.kill();
        agent.start();
    });
    assert_eq!(killed, expected, "killed and started");
    let renamed = seen(agent, ["new", "bad"], then, |agent| {
        agent.write_origins(&origins(&origin, "new", "800ms"));
    });
    assert_eq!(renamed, expected, "renamed");
}
