//! Members on `[::]` and members on IPv4 are one POP, by plain addresses.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use support::{Agent, Pop};
use watchfire_origin::{Farm, FarmOptions};
use watchfire_table::TableVerdict::Up;

const PATIENCE: Duration = Duration::from_secs(20);

/// Binds one to every address of both families. The others are told the address
/// that the kernel sends from.
fn bind_to_both(pop: &mut Pop, index: usize) {
    let agent = &pop.agents[index];
    let (old, port) = (agent.gossip, agent.gossip.port());
    let advertised = format!("127.0.0.1:{port}");
    for (other, agent) in pop.agents.iter().enumerate() {
        let mut text = fs::read_to_string(agent.config()).unwrap();
        if other == index {
            let new = format!("bind = \"[::]:{port}\"\nadvertise = \"{advertised}\"");
            text = text.replace(&format!("bind = \"{old}\""), &new);
        }
        fs::write(agent.config(), text.replace(&old.to_string(), &advertised)).unwrap();
    }
    pop.agents[index].gossip = advertised.parse().unwrap();
}

#[test]
fn members_of_both_families_are_one_pop() {
    let farm = Farm::start(FarmOptions {
        count: 10,
        ..FarmOptions::default()
    })
    .unwrap();
    let origins: String = (0..10)
        .map(|i| {
            let addr = farm.address(i);
            format!("[[origin]]\nname = \"o{i}\"\naddress = \"{addr}\"\n")
        })
        .collect();
    let mut pop = Pop::new(3);
    bind_to_both(&mut pop, 0);
    bind_to_both(&mut pop, 1);
    for agent in &mut pop.agents {
        agent.write_origins(&origins);
        agent.start();
    }
    pop.wait_for(Up, 10, PATIENCE);
    let alive = |agent: &Agent| {
        let status = agent.status();
        let members = status["members"].as_array().unwrap().clone();
        let shown: Vec<_> = members
            .iter()
            .filter(|member| member["state"] == "alive")
            .map(|member| member["addr"].as_str().unwrap().to_owned())
            .collect();
        shown
    };
    let deadline = Instant::now() + PATIENCE;
    while pop.agents.iter().any(|agent| alive(agent).len() < 3) {
        assert!(Instant::now() < deadline, "{}", pop.agents[0].log());
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(5));
    for agent in &pop.agents {
        let mut shown = alive(agent);
        shown.sort();
        let mut expected: Vec<_> = pop.agents.iter().map(|a| a.gossip.to_string()).collect();
        expected.sort();
        assert_eq!(shown, expected, "{}", agent.log());
        let status = agent.status();
        for counter in ["swim_deaths", "bulk_refused", "datagrams_unsent"] {
            assert_eq!(status["counters"][counter], 0, "{counter}: {status}");
        }
        assert!(!agent.log().contains("died"), "{}", agent.log());
    }
    farm.stop();
}
