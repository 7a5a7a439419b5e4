//! What is kept of each origin: told by `why`, `events` and `flapping`, written to a
//! file of events, and there again after an agent was killed.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use support::{Agent, Pop};
use watchfire_origin::{Farm, FarmOptions, Fault};
use watchfire_table::TableVerdict::{Down, Up};

const PATIENCE: Duration = Duration::from_secs(30);

fn lines(agent: &Agent, verb: &[&str]) -> Vec<serde_json::Value> {
    let output = agent.ask(verb);
    assert!(output.status.success(), "{output:?}\n{}", agent.log());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits until the transitions of an origin are these, by what it turned to.
fn wait_for_events(agent: &Agent, name: &str, expected: &[&str]) -> Vec<serde_json::Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = lines(agent, &["events", "--json", "--name", name]);
        let told: Vec<_> = events.iter().map(|it| it["to"].as_str().unwrap()).collect();
        if told == expected {
            return events;
        }
        assert!(Instant::now() < deadline, "{told:?} is not {expected:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_story_of_an_origin_is_told_by_every_member_and_survives_a_kill() {
    let farm = Farm::start(FarmOptions {
        count: 4,
        ..FarmOptions::default()
    })
    .unwrap();
    let origins: String = (0..4)
        .map(|n| {
            let address = farm.address(n);
            format!(
                "[[origin]]\nname = \"o-{n}\"\naddress = \"{address}\"\npath = \"/health\"\n\
                 interval = \"500ms\"\n"
            )
        })
        .collect();
    let mut pop = Pop::new(3);
    for agent in &mut pop.agents {
        agent.edit("[origins]", "[events]\nfile = \"events.jsonl\"\n[origins]");
        agent.write_origins(&origins);
        agent.start();
    }
    pop.wait_for(Up, 4, PATIENCE);
    let before_ms = now_ms();
    farm.set_fault(1..2, Fault::Status(503)).unwrap();
    pop.wait_for(Down, 1, PATIENCE);
    farm.clear_fault(1..2).unwrap();
    pop.wait_for(Up, 4, PATIENCE);

    let mut told = Vec::new();
    for agent in &pop.agents {
        let events = wait_for_events(agent, "o-1", &["up", "down", "up"]);
        assert_eq!(events[1]["reason"], "bad_status");
        // One name everywhere, whoever tells it.
        told.push(events.iter().map(|it| it["id"].clone()).collect::<Vec<_>>());
        let why = &lines(agent, &["why", "o-1", "--json"])[0];
        assert_eq!(why["history"].as_array().unwrap().len(), 3);
        let flaps = &lines(agent, &["flapping", "--json"])[0];
        assert_eq!(flaps[0][0], "o-1");
    }
    assert!(told.iter().all(|ids| *ids == told[0]), "{told:?}");

    // Who probes it remembers each probe, and what came when it turned.
    let prober = pop
        .agents
        .iter()
        .find(|agent| lines(agent, &["why", "o-1", "--json"])[0]["probed_here"] == true);
    let prober = prober.expect("somebody probes it");
    let why = &lines(prober, &["why", "o-1", "--json"])[0];
    assert!(
        why["sent"]
            .as_str()
            .unwrap()
            .starts_with("GET /health HTTP/1.1\nHost: ")
    );
    let probes = why["probes"].as_array().unwrap();
    let seen = |outcome: &str| probes.iter().filter(|it| it["outcome"] == outcome).count();
    assert!((3..=64).contains(&probes.len()), "{probes:?}");
    assert!(seen("fail") >= 3 && seen("pass") >= 2, "{probes:?}");
    let failed = probes.iter().find(|it| it["outcome"] == "fail").unwrap();
    assert_eq!(
        (&failed["reason"], &failed["status"]),
        (&"bad_status".into(), &503.into())
    );
    assert!(failed["connect_us"].as_u64().unwrap() <= failed["total_us"].as_u64().unwrap());
    let times: Vec<_> = probes
        .iter()
        .map(|it| it["at_ms"].as_u64().unwrap())
        .collect();
    assert!(
        times.is_sorted() && now_ms() - times[times.len() - 1] < 10_000,
        "{times:?}"
    );
    let down = why["answers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["to"] == "down");
    let head = down.expect("it turned down here")["head"].as_str().unwrap();
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    let text = String::from_utf8(prober.ask(&["why", "o-1"]).stdout).unwrap();
    assert!(
        text.contains("  | HTTP/1.1 503") && text.contains("failed (x)"),
        "{text}"
    );

    // Who decided knows whom it asked; the two others were reached by the fault, too.
    let down_by = |agent: &Agent| {
        let events = lines(agent, &["events", "--json", "--name", "o-1"]);
        events[1]["opinions"].as_array().map_or(0, Vec::len)
    };
    let asked: Vec<_> = pop.agents.iter().map(down_by).collect();
    assert_eq!(
        asked.iter().filter(|count| **count > 0).count(),
        1,
        "{asked:?}"
    );

    // Each event stands in one file of the POP, and Downs are warnings there.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let files = pop
            .agents
            .iter()
            .map(|agent| agent.home.join("events.jsonl"));
        let all: String = files
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .collect();
        if all.lines().count() == 6 {
            break;
        }
        assert!(
            Instant::now() < deadline && all.lines().count() < 6,
            "{all}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let said: usize = pop
        .agents
        .iter()
        .map(|agent| agent.log().matches("to=\"down\"").count())
        .sum();
    assert_eq!(said, 1);

    // Killed, and it knows what it knew.
    let agent = &mut pop.agents[0];
    agent.kill();
    agent.start();
    let deadline = Instant::now() + PATIENCE;
    while !agent.ask(&["status"]).status.success() {
        assert!(Instant::now() < deadline, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let events = lines(agent, &["events", "--json", "--name", "o-1"]);
    let told: Vec<_> = events.iter().map(|it| it["to"].as_str().unwrap()).collect();
    assert!(told.starts_with(&["up", "down", "up"]), "{told:?}");
    let at = humantime(before_ms);
    let why = agent.ask(&["why", "o-1", "--at", &at]);
    let text = String::from_utf8(why.stdout).unwrap();
    assert!(text.starts_with("o-1 was up at "), "{text}");
    let never = agent.ask(&["why", "o-1", "--at", "2001-01-01T00:00:00Z"]);
    assert_eq!(never.status.code(), Some(1));
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// So long ago, as `--at` reads it.
fn humantime(ms: u64) -> String {
    format!("{}ms", now_ms() - ms)
}
