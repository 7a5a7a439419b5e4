//! Whose fault it is: second opinions, blind agents, checks that cannot be
//! measured.

mod pop;

use std::time::Duration;

use pop::{Pop, check, checks};
use watchfire_core::io::Event;
use watchfire_wire::{CheckId, Verdict};

fn downs(pop: &Pop) -> usize {
    pop.hosts
        .iter()
        .flat_map(|host| &host.events)
        .filter(|(_, event)| matches!(event, Event::Transition(_, _, Verdict::Down)))
        .count()
}

#[test]
fn a_blind_node_turns_nothing_down_and_gives_way() {
    for loss in [0, 5] {
        let mut pop = Pop::settled(6, 120, 20);
        pop.loss_percent = loss;
        pop.blind.insert(2);
        pop.run(Duration::from_secs(20));
        assert_eq!(downs(&pop), 0);
        assert!(pop.node(2).is_blind());
        assert_eq!(pop.node(2).checks_probed(), 0);
        pop.blind.clear();
        pop.loss_percent = 0;
        pop.run(Duration::from_secs(60));
        assert!(!pop.node(2).is_blind());
        assert!(pop.node(2).checks_probed() > 0);
        assert_eq!(downs(&pop), 0);
        pop.assert_settled();
    }
}

#[test]
fn a_real_failure_is_confirmed_in_time() {
    let mut pop = Pop::settled(6, 30, 21);
    pop.down.insert(check(5));
    let took = pop
        .run_until(Duration::from_secs(6), |pop| {
            pop.hosts
                .iter()
                .all(|host| host.table[&check(5)].verdict == Verdict::Down)
        })
        .expect("it turns Down");
    assert!(took < Duration::from_millis(3_200), "{took:?}");
    let word = pop.node(0).store().winner(check(5)).unwrap();
    assert_eq!((word.slot.value.agreed, word.slot.value.dissented), (2, 0));
    pop.run(Duration::from_secs(1));
    pop.assert_settled();
}

#[test]
fn a_lone_node_decides_alone() {
    let mut pop = Pop::settled(1, 10, 22);
    pop.down.insert(check(1));
    pop.run(Duration::from_secs(5));
    pop.assert_settled();
}

/// The hosts in the order of their ranks for a check.
fn ranked(pop: &Pop, check: CheckId) -> Vec<usize> {
    let host = |id| (0..pop.hosts.len()).find(|&host| Pop::id(host) == id);
    let ranks = pop.node(0).ranks(check);
    ranks.into_iter().filter_map(host).collect()
}

#[test]
fn a_peer_that_lacks_the_check_makes_room_for_the_next() {
    let mut pop = Pop::settled(6, 1, 26);
    let ranks = ranked(&pop, check(0));
    assert_eq!(pop.probers(check(0)), ranks[..1]);
    for &host in &ranks[1..3] {
        pop.remove(host, &[check(0)]);
    }
    pop.run(Duration::from_secs(1));
    pop.blind.insert(ranks[0]);
    pop.run(Duration::from_secs(6));
    assert_eq!(downs(&pop), 0);
    assert_eq!(pop.probers(check(0)), ranks[3..4]);
}

#[test]
fn peers_that_contradict_each_other_call_one_more() {
    let mut pop = Pop::settled(6, 1, 27);
    let ranks = ranked(&pop, check(0));
    pop.blind.extend(&ranks[..2]);
    pop.run(Duration::from_secs(12));
    assert_eq!(downs(&pop), 0);
    assert_eq!(pop.probers(check(0)), ranks[2..3]);
}

#[test]
fn a_node_that_sees_nothing_and_hears_nobody_decides_nothing() {
    let mut pop = Pop::settled(6, 60, 28);
    pop.blind.insert(2);
    pop.partition(&[2], &[0, 1, 3, 4, 5], true);
    pop.run(Duration::from_secs(6));
    assert_eq!(downs(&pop), 0);
    pop.partition(&[2], &[0, 1, 3, 4, 5], false);
    pop.run(Duration::from_secs(6));
    assert_eq!(downs(&pop), 0);
}

#[test]
fn a_pass_is_no_ground_to_write_the_down_before_it() {
    let mut pop = Pop::settled(1, 1, 29);
    pop.down.insert(check(0));
    pop.run(Duration::from_secs(5));
    assert_eq!(downs(&pop), 1);
    pop.unmeasurable.insert((0, check(0)));
    pop.run(Duration::from_secs(5));
    let published = |pop: &Pop| pop.hosts[0].table[&check(0)].verdict;
    assert_eq!(published(&pop), Verdict::Down, "it stands for a while");
    pop.run(Duration::from_secs(10));
    assert_eq!(published(&pop), Verdict::Unknown);
    pop.down.clear();
    pop.unmeasurable.clear();
    pop.run(Duration::from_secs(10));
    assert_eq!((downs(&pop), published(&pop)), (1, Verdict::Up));
}

#[test]
fn what_one_node_cannot_measure_another_does() {
    let mut pop = Pop::settled(5, 50, 23);
    let owned: Vec<CheckId> = pop.node(1).checks_owned().collect();
    pop.unmeasurable
        .extend(owned.iter().map(|&check| (1, check)));
    pop.run(Duration::from_secs(8));
    assert_eq!(pop.node(1).checks_probed(), 0);
    assert_eq!(downs(&pop), 0);
    pop.assert_settled();
    pop.unmeasurable.clear();
    pop.run(Duration::from_secs(45));
    assert_eq!(pop.node(1).checks_probed(), owned.len());
    pop.assert_settled();
}

#[test]
fn what_nobody_can_measure_is_unknown_and_says_why() {
    let mut pop = Pop::settled(4, 20, 24);
    pop.unmeasurable.extend((0..4).map(|host| (host, check(9))));
    pop.run(Duration::from_secs(40));
    for host in 0..4 {
        let published = pop.hosts[host].table[&check(9)];
        assert_eq!(published.verdict, Verdict::Unknown, "host {host}");
        assert!(published.reason >= 128);
    }
    assert_eq!(pop.probers(check(9)).len(), 1);
    pop.unmeasurable.clear();
    pop.run(Duration::from_secs(60));
    pop.assert_settled();
}

#[test]
fn checks_are_given_back_when_the_probers_recover() {
    let mut pop = Pop::settled(4, 40, 25);
    let mine = pop.node(0).checks_probed();
    pop.feed(0, watchfire_core::io::Input::ProberHealthy(false));
    pop.run(Duration::from_secs(4));
    assert_eq!(pop.node(0).checks_probed(), 0);
    for n in checks(40) {
        assert_eq!(pop.probers(n).len(), 1);
    }
    pop.feed(0, watchfire_core::io::Input::ProberHealthy(true));
    pop.run(Duration::from_secs(14));
    assert_eq!(pop.node(0).checks_probed(), mine);
    pop.assert_settled();
}
