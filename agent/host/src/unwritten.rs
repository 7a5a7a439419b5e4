//! What the table had no room for: kept, and written once there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_table::Entry;

/// From one try to the next, nanoseconds. A try may reserve memory for a whole
/// table.
const RETRY_NS: u64 = 1_000_000_000;

/// Entries that the table refused, the latest of each name. Never more than
/// there are names.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    entries: BTreeMap<Arc<str>, Entry>,
    next_ns: u64,
}

impl Unwritten {
    /// Keeps an entry until there is room. True if the name was not among them,
    /// so that it is said once.
    pub(crate) fn keep(&mut self, name: Arc<str>, entry: Entry) -> bool {
        self.entries.insert(name, entry).is_none()
    }

    /// The table has the name, or nobody wants it any more.
    pub(crate) fn forget(&mut self, name: &str) {
        if !self.entries.is_empty() {
            self.entries.remove(name);
        }
    }

    /// Writes what there is room for, if it is time to try; `write` says
    /// whether there was. The first that is refused ends it, for the others
    /// would be too.
    pub(crate) fn retry(&mut self, now_ns: u64, mut write: impl FnMut(&[u8], &Entry) -> bool) {
        if self.entries.is_empty() || now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns.saturating_add(RETRY_NS);
        while let Some((name, entry)) = self.entries.first_key_value() {
            if !write(name.as_bytes(), entry) {
                return;
            }
            self.entries.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_written_once_there_is_room() {
        let mut unwritten = Unwritten::default();
        let of = |since_ms| Entry {
            since_ms,
            ..Entry::default()
        };
        assert!(unwritten.keep("a".into(), of(1)));
        assert!(!unwritten.keep("a".into(), of(2)), "said once");
        assert!(unwritten.keep("b".into(), of(3)));
        assert!(unwritten.keep("c".into(), of(4)));
        unwritten.forget("c");
        let mut asked = 0;
        for now_ns in [0, 1, RETRY_NS - 1, RETRY_NS] {
            unwritten.retry(now_ns, |_, _| {
                asked += 1;
                false
            });
        }
        assert_eq!(asked, 2, "one at a time, once a second");
        let mut written = Vec::new();
        unwritten.retry(2 * RETRY_NS, |name, entry| {
            written.push((name.to_vec(), entry.since_ms));
            true
        });
        assert_eq!(written, [(b"a".to_vec(), 2), (b"b".to_vec(), 3)]);
        unwritten.retry(9 * RETRY_NS, |_, _| panic!("nothing is left"));
    }
}
