//! A member is put out of the POP and taken back, as operators do it.

mod support;

use std::time::{Duration, Instant};

use support::origin::{Does, Origin};
use support::{Agent, Pop};
use watchfire_table::TableVerdict::Up;

const PATIENCE: Duration = Duration::from_secs(60);

fn wait(what: &str, pop: &Pop, so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}\n{}",
            pop.agents[0].log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

fn states(agent: &Agent) -> Vec<String> {
    let status = agent.status();
    let members = status["members"].as_array().unwrap();
    let of = |it: &serde_json::Value| format!("{} {}", it["name"], it["state"]).replace('"', "");
    members.iter().map(of).collect()
}

fn say(agent: &Agent, verb: &[&str]) -> String {
    let output = agent.ask(verb);
    assert!(output.status.success(), "{verb:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_member_is_evicted_knows_it_and_is_taken_back() {
    let origin = Origin::new("127.46.0.7", |_| Does::Status(200));
    let mut pop = Pop::new(3);
    let toml: String = (0..6)
        .map(|n| {
            format!(
                "[[origin]]\nname = \"shop-{n}\"\naddress = \"{}\"\npath = \"/{n}\"\n\
                 interval = \"500ms\"\ntimeout = \"300ms\"\n\n",
                origin.addr
            )
        })
        .collect();
    for agent in &mut pop.agents {
        agent.write_origins(&toml);
        agent.start();
    }
    pop.wait_for(Up, 6, PATIENCE);
    wait("three members", &pop, || states(&pop.agents[0]).len() == 3);

    let itself = pop.agents[2].ask(&["member", "evict", "node-2"]);
    assert_eq!(itself.status.code(), Some(2));
    let lives = pop.agents[0].ask(&["member", "forget", "node-2"]);
    assert!(String::from_utf8_lossy(&lives.stderr).contains("lives"));
    let why = "its disk lies";
    let said = say(
        &pop.agents[0],
        &["member", "evict", "node-2", "--for", "1h", "--why", why],
    );
    assert!(said.contains("node-2: evicted until "), "{said}");
    let took = wait("evicted at both", &pop, || {
        (0..2).all(|at| states(&pop.agents[at]) == ["node-0 alive", "node-1 alive"])
    });
    println!("out at both after {took:?}");
    for at in 0..2 {
        let list = say(&pop.agents[at], &["member", "list"]);
        assert!(list.contains("evicted") && list.contains(why), "{list}");
        let status = say(&pop.agents[at], &["status"]);
        assert!(status.contains("member node-2 is evicted by"), "{status}");
    }
    wait("it says so", &pop, || {
        pop.agents[2].log().contains("THIS AGENT WAS EVICTED")
    });
    assert!(pop.agents[2].log().contains(why));
    let status = say(&pop.agents[2], &["status"]);
    assert!(status.contains("EVICTED from the POP by"), "{status}");
    let dropped = |at: usize| pop.agents[at].status()["counters"]["datagrams_of_evicted"].as_u64();
    wait("what it sends is dropped", &pop, || {
        (0..2).any(|at| dropped(at).unwrap() > 0)
    });
    let origins = say(&pop.agents[0], &["origin", "list", "--ended"]);
    assert!(origins.contains("no overrides"), "{origins}");

    // Over a restart of all.
    for agent in &mut pop.agents {
        agent.kill();
        agent.start();
    }
    pop.wait_for(Up, 6, PATIENCE);
    for at in 0..2 {
        wait("still out", &pop, || {
            states(&pop.agents[at]) == ["node-0 alive", "node-1 alive"]
        });
    }
    say(&pop.agents[1], &["member", "forget", "node-2"]);
    wait("taken back", &pop, || {
        (0..3).all(|at| {
            let states = states(&pop.agents[at]);
            states.len() == 3 && states.iter().all(|it| it.ends_with("alive"))
        })
    });
    wait("it knows that it is taken back", &pop, || {
        pop.agents[2].status()["evicted"].is_null()
    });
}
