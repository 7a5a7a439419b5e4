//! So much fails at once that the POP's own uplink may be at fault: no origin
//! is called Down for it. Whatever else fails is, as ever.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::origin::{Does, Origin};
use support::{Agent, Pop};
use watchfire_table::TableVerdict::{Down, Up};
use watchfire_table::{Flags, Reader};

const ORIGINS: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(20);

/// Forty origins in forty networks, of which those with their bit say nothing.
struct World {
    silent: Arc<AtomicU64>,
    origin: Origin,
    pop: Pop,
}

impl World {
    fn new(more: &str) -> Self {
        let silent = Arc::new(AtomicU64::new(0));
        let mask = Arc::clone(&silent);
        let origin = Origin::new("0.0.0.0", move |path| {
            let index: u32 = path.trim_start_matches('/').parse().unwrap_or(63);
            if mask.load(Ordering::Relaxed) & (1 << index) == 0 {
                Does::Status(200)
            } else {
                Does::Hang
            }
        });
        let port = origin.addr.port();
        let mut toml = more.replace("PORT", &port.to_string());
        for index in 0..ORIGINS {
            toml += &format!(
                "[[origin]]\nname = \"o{index}\"\naddress = \"127.50.{index}.1:{port}\"\n\
                 path = \"/{index}\"\ninterval = \"500ms\"\ntimeout = \"250ms\"\n\n"
            );
        }
        let mut pop = Pop::new(3);
        for agent in &mut pop.agents {
            agent.write_origins(&toml);
            agent.start();
        }
        let world = Self {
            silent,
            origin,
            pop,
        };
        world.wait("all are Up", PATIENCE, |agent| {
            agent.count(Up) >= usize::try_from(ORIGINS).unwrap()
        });
        world
    }

    fn wait(&self, what: &str, patience: Duration, mut holds: impl FnMut(&Agent) -> bool) {
        let began = Instant::now();
        while !self.pop.agents.iter().all(&mut holds) {
            let counts: Vec<_> = self.pop.agents.iter().map(|a| a.count(Down)).collect();
            assert!(
                began.elapsed() < patience,
                "not in time: {what}; {counts:?} Down"
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// Looks at all tables for so long; none may show a Down.
    fn none_is_down_for(&self, long: Duration, when: &str) {
        let began = Instant::now();
        while began.elapsed() < long {
            for agent in &self.pop.agents {
                assert_eq!(agent.count(Down), 0, "{when}: {}", agent.log());
            }
            sleep(Duration::from_millis(50));
        }
    }
}

fn frozen(agent: &Agent) -> usize {
    let reader = Reader::open(&agent.table()).unwrap();
    let entries = reader.entries();
    let flagged = |entry: &watchfire_table::Entry| entry.flags.contains(Flags::FROZEN);
    entries.iter().filter(|(_, entry)| flagged(entry)).count()
}

#[test]
fn a_dead_uplink_makes_no_origin_down_and_its_return_is_no_herd() {
    let world = World::new("");
    world.silent.store((1 << ORIGINS) - 1, Ordering::Relaxed);
    world.none_is_down_for(Duration::from_secs(15), "while nothing answers");
    for agent in &world.pop.agents {
        assert!(!agent.status()["braked"].is_null(), "{}", agent.log());
        assert!(frozen(agent) > 0, "readers are told that these are kept");
        assert!(agent.log().contains("the POP's own uplink may be at fault"));
    }
    world.silent.store(0, Ordering::Relaxed);
    // Two probes a second of each are the calm rate.
    let most = 3 * usize::try_from(ORIGINS).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let asked = world.origin.asked_within(Duration::from_secs(1));
        assert!(asked <= most, "{asked} probes in a second of the return");
        sleep(Duration::from_millis(50));
    }
    world.wait("nobody is braked", PATIENCE, |agent| {
        agent.status()["braked"].is_null()
    });
    world.none_is_down_for(Duration::from_secs(3), "after the return");
}

#[test]
fn a_third_that_dies_is_down() {
    let world = World::new("");
    let third = (0..ORIGINS).filter(|index| index % 3 == 0);
    let (mut mask, mut dead) = (0_u64, 0);
    for index in third {
        mask |= 1 << index;
        dead += 1;
    }
    world.silent.store(mask, Ordering::Relaxed);
    world.wait("the third is Down", PATIENCE, |agent| {
        agent.count(Down) == dead
    });
}

#[test]
fn a_living_reference_says_that_the_origins_do_fail() {
    let world = World::new("[[reference]]\nname = \"world\"\naddress = \"127.51.0.1:PORT\"\n\n");
    world.silent.store((1 << ORIGINS) - 1, Ordering::Relaxed);
    world.none_is_down_for(Duration::from_secs(5), "until the reference has spoken");
    world.wait("all are Down", Duration::from_secs(30), |agent| {
        agent.count(Down) == usize::try_from(ORIGINS).unwrap()
    });
}

#[test]
fn whatever_answers_has_an_uplink() {
    let world = World::new("");
    let port = world.origin.addr.port();
    let mut toml = String::new();
    for index in 0..ORIGINS {
        toml += &format!(
            "[[origin]]\nname = \"o{index}\"\naddress = \"127.50.{index}.1:{port}\"\n\
             path = \"/{index}\"\nexpect = \"204\"\ninterval = \"500ms\"\ntimeout = \"250ms\"\n\n"
        );
    }
    for agent in &world.pop.agents {
        agent.write_origins(&toml);
        assert!(agent.ask(&["reload"]).status.success());
    }
    world.wait("all are Down", PATIENCE, |agent| {
        agent.count(Down) == usize::try_from(ORIGINS).unwrap()
    });
}
