//! The verbs that people type, run as people run them.

mod support;

use std::process::Output;
use std::time::Duration;

use support::{Pop, watchfire};
use watchfire_origin::{Farm, FarmOptions, Fault, Phase};
use watchfire_table::TableVerdict::{Down, Up};

const PATIENCE: Duration = Duration::from_secs(30);

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn every_verb_explains_itself() {
    for verb in [
        "run", "demo", "check", "status", "why", "events", "flapping", "reload", "drain",
        "undrain", "origin", "member", "freeze", "unfreeze", "table", "config", "key", "bench",
        "doctor", "top", "page",
    ] {
        let output = watchfire(&[verb, "--help"]);
        assert!(output.status.success(), "{verb}");
        assert!(output.stdout.len() > 100, "{verb} says little");
    }
    let output = watchfire(&["runn"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("run"));
}

#[test]
fn pages_and_completions_are_made_from_the_verbs() {
    let dir = tempfile::tempdir().unwrap();
    let output = watchfire(&["generate", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    for (file, word) in [
        ("man1/watchfire.1", "watchfire"),
        ("man1/watchfire-config-check.1", "Exit status"),
        ("man1/watchfire-reload.1", "allow-removals"),
        ("completions/watchfire.bash", "undrain"),
        ("completions/_watchfire", "undrain"),
        ("completions/watchfire.fish", "undrain"),
    ] {
        let text = std::fs::read_to_string(dir.path().join(file)).unwrap();
        let text = text.replace('\\', "");
        assert!(text.contains(word), "no {word} in {file}");
    }
}

#[test]
fn an_agent_that_does_not_answer_is_told_apart_from_none() {
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    let none = agent.ask(&["status"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("is it running?"));
    agent.start();
    let deadline = std::time::Instant::now() + PATIENCE;
    while !agent.ask(&["status"]).status.success() {
        assert!(std::time::Instant::now() < deadline, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    let silent = agent.ask(&["status"]);
    let said = String::from_utf8(silent.stderr).unwrap();
    assert!(said.contains("did not answer within 10 s"), "{said}");
    agent.signal(nix::sys::signal::Signal::SIGCONT);
    assert!(agent.ask(&["status"]).status.success());
}

#[test]
fn check_probes_a_configured_origin_as_its_agent_would() {
    let farm = Farm::start(FarmOptions {
        count: 2,
        ..FarmOptions::default()
    })
    .unwrap();
    farm.set_fault(1..2, Fault::Status(503)).unwrap();
    let pop = Pop::new(1);
    let agent = &pop.agents[0];
    let origin = |name: &str, addr: &str, more: &str| {
        format!("[[origin]]\nname = \"{name}\"\naddress = \"{addr}\"\n{more}\n")
    };
    let (good, bad) = (farm.address(0).to_string(), farm.address(1).to_string());
    let by_default = "expect = \"2xx\"\n";
    agent.write_origins(
        &[
            origin("good", &good, by_default),
            origin("slow", &good, "degraded_status = \"200\"\n"),
            origin("bad", &bad, by_default),
            origin("forgiven", &bad, "expect = \"503\"\n"),
            origin("denied", "169.254.169.254:80", ""),
            origin("no-way", &good, "interface = \"nowhere0\"\n"),
        ]
        .concat(),
    );
    let config = agent.config();
    let config = config.to_str().unwrap();
    for (name, code, outcome, reason) in [
        ("good", 0, "pass", "passed"),
        ("slow", 0, "pass", "passed"),
        ("bad", 1, "fail", "bad_status"),
        ("forgiven", 0, "pass", "passed"),
        ("denied", 1, "not_measured", "denied"),
        ("no-way", 1, "not_measured", "no_way"),
    ] {
        let output = watchfire(&["check", name, "--config", config, "--json"]);
        assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
        let answer = json(&output);
        assert_eq!(answer["outcome"], outcome, "{name}: {answer}");
        assert_eq!(answer["reason"], reason, "{name}: {answer}");
        assert_eq!(answer["degraded"], name == "slow", "{answer}");
        let text = watchfire(&["check", name, "--config", config]);
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.starts_with("GET http://"), "{text}");
    }
    let output = watchfire(&["check", "nobody", "--config", config]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("names no origin \"nobody\""), "{said}");
}

#[test]
fn a_dump_shows_the_verdicts_and_names_that_are_asked_for() {
    let farm = Farm::start(FarmOptions {
        count: 3,
        ..FarmOptions::default()
    })
    .unwrap();
    farm.set_fault(1..2, Fault::Status(503)).unwrap();
    let mut pop = Pop::new(1);
    let origin = |n: u32| {
        let address = farm.address(n);
        format!("[[origin]]\nname = \"shop-{n}\"\naddress = \"{address}\"\npath = \"/\"\n")
    };
    let nobody = "[[origin]]\nname = \"blog\"\naddress = \"169.254.169.254:80\"\n".to_owned();
    pop.agents[0].write_origins(&[origin(0), origin(1), origin(2), nobody].concat());
    pop.agents[0].start();
    pop.wait_for(Up, 2, PATIENCE);
    pop.wait_for(Down, 1, PATIENCE);
    let table = pop.agents[0].table();
    for (more, expected) in [
        (&[][..], &["blog", "shop-0", "shop-1", "shop-2"][..]),
        (&["--verdict", "down"], &["shop-1"]),
        (&["--verdict", "down,unknown"], &["blog", "shop-1"]),
        (&["--verdict", "up", "--name", "*-[12]"], &["shop-2"]),
        (&["--name", "nobody"], &[]),
    ] {
        let table = [
            "table",
            "dump",
            "--json",
            "--table",
            table.to_str().unwrap(),
        ];
        let dump = json(&watchfire(&[&table[..], more].concat()));
        let names: Vec<_> = dump["origins"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].clone())
            .collect();
        assert_eq!(names, expected, "{more:?}");
    }
    let refused = watchfire(&["table", "dump", "--verdict", "dead"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
fn a_drain_is_waited_for_and_a_lone_agent_says_why_it_cannot_end() {
    let farm = Farm::start(FarmOptions {
        count: 60,
        ..FarmOptions::default()
    })
    .unwrap();
    let mut pop = Pop::new(3);
    let origin = |n: u32| {
        let address = farm.address(n);
        format!("[[origin]]\nname = \"shop-{n}\"\naddress = \"{address}\"\n")
    };
    for agent in &mut pop.agents {
        agent.write_origins(&(0..60).map(origin).collect::<String>());
        agent.start();
    }
    pop.wait_for(Up, 60, PATIENCE);
    let probed = |agent: &support::Agent| agent.status()["checks_probed"].as_u64();
    assert!(probed(&pop.agents[0]) > Some(0));

    let said = pop.agents[0].ask(&["drain", "--wait"]);
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{said:?}");
    assert!(text.contains("others have taken over all "), "{text}");
    assert_eq!(probed(&pop.agents[0]), Some(0));
    let done = json(&pop.agents[1].ask(&["drain", "--wait=30s", "--json"]));
    assert_eq!(done["ok"], "drained");
    assert_eq!(probed(&pop.agents[2]), Some(60));

    // Who is the last one keeps them, and says why.
    let said = pop.agents[2].ask(&["drain", "--wait=1s"]);
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(text.contains("60 checks are still probed here"), "{text}");
    assert!(text.contains("no other member could take them"), "{text}");
    assert!(text.contains("watchfire undrain"), "{text}");
    assert!(pop.agents[2].ask(&["undrain"]).status.success());
    assert_eq!(pop.agents[2].count(Up), 60);
}

#[test]
fn the_version_is_that_of_the_package_first() {
    let output = watchfire(&["--version"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let version = concat!("watchfire ", env!("CARGO_PKG_VERSION"));
    assert!(said.starts_with(version), "{said}");
    // C programs ask pkg-config.
    let pc = include_str!("../table/include/watchfire-table.pc");
    assert!(pc.contains(concat!("\nVersion: ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn check_tells_the_phases_and_the_reason() {
    let farm = Farm::start(FarmOptions {
        count: 4,
        ..FarmOptions::default()
    })
    .unwrap();
    farm.set_fault(1..2, Fault::Status(503)).unwrap();
    farm.set_fault(2..3, Fault::Reset(Phase::Request)).unwrap();
    farm.set_fault(3..4, Fault::Refuse).unwrap();
    for (index, code, outcome, reason) in [
        (0, 0, "pass", "passed"),
        (1, 1, "fail", "bad_status"),
        (2, 1, "fail", "receive_reset"),
        (3, 1, "fail", "connect_refused"),
    ] {
        let url = format!("http://{}/health", farm.address(index));
        let output = watchfire(&["check", &url, "--json"]);
        let answer = json(&output);
        assert_eq!(output.status.code(), Some(code), "{answer}");
        assert_eq!(answer["outcome"], outcome, "{answer}");
        assert_eq!(answer["reason"], reason, "{answer}");
        assert!(answer["total_us"].as_u64().unwrap() > 0, "{answer}");
        if index == 0 {
            let us = |key: &str| answer[key].as_u64().unwrap();
            assert!(us("connect_us") <= us("first_byte_us"), "{answer}");
            assert!(us("first_byte_us") <= us("total_us"), "{answer}");
        }
        let text = watchfire(&["check", &url]);
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains("total"));
        let heard = index < 2;
        assert_eq!(text.contains("| GET /health HTTP/1.1"), index < 3, "{text}");
        assert_eq!(text.contains("| HTTP/1.1 "), heard, "{text}");
        let came = &answer["tape"]["received"]["bytes"];
        assert_eq!(came.as_u64().unwrap() > 0, heard, "{answer}");
    }
    let output = watchfire(&["check", &farm.address(0).to_string(), "--json"]);
    assert_eq!(json(&output)["outcome"], "pass", "a TCP check");
    let output = watchfire(&["check", "ftp://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("help: "));
    farm.stop();
}

#[test]
fn the_table_is_read_with_no_agents_help() {
    let farm = Farm::start(FarmOptions {
        count: 2,
        ..FarmOptions::default()
    })
    .unwrap();
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    agent.write_origins(&format!(
        "[[origin]]\nname = \"a\"\naddress = \"{}\"\n[[origin]]\nname = \"b\"\naddress = \"{}\"\n",
        farm.address(0),
        farm.address(1)
    ));
    agent.start();
    pop.wait_for(Up, 2, PATIENCE);
    let agent = &mut pop.agents[0];
    assert!(agent.status()["table"].as_str().unwrap().ends_with("table"));
    agent.kill();

    let answer = json(&agent.ask(&["table", "get", "a", "--json"]));
    assert_eq!(
        (&answer["verdict"], &answer["owner"]),
        (&"up".into(), &"node-0".into())
    );
    let output = agent.ask(&["table", "get", "nobody", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["verdict"], "not_in_table");
    let dump = json(&agent.ask(&["table", "dump", "--json"]));
    assert_eq!(dump["origins"].as_array().unwrap().len(), 2);
    let text = agent.ask(&["table", "dump"]);
    assert!(String::from_utf8(text.stdout).unwrap().contains("node-0"));
    let stat = json(&agent.ask(&["table", "stat", "--json"]));
    assert_eq!(
        (&stat["names"], &stat["writer"]),
        (&2.into(), &"node-0".into())
    );
    let verify = agent.ask(&["table", "verify", "--json"]);
    assert!(verify.status.success());
    assert_eq!(json(&verify)["live"], 2);
    farm.stop();
}

#[test]
fn a_goodbye_ends_the_agent_in_good_order() {
    let mut pop = Pop::new(1);
    pop.agents[0].start();
    let deadline = std::time::Instant::now() + PATIENCE;
    while !pop.agents[0].home.join("admin.sock").exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            pop.agents[0].log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = pop.agents[0].stop();
    assert!(status.success(), "{}", pop.agents[0].log());
    assert!(
        !pop.agents[0].home.join("admin.sock").exists(),
        "the socket stays"
    );
    let output = pop.agents[0].ask(&["status"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("is it running?")
    );
}
