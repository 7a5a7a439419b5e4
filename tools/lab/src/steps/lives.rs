//! Agents start, die, leave, stop and come back.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::wait;
use crate::analysis::probes::Gap;
use crate::analysis::span::Span as Stretch;
use crate::clock::{self, SECOND, Us};
use crate::journal::Word;
use crate::lab::{Lab, Wait};
use crate::scenario::{Pick, Span};

/// How long a takeover is waited for beyond the interval.
const TAKEOVER: Us = 8 * SECOND;

/// How long an agent may take to leave.
const LEAVING: Duration = Duration::from_secs(10);

/// How long an agent that was started again may take to be known to all.
const REJOINING: Duration = Duration::from_secs(30);

/// Pause before the next crash, in which whoever came back takes its checks.
const SETTLING: Duration = Duration::from_secs(2);

/// What became of a kill.
struct Death {
    victims: Vec<usize>,
    at: Us,
    /// Per living agent that said so, how long after the kill.
    told: Vec<f64>,
    /// When the last one had heard of all; nothing if one never did.
    known_to_all: Option<f64>,
    end: Us,
}

pub(super) fn start(lab: &mut Lab, pick: &Pick, apart: Option<Span>) -> Result<()> {
    let running = lab.agents.running();
    let agents: Vec<usize> = lab
        .pick_agents(pick)
        .into_iter()
        .filter(|agent| !running.contains(agent))
        .collect();
    for &agent in &agents {
        lab.start_agent(agent)?;
        if let Some(apart) = apart {
            lab.agents_changed();
            lab.pass(apart.0)?;
        }
    }
    lab.agents_changed();
    lab.say(format!("started {} agents", agents.len()));
    Ok(())
}

pub(super) fn fell(lab: &mut Lab, pick: &Pick) -> Result<()> {
    let agents = running_of(lab, pick);
    for &agent in &agents {
        lab.agents.kill(agent)?;
    }
    lab.agents_changed();
    lab.say(format!("killed {} agents", agents.len()));
    Ok(())
}

pub(super) fn leave(lab: &mut Lab, pick: &Pick) -> Result<()> {
    for agent in running_of(lab, pick) {
        lab.agents.leave(agent, LEAVING)?;
        lab.agents_changed();
        lab.say(format!("n{agent} left"));
    }
    Ok(())
}

fn running_of(lab: &mut Lab, pick: &Pick) -> Vec<usize> {
    let running = lab.agents.running();
    let mut agents = lab.pick_agents(pick);
    agents.retain(|agent| running.contains(agent));
    agents
}

/// Kills agents at once and follows what becomes of it.
pub(super) fn kill(
    lab: &mut Lab,
    name: &str,
    pick: &Pick,
    within: Span,
    silent: bool,
) -> Result<()> {
    let victims = running_of(lab, pick);
    let death = strike(lab, victims, within, silent)?;
    let event = Stretch {
        from: death.at,
        to: death.end,
    };
    if lab.voids(event) {
        lab.void = true;
        lab.say(format!("{name}: the machine stood still meanwhile"));
    }
    tell(lab, name, &[death]);
    Ok(())
}

/// Kills one agent after the other, each of which comes back.
pub(super) fn crashes(lab: &mut Lab, name: &str, times: usize, within: Span) -> Result<()> {
    let mut deaths = Vec::new();
    for _ in 0..times {
        let running = lab.agents.running();
        let place = lab.below(running.len());
        let victim = *running.get(place).context("no agent runs")?;
        let death = strike(lab, vec![victim], within, true)?;
        let event = Stretch {
            from: death.at,
            to: death.end,
        };
        if lab.voids(event) {
            lab.say("the machine stood still meanwhile: this one does not count");
        } else {
            deaths.push(death);
        }
        lab.start_agent(victim)?;
        lab.agents_changed();
        let back = lab.wait(REJOINING, |lab| {
            Ok(wait::joined(lab).map_or(Wait::On, Wait::Done))
        })?;
        if back.is_none() {
            lab.say(format!("n{victim} was not known to all again within 30 s"));
        }
        lab.pass(SETTLING)?;
    }
    lab.void |= deaths.is_empty();
    tell(lab, name, &deaths);
    Ok(())
}

/// Kills at once, waits until all living have said so and an interval and the
/// takeover bound have passed.
fn strike(lab: &mut Lab, victims: Vec<usize>, within: Span, silent: bool) -> Result<Death> {
    if silent {
        for &victim in &victims {
            lab.packets.silence(victim)?;
        }
    }
    let mut at = clock::now();
    for (index, &victim) in victims.iter().enumerate() {
        let killed = lab.agents.kill(victim)?;
        if index == 0 {
            at = killed;
        }
    }
    lab.agents_changed();
    let living = lab.agents.running();
    let last = lab.wait(within.0, |lab| {
        let record = lab.journal.record();
        let unaware = living.iter().any(|&agent| {
            let view = &record.views[agent];
            victims.iter().any(|&victim| view.member[victim].is_some())
        });
        Ok(if unaware { Wait::On } else { Wait::Done(()) })
    })?;
    let covered = at + lab.interval() + TAKEOVER / 4;
    let now = clock::now();
    lab.pass(Duration::from_micros(covered.saturating_sub(now)))?;
    lab.let_the_log_catch_up()?;
    let told: Vec<f64> = lab
        .journal
        .record()
        .told
        .iter()
        .filter(|told| told.at >= at && told.what == Word::Died && victims.contains(&told.of))
        .map(|told| clock::seconds(told.at - at))
        .collect();
    let known_to_all = last.and_then(|()| told.iter().copied().reduce(f64::max));
    lab.say(format!(
        "killed {}: {}",
        names(&victims),
        known_to_all.map_or("not known to all".to_owned(), |s| format!(
            "known to all after {s:.2} s"
        ))
    ));
    Ok(Death {
        victims,
        at,
        told,
        known_to_all,
        end: clock::now(),
    })
}

fn names(agents: &[usize]) -> String {
    match agents {
        [one] => format!("n{one}"),
        many => format!("{} agents", many.len()),
    }
}

/// The metrics of kills.
fn tell(lab: &mut Lab, name: &str, deaths: &[Death]) {
    let interval = lab.interval();
    let log = lab.log();
    let mut beyond = Vec::new();
    for death in deaths {
        let gaps = log.takeovers(&death.victims, death.at, death.end);
        beyond.extend(gaps.iter().map(|gap: &Gap| {
            let length = gap.span.length() as f64 - interval as f64;
            length / SECOND as f64
        }));
    }
    let known: Vec<f64> = deaths
        .iter()
        .filter_map(|death| death.known_to_all)
        .collect();
    let told: Vec<f64> = deaths.iter().flat_map(|death| death.told.clone()).collect();
    let first: Vec<f64> = deaths
        .iter()
        .filter_map(|death| death.told.iter().copied().reduce(f64::min))
        .collect();
    lab.metric(name, "events", deaths.len() as f64);
    lab.metric(name, "unknown", (deaths.len() - known.len()) as f64);
    lab.sample(name, "known_to_all_s", &known);
    lab.sample(name, "first_knows_s", &first);
    lab.sample(name, "each_knows_s", &told);
    lab.sample(name, "gap_s", &beyond);
    lab.metric(name, "taken_over", beyond.len() as f64);
    let false_deaths: usize = deaths.iter().map(|death| false_deaths(lab, death)).sum();
    lab.metric(name, "false_deaths", false_deaths as f64);
}

/// Living members that were declared dead meanwhile.
fn false_deaths(lab: &Lab, death: &Death) -> usize {
    let span = Stretch {
        from: death.at,
        to: death.end,
    };
    let record = lab.journal.record();
    let mut of: Vec<usize> = record
        .told
        .iter()
        .filter(|told| told.what == Word::Died && span.holds(told.at))
        .map(|told| told.of)
        .filter(|of| !death.victims.contains(of))
        .collect();
    of.sort_unstable();
    of.dedup();
    of.len()
}

/// Restarts all, one after the other, gracefully.
pub(super) fn rolling(lab: &mut Lab, name: &str, pause: Span) -> Result<()> {
    let agents = lab.agents.running();
    lab.say(format!(
        "{name}: restarting {} agents in turn",
        agents.len()
    ));
    let from = clock::now();
    let mut touched: Vec<(usize, Stretch)> = Vec::new();
    for &agent in &agents {
        let begun = clock::now();
        lab.agents.leave(agent, LEAVING)?;
        lab.agents_changed();
        lab.start_agent(agent)?;
        lab.agents_changed();
        let back = lab.wait(REJOINING, |lab| {
            Ok(wait::joined(lab).map_or(Wait::On, Wait::Done))
        })?;
        if back.is_none() {
            lab.say(format!("n{agent} was not known to all again within 30 s"));
        }
        lab.pass(pause.0)?;
        touched.push((
            agent,
            Stretch {
                from: begun,
                to: clock::now(),
            },
        ));
    }
    let interval = lab.interval();
    lab.pass(Duration::from_micros(interval))?;
    lab.let_the_log_catch_up()?;
    let span = Stretch {
        from,
        to: clock::now() - interval / 2,
    };
    let voids = lab.canary.voids();
    let (mut gaps, mut voided) = (Vec::new(), 0_u64);
    for gap in lab.log().longest_gaps(span) {
        if voids.iter().any(|void| void.meets(gap.span)) {
            voided += 1;
        } else {
            gaps.push((gap.span.length() as f64 - interval as f64) / SECOND as f64);
        }
    }
    lab.voided += u64::from(voided > 0);
    lab.void |= gaps.is_empty();
    lab.metric(name, "gaps_voided", voided as f64);
    lab.sample(name, "gap_s", &gaps);
    let mut dead: Vec<usize> = lab
        .journal
        .record()
        .told
        .iter()
        .filter(|told| told.what == Word::Died && span.holds(told.at))
        .filter(|told| {
            !voids
                .iter()
                .any(|void| void.widened(0, 3 * SECOND).holds(told.at))
        })
        .filter(|told| {
            let by_us =
                |(agent, span): &&(usize, Stretch)| *agent == told.of && span.holds(told.at);
            touched.iter().find(by_us).is_none()
        })
        .map(|told| told.of)
        .collect();
    dead.sort_unstable();
    dead.dedup();
    lab.metric(name, "false_deaths", dead.len() as f64);
    Ok(())
}

pub(super) fn freeze(lab: &mut Lab, pick: &Pick, length: Span) -> Result<()> {
    let agents = running_of(lab, pick);
    for &agent in &agents {
        lab.agents.signal(agent, Signal::SIGSTOP)?;
    }
    lab.say(format!("stopped {} for {length}", names(&agents)));
    lab.pass(length.0)?;
    for &agent in &agents {
        lab.agents.signal(agent, Signal::SIGCONT)?;
    }
    lab.say(format!("{} go on", names(&agents)));
    lab.acted = clock::now();
    Ok(())
}

/// Starts an agent by another's name at an address of its own.
pub(super) fn twin(lab: &mut Lab, name: &str, of: usize) -> Result<()> {
    let twin = lab.scenario.pop.agents;
    lab.agents.rename(twin, &format!("n{of}"))?;
    lab.start_agent(twin)?;
    lab.say(format!("started a second n{of} at an address of its own"));
    let ended = lab.wait(Duration::from_secs(15), |lab| {
        let first = lab.agents.exits();
        let both = [of, twin];
        Ok(
            match first.into_iter().find(|exit| both.contains(&exit.agent)) {
                Some(exit) => Wait::Done(exit),
                None => Wait::On,
            },
        )
    })?;
    lab.metric(
        name,
        "newcomer_ended",
        f64::from(u8::from(
            ended.as_ref().is_some_and(|exit| exit.agent == twin),
        )),
    );
    lab.metric(
        name,
        "elder_ended",
        f64::from(u8::from(
            ended.as_ref().is_some_and(|exit| exit.agent == of),
        )),
    );
    match ended {
        Some(exit) => lab.say(format!(
            "slot {} ended ({}): {}",
            exit.agent, exit.how, exit.said
        )),
        None => {
            lab.say("both of the name go on");
            lab.agents.kill(twin)?;
        }
    }
    lab.agents_changed();
    Ok(())
}
