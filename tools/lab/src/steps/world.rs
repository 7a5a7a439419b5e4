//! What is done to the world around the agents: packets, processors, files.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::analysis::span::Span as Stretch;
use crate::clock::{self, SECOND};
use crate::faults::relay::{Manner, Relay};
use crate::faults::{Busy, flood};
use crate::lab::Lab;
use crate::net;
use crate::observe::Truth;
use crate::sampler;
use crate::scenario::{Flood, Pick, Span, Uplink, Way};

pub(super) fn loss(lab: &mut Lab, percent: f64) -> Result<()> {
    lab.packets.lose(percent)?;
    lab.say(format!(
        "{percent} % of gossip packets are lost from now on"
    ));
    lab.acted = clock::now();
    Ok(())
}

pub(super) fn uplink(lab: &mut Lab, how: Uplink) -> Result<()> {
    lab.net.uplink(how)?;
    lab.say(match how {
        Uplink::Alive => "the way to the origins is as it was",
        Uplink::Dead => "nothing reaches the origins from now on",
        Uplink::Unreachable => "a router says from now on that the origins are unreachable",
        Uplink::Lossy => "three packets of ten to and from the origins are lost from now on",
    });
    lab.acted = clock::now();
    Ok(())
}

pub(super) fn cut(lab: &mut Lab, pick: &Pick, way: Way) -> Result<()> {
    let agents = lab.pick_agents(pick);
    lab.packets.cut(&agents, way)?;
    lab.say(format!("{} agents are cut off ({way:?})", agents.len()));
    lab.acted = clock::now();
    Ok(())
}

pub(super) fn mend(lab: &mut Lab) -> Result<()> {
    lab.packets.cut(&[], Way::Both)?;
    lab.say("nobody is cut off");
    lab.acted = clock::now();
    Ok(())
}

/// A machine that is busy with something else. The bounds on packets and probes
/// must hold meanwhile.
pub(super) fn busy(lab: &mut Lab, name: &str, loops: usize, length: Span) -> Result<()> {
    let from = clock::now();
    let false_downs = lab.observer.board().false_downs.len();
    let busy = Busy::start(loops)?;
    lab.say(format!("{loops} busy loops for {length}"));
    lab.pass(length.0)?;
    drop(busy);
    lab.acted = clock::now();
    let span = Stretch {
        from,
        to: lab.acted,
    };
    let state = lab.state();
    lab.say(format!("busy loops ended: {state}"));
    lab.let_the_log_catch_up()?;
    let log = lab.log();
    let configured = lab.scenario.pop.checks as f64;
    let per_second = configured * SECOND as f64 / lab.interval() as f64;
    let seconds = log.per_second(span);
    let worst = seconds.iter().max().copied().unwrap_or(0) as f64;
    lab.metric(name, "worst_second", worst / per_second);
    let tens = seconds.windows(10).map(|ten| ten.iter().sum::<u64>()).max();
    lab.metric(
        name,
        "worst_ten_seconds",
        tens.unwrap_or(0) as f64 / per_second / 10.0,
    );
    lab.metric(name, "most_probers", log.most_probers(span) as f64);
    let samples = sampler::seconds(&lab.samples());
    let meanwhile: Vec<_> = samples
        .into_iter()
        .filter(|second| span.holds(second.at))
        .collect();
    let packets = meanwhile
        .iter()
        .flat_map(|second| second.packets.iter().copied());
    lab.metric(name, "packets_worst_s", packets.fold(0.0, f64::max));
    lab.metric(name, "packets_worst_ten", sampler::worst_ten(&meanwhile));
    let new = lab.observer.board().false_downs.len() - false_downs;
    lab.metric(name, "false_downs", new as f64);
    Ok(())
}

pub(super) fn throttle(lab: &mut Lab, pick: &Pick, percent: f64) -> Result<()> {
    let agents = lab.pick_agents(pick);
    for &agent in &agents {
        if let Some(pid) = lab.agents.pid(agent) {
            lab.faults.throttles.set(agent, pid, percent)?;
        }
    }
    lab.say(format!(
        "{} agents have {percent} % of a core each",
        agents.len()
    ));
    lab.acted = clock::now();
    Ok(())
}

pub(super) fn configure(
    lab: &mut Lab,
    pick: &Pick,
    first: usize,
    checks: usize,
    changed: bool,
) -> Result<()> {
    let agents = lab.pick_agents(pick);
    let file = format!("{first}-{checks}{}", if changed { "-changed" } else { "" });
    lab.agents.write_origins(&file, first, checks, changed)?;
    for &agent in &agents {
        lab.agents.give_origins(agent, &file)?;
    }
    let all = lab.scenario.pop.checks;
    if agents.len() == lab.scenario.pop.agents {
        let truth = |configured| Truth {
            configured,
            good: true,
            settled: false,
        };
        let to = (first + checks).min(all);
        let mut board = lab.observer.board();
        board.set_truth((0..first).chain(to..all), truth(false));
        board.set_truth(first..to, truth(true));
    }
    lab.say(format!(
        "{} agents are given checks {first} to {}",
        agents.len(),
        first + checks
    ));
    Ok(())
}

pub(super) fn reload(lab: &mut Lab, pick: &Pick) -> Result<()> {
    let running = lab.agents.running();
    let mut agents = lab.pick_agents(pick);
    agents.retain(|agent| running.contains(agent));
    for &agent in &agents {
        lab.agents.signal(agent, Signal::SIGHUP)?;
    }
    lab.acted = clock::now();
    lab.say(format!(
        "{} agents read their configuration again",
        agents.len()
    ));
    Ok(())
}

pub(super) fn keys(lab: &mut Lab, pick: &Pick, ids: &[u8]) -> Result<()> {
    let agents = lab.pick_agents(pick);
    for &agent in &agents {
        lab.agents.give_key(agent, ids)?;
    }
    lab.say(format!(
        "{} agents are given the keys {ids:?}",
        agents.len()
    ));
    Ok(())
}

/// Takes the last free byte of tmpfs that agents have for themselves.
pub(super) fn fill(lab: &mut Lab, pick: &Pick) -> Result<()> {
    let agents = lab.pick_agents(pick);
    for &agent in &agents {
        let path = lab.agents.table_dir(agent).join("filler");
        let mut file = fs::File::create(path)?;
        let block = [1_u8; 4_096];
        while file.write_all(&block).is_ok() {}
    }
    lab.say(format!("the tmpfs of {} agents are full", agents.len()));
    Ok(())
}

/// Puts a relay on the agents' wires, or changes what it does.
pub(super) fn relay(
    lab: &mut Lab,
    delay: Span,
    jitter: Option<Span>,
    repeat_percent: f64,
) -> Result<()> {
    let manner = Manner {
        delay: delay.0,
        jitter: jitter.map_or(Duration::ZERO, |jitter| jitter.0),
        repeat_percent,
    };
    match &lab.faults.relay {
        Some(relay) => relay.set(manner),
        None => {
            let seed = lab.below(usize::MAX) as u64;
            let relay = Relay::start(&lab.net, &lab.faults.dir, manner, seed)?;
            lab.faults.relay = Some(relay);
        }
    }
    lab.say(format!("every datagram: {manner:?}"));
    lab.acted = clock::now();
    Ok(())
}

/// Sends agents what they must not heed, from the spare address.
pub(super) fn flood(
    lab: &mut Lab,
    name: &str,
    kind: Flood,
    per_s: u64,
    pick: &Pick,
    length: Span,
) -> Result<()> {
    let spare = lab.scenario.pop.agents;
    let seen = lab
        .faults
        .relay
        .as_ref()
        .map(Relay::remembered)
        .unwrap_or_default();
    let seed = lab.below(usize::MAX) as u64;
    let datagrams = flood::datagrams(kind, &seen, seed);
    if datagrams.is_empty() {
        bail!("nothing was seen that could be sent again: put a relay on the wires first");
    }
    let agents = lab.pick_agents(pick);
    lab.say(format!(
        "{per_s} datagrams/s ({kind:?}) to {} agents for {length}",
        agents.len()
    ));
    let before = lab.packets.read()?;
    let from = clock::now();
    let flood = flood::send(
        flood::Plan {
            namespace: &lab.net.agent(spare),
            from: net::agent_address(spare),
            agents: agents.clone(),
            per_s,
            length: length.0,
        },
        datagrams,
    )?;
    let told = lab.journal.record().told.len();
    lab.pass(length.0)?;
    let sent = flood.join().unwrap_or(0);
    lab.let_the_log_catch_up()?;
    let after = lab.packets.read()?;
    let answers = after[spare].since(before[spare]).udp_in.packets;
    let took = clock::seconds(clock::now() - from);
    let arrived: u64 = agents
        .iter()
        .map(|&agent| after[agent].since(before[agent]).udp_in.packets)
        .sum();
    let told = lab.journal.record().told.len() - told;
    lab.metric(name, "sent", sent as f64);
    lab.metric(name, "arrived_per_s", arrived as f64 / took);
    lab.metric(name, "answered", answers as f64);
    lab.metric(name, "members_changed", told as f64);
    lab.acted = clock::now();
    lab.say(format!(
        "{name}: {sent} sent, {answers} answered, {told} changes of members told"
    ));
    Ok(())
}
