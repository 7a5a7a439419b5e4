//! Operators' decisions in a whole POP: known to all, kept through everything,
//! ended together.

mod pop;

use std::time::Duration;

use pop::{Pop, checks};
use watchfire_core::overrides::Op;

const SECOND: Duration = Duration::from_secs(1);
const HOUR_MS: i64 = 3_600_000;

/// What each running host goes by for a name.
fn says(pop: &Pop, name: &str) -> Vec<Option<Op>> {
    let of = |host: usize| pop.hosts[host].forced.get(name).map(|what| what.op);
    pop.running().into_iter().map(of).collect()
}

fn all_say(pop: &Pop, name: &str, op: Option<Op>) -> bool {
    says(pop, name).iter().all(|said| *said == op)
}

#[test]
fn a_decision_is_known_to_all_at_once() {
    let mut pop = Pop::settled(24, 10, 1);
    pop.decide(3, Op::Drain, &["shop"], None);
    let most = Duration::from_millis(20);
    let took = pop.run_until(most, |pop| all_say(pop, "shop", Some(Op::Drain)));
    assert!(took.is_some(), "{:?}", says(&pop, "shop"));
    assert!(pop.run_until(5 * SECOND, Pop::converged).is_some());
    let event = |host: usize| format!("{:?}", pop.hosts[host].events.last());
    assert!(event(9).contains("someone@3"), "{}", event(9));
}

/// Of a hundred seeds 86 took less than a second, and the longest 4.2 s: whom the
/// pushes missed learns of it by the digests on pings.
#[test]
fn through_a_loss_of_a_fifth_a_decision_is_known_mostly_within_a_second() {
    let mut in_a_second = 0;
    for seed in 1..=30 {
        let mut pop = Pop::settled(24, 10, seed);
        pop.loss_percent = 20;
        pop.decide(3, Op::Drain, &["shop"], None);
        let took = pop.run_until(6 * SECOND, |pop| all_say(pop, "shop", Some(Op::Drain)));
        let took = took.unwrap_or_else(|| panic!("seed {seed}: {:?}", says(&pop, "shop")));
        in_a_second += u32::from(took <= SECOND);
    }
    assert!(in_a_second >= 22, "{in_a_second} of 30");
}

#[test]
fn a_glob_of_a_thousand_names_reaches_all() {
    let mut pop = Pop::settled(16, 10, 2);
    let names: Vec<String> = (0..1_000).map(|n| format!("origin-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    pop.decide(0, Op::Down, &names, None);
    let all = |pop: &Pop| pop.hosts.iter().all(|host| host.forced.len() == 1_000);
    let took = pop.run_until(5 * SECOND, all);
    let missing: Vec<usize> = pop.hosts.iter().map(|host| host.forced.len()).collect();
    assert!(
        took.is_some_and(|took| took < 2 * SECOND),
        "{took:?} {missing:?}"
    );
}

#[test]
fn a_decision_outlives_its_author_a_restart_of_all_and_who_was_away_learns_of_it() {
    let mut pop = Pop::settled(5, 10, 3);
    pop.kill(4);
    pop.decide(2, Op::Down, &["shop", "not-configured-anywhere"], None);
    pop.run(2 * SECOND);
    pop.kill(2);
    // Beyond the death of its author and the collection of what that wrote.
    pop.run(Duration::from_secs(700));
    assert!(all_say(&pop, "shop", Some(Op::Down)));
    for host in pop.running() {
        pop.kill(host);
    }
    pop.run(10 * SECOND);
    for host in [0, 1, 3, 4] {
        pop.start(host, &checks(10));
    }
    let took = pop.run_until(5 * SECOND, |pop| {
        all_say(pop, "shop", Some(Op::Down))
            && all_say(pop, "not-configured-anywhere", Some(Op::Down))
    });
    assert!(took.is_some(), "{:?}", says(&pop, "shop"));
}

#[test]
fn it_ends_everywhere_at_once_though_a_clock_is_an_hour_off() {
    for (giver, off) in [(1, HOUR_MS), (0, HOUR_MS), (0, -HOUR_MS)] {
        let mut pop = Pop::new(7, 4);
        pop.hosts[0].wall_off_ms = off;
        pop.start_all(&checks(10));
        pop.run(8 * SECOND);
        let decided = pop.decide(giver, Op::Down, &["shop"], Some(20_000));
        assert_eq!(decided.clocks, 7);
        let given = pop.now;
        pop.run(SECOND);
        // Whoever starts again meanwhile goes by the same time.
        for host in [0, 5] {
            pop.kill(host);
            pop.start(host, &checks(10));
        }
        pop.run(5 * SECOND);
        assert!(all_say(&pop, "shop", Some(Op::Down)), "{off}");
        let first = pop.run_until(30 * SECOND, |pop| !all_say(pop, "shop", Some(Op::Down)));
        assert!(first.is_some());
        let lasted = pop.now.since(given);
        assert!(lasted.abs_diff(20 * SECOND) < SECOND, "{lasted:?} {off}");
        let rest = pop.run_until(SECOND, |pop| all_say(pop, "shop", None));
        assert!(rest.is_some(), "{:?}", says(&pop, "shop"));
        assert!(pop.converged());
    }
}

#[test]
fn two_operators_at_once_converge_and_the_later_one_wins() {
    let mut pop = Pop::settled(8, 10, 5);
    let (left, right): (Vec<usize>, Vec<usize>) = (0..8).partition(|host| host % 2 == 0);
    pop.decide(0, Op::Down, &["shop"], None);
    pop.decide(1, Op::Up, &["shop"], None);
    pop.run(SECOND);
    let first = says(&pop, "shop")[0];
    assert!(first.is_some() && all_say(&pop, "shop", first));
    pop.partition(&left, &right, true);
    pop.run(10 * SECOND);
    pop.decide(0, Op::Drain, &["shop"], None);
    pop.decide(1, Op::Down, &["shop"], None);
    // The second decision of one side knows of more than the other's only one.
    pop.decide(1, Op::Auto, &["shop"], None);
    pop.run(5 * SECOND);
    pop.partition(&left, &right, false);
    let healed = pop.run_until(30 * SECOND, |pop| {
        pop.converged() && all_say(pop, "shop", None)
    });
    assert!(healed.is_some(), "{:?}", says(&pop, "shop"));
}

#[test]
fn what_was_ended_does_not_come_back_with_who_was_away() {
    let mut pop = Pop::settled(5, 10, 6);
    pop.decide(0, Op::Down, &["shop"], None);
    pop.run(3 * SECOND);
    pop.kill(4);
    pop.decide(0, Op::Auto, &["shop"], None);
    pop.run(Duration::from_secs(3_600));
    pop.start(4, &checks(10));
    assert!(pop.hosts[4].forced.contains_key("shop"), "by its disk");
    let took = pop.run_until(5 * SECOND, |pop| all_say(pop, "shop", None));
    assert!(took.is_some(), "{:?}", says(&pop, "shop"));
    pop.run(10 * SECOND);
    assert!(all_say(&pop, "shop", None) && pop.converged());
}

#[test]
fn decisions_cost_no_byte_in_the_calm() {
    let bytes = |decided: bool| {
        let mut pop = Pop::settled(8, 10, 7);
        if decided {
            pop.decide(0, Op::Down, &["shop"], Some(86_400_000));
        }
        pop.run(5 * SECOND);
        let before = pop.bytes;
        pop.run(60 * SECOND);
        pop.bytes - before
    };
    let (without, with) = (bytes(false), bytes(true));
    assert!(
        with.abs_diff(without) * 100 < without,
        "{with} and {without}"
    );
}

#[test]
fn the_pop_freezes_and_a_stranger_to_it_joins_frozen() {
    let mut pop = Pop::settled(4, 10, 8);
    pop.kill(3);
    pop.hosts[3].kept = Default::default();
    pop.decide(1, Op::Freeze, &[""], None);
    pop.run(SECOND);
    pop.start(3, &checks(10));
    let took = pop.run_until(5 * SECOND, |pop| all_say(pop, "", Some(Op::Freeze)));
    assert!(took.is_some());
    pop.decide(3, Op::Auto, &[""], None);
    let took = pop.run_until(SECOND, |pop| all_say(pop, "", None));
    assert!(took.is_some());
}
