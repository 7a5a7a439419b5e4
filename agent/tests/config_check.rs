//! `config check` and `run` refuse the same, by the same words, and a start
//! that fails leaves nothing behind.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGHUP;
use support::{Agent, Pop, WATCHFIRE};

const PATIENCE: Duration = Duration::from_secs(20);

fn check(agent: &Agent) -> Output {
    let mut check = Command::new(WATCHFIRE);
    let check = check.args(["config", "check"]).arg(agent.config());
    check.env("RUST_LOG", "off").output().unwrap()
}

fn run(agent: &Agent) -> Output {
    let mut run = Command::new(WATCHFIRE);
    let run = run.args(["run", "--config"]).arg(agent.config());
    run.env("RUST_LOG", "off").output().unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

const GOOD: &str = "[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:9\"\n";

#[test]
fn both_refuse_the_same_by_the_same_words() {
    let probe = |line: &str| ("[probe]".to_owned(), format!("[probe]\n{line}"));
    let table = |line: &str| ("[table]".to_owned(), format!("[table]\n{line}"));
    let swap = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let cases = [
        (probe("tls_roots = \"nowhere.pem\""), "nowhere.pem"),
        (probe("tls_roots = \"agent.toml\""), "no usable certificate"),
        (probe("pin_cores = [999]"), "core 999"),
        (probe("pin_cores = []"), "core"),
        (probe("source_addresses = [\"192.0.2.77\"]"), "192.0.2.77"),
        (probe("threads = 65"), "threads = 65"),
        (probe("in_flight_max = 0"), "in_flight_max"),
        (probe("port_range = [9, 8]"), "not a range of ports"),
        (probe("dscp = 64"), "dscp"),
        (
            swap("watchfire/{version} ({node})", "a\\nb"),
            "cannot be sent",
        ),
        (probe("per_address_per_s = 0"), "[probe]"),
        (probe("backend = \"dpdk\""), "dpdk"),
        (probe("deny = [\"10.0.0.1/8\"]"), "10.0.0.0/8"),
        (probe("prefix_bits_v4 = 33"), "prefix_bits_v4"),
        (table("group = \"nobody-has-this\""), "nobody-has-this"),
        (table("capacity = 1"), "capacity"),
        (table("mode = \"0777\""), "mode"),
        (swap("path = \"table\"", "path = \"/proc/table\""), "tmpfs"),
        (swap("path = \"table\"", "path = \"/var/tmp/t\""), "tmpfs"),
        (swap("bind = \"127.", "bind = \"127.999."), "not an address"),
        (swap("join = [", "join = [\"x\", "), "not an address"),
        (swap("join = [", "join = [\"[::1]:1\", "), "family"),
        (swap("../pop.key", "../no.key"), "no.key"),
        (swap("\"node-0\"", "\"node 0\""), "node's name"),
        (swap("[node]", "[node]\ncapacity = 70000"), "70000"),
        (swap("\"origins.toml\"", "\"no.d/*.toml\""), "no.d"),
        (swap("\"origins.toml\"", "\"no.toml\""), "no.toml"),
        (swap("\"origins.toml\"", "\"[\""), "pattern"),
        (swap("\"admin.sock\"", "\"agent.toml\""), "no socket"),
        (
            swap("[admin]", "[metrics]\nlisten = \"192.0.2.77:1\"\n[admin]"),
            "metrics.listen",
        ),
        (
            swap(
                "[admin]",
                "[agent_check]\nlisten = \"192.0.2.77:1\"\n[admin]",
            ),
            "agent_check.listen",
        ),
        (
            swap("[origins]", "[origins]\nremovals_max_percent = 101"),
            "removals_max_percent",
        ),
        (swap("[origins]", "[defaults]\nrice = 2\n[origins]"), "rice"),
        (swap("[origins]", "[defaults]\nrise = 0\n[origins]"), "rise"),
        (
            swap("[origins]", "[events]\nfile = \"agent.toml/e\"\n[origins]"),
            "events.file",
        ),
        (
            swap("[admin]", "[admin]\nlisten = \"192.0.2.77:1\""),
            "no address of the loopback",
        ),
        (
            swap("[admin]", "[admin]\nlisten = \"127.0.0.1:1\""),
            "without a token_file",
        ),
        (
            swap(
                "[admin]",
                "[admin]\nlisten = \"127.0.0.1:1\"\ntoken_file = \"no.token\"",
            ),
            "token_file",
        ),
        (
            swap("[admin]", "[admin]\ngroup = \"nobody-has-this\""),
            "admin.group",
        ),
        (swap("[admin]", "[admin"), "agent.toml:"),
        (swap("[table]", "[tabel]"), "tabel"),
    ];
    for ((from, to), word) in cases {
        let pop = Pop::new(1);
        let agent = &pop.agents[0];
        agent.write_origins(GOOD);
        assert!(check(agent).status.success(), "{:?}", check(agent));
        agent.edit(&from, &to);
        let (checked, ran) = (error(&check(agent)), error(&run(agent)));
        assert_eq!(checked, ran, "{to}");
        assert!(checked.contains(word), "no {word} in {checked}");
        assert!(checked.contains("help: "), "{checked}");
        for left in ["table", "admin.sock"] {
            assert!(!agent.home.join(left).exists(), "{left} stays: {to}");
        }
    }
}

#[test]
fn a_gossip_address_of_another_host_and_a_bad_mode_of_a_key_are_refused() {
    let pop = Pop::new(1);
    let agent = &pop.agents[0];
    let bind = format!("bind = \"{}\"", agent.gossip);
    agent.edit(&bind, "bind = \"192.0.2.77:7946\"");
    let key = pop.path().join("pop.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    agent.edit("[probe]", "[probe]\npin_cores = [999]");
    let (checked, ran) = (error(&check(agent)), error(&run(agent)));
    assert_eq!(checked, ran);
    // All of them, and not only the first.
    for word in ["192.0.2.77", "everybody on this host", "core 999"] {
        assert!(checked.contains(word), "no {word} in {checked}");
    }
    assert!(!agent.table().exists());
}

#[test]
fn every_mistake_of_both_files_is_shown() {
    let pop = Pop::new(1);
    let agent = &pop.agents[0];
    agent.write_origins(&format!("{GOOD}rise = 0\n[[origin]]\nname = \"b\"\n"));
    let checked = error(&check(agent));
    assert!(checked.contains("origins.toml:4:") && checked.contains("origins.toml:5:"));
    agent.edit("[table]", "[table]\ncapacity = 1");
    agent.edit("[probe]", "[probe]\ndscp = 64");
    let checked = error(&check(agent));
    assert!(
        checked.contains("capacity") && checked.contains("dscp"),
        "{checked}"
    );
}

#[test]
fn a_port_that_is_taken_leaves_nothing_behind() {
    let pop = Pop::new(1);
    let agent = &pop.agents[0];
    let taken = std::net::TcpListener::bind(agent.gossip).unwrap();
    assert!(check(agent).status.success(), "a running agent has it");
    assert!(error(&run(agent)).contains("another process has this port"));
    for left in ["table", "admin.sock"] {
        assert!(!agent.home.join(left).exists(), "{left} stays");
    }
    drop(taken);
}

#[test]
fn the_socket_of_an_agent_that_does_not_answer_is_left_alone() {
    let mut pop = Pop::new(2);
    pop.agents[0].start();
    let socket = pop.agents[0].home.join("admin.sock");
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < deadline, "{}", pop.agents[0].log());
        std::thread::sleep(Duration::from_millis(20));
    }
    pop.agents[1].edit("\"admin.sock\"", "\"../node-0/admin.sock\"");
    assert!(error(&run(&pop.agents[1])).contains("another agent answers"));
    assert!(socket.exists());
    assert!(pop.agents[0].ask(&["status"]).status.success());
    assert!(!pop.agents[1].table().exists());
}

#[test]
fn check_says_what_the_checks_cost_and_how_soon_they_tell() {
    let pop = Pop::new(1);
    let agent = &pop.agents[0];
    agent.write_origins(
        "[defaults]\nkind = \"tcp\"\n[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:9\"\n\
         [[origin]]\nname = \"b\"\naddress = \"127.0.1.1:9\"\ninterval = \"2s\"\n",
    );
    let said = String::from_utf8(check(agent).stdout).unwrap();
    assert!(
        said.contains("2 checks to probe in 2 networks, 1.5 probes a second"),
        "{said}"
    );
    assert!(said.contains("FAULT TO TABLE"), "{said}");
}

#[test]
fn diff_says_what_a_reload_would_do_and_does_nothing() {
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    let origin = |name: &str, port: u16| {
        format!("[[origin]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\n")
    };
    agent.edit("[origins]", "[origins]\nwatch = false");
    agent.write_origins(&format!(
        "{}{}{}",
        origin("a", 1),
        origin("b", 1),
        origin("c", 1)
    ));
    agent.start();
    let deadline = Instant::now() + PATIENCE;
    while !agent.home.join("admin.sock").exists() {
        assert!(Instant::now() < deadline, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(agent.ask(&["config", "diff"]).status.code(), Some(0));
    agent.write_origins(&format!(
        "{}{}{}",
        origin("a", 1),
        origin("b", 2),
        origin("d", 1)
    ));
    for _ in 0..2 {
        let diff = agent.ask(&["config", "diff"]);
        assert_eq!(diff.status.code(), Some(1), "{diff:?}");
        let said = String::from_utf8(diff.stdout).unwrap();
        assert_eq!(said, "+ d\n~ b\n- c\n1 added, 1 changed, 1 removed\n");
    }
    assert_eq!(agent.status()["origins"], 3);
    agent.write_origins("");
    let diff = agent.ask(&["config", "diff"]);
    assert!(error(&diff).contains("--allow-removals"));
    assert_eq!(agent.ask(&["reload"]).status.code(), Some(2));
    let reload = agent.ask(&["reload", "--allow-removals"]);
    assert!(reload.status.success(), "{reload:?}");
    assert_eq!(agent.status()["origins"], 0);
}

#[test]
fn a_hangup_at_any_moment_of_the_start_is_a_reload() {
    for _ in 0..5 {
        let pop = Pop::new(1);
        let agent = &pop.agents[0];
        let log = fs::File::create(agent.home.join("log")).unwrap();
        let mut child = Command::new(WATCHFIRE)
            .args(["run", "--config"])
            .arg(agent.config())
            .stderr(log)
            .spawn()
            .unwrap();
        let status = format!("/proc/{}/status", child.id());
        let deadline = Instant::now() + PATIENCE;
        let hears = || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            text.lines()
                .any(|line| line.starts_with("SigBlk:") && line.ends_with('1'))
        };
        while !hears() {
            assert!(Instant::now() < deadline, "{}", agent.log());
        }
        while !agent.log().contains("configuration read") {
            support::signal(&child, SIGHUP);
            assert!(child.try_wait().unwrap().is_none(), "{}", agent.log());
            assert!(Instant::now() < deadline, "{}", agent.log());
            std::thread::sleep(Duration::from_millis(3));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
