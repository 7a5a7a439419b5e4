//! What a service manager hears: ready when the table is there, signs of life,
//! and the end.

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use support::{Pop, origins_toml};
use watchfire_table::Reader;

#[test]
fn ready_is_said_when_the_origins_are_in_the_table() {
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    let ear = UnixDatagram::bind(agent.home.join("notify")).unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut heard = [0; 64];
        let count = ear.recv(&mut heard).unwrap();
        String::from_utf8(heard[..count].to_vec()).unwrap()
    };
    let path = agent.home.join("notify").display().to_string();
    agent.env.push(("NOTIFY_SOCKET".into(), path));
    agent.env.push(("WATCHDOG_USEC".into(), "1200000".into()));
    agent.write_origins(&origins_toml(0..40, 9));
    agent.start();
    assert_eq!(hear(), "READY=1");
    assert_eq!(Reader::open(&agent.table()).unwrap().entries().len(), 40);
    for _ in 0..5 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    assert!(agent.stop().success());
    while hear() != "STOPPING=1" {}
}

#[test]
fn the_journal_is_told_priorities_and_no_times() {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    let pop = Pop::new(1);
    let agent = &pop.agents[0];
    agent.write_origins("x\n");
    std::fs::write(agent.home.join("good.toml"), "").unwrap();
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let config = config.replace("[\"origins.toml\"]", "[\"origins.toml\", \"good.toml\"]");
    std::fs::write(agent.config(), config).unwrap();
    let path = agent.home.join("log");
    let log = std::fs::File::create(&path).unwrap();
    let meta = log.metadata().unwrap();
    let mut child = Command::new(support::WATCHFIRE)
        .args(["run", "--config"])
        .arg(agent.config())
        .env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino()))
        .stderr(log)
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !agent.log().contains("started") {
        assert!(std::time::Instant::now() < deadline, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let log = agent.log();
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    let priority_of = |word: &str| log.lines().find(|line| line.contains(word)).unwrap();
    assert!(priority_of("left out").starts_with("<3>"), "{log}");
    assert!(priority_of("help: ").starts_with("<3>"), "{log}");
    assert!(priority_of("started").starts_with("<6>"), "{log}");
}
