//! Each seeded bug of membership shows: a hook that does nothing would let the
//! simulator pass for the wrong reason.

use core::time::Duration;

use super::world::World;
use crate::mutations::{Mutation, Mutations};
use crate::swim::{Output, SwimConfig};

fn settled(n: usize, bug: Option<Mutation>) -> World {
    let config = SwimConfig {
        mutations: bug.map_or(Mutations::NONE, Mutations::only),
        ..SwimConfig::default()
    };
    let mut world = World::new(n, 1, config);
    world.run(Duration::from_secs(10));
    world.log.clear();
    world
}

#[test]
fn without_refutation_an_accused_member_dies() {
    for (bug, deaths) in [(None, 0), (Some(Mutation::NoRefutation), 7)] {
        let mut world = settled(8, bug);
        let accused = world.swim(2).actor();
        world.with(1, |swim, now, out| swim.accuse(now, accused, out));
        world.run(Duration::from_secs(12));
        let died = world.said(|o| *o == Output::Died(accused));
        assert_eq!(died.len(), deaths, "{bug:?}");
    }
}

#[test]
fn a_late_nack_makes_a_healthy_node_blame_itself() {
    let worst = [None, Some(Mutation::LateNack)].map(|bug| {
        let mut world = settled(16, bug);
        world.crash(9);
        let mut worst = 0;
        for _ in 0..40 {
            world.run(Duration::from_millis(50));
            let health = world.running().into_iter().map(|n| world.swim(n).health());
            worst = worst.max(health.max().unwrap_or(0));
        }
        worst
    });
    assert_eq!(worst[0], 0);
    assert!(worst[1] >= 2, "{worst:?}");
}

#[test]
fn a_suspicion_fires_after_a_stall_if_nobody_looks_at_the_time() {
    for (bug, deaths) in [(None, 0), (Some(Mutation::SuspicionAfterStall), 1)] {
        let mut world = settled(8, bug);
        let suspect = world.swim(6).actor();
        world.with(5, |swim, now, out| swim.accuse(now, suspect, out));
        world.nodes[5].stalled_until = world.now + Duration::from_secs(30);
        world.run(Duration::from_secs(31));
        let died = world.said(|o| *o == Output::Died(suspect));
        assert_eq!(died.len(), deaths, "{bug:?}");
    }
}

#[test]
fn an_ignored_floor_keeps_a_node_out() {
    for (bug, agreed) in [
        (None, true),
        (Some(Mutation::EpochBelowFloorIgnored), false),
    ] {
        let mut world = settled(8, bug);
        world.crash(4);
        world.run(Duration::from_secs(4));
        world.start(4, 7);
        world.run(Duration::from_secs(4));
        assert_eq!(world.agreed(), agreed, "{bug:?}");
    }
}
