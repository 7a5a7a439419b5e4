//! Real agents on real origins: Debian's nginx is probed, and its own access
//! log says by whom and when.

mod support;

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use support::nginx::{Nginx, doubles, longest_gap_s, wall_s};
use support::{Pop, origins_toml};
use watchfire_table::TableVerdict::{Down, Up};

const ORIGINS: u32 = 300;
const SETTLE: Duration = Duration::from_secs(30);

/// An interval and the takeover bound.
const TAKEOVER_S: f64 = 3.0;

/// Probes of two agents closer than this are doubled: an interval less what
/// the wake-ups of two processes differ.
const DOUBLE_S: f64 = 0.95;

#[test]
fn one_agent_probes_each_origin_and_all_tables_follow() {
    let Some(mut nginx) = Nginx::start() else {
        return;
    };
    let mut pop = Pop::new(5);
    for agent in &mut pop.agents {
        agent.write_origins(&origins_toml(0..ORIGINS, nginx.port));
        agent.start();
    }
    pop.wait_for(Up, ORIGINS as usize, SETTLE);
    sleep(Duration::from_secs(2));

    let from_s = wall_s();
    sleep(Duration::from_secs(10));
    let to_s = wall_s();
    let mut total = 0;
    for (origin, requests) in nginx.log(0..ORIGINS) {
        let probes: Vec<_> = requests
            .iter()
            .filter(|request| (from_s..to_s).contains(&request.at_s))
            .collect();
        let agents: BTreeSet<_> = probes.iter().map(|request| &request.who).collect();
        assert_eq!(agents.len(), 1, "{origin} was probed by {agents:?}");
        let agent = agents.first().unwrap();
        assert!(
            agent.starts_with("watchfire/"),
            "{origin} was probed by {agent}"
        );
        total += probes.len();
    }
    let rate = total as f64 / f64::from(ORIGINS) / (to_s - from_s);
    assert!(
        (0.98..=1.02).contains(&rate),
        "{rate:.3} probes per origin and second"
    );

    nginx.stop();
    pop.wait_for(Down, ORIGINS as usize, Duration::from_secs(10));
    nginx.run();
    pop.wait_for(Up, ORIGINS as usize, Duration::from_secs(10));
    sleep(Duration::from_secs(2));

    let killed_s = wall_s();
    pop.agents[2].kill();
    sleep(Duration::from_secs(6));
    let end_s = wall_s();
    let log = nginx.log(0..ORIGINS);
    let gaps: Vec<_> = log
        .values()
        .map(|requests| longest_gap_s(requests, killed_s - 1.1, end_s))
        .collect();
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    assert!(
        longest <= 2.5,
        "an origin went {longest:.3} s without a probe"
    );
    let late: usize = log
        .values()
        .map(|requests| doubles(requests, end_s - 2.0, end_s, DOUBLE_S))
        .sum();
    assert_eq!(late, 0, "probes were doubled after the takeover");
}

#[test]
fn configuration_that_arrives_late_leaves_nothing_unprobed_and_nothing_doubled() {
    let Some(nginx) = Nginx::start() else {
        return;
    };
    let half = ORIGINS / 2;
    let mut pop = Pop::new(2);
    pop.agents[0].write_origins(&origins_toml(0..half, nginx.port));
    pop.agents[1].write_origins(&origins_toml(half..ORIGINS, nginx.port));
    for agent in &mut pop.agents {
        agent.start();
    }
    pop.wait_for(Up, half as usize, SETTLE);
    sleep(Duration::from_secs(2));
    let from_s = wall_s();
    sleep(Duration::from_secs(2));
    for agent in &pop.agents {
        agent.write_origins(&origins_toml(0..ORIGINS, nginx.port));
    }
    pop.wait_for(Up, ORIGINS as usize, SETTLE);
    sleep(Duration::from_secs(4));
    let settled_s = wall_s();
    sleep(Duration::from_secs(6));
    let end_s = wall_s();

    let mut agents = BTreeSet::new();
    for (origin, requests) in nginx.log(0..ORIGINS) {
        let gap = longest_gap_s(&requests, from_s, end_s);
        assert!(
            gap <= TAKEOVER_S,
            "{origin} went {gap:.3} s without a probe"
        );
        assert_eq!(
            doubles(&requests, settled_s, end_s, DOUBLE_S),
            0,
            "{origin} was doubled"
        );
        agents.extend(
            requests
                .into_iter()
                .filter(|r| r.at_s > settled_s)
                .map(|r| r.who),
        );
    }
    assert_eq!(agents.len(), 2, "both agents work: {agents:?}");
}

#[test]
fn an_agent_that_restarts_without_some_origins_leaves_none_unprobed() {
    let Some(nginx) = Nginx::start() else {
        return;
    };
    let mut pop = Pop::new(3);
    for agent in &mut pop.agents {
        agent.write_origins(&origins_toml(0..ORIGINS, nginx.port));
        agent.start();
    }
    pop.wait_for(Up, ORIGINS as usize, SETTLE);
    sleep(Duration::from_secs(2));
    let from_s = wall_s();
    sleep(Duration::from_secs(1));
    let agent = &mut pop.agents[1];
    agent.kill();
    agent.write_origins(&origins_toml(0..ORIGINS / 2, nginx.port));
    agent.start();
    sleep(Duration::from_secs(8));
    let end_s = wall_s();
    for (origin, requests) in nginx.log(0..ORIGINS) {
        let gap = longest_gap_s(&requests, from_s, end_s);
        assert!(
            gap <= TAKEOVER_S,
            "{origin} went {gap:.3} s without a probe"
        );
        assert_eq!(
            doubles(&requests, end_s - 3.0, end_s, DOUBLE_S),
            0,
            "{origin} was doubled"
        );
    }
}
