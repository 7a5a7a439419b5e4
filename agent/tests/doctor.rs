//! `doctor` finds what is wrong here and in the POP, and says what to do.

mod support;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use support::{Agent, Pop};

const PATIENCE: Duration = Duration::from_secs(30);

/// The exit status, and what is wrong: what it is about, what was found.
fn doctor(agent: &Agent, more: &[&str]) -> (Option<i32>, Vec<(String, String)>) {
    let output = agent.ask(&[&["doctor", "--json"], more].concat());
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let all = answer["findings"].as_array().unwrap();
    let text = |it: &serde_json::Value, key: &str| it[key].as_str().unwrap().to_owned();
    for finding in all {
        assert_eq!(
            finding["next"].is_null(),
            finding["weight"] == "ok",
            "{finding}"
        );
    }
    let wrong = all.iter().filter(|it| it["weight"] == "wrong");
    let wrong = wrong
        .map(|it| (text(it, "what"), text(it, "found")))
        .collect();
    (output.status.code(), wrong)
}

/// Waits until it finds this.
fn wait_for(agent: &Agent, what: &str, part: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (code, wrong) = doctor(agent, &["--pop"]);
        if wrong
            .iter()
            .any(|(it, found)| it == what && found.contains(part))
        {
            assert_eq!(code, Some(1));
            return;
        }
        assert!(Instant::now() < deadline, "{wrong:?}\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_host_in_order_a_taken_port_and_a_broken_file() {
    let pop = Pop::new(1);
    let agent = &pop.agents[0];
    agent.write_origins("");
    let (code, wrong) = doctor(agent, &[]);
    assert_eq!((code, wrong), (Some(0), Vec::new()));
    // Without an agent nothing is known of the POP.
    let (code, wrong) = doctor(agent, &["--pop"]);
    assert_eq!((code, wrong[0].0.as_str()), (Some(1), "agent"));
    let text = String::from_utf8(agent.ask(&["doctor"]).stdout).unwrap();
    for what in [
        "kernel",
        "io_uring",
        "open files",
        "clock",
        "mtu",
        "table",
        "port",
    ] {
        assert!(text.contains(what), "no {what} in\n{text}");
    }

    let bind = std::fs::read_to_string(agent.config()).unwrap();
    let bind = bind
        .lines()
        .find_map(|line| line.strip_prefix("bind = "))
        .unwrap();
    let taken = UdpSocket::bind(bind.trim().trim_matches('"')).unwrap();
    let (code, wrong) = doctor(agent, &[]);
    assert_eq!((code, wrong[0].0.as_str()), (Some(1), "port"), "{wrong:?}");
    drop(taken);

    agent.write_origins("[[origin]]\nname = 7\n");
    let (code, wrong) = doctor(agent, &[]);
    assert_eq!(code, Some(1));
    assert!(
        wrong[0].0 == "configuration" && wrong[0].1.contains("origins.toml"),
        "{wrong:?}"
    );
}

#[test]
fn who_is_missing_and_who_is_behind_in_the_pop() {
    let mut pop = Pop::new(3);
    for agent in &mut pop.agents {
        agent.write_origins("[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:9\"\n");
        agent.start();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (code, wrong) = doctor(&pop.agents[0], &["--pop"]);
        let members = pop.agents[0].ask(&["doctor", "--pop"]);
        let members = String::from_utf8(members.stdout).unwrap();
        let all = ["3 live", "all 3 hold", "3 agree", "2 answer this agent"];
        if code == Some(0) && all.iter().all(|part| members.contains(part)) {
            break;
        }
        assert!(Instant::now() < deadline, "{wrong:?}\n{members}");
        std::thread::sleep(Duration::from_millis(200));
    }
    pop.agents[1].write_origins("[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:8\"\n");
    wait_for(&pop.agents[0], "configuration", "hold another");
    pop.agents[2].kill();
    wait_for(&pop.agents[0], "members", "node-2 is missing");
}
