//! The entry protocol: a counter and two copies of a value of N words.
//!
//! The copy that counts is the one that the counter's lowest bit names. The
//! single writer fills the other and flips by one release store, so it may
//! die between any two instructions and leaves the old value or the new one.
//! Readers write nothing. All words are atomic: there is no data race, and no
//! lock that a dead writer could hold.

use crate::sync::{AtomicU64, Ordering, fence};

/// Words that a twin of `n` words takes: the counter and both copies.
pub const fn words(n: usize) -> usize {
    1 + 2 * n
}

/// Publishes a value. Only one thread of one process may do so at a time.
#[inline(always)]
pub fn write<const N: usize>(twin: &[AtomicU64], value: &[u64; N]) {
    let counter = twin[0].load(Ordering::Relaxed);
    let next = counter.wrapping_add(1);
    // Orders the flip that made this copy inactive before the stores below: a
    // reader that sees any of them also sees that the counter has moved.
    fence(Ordering::Release);
    let copy = &twin[1 + (next & 1) as usize * N..][..N];
    for (word, &new) in copy.iter().zip(value) {
        word.store(new, Ordering::Relaxed);
    }
    twin[0].store(next, Ordering::Release);
}

/// One attempt to read: the counter and the value, or nothing if the writer
/// flipped meanwhile.
#[inline(always)]
pub fn read<const N: usize>(twin: &[AtomicU64]) -> Option<(u64, [u64; N])> {
    let counter = twin[0].load(Ordering::Acquire);
    let copy = &twin[1 + (counter & 1) as usize * N..][..N];
    let mut value = [0; N];
    for (to, word) in value.iter_mut().zip(copy) {
        *to = word.load(Ordering::Relaxed);
    }
    unmoved(twin, counter).then_some((counter, value))
}

/// Whether the counter still is what an earlier read saw. Everything that was
/// read between the two belongs to that state.
#[inline(always)]
pub fn unmoved(twin: &[AtomicU64], counter: u64) -> bool {
    // Pairs with the writer's release fence.
    fence(Ordering::Acquire);
    twin[0].load(Ordering::Relaxed) == counter
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_latest_write_is_read_from_either_copy() {
        let twin: Vec<AtomicU64> = (0..words(3)).map(|_| AtomicU64::new(0)).collect();
        for i in 1..5 {
            write(&twin, &[i, i * 2, i * 3]);
            assert_eq!(read(&twin), Some((i, [i, i * 2, i * 3])));
            assert!(unmoved(&twin, i) && !unmoved(&twin, i - 1));
        }
    }

    #[test]
    fn a_writer_that_died_half_way_left_the_old_value() {
        let twin: Vec<AtomicU64> = (0..words(2)).map(|_| AtomicU64::new(0)).collect();
        write(&twin, &[1, 1]);
        // The inactive copy is half written and the counter never flipped.
        twin[1].store(9, Ordering::Relaxed);
        assert_eq!(read::<2>(&twin), Some((1, [1, 1])));
    }
}
