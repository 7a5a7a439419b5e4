use proptest::prelude::*;

use super::*;

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);

fn check(n: u32) -> CheckId {
    CheckId::of_canonical(&n.to_le_bytes())
}

fn checks(numbers: impl IntoIterator<Item = u32>) -> Vec<CheckId> {
    numbers.into_iter().map(check).collect()
}

fn holder(node: NodeId, set: &[CheckId]) -> Holdings {
    let mut holdings = Holdings::new(HoldingsConfig::default(), node);
    holdings.change(Time::ZERO, set, &[]);
    let _ = holdings.to_tell(Time::ZERO);
    holdings
}

/// Lets two nodes talk for so long, and counts the datagrams.
fn talk(a: &mut Holdings, b: &mut Holdings, from: Time, most: usize) -> (Time, usize) {
    let mut now = from;
    let mut datagrams = 0;
    for _ in 0..10_000 {
        a.tick(now);
        b.tick(now);
        loop {
            let (from_a, from_b) = (a.take_out(), b.take_out());
            if from_a.is_empty() && from_b.is_empty() {
                break;
            }
            datagrams += from_a.len() + from_b.len();
            for (_, body) in from_a {
                deliver(b, now, a.me, body, most);
            }
            for (_, body) in from_b {
                deliver(a, now, b.me, body, most);
            }
        }
        let next = a.next_timeout().min(b.next_timeout());
        if next == Time::NEVER {
            break;
        }
        if next > from + Duration::from_secs(30) {
            break;
        }
        let _ = (a.to_tell(next), b.to_tell(next));
        now = next;
    }
    (now, datagrams)
}

fn deliver(to: &mut Holdings, now: Time, by: NodeId, body: Replica, most: usize) {
    match body {
        Replica::SetAsk { set, from, sums } => to.asked(now, by, set, from, &sums, most),
        Replica::SetPart {
            set,
            from,
            last,
            differ,
            prefixes,
        } => to.answered(now, set, from, last, differ, &prefixes),
        _ => unreachable!("holdings say nothing else"),
    }
}

#[test]
fn equal_sets_ask_nothing_and_an_empty_set_holds_nothing() {
    let set = checks(0..100);
    let mut mine = holder(ME, &set);
    let same = holder(PEER, &set).to_tell(Time::ZERO);
    mine.set_member(Time::ZERO, PEER, Some(same));
    assert!(mine.all_alike());
    assert!(mine.may_hold(PEER, check(3)));
    assert_eq!(mine.next_timeout(), Time::NEVER);
    mine.set_member(Time::ZERO, PEER, Some(0));
    assert!(!mine.may_hold(PEER, check(3)));
    assert_eq!(mine.take_moved(), None, "all of them may have moved");
    assert_eq!(mine.next_timeout(), Time::NEVER);
}

#[test]
fn a_set_that_this_node_had_is_known_by_content() {
    let old = checks(0..50);
    let mut mine = holder(ME, &old);
    let before = mine.to_tell(Time::ZERO);
    mine.set_member(Time::ZERO, PEER, Some(before));
    mine.change(Time::ZERO, &checks(50..60), &checks(0..5));
    assert!(!mine.all_alike());
    assert!(mine.may_hold(PEER, check(10)));
    assert!(!mine.may_hold(PEER, check(55)));
    // Taken back, it is there again.
    mine.change(Time::ZERO, &checks(0..5), &[]);
    assert!(mine.may_hold(PEER, check(2)));
    assert_eq!(mine.asked.len(), 0, "nobody is asked");
}

#[test]
fn until_it_is_known_a_set_may_hold_anything() {
    let mut mine = holder(ME, &checks(0..50));
    mine.set_member(Time::ZERO, PEER, Some(77));
    assert!(mine.may_hold(PEER, check(1)));
    let mut now = Time::ZERO;
    let mut questions = 0;
    for _ in 0..12 {
        now = mine.next_timeout().min(now + Duration::from_secs(60));
        mine.tick(now);
        questions += mine.take_out().len();
    }
    assert!(mine.may_hold(PEER, check(1)), "silence is no answer");
    assert!(questions >= 10);
    assert!(
        now > Time::from_millis(30_000),
        "asked with back-off: {now}"
    );
}

#[test]
fn a_small_difference_costs_two_datagrams() {
    let mut mine = holder(ME, &checks(0..5_000));
    let mut peer = holder(PEER, &checks(1..5_001));
    mine.set_member(Time::ZERO, PEER, Some(peer.to_tell(Time::ZERO)));
    let (_, datagrams) = talk(&mut mine, &mut peer, Time::ZERO, 200);
    assert_eq!(datagrams, 2);
    assert!(!mine.may_hold(PEER, check(0)));
    assert!((1..5_000).all(|n| mine.may_hold(PEER, check(n))));
    assert_eq!(mine.take_moved(), Some(vec![check(0)]));
}

#[test]
fn an_own_change_in_the_middle_begins_the_series_anew() {
    let mut mine = holder(ME, &checks(0..1_000));
    let mut peer = holder(PEER, &checks(1_000..2_000));
    mine.set_member(Time::ZERO, PEER, Some(peer.to_tell(Time::ZERO)));
    let now = mine.next_timeout();
    mine.tick(now);
    for (_, body) in mine.take_out() {
        deliver(&mut peer, now, ME, body, 100);
    }
    mine.change(now, &checks(1_500..1_510), &[]);
    for (_, body) in peer.take_out() {
        deliver(&mut mine, now, PEER, body, 100);
    }
    talk(&mut mine, &mut peer, now, 100);
    assert!((0..1_000).all(|n| !mine.may_hold(PEER, check(n))));
    assert!((1_500..1_510).all(|n| mine.may_hold(PEER, check(n))));
}

#[test]
fn more_difference_than_is_remembered_is_no_knowledge() {
    let mut mine = holder(ME, &checks(0..10));
    mine.set_member(Time::ZERO, PEER, Some(99));
    let now = mine.next_timeout();
    mine.tick(now);
    let mut from = 0;
    let step = 1 << 40;
    while mine.counters().given_up == 0 {
        let prefixes: Vec<u64> = (0..100_000).map(|n| from + n).collect();
        let last = from + step;
        mine.answered(now, 99, from, last, u64::MAX, &prefixes);
        from = last + 1;
        assert!(from < 40 * step, "it never ends");
    }
    assert!(mine.may_hold(PEER, check(1)));
    assert_eq!(mine.next_timeout(), Time::NEVER);
}

#[test]
fn answers_are_bounded() {
    let mut peer = holder(PEER, &checks(0..10));
    let set = peer.to_tell(Time::ZERO);
    for _ in 0..10_000 {
        peer.asked(Time::ZERO, ME, set, 0, &[0; SET_BUCKETS], 100);
    }
    assert_eq!(peer.take_out().len(), SET_ANSWERS_BURST as usize);
}

proptest! {
    #[test]
    fn what_is_answered_is_what_is_held(
        mine in prop::collection::btree_set(0_u32..300, 1..200),
        theirs in prop::collection::btree_set(0_u32..300, 1..200),
        changes in prop::collection::vec((any::<bool>(), 0_u32..300), 0..30),
        most in 1_usize..60,
    ) {
        let mut own = mine.clone();
        let mut a = holder(ME, &checks(mine));
        let mut b = holder(PEER, &checks(theirs.iter().copied()));
        a.set_member(Time::ZERO, PEER, Some(b.to_tell(Time::ZERO)));
        talk(&mut a, &mut b, Time::ZERO, most);
        for (add, n) in changes {
            if add {
                a.change(Time::ZERO, &[check(n)], &[]);
                own.insert(n);
            } else {
                a.change(Time::ZERO, &[], &[check(n)]);
                own.remove(&n);
            }
        }
        for n in own {
            prop_assert_eq!(a.may_hold(PEER, check(n)), theirs.contains(&n));
        }
    }
}
