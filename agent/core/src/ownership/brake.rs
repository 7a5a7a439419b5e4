//! The brake: where so much fails at once that the POP's own uplink may be at
//! fault, new Downs are held back.
//!
//! A node sees the outcomes of its own probes, and hears of those of others
//! while much fails ([`Weather`]). What counts is each check's first failure
//! while it was good, weighed against all that were probed in the same time, so
//! that the share is known before the first Down would be written. It is taken
//! by checks and by networks: one tenant with many names, or one network with
//! many origins, is no uplink.
//!
//! Each node decides for itself; there is no vote. A held Down is not written,
//! so tables need no filter.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::message::replica::Weather;
use watchfire_wire::{NodeId, Time};

/// When to hold and when to let go.
#[derive(Clone, Debug, PartialEq)]
pub struct BrakeConfig {
    /// Off, no Down is held.
    pub enabled: bool,
    /// So many thousandths of what was probed, by checks and by networks, must
    /// fail: above what one provider takes with it, below what half of a dead
    /// uplink does.
    pub share: u64,
    /// The same where few checks were probed: there chance is larger.
    pub share_of_few: u64,
    /// Below this it lets go.
    pub share_to_let_go: u64,
    /// So many checks must have been probed for the larger share.
    pub few: u64,
    /// So many of its own, if nearly all of them fail, are enough for a node to
    /// hold, whatever others say, until it knows whose trouble that is.
    pub alone: u64,
    /// And so many for the smaller one.
    pub many: u64,
    /// In so many networks at least: who has origins in fewer cannot tell them
    /// from the uplink.
    pub networks: u32,
    /// The window over which outcomes are counted, at most.
    pub window: Duration,
    /// What others said counts for this long.
    pub heard: Duration,
    /// From one telling to the next.
    pub telling: Duration,
    /// Peers that are told each time.
    pub peers: usize,
    /// From one look of a braked node to the next.
    pub review: Duration,
    /// By then references that died with the uplink would be Down.
    pub reference_wait: Duration,
    /// The longest hold where some networks still answer.
    pub hold: Duration,
    /// The longest hold where nothing answers at all.
    pub hold_dark: Duration,
    /// For how long, after that, what fails is believed.
    pub trust: Duration,
    /// So many thousandths of the checks that failed and passed again mean that
    /// the path loses packets.
    pub lossy: u64,
    /// A Down then waits until its check has failed for this long.
    pub isolated: Duration,
    /// One look at all that is probed serves the Downs of so long, if they
    /// began to fail within as long.
    pub look: Duration,
}

impl Default for BrakeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            share: 450,
            share_of_few: 800,
            share_to_let_go: 380,
            few: 6,
            alone: 10,
            many: 20,
            networks: 3,
            window: Duration::from_secs(5),
            heard: Duration::from_secs(3),
            telling: Duration::from_millis(500),
            peers: 4,
            review: Duration::from_secs(1),
            reference_wait: Duration::from_secs(10),
            hold: Duration::from_secs(300),
            hold_dark: Duration::from_secs(3_600),
            trust: Duration::from_secs(600),
            lossy: 50,
            isolated: Duration::from_secs(4),
            look: Duration::from_millis(100),
        }
    }
}

/// What the references say: checks of addresses that only a dead uplink, or a
/// dead Internet, makes fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum References {
    /// There are none, or none that ever answered.
    #[default]
    None,
    /// All that once answered are Down.
    Dead,
    /// Most are Up.
    Living,
    /// Anything between.
    Unsure,
}

/// All that a ruling rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// What this node saw.
    pub(super) own: Weather,
    /// What it heard, added up.
    pub(super) heard: Weather,
    /// Living members beside this node, and how many of them are braked.
    pub(super) members: usize,
    pub(super) braked: usize,
    pub(super) references: References,
    /// For how long this node has been braked.
    pub(super) held_for: Option<Duration>,
    /// A hold ended lately because what fails does fail.
    pub(super) trusted: bool,
}

/// What to do with a new Down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It goes its way: a second opinion, then the tables.
    Free(Freed),
    /// It is held.
    Hold,
    /// It is this node that does not see: nearly all fails here, and little
    /// elsewhere.
    Blind,
}

/// Why nothing is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    /// Too little fails.
    Passing,
    /// The references answer: the origins do fail.
    References,
    /// It was held for as long as can be.
    Bound,
}

/// The rules, in their order.
pub(super) fn rule(evidence: &Evidence, config: &BrakeConfig) -> Ruling {
    let Evidence { own, heard, .. } = evidence;
    let pooled = sum(own, heard);
    let bound = if passing_somewhere(&pooled) {
        config.hold
    } else {
        config.hold_dark
    };
    if !config.enabled {
        return Ruling::Free(Freed::Passing);
    }
    if evidence.held_for.is_some_and(|held| held >= bound) {
        return Ruling::Free(Freed::Bound);
    }
    if evidence.references == References::Dead {
        return Ruling::Hold;
    }
    if evidence.trusted {
        return Ruling::Free(Freed::Bound);
    }
    let far_apart = |weather: &Weather| weather.networks.count_ones() >= config.networks;
    let alone = far_apart(own) && checks(own) >= config.alone && fails(own, config.share_of_few);
    let waited = evidence.held_for >= Some(config.reference_wait);
    if evidence.references == References::Living && waited {
        return Ruling::Free(Freed::References);
    }
    if alone && checks(heard) >= config.many && !fails(heard, config.share_to_let_go) {
        return Ruling::Blind;
    }
    let let_go = checks(&pooled) >= config.few && !fails(&pooled, config.share_to_let_go);
    let others = evidence.members > 1 && 2 * evidence.braked >= evidence.members;
    if others && !(let_go && checks(&pooled) >= config.many) {
        return Ruling::Hold;
    }
    let holds = if evidence.held_for.is_some() {
        checks(&pooled) >= config.few && !let_go
    } else if !far_apart(&pooled) {
        false
    } else if checks(&pooled) >= config.many {
        alone || fails(&pooled, config.share)
    } else {
        checks(&pooled) >= config.few && fails(&pooled, config.share_of_few)
    };
    if holds {
        Ruling::Hold
    } else {
        Ruling::Free(Freed::Passing)
    }
}

/// Whole checks that were probed.
const fn checks(weather: &Weather) -> u64 {
    (weather.probed / 1_000) as u64
}

/// Such a share fails, of the checks and of the networks.
fn fails(weather: &Weather, share: u64) -> bool {
    is_share(weather.failed, weather.probed, share)
        && is_share(weather.networks_failed, weather.networks_probed, share)
}

fn is_share(failed: u32, probed: u32, share: u64) -> bool {
    probed > 0 && u64::from(failed) * 1_000 >= u64::from(probed) * share
}

/// A twentieth of the networks, and of the checks, still answers.
fn passing_somewhere(pooled: &Weather) -> bool {
    !is_share(pooled.networks_failed, pooled.networks_probed, 950)
        && !is_share(pooled.failed, pooled.probed, 950)
}

/// Both together.
const fn sum(one: &Weather, other: &Weather) -> Weather {
    Weather {
        window_ms: one.window_ms,
        probed: one.probed.saturating_add(other.probed),
        failed: one.failed.saturating_add(other.failed),
        networks_probed: one.networks_probed.saturating_add(other.networks_probed),
        networks_failed: one.networks_failed.saturating_add(other.networks_failed),
        networks: one.networks | other.networks,
    }
}

/// So much fails that others should hear of it.
pub(super) fn is_foul(weather: &Weather) -> bool {
    let several = weather.failed >= 2_000 || weather.probed < 6_000;
    weather.failed > 0 && several && is_share(weather.failed, weather.probed, 100)
}

/// What a node remembers of the weather, and of its own hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Brake {
    held_since: Option<Time>,
    trusted_until: Time,
    heard: BTreeMap<NodeId, (Time, Weather)>,
    /// This node's own weather was foul at this time.
    foul_at: Option<Time>,
    tell_at: Option<Time>,
    review_at: Option<Time>,
    free: Option<Free>,
}

/// That nothing was held at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Free {
    at: Time,
    /// For a check that had failed since then.
    since: Option<Time>,
    /// The path loses packets.
    pub(super) lossy: bool,
}

impl Brake {
    pub(super) const fn held_since(&self) -> Option<Time> {
        self.held_since
    }

    /// When something is to be told or looked at.
    pub(super) fn next_timeout(&self) -> Time {
        let at = |time: Option<Time>| time.unwrap_or(Time::NEVER);
        at(self.tell_at).min(at(self.review_at))
    }

    /// What the last look found, if it is fresh and was for a check that began
    /// to fail at about the same time.
    pub(super) fn free_lately(
        &self,
        now: Time,
        since: Option<Time>,
        config: &BrakeConfig,
    ) -> Option<Free> {
        let free = self.free?;
        let (one, other) = (free.since?, since?);
        let apart = one.since(other).max(other.since(one));
        (now.since(free.at) < config.look && apart < config.look).then_some(free)
    }

    /// A look found that nothing is to be held.
    pub(super) fn note_free(&mut self, at: Time, since: Option<Time>, lossy: bool) -> Free {
        let free = Free { at, since, lossy };
        self.free = Some(free);
        free
    }

    /// A member tells how its probes fare.
    pub(super) fn hear(&mut self, now: Time, from: NodeId, weather: Weather) {
        // No more fails than was probed, whoever says so.
        let weather = Weather {
            failed: weather.failed.min(weather.probed),
            networks_failed: weather.networks_failed.min(weather.networks_probed),
            ..weather
        };
        self.heard.insert(from, (now, weather));
        if is_foul(&weather) && self.tell_at.is_none() {
            self.tell_at = Some(now);
        }
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
    }

    /// The length of the window that a count of this node's probes should have:
    /// as long as anybody's failures go back.
    pub(super) fn window(&self, now: Time, own: Option<Time>, config: &BrakeConfig) -> Duration {
        let own = own.map_or(Duration::ZERO, |since| now.since(since));
        let others = self.recent(now, config).filter(|(_, w)| is_foul(w));
        let longest = others
            .map(|(at, weather)| {
                Duration::from_millis(weather.window_ms.into()).saturating_add(now.since(at))
            })
            .max();
        let least = config.telling;
        own.max(longest.unwrap_or_default())
            .clamp(least, config.window)
    }

    fn recent<'a>(
        &'a self,
        now: Time,
        config: &'a BrakeConfig,
    ) -> impl Iterator<Item = (Time, &'a Weather)> {
        self.heard
            .values()
            .filter(move |(at, _)| now.since(*at) < config.heard)
            .map(|(at, weather)| (*at, weather))
    }

    /// What others said lately, added up.
    pub(super) fn others(&self, now: Time, config: &BrakeConfig) -> Weather {
        self.recent(now, config)
            .fold(Weather::default(), |all, (_, weather)| sum(&all, weather))
    }

    /// A probe of a good check failed: soon the others are to hear whether that
    /// is all.
    pub(super) fn failed(&mut self, now: Time, config: &BrakeConfig) {
        if self.tell_at.is_none() {
            self.tell_at = Some(now + config.telling / 2);
        }
    }

    /// Takes this node's own weather. True if others are to be told now.
    pub(super) fn tells(&mut self, now: Time, own: &Weather, config: &BrakeConfig) -> bool {
        if self.tell_at.is_none_or(|at| at > now) {
            return false;
        }
        self.heard
            .retain(|_, (at, _)| now.since(*at) < config.heard);
        if is_foul(own) {
            self.foul_at = Some(now);
        }
        let lately = self.foul_at.is_some_and(|at| now.since(at) < config.heard);
        let foul = lately || self.heard.values().any(|(_, weather)| is_foul(weather));
        self.tell_at = foul.then(|| now + config.telling);
        foul
    }

    /// It is time for a braked node to look again.
    pub(super) fn reviews(&mut self, now: Time, config: &BrakeConfig) -> bool {
        let due = self.review_at.is_some_and(|at| at <= now);
        if due {
            self.review_at = Some(now + config.review);
        }
        due
    }

    pub(super) fn is_trusted(&self, now: Time) -> bool {
        self.trusted_until > now
    }

    /// From now on this node holds. True if that is new.
    pub(super) fn hold(&mut self, now: Time, config: &BrakeConfig) -> bool {
        if self.held_since.is_some() {
            return false;
        }
        self.held_since = Some(now);
        self.review_at = Some(now + config.review);
        true
    }

    /// It holds no longer.
    pub(super) fn let_go(&mut self, now: Time, freed: Freed, config: &BrakeConfig) {
        self.held_since = None;
        self.review_at = None;
        if freed != Freed::Passing {
            self.trusted_until = now + config.trust;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather(probed: u32, failed: u32, networks_failed: u32) -> Weather {
        Weather {
            window_ms: 2_000,
            probed: probed * 1_000,
            failed: failed * 1_000,
            networks_probed: probed * 1_000,
            networks_failed: networks_failed * 1_000,
            networks: if failed == 0 { 0 } else { 0b1_1111 },
        }
    }

    /// Rows: what was seen, and what is done with a new Down by a node that is
    /// free, and by one that has held for 20 s.
    #[test]
    fn each_row_of_the_rules() {
        use Freed::{Bound, Passing, References as ByReferences};
        use References::{Dead, Living, None, Unsure};
        use Ruling::{Free, Hold};
        let rows = [
            ("all fails", weather(100, 100, 100), None, 0, Hold, Hold),
            ("half fails", weather(100, 50, 50), None, 0, Hold, Hold),
            (
                "a third fails",
                weather(100, 33, 33),
                None,
                0,
                Free(Passing),
                Free(Passing),
            ),
            (
                "one network fails",
                weather(100, 60, 1),
                None,
                0,
                Free(Passing),
                Free(Passing),
            ),
            (
                "between the lines it stays",
                weather(100, 41, 41),
                None,
                0,
                Free(Passing),
                Hold,
            ),
            (
                "few checks, most fail",
                weather(10, 7, 7),
                None,
                0,
                Free(Passing),
                Hold,
            ),
            (
                "few checks, all fail",
                weather(10, 10, 10),
                None,
                0,
                Hold,
                Hold,
            ),
            (
                "too few checks",
                weather(5, 5, 5),
                None,
                0,
                Free(Passing),
                Free(Passing),
            ),
            (
                "too few checks, others are braked",
                weather(5, 5, 5),
                None,
                5,
                Hold,
                Hold,
            ),
            (
                "others are braked, this node sees well",
                weather(100, 3, 3),
                None,
                5,
                Free(Passing),
                Free(Passing),
            ),
            (
                "all fails and the references live",
                weather(100, 100, 100),
                Living,
                0,
                Hold,
                Free(ByReferences),
            ),
            (
                "half fails, one reference of several lives",
                weather(100, 50, 50),
                Unsure,
                0,
                Hold,
                Hold,
            ),
            (
                "little fails and all references are dead",
                weather(100, 3, 3),
                Dead,
                0,
                Hold,
                Hold,
            ),
        ];
        let config = BrakeConfig::default();
        for (what, pooled, references, braked, free, held) in rows {
            let mut evidence = Evidence {
                own: pooled,
                heard: Weather::default(),
                members: 10,
                braked,
                references,
                held_for: Option::None,
                trusted: false,
            };
            assert_eq!(rule(&evidence, &config), free, "{what}, free");
            evidence.held_for = Some(Duration::from_secs(20));
            assert_eq!(rule(&evidence, &config), held, "{what}, held");
            evidence.held_for = Some(config.hold_dark);
            assert_eq!(rule(&evidence, &config), Free(Bound), "{what}, too long");
            let off = BrakeConfig {
                enabled: false,
                ..config.clone()
            };
            assert_eq!(rule(&evidence, &off), Free(Passing), "{what}, off");
        }
    }

    #[test]
    fn who_sees_nothing_where_others_see_is_blind() {
        let config = BrakeConfig::default();
        let of = |own, heard| {
            let evidence = Evidence {
                own,
                heard,
                members: 10,
                ..Evidence::default()
            };
            rule(&evidence, &config)
        };
        let (nothing, well) = (weather(20, 20, 20), weather(80, 2, 2));
        assert_eq!(of(nothing, well), Ruling::Blind);
        assert_eq!(of(well, nothing), Ruling::Free(Freed::Passing));
        assert_eq!(of(nothing, weather(80, 35, 35)), Ruling::Hold, "half does");
        assert_eq!(
            of(nothing, weather(10, 0, 0)),
            Ruling::Hold,
            "not known yet"
        );
        let few = weather(8, 8, 8);
        assert_eq!(
            of(few, well),
            Ruling::Free(Freed::Passing),
            "juries will say"
        );
    }

    #[test]
    fn the_bound_is_shorter_where_something_answers() {
        let config = BrakeConfig::default();
        let mut evidence = Evidence {
            own: weather(100, 60, 60),
            members: 10,
            held_for: Some(config.hold),
            ..Evidence::default()
        };
        assert_eq!(rule(&evidence, &config), Ruling::Free(Freed::Bound));
        evidence.own = weather(100, 100, 100);
        assert_eq!(rule(&evidence, &config), Ruling::Hold);
    }

    #[test]
    fn foul_weather_is_told_while_it_lasts_and_then_no_more() {
        let config = BrakeConfig::default();
        let mut brake = Brake::default();
        let mut now = Time::from_millis(1_000);
        assert_eq!(brake.next_timeout(), Time::NEVER, "nothing in the calm");
        brake.failed(now, &config);
        now = brake.next_timeout();
        assert!(
            !brake.tells(now, &weather(100, 1, 1), &config),
            "one of 100"
        );
        assert_eq!(brake.next_timeout(), Time::NEVER);
        brake.hear(now, NodeId(2), weather(100, 60, 60));
        assert!(brake.tells(now, &weather(100, 0, 0), &config), "it answers");
        let mut told = 0;
        while brake.next_timeout() != Time::NEVER {
            now = brake.next_timeout();
            told += u32::from(brake.tells(now, &weather(100, 0, 0), &config));
            assert!(told < 20, "two that answer each other go on for ever");
        }
        assert_eq!(brake.others(now, &config).probed, 0, "it is old");
    }

    #[test]
    fn who_lets_go_by_its_bound_believes_what_fails() {
        let config = BrakeConfig::default();
        let mut brake = Brake::default();
        let now = Time::from_millis(1_000);
        assert!(brake.hold(now, &config) && !brake.hold(now, &config));
        assert!(!brake.reviews(now, &config));
        assert!(brake.reviews(now + config.review, &config));
        brake.let_go(now, Freed::Passing, &config);
        assert!(!brake.is_trusted(now));
        brake.hold(now, &config);
        brake.let_go(now, Freed::References, &config);
        assert!(brake.is_trusted(now));
        assert!(!brake.is_trusted(now + config.trust));
    }
}
