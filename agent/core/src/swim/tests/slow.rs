//! Lifeguard's experiment: some members are cut off from the network for
//! seconds at a time while their timers go on, and must not bury the healthy.

use core::time::Duration;

use watchfire_wire::NodeId;

use super::world::World;
use crate::swim::Output;

#[test]
fn blocked_members_bury_nobody() {
    for (slow, rounds) in [(1, 3), (8, 3), (16, 5)] {
        let mut world = World::settled(64, 21);
        for _ in 0..rounds {
            for index in 0..slow {
                world.nodes[index].blocked_until = world.now + Duration::from_millis(8_192);
            }
            world.run(Duration::from_millis(8_192 + 64));
        }
        let is_slow = |node| (0..slow).any(|n| NodeId::of_name(&format!("n{n}")) == node);
        let healthy = world.said(|o| matches!(o, Output::Died(actor) if !is_slow(actor.node)));
        assert!(healthy.is_empty(), "{} healthy deaths", healthy.len());
        world.settle(Duration::from_secs(20));
    }
}

#[test]
fn one_who_hears_nobody_for_good_lets_go_in_the_end() {
    let mut world = World::settled(8, 22);
    world.nodes[0].group = 1;
    world.run(Duration::from_secs(9));
    assert_eq!(world.swim(0).living(), 7, "it may still be deaf");
    world.run(Duration::from_secs(4));
    assert_eq!(world.swim(0).living(), 0);
}
