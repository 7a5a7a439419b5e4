//! What a screen shows of a POP, and keeps showing: the status page and `watchfire
//! top` are told everything once, and then what has changed.
//!
//! Origins come from the table, transitions from the recorder. The gossip thread is
//! asked for the members and the brake alone, at most once in [`GLANCE_EVERY`]
//! whoever looks, and the table is read at most once in [`FOLLOW_EVERY`].

mod mirror;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep};
use utoipa::{IntoParams, ToSchema};
use watchfire_table::{Entry, Flags, Reader, TableVerdict};

use self::mirror::Mirror;
use super::Doors;
use crate::clock;
use crate::gossip::command::Command;
use crate::gossip::glance::Glance;
use crate::gossip::reason_key;
use crate::gossip::status::{Latency, latency};
use crate::limits::{
    FOLLOW_AGAIN, FOLLOW_EVERY, FOLLOW_IDLE, FOLLOW_WAIT, FOLLOWERS, GLANCE_EVERY, SCREEN_EVENTS,
};
use crate::recorder::{Query, Record};

/// What a screen has seen already.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ScreenAsked {
    /// `life` of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) life: Option<String>,
    /// `version` of the last answer.
    pub(crate) version: u64,
    /// `last` of the last answer.
    pub(crate) last: u64,
    /// Wait for something new, two seconds at most.
    pub(crate) follow: bool,
}

/// What a screen shows.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Screen {
    /// Versions of one life can be compared; an agent that was started anew has
    /// another.
    pub(crate) life: String,
    /// Say it when you ask for what comes after.
    pub(crate) version: u64,
    /// This is all; otherwise what has changed since the version that was asked with.
    pub(crate) whole: bool,
    /// Origins, in no order.
    pub(crate) origins: Rows,
    /// Origins that have gone.
    pub(crate) gone: Vec<String>,
    /// Origins that are not told of, because there are too many; they are Up.
    pub(crate) left_out: usize,
    /// Whether somebody still writes the table.
    pub(crate) fresh: bool,
    /// The last transitions that came after `last`, the oldest first.
    pub(crate) events: Vec<Record>,
    /// The number of the last transition: say it when you ask again.
    pub(crate) last: u64,
    /// The POP beside its origins.
    pub(crate) pop: Glance,
    /// How late this agent's own probes began, since its start.
    pub(crate) lateness: Latency,
    /// This agent's wall clock, milliseconds since 1970.
    pub(crate) now_ms: u64,
    /// When to ask again, milliseconds: more than nothing where too many wait for
    /// news already.
    pub(crate) again_ms: u64,
}

/// Origins, a column for each of what is said of them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Rows {
    /// Names.
    pub(crate) name: Vec<String>,
    /// 0 unknown, 1 up, 2 down, 3 draining.
    pub(crate) verdict: Vec<u8>,
    /// 1 forced by an operator, 2 carried from an earlier definition, 4 frozen,
    /// 8 degraded; or sums of these.
    pub(crate) flags: Vec<u8>,
    /// Places in `reasons`.
    pub(crate) reason: Vec<u16>,
    /// Places in `owners`.
    pub(crate) owner: Vec<u16>,
    /// Since when, milliseconds since 1970.
    pub(crate) since_ms: Vec<u64>,
    /// What the probe took that decided it, microseconds.
    pub(crate) latency_us: Vec<u32>,
    /// Reasons' stable names.
    pub(crate) reasons: Vec<String>,
    /// Names of who decided; empty for nobody.
    pub(crate) owners: Vec<String>,
}

/// What is remembered for screens.
pub(crate) struct Screens {
    life: String,
    places: Semaphore,
    seen: Mutex<Seen>,
    glance: tokio::sync::Mutex<Option<(Instant, Arc<Glance>)>>,
}

#[derive(Default)]
struct Seen {
    mirror: Mirror,
    /// Somebody asks now and then.
    awake: bool,
    /// The table's count of writes at the last look.
    writes: u64,
    looked: Option<Instant>,
    /// When somebody last asked.
    asked: Option<Instant>,
    lateness: Latency,
}

impl Screens {
    pub(crate) fn new(life: u64) -> Self {
        Self {
            life: format!("{life:016x}"),
            places: Semaphore::new(FOLLOWERS),
            seen: Mutex::default(),
            glance: tokio::sync::Mutex::default(),
        }
    }

    /// Answers a screen; nothing if the agent is ending.
    pub(crate) async fn answer(&self, asked: &ScreenAsked, doors: &Doors) -> Option<Screen> {
        let until = Instant::now() + FOLLOW_WAIT;
        let place = self.places.try_acquire().ok().filter(|_| asked.follow);
        let has_place = place.is_some();
        let known = asked.life.as_deref() == Some(&self.life);
        loop {
            self.look(doors);
            let is_news = !known || self.has_news(asked, doors);
            let over = Instant::now() + FOLLOW_EVERY > until;
            if is_news || over || !has_place {
                break;
            }
            sleep(FOLLOW_EVERY).await;
        }
        let glance = self.glance(doors).await?;
        let mut screen = self.seen().screen(asked, known, doors);
        screen.life.clone_from(&self.life);
        screen.pop = (*glance).clone();
        if asked.follow && !has_place {
            screen.again_ms = u64::try_from(FOLLOW_AGAIN.as_millis()).unwrap_or(u64::MAX);
        }
        Some(screen)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the table, unless it was looked at just now or says the same.
    fn look(&self, doors: &Doors) {
        let now = Instant::now();
        let mut seen = self.seen();
        let woken = !std::mem::replace(&mut seen.awake, true);
        if woken {
            forget_when_idle(Arc::clone(&doors.screens));
        }
        seen.asked = Some(now);
        let recent = |at: Instant, what: Duration| now.duration_since(at) < what;
        if !woken && seen.looked.is_some_and(|at| recent(at, FOLLOW_EVERY / 2)) {
            return;
        }
        seen.looked = Some(now);
        let table = &doors.sights.table;
        // One that cannot be followed now is tried again; what it said stands.
        let moved = table.refresh().unwrap_or(false);
        let writes = table.writes();
        if !woken && !moved && writes == seen.writes {
            return;
        }
        // Before it is read: what is written meanwhile is for the next look.
        seen.writes = writes;
        seen.mirror.look(table.entries());
    }

    fn has_news(&self, asked: &ScreenAsked, doors: &Doors) -> bool {
        self.seen().mirror.version() != asked.version
            || doors.sights.recorder.journal().last() != asked.last
    }

    /// What the gossip thread says, as of a moment ago.
    async fn glance(&self, doors: &Doors) -> Option<Arc<Glance>> {
        // Whoever comes while it is asked waits for the same answer.
        let mut held = self.glance.lock().await;
        if let Some((at, glance)) = &*held
            && at.elapsed() < GLANCE_EVERY
        {
            return Some(Arc::clone(glance));
        }
        let (reply, answer) = oneshot::channel();
        doors.gossip.send(Command::Glance(reply)).await;
        let glance: Arc<Glance> = Arc::from(answer.await.ok()?);
        *held = Some((Instant::now(), Arc::clone(&glance)));
        self.seen().lateness = latency(&doors.sights.statistics.sum().lateness_us);
        Some(glance)
    }
}

/// Lets go of what is remembered, once nobody has asked for long.
fn forget_when_idle(screens: Arc<Screens>) {
    tokio::spawn(async move {
        loop {
            sleep(FOLLOW_IDLE).await;
            let mut seen = screens.seen();
            if seen.asked.is_none_or(|at| at.elapsed() >= FOLLOW_IDLE) {
                seen.mirror.forget();
                seen.awake = false;
                return;
            }
        }
    });
}

impl Seen {
    fn screen(&self, asked: &ScreenAsked, known: bool, doors: &Doors) -> Screen {
        let table = &doors.sights.table;
        let mut screen = Screen {
            lateness: self.lateness,
            fresh: table.freshness(clock::now_ns()).fresh,
            now_ms: clock::wall_ms(),
            ..Screen::default()
        };
        let changes = self.mirror.since(known.then_some(asked.version));
        screen.version = self.mirror.version();
        screen.left_out = self.mirror.left_out();
        screen.whole = changes.whole;
        screen.origins = Rows::of(&changes.rows, table);
        screen.gone = changes.gone.into_iter().map(str::to_owned).collect();
        let journal = doors.sights.recorder.journal();
        (screen.events, screen.last) = journal.find(&Query {
            after: if known { asked.last } else { 0 },
            limit: SCREEN_EVENTS,
            ..Query::default()
        });
        screen
    }
}

/// One origin of [`Rows`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRef<'a> {
    pub(crate) name: &'a str,
    pub(crate) verdict: TableVerdict,
    pub(crate) flags: Flags,
    pub(crate) reason: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) since_ms: u64,
    pub(crate) latency_us: u32,
}

impl Rows {
    fn of(rows: &[(&str, &Entry)], table: &Reader) -> Self {
        let mut columns = Self::default();
        let mut reasons = HashMap::new();
        let mut owners = HashMap::new();
        for (name, entry) in rows {
            columns.name.push((*name).to_owned());
            columns.verdict.push(entry.verdict as u8);
            columns.flags.push(entry.flags.0);
            columns.reason.push(place(
                &mut reasons,
                entry.reason,
                &mut columns.reasons,
                || reason_key(entry.reason).to_owned(),
            ));
            columns
                .owner
                .push(place(&mut owners, entry.owner, &mut columns.owners, || {
                    entry.owner.map_or_else(String::new, |owner| {
                        table.owner_name(owner).unwrap_or_else(|| owner.to_string())
                    })
                }));
            columns.since_ms.push(entry.since_ms);
            columns.latency_us.push(entry.latency_us);
        }
        columns
    }

    /// Row by row; what does not fit together is left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        self.name.iter().enumerate().filter_map(|(at, name)| {
            Some(RowRef {
                name,
                verdict: TableVerdict::from_code(*self.verdict.get(at)?)?,
                flags: Flags(*self.flags.get(at)?),
                reason: self.reasons.get(usize::from(*self.reason.get(at)?))?,
                owner: self.owners.get(usize::from(*self.owner.get(at)?))?,
                since_ms: *self.since_ms.get(at)?,
                latency_us: *self.latency_us.get(at)?,
            })
        })
    }
}

/// The place of something in a list that is made as it is needed. There are as many
/// reasons as a byte has values, and as many owners as the table can name.
fn place<K: std::hash::Hash + Eq>(
    known: &mut HashMap<K, u16>,
    key: K,
    words: &mut Vec<String>,
    word: impl FnOnce() -> String,
) -> u16 {
    *known.entry(key).or_insert_with(|| {
        words.push(word());
        u16::try_from(words.len() - 1).unwrap_or(u16::MAX)
    })
}
