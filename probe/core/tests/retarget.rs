//! A check whose name moves to another address while it is probed.

mod world;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use watchfire_probe_core::check::HostName;
use watchfire_probe_core::engine::Action;
use watchfire_probe_core::rate::Caps;
use watchfire_probe_core::{CheckSpec, Kind};
use watchfire_wire::{Reason, Unmeasured, Verdict};
use world::{Net, SECOND, World, http, tcp};

fn named(spec: CheckSpec) -> CheckSpec {
    CheckSpec {
        name: Some(HostName::parse("a.example").unwrap()),
        ..spec
    }
}

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn retarget(world: &mut World, spec: &CheckSpec, to: IpAddr) -> SocketAddr {
    let spec = Arc::new(spec.at(to));
    world.engine.retarget(spec.id(), &spec, Caps::default());
    spec.target
}

#[test]
fn phase_verdict_and_counts_stay_and_the_next_probe_goes_to_the_new_address() {
    let mut world = World::new(16);
    let spec = named(http(1));
    world.start(&spec, None);
    world.run(SECOND * 5);
    assert_eq!(world.verdicts(), [Verdict::Unknown, Verdict::Up]);
    // One contrary outcome at the old address, and two at the new one.
    world.net = Net::Refuses;
    world.run(SECOND);
    let before = world.starts.len();
    let new = retarget(&mut world, &spec, address(9));
    world.run(SECOND * 2);
    assert_eq!(world.verdicts().last(), Some(&Verdict::Down));
    assert_eq!(world.targets[before..], [new, new]);
    for pair in world.starts.windows(2) {
        assert_eq!(pair[1].since(pair[0]), SECOND, "the phase stays");
    }
}

#[test]
fn an_address_that_changes_every_two_seconds_costs_no_probe_and_no_verdict() {
    let mut world = World::new(16);
    let spec = named(tcp(1));
    world.start(&spec, None);
    for turn in 0..60 {
        retarget(&mut world, &spec, address(1 + turn % 2));
        world.run(SECOND * 2);
    }
    assert!((119..=121).contains(&world.starts.len()));
    assert_eq!(world.verdicts(), [Verdict::Unknown, Verdict::Up]);
    assert_eq!(world.engine.slots_in_use(), 0);
}

#[test]
fn a_kept_connection_to_the_old_address_is_closed() {
    let mut world = World::new(16);
    let mut spec = named(http(1));
    if let Kind::Http(http) = &mut spec.kind {
        http.reuse = true;
    }
    world.start(&spec, None);
    world.run(SECOND * 4);
    let opened = world.targets.len();
    assert_eq!((opened, world.engine.slots_in_use()), (1, 1));
    let new = retarget(&mut world, &spec, address(9));
    world.run(Duration::from_millis(20));
    assert_eq!(world.engine.slots_in_use(), 0, "it is closed at once");
    world.run(SECOND * 4);
    assert_eq!(world.targets[opened..], [new], "and opened anew, once");
    assert_eq!(world.verdicts(), [Verdict::Unknown, Verdict::Up]);
}

#[test]
fn a_probe_in_flight_ends_where_it_began_and_its_place_is_given_back() {
    let mut world = World::new(2);
    let spec = named(http(1));
    world.net = Net::Hangs;
    world.start(&spec, None);
    world.run(SECOND + Duration::from_millis(10));
    for turn in 0..4 {
        retarget(&mut world, &spec, address(turn));
        world.run(SECOND);
    }
    world.engine.stop(spec.id());
    world.run(SECOND);
    assert_eq!(world.engine.slots_in_use(), 0);
    assert!(world.engine.stats().reason(Reason::FirstByteTimeout) >= 3);
}

#[test]
fn without_an_address_nothing_is_opened_and_nothing_measured() {
    let mut world = World::new(16);
    let spec = named(tcp(1)).at([0, 0, 0, 0].into());
    world.start(&spec, None);
    world.engine.ask(
        spec.id(),
        &Arc::new(spec.clone()),
        7,
        Caps::default(),
        world.now,
    );
    let mut actions = Vec::new();
    world.run(SECOND * 3);
    world.engine.take_actions(&mut actions);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Open(_)))
    );
    assert!(world.targets.is_empty());
    let stats = world.engine.stats();
    let at = Unmeasured::ALL
        .iter()
        .position(|&it| it == Unmeasured::NameUnresolved);
    assert!(stats.by_unmeasured[at.unwrap()] >= 3);
    // As soon as it has one it is probed.
    retarget(&mut world, &spec, address(1));
    world.run(SECOND * 3);
    assert_eq!(world.verdicts().last(), Some(&Verdict::Up));
}
