//! The table as it was when somebody last looked, each origin with the number of the
//! look that found it changed: who has seen one look is told what came after it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use watchfire_table::{Entry, TableVerdict};

use crate::limits::{SCREEN_GONE, SCREEN_ORIGINS};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// The last look that found something.
    version: u64,
    /// All looks, to tell who is still there.
    looks: u64,
    rows: HashMap<Arc<str>, Row>,
    /// Who has gone, at which look.
    gone: VecDeque<(u64, Arc<str>)>,
    /// Who has seen less has to be told everything.
    floor: u64,
    /// Origins of the table beyond the limit.
    left_out: usize,
}

#[derive(Debug)]
struct Row {
    entry: Entry,
    /// The look that found it so.
    changed: u64,
    /// The last look that found it at all.
    seen: u64,
}

/// What has come since a look.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    /// Whatever was seen before does not count: this is all.
    pub(super) whole: bool,
    pub(super) rows: Vec<(&'a str, &'a Entry)>,
    pub(super) gone: Vec<&'a str>,
}

impl Mirror {
    /// Takes what the table says now.
    pub(super) fn look(&mut self, mut entries: Vec<(Vec<u8>, Entry)>) {
        self.left_out = entries.len().saturating_sub(SCREEN_ORIGINS);
        if self.left_out > 0 {
            // The same ones each time.
            entries.sort_unstable_by(|(a, x), (b, y)| {
                let is_up = |entry: &Entry| entry.verdict == TableVerdict::Up;
                (is_up(x), a).cmp(&(is_up(y), b))
            });
            entries.truncate(SCREEN_ORIGINS);
        }
        self.looks += 1;
        let (seen, changed) = (self.looks, self.version + 1);
        let mut news = false;
        let count = entries.len();
        for (name, entry) in entries {
            let name = String::from_utf8_lossy(&name);
            match self.rows.get_mut(&*name) {
                Some(row) if row.entry == entry => row.seen = seen,
                known => {
                    news = true;
                    let row = Row {
                        entry,
                        changed,
                        seen,
                    };
                    match known {
                        Some(known) => *known = row,
                        None => drop(self.rows.insert(name.into(), row)),
                    }
                }
            }
        }
        if self.rows.len() > count {
            news = true;
            let gone = &mut self.gone;
            self.rows.retain(|name, row| {
                if row.seen < seen {
                    gone.push_back((changed, Arc::clone(name)));
                }
                row.seen == seen
            });
        }
        while self.gone.len() > SCREEN_GONE {
            if let Some((version, _)) = self.gone.pop_front() {
                self.floor = version;
            }
        }
        if news {
            self.version = changed;
        }
    }

    /// Lets go of everything. Whoever has seen a look has to be told all again.
    pub(super) fn forget(&mut self) {
        *self = Self {
            version: self.version + 1,
            floor: self.version + 1,
            looks: self.looks,
            ..Self::default()
        };
    }

    /// The last look that found something.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Origins beyond the limit.
    pub(super) const fn left_out(&self) -> usize {
        self.left_out
    }

    /// What has changed since that look; all, if it is none of this mirror's.
    pub(super) fn since(&self, seen: Option<u64>) -> Changes<'_> {
        let seen = seen.filter(|seen| (self.floor..=self.version).contains(seen));
        let after = seen.unwrap_or(0);
        let rows = self.rows.iter();
        let rows = rows.filter(|(_, row)| row.changed > after);
        // One that is back is not gone.
        let gone = self.gone.iter().filter(|(version, name)| {
            seen.is_some() && *version > after && !self.rows.contains_key(name)
        });
        Changes {
            whole: seen.is_none(),
            rows: rows.map(|(name, row)| (&**name, &row.entry)).collect(),
            gone: gone.map(|(_, name)| &**name).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[(&str, TableVerdict)]) -> Vec<(Vec<u8>, Entry)> {
        let entry = |verdict| Entry {
            verdict,
            ..Entry::default()
        };
        names
            .iter()
            .map(|(name, verdict)| (name.as_bytes().to_vec(), entry(*verdict)))
            .collect()
    }

    fn names<'a>(changes: &Changes<'a>) -> Vec<&'a str> {
        let mut names: Vec<_> = changes.rows.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn who_has_seen_a_look_is_told_what_came_after_it() {
        use TableVerdict::{Down, Up};
        let mut mirror = Mirror::default();
        mirror.look(table(&[("a", Up), ("b", Up)]));
        let all = mirror.since(None);
        assert!(all.whole && names(&all) == ["a", "b"]);
        let first = mirror.version();
        mirror.look(table(&[("a", Up), ("b", Up)]));
        assert_eq!(mirror.version(), first, "nothing is no news");
        mirror.look(table(&[("a", Down), ("c", Up)]));
        let news = mirror.since(Some(first));
        assert!(!news.whole && names(&news) == ["a", "c"] && news.gone == ["b"]);
        let second = mirror.version();
        mirror.look(table(&[("a", Down), ("b", Up), ("c", Up)]));
        let news = mirror.since(Some(first));
        assert!(
            names(&news) == ["a", "b", "c"] && news.gone.is_empty(),
            "b is back"
        );
        assert_eq!(names(&mirror.since(Some(second))), ["b"]);
        assert!(mirror.since(Some(99)).whole, "that was another mirror's");
    }

    #[test]
    fn who_has_seen_too_little_is_told_all_and_what_has_gone_is_bounded() {
        let mut mirror = Mirror::default();
        let many: Vec<String> = (0..SCREEN_GONE + 1).map(|n| format!("o{n}")).collect();
        let many: Vec<_> = many.iter().map(|it| (&**it, TableVerdict::Up)).collect();
        mirror.look(table(&many));
        let first = mirror.version();
        mirror.look(table(&[("left", TableVerdict::Up)]));
        assert_eq!(mirror.gone.len(), SCREEN_GONE);
        let all = mirror.since(Some(first));
        assert!(all.whole && names(&all) == ["left"] && all.gone.is_empty());
        assert!(!mirror.since(Some(mirror.version())).whole);
    }

    #[test]
    fn who_comes_back_after_it_was_forgotten_is_told_all() {
        let mut mirror = Mirror::default();
        mirror.look(table(&[("a", TableVerdict::Up), ("b", TableVerdict::Up)]));
        let before = mirror.version();
        mirror.forget();
        mirror.look(table(&[("a", TableVerdict::Up)]));
        let all = mirror.since(Some(before));
        assert!(all.whole && names(&all) == ["a"]);
    }

    #[test]
    fn of_too_many_those_that_are_up_are_left_out_and_counted() {
        let mut mirror = Mirror::default();
        let many = (0..SCREEN_ORIGINS + 5).map(|n| {
            let verdict = match n % 100_000 {
                7 => TableVerdict::Down,
                _ => TableVerdict::Up,
            };
            let entry = Entry {
                verdict,
                ..Entry::default()
            };
            (format!("o{n:06}").into_bytes(), entry)
        });
        mirror.look(many.collect());
        assert_eq!((mirror.rows.len(), mirror.left_out()), (SCREEN_ORIGINS, 5));
        assert!(mirror.rows.contains_key("o100007") && mirror.rows.contains_key("o000007"));
    }
}
