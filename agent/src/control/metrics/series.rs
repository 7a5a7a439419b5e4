//! Series of single origins: those that are not Up, and those that the
//! configuration chose, and only at the member that decided their verdict, so
//! that a POP has each once.

use watchfire_table::{Entry, Reader, TableVerdict};
use watchfire_wire::{NodeId, Unmeasured};

use crate::config::Chosen;
use crate::gossip::reason_key;
use crate::limits::ORIGIN_SERIES;

/// One origin's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin {
    pub(super) name: String,
    pub(super) verdict: &'static str,
    pub(super) reason: &'static str,
    pub(super) since_s: f64,
    pub(super) latency_s: f64,
}

/// All that are shown, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Origins {
    pub(super) shown: Vec<Origin>,
    pub(super) left_out: usize,
}

impl Origins {
    /// What the table says of those that `me` decided.
    pub(super) fn read(reader: &Reader, me: NodeId, chosen: &Chosen) -> Self {
        Self::of(reader.entries(), me, chosen)
    }

    fn of(entries: Vec<(Vec<u8>, Entry)>, me: NodeId, chosen: &Chosen) -> Self {
        let mut origins = Self::default();
        let mut wanted: Vec<Origin> = entries
            .into_iter()
            .filter(|(_, entry)| entry.owner == Some(me))
            .filter_map(|(name, entry)| {
                let name = String::from_utf8(name).ok()?;
                let wanted = is_trouble(&entry) || chosen.has(&name);
                wanted.then(|| Origin::of(name, &entry))
            })
            .collect();
        // What is Down comes first, and then the same ones each time.
        wanted.sort_unstable_by(|a, b| (a.verdict, &a.name).cmp(&(b.verdict, &b.name)));
        origins.left_out = wanted.len().saturating_sub(ORIGIN_SERIES);
        wanted.truncate(ORIGIN_SERIES);
        origins.shown = wanted;
        origins
    }
}

impl Origin {
    fn of(name: String, entry: &Entry) -> Self {
        Self {
            name,
            verdict: entry.verdict.as_str(),
            reason: reason_key(entry.reason),
            since_s: seconds(entry.since_ms, 1e3),
            latency_s: seconds(u64::from(entry.latency_us), 1e6),
        }
    }
}

/// Not Up, and not merely waited for: of what nobody has measured yet each member
/// says the same.
fn is_trouble(entry: &Entry) -> bool {
    let waiting = [Unmeasured::NotYet, Unmeasured::Denied, Unmeasured::NoWay];
    match entry.verdict {
        TableVerdict::Up => false,
        TableVerdict::Unknown => waiting.iter().all(|reason| reason.code() != entry.reason),
        _ => true,
    }
}

#[expect(clippy::cast_precision_loss, reason = "times of this century fit")]
fn seconds(count: u64, per_second: f64) -> f64 {
    count as f64 / per_second
}

#[cfg(test)]
mod tests {
    use glob::Pattern;
    use watchfire_table::Flags;
    use watchfire_wire::Reason;

    use super::*;

    const ME: NodeId = NodeId(1);

    fn entry(verdict: TableVerdict, reason: u8, owner: NodeId) -> Entry {
        Entry {
            verdict,
            flags: Flags::NONE,
            reason,
            since_ms: 1_500,
            latency_us: 250,
            owner: Some(owner),
        }
    }

    #[test]
    fn only_ones_own_trouble_and_what_was_chosen_has_series() {
        let refused = Reason::ConnectRefused.code();
        let not_yet = Unmeasured::NotYet.code();
        let entries = [
            ("up", entry(TableVerdict::Up, 0, ME)),
            ("chosen", entry(TableVerdict::Up, 0, ME)),
            ("down", entry(TableVerdict::Down, refused, ME)),
            ("elsewhere", entry(TableVerdict::Down, refused, NodeId(2))),
            ("waiting", entry(TableVerdict::Unknown, not_yet, ME)),
        ];
        let entries = entries.map(|(name, entry)| (name.as_bytes().to_vec(), entry));
        let chosen = Chosen(vec![Pattern::new("ch*").unwrap()]);
        let origins = Origins::of(entries.to_vec(), ME, &chosen);
        let names: Vec<_> = origins.shown.iter().map(|origin| &origin.name).collect();
        assert_eq!(names, ["down", "chosen"]);
        assert_eq!(origins.shown[0].reason, "connect_refused");
        assert_eq!(origins.left_out, 0);
    }

    #[test]
    fn the_number_of_series_is_bounded_and_what_is_left_out_is_counted() {
        let down = entry(TableVerdict::Down, 1, ME);
        let entries = (0..ORIGIN_SERIES + 7).map(|n| (format!("o{n}").into_bytes(), down));
        let origins = Origins::of(entries.collect(), ME, &Chosen::default());
        assert_eq!((origins.shown.len(), origins.left_out), (ORIGIN_SERIES, 7));
    }
}
