//! Members that operators put out: nothing of them is heard or kept, through
//! restarts, until that ends.

mod pop;

use std::time::Duration;

use pop::{Pop, checks};
use watchfire_core::io::Event;
use watchfire_core::overrides::{Op, Refused, Request, member_key};

const SECOND: Duration = Duration::from_secs(1);

fn evict(pop: &mut Pop, at: usize, host: usize, lasts: Option<u64>) {
    let key = member_key(&Pop::name(host));
    pop.decide(at, Op::Evict, &[&key], lasts);
}

/// Nobody but itself knows it, or holds a word of it.
fn is_out(pop: &Pop, host: usize) -> bool {
    let gone = Pop::id(host);
    let others = pop.running().into_iter().filter(|&other| other != host);
    others.map(|other| pop.node(other)).all(|node| {
        let held = node.store().claims().any(|(actor, _)| actor.node == gone);
        node.member(gone).is_none() && !held
    })
}

fn counted(pop: &Pop, host: usize, name: &str) -> u64 {
    let all = pop.node(host).counters();
    all.iter().find(|it| it.0 == name).map_or(0, |it| it.1)
}

/// All of these have a table that says Up of all, and agree.
fn well(pop: &Pop, hosts: &[usize]) -> bool {
    let digest = pop.node(hosts[0]).digest();
    hosts.iter().all(|&host| {
        let table = &pop.hosts[host].table;
        let node = pop.node(host);
        node.digest() == digest
            && table.len() == pop.hosts[host].checks.len()
            && table
                .values()
                .all(|it| it.verdict == watchfire_wire::Verdict::Up)
    })
}

#[test]
fn an_evicted_member_is_out_everywhere_and_knows_it() {
    let mut pop = Pop::settled(6, 40, 1);
    evict(&mut pop, 2, 4, None);
    let took = pop.run_until(SECOND, |pop| is_out(pop, 4));
    assert!(took.is_some());
    pop.run(5 * SECOND);
    assert!(is_out(&pop, 4) && well(&pop, &[0, 1, 2, 3, 5]));
    // Its checks are taken: each is probed by one of the others.
    for check in checks(40) {
        let probers = pop.probers(check);
        let others = probers.iter().filter(|&&host| host != 4).count();
        assert_eq!(others, 1, "{check}: {probers:?}");
    }
    let told = pop.node(4).evicted().expect("it knows");
    assert_eq!((&*told.who, &*told.why), ("someone@2", "a test"));
    let said = pop.hosts[4].events.iter();
    let said = said.filter(|(_, event)| event.evicts(&Pop::name(4)));
    assert_eq!(said.count(), 1);
    pop.run(5 * SECOND);
    let dropped: u64 = [0, 1, 2, 3, 5]
        .map(|host| counted(&pop, host, "datagrams_of_evicted"))
        .iter()
        .sum();
    assert!(dropped > 0, "it goes on sending");

    // It starts again, and knows it from its disk; then without one, from the
    // answer to its question. All others start again as well.
    pop.kill(4);
    pop.start(4, &checks(40));
    pop.run(5 * SECOND);
    assert!(is_out(&pop, 4) && pop.node(4).evicted().is_some());
    pop.kill(4);
    pop.hosts[4].kept = Default::default();
    pop.start(4, &checks(40));
    pop.run(10 * SECOND);
    assert!(is_out(&pop, 4));
    for host in [0, 1, 2, 3, 5] {
        pop.kill(host);
        pop.start(host, &checks(40));
    }
    pop.run(10 * SECOND);
    assert!(is_out(&pop, 4) && well(&pop, &[0, 1, 2, 3, 5]));

    // Taken back, it is a member like others.
    let key = member_key(&Pop::name(4));
    pop.decide(0, Op::Forget, &[&key], None);
    pop.run(40 * SECOND);
    assert!(pop.node(4).evicted().is_none());
    assert_eq!(pop.node(0).living(), 6);
    pop.assert_settled();
}

#[test]
fn an_eviction_ends_when_it_is_to() {
    let mut pop = Pop::settled(5, 20, 2);
    evict(&mut pop, 0, 3, Some(20_000));
    pop.run(15 * SECOND);
    assert!(is_out(&pop, 3));
    pop.run(40 * SECOND);
    assert_eq!(pop.node(0).living(), 5);
    assert!(pop.node(3).evicted().is_none());
    let ended = |(_, event): &(_, Event)| matches!(event, Event::DecisionEnded { .. });
    assert!(pop.hosts[1].events.iter().any(ended));
    pop.assert_settled();
}

#[test]
fn a_dead_name_is_forgotten_and_may_begin_at_a_lower_epoch() {
    let mut pop = Pop::settled(5, 20, 3);
    pop.kill(2);
    pop.run(10 * SECOND);
    let before = pop
        .node(0)
        .member(Pop::id(2))
        .expect("it is remembered")
        .actor;
    let key = member_key(&Pop::name(2));
    pop.decide(1, Op::Forget, &[&key], None);
    pop.run(SECOND);
    assert!(is_out(&pop, 2));
    pop.run(15 * SECOND);
    // Its clock is an hour behind what it was, and its disk is empty.
    pop.hosts[2].epoch = 0;
    pop.hosts[2].kept = Default::default();
    pop.hosts[2].wall_off_ms = -3_600_000;
    pop.start(2, &checks(20));
    pop.run(20 * SECOND);
    let now = pop.node(0).member(Pop::id(2)).expect("it is back").actor;
    assert!(now.epoch < before.epoch, "{now:?} {before:?}");
    pop.assert_settled();
    // Whoever learns of it only now leaves the name alone.
    pop.kill(4);
    pop.hosts[4].kept = Default::default();
    pop.start(4, &checks(20));
    pop.run(10 * SECOND);
    assert_eq!(pop.node(4).living(), 5);
    pop.assert_settled();
}

#[test]
fn who_lives_is_not_forgotten_and_nobody_puts_itself_out() {
    let mut pop = Pop::settled(3, 5, 4);
    let now = pop.now;
    let ask = |pop: &mut Pop, op, host: usize| {
        let request = Request {
            op,
            names: vec![member_key(&Pop::name(host))],
            for_ms: None,
            who: "someone".into(),
            why: String::new(),
        };
        let node = pop.hosts[0].node.as_mut().expect("it runs");
        node.decide(now, request)
    };
    let lives = ask(&mut pop, Op::Forget, 1);
    assert_eq!(lives, Err(Refused::Lives("edge-1".into())));
    let itself = ask(&mut pop, Op::Evict, 0);
    assert_eq!(itself, Err(Refused::Itself("edge-0".into())));
    assert!(ask(&mut pop, Op::Down, 1).is_err(), "a member is no origin");
    pop.run(SECOND);
    pop.assert_settled();
}
