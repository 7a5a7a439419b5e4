//! A wall clock that jumps: probes keep their interval, verdicts stay, and who
//! restarts with a clock of the past is believed.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use support::Pop;
use support::origin::{Does, Origin};
use watchfire_table::TableVerdict::{Down, Unknown, Up};

const ORIGINS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Where Debian keeps the library that plays the clock.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

fn jump(file: &Path, by: &str) {
    let temporary = file.with_extension("new");
    fs::write(&temporary, format!("{by}\n")).unwrap();
    fs::rename(&temporary, file).unwrap();
}

#[test]
fn probes_keep_their_interval_whatever_the_clock_says() {
    if !Path::new(LIBRARY).exists() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "faketime is not installed, and this test must run in CI"
        );
        eprintln!("skipped: faketime is not installed (Debian: apt-get install faketime)");
        return;
    }
    let good = Arc::new(AtomicBool::new(true));
    let is_good = Arc::clone(&good);
    let origin = Origin::new("127.46.0.1", move |_| {
        Does::Status(if is_good.load(Ordering::Relaxed) {
            200
        } else {
            503
        })
    });
    let origins: String = (0..ORIGINS)
        .map(|index| {
            format!(
                "[[origin]]\nname = \"o{index}\"\naddress = \"{}\"\npath = \"/{index}\"\n\
                 interval = \"500ms\"\ntimeout = \"300ms\"\n\n",
                origin.addr
            )
        })
        .collect();
    let mut pop = Pop::new(2);
    let clock = pop.path().join("clock");
    jump(&clock, "+0");
    for (name, value) in [
        ("LD_PRELOAD", LIBRARY),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ] {
        pop.agents[0].env.push((name.to_owned(), value.to_owned()));
    }
    for agent in &mut pop.agents {
        agent.write_origins(&origins);
        agent.start();
    }
    pop.wait_for(Up, ORIGINS, PATIENCE);
    let holds = |pop: &Pop, when: &str| {
        sleep(Duration::from_secs(5));
        let probes = origin.asked_within(Duration::from_secs(3));
        assert!(
            (114..=126).contains(&probes),
            "{when}: {probes} of 120 probes"
        );
        let mut probed = 0;
        for agent in &pop.agents {
            assert_eq!(
                agent.count(Unknown) + agent.count(Up) + agent.count(Down),
                ORIGINS
            );
            assert_eq!(agent.count(Unknown), 0, "{when}");
            let status = agent.status();
            probed += status["checks_probed"].as_u64().unwrap();
            for member in status["members"].as_array().unwrap() {
                assert_eq!(member["state"], "alive", "{when}: {member}");
            }
        }
        // How the checks are shared depends on their names, and these hold a port.
        assert_eq!(probed, ORIGINS as u64, "{when}");
    };
    holds(&pop, "at first");
    jump(&clock, "+1d");
    holds(&pop, "a day ahead");
    jump(&clock, "-1d");
    holds(&pop, "a day back");
    pop.agents[0].kill();
    pop.agents[0].start();
    holds(&pop, "restarted a day back");
    good.store(false, Ordering::Relaxed);
    pop.wait_for(Down, ORIGINS, PATIENCE);
    holds(&pop, "while the origins are bad");
    pop.agents[0].kill();
    fs::remove_file(pop.agents[0].home.join("state/node-0.epoch")).unwrap();
    good.store(true, Ordering::Relaxed);
    pop.agents[0].start();
    pop.wait_for(Up, ORIGINS, PATIENCE);
    holds(&pop, "restarted without its epoch");
}
