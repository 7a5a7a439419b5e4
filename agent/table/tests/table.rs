//! What a table promises, over the heap and over files alike.

mod common;

use std::collections::HashMap;

use common::{entry, folder, options};
use proptest::prelude::*;
use watchfire_table::limits::{NAME_BYTES, OWNERS};
use watchfire_table::{Entry, HeapHome, HeapReader, Home, Lookup, Reader, Writer};
use watchfire_wire::NodeId;

/// Looks a name up at a time.
type Read = Box<dyn FnMut(&[u8], u64) -> Lookup>;

/// A place for a table and a reader of it.
trait Place {
    type Home: Home;
    fn writer(&self, capacity: usize, now_ns: u64) -> Writer<Self::Home>;
    /// Opens a reader on the table as it is now.
    fn reader(&self) -> Read;
}

struct Heap(HeapHome);

impl Place for Heap {
    type Home = HeapHome;
    fn writer(&self, capacity: usize, now_ns: u64) -> Writer<HeapHome> {
        Writer::open_in(self.0.clone(), &options(capacity), now_ns).expect("the heap has room")
    }
    fn reader(&self) -> Read {
        let mut reader = HeapReader::open(&self.0).expect("a table is there");
        Box::new(move |name, now_ns| reader.get(name, now_ns))
    }
}

struct Files(tempfile::TempDir);

impl Place for Files {
    type Home = watchfire_table::FileHome;
    fn writer(&self, capacity: usize, now_ns: u64) -> Writer {
        Writer::open(&self.0.path().join("table"), &options(capacity), now_ns)
            .expect("the folder is writable")
    }
    fn reader(&self) -> Read {
        let reader = Reader::open(&self.0.path().join("table")).expect("a table is there");
        Box::new(move |name, now_ns| reader.get(name, now_ns))
    }
}

/// Runs one test over both kinds of place.
macro_rules! over_both {
    ($($name:ident)*) => {
        mod heap {
            $(#[test] fn $name() { super::$name(&super::Heap(Default::default())); })*
        }
        mod files {
            $(#[test] fn $name() { super::$name(&super::Files(super::folder())); })*
        }
    };
}

over_both! {
    names_of_any_bytes_are_told_apart
    removed_names_are_gone_and_come_back
    growth_leaves_no_gap
    churn_leaves_the_size_where_it_was
    an_adopted_table_keeps_its_verdicts
    more_owners_than_fit_are_compacted
    freshness_is_the_heartbeats_age
    refused_names_change_nothing
}

fn names_of_any_bytes_are_told_apart(place: &impl Place) {
    let mut writer = place.writer(4_096, 1);
    let mut names: Vec<Vec<u8>> = Vec::new();
    for length in [1, 2, 7, 8, 9, 15, 16, 71, 72, 73, 80, 254, NAME_BYTES] {
        names.push(vec![0; length]);
        names.push(vec![0xff; length]);
        let mut last = vec![b'a'; length];
        names.push(last.clone());
        *last.last_mut().expect("not empty") = b'b';
        names.push(last);
    }
    for (n, name) in names.iter().enumerate() {
        writer.set(name, &entry(n as u64)).expect("it fits");
    }
    let mut get = place.reader();
    for (n, name) in names.iter().enumerate() {
        assert_eq!(get(name, 1).entry(), Some(entry(n as u64)), "{name:?}");
    }
    for absent in [&b""[..], b"aab", &[b'a'; 70], &[0; 300]] {
        assert!(matches!(get(absent, 1), Lookup::NotInTable { .. }));
    }
    assert_eq!(writer.len(), names.len());
    assert_eq!(writer.view().verify().problems, Vec::<String>::new());
}

fn removed_names_are_gone_and_come_back(place: &impl Place) {
    let mut writer = place.writer(64, 1);
    let mut get = place.reader();
    writer.set(b"a", &entry(1)).expect("it fits");
    writer.set(b"b", &entry(2)).expect("it fits");
    assert!(writer.remove(b"a"));
    assert!(!writer.remove(b"a"));
    assert!(!writer.remove(b"never"));
    assert_eq!(
        (get(b"a", 1).entry(), get(b"b", 1).entry()),
        (None, Some(entry(2)))
    );
    assert_eq!(writer.names(), [b"b"]);
    writer.set(b"a", &entry(3)).expect("it fits");
    assert_eq!(get(b"a", 1).entry(), Some(entry(3)));
    assert_eq!(writer.len(), 2);
}

fn growth_leaves_no_gap(place: &impl Place) {
    let mut writer = place.writer(64, 1);
    let mut get = place.reader();
    let name = |n: u64| match n % 3 {
        0 => format!("origin-{n}-{}", "x".repeat(100)),
        _ => format!("origin-{n}"),
    };
    for n in 0..3_000 {
        writer.set(name(n).as_bytes(), &entry(n)).expect("it grows");
        // The newest, the oldest and one between, at every step.
        for old in [n, 0, n / 2] {
            let found = get(name(old).as_bytes(), 1);
            assert_eq!(found.entry(), Some(entry(old)), "{old} of {n}");
        }
    }
    assert!(writer.view().generation() > 5);
    assert_eq!(writer.view().verify().problems, Vec::<String>::new());
    let stat = writer.view().stat(1);
    assert!(
        stat.load_factor <= 0.5 && stat.probe_length_mean < 2.0,
        "{stat:?}"
    );
    assert_eq!((stat.live, stat.used), (3_000, 3_000));
}

fn churn_leaves_the_size_where_it_was(place: &impl Place) {
    let mut writer = place.writer(256, 1);
    let before = writer.view().geometry();
    for n in 0..20_000_u64 {
        let name = |n: u64| format!("{n}-{}", "y".repeat((n % 90) as usize));
        writer
            .set(name(n).as_bytes(), &entry(n))
            .expect("there is room");
        if n >= 40 {
            assert!(writer.remove(name(n - 40).as_bytes()));
        }
    }
    assert_eq!(writer.len(), 40);
    assert!(writer.view().geometry().words() <= before.words() * 2);
    assert!(writer.view().generation() > 50);
}

fn an_adopted_table_keeps_its_verdicts(place: &impl Place) {
    let mut writer = place.writer(64, 1);
    for n in 0..50_u64 {
        writer.set(&n.to_le_bytes(), &entry(n)).expect("it fits");
    }
    writer.remove(&3_u64.to_le_bytes());
    let mut get = place.reader();
    drop(writer);
    let mut writer = place.writer(64, 5_000);
    assert_eq!(writer.len(), 49);
    assert_eq!(writer.get(&4_u64.to_le_bytes()), Some(entry(4)));
    writer
        .set(&4_u64.to_le_bytes(), &entry(400))
        .expect("it fits");
    // A reader that was open all the while sees the new writer's words.
    assert_eq!(get(&4_u64.to_le_bytes(), 5_000).entry(), Some(entry(400)));
    drop(writer);
    // A wish for more room is granted on adoption.
    let writer = place.writer(5_000, 6_000);
    assert_eq!(writer.view().geometry().capacity, 5_000);
    assert_eq!(get(&5_u64.to_le_bytes(), 6_000).entry(), Some(entry(5)));
    assert_eq!(writer.len(), 49);
}

fn more_owners_than_fit_are_compacted(place: &impl Place) {
    let mut writer = place.writer(64, 1);
    let mut get = place.reader();
    for n in 1..=3 * OWNERS as u64 {
        let owner = NodeId(n);
        writer
            .name_node(owner, &format!("node-{n}"))
            .expect("it moves");
        let written = Entry {
            owner: Some(owner),
            ..entry(n)
        };
        writer.set(b"origin", &written).expect("it fits");
        assert_eq!(get(b"origin", 1).entry(), Some(written));
    }
    let mut name = [0; 64];
    let view = writer.view();
    let last = NodeId(3 * OWNERS as u64);
    let length = view.owner_name(last, &mut name).expect("it was named");
    assert_eq!(&name[..length], format!("node-{}", last.0).as_bytes());
    let length = view.owner_name(NodeId::of_name("n1"), &mut name);
    assert_eq!(length.map(|length| &name[..length]), Some(&b"n1"[..]));
    assert_eq!(view.owner_name(NodeId(1), &mut name), None);
}

fn freshness_is_the_heartbeats_age(place: &impl Place) {
    const S: u64 = 1_000_000_000;
    let mut writer = place.writer(64, 100 * S);
    let mut get = place.reader();
    let mut fresh = |now_ns| {
        let found = get(b"absent", now_ns).freshness();
        (found.fresh, found.age_ns)
    };
    assert_eq!(fresh(100 * S), (true, 0));
    assert_eq!(fresh(103 * S), (true, 3 * S));
    assert_eq!(fresh(103 * S + 1), (false, 3 * S + 1));
    writer.heartbeat(104 * S);
    assert_eq!(fresh(105 * S), (true, S));
    // The reader's clock was read a moment before the heartbeat.
    assert_eq!(fresh(104 * S - 5), (true, 0));
    // A heartbeat of an earlier boot.
    assert_eq!(fresh(7 * S), (false, u64::MAX));
}

fn refused_names_change_nothing(place: &impl Place) {
    let mut writer = place.writer(64, 1);
    assert!(writer.set(b"", &entry(1)).is_err());
    assert!(writer.set(&[1; NAME_BYTES + 1], &entry(1)).is_err());
    assert!(writer.is_empty());
    assert!(writer.set(&[1; NAME_BYTES], &entry(1)).is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u64),
    Remove(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), any::<u64>()).prop_map(|(name, n)| Step::Set(name, n)),
        4 => any::<u8>().prop_map(Step::Remove),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done to it, a table says what a map says.
    #[test]
    fn a_table_is_a_map(steps in prop::collection::vec(step(), 1..400)) {
        let place = Heap(HeapHome::new());
        let mut writer = place.writer(64, 1);
        let mut get = place.reader();
        let mut model: HashMap<Vec<u8>, Entry> = HashMap::new();
        let name = |n: u8| vec![n; 1 + usize::from(n % 100)];
        for step in steps {
            match step {
                Step::Set(n, value) => {
                    writer.set(&name(n), &entry(value)).expect("it fits");
                    model.insert(name(n), entry(value));
                }
                Step::Remove(n) => {
                    let was_there = writer.remove(&name(n));
                    prop_assert_eq!(was_there, model.remove(&name(n)).is_some());
                }
                Step::Reopen => {
                    drop(writer);
                    writer = place.writer(64, 1);
                }
            }
            prop_assert_eq!(writer.len(), model.len());
        }
        for n in 0..=u8::MAX {
            prop_assert_eq!(get(&name(n), 1).entry(), model.get(&name(n)).copied());
        }
        let mut listed = writer.entries();
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        let mut expected: Vec<_> = model.into_iter().collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(listed, expected);
        prop_assert!(writer.view().verify().problems.is_empty());
    }
}
