//! Most of a POP dies at once.

use core::time::Duration;

use super::world::World;

/// For how long a few who are left take to know that all others are dead.
fn time_to_know(n: usize, left: usize, seed: u8) -> Duration {
    let mut world = World::settled(n, seed);
    for index in left..n {
        world.crash(index);
    }
    let began = world.now;
    let all = |world: &World| (0..left).all(|index| world.swim(index).living() == left - 1);
    while !all(&world) && world.now.since(began) < Duration::from_secs(60) {
        world.run(Duration::from_millis(50));
    }
    world.now.since(began)
}

#[test]
fn a_few_who_are_left_know_it_within_ten_seconds() {
    for seed in 1..=5 {
        let took = time_to_know(40, 3, seed);
        println!("3 of 40 left, seed {seed}: {took:?}");
        assert!(took <= Duration::from_secs(10), "{took:?}");
    }
}

/// What one node may send is bounded, so that more dead take longer.
#[test]
fn however_many_die_suspicions_end() {
    for (n, left) in [(40, 2), (64, 20), (168, 8), (168, 3)] {
        let took = time_to_know(n, left, 1);
        println!("{left} of {n} left: {took:?}");
        assert!(took <= Duration::from_secs(20), "{left} of {n}: {took:?}");
    }
}

/// Nobody is there to tell it that it hears: it waits for as long as one whose own
/// ears are at fault.
#[test]
fn the_last_one_knows_it_when_it_cannot_be_its_own_ears() {
    for seed in 1..=2 {
        let took = time_to_know(168, 1, seed);
        println!("the last of 168, seed {seed}: {took:?}");
        assert!(took <= Duration::from_secs(30), "{took:?}");
    }
}

#[test]
fn in_the_calm_nobody_tests_its_ears() {
    let mut world = World::settled(40, 6);
    let tests = |world: &World| -> u64 {
        let all = (0..40).map(|index| world.swim(index).counters().ear_tests);
        all.sum()
    };
    let before = tests(&world);
    world.run(Duration::from_secs(20));
    assert_eq!(tests(&world), before);
}
