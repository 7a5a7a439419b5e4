//! What `watchfire top` knows and where its user is: a state, and what each event
//! makes of it. It reads no clock, no terminal and no socket.

use std::collections::{BTreeMap, HashMap, VecDeque};

use watchfire_table::{Flags, TableVerdict};

use super::filter::Filter;
use crate::control::screen::Screen;
use crate::gossip::glance::Glance;
use crate::gossip::status::Latency;
use crate::recorder::Record;

/// Transitions that are kept; the oldest give way.
const EVENTS: usize = 500;

/// Longest search, characters; more are not taken.
const SEARCH: usize = 200;

/// One origin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin {
    pub(super) verdict: TableVerdict,
    pub(super) flags: Flags,
    pub(super) reason: String,
    pub(super) owner: String,
    pub(super) since_ms: u64,
    pub(super) latency_us: u32,
}

/// Whether the agent answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Link {
    /// It has not been heard yet.
    #[default]
    Asking,
    Live,
    /// It does not, since it said that it was this time, and why.
    Lost(u64, String),
}

/// In which order origins are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Sort {
    #[default]
    Worst,
    Changed,
    Name,
    Owner,
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Worst => Self::Changed,
            Self::Changed => Self::Name,
            Self::Name => Self::Owner,
            Self::Owner => Self::Worst,
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Worst => "worst first",
            Self::Changed => "last changed first",
            Self::Name => "by name",
            Self::Owner => "by owner",
        }
    }
}

/// What the keys move in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Pane {
    #[default]
    Origins,
    Members,
    Events,
}

impl Pane {
    const fn next(self) -> Self {
        match self {
            Self::Origins => Self::Members,
            Self::Members => Self::Events,
            Self::Events => Self::Origins,
        }
    }
}

/// One origin's story, or why it cannot be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Story {
    pub(super) name: String,
    /// Nothing while it is asked for.
    pub(super) lines: Option<Vec<String>>,
    /// The first line that is seen.
    pub(super) at: usize,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) link: Link,
    pub(super) pop: Glance,
    pub(super) lateness: Latency,
    pub(super) now_ms: u64,
    pub(super) fresh: bool,
    pub(super) left_out: usize,
    pub(super) origins: BTreeMap<String, Origin>,
    pub(super) events: VecDeque<Record>,
    life: String,
    pub(super) sort: Sort,
    /// Those, too, with which nothing is wrong.
    pub(super) all: bool,
    pub(super) search: String,
    /// Keys go into the search.
    pub(super) typing: bool,
    pub(super) pane: Pane,
    pub(super) cursor: usize,
    /// The origins that are shown, in order.
    pub(super) shown: Vec<String>,
    pub(super) story: Option<Story>,
    pub(super) help: bool,
}

/// A key, whatever the terminal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    Enter,
    Escape,
    Backspace,
    /// The terminal's way to say: end.
    Interrupt,
    Char(char),
}

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// The agent answered.
    Screen(Box<Screen>),
    /// It did not.
    Lost(String),
    /// What became of an origin, by name.
    Story(String, Vec<String>),
    Key(Key),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Want {
    Quit,
    /// Ask what became of this origin.
    Story(String),
}

/// What an event makes of it.
pub(super) fn update(mut model: Model, event: Event) -> (Model, Option<Want>) {
    match event {
        Event::Screen(screen) => model.take(*screen),
        Event::Lost(why) => {
            if !matches!(model.link, Link::Lost(..)) {
                model.link = Link::Lost(model.now_ms, why);
            }
        }
        Event::Story(name, lines) => {
            if let Some(story) = &mut model.story
                && story.name == name
            {
                story.lines = Some(lines);
            }
        }
        Event::Key(key) => {
            let want = model.key(key);
            return (model, want);
        }
    }
    (model, None)
}

impl Model {
    fn take(&mut self, screen: Screen) {
        self.link = Link::Live;
        if screen.whole {
            self.origins.clear();
        }
        if screen.life != self.life {
            self.events.clear();
            self.life.clone_from(&screen.life);
        }
        for row in screen.origins.iter() {
            let origin = Origin {
                verdict: row.verdict,
                flags: row.flags,
                reason: row.reason.to_owned(),
                owner: row.owner.to_owned(),
                since_ms: row.since_ms,
                latency_us: row.latency_us,
            };
            self.origins.insert(row.name.to_owned(), origin);
        }
        for name in &screen.gone {
            self.origins.remove(name);
        }
        // Whoever looks at an older one goes on looking at it.
        if self.pane == Pane::Events && self.cursor > 0 {
            self.cursor += screen.events.len();
        }
        self.events.extend(screen.events);
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
        self.pop = screen.pop;
        self.lateness = screen.lateness;
        self.now_ms = screen.now_ms;
        self.fresh = screen.fresh;
        self.left_out = screen.left_out;
        self.choose();
    }

    /// Puts together what is shown, and stays at the origin where the cursor is.
    fn choose(&mut self) {
        let at = match self.pane {
            Pane::Origins => self.shown.get(self.cursor).cloned(),
            Pane::Members | Pane::Events => None,
        };
        let filter = Filter::of(&self.search);
        let mut shown: Vec<(&String, &Origin)> = self
            .origins
            .iter()
            .filter(|(_, origin)| self.all || !filter.is_empty() || is_trouble(origin))
            .filter(|(name, origin)| filter.fits(name, origin))
            .collect();
        // They are sorted by name already.
        match self.sort {
            Sort::Name => {}
            Sort::Worst => shown.sort_by_key(|(_, it)| rank(it.verdict)),
            Sort::Changed => shown.sort_by_key(|(_, it)| std::cmp::Reverse(it.since_ms)),
            Sort::Owner => shown.sort_by(|(_, a), (_, b)| a.owner.cmp(&b.owner)),
        }
        self.shown = shown.into_iter().map(|(name, _)| name.clone()).collect();
        if self.cursor > 0
            && let Some(place) = at.and_then(|at| self.shown.iter().position(|it| *it == at))
        {
            self.cursor = place;
        }
        self.cursor = self.cursor.min(self.rows().saturating_sub(1));
    }

    /// Rows of what the keys move in.
    fn rows(&self) -> usize {
        match self.pane {
            Pane::Origins => self.shown.len(),
            Pane::Members => self.pop.members.len(),
            Pane::Events => self.events.len(),
        }
    }

    fn key(&mut self, key: Key) -> Option<Want> {
        if key == Key::Interrupt {
            return Some(Want::Quit);
        }
        if self.help {
            self.help = false;
            return None;
        }
        if self.typing {
            self.type_key(key);
            return None;
        }
        if let Some(story) = &mut self.story {
            let last = story.lines.as_ref().map_or(0, Vec::len).saturating_sub(1);
            match key {
                Key::Escape | Key::Enter | Key::Char('q') => self.story = None,
                Key::Char('r') => {
                    story.lines = None;
                    return Some(Want::Story(story.name.clone()));
                }
                _ => story.at = moved(story.at, key, last),
            }
            return None;
        }
        match key {
            Key::Char('q') => return Some(Want::Quit),
            Key::Char('?' | 'h') => self.help = true,
            Key::Char('/') => self.typing = true,
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.cursor = 0;
                self.choose();
            }
            Key::Char('a') => {
                self.all = !self.all;
                self.choose();
            }
            Key::Escape => {
                self.search.clear();
                self.choose();
            }
            Key::Tab => {
                self.pane = self.pane.next();
                self.cursor = 0;
            }
            Key::Enter => return self.enter(),
            _ => self.cursor = moved(self.cursor, key, self.rows().saturating_sub(1)),
        }
        None
    }

    fn type_key(&mut self, key: Key) {
        match key {
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.typing = false;
                self.search.clear();
            }
            Key::Backspace => drop(self.search.pop()),
            Key::Char(c) if self.search.chars().count() < SEARCH => self.search.push(c),
            _ => {}
        }
        self.pane = Pane::Origins;
        self.cursor = 0;
        self.choose();
    }

    /// Looks into what is under the cursor.
    fn enter(&mut self) -> Option<Want> {
        let name = match self.pane {
            Pane::Origins => self.shown.get(self.cursor)?.clone(),
            Pane::Events => self.events.iter().rev().nth(self.cursor)?.origin.clone(),
            Pane::Members => {
                let member = &self.pop.members.get(self.cursor)?.name;
                self.search = format!("owner:{member}");
                self.pane = Pane::Origins;
                self.cursor = 0;
                self.choose();
                return None;
            }
        };
        self.story = Some(Story {
            name: name.clone(),
            ..Story::default()
        });
        Some(Want::Story(name))
    }

    /// Origins by verdict: unknown, up, down, draining.
    pub(super) fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for origin in self.origins.values() {
            counts[origin.verdict as usize] += 1;
        }
        counts
    }

    /// How many origins' verdicts each member decided.
    pub(super) fn load(&self) -> HashMap<&str, usize> {
        let mut load = HashMap::new();
        for origin in self.origins.values() {
            *load.entry(origin.owner.as_str()).or_default() += 1;
        }
        load
    }
}

/// Not simply Up.
fn is_trouble(origin: &Origin) -> bool {
    origin.verdict != TableVerdict::Up || origin.flags != Flags::NONE
}

/// The worst first.
const fn rank(verdict: TableVerdict) -> u8 {
    match verdict {
        TableVerdict::Down => 0,
        TableVerdict::Unknown => 1,
        TableVerdict::Draining => 2,
        TableVerdict::Up => 3,
    }
}

/// Where a key leads among rows, of which this is the last.
fn moved(at: usize, key: Key, last: usize) -> usize {
    const PAGE: usize = 10;
    let to = match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at + 1,
        Key::PageUp => at.saturating_sub(PAGE),
        Key::PageDown => at + PAGE,
        Key::Home | Key::Char('g') => 0,
        Key::End | Key::Char('G') => last,
        _ => at,
    };
    to.min(last)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::screen::Rows;
    use crate::gossip::status::{Braked, MemberStatus};

    /// An answer with these origins, as (name, verdict, owner).
    pub(in crate::cli::top) fn screen(version: u64, rows: &[(&str, TableVerdict, &str)]) -> Screen {
        let mut owners: Vec<String> = rows.iter().map(|it| it.2.to_owned()).collect();
        owners.sort();
        owners.dedup();
        let origins = Rows {
            name: rows.iter().map(|it| it.0.to_owned()).collect(),
            verdict: rows.iter().map(|it| it.1 as u8).collect(),
            flags: vec![0; rows.len()],
            reason: rows
                .iter()
                .map(|it| u16::from(it.1 != TableVerdict::Up))
                .collect(),
            owner: rows
                .iter()
                .map(|it| owners.iter().position(|name| name == it.2).unwrap() as u16)
                .collect(),
            since_ms: (0..rows.len() as u64).map(|n| 1_000 + n).collect(),
            latency_us: vec![250; rows.len()],
            reasons: vec!["passed".into(), "bad_status".into()],
            owners,
        };
        Screen {
            life: "1".into(),
            version,
            whole: version == 1,
            origins,
            fresh: true,
            now_ms: 61_000,
            pop: Glance {
                node: "edge-1".into(),
                checks: 3,
                members: vec![member("edge-1", "alive"), member("edge-2", "suspect")],
                ..Glance::default()
            },
            ..Screen::default()
        }
    }

    pub(in crate::cli::top) fn member(name: &str, state: &str) -> MemberStatus {
        MemberStatus {
            name: name.into(),
            addr: "192.0.2.1:7946".into(),
            state: state.into(),
            capacity: 100,
            draining: false,
            braked: false,
            prober_healthy: true,
            epoch: 1,
            clock_off_ms: Some(3),
            answered_ms_ago: Some(400),
        }
    }

    pub(in crate::cli::top) fn event(origin: &str, to: &str) -> Record {
        Record {
            id: "1".into(),
            at_ms: 60_000,
            since_ms: 60_000,
            origin: origin.into(),
            from: "up".into(),
            to: to.into(),
            reason: "bad_status".into(),
            owner: "edge-2".into(),
            latency_us: 1,
            opinions: Vec::new(),
        }
    }

    /// Three origins, two of which are in trouble.
    pub(in crate::cli::top) fn three() -> Model {
        use TableVerdict::{Down, Unknown, Up};
        let rows = [
            ("api-1", Unknown, ""),
            ("shop-1", Up, "edge-1"),
            ("shop-2", Down, "edge-2"),
        ];
        after(Model::default(), Event::Screen(Box::new(screen(1, &rows))))
    }

    pub(in crate::cli::top) fn after(model: Model, event: Event) -> Model {
        update(model, event).0
    }

    pub(in crate::cli::top) fn keys(mut model: Model, keys: &str) -> Model {
        for key in keys.chars() {
            let key = match key {
                '\n' => Key::Enter,
                '\t' => Key::Tab,
                '\u{1b}' => Key::Escape,
                c => Key::Char(c),
            };
            model = after(model, Event::Key(key));
        }
        model
    }

    #[test]
    fn trouble_comes_first_and_the_rest_when_it_is_asked_for() {
        let model = three();
        assert_eq!(model.shown, ["shop-2", "api-1"]);
        assert_eq!(model.counts(), [1, 1, 1, 0]);
        let model = keys(model, "a");
        assert_eq!(model.shown, ["shop-2", "api-1", "shop-1"]);
        let model = keys(model, "ss");
        assert_eq!(model.shown, ["api-1", "shop-1", "shop-2"], "by name");
        let model = keys(model, "s");
        assert_eq!(model.shown, ["api-1", "shop-1", "shop-2"], "by owner");
    }

    #[test]
    fn what_is_searched_is_found_whatever_its_verdict() {
        let model = keys(three(), "/shop-*");
        assert_eq!(model.shown, ["shop-2", "shop-1"]);
        assert!(model.typing, "q would be part of it");
        let model = keys(model, "\n");
        assert!(!model.typing && model.search == "shop-*");
        let model = keys(model, "\u{1b}");
        assert_eq!(model.shown.len(), 2);
        // A member leads to what it decided.
        let model = keys(model, "\tj\n");
        assert_eq!(model.search, "owner:edge-2");
        assert_eq!(model.shown, ["shop-2"]);
    }

    #[test]
    fn changes_are_taken_and_the_cursor_stays_where_it_was() {
        use TableVerdict::{Down, Up};
        let model = keys(three(), "j");
        assert_eq!(model.shown[model.cursor], "api-1");
        let mut next = screen(2, &[("shop-1", Down, "edge-1")]);
        next.gone = vec!["shop-2".into()];
        next.events = vec![event("shop-1", "down")];
        let model = after(model, Event::Screen(Box::new(next)));
        assert_eq!(model.shown, ["shop-1", "api-1"]);
        assert_eq!(model.shown[model.cursor], "api-1");
        assert_eq!(model.origins.len(), 2);
        // Another life tells all of it anew.
        let mut other = screen(1, &[("new", Up, "edge-1")]);
        other.life = "2".into();
        let model = after(model, Event::Screen(Box::new(other)));
        assert_eq!((model.origins.len(), model.events.len()), (1, 0));
        assert_eq!(model.cursor, 0);
    }

    #[test]
    fn one_is_looked_into_and_left_again() {
        let (model, want) = update(three(), Event::Key(Key::Enter));
        assert_eq!(want, Some(Want::Story("shop-2".into())));
        let late = Event::Story("other".into(), vec!["x".into()]);
        let model = after(model, late);
        assert_eq!(model.story.as_ref().unwrap().lines, None, "of another one");
        let told = Event::Story("shop-2".into(), vec!["is down".into(); 30]);
        let model = keys(after(model, told), "jj");
        assert_eq!(model.story.as_ref().unwrap().at, 2);
        let (model, want) = update(model, Event::Key(Key::Char('q')));
        assert_eq!((want, model.story), (None, None), "it leads back");
    }

    #[test]
    fn an_agent_that_ends_is_said_since_when_and_that_it_is_back() {
        let model = after(three(), Event::Lost("no agent answers".into()));
        let model = after(model, Event::Lost("still none".into()));
        assert_eq!(model.link, Link::Lost(61_000, "no agent answers".into()));
        assert_eq!(model.origins.len(), 3, "what was known stays in sight");
        let model = after(model, Event::Screen(Box::new(screen(2, &[]))));
        assert_eq!(model.link, Link::Live);
        let (_, want) = update(model, Event::Key(Key::Interrupt));
        assert_eq!(want, Some(Want::Quit));
    }

    #[test]
    fn lists_are_bounded_and_keys_never_lead_out_of_them() {
        let mut many = screen(2, &[]);
        many.events = vec![event("a", "down"); EVENTS + 7];
        many.pop.braked = Some(Braked { for_s: 3, held: 9 });
        let mut model = after(three(), Event::Screen(Box::new(many)));
        assert_eq!(model.events.len(), EVENTS);
        for pane in [Pane::Origins, Pane::Members, Pane::Events] {
            model.pane = pane;
            for key in [Key::End, Key::Down, Key::PageDown, Key::Home, Key::Up] {
                model = after(model, Event::Key(key));
                assert!(model.cursor < model.rows());
            }
        }
        let long = "x".repeat(2 * SEARCH);
        assert_eq!(keys(model, &format!("/{long}")).search.len(), SEARCH);
        let none = keys(Model::default(), "jG\n\t\nk\t\n");
        assert_eq!(none.cursor, 0);
    }
}
