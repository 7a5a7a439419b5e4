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
