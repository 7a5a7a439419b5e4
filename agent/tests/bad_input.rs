//! Bad input: a clear error with file, line and way out, and nothing lost.

mod support;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Agent, Pop, WATCHFIRE, origins_toml};
use watchfire_origin::{Farm, FarmOptions};
use watchfire_table::TableVerdict::Up;

const PATIENCE: Duration = Duration::from_secs(30);

/// Where a table's file keeps its layout version, by agent/table/LAYOUT.md.
const LAYOUT_VERSION_AT: usize = 8;

/// Starts the agent, which must refuse, and returns what it says.
fn refused(agent: &Agent) -> String {
    let started = Instant::now();
    let output = Command::new(WATCHFIRE)
        .arg("run")
        .arg("--config")
        .arg(agent.config())
        .env("RUST_LOG", "off")
        .output()
        .unwrap();
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: "), "{error}");
    assert!(error.contains("help: "), "no way out in: {error}");
    error
}

/// Replaces a piece of the agent's configuration.
fn line_of(path: &Path, needle: &str) -> usize {
    let text = fs::read_to_string(path).unwrap();
    1 + text.lines().position(|line| line.contains(needle)).unwrap()
}

#[test]
fn mistakes_in_the_agents_file_are_named_by_line() {
    for (from, to, word) in [
        ("[table]\n", "[table]\nsize = 3\n", "size"),
        (
            "bind = \"127",
            "bind = \"localhost:1\" # \"127",
            "not an address and port",
        ),
        (
            "name = \"node-0\"",
            "name = \"node 0\"",
            "cannot be a node's name",
        ),
        ("[probe]", "[probe]\nthreads = 0", "threads"),
        ("[probe]", "[probe]\nbackend = \"dpdk\"", "dpdk"),
        ("[probe]", "[probe]\ndeny = [\"10.0.0.1/8\"]", "10.0.0.0/8"),
        (
            "join = [",
            "join = [\"[2001:db8::1]:7946\", ",
            "another family",
        ),
        (
            "[probe]",
            "[probe]\ndeny = [\"10.0.0.0/33\"]",
            "not a network",
        ),
    ] {
        let pop = Pop::new(1);
        let agent = &pop.agents[0];
        agent.edit(from, to);
        let error = refused(agent);
        let file = agent.config().display().to_string();
        assert!(
            error.contains(&format!("{file}:")),
            "no file and line in: {error}"
        );
        assert!(error.contains(word), "no {word} in: {error}");
    }
}

#[test]
fn gossip_beyond_loopback_without_a_key_is_refused() {
    let pop = Pop::new(1);
    pop.agents[0].edit("key_file = \"../pop.key\"", "");
    pop.agents[0].edit("bind = \"127.", "bind = \"192.");
    assert!(refused(&pop.agents[0]).contains("needs a key"));
}

#[test]
fn mistakes_in_an_origins_file_are_named_by_line() {
    let good = "[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:80\"\n";
    for (text, needle, word) in [
        (
            format!("{good}intervall = \"1s\"\n"),
            "intervall",
            "intervall",
        ),
        (
            format!("{good}interval = \"0s\"\n"),
            "interval",
            "too short",
        ),
        (
            format!("{good}interval = \"-2s\"\n"),
            "interval",
            "negative",
        ),
        (format!("{good}timeout = \"2s\"\n"), "timeout", "timeout"),
        (
            good.replace("127.0.0.1:80", "127.0.0.1"),
            "address",
            "not an address and port",
        ),
        (
            format!("{good}{}", good.replace(":80", ":81")),
            "name",
            "defined differently",
        ),
        (
            format!("{good}[[origin]]\nname = \"b"),
            "\"b",
            "middle of this line",
        ),
    ] {
        let pop = Pop::new(1);
        let agent = &pop.agents[0];
        agent.write_origins(&text);
        let error = refused(agent);
        assert!(error.contains(word), "no {word} in: {error}");
        let mut line = line_of(&agent.origins_file(), needle);
        if word == "defined differently" {
            line += 3;
        }
        let place = format!("{}:{line}:", agent.origins_file().display());
        assert!(error.contains(&place), "no {place} in: {error}");
    }
}

#[test]
fn keys_ports_and_tables_that_cannot_be_had_are_refused() {
    let pop = Pop::new(1);
    let agent = &pop.agents[0];

    agent.edit("../pop.key", "../no.key");
    assert!(refused(agent).contains("no.key"));
    let bad_key = pop.path().join("bad.key");
    fs::write(&bad_key, "1 short\n").unwrap();
    fs::set_permissions(&bad_key, PermissionsExt::from_mode(0o600)).unwrap();
    agent.edit("../no.key", "../bad.key");
    assert!(refused(agent).contains("bad.key"));
    agent.edit("../bad.key", "../pop.key");

    let taken = UdpSocket::bind(agent.gossip).unwrap();
    assert!(refused(agent).contains("another process has this port"));
    drop(taken);
    let taken = TcpListener::bind(agent.gossip).unwrap();
    assert!(refused(agent).contains("another process has this port"));
    drop(taken);

    agent.edit("path = \"table\"", "path = \"/proc/table\"");
    assert!(refused(agent).contains("/proc"));
    agent.edit("path = \"/proc/table\"", "path = \"table\"");
    fs::write(
        agent.table(),
        "this is no table, but somebody's file\n".repeat(400),
    )
    .unwrap();
    refused(agent);
    let kept = fs::read_to_string(agent.table()).unwrap();
    assert!(
        kept.starts_with("this is no table"),
        "a foreign file was changed"
    );
}

#[test]
fn a_table_of_another_layout_version_is_refused_by_both_sides() {
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    agent.start();
    let deadline = Instant::now() + PATIENCE;
    while watchfire_table::Reader::open(&agent.table()).is_err() {
        assert!(Instant::now() < deadline, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.stop();
    let mut bytes = fs::read(agent.table()).unwrap();
    bytes[LAYOUT_VERSION_AT] += 1;
    fs::write(agent.table(), bytes).unwrap();
    assert!(refused(agent).contains("version"));
    let output = agent.ask(&["table", "dump"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("version"), "{error}");
}

#[test]
fn a_running_agent_keeps_the_old_configuration_when_the_new_one_is_refused() {
    let farm = Farm::start(FarmOptions {
        count: 3,
        ..FarmOptions::default()
    })
    .unwrap();
    let origins = |count: u32| -> String {
        (0..count)
            .map(|i| {
                format!(
                    "[[origin]]\nname = \"o{i}\"\naddress = \"{}\"\n",
                    farm.address(i)
                )
            })
            .collect()
    };
    let mut pop = Pop::new(1);
    pop.agents[0].write_origins(&origins(2));
    pop.agents[0].start();
    pop.wait_for(Up, 2, PATIENCE);

    let agent = &pop.agents[0];
    fs::write(
        agent.origins_file(),
        format!("{}[[origin]]\nna", origins(2)),
    )
    .unwrap();
    let output = agent.ask(&["reload"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("middle of this line"), "{error}");
    let status = agent.status();
    assert_eq!(status["origins"], 2);
    assert!(
        status["config_error"]
            .as_str()
            .unwrap()
            .contains("middle of this line")
    );
    assert_eq!(agent.count(Up), 2);

    agent.write_origins(&origins(3));
    assert!(agent.ask(&["reload"]).status.success());
    pop.wait_for(Up, 3, PATIENCE);
    assert!(pop.agents[0].status()["config_error"].is_null());
    let answer = pop.agents[0].ask(&["why", "o2"]);
    assert!(
        String::from_utf8(answer.stdout)
            .unwrap()
            .contains("o2 is up")
    );
    farm.stop();
}

#[test]
fn of_two_agents_with_one_name_the_newcomer_gives_way_with_an_error() {
    let mut pop = Pop::new(3);
    for agent in &mut pop.agents[..2] {
        agent.start();
    }
    wait_for_members(&pop.agents[0], 2);
    pop.agents[2].edit("node-2", "node-1");
    pop.agents[2].start();
    let ended = pop.agents[2]
        .wait_for_end(PATIENCE)
        .expect("the newcomer goes on");
    assert_eq!(ended.code(), Some(2));
    let log = pop.agents[2].log();
    assert!(log.contains("node-1") && log.contains("help: "), "{log}");
    assert!(pop.agents[1].is_running(), "{}", pop.agents[1].log());
}

#[test]
fn bytes_that_do_not_authenticate_are_counted_and_draw_no_reply() {
    let mut pop = Pop::new(1);
    pop.agents[0].start();
    wait_for_members(&pop.agents[0], 1);
    let before = refused_frames(&pop.agents[0]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut junk = vec![0x5a; 1_400];
    for length in [0, 1, 31, 32, 47, 48, 100, 1_400] {
        junk[0] = length as u8;
        socket
            .send_to(&junk[..length], pop.agents[0].gossip)
            .unwrap();
    }
    assert!(socket.recv(&mut [0; 2_048]).is_err(), "junk drew a reply");
    let counted = refused_frames(&pop.agents[0]) - before;
    assert_eq!(counted, 8, "every refused frame is counted");
}

fn refused_frames(agent: &Agent) -> u64 {
    let status = agent.status();
    let counters = status["counters"].as_object().unwrap();
    counters
        .iter()
        .filter(|(name, _)| name.starts_with("frames_refused"))
        .map(|(_, count)| count.as_u64().unwrap())
        .sum()
}

fn wait_for_members(agent: &Agent, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if agent.home.join("admin.sock").exists() && agent.ask(&["status"]).status.success() {
            let status = agent.status();
            let members = status["members"].as_array().unwrap();
            if members
                .iter()
                .filter(|member| member["state"] == "alive")
                .count()
                == count
            {
                return;
            }
        }
        assert!(Instant::now() < deadline, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn origins_files_written_by_tests_are_what_agents_read() {
    // The other tests build on it: a helper that wrote nothing would prove
    // nothing.
    let pop = Pop::new(1);
    pop.agents[0].write_origins(&origins_toml(0..300, 80));
    let output = Command::new(WATCHFIRE)
        .args(["config", "check", "--json"])
        .arg(pop.agents[0].config())
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["origins"], 300);
    assert_eq!(answer["checks"], 300);
}
