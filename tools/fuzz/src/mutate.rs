//! Inputs from a corpus, by a generator that a seed determines.

/// Longest input, bytes.
const INPUT_BYTES: usize = 64 * 1_024;

/// Makes inputs.
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, by xorshift64*.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(word).unwrap_or(0) % bound.max(1)
    }

    /// One of the corpus, changed a few times.
    pub(crate) fn input(&mut self, corpus: &[&[u8]]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].to_vec();
        for _ in 0..=self.below(6) {
            self.change(&mut input, corpus);
        }
        input.truncate(INPUT_BYTES);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[&[u8]]) {
        const TELLING: &[u8] = b"\r\n\t :;,0f9-+\0\xff\x80\"{}[]";
        let at = self.below(input.len() + 1);
        let end = at + self.below(input.len() + 1 - at).min(64);
        match self.below(8) {
            0 => {
                input.drain(at..end);
            }
            1 => {
                let part = input[at..end].to_vec();
                for _ in 0..=self.below(200) {
                    input.extend_from_slice(&part);
                }
            }
            2 => {
                let byte = TELLING[self.below(TELLING.len())];
                input.insert(at, byte);
            }
            3 => {
                let byte = self.below(256) as u8;
                input.insert(at, byte);
            }
            4 => {
                let other = corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                input.splice(at..end, other[from..].iter().copied());
            }
            5 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            6 => {
                let byte = TELLING[self.below(TELLING.len())];
                let count = self.below(5_000);
                input.splice(at..at, std::iter::repeat_n(byte, count));
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = TELLING[self.below(TELLING.len())];
                }
            }
        }
    }
}
