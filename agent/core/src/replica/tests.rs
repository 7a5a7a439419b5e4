//! The laws of the map, on random histories and schedules.

use proptest::prelude::*;
use watchfire_wire::message::replica::{Delta, Hold, Value};
use watchfire_wire::{Actor, CheckId, NodeId, Verdict};

use super::delta::{Answer, FIRST, LAST, cover};
use super::{Applied, Collect, Store};
use crate::mutations::Mutations;
use crate::rng::Rng;

fn actor(node: u64, epoch: u64) -> Actor {
    Actor {
        node: NodeId(node),
        epoch,
        boot: node * 100 + epoch,
    }
}

fn check(n: u64) -> CheckId {
    CheckId::of_canonical(&n.to_le_bytes())
}

fn value(n: u64) -> Value {
    Value {
        verdict: Verdict::from_code((n % 3) as u8).expect("below 3"),
        reason: (n % 200) as u8,
        contrary: 0,
        agreed: 0,
        dissented: 0,
        latency_us: n as u32,
        since_ms: n,
        confirmed_by: NodeId(n),
    }
}

fn ask(from: &Store, to: &Store) -> Answer {
    let (claims, _) = from.claims_from(FIRST, usize::MAX);
    to.answer(from.me(), &claims, Some(cover(FIRST, LAST)))
}

/// One random own change.
fn change(store: &mut Store, rng: &mut Rng, checks: u64) {
    let check = check(rng.below(checks as usize) as u64);
    match rng.below(8) {
        0..=4 => {
            store.write(check, rng.u64() % 50, value(rng.u64() % 1_000));
        }
        5 => {
            store.release(check, 1, rng.below(2) == 0, None);
        }
        6 => {
            store.decline(check, 5, value(1));
        }
        _ => {
            store.collect(|_, wins| match rng.below(4) {
                0 if wins => Collect::Renew,
                1 if wins => Collect::Keep,
                _ => Collect::Drop,
            });
        }
    }
}

/// Recomputes everything that is kept up incrementally.
fn assert_consistent(store: &Store) {
    let mut fresh = Store::new(actor(999, 1), Mutations::NONE);
    for delta in ask(&fresh, store).deltas {
        assert_eq!(fresh.apply(&delta), Applied::New);
    }
    assert_eq!(fresh.digest(), store.digest(), "the digest went astray");
    assert_eq!(fresh.len(), store.len());
    for (actor, _) in store.claims() {
        let seqs: Vec<u64> = store.words_by(actor).map(|slot| slot.seq).collect();
        assert!(seqs.is_sorted() && seqs.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(store.wins(actor), fresh.wins(actor));
        for slot in store.words_by(actor) {
            let best = store.words(slot.check).max_by_key(|word| {
                let slot = word.slot;
                (slot.term, slot.priority, word.actor, slot.seq)
            });
            assert_eq!(store.winner(slot.check), best);
            let mut declined: Vec<Actor> = store
                .words(slot.check)
                .filter(|word| word.slot.hold == Hold::Declined)
                .map(|word| word.actor)
                .collect();
            let mut decliners: Vec<Actor> = store.decliners(slot.check).collect();
            declined.sort_unstable();
            decliners.sort_unstable();
            assert_eq!(decliners, declined);
        }
    }
}

/// Deltas of several actors, at several versions each.
fn deltas(seed: [u8; 32]) -> Vec<Delta> {
    let mut rng = Rng::from_seed(seed);
    let mut all = Vec::new();
    for node in 1..=3 {
        let mut store = Store::new(actor(node, 1), Mutations::NONE);
        let empty = Store::new(actor(999, 1), Mutations::NONE);
        for _ in 0..3 {
            for _ in 0..4 {
                change(&mut store, &mut rng, 4);
            }
            all.extend(ask(&empty, &store).deltas);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_and_number_of_deltas_do_not_matter(seed: [u8; 32], order: [u8; 32]) {
        let deltas = deltas(seed);
        let mut rng = Rng::from_seed(order);
        let mut left = Store::new(actor(9, 1), Mutations::NONE);
        for delta in &deltas {
            left.apply(delta);
        }
        let mut shuffled = deltas.clone();
        rng.shuffle(&mut shuffled);
        let mut right = Store::new(actor(9, 1), Mutations::NONE);
        for delta in &shuffled {
            right.apply(delta);
            if rng.below(2) == 0 {
                right.apply(delta);
            }
            right.apply(&shuffled[rng.below(shuffled.len())]);
        }
        prop_assert_eq!(left.fingerprint(), right.fingerprint());
        for n in 0..4 {
            prop_assert_eq!(left.winner(check(n)), right.winner(check(n)));
        }
        assert_consistent(&left);
    }

    #[test]
    fn joining_in_groups_does_not_matter(seed: [u8; 32]) {
        let deltas = deltas(seed);
        let middle = deltas.len() / 2;
        let mut straight = Store::new(actor(9, 1), Mutations::NONE);
        let mut first = Store::new(actor(8, 1), Mutations::NONE);
        let mut second = Store::new(actor(7, 1), Mutations::NONE);
        for (at, delta) in deltas.iter().enumerate() {
            straight.apply(delta);
            if at < middle { first.apply(delta); } else { second.apply(delta); }
        }
        let mut joined = Store::new(actor(9, 1), Mutations::NONE);
        for half in [&second, &first] {
            for delta in ask(&joined, half).deltas {
                joined.apply(&delta);
            }
        }
        prop_assert_eq!(straight.fingerprint(), joined.fingerprint());
    }

    #[test]
    fn any_schedule_keeps_equal_claims_equal_and_ends_equal(seed: [u8; 32]) {
        let mut rng = Rng::from_seed(seed);
        let mut stores: Vec<Store> =
            (1..=4).map(|node| Store::new(actor(node, 1), Mutations::NONE)).collect();
        let mut late: Vec<(usize, Vec<Delta>)> = Vec::new();
        for _ in 0..150 {
            let node = rng.below(4);
            match rng.below(12) {
                0..=4 => change(&mut stores[node], &mut rng, 2),
                5..=8 => {
                    let other = rng.below(4);
                    let deltas = ask(&stores[node], &stores[other]).deltas;
                    // Half of the answers are late or lost.
                    if rng.below(2) == 0 {
                        late.push((node, deltas));
                    } else {
                        deltas.iter().for_each(|delta| { stores[node].apply(delta); });
                    }
                }
                9 if !late.is_empty() => {
                    let at = rng.below(late.len());
                    let (to, deltas) = if rng.below(3) == 0 { late[at].clone() } else { late.remove(at) };
                    deltas.iter().for_each(|delta| { stores[to].apply(delta); });
                }
                10 if rng.below(4) == 0 => {
                    let epoch = stores[node].me().epoch + 1;
                    stores[node] = Store::new(actor(node as u64 + 1, epoch), Mutations::NONE);
                }
                11 if rng.below(4) == 0 => {
                    let other = stores[rng.below(4)].me();
                    stores[node].raise_floor(other.node, other.epoch);
                }
                _ => {}
            }
            for left in &stores {
                for right in &stores {
                    for (actor, seq) in left.claims() {
                        if right.claim(actor).is_some_and(|claim| claim.0 == seq) {
                            prop_assert_eq!(left.claim(actor), right.claim(actor));
                        }
                    }
                }
            }
        }
        let floors: Vec<_> = stores
            .iter()
            .flat_map(|store| store.floors_within(cover(FIRST, LAST), usize::MAX))
            .collect();
        for store in &mut stores {
            for floor in &floors {
                store.raise_floor(floor.node, floor.epoch);
            }
        }
        for _ in 0..3 {
            for from in 0..4 {
                for to in 0..4 {
                    for delta in ask(&stores[from], &stores[to]).deltas {
                        stores[from].apply(&delta);
                    }
                }
            }
        }
        for store in &stores {
            prop_assert_eq!(store.digest(), stores[0].digest());
            assert_consistent(store);
            for n in 0..2 {
                prop_assert_eq!(store.winner(check(n)), stores[0].winner(check(n)));
            }
        }
    }

    #[test]
    fn a_log_taken_whole_mends_whatever_was_held(seed: [u8; 32], damage: [u8; 32]) {
        let (mut rng, mut hurt) = (Rng::from_seed(seed), Rng::from_seed(damage));
        let mut author = Store::new(actor(1, 1), Mutations::NONE);
        for _ in 0..40 {
            change(&mut author, &mut rng, 12);
        }
        let mut other = Store::new(actor(2, 1), Mutations::NONE);
        // Slots are missing, are others, or are of another check.
        for mut delta in ask(&other, &author).deltas {
            delta.slots.retain(|_| hurt.below(5) > 0);
            for slot in &mut delta.slots {
                match hurt.below(8) {
                    0 => slot.value = value(hurt.u64() % 1_000),
                    1 => slot.hold = Hold::Declined,
                    2 => slot.check = check(100 + slot.seq),
                    _ => {}
                }
            }
            other.apply(&delta);
        }
        let whole = ask(&Store::new(actor(3, 1), Mutations::NONE), &author).deltas;
        for delta in &whole {
            other.apply(delta);
        }
        prop_assert_eq!(other.digest(), author.digest());
        prop_assert_eq!(other.len(), author.len());
        assert_consistent(&other);
        // What follows a collection finds nothing of what was held before.
        author.collect(|_, _| Collect::Drop);
        for delta in ask(&other, &author).deltas {
            other.apply(&delta);
        }
        prop_assert_eq!(other.digest(), author.digest());
        assert_consistent(&other);
    }
}

#[test]
fn a_write_over_another_is_one_term_higher_and_over_ones_own_is_not() {
    let mut a = Store::new(actor(1, 1), Mutations::NONE);
    let mut b = Store::new(actor(2, 1), Mutations::NONE);
    a.write(check(1), 9, value(1));
    a.write(check(1), 9, value(2));
    assert_eq!(a.winner(check(1)).unwrap().slot.term, 1);
    for delta in ask(&b, &a).deltas {
        b.apply(&delta);
    }
    b.write(check(1), 1, value(3));
    let winner = b.winner(check(1)).unwrap();
    assert_eq!((winner.actor, winner.slot.term), (actor(2, 1), 2));
}

#[test]
fn a_release_keeps_term_and_value_and_competes() {
    let mut a = Store::new(actor(1, 1), Mutations::NONE);
    a.write(check(1), 9, value(4));
    let before = a.winner(check(1)).unwrap().slot;
    assert!(a.release(check(1), 2, false, None).is_some());
    let after = a.winner(check(1)).unwrap().slot;
    assert_eq!(after.hold, Hold::Released);
    assert_eq!(
        (after.term, after.value.verdict),
        (before.term, before.value.verdict)
    );
    assert_eq!(after.value.contrary, 2);
    assert!(
        a.release(check(1), 2, false, None).is_none(),
        "once is enough"
    );
}

#[test]
fn another_life_writes_its_live_slots_anew() {
    let mut a = Store::new(actor(1, 1), Mutations::NONE);
    a.write(check(1), 9, value(4));
    a.write(check(2), 9, value(5));
    a.release(check(2), 0, false, None);
    a.become_actor(actor(1, 5));
    assert_eq!(a.winner(check(1)).unwrap().actor, actor(1, 5));
    assert_eq!(a.winner(check(2)).unwrap().actor, actor(1, 1));
    assert_eq!(a.raise_floor(NodeId(1), 5), 1);
    assert_eq!(a.winner(check(2)), None);
    assert_consistent(&a);
}

#[test]
fn unequal_state_at_equal_claims_is_replaced_by_the_authors() {
    let mut author = Store::new(actor(1, 1), Mutations::NONE);
    author.write(check(1), 9, value(4));
    let mut damaged = ask(&Store::new(actor(2, 1), Mutations::NONE), &author).deltas;
    damaged[0].slots[0].value.verdict = Verdict::Unknown;
    let mut other = Store::new(actor(2, 1), Mutations::NONE);
    other.apply(&damaged[0]);
    assert_ne!(other.digest(), author.digest());
    // The author is told whom to ask; the other gets a snapshot.
    assert!(ask(&author, &other).deltas.is_empty());
    let repair = ask(&other, &author).deltas;
    assert_eq!(repair.len(), 1);
    assert!(repair[0].snapshot);
    assert_eq!(other.apply(&repair[0]), Applied::New);
    assert_eq!(other.digest(), author.digest());
}

/// Whoever lags behind a collection gets the whole log; what is in it that was held
/// already is no news.
#[test]
fn of_a_whole_log_only_what_differs_is_news() {
    let mut author = Store::new(actor(1, 1), Mutations::NONE);
    for n in 0..100 {
        author.write(check(n), 9, value(n));
    }
    let mut other = Store::new(actor(2, 1), Mutations::NONE);
    other.apply(&ask(&other, &author).deltas[0]);
    other.take_changed();
    author.write(check(5), 9, value(1_000));
    author.release(check(7), 0, false, None);
    author.release(check(8), 0, false, None);
    author.collect(|_, _| Collect::Drop);
    let whole = ask(&other, &author).deltas.remove(0);
    assert!(whole.snapshot && whole.slots.len() == 98, "{whole:?}");
    assert_eq!(other.apply(&whole), Applied::New);
    let mut changed = other.take_changed();
    changed.sort_unstable();
    let mut expected = [check(5), check(7), check(8)];
    expected.sort_unstable();
    assert_eq!(changed, expected);
    assert_eq!(other.digest(), author.digest());
    assert_consistent(&other);
}

#[test]
fn contradicting_deltas_change_nothing() {
    let mut author = Store::new(actor(1, 1), Mutations::NONE);
    author.write(check(1), 9, value(4));
    author.write(check(2), 9, value(4));
    let empty = Store::new(actor(2, 1), Mutations::NONE);
    let good = ask(&empty, &author).deltas.remove(0);
    let mut reversed = good.clone();
    reversed.slots.reverse();
    let mut beyond = good.clone();
    beyond.hi = 1;
    let mut gap = good.clone();
    gap.snapshot = false;
    gap.lo = 1;
    gap.slots.remove(0);
    for (bad, why) in [
        (reversed, Applied::Malformed),
        (beyond, Applied::Malformed),
        (gap, Applied::Gap),
    ] {
        let mut store = empty.clone();
        assert_eq!(store.apply(&bad), why);
        assert_eq!(store.fingerprint(), empty.fingerprint());
    }
}

/// The whole log is left out, so that what is held below the claim is what it
/// was; later, when the bound has moved, it is taken.
#[test]
fn a_log_with_an_implausible_term_is_left_out_whole_until_it_is_plausible() {
    let mut liar = Store::new(actor(1, 1), Mutations::NONE);
    liar.write(check(1), 9, value(4));
    liar.write(check(2), 9, value(4));
    let mut delta = ask(&Store::new(actor(2, 1), Mutations::NONE), &liar)
        .deltas
        .remove(0);
    delta.slots[1].term = 1_000_000;
    let mut honest = Store::new(actor(2, 1), Mutations::NONE);
    honest.write(check(2), 9, value(5));
    let before = honest.fingerprint();
    honest.term_max = 999_999;
    assert_eq!(honest.apply(&delta), Applied::Implausible);
    assert_eq!(honest.fingerprint(), before);
    assert_eq!(honest.claim(actor(1, 1)), None, "the claim neither");
    honest.term_max = 1_000_000;
    assert_eq!(honest.apply(&delta), Applied::New);
    assert_eq!(honest.claim(actor(1, 1)).unwrap().0, delta.hi);
}

#[test]
fn memory_is_reused_through_ten_thousand_changes() {
    let mut store = Store::new(actor(1, 1), Mutations::NONE);
    for n in 0..10_000 {
        store.write(check(n), 9, value(n));
        store.release(check(n), 0, true, None);
        if n % 16 == 0 {
            store.collect(|_, _| Collect::Drop);
            store.take_changed();
        }
    }
    assert!(store.len() <= 16);
    assert!(store.slots.len() <= 32, "{} cells", store.slots.len());
}
