//! Fair to origins and among checks: nobody is blamed for what is ours, and
//! nobody waits for ever.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use watchfire_probe_core::engine::ReportKind;
use watchfire_probe_core::{CheckSpec, Kind};
use world::{Net, SECOND, World, http};

#[test]
fn under_a_cap_every_check_has_its_turn() {
    let mut world = World::new(64);
    world.start_capped(None);
    world.run(SECOND * 60);
    let measured = world.reports.iter().filter_map(|report| {
        matches!(report.kind, ReportKind::Measured { .. }).then_some(report.check)
    });
    assert_eq!(measured.collect::<BTreeSet<_>>().len(), 100);
}

#[test]
fn an_origin_may_give_up_waiting_on_a_kept_connection() {
    let mut world = World::new(16);
    let mut spec = http(1);
    if let Kind::Http(http) = &mut spec.kind {
        http.reuse = true;
    }
    world.start(&spec, None);
    world.run(SECOND * 3);
    world.net = Net::Expires;
    for _ in 0..20_000 {
        world.run(Duration::from_micros(100));
        if world.engine.stats().reopened > 0 {
            break;
        }
    }
    world.net = Net::Answers;
    world.run(SECOND * 2);
    let stats = world.engine.stats();
    assert_eq!((stats.reopened, stats.failed()), (1, 0));
    // On a connection of its own the same answer is the origin's word.
    world.net = Net::Expires;
    world.run(SECOND * 3);
    assert!(world.engine.stats().failed() > 0);
}

#[test]
fn short_delays_of_ours_add_up() {
    // Whether the connect, handed over at once, was found 4 ms later counts;
    // each time it was our turn that took 1.9 ms.
    let mut world = World::new(16);
    let timeout = Duration::from_millis(10);
    let interval = SECOND;
    world.start(
        &CheckSpec {
            timeout,
            interval,
            ..http(1)
        },
        None,
    );
    world.delay = Duration::from_micros(8_500);
    while world.starts.is_empty() {
        world.now += Duration::from_millis(1);
        world.turn(Duration::ZERO);
    }
    for _ in 0..6 {
        world.now += Duration::from_micros(1_900);
        world.turn(Duration::from_micros(1_900));
    }
    // 11.4 ms have passed, 1.9 of them before the connect was under way.
    let stats = world.engine.stats();
    assert_eq!(stats.failed(), 0);
}
