//! `watchfire check NAME --everywhere`: one probe by every member, one line of
//! each.

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Agent, Pop};
use watchfire_origin::{Farm, FarmOptions, Fault};
use watchfire_table::TableVerdict::Up;

const PATIENCE: Duration = Duration::from_secs(30);

fn look(agent: &Agent, name: &str) -> (Option<i32>, Vec<Value>) {
    let output = agent.ask(&["check", name, "--everywhere", "--json"]);
    let seen = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), seen)
}

#[test]
fn every_member_says_what_it_sees_and_who_says_nothing_is_named() {
    let farm = Farm::start(FarmOptions {
        count: 2,
        ..FarmOptions::default()
    })
    .unwrap();
    let mut pop = Pop::new(3);
    let origin = |name: &str, n: u32| {
        let address = farm.address(n);
        format!("[[origin]]\nname = \"{name}\"\naddress = \"{address}\"\npath = \"/health\"\n")
    };
    for (place, agent) in pop.agents.iter_mut().enumerate() {
        let rare = if place < 2 {
            origin("rare", 1)
        } else {
            String::new()
        };
        agent.write_origins(&(origin("shop", 0) + &rare));
        agent.start();
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while pop.agents.iter().any(|agent| agent.count(Up) == 0)
        || pop.agents[0].status()["members"].as_array().unwrap().len() < 3
    {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            pop.agents[0].log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }

    let (code, seen) = look(&pop.agents[0], "shop");
    assert_eq!(code, Some(0), "{seen:?}");
    let members: Vec<_> = seen
        .iter()
        .map(|it| it["member"].as_str().unwrap())
        .collect();
    assert_eq!(members, ["node-0", "node-1", "node-2"]);
    for it in &seen {
        assert_eq!(
            (&it["outcome"], &it["status"]),
            (&"pass".into(), &200.into()),
            "{it}"
        );
        assert!(it["total_us"].as_u64().unwrap() > 0, "{it}");
    }
    assert_eq!(seen.iter().filter(|it| it["decides"] == true).count(), 1);

    farm.set_fault(0..1, Fault::Status(503)).unwrap();
    let (code, seen) = look(&pop.agents[1], "shop");
    assert_eq!(code, Some(1), "{seen:?}");
    for it in &seen {
        assert_eq!(
            (&it["reason"], &it["status"]),
            (&"bad_status".into(), &503.into()),
            "{it}"
        );
    }

    // Who does not configure it says so; from there nobody can ask.
    let (code, seen) = look(&pop.agents[0], "rare");
    assert_eq!(code, Some(1), "{seen:?}");
    assert_eq!(seen[2]["outcome"], "not_measured", "{seen:?}");
    let because = seen[2]["because"].as_str().unwrap();
    assert!(because.contains("does not probe this check"), "{because}");
    let output = pop.agents[2].ask(&["check", "rare", "--everywhere"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");

    pop.agents[1].signal(Signal::SIGSTOP);
    let (code, seen) = look(&pop.agents[0], "shop");
    assert_eq!(code, Some(1));
    assert_eq!(seen[1]["member"], "node-1");
    assert_eq!(seen[1]["outcome"], Value::Null, "{seen:?}");
    pop.agents[1].signal(Signal::SIGCONT);
    let text = pop.agents[0].ask(&["check", "shop", "--everywhere"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    farm.stop();
}
