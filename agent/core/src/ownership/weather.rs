//! Where the brake meets duty: what this node's probes show, which Downs are
//! held, and what happens when they are let go.

use core::time::Duration;
use std::collections::BTreeMap;

use watchfire_wire::message::replica::Weather;
use watchfire_wire::{CheckId, NodeId, Reason, Time, Verdict};

use super::brake::{Evidence, Free, Freed, References, Ruling, rule};
use super::duties::{Ctx, Duties, to_ix};
use super::ranks::CheckIx;
use super::role::{Duty, Probing};
use crate::io::{Event, Output, Released};
use crate::mutations::Mutation;

/// What a probe of a check showed of the path to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// The last outcome was a failure that may be the path's.
    pub(super) failing: bool,
    /// When the probe began that was the last to fail while the check was good.
    failed_at: Option<Time>,
    /// How long that took to show.
    took: Duration,
    /// When such a failure was last none a moment later.
    recovered_at: Option<Time>,
}

impl Sight {
    /// A measured outcome of a check, good until then or not. True if it is the
    /// first failure of a good one.
    pub(super) fn see(&mut self, now: Time, good: bool, reason: u8, took: Duration) -> bool {
        let fails = !Reason::from_code(reason).is_some_and(Reason::is_answer);
        let first = fails && !self.failing && good;
        if first {
            self.failed_at = Some(now - took);
            self.took = took;
        }
        if self.failing && !fails && self.failed_at.is_some() {
            self.recovered_at = Some(now);
        }
        self.failing = fails;
        first
    }
}

/// The path of one check, as far as it counts.
struct Seen<'a> {
    duty: &'a Duty,
    sight: &'a Sight,
}

/// What was probed in one network, and failed: thousandths of a check.
#[derive(Clone, Copy, Debug, Default)]
struct Network {
    checks: u64,
    probed: u64,
    failed: u64,
}

impl Network {
    /// All of them together: each counts one, however many checks lie in it.
    fn sum(networks: &BTreeMap<u64, Self>) -> Weather {
        let all = |part: fn(&Self) -> u64| {
            let sum = networks.values().map(part).sum::<u64>();
            u32::try_from(sum).unwrap_or(u32::MAX)
        };
        let failing = networks.iter().filter(|(_, network)| network.failed > 0);
        Weather {
            window_ms: 0,
            probed: all(|network| network.probed),
            failed: all(|network| network.failed),
            networks_probed: all(|network| network.probed / network.checks.max(1)),
            networks_failed: all(|network| network.failed / network.checks.max(1)),
            // The top bits of a product are as good as a hash.
            networks: failing.fold(0, |bits, (id, _)| {
                bits | 1 << (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
            }),
        }
    }
}

/// The chance, in thousandths, that a check is probed within a window.
fn part_of(window: Duration, interval: Duration) -> u64 {
    let part = window.as_micros() * 1_000 / interval.as_micros().max(1);
    u64::try_from(part).unwrap_or(u64::MAX).min(1_000)
}

/// Those that fail without being Down.
#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    checks: usize,
    networks: usize,
}

impl Duties {
    /// This node holds new Downs back.
    #[must_use]
    pub const fn is_braked(&self) -> bool {
        self.brake.held_since().is_some()
    }

    /// For how long it has done so.
    #[must_use]
    pub fn braked_for(&self, now: Time) -> Option<Duration> {
        self.brake.held_since().map(|since| now.since(since))
    }

    /// The checks that fail, are not Down, and are held as they are.
    #[must_use]
    pub fn held(&self) -> usize {
        if self.is_braked() {
            self.failing().checks
        } else {
            0
        }
    }

    /// A member tells how its probes fare.
    pub fn hear_weather(&mut self, ctx: &mut Ctx<'_>, from: NodeId, weather: Weather) {
        self.brake.hear(ctx.now, from, weather);
    }

    /// What a few members are to be told of this node's probes.
    pub const fn take_weather(&mut self) -> Option<Weather> {
        self.weather_out.take()
    }

    /// How many of them.
    #[must_use]
    pub const fn weather_peers(&self) -> usize {
        self.config.brake.peers
    }

    /// Is this Down to be held? Asked before a second opinion is, and again
    /// before the Down is written.
    pub(super) fn is_held(&mut self, ctx: &mut Ctx<'_>, ix: CheckIx) -> bool {
        let duty = &self.duties[ix as usize];
        let Some(probing) = duty.probing() else {
            return false;
        };
        // Whatever answers has a path to it.
        if duty.meta.reference || !probing.sight.failing {
            return false;
        }
        if self.is_braked() {
            return true;
        }
        let since = probing.sight.failed_at;
        let free = self.free_lately(ctx, since);
        if free.is_none() {
            self.hold(ctx);
            return true;
        }
        let until = since.map_or(ctx.now, |since| since + self.config.brake.isolated);
        let waits = until > ctx.now && free.is_some_and(|free| free.lossy);
        if let Some(probing) = self.duties[ix as usize].probing_mut() {
            probing.waits_until = waits.then_some(until);
        }
        waits
    }

    /// That nothing is held, for a Down that has failed since then. It takes a
    /// look at all that is probed: in a mass event one look serves the Downs of a
    /// moment that began to fail together.
    fn free_lately(&mut self, ctx: &Ctx<'_>, since: Option<Time>) -> Option<Free> {
        let known = self.brake.free_lately(ctx.now, since, &self.config.brake);
        if known.is_some() {
            return known;
        }
        match rule(&self.evidence(ctx, since), &self.config.brake) {
            Ruling::Hold | Ruling::Blind => None,
            Ruling::Free(_) => {
                let lossy = self.loses_packets(ctx.now);
                Some(self.brake.note_free(ctx.now, since, lossy))
            }
        }
    }

    /// Tells and reviews, if it is time to.
    pub(super) fn tick_brake(&mut self, ctx: &mut Ctx<'_>) {
        if self.brake.next_timeout() > ctx.now {
            return;
        }
        let own = self.weather(ctx.now, None);
        if self.brake.tells(ctx.now, &own, &self.config.brake) {
            self.weather_out = Some(own);
        }
        if !self.brake.reviews(ctx.now, &self.config.brake) {
            return;
        }
        if self.mutations.on(Mutation::BrakeNeverLetsGo) {
            return;
        }
        match rule(&self.evidence(ctx, None), &self.config.brake) {
            Ruling::Free(freed) => self.let_go(ctx, freed),
            Ruling::Blind => self.turn_blind(ctx),
            Ruling::Hold => {}
        }
    }

    /// The others take what this node probes, and tell of it what they see.
    fn turn_blind(&mut self, ctx: &mut Ctx<'_>) {
        self.brake
            .let_go(ctx.now, Freed::Passing, &self.config.brake);
        ctx.out.push_back(Output::Hurry(true));
        ctx.out
            .push_back(Output::Event(Event::Released(Released::Blind)));
        let seen = self.duties.iter().filter_map(counts);
        let failing: Vec<CheckId> = seen
            .filter(|seen| seen.sight.failing)
            .map(|seen| seen.duty.check)
            .collect();
        for check in failing {
            if self
                .doubt
                .overruled(ctx.now, check, self.probing, &self.config)
            {
                ctx.out.push_back(Output::Event(Event::Blind(true)));
            }
        }
    }

    fn hold(&mut self, ctx: &mut Ctx<'_>) {
        if self.brake.hold(ctx.now, &self.config.brake) {
            let failing = self.failing();
            self.counters.brakes += 1;
            ctx.out.push_back(Output::Hurry(false));
            ctx.out.push_back(Output::Event(Event::Braked {
                held: failing.checks,
                networks: failing.networks,
            }));
        }
    }

    /// What fails must fail anew, from the beginning and at its phase: neither
    /// all Downs at once nor all probes.
    fn let_go(&mut self, ctx: &mut Ctx<'_>, freed: Freed) {
        self.brake.let_go(ctx.now, freed, &self.config.brake);
        ctx.out.push_back(Output::Hurry(true));
        let why = match freed {
            Freed::Passing => Released::Passing,
            Freed::References => Released::References,
            Freed::Bound => Released::Bound,
        };
        ctx.out.push_back(Output::Event(Event::Released(why)));
        for ix in 0..self.duties.len() {
            let duty = &self.duties[ix];
            let fails = counts(duty).is_some_and(|seen| {
                let measured = seen.duty.probing().and_then(|probing| probing.measured);
                seen.sight.failing || measured.is_some_and(|m| m.verdict == Verdict::Down)
            });
            if fails {
                self.begin_anew(ctx, to_ix(ix));
            }
        }
    }

    /// All that a ruling on a check that has failed since then rests on.
    fn evidence(&self, ctx: &Ctx<'_>, since: Option<Time>) -> Evidence {
        let config = &self.config.brake;
        Evidence {
            own: self.weather(ctx.now, since),
            heard: self.brake.others(ctx.now, config),
            members: self.members.living().saturating_sub(1),
            braked: self.members.braked(self.me),
            references: self.references(ctx),
            held_for: self.brake.held_since().map(|since| ctx.now.since(since)),
            trusted: self.brake.is_trusted(ctx.now),
        }
    }

    /// What this node's own probes show. While it holds: of all that was probed
    /// since. Before that: of first failures, since the one that is in question,
    /// or in a window as long as anybody's go back. Since passes are not
    /// reported, what was probed is reckoned: a check is probed once in its
    /// interval.
    fn weather(&self, now: Time, since: Option<Time>) -> Weather {
        let config = &self.config.brake;
        let held = self.brake.held_since().map(|since| now.since(since));
        let recent = |sight: &Sight| {
            let reach = since.map_or(config.window + sight.took, |since| now.since(since));
            sight.failed_at.filter(|&at| now.since(at) <= reach)
        };
        let mut oldest: Option<Time> = None;
        let (mut took, mut fails) = (Duration::ZERO, 0);
        for seen in self.duties.iter().filter_map(counts) {
            if let Some(at) = recent(seen.sight) {
                oldest = Some(oldest.map_or(at, |oldest: Time| oldest.min(at)));
                took += seen.sight.took;
                fails += 1;
            }
        }
        let span = held.unwrap_or_else(|| match since {
            Some(since) => now.since(since),
            None => self.brake.window(now, oldest, config),
        });
        // Probes that began later may still be under way.
        let late = if fails > 0 && held.is_none() {
            took / fails
        } else {
            Duration::ZERO
        };
        let window = span.saturating_sub(late).max(config.telling / 2);
        let mut networks: BTreeMap<u64, Network> = BTreeMap::new();
        for seen in self.duties.iter().filter_map(counts) {
            let network = networks.entry(seen.duty.meta.network).or_default();
            let part = part_of(window, seen.duty.meta.interval);
            network.checks += 1;
            network.probed += part;
            if held.is_some() {
                network.failed += if seen.sight.failing { part } else { 0 };
            } else if recent(seen.sight).is_some() {
                network.failed += 1_000;
            }
        }
        let mut sum = Network::sum(&networks);
        sum.window_ms = u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        // The window begins with a failure: that one is there by construction.
        let own_span = oldest.map_or(Duration::ZERO, |since| now.since(since));
        if held.is_none() && fails > 1 && own_span + Duration::from_millis(1) >= span {
            sum.failed -= 1_000;
            sum.networks_failed -= sum.networks_failed / fails;
        }
        sum.failed = sum.failed.min(sum.probed);
        sum.networks_failed = sum.networks_failed.min(sum.networks_probed);
        sum
    }

    fn failing(&self) -> Failing {
        let failing = self.duties.iter().filter_map(counts);
        let networks: Vec<u64> = failing
            .filter(|seen| seen.sight.failing)
            .map(|seen| seen.duty.meta.network)
            .collect();
        let distinct: std::collections::BTreeSet<_> = networks.iter().collect();
        Failing {
            checks: networks.len(),
            networks: distinct.len(),
        }
    }

    /// Failures that were none a moment later are too many for origins.
    fn loses_packets(&self, now: Time) -> bool {
        let config = &self.config.brake;
        if !config.enabled {
            return false;
        }
        let (mut checks, mut recovered) = (0_u64, 0_u64);
        for seen in self.duties.iter().filter_map(counts) {
            checks += 1;
            let lately = |at: Time| now.since(at) < 2 * config.window;
            recovered += u64::from(seen.sight.recovered_at.is_some_and(lately));
        }
        recovered > 1 && recovered * 1_000 >= checks * config.lossy
    }

    fn references(&self, ctx: &Ctx<'_>) -> References {
        let (mut up, mut all) = (0, 0);
        for &ix in &self.references {
            let duty = &self.duties[ix as usize];
            let word = self.reading(ctx, duty.check);
            let verdict = word.map(|word| word.slot.value.verdict);
            if verdict == Some(Verdict::Up) {
                up += 1;
            }
            all += usize::from(duty.was_up);
        }
        match (up, all) {
            (_, 0) => References::None,
            (0, _) => References::Dead,
            (up, all) if 2 * up > all => References::Living,
            _ => References::Unsure,
        }
    }
}

/// A check that this node probes and that is not Down: only of these may a
/// failure be news.
fn counts(duty: &Duty) -> Option<Seen<'_>> {
    let probing: &Probing = duty.probing()?;
    let down = duty
        .published
        .is_some_and(|published| published.verdict == Verdict::Down);
    (!down && probing.measured.is_some()).then_some(Seen {
        duty,
        sight: &probing.sight,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_network_counts_one_and_no_less() {
        let network = |checks, failed| Network {
            checks,
            probed: checks * 400,
            failed,
        };
        let networks = BTreeMap::from([(1, network(5_000, 5_000 * 400)), (2, network(2, 0))]);
        let sum = Network::sum(&networks);
        assert_eq!((sum.networks_probed, sum.networks_failed), (800, 400));
        assert_eq!((sum.probed, sum.failed), (2_000_800, 2_000_000));
        assert_eq!(sum.networks.count_ones(), 1);
    }

    #[test]
    fn an_answer_is_no_failure_of_the_path_and_a_second_failure_no_first() {
        let now = Time::from_millis(10_000);
        let took = Duration::from_millis(500);
        let see =
            |sight: &mut Sight, good, reason: Reason| sight.see(now, good, reason.code(), took);
        let mut sight = Sight::default();
        assert!(!see(&mut sight, true, Reason::BadStatus) && !sight.failing);
        assert!(see(&mut sight, true, Reason::ConnectTimeout));
        assert_eq!(sight.failed_at, Some(Time::from_millis(9_500)));
        assert!(!see(&mut sight, true, Reason::ConnectTimeout));
        assert!(!see(&mut sight, true, Reason::Passed));
        assert_eq!(sight.recovered_at, Some(now));
        assert!(
            !see(&mut sight, false, Reason::ConnectTimeout),
            "it is Down"
        );
    }
}
