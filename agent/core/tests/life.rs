//! The life of a POP: it settles, loses members, gets new ones, changes its
//! checks, splits and heals.

mod pop;

use std::time::Duration;

use pop::{INTERVAL, Pop, check, checks};
use watchfire_core::io::Input;
use watchfire_wire::{CheckId, Verdict};

#[test]
fn each_check_is_probed_by_exactly_one_and_once_an_interval() {
    let mut pop = Pop::settled(5, 200, 1);
    pop.assert_settled();
    let from = pop.now;
    pop.run(Duration::from_secs(10));
    assert_eq!(pop.probes_between(from, pop.now), 2_000);
    pop.assert_settled();
    for host in 0..5 {
        let share = pop.node(host).checks_probed();
        assert!((15..=70).contains(&share), "host {host} owns {share}");
    }
}

#[test]
fn a_killed_members_checks_are_taken_over_within_a_second_beyond_the_interval() {
    let mut gaps = Vec::new();
    for seed in 0..8 {
        let mut pop = Pop::settled(7, 140, seed);
        let owned: Vec<CheckId> = pop.node(3).checks_owned().collect();
        assert!(!owned.is_empty());
        let killed = pop.now;
        pop.kill(3);
        pop.run(Duration::from_secs(12));
        pop.assert_settled();
        for check in owned {
            let last = pop
                .probes
                .iter()
                .rfind(|probed| probed.check == check && probed.at <= killed)
                .expect("it was probed");
            gaps.push(pop.longest_gap(check, last.at, pop.now));
        }
    }
    gaps.sort_unstable();
    // Seven members ping in random order; rarely nobody's turn comes for a
    // second.
    let most = gaps[gaps.len() * 9 / 10];
    assert!(most < INTERVAL + Duration::from_secs(1), "{most:?}");
    let worst = gaps[gaps.len() - 1];
    assert!(worst < INTERVAL + Duration::from_millis(1_500), "{worst:?}");
}

#[test]
fn a_transition_reaches_every_table_within_50_ms() {
    let mut pop = Pop::settled(24, 48, 3);
    for flip in [true, false] {
        if flip {
            pop.down.insert(check(7));
        } else {
            pop.down.remove(&check(7));
        }
        let want = if flip { Verdict::Down } else { Verdict::Up };
        pop.run(Duration::from_secs(6));
        let seen: Vec<_> = pop
            .running()
            .into_iter()
            .map(|host| {
                assert_eq!(pop.hosts[host].table[&check(7)].verdict, want);
                pop.hosts[host].table_at[&check(7)]
            })
            .collect();
        let spread = seen
            .iter()
            .max()
            .unwrap()
            .since(*seen.iter().min().unwrap());
        assert!(spread < Duration::from_millis(50), "{spread:?}");
        pop.assert_settled();
    }
}

#[test]
fn configuration_that_arrives_late_leaves_nothing_unprobed_and_nothing_doubled() {
    let mut pop = Pop::new(5, 4);
    let all = checks(100);
    pop.start(0, &all[..50]);
    pop.start(1, &all[50..]);
    for host in 2..5 {
        pop.start(host, &[]);
    }
    pop.run(Duration::from_secs(8));
    pop.assert_settled();
    let from = pop.now;
    for host in 0..5 {
        pop.add(host, &all);
        pop.run(Duration::from_millis(700));
    }
    // Who has just learnt of a check takes it over once it has stood as first.
    pop.run(Duration::from_secs(14));
    pop.assert_settled();
    for &check in &all {
        let gap = pop.longest_gap(check, from, pop.now);
        assert!(gap <= Duration::from_millis(2_000), "{check}: {gap:?}");
    }
    let from = pop.now;
    pop.run(Duration::from_secs(5));
    assert_eq!(pop.probes_between(from, pop.now), 500);
}

#[test]
fn a_dropped_check_goes_on_at_the_next_that_has_it() {
    let mut pop = Pop::settled(5, 60, 5);
    let owned: Vec<CheckId> = pop.node(2).checks_owned().collect();
    let from = pop.now;
    pop.remove(2, &owned);
    pop.run(Duration::from_secs(5));
    pop.assert_settled();
    for &check in &owned {
        let gap = pop.longest_gap(check, from, pop.now);
        assert!(
            gap <= INTERVAL + Duration::from_millis(10),
            "{check}: {gap:?}"
        );
    }
    // A check that nobody has any more is probed by nobody.
    for host in 0..5 {
        pop.remove(host, &owned);
    }
    let from = pop.now;
    pop.run(Duration::from_secs(3));
    assert!(
        !pop.probes[..]
            .iter()
            .any(|probed| probed.at > from && owned.contains(&probed.check))
    );
}

#[test]
fn a_restart_without_some_checks_leaves_none_unprobed() {
    let mut pop = Pop::settled(5, 80, 6);
    let all = checks(80);
    let from = pop.now;
    pop.kill(1);
    pop.run(Duration::from_millis(300));
    pop.start(1, &all[..40]);
    pop.run(Duration::from_secs(8));
    pop.assert_settled();
    for &check in &all {
        let gap = pop.longest_gap(check, from, pop.now);
        assert!(gap <= INTERVAL + Duration::from_secs(1), "{check}: {gap:?}");
    }
}

#[test]
fn a_drained_member_hands_over_before_it_stops() {
    let mut pop = Pop::settled(4, 80, 7);
    let all = checks(80);
    let from = pop.now;
    pop.feed(0, Input::Drain(true));
    pop.run(Duration::from_secs(4));
    assert_eq!(pop.node(0).checks_probed(), 0);
    pop.assert_settled();
    pop.feed(0, Input::Drain(false));
    pop.run(Duration::from_secs(14));
    assert!(pop.node(0).checks_probed() > 0);
    pop.assert_settled();
    for &check in &all {
        let gap = pop.longest_gap(check, from, pop.now);
        assert!(
            gap <= INTERVAL + Duration::from_millis(150),
            "{check}: {gap:?}"
        );
    }
}

#[test]
fn a_leaving_member_hands_over_and_goes() {
    let mut pop = Pop::settled(4, 80, 8);
    let all = checks(80);
    let from = pop.now;
    pop.feed(3, Input::Leave);
    pop.run(Duration::from_secs(6));
    assert!(pop.hosts[3].left);
    pop.assert_settled();
    for &check in &all {
        let gap = pop.longest_gap(check, from, pop.now);
        assert!(
            gap <= INTERVAL + Duration::from_millis(150),
            "{check}: {gap:?}"
        );
    }
}

#[test]
fn both_sides_of_a_partition_probe_everything_and_agree_after_it() {
    let mut pop = Pop::settled(6, 60, 9);
    let all = checks(60);
    pop.partition(&[0, 1], &[2, 3, 4, 5], true);
    pop.run(Duration::from_secs(15));
    pop.down.extend(&all[..10]);
    pop.run(Duration::from_secs(10));
    for &check in &all {
        let probers = pop.probers(check);
        assert_eq!(probers.iter().filter(|&&host| host < 2).count(), 1);
        assert_eq!(probers.iter().filter(|&&host| host >= 2).count(), 1);
    }
    pop.partition(&[0, 1], &[2, 3, 4, 5], false);
    pop.run(Duration::from_secs(20));
    pop.assert_settled();
}

#[test]
fn a_mass_transition_reaches_all_in_two_seconds() {
    let mut pop = Pop::settled(12, 2_400, 10);
    let all = checks(2_400);
    pop.bytes = 0;
    pop.bulk_bytes = 0;
    pop.down.extend(&all);
    let took = pop
        .run_until(Duration::from_secs(10), |pop| {
            pop.hosts.iter().all(|host| {
                host.table
                    .values()
                    .all(|published| published.verdict == Verdict::Down)
            })
        })
        .expect("all tables turn Down");
    // Three failures take up to three intervals, and the questions about 200
    // Downs a second and node their budget.
    assert!(took < Duration::from_secs(3 + 5), "{took:?}");
    pop.run(Duration::from_secs(1));
    pop.assert_settled();
}

#[test]
fn a_newcomer_fetches_a_large_map_over_a_stream() {
    let mut pop = Pop::settled(3, 3_000, 11);
    pop.kill(2);
    pop.run(Duration::from_secs(8));
    pop.bulk_bytes = 0;
    pop.start(2, &checks(3_000));
    pop.run(Duration::from_secs(8));
    assert!(pop.bulk_bytes > 3_000 * 80);
    pop.assert_settled();
}

#[test]
fn restarts_leave_the_map_as_it_was() {
    let mut pop = Pop::with(3, 12, |config| {
        config.retention.quiet = Duration::from_secs(40);
    });
    pop.start_all(&checks(30));
    pop.run(Duration::from_secs(8));
    for _ in 0..20 {
        pop.kill(1);
        pop.run(Duration::from_millis(800));
        pop.start(1, &checks(30));
        pop.run(Duration::from_secs(6));
    }
    pop.run(Duration::from_secs(90));
    pop.assert_settled();
    let lives = pop.node(0).claims().count();
    assert!(lives <= 5, "{lives} lives are remembered");
    assert!(pop.node(0).store().len() <= 45);
}

#[test]
fn loss_delays_and_never_divides() {
    let mut pop = Pop::new(8, 13);
    pop.loss_percent = 20;
    pop.start_all(&checks(80));
    pop.run(Duration::from_secs(20));
    pop.down.insert(check(3));
    pop.run(Duration::from_secs(20));
    pop.loss_percent = 0;
    pop.run(Duration::from_secs(20));
    pop.assert_settled();
}
