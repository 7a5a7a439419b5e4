//! Checks whose way out of the host is not there: a property of the check on
//! that server, said once. No member gives anything up for it, nothing wanders
//! from one to the next, and who has the way tells all the others.

mod support;

use std::net::TcpListener;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Agent, Pop};
use watchfire_table::TableVerdict::{Down, Unknown, Up};

const PATIENCE: Duration = Duration::from_secs(20);

fn origins(listener: &TcpListener, interface: &str) -> String {
    let addr = listener.local_addr().unwrap();
    let origin = |name: &str, more: &str| {
        format!(
            "[[origin]]\nname = \"{name}\"\naddress = \"{addr}\"\nkind = \"tcp\"\n\
             interval = \"300ms\"\ntimeout = \"200ms\"\n{more}\n"
        )
    };
    origin("plain", "") + &origin("by", &format!("interface = \"{interface}\"\n"))
}

fn why(agent: &Agent) -> serde_json::Value {
    let output = agent.ask(&["why", "by", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn is_calm(agent: &Agent) {
    agent.assert_calm(|name| name.contains("no_way") || name.ends_with("unmeasurable"));
}

#[test]
fn a_way_that_nobody_has_is_said_once_and_hurts_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pop = Pop::new(3);
    for agent in &mut pop.agents {
        agent.write_origins(&origins(&listener, "nowhere0"));
        agent.start();
    }
    pop.wait_for(Up, 1, PATIENCE);
    sleep(Duration::from_secs(3));
    for agent in &pop.agents {
        assert_eq!((agent.count(Up), agent.count(Unknown)), (1, 1));
        let why = why(agent);
        assert_eq!(why["reason"], "no_way");
        let because = why["because"].as_str().unwrap();
        assert!(
            because.contains("\"nowhere0\" does not exist here"),
            "{because}"
        );
        let log = agent.log();
        assert_eq!(log.matches("is not probed").count(), 1, "{log}");
        is_calm(agent);
    }
}

/// Whether this command works here.
fn works(line: &str) -> bool {
    let status = Command::new("sh").args(["-c", line]).status();
    let works = status.is_ok_and(|status| status.success());
    if !works {
        assert!(std::env::var_os("CI").is_none(), "{line}");
        eprintln!("skipped, for this does not work here: {line}");
    }
    works
}

const POWERLESS: &str = "setpriv --bounding-set=-net_admin,-net_raw --inh-caps=-net_admin,-net_raw";

#[test]
fn who_has_the_way_probes_and_all_know() {
    if !works(&format!("{POWERLESS} true")) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pop = Pop::new(3);
    let powerless = POWERLESS.split(' ').map(str::to_owned);
    pop.agents[0].behind = powerless.collect();
    for agent in &mut pop.agents {
        let toml = origins(&listener, "lo").replace("interface = \"lo\"", "mark = 7");
        agent.write_origins(&toml);
        agent.start();
    }
    // It shows what those say who may set a mark.
    pop.wait_for(Up, 2, PATIENCE);
    let why = why(&pop.agents[0]);
    assert_eq!(
        (&why["verdict"], &why["probed_here"]),
        (&"up".into(), &false.into())
    );
    let because = why["because"].as_str().unwrap();
    assert!(
        because.contains("give the agent CAP_NET_ADMIN"),
        "{because}"
    );
    assert_eq!(pop.agents[1].status()["checks_refused"], 0);
    // What is dead is Down for it too.
    drop(listener);
    for agent in &pop.agents {
        let until = Instant::now() + PATIENCE;
        while agent.count(Down) < 2 {
            assert!(Instant::now() < until, "{}", agent.log());
            sleep(Duration::from_millis(50));
        }
    }
    pop.agents.iter().for_each(is_calm);
}

#[test]
fn an_interface_that_comes_and_goes_is_noticed() {
    if !works("unshare --net --map-root-user true") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    // In a network of its own, so that nobody else's is touched.
    let inside = "ip link set lo up && exec \"$0\" \"$@\"";
    let behind = ["unshare", "--net", "--map-root-user", "sh", "-c", inside];
    agent.behind = behind.map(str::to_owned).into();
    agent.write_origins(&origins(&listener, "wfway0"));
    agent.start();
    let until = Instant::now() + PATIENCE;
    while !agent.ask(&["status"]).status.success() {
        assert!(Instant::now() < until, "{}", agent.log());
        sleep(Duration::from_millis(50));
    }
    let agent = &pop.agents[0];
    let refused = |wanted: u64| {
        let until = Instant::now() + PATIENCE;
        while agent.status()["checks_refused"] != wanted {
            assert!(Instant::now() < until, "{}", agent.log());
            sleep(Duration::from_millis(200));
        }
    };
    let link = |what: &str| {
        let enter = format!("nsenter -t {} -U --preserve-credentials -n", agent.pid());
        assert!(works(&format!("{enter} ip link {what}")), "{what}");
    };
    refused(1);
    link("add wfway0 type veth peer name wfway1");
    refused(0);
    link("del wfway0");
    refused(1);
    let log = agent.log();
    assert!(log.contains("origin \"by\" is probed from now on"), "{log}");
}
