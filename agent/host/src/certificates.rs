//! When the certificates of the checks that are probed here end, as the last
//! full TLS handshake showed.

use std::collections::HashMap;

use watchfire_wire::CheckId;

/// One entry a check that is probed here, at most: bounded by those.
#[derive(Debug, Default)]
pub(crate) struct Certificates(HashMap<CheckId, u64>);

impl Certificates {
    /// A certificate that ends then, seconds since 1970.
    pub(crate) fn shown(&mut self, check: CheckId, not_after_s: u64) {
        self.0.insert(check, not_after_s);
    }

    /// The check is probed here no more.
    pub(crate) fn forget(&mut self, check: CheckId) {
        self.0.remove(&check);
    }

    pub(crate) fn of(&self, check: CheckId) -> Option<u64> {
        self.0.get(&check).copied()
    }

    /// At most so many, those that end first in order.
    pub(crate) fn soonest(&self, most: usize) -> Vec<(u64, CheckId)> {
        let all = self.0.iter();
        let mut all: Vec<_> = all.map(|(check, end_s)| (*end_s, *check)).collect();
        if most == 0 {
            return Vec::new();
        }
        if all.len() > most {
            all.select_nth_unstable(most - 1);
            all.truncate(most);
        }
        all.sort_unstable();
        all
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_end_first_come_first_and_no_more_than_asked_for() {
        let check = |n: u8| CheckId([n; 16]);
        let mut all = Certificates::default();
        for (n, end_s) in [(1, 50), (2, 10), (3, 40), (4, 30)] {
            all.shown(check(n), end_s);
        }
        all.shown(check(1), 20);
        assert_eq!(all.soonest(2), [(10, check(2)), (20, check(1))]);
        assert_eq!(all.soonest(9).len(), 4);
        assert_eq!(all.soonest(0), []);
        all.forget(check(2));
        assert_eq!((all.of(check(2)), all.of(check(1))), (None, Some(20)));
        assert_eq!(all.count(), 3);
    }
}
