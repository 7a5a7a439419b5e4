//! From what the POP holds of checks to what the table says of names.
//!
//! The core speaks of checks; the proxy asks by origin name. One check may
//! stand behind many names, and a name may change its check: then it keeps the
//! old verdict, marked carried, until the new check has one.

use core::fmt;
use std::sync::Arc;

use watchfire_core::io::Published;
use watchfire_core::overrides::{Decision, POP};
use watchfire_table::{Entry, Flags, Home, TableVerdict, Writer};
use watchfire_wire::{CheckId, NodeId, Reason, Unmeasured, Verdict};

use crate::catalogue::Catalogue;
use crate::change::{OriginChange, Refusal};
use crate::effect::Trouble;
use crate::pop_state::States;
use crate::shown::{Decisions, Shown, verdict_of};
use crate::unwritten::Unwritten;

/// The table, and what it is to say.
pub struct Publisher<H: Home> {
    table: Writer<H>,
    catalogue: Catalogue,
    decisions: Decisions,
    me: NodeId,
    failed_writes: u64,
    states: States,
    unwritten: Unwritten,
    troubles: Vec<Trouble>,
}

impl<H: Home> fmt::Debug for Publisher<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("catalogue", &self.catalogue)
            .finish_non_exhaustive()
    }
}

/// Verdicts by number of origins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Origins that are Up.
    pub up: usize,
    /// Origins that are Down.
    pub down: usize,
    /// Origins of which nobody knows.
    pub unknown: usize,
    /// Origins that an operator drains.
    pub draining: usize,
    /// Origins among these whose verdict is an operator's.
    pub forced: usize,
}

impl Tally {
    const fn of(&mut self, verdict: TableVerdict) -> &mut usize {
        match verdict {
            TableVerdict::Up => &mut self.up,
            TableVerdict::Down => &mut self.down,
            TableVerdict::Unknown => &mut self.unknown,
            TableVerdict::Draining => &mut self.draining,
        }
    }
}

impl<H: Home> Publisher<H> {
    /// A publisher into this table, of the node of this name.
    #[must_use]
    pub fn new(table: Writer<H>, name: &str) -> Self {
        let me = NodeId::of_name(name);
        let mut publisher = Self {
            table,
            catalogue: Catalogue::default(),
            decisions: Decisions::default(),
            me,
            failed_writes: 0,
            states: States::default(),
            unwritten: Unwritten::default(),
            troubles: Vec::new(),
        };
        publisher.name_node(me, name);
        publisher
    }

    /// Takes a changed set of origins. The caller tells the core afterwards.
    pub fn configure(&mut self, change: &OriginChange, wall_ms: u64) {
        for (id, spec) in &change.checks_added {
            self.catalogue.add_check(*id, spec);
        }
        for (id, spec) in &change.retargeted {
            self.catalogue.set_spec(*id, spec);
        }
        for (id, tenant) in &change.tenants {
            self.catalogue.set_tenant(*id, tenant);
        }
        for (id, refusal) in &change.refused {
            self.refuse(*id, Some(refusal.clone()), wall_ms);
        }
        for id in &change.accepted {
            self.refuse(*id, None, wall_ms);
        }
        for name in &change.names_removed {
            self.catalogue.remove_name(name);
            self.decisions.forget(name);
            self.unwritten.forget(name);
            self.table.remove(name.as_bytes());
        }
        for (name, id) in &change.names_set {
            self.set_name(name, *id, wall_ms);
        }
        for id in &change.checks_removed {
            self.catalogue.remove_check(*id);
        }
        if change.first {
            self.forget_unconfigured();
        }
    }

    /// Takes what the POP holds of a check.
    pub fn publish(&mut self, id: CheckId, what: Option<Published>, wall_ms: u64) {
        let me = self.me;
        let Some(watched) = self.catalogue.watched_mut(id) else {
            return;
        };
        if watched
            .refused
            .as_ref()
            .is_some_and(|refusal| !refusal.follows())
        {
            return;
        }
        watched.published = what;
        let refused = watched.refused.as_ref().map(|refusal| refusal.reason);
        let names = watched.names.clone();
        let not_yet = || unknown(me, refused.unwrap_or(Unmeasured::NotYet), wall_ms);
        let entry = what.map_or_else(not_yet, |what| entry_of(what, false));
        // Measured but not yet decided: what the table holds from before this
        // definition or this start is better than nothing.
        let undecided = what.is_some_and(|what| {
            what.verdict == Verdict::Unknown && Reason::from_code(what.reason).is_some()
        });
        for name in &names {
            if undecided && self.shows_a_verdict(name) {
                continue;
            }
            self.show(name, entry);
        }
    }

    /// An operator's override of a name begins or ends; of an empty name, the
    /// freeze of the POP.
    pub fn decide(&mut self, name: &Arc<str>, what: Option<Arc<Decision>>, wall_ms: u64) {
        if &**name != POP {
            self.decisions.set(name, what);
            return self.show_anew(name, wall_ms);
        }
        self.frozen_by_operator(what.as_ref().map(|decision| decision.at_ms));
        self.decisions.freeze(what);
        let all = self.catalogue.all_watched();
        let names: Vec<_> = all.flat_map(|watched| watched.names.clone()).collect();
        for name in names {
            self.show_anew(&name, wall_ms);
        }
    }

    /// All that operators decided and that is in force was told.
    pub fn settle_decisions(&mut self, wall_ms: u64) {
        self.decisions.settle();
        for name in self.decisions.covered() {
            self.show_anew(&name, wall_ms);
        }
    }

    /// The override of a name that is in force.
    #[must_use]
    pub fn override_of(&self, name: &str) -> Option<&Arc<Decision>> {
        self.decisions.of(name)
    }

    /// All overrides that are in force, by name; not each is configured here.
    pub fn overrides(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Decision>)> {
        self.decisions.forced()
    }

    /// The freeze of the POP, if it is frozen.
    #[must_use]
    pub const fn frozen(&self) -> Option<&Arc<Decision>> {
        self.decisions.frozen()
    }

    /// What is configured.
    #[must_use]
    pub const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Says that the writer is alive; see [`Writer::heartbeat`].
    pub fn heartbeat(&mut self, now_ns: u64) {
        self.table.heartbeat(now_ns);
        let table = &mut self.table;
        self.unwritten
            .retry(now_ns, |name, entry| table.set(name, entry).is_ok());
        if let Some(notice) = self.table.take_notice() {
            self.troubles.push(Trouble::Table(notice));
        }
    }

    /// Lets readers print a node's name instead of its id.
    pub fn name_node(&mut self, id: NodeId, name: &str) {
        if let Err(error) = self.table.name_node(id, name) {
            let node = name.to_owned();
            self.troubles.push(Trouble::Name { node, error });
        }
    }

    /// Verdicts by number of origins.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for watched in self.catalogue.all_watched() {
            let count = watched.names.len();
            match watched.published.map(|what| what.verdict) {
                Some(Verdict::Up) => tally.up += count,
                Some(Verdict::Down) => tally.down += count,
                Some(Verdict::Unknown) | None => tally.unknown += count,
            }
        }
        if self.states.frozen_ms.is_some() {
            // Tables keep what they showed, whatever is measured.
            tally = Tally::default();
            let names = self.catalogue.all_watched().flat_map(|of| &of.names);
            for name in names {
                let there = self.table.get(name.as_bytes());
                let shown = there.map_or(TableVerdict::Unknown, |entry| entry.verdict);
                *tally.of(shown) += 1;
            }
            let forced = self.decisions.forced();
            tally.forced = forced.filter(|(name, _)| self.catalogue.has(name)).count();
            return tally;
        }
        for (name, decision) in self.decisions.forced() {
            let Some(check) = self.catalogue.check_of(name) else {
                continue;
            };
            let watched = self.catalogue.watched(check);
            let measured = watched.and_then(|of| of.published).map(|what| what.verdict);
            let measured = measured.unwrap_or(Verdict::Unknown);
            *tally.of(measured.into()) -= 1;
            *tally.of(verdict_of(decision.op)) += 1;
            tally.forced += 1;
        }
        tally
    }

    /// Writes that the table refused; each is a [`Trouble`].
    #[must_use]
    pub const fn failed_writes(&self) -> u64 {
        self.failed_writes
    }

    /// What went wrong since the last time.
    pub fn take_troubles(&mut self) -> impl Iterator<Item = Trouble> + '_ {
        self.troubles.drain(..)
    }

    fn set_name(&mut self, name: &Arc<str>, id: CheckId, wall_ms: u64) {
        let before = self.catalogue.check_of(name);
        if before == Some(id) {
            return;
        }
        let published = |id| self.catalogue.watched(id).and_then(|of| of.published);
        let carried = before.and_then(published);
        let now = published(id);
        self.catalogue.set_name(name, id);
        let Some(watched) = self.catalogue.watched(id) else {
            return;
        };
        if let Some(refusal) = watched.refused.as_ref().filter(|_| now.is_none()) {
            let entry = unknown(self.me, refusal.reason, wall_ms);
            return self.show(name, entry);
        }
        let entry = match (now, carried) {
            (Some(what), _) => entry_of(what, false),
            (None, Some(old)) => entry_of(old, true),
            // A table that was adopted may hold a verdict from before the
            // restart: it stays, marked, until the POP has another.
            (None, None) => match self.measured(name) {
                Some(adopted) if adopted.verdict != TableVerdict::Unknown => Entry {
                    flags: Flags::CARRIED,
                    ..adopted
                },
                _ => unknown(self.me, Unmeasured::NotYet, wall_ms),
            },
        };
        self.show(name, entry);
    }

    /// This agent takes no part in a check, or does so again. Nothing is known
    /// of it either way.
    fn refuse(&mut self, id: CheckId, refusal: Option<Refusal>, wall_ms: u64) {
        let Some(watched) = self.catalogue.watched_mut(id) else {
            return;
        };
        let reason = refusal.as_ref().map_or(Unmeasured::NotYet, |it| it.reason);
        watched.refused = refusal;
        watched.published = None;
        let entry = unknown(self.me, reason, wall_ms);
        for name in watched.names.clone() {
            self.show(&name, entry);
        }
    }

    /// An origin of this check shows a verdict from before.
    pub(crate) fn carries(&self, id: CheckId) -> bool {
        self.catalogue
            .names_of(id)
            .iter()
            .any(|name| self.shows_a_verdict(name))
    }

    fn shows_a_verdict(&self, name: &str) -> bool {
        let shown = self.measured(name);
        shown.is_some_and(|entry| entry.verdict != TableVerdict::Unknown)
    }

    /// What was measured of a name, as far as this agent and its table know.
    fn measured(&self, name: &str) -> Option<Entry> {
        let there = self.table.get(name.as_bytes());
        self.decisions.measured(name, there)
    }

    /// Writes what a name shows, of which this was measured.
    fn show(&mut self, name: &Arc<str>, measured: Entry) {
        let there = self.table.get(name.as_bytes());
        if let Shown::Entry(entry) = self.decisions.show(name, measured, there) {
            self.write(name, &entry);
        }
    }

    /// The same, after operators decided.
    fn show_anew(&mut self, name: &Arc<str>, wall_ms: u64) {
        if self.catalogue.has(name) {
            let not_yet = || unknown(self.me, Unmeasured::NotYet, wall_ms);
            let measured = self.measured(name).unwrap_or_else(not_yet);
            self.show(name, measured);
        }
    }

    /// Removes from an adopted table what is not configured any more.
    fn forget_unconfigured(&mut self) {
        let mut names = self.table.names();
        names.retain(|name| {
            let configured = std::str::from_utf8(name).map(|name| self.catalogue.has(name));
            configured != Ok(true)
        });
        for name in names {
            self.table.remove(&name);
        }
    }

    fn write(&mut self, name: &Arc<str>, entry: &Entry) {
        match self.table.set(name.as_bytes(), entry) {
            Ok(()) => self.unwritten.forget(name),
            Err(error) => {
                self.failed_writes += 1;
                let origin = Arc::clone(name);
                if self.unwritten.keep(Arc::clone(name), *entry) {
                    self.troubles.push(Trouble::Write { origin, error });
                }
            }
        }
    }

    /// This agent holds new Downs back, or does so no more.
    pub fn braked(&mut self, since_ms: Option<u64>) {
        self.states.braked_ms = since_ms;
        self.table.set_pop_state(self.states.shown());
    }

    /// An operator froze the POP, or does so no more.
    fn frozen_by_operator(&mut self, since_ms: Option<u64>) {
        self.states.frozen_ms = since_ms;
        self.table.set_pop_state(self.states.shown());
    }
}

fn entry_of(what: Published, carried: bool) -> Entry {
    let carried = if carried { Flags::CARRIED } else { Flags::NONE };
    let frozen = if what.frozen {
        Flags::FROZEN
    } else {
        Flags::NONE
    };
    let is_degraded = what.verdict == Verdict::Up && what.reason == Reason::Degraded.code();
    let degraded = if is_degraded {
        Flags::DEGRADED
    } else {
        Flags::NONE
    };
    Entry {
        verdict: what.verdict.into(),
        flags: carried | frozen | degraded,
        reason: what.reason,
        since_ms: what.since_ms,
        latency_us: what.latency_us,
        owner: Some(what.owner),
    }
}

fn unknown(me: NodeId, reason: Unmeasured, wall_ms: u64) -> Entry {
    Entry {
        verdict: TableVerdict::Unknown,
        flags: Flags::NONE,
        reason: reason.code(),
        since_ms: wall_ms,
        latency_us: 0,
        owner: Some(me),
    }
}

#[cfg(test)]
mod tests {
    use watchfire_core::overrides::{DecisionId, Op};
    use watchfire_probe_core::check::CheckSpec;
    use watchfire_table::{HeapHome, HeapReader, WriterOptions};
    use watchfire_wire::Actor;

    use super::*;
    use crate::change::Origins;

    const OTHER: NodeId = NodeId(2);

    struct Bed {
        home: HeapHome,
        publisher: Publisher<HeapHome>,
        origins: Option<Origins>,
    }

    fn open(home: &HeapHome) -> Publisher<HeapHome> {
        let actor = Actor {
            node: NodeId::of_name("me"),
            epoch: 1,
            boot: 1,
        };
        let options = WriterOptions::new(actor, "me");
        Publisher::new(Writer::open_in(home.clone(), &options, 1).unwrap(), "me")
    }

    impl Bed {
        fn new() -> Self {
            let home = HeapHome::new();
            let publisher = open(&home);
            Self {
                home,
                publisher,
                origins: None,
            }
        }

        /// The agent dies and comes back with an empty memory.
        fn restart(&mut self) {
            self.publisher = open(&self.home);
            self.origins = None;
        }

        fn configure(&mut self, of: &[(&str, u16)]) {
            let mut origins = Origins::default();
            for &(name, port) in of {
                let spec = CheckSpec::tcp(([127, 0, 0, 1], port).into());
                origins.names.insert(name.into(), spec.id());
                origins.checks.insert(spec.id(), Arc::new(spec));
            }
            let change = OriginChange::between(self.origins.as_ref(), &origins);
            self.publisher.configure(&change, 3);
            self.origins = Some(origins);
        }

        fn publish(&mut self, name: &str, verdict: Verdict) {
            let id = self.publisher.catalogue().check_of(name).unwrap();
            let what = Published {
                verdict,
                reason: Reason::Passed.code(),
                since_ms: 5,
                latency_us: 6,
                owner: OTHER,
                frozen: false,
            };
            self.publisher.publish(id, Some(what), 4);
        }

        fn shown(&self, name: &str) -> Option<(TableVerdict, bool)> {
            let mut reader = HeapReader::open(&self.home).unwrap();
            let entry = reader.get(name.as_bytes(), 1).entry()?;
            Some((entry.verdict, entry.flags.contains(Flags::CARRIED)))
        }
    }

    #[test]
    fn a_verdict_reaches_every_name_of_its_check() {
        let mut bed = Bed::new();
        bed.configure(&[("a", 80), ("b", 80), ("c", 81)]);
        assert_eq!(bed.shown("a"), Some((TableVerdict::Unknown, false)));
        bed.publish("a", Verdict::Up);
        assert_eq!(bed.shown("b"), Some((TableVerdict::Up, false)));
        assert_eq!(bed.shown("c"), Some((TableVerdict::Unknown, false)));
        let tally = bed.publisher.tally();
        assert_eq!((tally.up, tally.unknown), (2, 1));
        bed.configure(&[("a", 80)]);
        assert_eq!(bed.shown("b"), None);
    }

    #[test]
    fn a_changed_definition_carries_the_verdict_until_there_is_another() {
        let mut bed = Bed::new();
        bed.configure(&[("a", 80)]);
        bed.publish("a", Verdict::Down);
        bed.configure(&[("a", 81)]);
        assert_eq!(bed.shown("a"), Some((TableVerdict::Down, true)));
        bed.publish("a", Verdict::Up);
        assert_eq!(bed.shown("a"), Some((TableVerdict::Up, false)));
    }

    #[test]
    fn a_restart_keeps_verdicts_and_forgets_what_is_not_configured() {
        let mut bed = Bed::new();
        bed.configure(&[("a", 80), ("b", 81)]);
        bed.publish("a", Verdict::Down);
        bed.publish("b", Verdict::Down);
        bed.restart();
        bed.configure(&[("a", 80), ("c", 82)]);
        assert_eq!(bed.shown("a"), Some((TableVerdict::Down, true)));
        bed.publish("a", Verdict::Unknown);
        assert_eq!(
            bed.shown("a"),
            Some((TableVerdict::Down, true)),
            "measured but not decided"
        );
        bed.publish("a", Verdict::Down);
        assert_eq!(bed.shown("a"), Some((TableVerdict::Down, false)));
        assert_eq!(bed.shown("b"), None);
        assert_eq!(bed.shown("c"), Some((TableVerdict::Unknown, false)));
    }

    #[test]
    fn a_refused_check_says_so_and_nothing_else_does() {
        let mut bed = Bed::new();
        bed.configure(&[("a", 80), ("b", 81)]);
        bed.publish("a", Verdict::Up);
        let mut refused = bed.origins.clone().unwrap();
        let id = refused.names["a"];
        let refusal = Refusal {
            reason: Unmeasured::Denied,
            because: "no".into(),
        };
        refused.refused.insert(id, refusal);
        let reason = |bed: &Bed| {
            let mut reader = HeapReader::open(&bed.home).unwrap();
            let entry = reader.get(b"a", 1).entry().unwrap();
            (entry.verdict, entry.reason)
        };
        let allowed = bed.origins.clone();
        let change = OriginChange::between(allowed.as_ref(), &refused);
        bed.publisher.configure(&change, 5);
        let denied = (TableVerdict::Unknown, Unmeasured::Denied.code());
        assert_eq!(reason(&bed), denied);
        bed.publish("a", Verdict::Up);
        assert_eq!(reason(&bed), denied, "what is refused has no verdict");
        assert_eq!(bed.publisher.catalogue().refused(), 1);
        let change = OriginChange::between(Some(&refused), allowed.as_ref().unwrap());
        bed.publisher.configure(&change, 6);
        let not_yet = (TableVerdict::Unknown, Unmeasured::NotYet.code());
        assert_eq!(reason(&bed), not_yet);
        bed.publish("a", Verdict::Up);
        assert_eq!(bed.shown("a"), Some((TableVerdict::Up, false)));
    }

    #[test]
    fn operators_win_over_probes_and_a_freeze_keeps_what_there_was() {
        let mut bed = Bed::new();
        bed.configure(&[("a", 80), ("b", 81)]);
        bed.publisher.settle_decisions(3);
        for name in ["a", "b"] {
            bed.publish(name, Verdict::Up);
        }
        let by = Actor {
            node: OTHER,
            epoch: 1,
            boot: 1,
        };
        let decision = |op| {
            Some(Arc::new(Decision {
                id: DecisionId { counter: 1, by },
                op,
                at_ms: 9,
                until_ms: None,
                who: "someone".into(),
                why: "".into(),
            }))
        };
        let entry = |bed: &Bed, name: &str| {
            let mut reader = HeapReader::open(&bed.home).unwrap();
            let entry = reader.get(name.as_bytes(), 1).entry().unwrap();
            (entry.verdict, entry.flags)
        };
        let (none, forced, frozen) = (Flags::NONE, Flags::FORCED, Flags::FROZEN);
        let (a, late): (Arc<str>, Arc<str>) = ("a".into(), "late".into());
        bed.publisher.decide(&a, decision(Op::Drain), 9);
        assert_eq!(entry(&bed, "a"), (TableVerdict::Draining, forced));
        let tally = bed.publisher.tally();
        assert_eq!((tally.up, tally.draining, tally.down), (1, 1, 0));
        bed.publish("a", Verdict::Down);
        assert_eq!(entry(&bed, "a"), (TableVerdict::Draining, forced));
        // A name that is not configured yet is kept for when it is.
        bed.publisher.decide(&late, decision(Op::Down), 9);
        bed.configure(&[("a", 80), ("b", 81), ("late", 82)]);
        assert_eq!(entry(&bed, "late"), (TableVerdict::Down, forced));

        bed.publisher.decide(&POP.into(), decision(Op::Freeze), 9);
        bed.publish("b", Verdict::Down);
        assert_eq!(entry(&bed, "b"), (TableVerdict::Up, frozen));
        bed.publisher.decide(&a, decision(Op::Up), 9);
        assert_eq!(entry(&bed, "a"), (TableVerdict::Up, forced));
        bed.publisher.decide(&a, None, 9);
        assert_eq!(entry(&bed, "a"), (TableVerdict::Down, frozen));
        bed.publisher.decide(&POP.into(), None, 9);
        assert_eq!(entry(&bed, "a"), (TableVerdict::Down, none));
        assert_eq!(entry(&bed, "b"), (TableVerdict::Down, none));
        assert_eq!(bed.publisher.tally().down, 3);
        assert_eq!(bed.publisher.tally().forced, 1);
    }

    #[test]
    fn what_an_earlier_life_was_told_stays_until_it_is_known() {
        let mut bed = Bed::new();
        bed.configure(&[("a", 80)]);
        bed.publisher.settle_decisions(3);
        bed.publish("a", Verdict::Up);
        let by = Actor {
            node: OTHER,
            epoch: 1,
            boot: 1,
        };
        let down = Arc::new(Decision {
            id: DecisionId { counter: 1, by },
            op: Op::Down,
            at_ms: 9,
            until_ms: Some(20),
            who: "someone".into(),
            why: "".into(),
        });
        bed.publisher.decide(&"a".into(), Some(down), 9);
        bed.restart();
        bed.configure(&[("a", 80)]);
        bed.publish("a", Verdict::Up);
        assert_eq!(bed.shown("a"), Some((TableVerdict::Down, false)));
        bed.publisher.settle_decisions(30);
        assert_eq!(bed.shown("a"), Some((TableVerdict::Up, false)));
    }

    #[test]
    fn what_the_table_refuses_is_counted_and_told() {
        let mut bed = Bed::new();
        let long = "x".repeat(10_000);
        bed.configure(&[(long.as_str(), 80)]);
        assert_eq!(bed.publisher.failed_writes(), 1);
        let told = bed.publisher.take_troubles().next();
        assert!(matches!(told, Some(Trouble::Write { .. })), "{told:?}");
    }
}
