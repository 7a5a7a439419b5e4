//! Joining, dying, leaving, coming back.

use core::time::Duration;

use watchfire_wire::NodeId;

use super::world::{World, addr_of, profile};
use crate::swim::{Output, State, Swim, SwimConfig};

#[test]
fn a_pop_forms_within_seconds() {
    for n in [2, 5, 64] {
        let mut world = World::new(n, 1, SwimConfig::default());
        let took = world.settle(Duration::from_secs(5));
        assert!(took < Duration::from_secs(3), "{n} nodes took {took:?}");
        let admitted = world.said(|output| *output == Output::Admitted);
        assert_eq!(admitted.len(), n);
        assert!(world.said(|o| matches!(o, Output::Suspected(_))).is_empty());
    }
}

#[test]
fn a_node_without_other_seeds_is_alone_at_once() {
    let mut world = World::empty(1, SwimConfig::default());
    world.seeds = vec![addr_of(0)];
    world.add("n0", addr_of(0), 1);
    world.run(Duration::from_millis(1));
    assert!(world.swim(0).is_admitted());
}

#[test]
fn a_crash_is_known_to_all_within_three_seconds() {
    let mut worst = Duration::ZERO;
    let mut first = Duration::ZERO;
    for seed in 1..=4 {
        let mut world = World::settled(168, seed);
        for victim in [10, 90] {
            let began = world.now;
            let gone = world.crash(victim);
            world.run(Duration::from_secs(5));
            let died = world.said(|o| *o == Output::Died(gone));
            assert_eq!(died.len(), world.running().len());
            let suspected = world.said(|o| *o == Output::Suspected(gone));
            worst = worst.max(died.last().expect("some").0.since(began));
            first = first.max(suspected[0].0.since(began));
        }
        let deaths = world.said(|o| matches!(o, Output::Died(_))).len();
        assert_eq!(deaths, 167 + 166, "nobody else died");
    }
    assert!(
        worst < Duration::from_millis(3_200),
        "known to all after {worst:?}"
    );
    assert!(
        first < Duration::from_millis(1_500),
        "first suspected after {first:?}"
    );
}

#[test]
fn two_and_three_nodes_notice_a_crash_too() {
    for n in [2, 3] {
        let mut world = World::settled(n, 4);
        let gone = world.crash(n - 1);
        world.run(Duration::from_secs(3));
        assert_eq!(world.said(|o| *o == Output::Died(gone)).len(), n - 1);
    }
}

#[test]
fn who_leaves_is_never_suspected() {
    let mut world = World::settled(64, 2);
    let began = world.now;
    let gone = world.swim(7).actor();
    world.with(7, |swim, now, out| swim.leave(now, out));
    world.run(Duration::from_millis(400));
    let left = world.said(|o| *o == Output::Left(gone));
    assert_eq!(left.len(), 63);
    assert!(left.last().expect("some").0.since(began) < Duration::from_millis(150));
    assert_eq!(world.said(|o| *o == Output::Departed).len(), 1);
    world.crash(7);
    world.run(Duration::from_secs(10));
    assert!(
        world
            .said(|o| matches!(o, Output::Suspected(_) | Output::Died(_)))
            .is_empty()
    );
    world.assert_agreed();
}

#[test]
fn a_restart_is_another_life() {
    let mut world = World::settled(10, 3);
    let old = world.crash(4);
    world.start(4, 2_000);
    let took = world.settle(Duration::from_secs(3));
    assert!(took < Duration::from_millis(500), "{took:?}");
    let new = world.swim(4).actor();
    assert_eq!(world.said(|o| *o == Output::Died(old)).len(), 9);
    assert_eq!(world.said(|o| *o == Output::Joined(new)).len(), 9);
}

#[test]
fn a_restart_below_its_floor_takes_a_greater_epoch() {
    for gap in [Duration::ZERO, Duration::from_secs(8)] {
        let mut world = World::settled(10, 3);
        world.crash(4);
        world.run(gap);
        world.start(4, 7);
        world.settle(Duration::from_secs(3));
        assert_eq!(world.swim(4).actor().epoch, 1_001);
        assert_eq!(world.said(|o| *o == Output::EpochNeeded(1_001)).len(), 1);
    }
}

#[test]
fn who_starts_below_a_goodbye_that_others_heard_rises_above_it() {
    let mut world = World::settled(10, 4);
    world.crash(4);
    for index in 5..10 {
        world.nodes[index].group = 1;
    }
    world.run(Duration::from_secs(10));
    // One half sees it come and leave, the other sees an earlier epoch of it.
    world.start(4, 5_000);
    world.run(Duration::from_secs(3));
    world.with(4, Swim::leave);
    world.run(Duration::from_secs(1));
    world.crash(4);
    world.nodes[4].group = 1;
    world.seeds = vec![addr_of(5)];
    world.start(4, 2_000);
    world.run(Duration::from_secs(3));
    assert_eq!(world.swim(4).actor().epoch, 2_000);
    assert!(world.swim(5).is_living(world.swim(4).actor()));
    // The halves meet while it is out of reach: it misses what they tell.
    for node in &mut world.nodes {
        node.group = 0;
    }
    world.nodes[4].group = 2;
    world.run(Duration::from_secs(8));
    world.nodes[4].group = 0;
    world.settle(Duration::from_secs(20));
    assert!(world.swim(4).actor().epoch > 5_000);
}

#[test]
fn one_who_was_forgotten_comes_back_above_its_floor() {
    let config = SwimConfig {
        dead_memory: Duration::from_secs(10),
        ..SwimConfig::default()
    };
    let mut world = World::new(5, 3, config);
    world.run(Duration::from_secs(3));
    world.crash(4);
    world.run(Duration::from_secs(30));
    let node = NodeId::of_name("n4");
    assert!(world.swim(0).member(node).is_none());
    world.start(4, 999);
    world.settle(Duration::from_secs(3));
    assert_eq!(world.swim(4).actor().epoch, 1_001);
}

#[test]
fn a_newcomer_of_a_living_name_goes_and_the_old_one_stays() {
    let mut world = World::settled(10, 5);
    let old = world.swim(4).actor();
    let newcomer = world.add("n4", addr_of(50), 5_000);
    world.run(Duration::from_secs(3));
    let conflicts = world.said(|o| matches!(o, Output::Conflict { .. }));
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].1, newcomer);
    assert!(!world.swim(newcomer).is_admitted());
    world.crash(newcomer);
    world.run(Duration::from_secs(2));
    world.assert_agreed();
    assert!(world.swim(0).is_living(old));
    assert!(
        world
            .said(|o| matches!(o, Output::Suspected(_) | Output::Died(_)))
            .is_empty()
    );
}

#[test]
fn a_name_moves_when_its_old_holder_is_silent() {
    let mut world = World::settled(10, 5);
    world.crash(4);
    let newcomer = world.add("n4", addr_of(50), 500);
    world.settle(Duration::from_secs(5));
    let actor = world.swim(newcomer).actor();
    assert!(actor.epoch > 1_000);
    assert_eq!(
        world.swim(0).member(actor.node).expect("known").addr,
        addr_of(50)
    );
    assert!(
        world
            .said(|o| matches!(o, Output::Conflict { .. }))
            .is_empty()
    );
}

#[test]
fn after_a_partition_the_lower_epoch_of_a_name_stands_down() {
    let mut world = World::settled(10, 6);
    for index in 5..10 {
        world.nodes[index].group = 1;
    }
    world.run(Duration::from_secs(10));
    // The other half knows n7; this half believes it dead, and a new n7 joins.
    let newer = world.add("n7", addr_of(50), 9_000);
    world.run(Duration::from_secs(5));
    assert!(world.swim(newer).is_admitted());
    for node in &mut world.nodes {
        node.group = 0;
    }
    world.run(Duration::from_secs(10));
    let conflicts = world.said(|o| matches!(o, Output::Conflict { .. }));
    assert!(conflicts.iter().all(|&(_, who)| who == 7) && !conflicts.is_empty());
    world.crash(7);
    world.settle(Duration::from_secs(10));
    assert!(world.swim(9).is_living(world.swim(newer).actor()));
}

#[test]
fn what_a_member_says_of_itself_reaches_all_at_once() {
    let mut world = World::settled(64, 7);
    let began = world.now;
    let mut changed = profile("n3", addr_of(3));
    changed.draining = true;
    world.with(3, |swim, now, out| {
        swim.set_profile(now, changed.clone(), out)
    });
    world.run(Duration::from_secs(1));
    let node = NodeId::of_name("n3");
    for other in world.running().into_iter().filter(|&n| n != 3) {
        assert!(
            world
                .swim(other)
                .member(node)
                .expect("known")
                .profile
                .draining
        );
    }
    let said = world.said(|o| matches!(o, Output::ProfileChanged(_)));
    assert_eq!(said.len(), 63);
    assert!(said.last().expect("some").0.since(began) < Duration::from_millis(100));
}

#[test]
fn the_lowest_newest_version_is_spoken() {
    let mut world = World::settled(3, 8);
    let mut newer = profile("n1", addr_of(1));
    newer.protocol_max = 3;
    world.with(1, |swim, now, out| swim.set_profile(now, newer, out));
    world.run(Duration::from_secs(1));
    assert_eq!(world.swim(0).protocol(), 1);
    assert_eq!(world.swim(1).protocol(), 1);
    world.crash(0);
    world.crash(2);
    world.run(Duration::from_secs(15));
    assert_eq!(world.swim(1).protocol(), 3);
}

#[test]
fn restarts_leave_memory_where_it_was() {
    let mut world = World::settled(3, 9);
    for round in 0..3_000_u64 {
        // One name over and over, and ever new names beside it.
        world.crash(2);
        if round % 2 == 0 {
            world.nodes[2].name = format!("passing-{round}");
        } else {
            world.nodes[2].name = "n2".to_owned();
        }
        world.start(2, 2_000 + round);
        world.run(Duration::from_millis(300));
    }
    let members = world.swim(0).members();
    let gone = members.filter(|member| !member.state.is_living()).count();
    assert!(gone > 1_000, "the limit was not put to the test");
    assert!(gone <= crate::swim::limits::REMEMBERED, "{gone} remembered");
    world.nodes[2].name = "n2".to_owned();
    world.crash(2);
    world.start(2, 9_000);
    world.run(Duration::from_secs(30));
    let living = world.swim(0).members().filter(|m| m.state == State::Alive);
    assert_eq!(living.count(), 2);
}
