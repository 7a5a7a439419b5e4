//! Faults for hours, drawn from a seed: after each one the POP must become calm
//! again, and what an agent holds must be as much as before.
//!
//! The first agents are never killed: they are the witnesses, whose memory and
//! descriptors would show a leak.

use std::time::Duration;

use anyhow::Result;
use watchfire_table::{Reader, monotonic_ns};

use crate::analysis::stats;
use crate::clock::{self, SECOND, Us};
use crate::lab::Lab;
use crate::procs::Usage;
use crate::scenario::{Act, Failure, Pick, Scenario, Span, Step, Until, Way};
use crate::steps;

/// Agents that are never killed.
const WITNESSES: usize = 3;

/// How long the POP may take to be calm after a fault.
const CALM: Span = Span(Duration::from_secs(60));

/// What was written down is kept for so long; the figures of older rounds are
/// in the metrics.
const MEMORY: Us = 180 * SECOND;

/// Rounds before the first figure that later ones are compared with: until then
/// buffers grow to their size.
const WARM_UP: usize = 5;

/// A scenario without steps: they are drawn. Its bounds are the soak's.
pub(crate) fn scenario(agents: usize, checks: usize) -> Result<Scenario> {
    let text = format!(
        "about = \"Random faults from a seed: calm after each, memory and descriptors flat\"\n\
         step = []\n\
         [pop]\nagents = {agents}\nchecks = {checks}\ninterval = \"2s\"\n\
         [expect]\n\"soak.rounds\" = \"1..\"\n\"soak.not_calm\" = 0\n\"soak.heap_growth\" = \"..1.15\"\n\
         \"soak.files_growth\" = \"..1.1\"\n\"soak.names_growth\" = \"..1.1\"\n\"run.false_downs\" = 0\n\"run.exits\" = 0\n"
    );
    Scenario::parse(&text, "soak.toml".as_ref())
}

/// Plays faults for so long.
pub(crate) fn play(lab: &mut Lab, length: Duration) -> Result<()> {
    let (mut heap, mut files, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rounds, mut not_calm) = (0, 0);
    let end = clock::now() + clock::us(length);
    steps::play(
        lab,
        &step(
            "start",
            Act::Start {
                agents: Pick::All,
                apart: None,
            },
        ),
    )?;
    calm(lab)?;
    while clock::now() < end {
        rounds += 1;
        let fault = draw(lab);
        lab.say(format!("round {rounds}"));
        for act in fault {
            steps::play(lab, &step("fault", act))?;
        }
        not_calm += u64::from(!calm(lab)?);
        let usage: Vec<Usage> = (0..WITNESSES)
            .filter_map(|witness| Usage::of(lab.agents.pid(witness)?))
            .collect();
        let largest = |of: fn(&Usage) -> f64| usage.iter().map(of).fold(0.0, f64::max);
        names.push(table_names(lab));
        heap.push(largest(|usage| usage.heap_bytes as f64 / 1e6));
        files.push(largest(|usage| usage.files as f64));
        lab.journal.record().forget_before(clock::now() - MEMORY);
        lab.metric("soak", "rounds", rounds as f64);
        lab.metric("soak", "not_calm", not_calm as f64);
        lab.sample("soak", "heap_mb", &heap);
        lab.sample("soak", "files", &files);
        lab.sample("soak", "table_names", &names);
        let growing = [
            ("heap_growth", &heap),
            ("files_growth", &files),
            ("names_growth", &names),
        ];
        for (what, sample) in growing {
            if let Some(growth) = growth(sample) {
                lab.metric("soak", what, growth);
            }
        }
    }
    Ok(())
}

/// Most names that a witness's table has room taken for, removed ones included.
fn table_names(lab: &Lab) -> f64 {
    let used = (0..WITNESSES).filter_map(|witness| {
        let reader = Reader::open(&lab.agents.table(witness)).ok()?;
        Some(reader.stat(monotonic_ns())?.used as f64)
    });
    used.fold(0.0, f64::max)
}

/// The last third's median against that of the first third after the warm-up;
/// nothing before there are three of each.
fn growth(sample: &[f64]) -> Option<f64> {
    let settled = sample.get(WARM_UP..).filter(|settled| settled.len() >= 9)?;
    let third = settled.len() / 3;
    let first = stats::percentile(&settled[..third], 0.5)?;
    let last = stats::percentile(&settled[settled.len() - third..], 0.5)?;
    Some(last / first)
}

/// Waits for calm; says whether it came.
fn calm(lab: &mut Lab) -> Result<bool> {
    lab.metrics.remove("calm.s");
    let until = Until::Calm;
    steps::play(
        lab,
        &step(
            "calm",
            Act::Wait {
                until,
                within: CALM,
            },
        ),
    )?;
    Ok(lab.metrics.contains_key("calm.s"))
}

fn step(name: &str, act: Act) -> Step {
    Step {
        name: Some(name.to_owned()),
        act,
    }
}

/// One fault and what ends it.
fn draw(lab: &mut Lab) -> Vec<Act> {
    let agents = lab.scenario.pop.agents;
    let checks = lab.scenario.pop.checks;
    let mortal = |lab: &mut Lab| {
        let agent = WITNESSES + lab.below(agents.saturating_sub(WITNESSES));
        Pick::Range(agent, agent)
    };
    let seconds = |lab: &mut Lab, most: usize| {
        Span(Duration::from_millis(500 + lab.below(most * 1_000) as u64))
    };
    let start = Act::Start {
        agents: Pick::All,
        apart: None,
    };
    let sleep = |length| Act::Sleep { length };
    match lab.below(10) {
        0 => {
            let (agents, length) = (mortal(lab), seconds(lab, 8));
            vec![Act::Fell { agents }, sleep(length), start]
        }
        1 => {
            let some = Pick::Range(WITNESSES, WITNESSES + agents / 3);
            let length = seconds(lab, 8);
            vec![Act::Fell { agents: some }, sleep(length), start]
        }
        2 => vec![
            Act::Leave {
                agents: mortal(lab),
            },
            start,
        ],
        3 => {
            let (agents, length) = (mortal(lab), seconds(lab, 15));
            vec![Act::Freeze { agents, length }]
        }
        4 => {
            let (percent, length) = (1.0 + lab.below(20) as f64, seconds(lab, 15));
            vec![
                Act::Loss { percent },
                sleep(length),
                Act::Loss { percent: 0.0 },
            ]
        }
        5 => {
            let way = [Way::Both, Way::In, Way::Out][lab.below(3)];
            let agents = if lab.below(2) == 0 {
                Pick::Half
            } else {
                mortal(lab)
            };
            let length = seconds(lab, 12);
            vec![Act::Cut { agents, way }, sleep(length), Act::Mend]
        }
        6 => {
            let how = [Failure::Status, Failure::Silent, Failure::Refuse][lab.below(3)];
            let origins = Pick::Random(1 + lab.below(checks / 4));
            let within = Span(Duration::from_secs(60));
            vec![Act::Flip {
                origins,
                how,
                within,
                times: 1,
                and_back: true,
            }]
        }
        7 => {
            let changed = lab.below(2) == 0;
            let agents = Pick::All;
            let configure = Act::Configure {
                agents,
                first: 0,
                checks,
                changed,
            };
            vec![configure, Act::Reload { agents: Pick::All }]
        }
        8 => {
            let (agents, length) = (mortal(lab), seconds(lab, 10));
            let limit = |percent| Act::Throttle {
                agents: agents.clone(),
                percent,
            };
            vec![limit(1.0), sleep(length), limit(100.0)]
        }
        _ => {
            let (loops, length) = (2 + lab.below(20), seconds(lab, 8));
            vec![Act::Busy { loops, length }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_compares_thirds_after_the_warm_up() {
        let mut sample = vec![1.0; WARM_UP];
        assert_eq!(growth(&sample), None);
        sample.extend([10.0; 6]);
        sample.extend([20.0; 3]);
        assert_eq!(growth(&sample), Some(2.0));
    }

    #[test]
    fn the_soaks_own_scenario_can_be_read() {
        assert_eq!(scenario(16, 1_000).unwrap().pop.agents, 16);
    }
}
