//! Loss, partitions, stalls and what they must not do.

use core::time::Duration;

use watchfire_wire::NodeId;

use super::world::World;
use crate::swim::Output;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn idle_traffic_is_small_and_does_not_grow_with_the_pop() {
    let mut rates = Vec::new();
    for n in [4, 32, 168] {
        let mut world = World::settled(n, 1);
        world.run(Duration::from_secs(10));
        world.nodes.iter_mut().for_each(|node| node.bytes = 0);
        world.run(Duration::from_secs(10));
        let total: u64 = world.nodes.iter().map(|node| node.bytes).sum();
        rates.push(total / 10 / n as u64);
        assert!(world.log.is_empty(), "{:?}", world.log);
    }
    assert!(
        rates.iter().all(|&rate| rate < 2_000),
        "{rates:?} bytes/s per node"
    );
    assert!(rates[2] <= rates[0] * 11 / 10, "{rates:?} bytes/s per node");
}

#[test]
fn lost_datagrams_kill_nobody() {
    for (loss, most) in [(0.05, 0), (0.20, 20)] {
        let mut world = World::settled(64, 2);
        world.loss = loss;
        world.run(5 * MINUTE);
        let died = world.said(|o| matches!(o, Output::Died(_)));
        assert!(died.is_empty(), "{} deaths at loss {loss}", died.len());
        let accused: u64 = (0..64).map(|n| world.swim(n).counters().accusations).sum();
        assert!(accused <= most, "{accused} accusations at loss {loss}");
    }
}

#[test]
fn a_crash_is_found_under_loss() {
    for loss in [0.05, 0.20] {
        let mut world = World::settled(64, 3);
        world.loss = loss;
        world.run(Duration::from_secs(5));
        let began = world.now;
        let gone = world.crash(9);
        world.run(Duration::from_secs(6));
        let died = world.said(|o| *o == Output::Died(gone));
        assert_eq!(died.len(), 63);
        let last = died.last().expect("some").0.since(began);
        assert!(last < Duration::from_secs(4), "{last:?} at loss {loss}");
    }
}

#[test]
fn a_wrong_suspicion_ends_within_ten_milliseconds() {
    let mut world = World::settled(168, 4);
    let suspect = world.swim(50).actor();
    let began = world.now;
    world.with(3, |swim, now, out| {
        swim.accuse(now, suspect, out);
        swim.flush(now, out);
    });
    world.run(Duration::from_millis(10));
    let suspected = world.said(|o| *o == Output::Suspected(suspect));
    let refuted = world.said(|o| *o == Output::Refuted(suspect));
    assert!(!suspected.is_empty() && suspected.len() == refuted.len());
    let last = refuted.last().expect("some").0.since(began);
    assert!(last < Duration::from_millis(10), "{last:?}");
    world.run(Duration::from_secs(2));
    world.assert_agreed();
}

#[test]
fn a_healed_partition_becomes_one_pop_again() {
    for (left, right) in [(10, 10), (1, 19), (30, 34)] {
        let mut world = World::settled(left + right, 5);
        for node in world.nodes.iter_mut().skip(left) {
            node.group = 1;
        }
        world.run(Duration::from_secs(20));
        assert_eq!(world.swim(0).living(), left - 1);
        assert_eq!(world.swim(left).living(), right - 1);
        world.log.clear();
        world.nodes.iter_mut().for_each(|node| node.group = 0);
        let took = world.settle(Duration::from_secs(20));
        assert!(
            took < Duration::from_secs(10),
            "{left}+{right} took {took:?}"
        );
        let died = world.said(|o| matches!(o, Output::Died(_)));
        assert!(died.is_empty(), "{} deaths while healing", died.len());
    }
}

#[test]
fn a_node_that_is_cut_off_suspects_everybody_within_a_second() {
    let mut world = World::settled(168, 12);
    let began = world.now;
    world.nodes[5].group = 1;
    world.run(Duration::from_secs(1));
    let suspected = world.said(|o| matches!(o, Output::Suspected(_)));
    let by_it: Vec<_> = suspected.iter().filter(|(_, who)| *who == 5).collect();
    assert_eq!(by_it.len(), 167);
    assert!(by_it[166].0.since(began) < Duration::from_millis(900));
    // It is back before anybody is declared dead: all is as it was.
    world.nodes[5].group = 0;
    world.run(Duration::from_secs(5));
    world.assert_agreed();
    assert!(world.said(|o| matches!(o, Output::Died(_))).is_empty());
}

#[test]
fn a_one_way_path_is_saved_by_relays() {
    let mut world = World::settled(8, 6);
    world.block = Some((world.nodes[0].addr, world.nodes[1].addr));
    world.run(MINUTE);
    assert!(world.said(|o| matches!(o, Output::Died(_))).is_empty());
    assert!(world.swim(0).counters().saved_by_relay > 0);
    assert_eq!(world.swim(0).counters().accusations, 0);
}

#[test]
fn a_stalled_node_believes_nobody_dead_when_it_wakes() {
    let mut world = World::settled(32, 7);
    world.nodes[5].stalled_until = world.now + Duration::from_secs(8);
    let stalled = world.swim(5).actor();
    world.run(Duration::from_secs(8));
    assert_eq!(world.said(|o| *o == Output::Died(stalled)).len(), 31);
    world.log.clear();
    let took = world.settle(Duration::from_secs(3));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(world.said(|o| matches!(o, Output::Died(_))).is_empty());
    assert!(world.swim(5).counters().stalls > 0);
    assert_eq!(world.swim(5).actor(), stalled, "the same life");
}

#[test]
fn a_suspicion_that_ran_out_in_a_stall_does_not_fire() {
    let mut world = World::settled(8, 8);
    let suspect = world.swim(6).actor();
    // Node 5 hears of a suspicion, then stops; the refutation waits for it.
    world.with(5, |swim, now, out| swim.accuse(now, suspect, out));
    world.nodes[5].stalled_until = world.now + Duration::from_secs(30);
    world.run(Duration::from_secs(31));
    let died = world.said(|o| matches!(o, Output::Died(actor) if *actor == suspect));
    assert!(died.is_empty());
    world.settle(Duration::from_secs(5));
}

#[test]
fn short_stalls_all_the_time_kill_nobody() {
    let mut world = World::settled(32, 9);
    let mut stalls = 0;
    for round in 0..600_u64 {
        let who = (round % 3) as usize;
        let span = Duration::from_millis(20 + round * 37 % 500);
        world.nodes[who].stalled_until = world.now + span;
        stalls += 1;
        world.run(Duration::from_millis(100));
    }
    assert_eq!(stalls, 600);
    let healthy = |actor: NodeId| (3..32).any(|n| NodeId::of_name(&format!("n{n}")) == actor);
    let died = world.said(|o| matches!(o, Output::Died(actor) if healthy(actor.node)));
    assert!(died.is_empty(), "{} healthy members died", died.len());
}

#[test]
fn mass_death_is_noticed_and_does_not_flood() {
    let mut world = World::settled(64, 10);
    world.nodes.iter_mut().for_each(|node| node.bytes = 0);
    for index in 32..64 {
        world.crash(index);
    }
    world.run(Duration::from_secs(12));
    world.assert_agreed();
    let most = world.nodes.iter().map(|node| node.bytes).max();
    assert!(
        most.is_some_and(|bytes| bytes < 12 * 100_000),
        "{most:?} bytes"
    );
}
