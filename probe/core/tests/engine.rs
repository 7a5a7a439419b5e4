//! The engine in virtual time: schedule, health, truthfulness, reports, slots.

mod world;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use watchfire_probe_core::engine::{Action, Event, Inherited, Report, ReportKind};
use watchfire_probe_core::limits::ASKS;
use watchfire_probe_core::rate::Caps;
use watchfire_probe_core::{CheckSpec, HealthRule, Kind, Outcome};
use watchfire_wire::message::replica::Answer;
use watchfire_wire::{First, Reason, Unmeasured, Verdict};
use world::{End, Net, OK, SECOND, World, http, tcp};

#[test]
fn one_probe_per_check_and_interval_evenly_spread() {
    let mut world = World::new(512);
    for n in 0..2_000 {
        world.start(&http(n), None);
    }
    world.run(SECOND * 10);
    assert!(
        (19_990..=20_010).contains(&world.starts.len()),
        "{}",
        world.starts.len()
    );
    let began = world.starts[0].0;
    let mut buckets = [0_u32; 100];
    for start in &world.starts {
        buckets[((start.0 - began) / 100_000).min(99) as usize] += 1;
    }
    let mean = world.starts.len() as u32 / 100;
    assert!(
        buckets[..99].iter().all(|&count| count * 10 <= mean * 13),
        "{buckets:?}"
    );
    let stats = world.engine.stats();
    assert_eq!(
        (stats.skipped, stats.not_measured(), stats.failed()),
        (0, 0, 0)
    );
    assert!(
        stats.lateness_us.max() <= 1_010,
        "{}",
        stats.lateness_us.max()
    );
}

/// A thread with little to do is woken for a dozen probes at once: 120 checks of a
/// second are started at ten instants of it, each check once, none late.
#[test]
fn few_checks_start_together() {
    let mut world = World::new(512);
    for n in 0..120 {
        world.start(&http(n), None);
    }
    world.run(SECOND * 10);
    let mut instants: Vec<u64> = world.starts.iter().map(|start| start.0 / 1_000).collect();
    instants.dedup();
    assert!((99..=101).contains(&instants.len()), "{}", instants.len());
    assert!((1_190..=1_210).contains(&world.starts.len()));
    let stats = world.engine.stats();
    assert_eq!((stats.skipped, stats.failed()), (0, 0));
    assert!(stats.lateness_us.max() <= 1_010);
    // As they go, so does the grid: who is left is moved by less than a tenth of a
    // second, and misses nothing.
    let started = world.starts.len();
    for n in 60..120 {
        world.engine.stop(http(n).id());
    }
    world.run(SECOND * 10);
    assert!((598..=602).contains(&(world.starts.len() - started)));
}

#[test]
fn verdicts_follow_rise_and_fall_and_only_news_is_reported() {
    let mut world = World::new(16);
    world.start(&tcp(1), None);
    world.run(SECOND * 5);
    // The first measured outcome, and the rise.
    assert_eq!(world.verdicts(), [Verdict::Unknown, Verdict::Up]);
    world.net = Net::Refuses;
    world.run(SECOND * 10);
    // The first outcome that contradicts a verdict is news too.
    assert_eq!(world.verdicts()[2..], [Verdict::Up, Verdict::Down]);
    world.net = Net::Answers;
    world.run(SECOND * 10);
    assert_eq!(world.verdicts()[4..], [Verdict::Down, Verdict::Up]);
    assert_eq!(world.engine.slots_in_use(), 0);
}

#[test]
fn doubt_is_settled_at_the_fast_interval() {
    let mut world = World::new(16);
    let spec = CheckSpec {
        timeout: Duration::from_millis(100),
        fast_interval: Some(Duration::from_millis(100)),
        down_interval: Some(SECOND * 5),
        ..tcp(1)
    };
    world.start(
        &spec,
        Some(Inherited {
            verdict: Verdict::Up,
            contrary: 0,
        }),
    );
    world.run(SECOND * 5);
    assert!(
        (4..=6).contains(&world.starts.len()),
        "{}",
        world.starts.len()
    );
    world.net = Net::Refuses;
    let before = world.starts.len();
    world.run(SECOND + Duration::from_millis(300));
    assert_eq!(world.verdicts().last(), Some(&Verdict::Down));
    assert_eq!(world.starts.len() - before, 3);
    world.run(SECOND * 20);
    let slow = world.starts.len() - before - 3;
    assert!((4..=5).contains(&slow), "{slow}");
}

#[test]
fn a_silent_origin_times_out_and_an_attentive_prober_says_so() {
    let mut world = World::new(16);
    world.net = Net::Hangs;
    world.start(&http(1), None);
    world.start(&tcp(2), None);
    world.run(SECOND * 4);
    let stats = world.engine.stats();
    assert!(stats.reason(Reason::FirstByteTimeout) >= 3);
    assert!(stats.reason(Reason::ConnectTimeout) >= 3);
    assert_eq!(stats.not_measured(), 0);
    assert_eq!(
        world
            .verdicts()
            .iter()
            .filter(|&&verdict| verdict == Verdict::Down)
            .count(),
        2
    );
    assert!(world.engine.slots_in_use() <= 2);
}

#[test]
fn what_came_while_we_were_stopped_is_no_timeout() {
    for http_check in [false, true] {
        let mut world = World::new(64);
        for n in 0..50 {
            let spec = if http_check { http(n) } else { tcp(n) };
            world.start(
                &spec,
                Some(Inherited {
                    verdict: Verdict::Up,
                    contrary: 2,
                }),
            );
        }
        // One fail is enough to turn each: a stop must not be that one.
        for _ in 0..20 {
            world.run(Duration::from_millis(137));
            world.stall(SECOND * 3);
        }
        world.run(SECOND * 2);
        let stats = world.engine.stats();
        assert_eq!(stats.failed(), 0);
        assert!(stats.skipped > 0);
        assert_eq!(stats.transitions, 0);
        assert_eq!(
            world
                .verdicts()
                .iter()
                .filter(|&&verdict| verdict == Verdict::Down)
                .count(),
            0
        );
    }
}

#[test]
fn nothing_bursts_after_a_stall() {
    let mut world = World::new(4_096);
    for n in 0..1_000 {
        world.start(&tcp(n), None);
    }
    world.run(SECOND * 2);
    world.starts.clear();
    world.stall(SECOND * 3);
    let at_once = world.starts.len();
    assert!(at_once < 600, "{at_once} of 1000 at once");
    world.run(SECOND * 2);
    assert!(world.starts.len() < 2_600, "{}", world.starts.len());
}

#[test]
fn silence_during_a_stall_is_asked_again_before_it_counts() {
    let mut world = World::new(16);
    world.net = Net::Hangs;
    let spec = http(1);
    world.start(
        &spec,
        Some(Inherited {
            verdict: Verdict::Up,
            contrary: 2,
        }),
    );
    while world.starts.is_empty() {
        world.run(Duration::from_millis(1));
    }
    world.run(Duration::from_millis(100));
    // Stopped over the deadline, but not for long: the time is given again.
    world.stall(Duration::from_millis(450));
    assert_eq!(world.engine.stats().failed(), 0);
    world.run(Duration::from_millis(470));
    let stats = world.engine.stats();
    assert_eq!((stats.failed(), stats.not_measured()), (1, 0));
}

/// A probe is wanted, and the thread stalls before the operation reaches the
/// kernel: the origin has its whole timeout from then on, and no more.
#[test]
fn a_stall_before_the_submission_is_given_back_to_the_origin() {
    for http_check in [false, true] {
        for stall in [40, 450].map(Duration::from_millis) {
            for answers in [true, false] {
                let timeout = stall + Duration::from_millis(50);
                let (mut world, rtt) = (World::new(16), Duration::from_millis(80));
                let plain = if http_check { http(1) } else { tcp(1) };
                let timeout = timeout.max(rtt);
                world.start(&CheckSpec { timeout, ..plain }, None);
                // Up to the turn that wants the operation in question: the
                // open of a half-open check, the exchange of another.
                let (slot, wanted) = loop {
                    world.now += Duration::from_millis(1);
                    world.engine.begin_turn(0);
                    world.engine.advance(world.now);
                    let mut actions = Vec::new();
                    world.engine.take_actions(&mut actions);
                    match actions.first() {
                        Some(&Action::Open(slot)) if http_check => {
                            world.engine.begin_turn(0);
                            let (now, event) = (world.now, Event::Connected);
                            world.engine.on_event(now, slot, event);
                            world.engine.advance(now);
                            world.engine.take_actions(&mut actions);
                            assert_eq!(actions, [Action::Exchange(slot)]);
                            break (slot, End::Answer(OK));
                        }
                        Some(&Action::Open(slot)) => break (slot, End::Connected),
                        _ => {}
                    }
                };
                world.now += stall;
                if answers {
                    world.later(slot, rtt, wanted);
                }
                world.turn(stall);
                world.run(timeout - Duration::from_millis(2));
                let stats = world.engine.stats();
                assert_eq!(stats.failed(), 0, "{stall:?}: {:?}", stats.by_reason);
                assert_eq!(stats.passed(), u64::from(answers), "{stall:?}");
                world.run(Duration::from_millis(4));
                let stats = world.engine.stats();
                assert_eq!(stats.failed(), u64::from(!answers), "{stall:?}");
                assert_eq!(stats.not_measured(), 0, "{:?}", stats.by_unmeasured);
            }
        }
    }
}

/// Being busy in every turn is no stall: an origin that hangs meanwhile is
/// found at its timeout.
#[test]
fn a_busy_thread_still_finds_an_origin_that_hangs() {
    let mut world = World::new(16);
    world.net = Net::Hangs;
    let timeout = Duration::from_millis(500);
    for n in 0..4 {
        world.start(&CheckSpec { timeout, ..tcp(n) }, None);
    }
    for _ in 0..2 * SECOND.as_millis() / 3 {
        world.stall(Duration::from_millis(3));
    }
    let stats = world.engine.stats();
    assert!(stats.reason(Reason::ConnectTimeout) >= 4);
    assert_eq!(stats.not_measured(), 0, "{:?}", stats.by_unmeasured);
}

/// An event and the deadline share one late turn: its time is given once.
#[test]
fn a_late_turn_is_given_back_once() {
    let mut world = World::new(16);
    world.net = Net::Hangs;
    let timeout = Duration::from_millis(500);
    world.start(&CheckSpec { timeout, ..http(1) }, None);
    while world.starts.is_empty() {
        world.now += Duration::from_millis(1);
        world.turn(Duration::ZERO);
    }
    // Let the connect be found in the very turn that finds the deadline.
    world.now += Duration::from_millis(480);
    world.engine.begin_turn(0);
    world.now += Duration::from_millis(30);
    world.turn(Duration::from_millis(30));
    world.run(Duration::from_millis(25));
    let stats = world.engine.stats();
    assert_eq!(stats.reason(Reason::FirstByteTimeout), 1);
}

#[test]
fn our_own_trouble_is_never_a_fail_and_is_reported_by_name() {
    let mut world = World::new(16);
    world.start(
        &tcp(1),
        Some(Inherited {
            verdict: Verdict::Up,
            contrary: 0,
        }),
    );
    world.run(SECOND * 2);
    world.net = Net::NoFiles;
    world.reports.clear();
    world.run(SECOND * 20);
    let stats = world.engine.stats();
    assert_eq!(stats.failed(), 0);
    assert!(stats.unmeasured(Unmeasured::OutOfFiles) >= 19);
    let in_a_row: Vec<u32> = world
        .reports
        .iter()
        .map(|report| match report.kind {
            ReportKind::Unmeasured {
                reason: Unmeasured::OutOfFiles,
                in_a_row,
            } => in_a_row,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(in_a_row, [1, 2, 3, 4, 5, 6, 7, 8, 16]);
    // Whoever heard of the trouble hears of its end.
    world.net = Net::Answers;
    world.reports.clear();
    world.run(SECOND * 2);
    assert_eq!(world.verdicts(), [Verdict::Up]);
}

#[test]
fn full_slots_make_checks_wait_in_order_and_none_starves() {
    let mut world = World::new(8);
    world.delay = Duration::from_millis(40);
    for n in 0..100 {
        world.start(&http(n), None);
    }
    world.run(SECOND * 20);
    assert!(world.peak <= 8);
    // A probe holds its slot for three delays: 8 slots carry 66 a second.
    let stats = world.engine.stats();
    assert!(stats.started >= 1_200, "{}", stats.started);
    assert!(stats.unmeasured(Unmeasured::InFlightFull) > 0);
    assert_eq!(stats.failed(), 0);
    let up = world.reports.iter().filter_map(|report| match report.kind {
        ReportKind::Measured {
            verdict: Verdict::Up,
            ..
        } => Some(report.check),
        _ => None,
    });
    let up: std::collections::BTreeSet<_> = up.collect();
    assert_eq!(up.len(), 100);
}

#[test]
fn a_cap_refuses_what_is_beyond_it_and_calls_nobody_down() {
    let mut world = World::new(64);
    world.start_capped(Some(Inherited {
        verdict: Verdict::Up,
        contrary: 0,
    }));
    world.run(SECOND * 10);
    assert!(
        (190..=215).contains(&world.starts.len()),
        "{}",
        world.starts.len()
    );
    let stats = world.engine.stats();
    assert!(stats.unmeasured(Unmeasured::RateCapped) >= 750);
    assert_eq!((stats.failed(), stats.transitions), (0, 0));
}

#[test]
fn a_question_is_answered_once_and_beside_the_schedule() {
    let mut world = World::new(16);
    let spec = Arc::new(tcp(1));
    for (ask, net) in [(7, Net::Answers), (8, Net::Refuses), (9, Net::NoFiles)] {
        world.net = net;
        world
            .engine
            .ask(spec.id(), &spec, ask, Caps::default(), world.now);
        world.run(Duration::from_millis(20));
    }
    let answers: Vec<(u64, Answer)> = world
        .reports
        .iter()
        .map(|report| match report.kind {
            ReportKind::Opinion { ask, answer, .. } => (ask, answer),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        answers,
        [(7, Answer::Pass), (8, Answer::Fail), (9, Answer::Silent)]
    );
    assert_eq!((world.starts.len(), world.engine.checks()), (3, 0));
}

#[test]
fn questions_beyond_the_limit_are_answered_with_silence() {
    let mut world = World::new(4);
    world.net = Net::Hangs;
    let spec = Arc::new(tcp(1));
    for ask in 0..ASKS as u64 + 5 {
        world
            .engine
            .ask(spec.id(), &spec, ask, Caps::default(), world.now);
    }
    let silent: Vec<Report> = std::iter::from_fn(|| world.engine.poll_report()).collect();
    assert_eq!(silent.len(), 5);
    assert!(silent.iter().all(|report| matches!(
        report.kind,
        ReportKind::Opinion {
            outcome: Outcome::NotMeasured(Unmeasured::InFlightFull),
            ..
        }
    )));
}

#[test]
fn a_new_generation_goes_on_and_reports_under_its_own_number() {
    let mut world = World::new(16);
    let spec = Arc::new(tcp(1));
    let id = world.start(&spec, None);
    world.run(SECOND * 3);
    world.reports.clear();
    world
        .engine
        .start(id, &spec, 2, None, First::PHASE, Caps::default(), world.now)
        .unwrap();
    world.run(SECOND * 3);
    assert_eq!(world.reports.len(), 1);
    assert_eq!(world.reports[0].generation, 2);
    assert_eq!(world.verdicts(), [Verdict::Up]);
}

#[test]
fn a_taker_whose_phase_has_passed_probes_when_told() {
    let mut world = World::new(16);
    let spec = Arc::new(tcp(1));
    let first = world.now + Duration::from_millis(37);
    world
        .engine
        .start(
            spec.id(),
            &spec,
            1,
            None,
            First::At(first),
            Caps::default(),
            world.now,
        )
        .unwrap();
    world.run(Duration::from_millis(50));
    assert_eq!(world.starts.len(), 1);
    assert!(world.starts[0].since(first) <= Duration::from_millis(1));
    // From then on it keeps to its phase.
    world.run(SECOND * 4);
    let gaps: Vec<u64> = world
        .starts
        .windows(2)
        .map(|pair| pair[1].0 - pair[0].0)
        .collect();
    assert!((125_000..=1_126_000).contains(&gaps[0]), "{gaps:?}");
    assert!(
        gaps[1..].iter().all(|gap| gap.abs_diff(1_000_000) <= 1_000),
        "{gaps:?}"
    );
}

#[test]
fn a_kept_connection_serves_the_next_probe() {
    let mut world = World::new(16);
    let mut spec = http(1);
    if let Kind::Http(http) = &mut spec.kind {
        http.reuse = true;
    }
    world.start(&spec, None);
    world.run(SECOND * 10);
    assert_eq!(world.starts.len(), 1);
    assert!(world.engine.stats().passed() >= 9);
    assert_eq!(world.engine.slots_in_use(), 1);
    // The origin closes it between two probes: not a fail, a new connection.
    world.net = Net::Resets;
    while world.engine.stats().reopened == 0 {
        world.run(Duration::from_micros(100));
    }
    world.net = Net::Answers;
    world.run(SECOND * 2);
    let stats = world.engine.stats();
    assert_eq!((stats.reopened, stats.failed()), (1, 0));
    world.engine.stop(spec.id());
    world.run(SECOND);
    assert_eq!(world.engine.slots_in_use(), 0);
}

/// Anything that can happen to an engine from outside.
#[derive(Clone, Debug)]
enum Deed {
    Start(u16, bool),
    Stop(u16),
    Ask(u16),
    Net(Net),
    Run(u64),
    Stall(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    let net = prop_oneof![
        Just(Net::Answers),
        Just(Net::Refuses),
        Just(Net::Hangs),
        Just(Net::NoFiles),
        Just(Net::Resets)
    ];
    prop_oneof![
        (0_u16..20, any::<bool>()).prop_map(|(n, reuse)| Deed::Start(n, reuse)),
        (0_u16..20).prop_map(Deed::Stop),
        (0_u16..20).prop_map(Deed::Ask),
        net.prop_map(Deed::Net),
        (1_u64..2_000).prop_map(Deed::Run),
        (1_u64..4_000).prop_map(Deed::Stall),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_no_slot_and_no_question_is_lost(
        deeds in proptest::collection::vec(deed(), 1..40)
    ) {
        let mut world = World::new(6);
        let spec = |n: u16, reuse: bool| {
            let mut spec = if n.is_multiple_of(2) { tcp(n) } else { http(n) };
            spec.rule = HealthRule::RiseFall { rise: 1, fall: 1 };
            if let Kind::Http(http) = &mut spec.kind {
                http.reuse = reuse;
            }
            spec
        };
        let mut asked = 0_u64;
        for deed in deeds {
            match deed {
                Deed::Start(n, reuse) => { world.start(&spec(n, reuse), None); }
                Deed::Stop(n) => {
                    world.engine.stop(spec(n, false).id());
                    world.engine.stop(spec(n, true).id());
                }
                Deed::Ask(n) => {
                    let spec = Arc::new(spec(n, false));
                    world.engine.ask(spec.id(), &spec, asked, Caps::default(), world.now);
                    asked += 1;
                }
                Deed::Net(net) => world.net = net,
                Deed::Run(ms) => world.run(Duration::from_millis(ms)),
                Deed::Stall(ms) => world.stall(Duration::from_millis(ms)),
            }
            prop_assert!(world.engine.slots_in_use() <= 6);
        }
        for n in 0..20 {
            world.engine.stop(spec(n, false).id());
            world.engine.stop(spec(n, true).id());
        }
        world.run(SECOND * 30);
        prop_assert_eq!(world.engine.slots_in_use(), 0);
        prop_assert_eq!(world.engine.checks(), 0);
        prop_assert_eq!(world.engine.next_timeout(), None);
        let answered =
            world.reports.iter().filter(|report| matches!(report.kind, ReportKind::Opinion { .. }));
        prop_assert_eq!(answered.count() as u64, asked);
        let stats = world.engine.stats();
        prop_assert_eq!(stats.waiting, 0);
        // Each probe that was started has at most one outcome.
        let outcomes = stats.measured() + stats.not_measured();
        prop_assert!(stats.measured() <= stats.started && outcomes >= stats.measured());
    }
}

#[test]
fn who_remembers_probes_is_told_of_each_and_of_what_came_when_it_turned() {
    let mut world = World::new(16);
    world.engine.tell_of_probes();
    let id = world.start(&http(1), None);
    world.run(SECOND * 5);
    for net in [Net::Expires, Net::Answers] {
        world.net = net;
        world.run(SECOND * 5);
    }
    let mut told = Vec::new();
    world.engine.take_probed(&mut told);
    assert_eq!(told.len(), world.starts.len());
    assert!(
        told.iter()
            .all(|it| it.check == id && it.phases.total_us > 0)
    );
    let turns: Vec<_> = told.iter().filter_map(|it| it.turned.as_ref()).collect();
    let to: Vec<_> = turns.iter().map(|it| it.to).collect();
    assert_eq!(to, [Verdict::Down, Verdict::Up], "the first Up is no news");
    assert!(turns[0].answer.starts_with("HTTP/1.1 408 "), "{turns:?}");
    assert_eq!(turns[1].answer, "HTTP/1.1 200 OK\nContent-Length: 2\n");
    world.engine.take_probed(&mut told);
    assert_eq!(told.len(), world.starts.len(), "each is told once");

    // A question is nobody's history, and what was never started is one's.
    let spec = Arc::new(http(2));
    let now = world.now;
    world.engine.ask(spec.id(), &spec, 7, Caps::default(), now);
    world.engine.stop(id);
    world.run(SECOND);
    let mut more = Vec::new();
    world.engine.take_probed(&mut more);
    assert!(more.iter().all(|it| it.check == id), "{more:?}");
}
