//! From what the POP holds of checks to what the table says of names.
//!
//! The core speaks of checks; the proxy asks by origin name. One check may
//! stand behind many names, and a name may change its check: then it keeps the
//! old verdict, marked carried, until the new check has one.

use std::collections::HashMap;
use std::sync::Arc;

use watchfire_core::io::Published;
use watchfire_probe_core::check::CheckSpec;
use watchfire_table::{Entry, Flags, TableError, TableVerdict, Writer};
use watchfire_wire::{CheckId, NodeId, Reason, Unmeasured, Verdict};

use crate::control::origins::OriginChange;

/// The names, the checks behind them, and the table that shows them.
pub(crate) struct Publisher {
    table: Writer,
    names: HashMap<Arc<str>, CheckId>,
    checks: HashMap<CheckId, Watched>,
    me: NodeId,
    /// Writes that the table refused; each was logged.
    pub(crate) failed_writes: u64,
}

/// One check and who looks at it.
struct Watched {
    spec: Arc<CheckSpec>,
    names: Vec<Arc<str>>,
    published: Option<Published>,
}

/// Verdicts by number of origins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) up: usize,
    pub(crate) down: usize,
    pub(crate) unknown: usize,
}

impl Publisher {
    pub(crate) fn new(table: Writer, me: NodeId) -> Self {
        Self {
            table,
            names: HashMap::new(),
            checks: HashMap::new(),
            me,
            failed_writes: 0,
        }
    }

    /// Takes a changed set of origins. The caller tells the core afterwards.
    pub(crate) fn configure(&mut self, change: &OriginChange) {
        for (id, spec) in &change.checks_added {
            self.checks.entry(*id).or_insert_with(|| Watched {
                spec: spec.clone(),
                names: Vec::new(),
                published: None,
            });
        }
        for name in &change.names_removed {
            if let Some(id) = self.names.remove(name) {
                self.unlink(id, name);
            }
            self.table.remove(name.as_bytes());
        }
        for (name, id) in &change.names_set {
            self.set_name(name, *id);
        }
        for id in &change.checks_removed {
            self.checks.remove(id);
        }
        if change.first {
            self.forget_strangers();
        }
    }

    /// Takes what the POP holds of a check.
    pub(crate) fn publish(&mut self, id: CheckId, what: Option<Published>) {
        let Some(watched) = self.checks.get_mut(&id) else {
            return;
        };
        watched.published = what;
        let entry = what.map_or_else(|| unknown(self.me), |what| entry_of(what, false));
        // Measured but not yet decided: what the table holds from before this
        // definition or this start is better than nothing.
        let undecided = what.is_some_and(|what| {
            what.verdict == Verdict::Unknown && Reason::from_code(what.reason).is_some()
        });
        for name in watched.names.clone() {
            if undecided && self.shows_a_verdict(&name) {
                continue;
            }
            self.table_result(&name, |table| table.set(name.as_bytes(), &entry));
        }
    }

    /// The check behind an origin's name.
    pub(crate) fn check_of(&self, name: &str) -> Option<CheckId> {
        self.names.get(name).copied()
    }

    /// The definition of a check that some origin names.
    pub(crate) fn spec(&self, id: CheckId) -> Option<&Arc<CheckSpec>> {
        self.checks.get(&id).map(|watched| &watched.spec)
    }

    pub(crate) fn heartbeat(&mut self, now_ns: u64) {
        self.table.heartbeat(now_ns);
        if let Some(notice) = self.table.take_notice() {
            tracing::warn!("{notice}");
        }
    }

    /// Lets readers print a node's name instead of its id.
    pub(crate) fn name_node(&mut self, id: NodeId, name: &str) {
        if let Err(error) = self.table.name_node(id, name) {
            tracing::warn!(node = name, %error, "the table cannot name this node");
        }
    }

    /// The names that look at a check.
    pub(crate) fn names_of(&self, id: CheckId) -> &[Arc<str>] {
        self.checks
            .get(&id)
            .map_or(&[], |watched| watched.names.as_slice())
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for watched in self.checks.values() {
            let count = watched.names.len();
            match watched.published.map(|what| what.verdict) {
                Some(Verdict::Up) => tally.up += count,
                Some(Verdict::Down) => tally.down += count,
                Some(Verdict::Unknown) | None => tally.unknown += count,
            }
        }
        tally
    }

    pub(crate) fn origins(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn checks(&self) -> usize {
        self.checks.len()
    }

    fn set_name(&mut self, name: &Arc<str>, id: CheckId) {
        let before = self.names.insert(name.clone(), id);
        let carried = match before {
            Some(old) if old == id => return,
            Some(old) => {
                let verdict = self.checks.get(&old).and_then(|watched| watched.published);
                self.unlink(old, name);
                verdict
            }
            None => None,
        };
        let Some(watched) = self.checks.get_mut(&id) else {
            return;
        };
        watched.names.push(name.clone());
        let entry = match (watched.published, carried) {
            (Some(what), _) => entry_of(what, false),
            (None, Some(old)) => entry_of(old, true),
            // A table that was adopted may hold a verdict from before the
            // restart: it stays, marked, until the POP has another.
            (None, None) => match self.table.get(name.as_bytes()) {
                Some(adopted) => Entry {
                    flags: adopted.flags | Flags::CARRIED,
                    ..adopted
                },
                None => unknown(self.me),
            },
        };
        self.table_result(name, |table| table.set(name.as_bytes(), &entry));
    }

    /// An origin of this check shows a verdict from before.
    pub(crate) fn carries(&self, id: CheckId) -> bool {
        self.names_of(id)
            .iter()
            .any(|name| self.shows_a_verdict(name))
    }

    fn shows_a_verdict(&self, name: &str) -> bool {
        let shown = self.table.get(name.as_bytes());
        shown.is_some_and(|entry| entry.verdict != TableVerdict::Unknown)
    }

    fn unlink(&mut self, id: CheckId, name: &Arc<str>) {
        if let Some(watched) = self.checks.get_mut(&id) {
            watched.names.retain(|known| known != name);
        }
    }

    /// Removes from an adopted table what no origins file names any more.
    fn forget_strangers(&mut self) {
        let strangers: Vec<Vec<u8>> = self
            .table
            .names()
            .into_iter()
            .filter(|name| {
                !std::str::from_utf8(name).is_ok_and(|name| self.names.contains_key(name))
            })
            .collect();
        for name in strangers {
            self.table.remove(&name);
        }
    }

    fn table_result(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Writer) -> Result<(), TableError>,
    ) {
        if let Err(error) = write(&mut self.table) {
            self.failed_writes += 1;
            tracing::error!(origin = name, %error, "the table refused a write");
        }
    }
}

fn entry_of(what: Published, carried: bool) -> Entry {
    let carried = if carried { Flags::CARRIED } else { Flags::NONE };
    let frozen = if what.frozen {
        Flags::FROZEN
    } else {
        Flags::NONE
    };
    Entry {
        verdict: what.verdict.into(),
        flags: carried | frozen,
        reason: what.reason,
        since_ms: what.since_ms,
        latency_us: what.latency_us,
        owner: Some(what.owner),
    }
}

fn unknown(me: NodeId) -> Entry {
    Entry {
        verdict: TableVerdict::Unknown,
        flags: Flags::NONE,
        reason: Unmeasured::NotYet.code(),
        since_ms: crate::clock::wall_ms(),
        latency_us: 0,
        owner: Some(me),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OriginSet, load_origins};
    use tempfile::TempDir;
    use watchfire_table::{Reader, WriterOptions};
    use watchfire_wire::Actor;

    const ME: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    struct Bed {
        dir: TempDir,
        publisher: Publisher,
        origins: Option<OriginSet>,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let publisher = Self::open(&dir);
            Self {
                dir,
                publisher,
                origins: None,
            }
        }

        fn open(dir: &TempDir) -> Publisher {
            let actor = Actor {
                node: ME,
                epoch: 1,
                boot: 1,
            };
            let options = WriterOptions {
                any_filesystem: true,
                ..WriterOptions::new(actor, "me")
            };
            let table = Writer::open(&dir.path().join("table"), &options, 1).unwrap();
            Publisher::new(table, ME)
        }

        /// The agent dies and comes back with an empty memory.
        fn restart(&mut self) {
            let other = tempfile::tempdir().unwrap();
            // The lock goes with the writer, so the writer goes first.
            self.publisher = Self::open(&other);
            self.publisher = Self::open(&self.dir);
            self.origins = None;
        }

        fn configure(&mut self, origins: &[(&str, u16)]) {
            let text: String = origins
                .iter()
                .map(|(name, port)| {
                    format!("[[origin]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\n")
                })
                .collect();
            std::fs::write(self.dir.path().join("o.toml"), text).unwrap();
            let set =
                load_origins(&["o.toml".into()], self.dir.path(), &Default::default()).unwrap();
            let change = OriginChange::between(self.origins.as_ref(), &set);
            self.publisher.configure(&change);
            self.origins = Some(set);
        }

        fn publish(&mut self, name: &str, verdict: Verdict) {
            let id = self.publisher.check_of(name).unwrap();
            let what = Published {
                verdict,
                reason: Reason::Passed.code(),
                since_ms: 5,
                latency_us: 6,
                owner: OTHER,
                frozen: false,
            };
            self.publisher.publish(id, Some(what));
        }

        fn shown(&self, name: &str) -> Option<(TableVerdict, bool)> {
            let reader = Reader::open(&self.dir.path().join("table")).unwrap();
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
    fn a_restart_keeps_verdicts_and_forgets_strangers() {
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
}
