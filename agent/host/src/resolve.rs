//! Which names are asked for when, and what their answers mean. It asks nobody itself:
//! time and answers come in, questions and news go out.
//!
//! One question per name is on its way at most, however many checks use it. A resolver
//! that fails changes nothing that was known. A name that is said not to exist keeps its
//! addresses for a while too: an answer is as easily wrong for a moment as late.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use watchfire_probe_core::HostName;
use watchfire_wire::Time;

/// Addresses of one name that are looked at: the lowest of each family. The rest of a
/// longer answer is left out, and said to be.
pub const ADDRESSES: usize = 64;

/// Questions on their way at once. At the limit the rest waits for answers.
pub const IN_FLIGHT: usize = 64;

/// From one question to the next: a hundred a second, whatever their number.
const PACE: Duration = Duration::from_millis(10);

/// A question that failed, or whose answer is that there is none, is asked again after
/// so long at most.
pub const AGAIN_MAX: Duration = Duration::from_secs(10);

/// Which times answers are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveConfig {
    /// An answer counts for so long at least.
    pub ttl_min: Duration,
    /// An answer is asked for again after so long.
    pub ttl_max: Duration,
    /// A name that had addresses keeps them for so long while it is said not to exist.
    pub missing_after: Duration,
}

/// What a question for the addresses of one family came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Family {
    /// These, for so long. None, if the name has none or does not exist: servers say the
    /// one where they mean the other (RFC 4074), so that the other family's answer counts.
    Answered(Vec<IpAddr>, Duration),
    /// Nobody answered, or the answer was an error.
    Failed(Arc<str>),
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its addresses, the lowest of IPv4 first and those of IPv6 after them.
    pub addresses: Arc<[IpAddr]>,
    /// Addresses of the answer beyond [`ADDRESSES`].
    pub left_out: usize,
    /// Since when it has exactly these.
    pub since: Time,
    /// Since when its name is said not to exist, or to have no address.
    pub missing: Option<Time>,
    /// Why the last question failed, if it did.
    pub failing: Option<Arc<str>>,
}

/// A name whose state has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Which.
    pub name: HostName,
    /// What is known of it now.
    pub known: Known,
}

/// What was asked and answered, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queries {
    /// Questions for a name.
    pub queries: u64,
    /// Of those that nobody answered.
    pub failed: u64,
    /// Of those whose answer was that there is no such name, or no address.
    pub missing: u64,
    /// Answers with other addresses than before.
    pub changed: u64,
}

/// The names that are wanted.
#[derive(Debug)]
pub struct Names {
    config: ResolveConfig,
    names: BTreeMap<HostName, State>,
    /// When each is asked for next, unless a question is on its way.
    due: BTreeSet<(Time, HostName)>,
    in_flight: usize,
    next_query: Time,
    asked: Queries,
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    /// The next question, if it is not on its way.
    due: Option<Time>,
    /// What it is asked again after when that fails.
    ttl: Duration,
}

impl Names {
    /// No names yet.
    #[must_use]
    pub fn new(config: ResolveConfig) -> Self {
        Self {
            config,
            names: BTreeMap::new(),
            due: BTreeSet::new(),
            in_flight: 0,
            next_query: Time::ZERO,
            asked: Queries::default(),
        }
    }

    /// These names are wanted from now on, and no others. What is known of those that
    /// were wanted before stays.
    pub fn want(&mut self, now: Time, wanted: &BTreeSet<HostName>) {
        let gone = self.names.keys().filter(|name| !wanted.contains(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            if let Some(due) = self.names.remove(&name).and_then(|state| state.due) {
                self.due.remove(&(due, name));
            }
        }
        for name in wanted {
            if !self.names.contains_key(name) {
                self.names.insert(name.clone(), State::default());
                self.arm(name, now);
            }
        }
    }

    /// The next name to ask for, if one is due and may be asked for now.
    pub fn poll_query(&mut self, now: Time) -> Option<HostName> {
        let (due, _) = self.due.first()?;
        if *due > now || self.next_query > now || self.in_flight >= IN_FLIGHT {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        if let Some(state) = self.names.get_mut(&name) {
            state.due = None;
        }
        self.next_query = now + PACE;
        self.in_flight += 1;
        self.asked.queries += 1;
        Some(name)
    }

    /// When a question may be due next.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        match self.due.first() {
            Some((due, _)) if self.in_flight < IN_FLIGHT => (*due).max(self.next_query),
            _ => Time::NEVER,
        }
    }

    /// What was asked and answered.
    #[must_use]
    pub const fn asked(&self) -> Queries {
        self.asked
    }

    /// Takes what a question came to. Gives what is known now, if that is news.
    pub fn answered(&mut self, now: Time, name: &HostName, v4: Family, v6: Family) -> Option<News> {
        self.in_flight = self.in_flight.saturating_sub(1);
        // One that is not wanted any more, or was given up and wanted again meanwhile.
        let state = self.names.get_mut(name).filter(|it| it.due.is_none())?;
        let before = state.known.clone();
        let (ttl, found) = combine(&before.addresses, v4, v6);
        let known = &mut state.known;
        let again = match found {
            Found::Addresses(addresses) => {
                let (addresses, left_out) = lowest(addresses);
                known.left_out = left_out;
                (known.missing, known.failing) = (None, None);
                if *addresses != *known.addresses {
                    self.asked.changed += u64::from(!known.addresses.is_empty());
                    known.addresses = addresses.into();
                    known.since = now;
                }
                state.ttl = ttl.clamp(self.config.ttl_min, self.config.ttl_max);
                state.ttl
            }
            Found::Missing => {
                self.asked.missing += 1;
                known.failing = None;
                let since = *known.missing.get_or_insert(now);
                let over = now.since(since) >= self.config.missing_after;
                if over && !known.addresses.is_empty() {
                    known.addresses = Arc::default();
                    known.since = now;
                }
                ttl.clamp(self.config.ttl_min, self.config.ttl_max.min(AGAIN_MAX))
            }
            Found::Failed(why) => {
                self.asked.failed += 1;
                known.failing = Some(why);
                // Once it answers again, a new address is known within a TTL.
                state
                    .ttl
                    .clamp(self.config.ttl_min, self.config.ttl_max.min(AGAIN_MAX))
            }
        };
        let known = state.known.clone();
        self.arm(name, now + again);
        (known != before || before == Known::default()).then(|| News {
            name: name.clone(),
            known,
        })
    }

    fn arm(&mut self, name: &HostName, at: Time) {
        if let Some(state) = self.names.get_mut(name) {
            state.due = Some(at);
            self.due.insert((at, name.clone()));
        }
    }
}

enum Found {
    Addresses(Vec<IpAddr>),
    Missing,
    Failed(Arc<str>),
}

/// What both families' answers say together. A family that failed keeps the addresses
/// that it had: half an answer moves nobody.
fn combine(before: &[IpAddr], v4: Family, v6: Family) -> (Duration, Found) {
    let mut addresses = Vec::new();
    let mut ttl = Duration::MAX;
    let mut failed = None;
    for (family, is_v4) in [(v4, true), (v6, false)] {
        match family {
            Family::Answered(found, lasts) => {
                ttl = ttl.min(lasts);
                addresses.extend(found);
            }
            Family::Failed(why) => {
                addresses.extend(before.iter().filter(|address| address.is_ipv4() == is_v4));
                failed.get_or_insert(why);
            }
        }
    }
    let found = match failed {
        Some(why) if ttl == Duration::MAX || addresses.is_empty() => Found::Failed(why),
        _ if addresses.is_empty() => Found::Missing,
        _ => Found::Addresses(addresses),
    };
    (ttl, found)
}

/// The lowest addresses, each once, and how many there are beyond them: of the same
/// answer, whatever its order, all servers take the same one.
fn lowest(mut addresses: Vec<IpAddr>) -> (Vec<IpAddr>, usize) {
    // An address of IPv4 in IPv6's form is that address; and IPv4 sorts first.
    for address in &mut addresses {
        *address = address.to_canonical();
    }
    addresses.sort_unstable();
    addresses.dedup();
    let left_out = addresses.len().saturating_sub(ADDRESSES);
    addresses.truncate(ADDRESSES);
    (addresses, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const CONFIG: ResolveConfig = ResolveConfig {
        ttl_min: SECOND,
        ttl_max: Duration::from_secs(300),
        missing_after: Duration::from_secs(30),
    };

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_000 * seconds)
    }

    fn is(addresses: &[&str], ttl_s: u64) -> Family {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        Family::Answered(addresses.collect(), Duration::from_secs(ttl_s))
    }

    fn fails() -> Family {
        Family::Failed("timeout".into())
    }

    fn none() -> Family {
        Family::Answered(Vec::new(), Duration::MAX)
    }

    fn one() -> Names {
        let mut names = Names::new(CONFIG);
        names.want(at(0), &BTreeSet::from([name("a.example")]));
        names
    }

    /// Asks at this second, if that is due, and gives what is known then, if it is news.
    fn step(names: &mut Names, second: u64, v4: Family, v6: Family) -> Option<Vec<String>> {
        let asked = names.poll_query(at(second)).expect("it is due");
        let news = names.answered(at(second), &asked, v4, v6)?;
        Some(
            news.known
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
        )
    }

    #[test]
    fn an_answer_counts_for_its_ttl_between_floor_and_ceiling() {
        for (ttl_s, next) in [(0, 1), (2, 2), (86_400, 300)] {
            let mut names = one();
            let news = step(&mut names, 5, is(&["192.0.2.1"], ttl_s), is(&[], 900));
            assert_eq!(news.unwrap(), ["192.0.2.1"]);
            assert_eq!(names.next_timeout(), at(5 + next));
            assert_eq!(names.poll_query(at(4 + next)), None);
            assert!(names.poll_query(at(5 + next)).is_some());
        }
    }

    #[test]
    fn whatever_the_order_of_an_answer_it_is_the_same_one() {
        let mut names = one();
        let first = step(
            &mut names,
            0,
            is(&["192.0.2.9", "192.0.2.1"], 1),
            is(&["::5"], 1),
        );
        assert_eq!(first.unwrap(), ["192.0.2.1", "192.0.2.9", "::5"]);
        let again = is(&["192.0.2.1", "192.0.2.9", "192.0.2.9"], 1);
        assert_eq!(step(&mut names, 1, again, is(&["::5"], 1)), None);
        assert_eq!(names.asked().changed, 0);
        let other = step(&mut names, 2, is(&["192.0.2.9"], 1), is(&["::5"], 1));
        assert_eq!(other.unwrap(), ["192.0.2.9", "::5"]);
        assert_eq!(names.asked().changed, 1);
    }

    #[test]
    fn a_resolver_that_fails_keeps_what_was_known_and_is_asked_within_a_ttl() {
        let mut names = one();
        step(&mut names, 0, is(&["192.0.2.1"], 2), is(&[], 2));
        let news = step(&mut names, 2, fails(), fails());
        assert_eq!(news.unwrap(), ["192.0.2.1"], "it is news that it fails");
        for second in (4..3_600).step_by(2) {
            assert_eq!(step(&mut names, second, fails(), fails()), None);
        }
        let news = step(&mut names, 3_600, is(&["192.0.2.2"], 2), is(&[], 2));
        assert_eq!(news.unwrap(), ["192.0.2.2"]);
    }

    #[test]
    fn half_an_answer_moves_nobody() {
        let mut names = one();
        step(
            &mut names,
            0,
            is(&["192.0.2.1"], 2),
            is(&["2001:db8::1"], 2),
        );
        assert_eq!(step(&mut names, 2, is(&["192.0.2.1"], 2), fails()), None);
        assert_eq!(step(&mut names, 4, fails(), is(&["2001:db8::1"], 2)), None);
        // Of who never had the other family nothing is missing.
        let mut names = one();
        let news = step(&mut names, 0, is(&["192.0.2.1"], 2), fails());
        assert_eq!(news.unwrap(), ["192.0.2.1"]);
        let mut names = one();
        let asked = names.poll_query(at(0)).unwrap();
        let news = names.answered(at(0), &asked, is(&[], 2), fails()).unwrap();
        assert!(news.known.failing.is_some() && news.known.missing.is_none());
    }

    #[test]
    fn a_name_that_is_gone_keeps_its_addresses_for_a_while_and_then_has_none() {
        let mut names = one();
        step(&mut names, 0, is(&["192.0.2.1"], 2), is(&[], 2));
        let news = step(&mut names, 2, none(), none());
        assert_eq!(news.unwrap(), ["192.0.2.1"], "that it is said is news");
        assert_eq!(step(&mut names, 12, none(), none()), None);
        // A resolver that fails meanwhile says nothing either way.
        step(&mut names, 22, fails(), fails());
        let news = step(&mut names, 32, none(), none());
        assert!(news.unwrap().is_empty());
        let news = step(&mut names, 42, is(&["192.0.2.1"], 2), is(&[], 2));
        assert_eq!(news.unwrap(), ["192.0.2.1"]);
        // One that never had any has none at once.
        let mut names = one();
        assert!(step(&mut names, 0, none(), none()).unwrap().is_empty());
    }

    #[test]
    fn ten_thousand_addresses_are_bounded_and_said() {
        let many: Vec<IpAddr> = (0..10_000_u32)
            .map(|n| std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into())
            .collect();
        let mut names = one();
        let asked = names.poll_query(at(0)).unwrap();
        let all = Family::Answered(many.into_iter().rev().collect(), SECOND);
        let known = names
            .answered(at(0), &asked, all, is(&[], 1))
            .unwrap()
            .known;
        assert_eq!(known.addresses.len(), ADDRESSES);
        assert_eq!(known.left_out, 10_000 - ADDRESSES);
        assert_eq!(known.addresses[0].to_string(), "10.0.0.0");
    }

    #[test]
    fn questions_are_paced_and_few_at_once_and_one_per_name() {
        let all: BTreeSet<_> = (0..1_000).map(|n| name(&format!("n{n}.example"))).collect();
        let mut names = Names::new(CONFIG);
        names.want(at(0), &all);
        names.want(at(0), &all);
        let mut now = at(0);
        let mut asked = BTreeSet::new();
        while let Some(one) = names.poll_query(now) {
            assert_eq!(names.poll_query(now), None, "the pace");
            assert!(asked.insert(one), "once");
            now += PACE;
        }
        assert_eq!(asked.len(), IN_FLIGHT);
        assert_eq!(names.next_timeout(), Time::NEVER);
        // Answers make room; who is not wanted any more is forgotten.
        let mut left = asked.clone();
        while asked.len() < all.len() {
            for one in std::mem::take(&mut left) {
                names.answered(now, &one, is(&["192.0.2.1"], 100), is(&[], 100));
            }
            while let Some(one) = names.poll_query(now) {
                assert!(asked.insert(one.clone()), "once");
                left.insert(one);
                now += PACE;
            }
        }
        assert!(now.since(at(0)) >= PACE * 1_000);
        names.want(now, &BTreeSet::new());
        for one in left {
            assert_eq!(names.answered(now, &one, is(&[], 1), is(&[], 1)), None);
        }
        assert_eq!(names.next_timeout(), Time::NEVER);
        assert_eq!(names.in_flight, 0);
    }

    #[test]
    fn what_is_known_outlives_a_reload_that_keeps_the_name() {
        let mut names = one();
        step(&mut names, 0, is(&["192.0.2.1"], 60), is(&[], 60));
        names.want(
            at(1),
            &BTreeSet::from([name("a.example"), name("b.example")]),
        );
        let asked = names.poll_query(at(1)).unwrap();
        assert_eq!(asked, name("b.example"));
        assert_eq!(names.next_timeout(), at(60));
    }
}
