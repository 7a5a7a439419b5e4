//! Origins fail and recover, and all tables must show it.

use anyhow::Result;
use watchfire_table::TableVerdict;

use crate::analysis::span::Span as Stretch;
use crate::clock::{self, Us};
use crate::lab::{Lab, Wait};
use crate::observe::Truth;
use crate::scenario::{Failure, Pick, Span};

/// Times of one or more changes, milliseconds.
#[derive(Default)]
struct Spread {
    /// From each origin's deciding probe to the last table.
    decided: Vec<f64>,
    /// From the last answer before any table changed to the last table.
    answered: Vec<f64>,
    /// From the first table to the last.
    tables: Vec<f64>,
    /// From the change itself to the last table.
    whole: Vec<f64>,
    /// Changes that some table never showed.
    missed: u64,
}

pub(super) fn flip(
    lab: &mut Lab,
    name: &str,
    pick: &Pick,
    how: Failure,
    within: Span,
    times: usize,
    and_back: bool,
) -> Result<()> {
    let (mut down, mut up) = (Spread::default(), Spread::default());
    let mut counted = 0;
    for time in 0..times {
        let origins = lab.pick_origins(pick);
        let clean = change(lab, &origins, Some(how), within, &mut down)?;
        let back = and_back || time + 1 < times;
        let clean_back = if back {
            change(lab, &origins, None, within, &mut up)?
        } else {
            true
        };
        counted += u64::from(clean && clean_back);
    }
    lab.void |= counted == 0;
    lab.metric(name, "events", counted as f64);
    tell(lab, &format!("{name}.down"), &down);
    if !up.whole.is_empty() || up.missed > 0 {
        tell(lab, &format!("{name}.up"), &up);
    }
    Ok(())
}

pub(super) fn heal(lab: &mut Lab, name: &str, within: Span) -> Result<()> {
    let failing = lab.origins.failing();
    let mut up = Spread::default();
    change(lab, &failing, None, within, &mut up)?;
    tell(lab, name, &up);
    Ok(())
}

/// Changes origins and waits until all tables show it. Says whether the machine
/// ran on meanwhile; what was seen while it stood still is not taken down.
fn change(
    lab: &mut Lab,
    origins: &[usize],
    how: Option<Failure>,
    within: Span,
    spread: &mut Spread,
) -> Result<bool> {
    let to = if how.is_some() {
        TableVerdict::Down
    } else {
        TableVerdict::Up
    };
    let mut truth = Truth {
        configured: true,
        good: how.is_none(),
        settled: false,
    };
    {
        let mut board = lab.observer.board();
        board.set_truth(origins.iter().copied(), truth);
        board.await_change(origins, to);
    }
    let begun = clock::now();
    let at = match how {
        Some(how) => lab.origins.fail(origins, how)?,
        None => lab.origins.heal(origins)?,
    };
    let shown = lab.wait(within.0, |lab| {
        let shown = lab.observer.board().all_shown();
        Ok(if shown { Wait::Done(()) } else { Wait::On })
    })?;
    lab.let_the_log_catch_up()?;
    let span = Stretch {
        from: begun,
        to: clock::now(),
    };
    let word = if how.is_some() { "bad" } else { "good" };
    match shown {
        Some(()) => {
            let took = clock::seconds(clock::now() - at);
            lab.say(format!(
                "{} origins turned {word}: in all tables within {took:.2} s",
                origins.len()
            ));
        }
        None => {
            let state = lab.state();
            lab.say(format!(
                "{} origins turned {word}: some table misses it. {state}",
                origins.len()
            ));
        }
    }
    if shown.is_some() {
        truth.settled = true;
        lab.observer
            .board()
            .set_truth(origins.iter().copied(), truth);
    }
    let void = lab.voids(span);
    if void {
        lab.say("the machine stood still meanwhile: this one does not count");
    } else {
        take_down(lab, at, how.is_some(), spread);
    }
    lab.acted = at;
    // Nothing is waited for any more.
    lab.observer.board().await_change(&[], to);
    Ok(!void)
}

fn take_down(lab: &Lab, at: Us, bad: bool, spread: &mut Spread) {
    let log = lab.log();
    let pop = &lab.scenario.pop;
    let count = if bad { pop.fall } else { pop.rise };
    let ms = |from: Us, to: Us| to.saturating_sub(from) as f64 / 1_000.0;
    let board = lab.observer.board();
    for awaited in &board.awaited {
        if awaited.missing > 0 {
            spread.missed += 1;
            continue;
        }
        let seen = awaited.seen.iter().flatten().copied();
        let (Some(first), Some(last)) = (seen.clone().min(), seen.max()) else {
            continue;
        };
        spread.whole.push(ms(at, last));
        spread.tables.push(ms(first, last));
        if let Some(decided) = log.deciding(awaited.origin, at, count, bad) {
            spread.decided.push(ms(decided, last));
        }
        // The log's times are whole milliseconds, cut off.
        let before = Stretch {
            from: at.saturating_sub(1_000),
            to: first,
        };
        if let Some(answered) = log.last_answer(awaited.origin, before) {
            spread.answered.push(ms(answered, last));
        }
    }
}

fn tell(lab: &mut Lab, name: &str, spread: &Spread) {
    lab.metric(name, "missed", spread.missed as f64);
    lab.sample(name, "from_decision_ms", &spread.decided);
    lab.sample(name, "from_answer_ms", &spread.answered);
    lab.sample(name, "between_tables_ms", &spread.tables);
    lab.sample(name, "from_change_ms", &spread.whole);
}
