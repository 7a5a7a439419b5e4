//! What the table shows of a name: what was measured, under what operators
//! decided.
//!
//! An override wins over everything. Under a freeze what a name shows stays, and
//! only a name without any verdict takes its first one. What would be shown
//! without either is remembered, and comes back when they end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use watchfire_core::overrides::{Decision, Op};
use watchfire_table::{Entry, Flags, TableVerdict};
use watchfire_wire::Unmeasured;

/// What operators decided, and what lies beneath it.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// In force, by name; the name need not be configured.
    forced: BTreeMap<Arc<str>, Arc<Decision>>,
    frozen: Option<Arc<Decision>>,
    /// It is known what is in force; until then what an earlier life forced or
    /// froze stays.
    settled: bool,
    /// What would be shown of a name that shows something else.
    beneath: HashMap<Arc<str>, Entry>,
}

/// What is to be written of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// This.
    Entry(Entry),
    /// What is there stays.
    AsItIs,
}

impl Decisions {
    /// What to write of a name, of which this was measured; `there` is what its
    /// table shows.
    pub(crate) fn show(&mut self, name: &Arc<str>, measured: Entry, there: Option<Entry>) -> Shown {
        if let Some(decision) = self.forced.get(name) {
            self.beneath.insert(Arc::clone(name), measured);
            return Shown::Entry(forced(decision, measured));
        }
        let there = there.filter(|entry| entry.verdict != TableVerdict::Unknown);
        let has = |flag| there.is_some_and(|entry| entry.flags.contains(flag));
        let was_forced = has(Flags::FORCED);
        if !self.settled && (was_forced || has(Flags::FROZEN)) {
            self.beneath.insert(Arc::clone(name), measured);
            return Shown::AsItIs;
        }
        if self.frozen.is_none() {
            self.beneath.remove(name);
            return Shown::Entry(measured);
        }
        self.beneath.insert(Arc::clone(name), measured);
        let kept = there.filter(|_| !was_forced).unwrap_or(measured);
        Shown::Entry(flagged(kept))
    }

    /// What was measured of a name, as far as `there`, its table, can tell.
    pub(crate) fn measured(&self, name: &str, there: Option<Entry>) -> Option<Entry> {
        let beneath = self.beneath.get(name).copied();
        beneath.or_else(|| there.filter(|entry| !entry.flags.contains(Flags::FORCED)))
    }

    /// An override begins or ends.
    pub(crate) fn set(&mut self, name: &Arc<str>, what: Option<Arc<Decision>>) {
        match what {
            Some(decision) => self.forced.insert(Arc::clone(name), decision),
            None => self.forced.remove(name),
        };
    }

    /// The freeze begins or ends.
    pub(crate) fn freeze(&mut self, what: Option<Arc<Decision>>) {
        self.frozen = what;
    }

    /// All that is in force is known.
    pub(crate) const fn settle(&mut self) {
        self.settled = true;
    }

    /// Names that show something else than what was measured.
    pub(crate) fn covered(&self) -> Vec<Arc<str>> {
        self.beneath.keys().cloned().collect()
    }

    /// The name left.
    pub(crate) fn forget(&mut self, name: &str) {
        self.beneath.remove(name);
    }

    /// The override of a name that is in force.
    pub(crate) fn of(&self, name: &str) -> Option<&Arc<Decision>> {
        self.forced.get(name)
    }

    /// All overrides that are in force.
    pub(crate) fn forced(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Decision>)> {
        self.forced.iter()
    }

    /// The freeze that is in force.
    pub(crate) const fn frozen(&self) -> Option<&Arc<Decision>> {
        self.frozen.as_ref()
    }
}

/// The verdict that an override shows.
pub(crate) const fn verdict_of(op: Op) -> TableVerdict {
    match op {
        Op::Up => TableVerdict::Up,
        Op::Down => TableVerdict::Down,
        Op::Drain => TableVerdict::Draining,
        Op::Auto | Op::Freeze | Op::Evict | Op::Forget => TableVerdict::Unknown,
    }
}

fn forced(decision: &Decision, measured: Entry) -> Entry {
    Entry {
        verdict: verdict_of(decision.op),
        flags: Flags::FORCED,
        reason: Unmeasured::Operator.code(),
        since_ms: decision.at_ms,
        latency_us: measured.latency_us,
        owner: Some(decision.id.by.node),
    }
}

fn flagged(entry: Entry) -> Entry {
    Entry {
        flags: entry.flags | Flags::FROZEN,
        ..entry
    }
}

#[cfg(test)]
mod tests {
    use watchfire_core::overrides::DecisionId;
    use watchfire_wire::{Actor, NodeId};

    use super::*;

    fn decision(op: Op) -> Arc<Decision> {
        let by = Actor {
            node: NodeId(7),
            epoch: 1,
            boot: 1,
        };
        Arc::new(Decision {
            id: DecisionId { counter: 1, by },
            op,
            at_ms: 9,
            until_ms: None,
            who: "someone".into(),
            why: "".into(),
        })
    }

    fn entry(verdict: TableVerdict, flags: Flags) -> Entry {
        Entry {
            verdict,
            flags,
            ..Entry::default()
        }
    }

    /// Every case of what is in force, what is measured and what is there.
    #[test]
    fn what_is_shown() {
        use TableVerdict::{Down, Draining, Unknown, Up};
        let (none, frozen, forced) = (Flags::NONE, Flags::FROZEN, Flags::FORCED);
        let (down, freeze) = (Some(Op::Down), true);
        for (over, is_frozen, settled, measured, there, shown) in [
            (None, false, true, Up, None, Some((Up, none))),
            (None, false, true, Up, Some((Down, none)), Some((Up, none))),
            (
                down,
                false,
                true,
                Up,
                Some((Up, none)),
                Some((Down, forced)),
            ),
            (
                Some(Op::Drain),
                false,
                true,
                Up,
                None,
                Some((Draining, forced)),
            ),
            (
                Some(Op::Up),
                freeze,
                true,
                Down,
                Some((Down, none)),
                Some((Up, forced)),
            ),
            // Under a freeze it stays as it was; a first verdict may come.
            (
                None,
                freeze,
                true,
                Down,
                Some((Up, none)),
                Some((Up, frozen)),
            ),
            (
                None,
                freeze,
                true,
                Down,
                Some((Unknown, none)),
                Some((Down, frozen)),
            ),
            (None, freeze, true, Up, None, Some((Up, frozen))),
            // What an operator said is no verdict to keep.
            (
                None,
                freeze,
                true,
                Up,
                Some((Down, forced)),
                Some((Up, frozen)),
            ),
            (
                None,
                false,
                true,
                Up,
                Some((Down, forced)),
                Some((Up, none)),
            ),
            // An earlier life's, until more is known.
            (None, false, false, Up, Some((Down, forced)), None),
            (None, false, false, Up, Some((Down, frozen)), None),
            (
                None,
                false,
                false,
                Down,
                Some((Up, none)),
                Some((Down, none)),
            ),
        ] {
            let mut decisions = Decisions {
                settled,
                frozen: is_frozen.then(|| decision(Op::Freeze)),
                ..Decisions::default()
            };
            let name: Arc<str> = "shop".into();
            decisions.set(&name, over.map(decision));
            let there = there.map(|(verdict, flags)| entry(verdict, flags));
            let got = decisions.show(&name, entry(measured, none), there);
            let got = match got {
                Shown::Entry(entry) => Some((entry.verdict, entry.flags)),
                Shown::AsItIs => None,
            };
            assert_eq!(
                got, shown,
                "{over:?} {is_frozen} {settled} {measured} {there:?}"
            );
        }
    }

    #[test]
    fn what_lies_beneath_comes_back() {
        let mut decisions = Decisions::default();
        decisions.settle();
        let name: Arc<str> = "shop".into();
        decisions.set(&name, Some(decision(Op::Down)));
        let up = entry(TableVerdict::Up, Flags::CARRIED);
        let shown = decisions.show(&name, up, None);
        let Shown::Entry(shown) = shown else {
            panic!("it is forced");
        };
        assert_eq!(shown.owner, Some(NodeId(7)));
        assert_eq!(decisions.measured("shop", Some(shown)), Some(up));
        decisions.set(&name, None);
        assert_eq!(decisions.show(&name, up, Some(shown)), Shown::Entry(up));
        assert_eq!(decisions.measured("shop", None), None);
    }
}
