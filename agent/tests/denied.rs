//! Addresses that are not to be probed: a property of the check, said once,
//! which costs no member its part in the POP.

mod support;

use std::net::TcpListener;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Agent, Pop};
use watchfire_table::TableVerdict::{Unknown, Up};

const PATIENCE: Duration = Duration::from_secs(20);

/// Listeners on loopback addresses of two networks, one port for all.
struct Origins {
    /// In 127.44.0.0/16.
    outside: Vec<TcpListener>,
    /// In 127.45.0.0/16.
    inside: TcpListener,
}

impl Origins {
    fn new() -> Self {
        let inside = TcpListener::bind("127.45.0.1:0").unwrap();
        inside.set_nonblocking(true).unwrap();
        let port = inside.local_addr().unwrap().port();
        let outside = (1..5)
            .map(|host| TcpListener::bind(("127.44.0.".to_owned() + &host.to_string(), port)))
            .collect::<Result<_, _>>()
            .unwrap();
        Self { outside, inside }
    }

    fn toml(&self) -> String {
        let all = self.outside.iter().chain([&self.inside]);
        let origins = all.enumerate().map(|(index, listener)| {
            let addr = listener.local_addr().unwrap();
            format!(
                "[[origin]]\nname = \"o{index}\"\naddress = \"{addr}\"\nkind = \"tcp\"\n\
                 half_open = false\ninterval = \"300ms\"\ntimeout = \"200ms\"\n\n"
            )
        });
        origins.collect()
    }

    /// Connections to the inner one that it has not accepted yet.
    fn visits(&self) -> usize {
        std::iter::from_fn(|| self.inside.accept().ok()).count()
    }
}

const ALLOW: &str = "allow = [\"127.0.0.0/8\"]";
const DENY: &str = "allow = [\"127.0.0.0/8\"]\ndeny = [\"127.45.0.0/16\"]";

fn why(agent: &Agent) -> serde_json::Value {
    let output = agent.ask(&["why", "o4", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Nobody is ineligible, and nothing was handed around.
fn is_calm(agent: &Agent) {
    agent.assert_calm(|name| {
        name.starts_with("probes_not_measured") || name.ends_with("unmeasurable")
    });
}

#[test]
fn what_is_denied_everywhere_is_said_once_and_hurts_nobody() {
    let origins = Origins::new();
    let mut pop = Pop::new(2);
    for agent in &mut pop.agents {
        agent.edit(ALLOW, DENY);
        agent.write_origins(&origins.toml());
        agent.start();
    }
    pop.wait_for(Up, 4, PATIENCE);
    sleep(Duration::from_secs(2));
    for agent in &pop.agents {
        assert_eq!((agent.count(Up), agent.count(Unknown)), (4, 1));
        let why = why(agent);
        assert_eq!(why["reason"], "denied");
        let because = why["because"].as_str().unwrap();
        assert!(because.contains("deny names 127.45.0.0/16"), "{because}");
        assert_eq!(agent.status()["checks_refused"], 1);
        assert_eq!(
            agent.log().matches("is not probed").count(),
            1,
            "{}",
            agent.log()
        );
        is_calm(agent);
    }
    assert_eq!(origins.visits(), 0);

    for agent in &pop.agents {
        agent.edit(DENY, ALLOW);
        assert!(agent.ask(&["reload"]).status.success());
    }
    pop.wait_for(Up, 5, PATIENCE);
    assert!(origins.visits() > 0);
    for agent in &pop.agents {
        agent.edit(ALLOW, DENY);
        assert!(agent.ask(&["reload"]).status.success());
    }
    pop.wait_for(Unknown, 1, PATIENCE);
    sleep(Duration::from_millis(500));
    origins.visits();
    sleep(Duration::from_secs(1));
    assert_eq!(origins.visits(), 0, "it is still probed");
    for agent in &pop.agents {
        assert_eq!(why(agent)["reason"], "denied");
        assert_eq!(
            agent.log().matches("is not probed").count(),
            2,
            "{}",
            agent.log()
        );
        is_calm(agent);
    }
}

#[test]
fn what_one_member_denies_another_probes() {
    let origins = Origins::new();
    let mut pop = Pop::new(3);
    pop.agents[0].edit(ALLOW, DENY);
    for agent in &mut pop.agents {
        agent.write_origins(&origins.toml());
        agent.start();
    }
    let deadline = Instant::now() + PATIENCE;
    while pop.agents[1..].iter().any(|agent| agent.count(Up) < 5) {
        assert!(Instant::now() < deadline, "{}", pop.agents[1].log());
        sleep(Duration::from_millis(50));
    }
    sleep(Duration::from_secs(5));
    origins.visits();
    sleep(Duration::from_secs(3));
    let visits = origins.visits();
    assert!(
        (8..=12).contains(&visits),
        "{visits} probes in 3 s at 300 ms"
    );
    assert_eq!(why(&pop.agents[0])["reason"], "denied");
    assert_eq!(why(&pop.agents[1])["verdict"], "up");
    pop.agents.iter().for_each(is_calm);
}

#[test]
fn loopback_takes_one_written_line() {
    let origins = Origins::new();
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    agent.edit(ALLOW, "");
    agent.write_origins(&origins.toml());
    let checked = support::watchfire(&["config", "check", agent.config().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{checked:?}");
    assert!(
        said.contains("allow = [\"127.0.0.0/8\"] allows it"),
        "{said}"
    );
    agent.start();
    pop.wait_for(Unknown, 5, PATIENCE);
    sleep(Duration::from_secs(1));
    let agent = &pop.agents[0];
    assert_eq!(why(agent)["reason"], "denied");
    assert_eq!(origins.visits(), 0);
    is_calm(agent);
}
