//! Measuring a while: probes against what is expected, packets, bytes and CPU
//! per agent, memory.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::analysis::span::Span as Stretch;
use crate::clock::{self, SECOND, Us};
use crate::faults::relay::Relay;
use crate::lab::Lab;
use crate::packets::Traffic;
use crate::procs::{self, Usage};
use crate::scenario::Span;

/// After the machine stood still, so much more is left out: until then a
/// takeover that was due to it is over.
const AFTERMATH: Us = 3 * SECOND;

/// A measurement of which a greater share was left out is none.
const VOID_SHARE: f64 = 0.3;

/// What is read at both ends.
struct Look {
    at: Us,
    traffic: Vec<Traffic>,
    usage: BTreeMap<usize, (u32, Usage)>,
    observer_ns: u64,
    own_ns: u64,
    nginx_ns: u64,
}

impl Look {
    fn at_all(lab: &Lab) -> Result<Self> {
        let usage = lab.agents.running().into_iter().filter_map(|agent| {
            let pid = lab.agents.pid(agent)?;
            Some((agent, (pid, Usage::of(pid)?)))
        });
        Ok(Self {
            usage: usage.collect(),
            observer_ns: lab.observer.cpu_ns(),
            own_ns: procs::own_ns(),
            nginx_ns: procs::cpu_ns(lab.origins.pid()).unwrap_or(0),
            traffic: lab.packets.read()?,
            at: clock::now(),
        })
    }
}

pub(super) fn measure(lab: &mut Lab, name: &str, length: Span) -> Result<()> {
    lab.say(format!("{name}: measuring for {length}"));
    let from = Look::at_all(lab)?;
    lab.pass(length.0)?;
    let to = Look::at_all(lab)?;
    lab.let_the_log_catch_up()?;
    let span = Stretch {
        from: from.at,
        to: to.at,
    };
    probes(lab, name, span);
    costs(lab, name, &from, &to);
    if let Some((relayed, lost)) = lab.faults.relay.as_ref().map(Relay::counts) {
        lab.metric(name, "relayed", relayed as f64);
        lab.metric(name, "relay_lost", lost as f64);
    }
    let told = |lab: &Lab, what: &str| {
        let value = lab.metrics.get(&format!("{name}.{what}"));
        value.map_or("?".to_owned(), |value| format!("{value:.4}"))
    };
    let line = format!(
        "{name}: {} of the probes expected, {} checks by two, {} % of a core, {} packets/s, {} B/s \
         per agent (medians)",
        told(lab, "ratio"),
        told(lab, "by_two"),
        told(lab, "cpu_percent.p50"),
        told(lab, "packets_per_s.p50"),
        told(lab, "bytes_per_s.p50"),
    );
    lab.say(line);
    Ok(())
}

/// Who probes some of the checks.
pub(super) fn coverage(
    lab: &mut Lab,
    name: &str,
    first: usize,
    checks: usize,
    length: Span,
) -> Result<()> {
    let from = clock::now();
    lab.pass(length.0)?;
    let span = Stretch {
        from,
        to: clock::now(),
    };
    lab.let_the_log_catch_up()?;
    lab.void |= lab.voids(span);
    let log = lab.log().only(first..first + checks);
    lab.metric(name, "unprobed", log.unprobed(span) as f64);
    lab.metric(name, "most_probers", log.most_probers(span) as f64);
    lab.metric(name, "by_two", log.by_two(span) as f64);
    lab.say(format!(
        "{name}: {} of {checks} checks unprobed",
        log.unprobed(span)
    ));
    Ok(())
}

/// Origins that two probed which are named for each part of a span.
const BY_TWO_NAMED: usize = 5;

/// Probes in a span, without the parts in which the machine stood still.
fn probes(lab: &mut Lab, name: &str, span: Stretch) {
    let voids: Vec<Stretch> = lab
        .canary
        .voids()
        .iter()
        .map(|void| void.widened(0, AFTERMATH))
        .collect();
    let voids = Stretch::merged(&voids);
    let left = span.without(&voids);
    let measured: Us = left.iter().map(|part| part.length()).sum();
    let voided = span.length() - measured;
    lab.voided += u64::from(voided > 0);
    lab.metric(name, "voided_s", clock::seconds(voided));
    if voided as f64 > VOID_SHARE * span.length() as f64 {
        lab.void = true;
        return;
    }
    let log = lab.log();
    let configured = {
        let board = lab.observer.board();
        board.truth.iter().filter(|truth| truth.configured).count() as f64
    };
    let count: u64 = left.iter().map(|part| log.count(*part)).sum();
    let expected = configured * measured as f64 / lab.interval() as f64;
    lab.metric(name, "probes", count as f64);
    lab.metric(name, "expected", expected);
    lab.metric(name, "ratio", count as f64 / expected);
    let by_two: u64 = left.iter().map(|part| log.by_two(*part)).sum();
    lab.metric(name, "by_two", by_two as f64);
    let named: Vec<String> = (left.iter())
        .flat_map(|part| log.who_by_two(*part, BY_TWO_NAMED))
        .collect();
    let most = left.iter().map(|part| log.most_probers(*part)).max();
    lab.metric(name, "most_probers", most.unwrap_or(0) as f64);
    if left.len() == 1 {
        let unprobed = log.unprobed(span) as f64 - (lab.scenario.pop.checks as f64 - configured);
        lab.metric(name, "unprobed", unprobed);
    }
    let per_second = configured * SECOND as f64 / lab.interval() as f64;
    let seconds = left.iter().flat_map(|part| log.per_second(*part));
    let worst = seconds.max().unwrap_or(0) as f64 / per_second;
    lab.metric(name, "worst_second", worst);
    // Any ten seconds, by seconds.
    let tens = left.iter().filter_map(|part| {
        let seconds = log.per_second(*part);
        let sums = seconds.windows(10).map(|ten| ten.iter().sum::<u64>());
        sums.max()
    });
    if let Some(worst) = tens.max() {
        lab.metric(name, "worst_ten_seconds", worst as f64 / per_second / 10.0);
    }
    for line in named {
        lab.say(format!("{name}: {line}"));
    }
}

/// What it cost.
fn costs(lab: &mut Lab, name: &str, from: &Look, to: &Look) {
    let length = clock::seconds(to.at - from.at);
    let mut by_thread: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut total = Vec::new();
    let mut traffic = Vec::new();
    let mut held: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (&agent, (pid, after)) in &to.usage {
        let Some((_, before)) = from.usage.get(&agent).filter(|(before, _)| before == pid) else {
            continue;
        };
        let percent = |ns: u64| ns as f64 / 1e9 / length * 100.0;
        total.push(percent(
            after.cpu_total_ns().saturating_sub(before.cpu_total_ns()),
        ));
        for (kind, ns) in &after.cpu_ns {
            let used = ns.saturating_sub(before.cpu_ns.get(kind).copied().unwrap_or(0));
            by_thread.entry(kind).or_default().push(percent(used));
        }
        traffic.push(to.traffic[agent].since(from.traffic[agent]));
        held.entry("rss_mb")
            .or_default()
            .push(after.rss_bytes as f64 / 1e6);
        held.entry("heap_mb")
            .or_default()
            .push(after.heap_bytes as f64 / 1e6);
        held.entry("files").or_default().push(after.files as f64);
        held.entry("threads")
            .or_default()
            .push(after.threads as f64);
    }
    lab.sample(name, "cpu_percent", &total);
    for (kind, sample) in by_thread {
        lab.sample(name, &format!("cpu_percent.{kind}"), &sample);
    }
    for (what, sample) in held {
        lab.sample(name, what, &sample);
    }
    let rate = |of: fn(&Traffic) -> u64| -> Vec<f64> {
        traffic
            .iter()
            .map(|traffic| of(traffic) as f64 / length)
            .collect()
    };
    lab.sample(name, "packets_per_s", &rate(|t| t.udp_out.packets));
    lab.sample(name, "bytes_per_s", &rate(|t| t.udp_out.bytes));
    lab.sample(name, "packets_in_per_s", &rate(|t| t.udp_in.packets));
    lab.sample(name, "bytes_in_per_s", &rate(|t| t.udp_in.bytes));
    lab.sample(name, "bulk_bytes_per_s", &rate(|t| t.tcp_out.bytes));
    let percent = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9 / length * 100.0;
    lab.metric(
        name,
        "observer_percent",
        percent(from.observer_ns, to.observer_ns),
    );
    lab.metric(name, "lab_percent", percent(from.own_ns, to.own_ns));
    lab.metric(name, "nginx_percent", percent(from.nginx_ns, to.nginx_ns));
}
