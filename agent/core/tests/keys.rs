//! Rotating the POP's keys: add, use, remove, one node after the other.

mod pop;

use std::time::Duration;

use pop::{Pop, checks};
use watchfire_core::gate::Keys;
use watchfire_core::io::Event;
use watchfire_wire::keys::{Key, KeyId, KeyRing};

/// A key file: the first one seals, all of them open.
fn keys(ids: &[u32]) -> Keys {
    let key = |id: u32| Key::from_bytes(&[u8::try_from(id).unwrap(); 32]);
    let mut ring = KeyRing::of(KeyId(ids[0]), key(ids[0])).unwrap();
    for &id in &ids[1..] {
        ring.add(KeyId(id), key(id)).unwrap();
    }
    Keys::Sealed(ring)
}

/// What is in the key file after each step.
const STEPS: [&[u32]; 3] = [&[1, 2], &[2, 1], &[2]];

fn sealed(hosts: usize, seed: u8) -> Pop {
    let mut pop = Pop::with(hosts, seed, |config| config.keys = keys(&[1]));
    pop.start_all(&checks(30));
    pop.run(Duration::from_secs(8));
    pop.assert_settled();
    pop
}

fn set(pop: &mut Pop, host: usize, ids: &[u32]) {
    let node = pop.hosts[host].node.as_mut().expect("it runs");
    node.set_keys(keys(ids));
}

fn said(pop: &Pop, what: impl Fn(&Event) -> bool) -> usize {
    let events = pop.hosts.iter().flat_map(|host| &host.events);
    events.filter(|(_, event)| what(event)).count()
}

#[test]
fn a_rotation_costs_no_member_and_no_check() {
    let mut pop = sealed(6, 40);
    for step in STEPS {
        for host in 0..6 {
            set(&mut pop, host, step);
            pop.run(Duration::from_millis(300));
        }
        // The operator makes sure that all have it before the next step.
        pop.run(Duration::from_millis(500));
    }
    pop.run(Duration::from_secs(2));
    pop.assert_settled();
    let troubled = |event: &Event| {
        matches!(
            event,
            Event::Suspected(_) | Event::Died(_) | Event::UnknownKey(_)
        )
    };
    assert_eq!(said(&pop, troubled), 0);
}

#[test]
fn who_was_down_during_a_rotation_finds_out_and_comes_back_with_the_new_key() {
    let mut pop = sealed(6, 41);
    pop.kill(5);
    pop.run(Duration::from_secs(5));
    for step in STEPS {
        for host in 0..5 {
            set(&mut pop, host, step);
        }
        pop.run(Duration::from_secs(1));
    }
    // It starts with the file that it knew.
    pop.start(5, &checks(30));
    pop.run(Duration::from_secs(8));
    let unknown = |(_, event): &(_, Event)| *event == Event::UnknownKey(2);
    assert!(pop.hosts[5].events.iter().any(unknown), "it says so");
    assert_eq!(pop.node(0).living(), 5, "nobody hears it");
    set(&mut pop, 5, &[2]);
    pop.run(Duration::from_secs(20));
    assert_eq!(pop.node(5).living(), 6);
    pop.assert_settled();
}
