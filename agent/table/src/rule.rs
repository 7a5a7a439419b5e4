//! What the table means for a request: the one rule that every reader follows.
//!
//! The C library and the Lua files call this; `tests/rule.txt` is what all
//! three are held to. A proxy that asks here behaves like every other one when
//! a table is stale, missing, moved or foreign:
//!
//! | what is there | what it means |
//! | --- | --- |
//! | Up | use |
//! | Up, degraded | try last |
//! | Down | do not use |
//! | Draining, or Down by an operator's override | do not use, not even in panic or when stale |
//! | Unknown, or not in the table | use: nobody says that it is bad |
//! | overtaken by the writer | try last: nothing is known at this moment |
//! | the table is stale | its last verdicts hold ([`WhenStale::Static`]); by choice every origin is used, but for the operator's |
//! | no table, or a file that is none or of another owner | use |
//! | the table moved | it is followed within a millisecond; the old file holds until then |

use crate::entry::{Entry, Flags, TableVerdict};
use crate::view::Lookup;

/// What to do with an origin.
///
/// The numbers are part of the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Usage {
    /// Send it nothing.
    #[default]
    DoNotUse = 0,
    /// Send only what no origin to use could take.
    TryLast = 1,
    /// Send requests.
    Use = 2,
}

impl Usage {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DoNotUse => "do not use",
            Self::TryLast => "try last",
            Self::Use => "use",
        }
    }
}

/// What a stale table means, that is one whose agent is dead or stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum WhenStale {
    /// Its last verdicts hold.
    #[default]
    Static = 0,
    /// Every origin is used, but for those that an operator took out.
    Open = 1,
}

/// When a pool is in panic, that is has so few origins to use that all are
/// used: the fault is then rarely the origins', and the few that are left would
/// not stand the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolRule {
    /// Origins that must be usable. With none and no share there is no panic.
    pub at_least: u32,
    /// Share of the pool that must be usable, percent. What an operator took
    /// out is not of the pool.
    pub share_percent: u8,
    /// What a stale table means.
    pub when_stale: WhenStale,
}

/// What is known of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    /// Good enough if nothing better is there.
    Doubtful,
    Bad,
    /// An operator took it out.
    Out,
}

impl Standing {
    const fn usage(self) -> Usage {
        match self {
            Self::Good => Usage::Use,
            Self::Doubtful => Usage::TryLast,
            Self::Bad | Self::Out => Usage::DoNotUse,
        }
    }

    fn of(found: Option<&Lookup>, when_stale: WhenStale) -> Self {
        match found {
            None | Some(Lookup::NotInTable { .. }) => Self::Good,
            Some(Lookup::Busy { .. }) => Self::Doubtful,
            Some(Lookup::Found { entry, freshness }) => {
                let open = !freshness.fresh && when_stale == WhenStale::Open;
                Self::of_entry(entry, open)
            }
        }
    }

    fn of_entry(entry: &Entry, open: bool) -> Self {
        let forced = entry.flags.contains(Flags::FORCED);
        match entry.verdict {
            TableVerdict::Draining => Self::Out,
            TableVerdict::Down if forced => Self::Out,
            _ if open => Self::Good,
            TableVerdict::Down => Self::Bad,
            TableVerdict::Up if !forced && entry.flags.contains(Flags::DEGRADED) => Self::Doubtful,
            TableVerdict::Up | TableVerdict::Unknown => Self::Good,
        }
    }
}

/// What to do with an origin of which this was found; nothing if there is no
/// table.
#[must_use]
pub fn usage(found: Option<&Lookup>, when_stale: WhenStale) -> Usage {
    Standing::of(found, when_stale).usage()
}

/// What to do with each origin of a pool, one in `usages` for each. `look`
/// gives what was found of one; it may be asked twice. Gives whether the pool
/// is in panic.
pub fn pool(
    rule: &PoolRule,
    mut look: impl FnMut(usize) -> Option<Lookup>,
    usages: &mut [Usage],
) -> bool {
    let (mut good, mut doubtful, mut size) = (0, 0, 0);
    for (at, usage) in usages.iter_mut().enumerate() {
        let standing = Standing::of(look(at).as_ref(), rule.when_stale);
        *usage = standing.usage();
        size += usize::from(standing != Standing::Out);
        good += usize::from(standing == Standing::Good);
        doubtful += usize::from(standing == Standing::Doubtful);
    }
    let share = (size * usize::from(rule.share_percent.min(100))).div_ceil(100);
    let needed = share.max(rule.at_least as usize).min(size);
    if good >= needed {
        return false;
    }
    let panic = good + doubtful < needed;
    for (at, usage) in usages.iter_mut().enumerate() {
        let mut standing = || Standing::of(look(at).as_ref(), rule.when_stale);
        if *usage != Usage::DoNotUse || panic && standing() != Standing::Out {
            *usage = Usage::Use;
        }
    }
    panic
}
