//! Operators decide, and all tables must show it: given by the command line on
//! one agent, kept over restarts, and ended by its time.

use std::time::Duration;

use anyhow::Result;
use watchfire_table::TableVerdict;

use crate::analysis::span::Span as Stretch;
use crate::clock::{self, Us};
use crate::lab::{Lab, Wait};
use crate::observe::Truth;
use crate::scenario::{Pick, Span};

/// Takes origins out, one after the other, each on an agent that is drawn; with a
/// `length`, waits until that ends them.
pub(super) fn give(
    lab: &mut Lab,
    name: &str,
    pick: &Pick,
    within: Span,
    length: Option<Span>,
) -> Result<()> {
    let origins = lab.pick_origins(pick);
    let (mut answered, mut whole, mut between) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ends, mut missed) = (Vec::new(), 0);
    for &origin in &origins {
        expect(lab, &[origin], false);
        let running = lab.agents.running();
        let on = running[lab.below(running.len())];
        let begun = clock::now();
        lab.agents.take_out(on, origin, length.map(|it| it.0))?;
        let told = clock::now();
        ends.push((begun, told));
        let shown = all_show(lab, within)?;
        if lab.voids(span(begun)) {
            lab.voided += 1;
        } else if !shown {
            missed += 1;
        } else {
            for (first, last) in shown_at(lab) {
                answered.push(ms(told, last));
                whole.push(ms(begun, last));
                between.push(ms(first, last));
            }
        }
    }
    lab.void |= whole.is_empty() && missed == 0;
    lab.say(format!(
        "{} origins taken out, {missed} missed by some table",
        origins.len()
    ));
    lab.metric(name, "missed", f64::from(missed));
    lab.sample(name, "from_command_ms", &whole);
    lab.sample(name, "from_answer_ms", &answered);
    lab.sample(name, "between_tables_ms", &between);
    match length {
        Some(length) => end(lab, name, &origins, &ends, length, within)?,
        None => lab.taken_out.extend(origins),
    }
    lab.acted = clock::now();
    Ok(())
}

/// Waits until what was taken out ends by its time.
fn end(
    lab: &mut Lab,
    name: &str,
    origins: &[usize],
    given: &[(Us, Us)],
    length: Span,
    within: Span,
) -> Result<()> {
    expect(lab, origins, true);
    let begun = clock::now();
    let shown = all_show(lab, Span(length.0 + within.0))?;
    let (mut between, mut off) = (Vec::new(), Vec::new());
    if lab.voids(span(begun)) {
        lab.void = true;
    } else if shown {
        for ((first, last), &(from, to)) in shown_at(lab).into_iter().zip(given) {
            between.push(ms(first, last));
            // It was decided at some moment between command and answer.
            let length = clock::us(length.0);
            off.push(ms(to + length, last).max(ms(first, from + length)));
        }
    }
    lab.metric(name, "ended.missed", f64::from(u8::from(!shown)));
    lab.sample(name, "ended.between_tables_ms", &between);
    lab.sample(name, "ended.off_ms", &off);
    let word = if shown {
        "everywhere"
    } else {
        "not everywhere"
    };
    lab.say(format!("ended {word}"));
    Ok(())
}

/// Waits until every table shows what was taken out without an end.
pub(super) fn kept(lab: &mut Lab, name: &str, within: Span) -> Result<()> {
    let origins = lab.taken_out.clone();
    let acted = lab.acted;
    lab.observer
        .board()
        .await_change(&origins, TableVerdict::Down);
    let shown = all_show(lab, within)?;
    let missing = {
        let board = lab.observer.board();
        board.awaited.iter().filter(|it| it.missing > 0).count()
    };
    lab.metric(name, "missed", missing as f64);
    if shown {
        let took = clock::seconds(clock::now().saturating_sub(acted));
        lab.metric(name, "s", took);
        lab.say(format!("{} are still taken out everywhere", origins.len()));
    } else {
        lab.say(format!("{missing} are no longer taken out in some table"));
    }
    Ok(())
}

/// Says what tables are to show of origins from now on, and waits for it.
fn expect(lab: &Lab, origins: &[usize], good: bool) {
    let to = if good {
        TableVerdict::Up
    } else {
        TableVerdict::Down
    };
    let truth = Truth {
        configured: true,
        good,
        settled: false,
    };
    let mut board = lab.observer.board();
    board.set_truth(origins.iter().copied(), truth);
    board.await_change(origins, to);
}

fn all_show(lab: &mut Lab, within: Span) -> Result<bool> {
    let shown = lab.wait(within.0, |lab| {
        let shown = lab.observer.board().all_shown();
        Ok(if shown { Wait::Done(()) } else { Wait::On })
    })?;
    Ok(shown.is_some())
}

/// Per origin that was waited for, when the first and the last table showed it.
fn shown_at(lab: &Lab) -> Vec<(Us, Us)> {
    let board = lab.observer.board();
    let times = |seen: &[Option<Us>]| {
        let all = || seen.iter().flatten().copied();
        Some((all().min()?, all().max()?))
    };
    let awaited = board.awaited.iter();
    awaited.filter_map(|it| times(&it.seen)).collect()
}

fn span(from: Us) -> Stretch {
    Stretch {
        from,
        to: clock::now(),
    }
}

fn ms(from: Us, to: Us) -> f64 {
    Duration::from_micros(to.saturating_sub(from)).as_secs_f64() * 1_000.0
}
