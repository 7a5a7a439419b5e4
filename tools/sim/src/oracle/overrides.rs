//! Operators' decisions: after calm every node goes by the same ones, which are
//! the last that were made; none is lost, none comes back, and they end together.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_core::overrides::{Decision, DecisionId, Op, Request};
use watchfire_table::{Flags, TableVerdict};

use crate::clock::WALL_START_MS;
use crate::rng::Rng;
use crate::workload::{Action, Options, Phase, Plan, SECOND_US};
use crate::world::World;

/// Names that are decided about; the last one is nobody's origin.
const NAMES: [&str; 3] = ["origin-0", "origin-1", "not-configured"];

/// A decision is known to all that live on a whole network within this, though
/// datagrams are lost, microseconds.
const KNOWN_US: u64 = 4 * SECOND_US;

/// It ends so close to when it was meant to, milliseconds.
const END_MS: u64 = 1_500;

/// A node is judged this long after its start, a network after it was made
/// whole, and all after the last fault.
const CALM_US: u64 = 12 * SECOND_US;

/// From the plan's first decision to its last.
const FOR_US: u64 = 100 * SECOND_US;

/// What was decided so far.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// By name, the greatest decision, and when it was made.
    last: BTreeMap<&'static str, (Arc<Decision>, u64)>,
    /// By host, the last one that it took.
    by_host: BTreeMap<usize, DecisionId>,
}

/// Lays out decisions, and sets one clock wrong.
pub(crate) fn plan(options: &Options, rng: &mut Rng, from_us: u64, plan: &mut Plan) {
    let wrong = rng.index(options.nodes);
    let by_ms = if rng.chance(0.5) {
        3_600_000
    } else {
        -3_600_000
    };
    plan.insert(0, (0, Action::WallOff { host: wrong, by_ms }));
    for _ in 0..40 {
        let at_us = from_us + rng.below(FOR_US);
        let name = rng.index(NAMES.len());
        let op = [Op::Auto, Op::Up, Op::Down, Op::Drain][rng.index(4)];
        let lasts_s = rng.range(3, 60);
        let for_ms = (op != Op::Auto && rng.chance(0.5)).then_some(lasts_s * 1_000);
        let host = rng.index(options.nodes);
        let action = Action::Decide {
            host,
            name,
            op,
            for_ms,
        };
        plan.push((at_us, action));
        if rng.chance(0.3) {
            let rival = Action::Decide {
                host: (host + 1) % options.nodes,
                name,
                op: Op::Down,
                for_ms: None,
            };
            plan.push((at_us, rival));
        }
    }
    // Whoever was told a moment ago dies with all others.
    if options.faults.is_empty() {
        plan.push((from_us + FOR_US / 2, Action::RestartAll));
    }
}

impl World {
    /// An operator decides at this host, or at the next that lives.
    pub(crate) fn decide(&mut self, host: usize, name: usize, op: Op, for_ms: Option<u64>) {
        let host = self.living_from(host);
        let stalled = self.hosts[host].stalled_until_us > self.now_us;
        if self.hosts[host].agent.is_none() || stalled {
            return;
        }
        let name = NAMES[name];
        let request = Request {
            op,
            names: vec![name.into()],
            for_ms,
            who: "someone".into(),
            why: String::new(),
        };
        let mut answer = None;
        self.feed_with(host, |agent, now| answer = Some(agent.decide(now, request)));
        let Some(Ok(decided)) = answer else {
            self.oracles
                .violate(self.now_us, Some(host), "overrides", || {
                    format!("refused to decide about {name}: {answer:?}")
                });
            return;
        };
        let decision = decided.decision;
        self.say(host, || format!("{name}: {decision:?}"));
        let made = &mut self.oracles.overrides;
        let before = made.by_host.insert(host, decision.id);
        let last = made.last.get(name);
        if last.is_none_or(|(last, _)| decision.id > last.id) {
            made.last.insert(name, (Arc::clone(&decision), self.now_us));
        }
        if let Some(before) = before.filter(|before| before.counter >= decision.id.counter) {
            let id = decision.id;
            self.oracles
                .violate(self.now_us, Some(host), "overrides", || {
                    format!("decided as {id:?}, which does not beat its own {before:?}")
                });
        }
    }

    /// Everybody who has had time to know goes by the last decision.
    pub(crate) fn judge_overrides(&mut self) {
        let now_us = self.now_us;
        let since = |us: u64| now_us.saturating_sub(us);
        let calm = self.phase != Phase::Turmoil
            && since(self.oracles.calm_since_us) > CALM_US
            && self.net.is_whole()
            && since(self.healed_us) > CALM_US;
        if !self.options.overrides || !calm {
            return;
        }
        let pop_ms = WALL_START_MS.unsigned_abs() + now_us / 1_000;
        let mut wrong = None;
        for (&name, (decision, at_us)) in &self.oracles.overrides.last {
            let ends = decision
                .until_ms
                .filter(|end| end.abs_diff(pop_ms) < END_MS);
            if since(*at_us) < KNOWN_US || ends.is_some() {
                continue;
            }
            let expected = (!decision.is_over(Some(pop_ms))).then_some(decision);
            for host in self.living() {
                let it = &self.hosts[host];
                let Some(agent) = it.agent.as_ref().filter(|_| since(it.started_us) > CALM_US)
                else {
                    continue;
                };
                let says = agent.override_of(name);
                let now = it.clock.local(now_us);
                let shown = agent.shown(name, now);
                let forced = shown.filter(|shown| shown.flags.contains(Flags::FORCED));
                let shows = forced.map(|shown| shown.verdict);
                let shows_it = match expected {
                    _ if shown.is_none() => true,
                    Some(decision) => shows == Some(verdict_of(decision.op)),
                    None => shows.is_none(),
                };
                if says != expected || !shows_it {
                    wrong = Some((
                        host,
                        name,
                        format!("{says:?}, shown as {shows:?}"),
                        expected,
                    ));
                }
            }
        }
        if let Some((host, name, says, expected)) = wrong {
            let expected = format!("{expected:?}");
            self.oracles.violate(now_us, Some(host), "overrides", || {
                format!("at {pop_ms} of {name} it says {says}, and not {expected}")
            });
        }
    }
}

const fn verdict_of(op: Op) -> TableVerdict {
    match op {
        Op::Up => TableVerdict::Up,
        Op::Down => TableVerdict::Down,
        Op::Drain => TableVerdict::Draining,
        Op::Auto | Op::Freeze | Op::Evict | Op::Forget => TableVerdict::Unknown,
    }
}
