//! What a POP never does to its origins, whatever its state: no more than three
//! probe a check for want of evidence, all together not much more than is
//! wanted, and nothing that could be probed stays unprobed.

mod pop;

use std::time::Duration;

use pop::{Pop, check, checks};
use watchfire_core::mutations::Mutations;
use watchfire_wire::{Time, Verdict};

const HOSTS: usize = 12;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn pop(seed: u8, bug: Mutations) -> Pop {
    Pop::with(HOSTS, seed, move |config| config.mutations = bug)
}

/// Everybody measures, lives, and hears no word: the most that probe one check
/// at once, and how many times the wanted probes are made after ten seconds.
fn deaf(bug: Mutations) -> (usize, f64) {
    let mut pop = pop(40, bug);
    let all = checks(48);
    pop.words_lost = true;
    pop.start_all(&all);
    pop.run(secs(5));
    let most = pop.most_probers(secs(20), &all);
    let from = pop.now;
    pop.run(secs(20));
    let wanted = (all.len() * 20) as f64;
    (most, pop.tries_between(from, pop.now) as f64 / wanted)
}

#[test]
fn words_that_do_not_come_start_at_most_three_on_a_budget() {
    let (most, ratio) = deaf(Mutations::NONE);
    assert!(most <= 3, "{most} probe one check");
    assert!((1.0..1.5).contains(&ratio), "{ratio} times what is wanted");
}

/// Everybody configures one check of its own beside those of all, so that all
/// sets differ, and no question about them is heard.
fn unlike(bug: Mutations) -> usize {
    let mut pop = pop(41, bug);
    let all = checks(24);
    pop.words_lost = true;
    for host in 0..HOSTS {
        let mut own = all.clone();
        own.push(check(1_000 + host as u32));
        pop.start(host, &own);
    }
    pop.run(secs(8));
    pop.most_probers(secs(20), &all)
}

#[test]
fn whoever_does_not_say_what_it_configures_may_configure_it() {
    let most = unlike(Mutations::NONE);
    assert!(most <= 3, "{most} probe one check");
}

/// Nobody can measure one check.
fn unmeasurable(bug: Mutations) -> usize {
    let mut pop = pop(42, bug);
    pop.start_all(&checks(24));
    pop.run(secs(8));
    pop.unmeasurable
        .extend((0..HOSTS).map(|host| (host, check(9))));
    pop.most_probers(secs(60), &[check(9)])
}

#[test]
fn what_nobody_can_measure_is_tried_by_few() {
    let most = unmeasurable(Mutations::NONE);
    assert!((1..=3).contains(&most), "{most} probe it at once");
}

#[test]
fn what_only_one_configures_is_probed_soon() {
    let mut pop = Pop::settled(HOSTS, 24, 43);
    let new: Vec<_> = (100..140).map(check).collect();
    let from = pop.now;
    pop.add(5, &new);
    pop.run(secs(6));
    for &check in &new {
        assert_eq!(pop.probers(check), [5]);
        let first = pop.probes.iter().find(|probed| probed.check == check);
        let waited = first.expect("it was probed").at.since(from);
        assert!(waited < secs(5), "{check} after {waited:?}");
    }
    // Its set has become known to the others as well, by asking.
    assert!(pop.counted("sets_resolved") > 0);
    pop.run(secs(12));
    pop.assert_settled();
}

#[test]
fn sets_that_all_differ_are_told_apart() {
    let mut pop = Pop::new(6, 44);
    let all = checks(30);
    for host in 0..6 {
        pop.start(host, &all[5 * host..]);
    }
    pop.run(secs(30));
    pop.assert_settled();
    for (n, &check) in all.iter().enumerate() {
        let ranks = pop.node(0).ranks(all[0]);
        assert_eq!(ranks.len(), 6);
        let probers = pop.probers(check);
        assert!(5 * probers[0] <= n, "{check} is configured at {probers:?}");
    }
    let from = pop.now;
    pop.run(secs(10));
    assert_eq!(pop.tries_between(from, pop.now), 300);
}

#[test]
fn a_reload_of_all_at_once_is_no_herd() {
    let mut pop = Pop::settled(HOSTS, 60, 45);
    let new: Vec<_> = (100..220).map(check).collect();
    let from = pop.now;
    for host in 0..HOSTS {
        pop.add(host, &new);
    }
    let most = pop.most_probers(secs(10), &new);
    assert!(most <= 3, "{most} probe one check");
    let tries = pop.tries_between(from, pop.now);
    assert!(tries < 1_800 * 3 / 2, "{tries} for 1800");
    pop.run(secs(10));
    pop.assert_settled();
    let from = pop.now;
    pop.run(secs(10));
    assert_eq!(pop.tries_between(from, pop.now), 1_800);
}

#[test]
fn a_rollout_moves_each_check_once() {
    let mut pop = Pop::settled(HOSTS, 24, 46);
    let new: Vec<_> = (100..200).map(check).collect();
    let before = pop.counted("probing_started");
    for host in 0..HOSTS {
        pop.add(host, &new);
        pop.run(Duration::from_millis(700));
    }
    pop.run(secs(20));
    pop.assert_settled();
    let starts = pop.counted("probing_started") - before;
    assert!(starts <= 210, "{starts} starts for 100 checks");
}

/// Once all configure the same nothing waits for further steps of the rollout.
#[test]
fn a_reload_on_all_is_over_soon_after_the_last() {
    let mut pop = Pop::settled(HOSTS, 24, 46);
    let new: Vec<_> = (100..200).map(check).collect();
    for host in (0..HOSTS).rev() {
        pop.add(host, &new);
        pop.run(Duration::from_millis(300));
    }
    pop.run(secs(6));
    pop.assert_settled();
    let before = pop.counted("probing_started");
    pop.run(secs(20));
    let starts = pop.counted("probing_started") - before;
    assert_eq!(starts, 0, "checks move long after the last reload");
}

#[test]
fn a_member_that_joins_moves_its_checks_once() {
    let mut pop = Pop::settled(HOSTS, 240, 47);
    pop.kill(3);
    pop.run(secs(8));
    let before = pop.counted("probing_started");
    pop.start(3, &checks(240));
    pop.run(secs(20));
    pop.assert_settled();
    let starts = pop.counted("probing_started") - before;
    let owned = pop.node(3).checks_probed() as u64;
    assert!(owned > 0);
    assert!(starts <= owned + 1, "{starts} starts for {owned} checks");
}

#[test]
fn a_verdict_stands_while_nobody_can_measure_and_not_for_ever() {
    let mut pop = Pop::settled(4, 20, 48);
    pop.unmeasurable.extend((0..4).map(|host| (host, check(9))));
    pop.run(secs(8));
    for host in 0..4 {
        let published = pop.hosts[host].table[&check(9)];
        assert_eq!(published.verdict, Verdict::Up, "host {host}");
    }
    pop.run(secs(20));
    for host in 0..4 {
        let published = pop.hosts[host].table[&check(9)];
        assert_eq!(published.verdict, Verdict::Unknown, "host {host}");
        assert!(published.reason >= 128);
    }
}

#[test]
fn who_cannot_measure_makes_room_soon() {
    let mut pop = Pop::new(HOSTS, 49);
    let all = checks(60);
    let starved = (0..HOSTS).filter(|host| host % 12 < 7);
    pop.unmeasurable
        .extend(starved.flat_map(|host| all.iter().map(move |&check| (host, check))));
    pop.start_all(&all);
    let measured = |pop: &Pop| {
        let table = &pop.hosts[11].table;
        all.iter().all(|check| {
            table
                .get(check)
                .is_some_and(|published| published.verdict == Verdict::Up)
        })
    };
    let took = pop.run_until(secs(20), measured).expect("all are measured");
    assert!(took < secs(12), "{took:?}");
}

#[test]
fn a_prober_that_tells_nothing_is_none() {
    let mut pop = Pop::new(6, 50);
    pop.stuck.insert(2);
    let all = checks(60);
    pop.start_all(&all);
    pop.run(secs(14));
    assert_eq!(pop.node(2).checks_probed(), 0);
    assert!(pop.counted("outcomes_overdue") > 0);
    pop.assert_settled();
}

#[test]
fn many_suspicions_start_few_shadows() {
    let mut pop = Pop::settled(HOSTS, 240, 51);
    let from = pop.now;
    // A third is gone at once: until their deaths are known the others shadow
    // what they can afford.
    for host in 0..4 {
        pop.kill(host);
    }
    let limit = |seconds: usize| 240 * seconds * 3 / 2;
    pop.run(secs(10));
    let tries = pop.tries_between(from, pop.now);
    assert!(tries < limit(10), "{tries} in ten seconds");
    pop.run(secs(5));
    pop.assert_settled();
}

#[test]
fn first_probes_of_a_pop_are_spread() {
    let mut pop = Pop::new(HOSTS, 52);
    pop.start_all(&checks(480));
    pop.run(secs(8));
    let begin = pop.tries[0].at;
    let most_in = |ms: u64| {
        let window = Duration::from_millis(ms);
        let counts = (0..60_u32).map(|n| {
            let from = begin + Duration::from_millis(100) * n;
            pop.tries_between(from, from + window)
        });
        counts.max().unwrap_or(0)
    };
    // Nodes that do not know all others yet begin what is not theirs.
    assert!(most_in(1_000) < 480 * 2, "{}", most_in(1_000));
    assert!(pop.tries_between(begin, begin + Duration::from_millis(100)) < 100);
    assert!(pop.now > Time::ZERO);
}

#[cfg(feature = "mutations")]
mod without_a_rule {
    use watchfire_core::mutations::Mutation;

    use super::*;

    #[test]
    fn every_rank_probes() {
        let bug = Mutations::only(Mutation::EveryRankProbesWithoutEvidence);
        let (most, ratio) = deaf(bug);
        assert!(most > 3 && ratio > 1.0, "{most}, {ratio}");
    }

    #[test]
    fn backups_probe_as_often_as_they_like() {
        let (most, ratio) = deaf(Mutations::only(Mutation::BackupWithoutBudget));
        assert!(most <= 3 && ratio > 1.5, "{most}, {ratio}");
    }

    #[test]
    fn silence_lets_everybody_probe() {
        let most = unlike(Mutations::only(Mutation::SilenceIsANo));
        assert!(most > 3, "{most}");
    }

    #[test]
    fn a_weak_word_lets_everybody_probe() {
        let most = unmeasurable(Mutations::only(Mutation::WeakWordOpensTheDoor));
        assert!(most > 3, "{most}");
    }
}

/// Half of the POP does not know these checks, and all but one of those that do
/// die: whoever is left finds out, in whatever order it hears of the deaths.
#[test]
fn the_last_who_knows_a_check_probes_it_whoever_ranks_above() {
    let mut pop = pop(43, Mutations::NONE);
    let (of_all, of_few) = (checks(12), (100..140).map(check).collect::<Vec<_>>());
    for host in 0..HOSTS {
        let mut own = of_all.clone();
        if host >= HOSTS / 2 {
            own.extend(&of_few);
        }
        pop.start(host, &own);
    }
    pop.run(secs(15));
    for &check in &of_few {
        assert_eq!(pop.probers(check).len(), 1);
    }
    for host in HOSTS / 2 + 1..HOSTS {
        pop.kill(host);
        pop.run(Duration::from_millis(300));
    }
    pop.run(secs(8));
    for &check in &of_few {
        assert_eq!(pop.probers(check), [HOSTS / 2], "{check:?}");
    }
}
