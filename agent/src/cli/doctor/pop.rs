//! What the running agent knows of itself and of the other members.

use std::path::Path;

use super::Finding;
use crate::cli::Failure;
use crate::control::api::{self, Verb};
use crate::gossip::status::{MemberStatus, Status};

/// A member's clock that is off by more is worth a word, milliseconds.
const SKEW_MS: u64 = 1_000;

/// A living member that has not answered this agent itself for so long cannot be
/// reached from here, or cannot reach it, milliseconds: each is pinged once in a
/// round of the POP, a fifth of a second for each member.
fn silent_ms(members: usize) -> u64 {
    30_000.max(1_000 * members as u64)
}

pub(super) fn ask(socket: &Path) -> Result<Status, Failure> {
    Ok(serde_json::from_value(api::ask(socket, &Verb::Status)?)?)
}

pub(super) fn in_short(status: &Status) -> String {
    format!(
        "{} runs watchfire {} on {}, {} of {} checks probed here",
        status.node, status.version, status.backend, status.checks_probed, status.checks
    )
}

/// What the agent says of itself.
pub(super) fn of_agent(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(ailment) = &status.prober_ailment {
        findings.push(Finding::wrong(
            "probing",
            format!("this agent cannot probe: {ailment}"),
            "see docs/runbook.md, \"WatchfireProberUnhealthy\", and the agent's log",
        ));
    }
    for held in &status.files_held {
        findings.push(Finding::wrong(
            "files",
            format!("{}: {}", held.file, held.why),
            "mend it, then `watchfire reload`",
        ));
    }
    if let Some(error) = status
        .config_error
        .as_ref()
        .filter(|_| status.files_held.is_empty())
    {
        findings.push(Finding::wrong(
            "files",
            format!("the last reload was refused: {error}"),
            "mend it, then `watchfire reload`",
        ));
    }
    if let Some(braked) = status.braked {
        findings.push(Finding::wrong(
            "brake",
            format!(
                "{} failing checks are not called Down for {} s",
                braked.held, braked.for_s
            ),
            "so much fails at once that the POP's own uplink may be at fault: look at it",
        ));
    }
    findings
}

/// What it knows of the others.
pub(super) fn of_members(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(members(status));
    findings.push(generations(status));
    findings.push(keys(status));
    findings.push(clocks(status));
    findings.push(reach(status));
    findings
}

fn members(status: &Status) -> Vec<Finding> {
    let lives = |it: &&MemberStatus| matches!(it.state.as_str(), "alive" | "suspect");
    let living = status.members.iter().filter(lives).count();
    let mut findings = vec![if living > 1 {
        Finding::ok("members", format!("{living} live"))
    } else {
        Finding::advice(
            "members",
            "no other member lives",
            "look at gossip.join, the key file, and firewalls (UDP and TCP)",
        )
    }];
    for member in &status.members {
        let (found, next) = match member.state.as_str() {
            "dead" => (
                "is missing: it died",
                "look at that server, and at its agent's log",
            ),
            "suspect" => (
                "does not answer: it is suspected",
                "wait some seconds, and look again",
            ),
            "alive" if !member.prober_healthy => ("cannot probe", "run `watchfire doctor` there"),
            _ => continue,
        };
        findings.push(Finding::wrong(
            "members",
            format!("{} {found}", member.name),
            next,
        ));
    }
    for member in status.members.iter().filter(|it| it.draining) {
        findings.push(Finding::advice(
            "members",
            format!("{} drains", member.name),
            "`watchfire undrain` there when it may probe again",
        ));
    }
    findings
}

fn generations(status: &Status) -> Finding {
    match status.generations.as_slice() {
        [] => Finding::advice(
            "configuration",
            "no member tells what it holds",
            "wait a moment",
        ),
        [one] => Finding::ok(
            "configuration",
            format!("all {} hold {}", one.members.len(), one.digest),
        ),
        [newest, older @ ..] => {
            let behind: Vec<_> = older
                .iter()
                .flat_map(|it| &it.members)
                .map(String::as_str)
                .collect();
            Finding::wrong(
                "configuration",
                format!(
                    "{} hold {}, and for {} s others hold another: {}",
                    newest.members.len(),
                    newest.digest,
                    newest.for_s,
                    behind.join(", ")
                ),
                "are the origins files there the same? `watchfire status` there says what it refused",
            )
        }
    }
}

fn keys(status: &Status) -> Finding {
    let refused = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let unknown = refused("frames_refused_unknown_key");
    let forged = refused("frames_refused_forged");
    let unsealed = refused("frames_refused_unsealed");
    if unknown + forged + unsealed == 0 {
        return Finding::ok(
            "keys",
            match status.keys.seals {
                Some(seals) => {
                    format!("key {seals} seals, and everything that came could be opened")
                }
                None => "none: gossip is not sealed".to_owned(),
            },
        );
    }
    Finding::advice(
        "keys",
        format!(
            "since the start {unknown} frames came with a key that is not here, {forged} with \
             another key under a known id, {unsealed} sealed or not where the other is asked for"
        ),
        "every member needs the same key file; during a rotation wait for its end",
    )
}

fn clocks(status: &Status) -> Finding {
    let off = status.members.iter().filter_map(|member| {
        let off = member.clock_off_ms?;
        (off.unsigned_abs() > SKEW_MS).then(|| format!("{} by {off} ms", member.name))
    });
    let off: Vec<_> = off.collect();
    if off.is_empty() {
        let known = status
            .members
            .iter()
            .filter(|it| it.clock_off_ms.is_some())
            .count();
        return Finding::ok("clocks", format!("{known} agree within a second"));
    }
    Finding::wrong(
        "clocks",
        format!("off beside the POP's median: {}", off.join(", ")),
        "run chrony or systemd-timesyncd there",
    )
}

/// An answer to a ping went both ways.
fn reach(status: &Status) -> Finding {
    let most = silent_ms(status.members.len());
    let others = || {
        let all = status.members.iter();
        all.filter(|it| it.state == "alive" && it.name != status.node)
    };
    let young = status.uptime_s * 1_000 < most;
    let silent = others().filter(|it| match it.answered_ms_ago {
        Some(ago) => ago > most,
        None => !young,
    });
    let silent: Vec<_> = silent.map(|it| it.name.as_str()).collect();
    if silent.is_empty() {
        return Finding::ok(
            "reachability",
            format!("{} answer this agent's own pings", others().count()),
        );
    }
    Finding::wrong(
        "reachability",
        format!(
            "others say that they live, and this agent had no answer for long: {}",
            silent.join(", ")
        ),
        "a firewall or a route lets one direction pass, or neither: look at UDP between the two",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Weight;
    use crate::gossip::status::Generation;

    fn member(name: &str) -> MemberStatus {
        MemberStatus {
            name: name.into(),
            addr: "127.0.0.1:1".into(),
            state: "alive".into(),
            capacity: 1,
            draining: false,
            braked: false,
            prober_healthy: true,
            epoch: 1,
            clock_off_ms: Some(3),
            answered_ms_ago: Some(100),
        }
    }

    fn status() -> Status {
        Status {
            node: "a".into(),
            uptime_s: 1_000,
            members: ["a", "b", "c"].map(member).into(),
            generations: vec![Generation {
                digest: "8f3a".into(),
                for_s: 60,
                members: ["a", "b", "c"].map(str::to_owned).into(),
            }],
            ..Status::default()
        }
    }

    fn wrong(status: &Status) -> Vec<(&'static str, String)> {
        let all = of_members(status).into_iter();
        all.filter(|it| it.weight == Weight::Wrong)
            .map(|it| (it.what, it.found))
            .collect()
    }

    #[test]
    fn a_pop_in_order_has_nothing_wrong() {
        assert_eq!(wrong(&status()), []);
        let all = of_members(&status());
        assert!(
            all.iter()
                .all(|it| it.weight == Weight::Ok && it.next.is_none()),
            "{all:?}"
        );
    }

    #[test]
    fn each_trouble_is_said_with_its_member_and_a_next_step() {
        type Change = fn(&mut Status);
        let cases: [(&str, &str, Change); 7] = [
            ("members", "b is missing", |it| {
                it.members[1].state = "dead".into()
            }),
            ("members", "c does not answer", |it| {
                it.members[2].state = "suspect".into()
            }),
            ("members", "b cannot probe", |it| {
                it.members[1].prober_healthy = false
            }),
            ("configuration", "another: b", |it| {
                it.generations[0].members.remove(1);
                it.generations.push(Generation {
                    digest: "1".into(),
                    for_s: 90,
                    members: vec!["b".into()],
                });
            }),
            ("clocks", "b by -90000 ms", |it| {
                it.members[1].clock_off_ms = Some(-90_000)
            }),
            ("reachability", "for long: c", |it| {
                it.members[2].answered_ms_ago = Some(60_000)
            }),
            ("reachability", "for long: c", |it| {
                it.members[2].answered_ms_ago = None
            }),
        ];
        for (what, part, change) in cases {
            let mut it = status();
            change(&mut it);
            let found = wrong(&it);
            assert!(
                found.len() == 1 && found[0].0 == what && found[0].1.contains(part),
                "{found:?} for {part}"
            );
        }
        // Just started, it has not asked everybody.
        let mut young = status();
        young.uptime_s = 2;
        young.members[2].answered_ms_ago = None;
        assert_eq!(wrong(&young), []);
    }

    #[test]
    fn what_could_not_be_opened_is_advice() {
        let mut it = status();
        it.counters.insert("frames_refused_forged".into(), 3);
        let found = of_members(&it);
        let keys = found.iter().find(|it| it.what == "keys").unwrap();
        assert!(
            keys.weight == Weight::Advice && keys.found.contains("3 with"),
            "{keys:?}"
        );
    }
}
