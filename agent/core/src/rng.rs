//! The core's own randomness: one generator, seeded by whoever runs the node.
//!
//! Pull ids, join tokens and nonces must not be guessed by somebody who saw
//! earlier ones, so this is a cipher (ChaCha8) and not a fast generator. It
//! never asks the operating system: the same seed gives the same run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A stream of unpredictable numbers from one 32-byte seed.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream of this seed. In production the seed comes from the
    /// operating system, in the simulator from the run's seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// Another stream, independent of what this one gives from now on.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::from_seed(self.bytes())
    }

    /// 64 random bits.
    #[must_use]
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 32 random bits.
    #[must_use]
    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `n`, or 0 if `n` is 0. The bias of `n` over 2^64 is
    /// beyond measuring.
    #[must_use]
    pub fn below(&mut self, n: usize) -> usize {
        let wide = u128::from(self.u64()) * n as u128;
        (wide >> 64) as usize
    }

    /// Brings the items into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream_and_a_split_gives_another() {
        let mut one = Rng::from_seed([7; 32]);
        let mut two = Rng::from_seed([7; 32]);
        assert_eq!(one.u64(), two.u64());
        let mut split = one.split();
        assert_ne!(split.u64(), one.u64());
    }

    #[test]
    fn below_stays_below_and_reaches_both_ends() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[rng.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut rng = Rng::from_seed([2; 32]);
        let mut items: Vec<u32> = (0..100).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
