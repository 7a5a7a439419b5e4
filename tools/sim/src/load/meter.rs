//! Meters: a token bucket that never refuses, and the most within a second.

/// So much per second on average, and a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_us: f64,
    burst: f64,
    level: f64,
    at_us: u64,
}

impl Bucket {
    pub(crate) fn new(per_s: f64, burst: f64) -> Self {
        Self {
            per_us: per_s / 1e6,
            burst,
            level: burst,
            at_us: 0,
        }
    }

    /// Full again.
    pub(crate) fn fill(&mut self) {
        self.level = self.burst;
    }

    /// Takes so much; by how much that is too much, if it is. It goes into
    /// debt by one burst at most, so that one excess is not counted for ever.
    pub(crate) fn take(&mut self, now_us: u64, amount: f64) -> Option<f64> {
        let passed_us = now_us.saturating_sub(self.at_us);
        self.at_us = now_us;
        self.level = (self.level + passed_us as f64 * self.per_us).min(self.burst) - amount;
        let over = -self.level;
        self.level = self.level.max(-self.burst);
        (over > 0.0).then_some(over)
    }
}

/// Tenths of a second that make up the last second.
const PARTS: usize = 10;
const PART_US: u64 = 100_000;

/// The most within any second, in steps of a tenth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peak {
    parts: [u64; PARTS],
    part: u64,
    sum: u64,
    most: u64,
}

impl Peak {
    pub(crate) fn add(&mut self, now_us: u64, amount: u64) {
        let part = now_us / PART_US;
        if part.saturating_sub(self.part) >= PARTS as u64 {
            self.parts = [0; PARTS];
            self.sum = 0;
        } else {
            for gone in self.part + 1..=part {
                let gone = &mut self.parts[gone as usize % PARTS];
                self.sum -= std::mem::take(gone);
            }
        }
        self.part = self.part.max(part);
        self.parts[self.part as usize % PARTS] += amount;
        self.sum += amount;
        self.most = self.most.max(self.sum);
    }

    /// The most since the last time.
    pub(crate) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_more_does_not() {
        let mut bucket = Bucket::new(50.0, 200.0);
        let over = (0..250).filter(|_| bucket.take(0, 1.0).is_some()).count();
        assert_eq!(over, 50);
        assert!(bucket.take(10_000_000, 1.0).is_none());
    }

    #[test]
    fn the_most_within_a_second_is_found_across_its_parts() {
        let mut peak = Peak::default();
        for at_ms in (0..5_000).step_by(20) {
            peak.add(at_ms * 1_000, 1);
        }
        assert_eq!(peak.take(), 50);
        peak.add(9_000_000, 3);
        assert_eq!(peak.take(), 3);
    }
}
