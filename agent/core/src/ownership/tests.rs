//! Duties of one node, driven by hand.

use std::collections::VecDeque;

use watchfire_wire::message::replica::Hold;
use watchfire_wire::{Actor, CheckId, NodeId, Time, Unmeasured, Verdict};

use super::*;
use crate::io::{CheckMeta, Output, Report, ReportKind};
use crate::mutations::Mutations;
use crate::replica::Store;

const TIMEOUT: Duration = Duration::from_millis(500);

struct Bench {
    duties: Duties,
    store: Store,
    out: VecDeque<Output>,
    now: Time,
    late: bool,
}

fn actor(node: u64) -> Actor {
    Actor {
        node: NodeId(node),
        epoch: 1,
        boot: 1,
    }
}

fn view(node: u64, checks: u64) -> View {
    View {
        actor: actor(node),
        living: true,
        suspect: false,
        capacity: 100,
        draining: false,
        healthy: true,
        braked: false,
        checks,
    }
}

fn check(n: u32) -> CheckId {
    CheckId::of_canonical(&n.to_le_bytes())
}

impl Bench {
    /// Node 1 of so many, which all configure these checks.
    fn new(nodes: u64, checks: u32) -> Self {
        let mut bench = Self {
            duties: Duties::new(OwnershipConfig::default(), actor(1), Mutations::NONE),
            store: Store::new(actor(1), Mutations::NONE),
            out: VecDeque::new(),
            now: Time::from_millis(10_000),
            late: false,
        };
        let meta = CheckMeta {
            interval: Duration::from_secs(1),
            timeout: TIMEOUT,
            carried: false,
            network: 0,
            reference: false,
            able: true,
        };
        let all: Vec<_> = (0..checks).map(|n| (check(n), meta)).collect();
        bench.act(|duties, ctx| duties.add(ctx, &all));
        let told = bench.duties.checks_to_tell(bench.now);
        for node in 1..=nodes {
            bench.act(|duties, ctx| duties.set_member(ctx, NodeId(node), Some(view(node, told))));
        }
        bench.pass(Duration::from_secs(1));
        bench.act(Duties::set_ready);
        bench
    }

    fn act(&mut self, act: impl FnOnce(&mut Duties, &mut Ctx<'_>)) {
        let mut ctx = Ctx {
            now: self.now,
            wall_ms: self.now.as_millis(),
            silence: Duration::ZERO,
            load: Load { late: self.late },
            store: &mut self.store,
            out: &mut self.out,
        };
        act(&mut self.duties, &mut ctx);
    }

    /// Lets time pass, with a turn at each moment at which one is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.duties.next_timeout() <= end {
            self.now = self.now.max(self.duties.next_timeout());
            self.act(Duties::tick);
        }
        self.now = end;
    }

    fn tell(&mut self, n: u32, kind: ReportKind) {
        let ix = self.duties.ix(check(n)).expect("it is configured");
        let generation = self.duties.duties[ix as usize].generation;
        let report = Report {
            check: check(n),
            generation,
            kind,
        };
        self.act(|duties, ctx| duties.report(ctx, report));
    }

    fn measured(&mut self, n: u32, verdict: Verdict) {
        self.tell(
            n,
            ReportKind::Measured {
                verdict,
                reason: u8::from(verdict == Verdict::Down),
                contrary: 0,
                latency_us: 1,
            },
        );
    }

    fn word(&self, n: u32) -> Option<(Verdict, Hold)> {
        let slot = self.store.word_of(actor(1), check(n))?;
        Some((slot.value.verdict, slot.hold))
    }
}

#[test]
fn a_dead_ones_word_counts_for_less_than_a_living_ones_measurement() {
    use watchfire_wire::message::replica::{Delta, Slot, Value};
    let mut bench = Bench::new(2, 1);
    bench.measured(0, Verdict::Up);
    let own = bench.store.word_of(actor(1), check(0)).expect("it wrote");
    let lie = Slot {
        seq: 1,
        term: own.term + 1_000,
        value: Value {
            verdict: Verdict::Down,
            ..own.value
        },
        ..own
    };
    let applied = bench.store.apply(&Delta {
        actor: actor(2),
        lo: 0,
        hi: 1,
        trim: 0,
        snapshot: true,
        slots: vec![lie],
    });
    assert_eq!(applied, crate::replica::Applied::New);
    bench.act(|duties, ctx| duties.changed(ctx, &[check(0)]));
    let shown = |bench: &Bench| bench.duties.published(check(0)).map(|it| it.verdict);
    assert_eq!(shown(&bench), Some(Verdict::Down), "while its author lives");
    let told = bench.duties.checks_to_tell(bench.now);
    let dead = View {
        living: false,
        ..view(2, told)
    };
    bench.act(|duties, ctx| duties.set_member(ctx, NodeId(2), Some(dead)));
    bench.act(Duties::look_at_members);
    assert_eq!(shown(&bench), Some(Verdict::Up), "at once, by no probe");
    // With the next outcome it is the winner by its term too.
    bench.measured(0, Verdict::Up);
    let winner = bench.store.winner(check(0)).expect("it is held");
    assert_eq!((winner.actor, winner.slot.term), (actor(1), lie.term + 1));
}

#[test]
fn a_late_node_holds_a_down_back_and_not_for_ever() {
    let mut bench = Bench::new(1, 1);
    bench.measured(0, Verdict::Up);
    assert_eq!(bench.word(0), Some((Verdict::Up, Hold::Live)));
    bench.late = true;
    bench.measured(0, Verdict::Down);
    bench.pass(Duration::from_millis(2_900));
    assert_eq!(bench.word(0), Some((Verdict::Up, Hold::Live)));
    assert_eq!(bench.duties.counters().downs_held, 1);
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.word(0), Some((Verdict::Down, Hold::Live)));
}

#[test]
fn a_late_node_asks_nobody_and_does_when_it_is_late_no_more() {
    let mut bench = Bench::new(6, 40);
    let mine: Vec<u32> = (0..40)
        .filter(|&n| bench.duties.is_probing(check(n)))
        .collect();
    bench.late = true;
    bench.measured(mine[0], Verdict::Up);
    bench.measured(mine[0], Verdict::Down);
    assert!(bench.duties.take_questions().is_empty());
    bench.pass(Duration::from_secs(1));
    bench.late = false;
    bench.measured(mine[0], Verdict::Down);
    assert_eq!(bench.duties.take_questions().len(), 2);
}

#[test]
fn what_was_never_measured_is_given_up_at_once_and_what_was_at_the_third() {
    let mut bench = Bench::new(6, 60);
    let mine: Vec<u32> = (0..60)
        .filter(|&n| bench.duties.is_probing(check(n)))
        .collect();
    let late = |in_a_row| ReportKind::Unmeasured {
        reason: Unmeasured::Late.code(),
        in_a_row,
    };
    bench.tell(mine[0], late(1));
    assert_eq!(
        bench.word(mine[0]),
        Some((Verdict::Unknown, Hold::Declined))
    );
    assert!(!bench.duties.is_probing(check(mine[0])));
    bench.measured(mine[1], Verdict::Up);
    bench.tell(mine[1], late(1));
    bench.tell(mine[1], late(2));
    assert_eq!(bench.word(mine[1]), Some((Verdict::Up, Hold::Live)));
    bench.tell(mine[1], late(3));
    assert_eq!(bench.word(mine[1]), Some((Verdict::Up, Hold::Declined)));
}

#[test]
fn a_late_node_gives_up_little_at_a_time() {
    let mut bench = Bench::new(6, 200);
    let mine: Vec<u32> = (0..200)
        .filter(|&n| bench.duties.is_probing(check(n)))
        .collect();
    for &n in &mine {
        bench.measured(n, Verdict::Up);
    }
    bench.late = true;
    let held = bench.duties.probing();
    for &n in &mine {
        let reason = Unmeasured::Late.code();
        let kind = ReportKind::Unmeasured {
            reason,
            in_a_row: 3,
        };
        bench.tell(n, kind);
    }
    assert_eq!(bench.duties.probing(), held - 1);
    // Nothing is measured from here on, and it is given up at that pace.
    bench.pass(Duration::from_secs(10));
    let left = bench.duties.probing();
    assert!((held - 7..held - 3).contains(&left), "{left} of {held}");
}

#[test]
fn a_node_that_stays_late_gives_checks_away() {
    let mut bench = Bench::new(6, 200);
    let mine: Vec<u32> = (0..200)
        .filter(|&n| bench.duties.is_probing(check(n)))
        .collect();
    for &n in &mine {
        bench.measured(n, Verdict::Up);
    }
    let held = bench.duties.probing();
    bench.late = true;
    bench.act(Duties::tick);
    bench.pass(Duration::from_secs(29));
    assert_eq!(bench.duties.probing(), held);
    bench.pass(Duration::from_secs(11));
    let left = bench.duties.probing();
    assert!((held - 7..held - 3).contains(&left), "{left} of {held}");
    assert!(bench.duties.counters().given_away >= 4);
}

#[test]
fn an_outcome_that_does_not_come_is_one_that_measured_nothing() {
    let mut bench = Bench::new(6, 60);
    let started: Vec<CheckId> = bench.duties.probed().collect();
    assert!(!started.is_empty());
    // The first probe is due within the interval; then the timeout and half a
    // second.
    bench.pass(Duration::from_millis(900));
    assert!(started.iter().all(|&check| bench.duties.is_probing(check)));
    bench.pass(Duration::from_millis(1_200));
    assert!(!started.iter().any(|&check| bench.duties.is_probing(check)));
    assert!(bench.duties.counters().outcomes_overdue as usize >= started.len());
}

#[test]
fn who_goes_is_looked_at_at_once_and_others_together() {
    let mut bench = Bench::new(6, 60);
    let mut gone = view(2, 0);
    gone.living = false;
    let before = bench.duties.probing();
    bench.act(|duties, ctx| duties.set_member(ctx, NodeId(2), Some(gone)));
    assert!(bench.duties.next_timeout() <= bench.now);
    bench.act(Duties::look_at_members);
    assert!(bench.duties.probing() > before);
    for node in 7..20 {
        let told = bench.duties.checks_to_tell(bench.now);
        bench.act(|duties, ctx| duties.set_member(ctx, NodeId(node), Some(view(node, told))));
    }
    bench.act(Duties::look_at_members);
    assert_eq!(bench.duties.members().count(), 6);
    bench.pass(Duration::from_millis(150));
    assert_eq!(bench.duties.members().count(), 19);
}
