//! The entry protocol under the model checker: every interleaving, and every
//! value that the memory model allows a load to return.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p watchfire-table --release --test loom`
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use watchfire_table::sync::{AtomicU64, Ordering};
use watchfire_table::twin;

/// Words of a twin of two words, as every entry has.
const WORDS: usize = twin::words(2);

fn twin_of(value: [u64; 2]) -> [AtomicU64; WORDS] {
    let words = std::array::from_fn(|_| AtomicU64::new(0));
    twin::write(&words, &value);
    words
}

/// Writes (n, n * 10): a torn pair gives itself away.
fn pair(n: u64) -> [u64; 2] {
    [n, n * 10]
}

#[test]
fn a_reader_sees_one_whole_value() {
    loom::model(|| {
        let words = Arc::new(twin_of(pair(1)));
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || {
                twin::write(&*words, &pair(2));
                twin::write(&*words, &pair(3));
                twin::write(&*words, &pair(4));
            }
        });
        if let Some((_, value)) = twin::read::<2>(&*words) {
            assert_eq!(value[1], value[0] * 10);
        }
        writer.join().expect("it wrote");
        assert_eq!(twin::read::<2>(&*words), Some((4, pair(4))));
    });
}

#[test]
fn a_second_read_is_never_older_than_the_first() {
    loom::model(|| {
        let words = Arc::new(twin_of(pair(1)));
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || {
                twin::write(&*words, &pair(2));
                twin::write(&*words, &pair(3));
            }
        });
        let first = twin::read::<2>(&*words);
        let second = twin::read::<2>(&*words);
        if let (Some((_, first)), Some((_, second))) = (first, second) {
            assert!(second[0] >= first[0]);
        }
        writer.join().expect("it wrote");
    });
}

#[test]
fn two_readers_never_disturb_each_other() {
    loom::model(|| {
        let words = Arc::new(twin_of(pair(1)));
        let readers = [(); 2].map(|()| {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                if let Some((_, value)) = twin::read::<2>(&*words) {
                    assert_eq!(value[1], value[0] * 10);
                }
            })
        });
        twin::write(&*words, &pair(2));
        for reader in readers {
            reader.join().expect("it read");
        }
    });
}

/// How a new name appears: key, name and value first, the hash last.
#[test]
fn a_published_slot_is_whole() {
    loom::model(|| {
        let hash = Arc::new(AtomicU64::new(0));
        let name = Arc::new(AtomicU64::new(0));
        let words: Arc<[AtomicU64; WORDS]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let writer = thread::spawn({
            let (hash, name, words) = (Arc::clone(&hash), Arc::clone(&name), Arc::clone(&words));
            move || {
                name.store(7, Ordering::Relaxed);
                twin::write(&*words, &pair(1));
                hash.store(99, Ordering::Release);
                twin::write(&*words, &pair(2));
            }
        });
        if hash.load(Ordering::Acquire) != 0 {
            assert_eq!(name.load(Ordering::Relaxed), 7);
            if let Some((_, value)) = twin::read::<2>(&*words) {
                assert!(value == pair(1) || value == pair(2));
            }
        }
        writer.join().expect("it wrote");
    });
}

/// How a handle leaves a file: the handle flips, then the old range is
/// blanked. Whoever read blanks finds the handle moved.
#[test]
fn a_read_that_met_a_blanked_range_starts_over() {
    loom::model(|| {
        let handle: Arc<[AtomicU64; twin::words(1)]> =
            Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        twin::write(&*handle, &[0]);
        let files = Arc::new([AtomicU64::new(5), AtomicU64::new(5)]);
        let follower = thread::spawn({
            let (handle, files) = (Arc::clone(&handle), Arc::clone(&files));
            move || {
                twin::write(&*handle, &[1]);
                // The system call between the two orders them for everyone.
                loom::sync::atomic::fence(Ordering::Release);
                files[0].store(0, Ordering::Relaxed);
            }
        });
        if let Some((seen, [file])) = twin::read::<1>(&*handle) {
            let found = files[file as usize].load(Ordering::Relaxed);
            if twin::unmoved(&*handle, seen) {
                assert_eq!(found, 5);
            }
        }
        follower.join().expect("it followed");
    });
}

/// The model checker would notice: the same protocol without the writer's
/// fence is torn.
#[test]
#[should_panic(expected = "torn")]
fn without_the_fence_it_is_torn() {
    fn write_unfenced(twin: &[AtomicU64], value: [u64; 2]) {
        let next = twin[0].load(Ordering::Relaxed) + 1;
        let copy = &twin[1 + (next & 1) as usize * 2..][..2];
        copy[0].store(value[0], Ordering::Relaxed);
        copy[1].store(value[1], Ordering::Relaxed);
        twin[0].store(next, Ordering::Release);
    }
    loom::model(|| {
        let words = Arc::new(twin_of(pair(1)));
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || {
                write_unfenced(&*words, pair(2));
                write_unfenced(&*words, pair(3));
            }
        });
        if let Some((_, value)) = twin::read::<2>(&*words) {
            assert!(value[1] == value[0] * 10, "torn: {value:?}");
        }
        writer.join().expect("it wrote");
    });
}
