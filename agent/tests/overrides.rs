//! Operators have the last word: on all servers, over restarts, until they or the
//! clock end it.

mod support;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::Pop;
use support::origin::{Does, Origin};
use watchfire_table::TableVerdict::{self, Down, Draining, Up};
use watchfire_table::{Entry, Flags, Reader};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian keeps the library that plays the clock.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

struct World {
    pop: Pop,
    origin: Origin,
}

impl World {
    /// So many agents and three good origins.
    fn new(nodes: usize, prepare: impl Fn(&mut Pop)) -> Self {
        let origin = Origin::new("127.46.0.2", |path| {
            Does::Status(if path == "/bad" { 503 } else { 200 })
        });
        let mut pop = Pop::new(nodes);
        prepare(&mut pop);
        let world = Self { pop, origin };
        let toml = world.toml(&["shop-1", "shop-2", "blog"], "/good");
        let mut world = world;
        for agent in &mut world.pop.agents {
            agent.write_origins(&toml);
            agent.start();
        }
        world.pop.wait_for(Up, 3, PATIENCE);
        world
    }

    fn toml(&self, names: &[&str], path: &str) -> String {
        let origin = |name: &&str| {
            format!(
                "[[origin]]\nname = \"{name}\"\naddress = \"{}\"\npath = \"{path}\"\n\
                 interval = \"500ms\"\ntimeout = \"300ms\"\n\n",
                self.origin.addr
            )
        };
        names.iter().map(origin).collect()
    }

    /// Runs a verb at an agent, which succeeds.
    fn say(&self, at: usize, verb: &[&str]) -> String {
        let output = self.pop.agents[at].ask(verb);
        assert!(
            output.status.success(),
            "{verb:?}: {output:?}\n{}",
            self.pop.agents[at].log()
        );
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }

    fn entry(&self, at: usize, name: &str) -> Option<Entry> {
        let reader = Reader::open(&self.pop.agents[at].table()).ok()?;
        let entries = reader.entries();
        let found = entries.into_iter().find(|(it, _)| it == name.as_bytes());
        found.map(|(_, entry)| entry)
    }

    /// Waits until all tables show this of a name; how long it took.
    fn shows(&self, name: &str, verdict: TableVerdict, flags: Flags, most: Duration) -> Duration {
        let began = Instant::now();
        loop {
            let all: Vec<_> = (0..self.pop.agents.len())
                .map(|at| {
                    self.entry(at, name)
                        .map(|entry| (entry.verdict, entry.flags))
                })
                .collect();
            if all.iter().all(|shown| *shown == Some((verdict, flags))) {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < most,
                "{name} is not {verdict} ({flags}) within {most:?}: {all:?}\n{}",
                self.pop.agents[0].log()
            );
            sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn an_override_is_everywhere_at_once_and_outlives_a_kill_of_all() {
    let mut world = World::new(4, |_| {});
    let (none, forced, second) = (Flags::NONE, Flags::FORCED, Duration::from_secs(1));
    let said = world.say(2, &["origin", "drain", "shop-1", "--why", "new disks"]);
    assert!(said.contains("shop-1: drain"), "{said}");
    world.shows("shop-1", Draining, forced, second);
    world.shows("shop-2", Up, none, second);
    let said = world.say(0, &["why", "shop-1"]);
    for words in ["draining by ", "@node-2", "new disks", "measured      up"] {
        assert!(said.contains(words), "no {words}: {said}");
    }
    let status = world.pop.agents[3].status();
    assert_eq!(status["overrides"]["in_force"]["drain"], 1, "{status}");
    assert_eq!(status["origins_draining"], 1);
    assert_eq!(status["down"], 0, "a drain is no Down");
    assert!(
        world
            .say(3, &["status"])
            .contains("overrides by operators: 1 drain")
    );
    assert!(world.say(1, &["table", "get", "shop-1"]).contains("forced"));
    assert!(world.pop.agents[1].log().contains("an operator decided"));
    assert!(world.pop.agents[1].log().contains("new disks"));
    let list = world.say(1, &["origin", "list"]);
    assert!(
        list.contains("shop-1") && list.contains("new disks"),
        "{list}"
    );

    // SIGKILL of all, at once after the answer.
    world.say(1, &["origin", "down", "shop-2", "not-yet", "--yes"]);
    for agent in &mut world.pop.agents {
        agent.kill();
    }
    for agent in &mut world.pop.agents {
        agent.start();
    }
    world.shows("shop-2", Down, forced, PATIENCE);
    world.shows("shop-1", Draining, forced, PATIENCE);
    world.shows("blog", Up, none, PATIENCE);
    // A name that nobody knew when it was said.
    let toml = world.toml(&["shop-1", "shop-2", "blog", "not-yet"], "/good");
    for agent in &world.pop.agents {
        agent.write_origins(&toml);
        assert!(agent.ask(&["reload"]).status.success());
    }
    world.shows("not-yet", Down, forced, PATIENCE);

    world.say(3, &["origin", "auto", "*", "--yes"]);
    for name in ["shop-1", "shop-2", "not-yet", "blog"] {
        world.shows(name, Up, none, PATIENCE);
    }
    assert!(world.say(0, &["origin", "list"]).contains("no overrides"));
    let ended = world.say(0, &["origin", "list", "--ended", "--json"]);
    assert!(ended.contains("\"auto\""), "{ended}");
}

#[test]
fn sixteen_agents_know_within_a_second_and_after_a_kill_of_all() {
    let mut world = World::new(16, |_| {});
    let mut took = Vec::new();
    for round in 0..12 {
        let (verb, verdict) = [("down", Down), ("drain", Draining)][round % 2];
        world.say(round % 16, &["origin", verb, "shop-1"]);
        let second = Duration::from_secs(1);
        // From the answer on: the disk was written before it.
        took.push(world.shows("shop-1", verdict, Flags::FORCED, second));
    }
    took.sort_unstable();
    println!("in all 16 tables after the answer: {took:?}");
    for agent in &mut world.pop.agents {
        agent.kill();
    }
    for agent in &mut world.pop.agents {
        agent.start();
    }
    world.shows("shop-1", Draining, Flags::FORCED, PATIENCE);
    world.pop.wait_for(Up, 2, PATIENCE);
    world.say(7, &["origin", "auto", "shop-1"]);
    world.shows("shop-1", Up, Flags::NONE, PATIENCE);
}

#[test]
fn globs_are_shown_first_and_nobody_is_surprised() {
    let world = World::new(1, |_| {});
    let agent = &world.pop.agents[0];
    let dry = world.say(0, &["origin", "down", "shop-*", "--dry-run"]);
    assert!(dry.contains("shop-1") && dry.contains("shop-2"), "{dry}");
    assert!(!dry.contains("blog"), "{dry}");
    assert_eq!(agent.count(Down), 0);
    let asked = agent.ask(&["origin", "down", "shop-*"]);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(!asked.status.success() && said.contains("--yes"), "{said}");
    assert_eq!(agent.count(Down), 0);
    let nothing = agent.ask(&["origin", "down", "zzz*", "--yes"]);
    assert_eq!(nothing.status.code(), Some(2));
    let warned = world.say(0, &["origin", "down", "typo"]);
    assert!(warned.contains("not configured on this server"), "{warned}");
    let long = "x".repeat(201);
    let refused = agent.ask(&["origin", "down", "blog", "--why", &long]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("200"), "{said}");
    let said = world.say(
        0,
        &["origin", "down", "shop-*", "--yes", "--for", "1h", "--json"],
    );
    let answer: serde_json::Value =
        serde_json::from_str(said.lines().next().unwrap_or_default()).unwrap();
    assert_eq!(answer["names"].as_array().unwrap().len(), 2);
    assert_eq!(answer["decisions"][0]["clocks"], 1);
    world.shows("shop-2", Down, Flags::FORCED, Duration::from_secs(1));
    assert!(agent.home.join("state/node-0.overrides").exists());
}

#[test]
fn an_override_ends_everywhere_at_once_though_a_clock_is_an_hour_off() {
    if !Path::new(LIBRARY).exists() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "faketime is not installed, and this test must run in CI"
        );
        eprintln!("skipped: faketime is not installed (Debian: apt-get install faketime)");
        return;
    }
    let world = World::new(4, |pop| {
        for (name, value) in [
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME", "+1h"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ] {
            pop.agents[0].env.push((name.to_owned(), value.to_owned()));
        }
    });
    let heard = Instant::now();
    while (0..4).any(|at| world.pop.agents[at].status()["overrides"]["clocks"] != 4) {
        assert!(heard.elapsed() < PATIENCE, "clocks are not heard of");
        sleep(Duration::from_millis(50));
    }
    let error = &world.pop.agents[0].status()["overrides"]["clock_error_ms"];
    assert!(
        error.as_i64().unwrap().abs_diff(3_600_000) < 1_000,
        "{error}"
    );
    // Given where the clock is wrong, and where it is right.
    for (at, name) in [(0, "shop-1"), (1, "shop-2")] {
        let lasts = Duration::from_secs(4);
        world.say(at, &["origin", "down", name, "--for", "4s"]);
        let given = Instant::now();
        world.shows(name, Down, Flags::FORCED, Duration::from_secs(1));
        let mut ended = [None; 4];
        while ended.iter().any(Option::is_none) {
            for (at, ended) in ended.iter_mut().enumerate() {
                let shown = world.entry(at, name).map(|entry| entry.flags);
                if ended.is_none() && shown == Some(Flags::NONE) {
                    *ended = Some(given.elapsed());
                }
            }
            assert!(given.elapsed() < PATIENCE, "{ended:?}");
            sleep(Duration::from_millis(5));
        }
        let (first, last) = (ended.iter().min().unwrap(), ended.iter().max().unwrap());
        let (first, last) = (first.unwrap(), last.unwrap());
        assert!(last - first < Duration::from_secs(1), "{first:?} {last:?}");
        assert!(first.abs_diff(lasts) < Duration::from_secs(1), "{first:?}");
    }
    assert!(world.pop.agents[2].log().contains("has ended as it was to"));
}

#[test]
fn a_freeze_keeps_every_verdict_and_overrides_win_over_it() {
    let mut world = World::new(3, |_| {});
    let (none, frozen, second) = (Flags::NONE, Flags::FROZEN, Duration::from_secs(1));
    let said = world.say(1, &["freeze", "--why", "the carrier works on our lines"]);
    assert!(said.contains("frozen"), "{said}");
    world.shows("blog", Up, frozen, second);
    // Its check fails from now on, and is another one: what it showed stays.
    let bad = world.toml(&["blog"], "/bad") + &world.toml(&["shop-1", "shop-2"], "/good");
    for agent in &world.pop.agents {
        agent.write_origins(&bad);
        assert!(agent.ask(&["reload"]).status.success());
    }
    let measured = || {
        let why = world.pop.agents[0].ask(&["why", "blog", "--json"]);
        let why: serde_json::Value = serde_json::from_slice(&why.stdout).unwrap();
        (why["verdict"].clone(), why["frozen"]["who"].clone())
    };
    let began = Instant::now();
    while measured().0 != "down" {
        assert!(began.elapsed() < PATIENCE, "{:?}", measured());
        sleep(Duration::from_millis(50));
    }
    assert!(
        measured()
            .1
            .as_str()
            .is_some_and(|who| who.ends_with("@node-1"))
    );
    for at in 0..3 {
        let shown = world.entry(at, "blog").unwrap();
        assert_eq!(shown.verdict, Up, "agent {at}");
        assert!(shown.flags.contains(frozen), "agent {at}");
    }
    let status = world.pop.agents[0].status();
    assert_eq!(status["down"], 0, "status counts what the table shows");
    world.say(2, &["origin", "down", "shop-1"]);
    world.shows("shop-1", Down, Flags::FORCED, second);
    assert!(world.say(0, &["status"]).contains("FROZEN by"));
    assert!(world.pop.agents[2].log().contains("the POP is frozen"));
    for agent in &mut world.pop.agents {
        agent.kill();
        agent.start();
    }
    let began = Instant::now();
    while world.pop.agents[0]
        .ask(&["why", "blog", "--json"])
        .status
        .code()
        != Some(0)
    {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50));
    }
    sleep(Duration::from_secs(5));
    assert_eq!(world.entry(0, "blog").unwrap().verdict, Up);
    world.say(0, &["unfreeze"]);
    world.shows("blog", Down, none, PATIENCE);
    world.shows("shop-2", Up, none, PATIENCE);
    world.shows("shop-1", Down, Flags::FORCED, second);
}

#[test]
fn a_broken_file_of_overrides_is_set_aside_and_the_others_know() {
    let mut world = World::new(3, |_| {});
    world.say(1, &["origin", "down", "blog"]);
    world.shows("blog", Down, Flags::FORCED, Duration::from_secs(1));
    let file = world.pop.agents[1].home.join("state/node-1.overrides");
    world.pop.agents[1].kill();
    std::fs::write(&file, "not what it was").unwrap();
    world.pop.agents[1].start();
    world.shows("blog", Down, Flags::FORCED, PATIENCE);
    // The table of the life before shows it already.
    let began = Instant::now();
    while !world.pop.agents[1]
        .log()
        .contains("cannot read the overrides")
    {
        assert!(began.elapsed() < PATIENCE, "it says nothing");
        sleep(Duration::from_millis(50));
    }
    assert!(file.with_extension("overrides.bad").exists());
    let began = Instant::now();
    while !file.exists() {
        assert!(began.elapsed() < PATIENCE, "it is kept again");
        sleep(Duration::from_millis(50));
    }
}
