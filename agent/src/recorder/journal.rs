//! The last transitions of each origin, in bounded memory: up to
//! [`TRANSITIONS_PER_ORIGIN`] of each and [`TRANSITIONS`] in all. At the first
//! limit an origin's oldest goes, at the second the oldest of all.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use glob::Pattern;

use super::packed::Packed;
use super::record::Record;
use crate::limits::{TRANSITIONS, TRANSITIONS_PER_ORIGIN};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    by_origin: HashMap<Arc<str>, VecDeque<Kept>>,
    /// Every record's number and origin, in order; some have gone since.
    order: VecDeque<(u64, Arc<str>)>,
    kept: usize,
    /// The number of the last record.
    last: u64,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    record: Box<Packed>,
}

/// What is asked for.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// Only those with a greater number.
    pub(crate) after: u64,
    /// Only those that this agent heard of then or later.
    pub(crate) since_ms: u64,
    /// Only origins of such a name.
    pub(crate) name: Option<Pattern>,
    /// At most so many, the newest of them.
    pub(crate) limit: usize,
}

impl Journal {
    /// Keeps a record, unless it is one that this version does not know how to.
    pub(crate) fn push(&mut self, record: &Record) {
        let Some(packed) = Packed::of(record) else {
            return;
        };
        self.last += 1;
        let number = self.last;
        let known = self.by_origin.get_key_value(record.origin.as_str());
        let origin = known.map_or_else(|| record.origin.as_str().into(), |(name, _)| name.clone());
        let of_it = self.by_origin.entry(Arc::clone(&origin)).or_default();
        if of_it.len() == of_it.capacity() {
            // Most origins change once or twice.
            of_it.reserve_exact(of_it.len().max(1));
        }
        of_it.push_back(Kept {
            number,
            record: Box::new(packed),
        });
        self.kept += 1;
        if of_it.len() > TRANSITIONS_PER_ORIGIN {
            of_it.pop_front();
            self.kept -= 1;
        }
        self.order.push_back((number, origin));
        while self.kept > TRANSITIONS {
            self.drop_oldest();
        }
        if self.order.len() >= 2 * TRANSITIONS {
            let by_origin = &self.by_origin;
            self.order.retain(|(number, origin)| {
                let front = by_origin.get(origin).and_then(VecDeque::front);
                front.is_some_and(|oldest| oldest.number <= *number)
            });
        }
    }

    fn drop_oldest(&mut self) {
        let Some((number, origin)) = self.order.pop_front() else {
            return;
        };
        let Some(of_it) = self.by_origin.get_mut(&origin) else {
            return;
        };
        // Unless it has gone as one of too many of its origin.
        if of_it.front().is_some_and(|oldest| oldest.number == number) {
            of_it.pop_front();
            self.kept -= 1;
            if of_it.is_empty() {
                self.by_origin.remove(&origin);
            }
        }
    }

    /// What is kept of an origin, the oldest first.
    pub(crate) fn of(&self, origin: &str) -> impl DoubleEndedIterator<Item = Record> {
        let of_it = self.by_origin.get_key_value(origin).into_iter();
        of_it.flat_map(|(name, all)| all.iter().map(|kept| kept.record.unpack(name)))
    }

    /// What is asked for, the oldest first, and the number to go on after.
    pub(crate) fn find(&self, query: &Query) -> (Vec<Record>, u64) {
        let from = self
            .order
            .partition_point(|(number, _)| *number <= query.after);
        let mut found: Vec<Record> = self
            .order
            .range(from..)
            .rev()
            .filter(|(_, origin)| query.name.as_ref().is_none_or(|name| name.matches(origin)))
            .filter_map(|(number, origin)| Some((origin, self.numbered(*number, origin)?)))
            .filter(|(_, record)| record.at_ms >= query.since_ms)
            .take(query.limit)
            .map(|(origin, record)| record.unpack(origin))
            .collect();
        found.reverse();
        (found, self.last)
    }

    fn numbered(&self, number: u64, origin: &str) -> Option<&Packed> {
        let of_it = self.by_origin.get(origin)?;
        let at = of_it
            .binary_search_by_key(&number, |kept| kept.number)
            .ok()?;
        Some(&of_it[at].record)
    }

    /// The number of the last record.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// Origins by how often they changed since then, those that did the most first.
    pub(crate) fn flapping(&self, since_ms: u64, limit: usize) -> Vec<(String, usize)> {
        let mut counts: Vec<(String, usize)> = self
            .by_origin
            .iter()
            .map(|(origin, of_it)| {
                let late = |kept: &&Kept| kept.record.at_ms >= since_ms;
                (origin.to_string(), of_it.iter().filter(late).count())
            })
            .filter(|(_, count)| *count > 1)
            .collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(limit);
        counts
    }

    /// Memory that it holds, bytes, about: names and opinions at their usual length.
    pub(crate) fn bytes(&self) -> usize {
        // What an allocation costs beside what it holds, a name, and what tables of
        // names have beside it.
        const NAME: usize = 48;
        let each = size_of::<Packed>() + 16 + 2 * size_of::<Kept>();
        let entry = size_of::<(Arc<str>, VecDeque<Kept>)>() + 1;
        self.kept * each
            + self.order.capacity() * size_of::<(u64, Arc<str>)>()
            + self.by_origin.capacity() * 8 / 7 * entry
            + self.by_origin.len() * NAME
    }

    /// How many are kept.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(origin: &str, at_ms: u64) -> Record {
        Record {
            id: format!("{}-edge-1-{at_ms}", "07".repeat(16)),
            at_ms,
            since_ms: at_ms,
            origin: origin.into(),
            from: "up".into(),
            to: "down".into(),
            reason: "bad_status".into(),
            owner: "edge-1".into(),
            latency_us: 10,
            opinions: Vec::new(),
        }
    }

    #[test]
    fn the_oldest_of_an_origin_gives_way_and_then_the_oldest_of_all() {
        let mut journal = Journal::default();
        journal.push(&record("quiet", 0));
        for at in 0..TRANSITIONS as u64 {
            journal.push(&record("flaps", at));
        }
        // One that flaps pushes out nobody but itself.
        assert_eq!(journal.of("quiet").count(), 1);
        assert_eq!(journal.of("flaps").count(), TRANSITIONS_PER_ORIGIN);
        for at in 0..TRANSITIONS as u64 {
            journal.push(&record(&format!("o{at}"), at));
            assert!(journal.len() <= TRANSITIONS && journal.order.len() <= 2 * TRANSITIONS + 1);
        }
        assert_eq!(journal.of("quiet").count(), 0);
        assert_eq!(journal.len(), TRANSITIONS);
    }

    #[test]
    fn what_is_asked_for_is_found_in_order_and_can_be_followed() {
        let mut journal = Journal::default();
        for at in 0..10 {
            journal.push(&record(if at % 2 == 0 { "a" } else { "b" }, at));
        }
        let mut query = Query {
            since_ms: 3,
            name: Some(Pattern::new("a*").unwrap()),
            limit: 2,
            ..Query::default()
        };
        let (found, last) = journal.find(&query);
        let at: Vec<_> = found.iter().map(|record| record.at_ms).collect();
        assert_eq!(at, [6, 8]);
        query.after = last;
        assert!(journal.find(&query).0.is_empty());
        journal.push(&record("a", 11));
        assert_eq!(journal.find(&query).0.len(), 1);
        assert_eq!(journal.flapping(4, 1), [("a".to_owned(), 4)]);
        assert_eq!(journal.len(), 11);
    }

    #[test]
    fn twenty_thousand_origins_fit_beside_their_probes() {
        let mut journal = Journal::default();
        for at in 0..2 * TRANSITIONS as u64 {
            journal.push(&record(&format!("origin-{}", at % 20_000), at));
        }
        assert_eq!(journal.len(), TRANSITIONS);
        // Beside it stand at most 15.7 MB of probes and answers: 24 MB in all.
        assert!(journal.bytes() < 8_200_000, "{} bytes", journal.bytes());
        // What came of it is the same.
        let kept: Vec<Record> = journal.of("origin-7").collect();
        assert_eq!(kept[0], record("origin-7", kept[0].at_ms));
    }
}
