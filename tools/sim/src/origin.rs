//! The origins: how each one really behaves, and since when. The truth that
//! verdicts are held against.

/// How an origin behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers as it should.
    Good,
    /// It refuses connections at once.
    Refusing,
    /// It accepts and says nothing.
    Hanging,
}

impl Health {
    /// Whether a probe passes.
    #[must_use]
    pub fn is_good(self) -> bool {
        self == Self::Good
    }
}

/// All origins, one per check.
#[derive(Clone, Debug)]
pub struct Origins {
    now: Vec<Health>,
    changed_us: Vec<u64>,
}

impl Origins {
    /// So many, all good.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self {
            now: vec![Health::Good; n],
            changed_us: vec![0; n],
        }
    }

    /// How this one behaves.
    #[must_use]
    pub fn health(&self, check: u32) -> Health {
        self.now[check as usize]
    }

    /// Changes one; the time of change counts only if good turns bad or bad
    /// turns good.
    pub fn set(&mut self, now_us: u64, check: u32, health: Health) {
        let i = check as usize;
        if self.now[i].is_good() != health.is_good() {
            self.changed_us[i] = now_us;
        }
        self.now[i] = health;
    }

    /// Whether it was bad at any moment since `since_us`.
    #[must_use]
    pub fn was_bad_since(&self, check: u32, since_us: u64) -> bool {
        let i = check as usize;
        !self.now[i].is_good() || (self.changed_us[i] > 0 && self.changed_us[i] >= since_us)
    }

    /// Whether it was good at any moment since `since_us`.
    #[must_use]
    pub fn was_good_since(&self, check: u32, since_us: u64) -> bool {
        let i = check as usize;
        self.now[i].is_good() || self.changed_us[i] >= since_us
    }

    /// Since when it behaves as it does, microseconds.
    #[must_use]
    pub fn since_us(&self, check: u32) -> u64 {
        self.changed_us[check as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_remembered_as_far_as_it_matters() {
        let mut origins = Origins::new(1);
        assert!(!origins.was_bad_since(0, 0));
        origins.set(100, 0, Health::Refusing);
        origins.set(150, 0, Health::Hanging);
        assert!(origins.was_bad_since(0, 1_000));
        assert!(origins.was_good_since(0, 50) && !origins.was_good_since(0, 101));
        origins.set(200, 0, Health::Good);
        assert!(origins.was_bad_since(0, 150) && !origins.was_bad_since(0, 201));
        assert_eq!(origins.since_us(0), 200);
    }
}
