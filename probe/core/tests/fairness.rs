//! Fair to origins and among checks: nobody is blamed for what is ours, and
//! nobody waits for ever.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use watchfire_probe_core::engine::ReportKind;
use watchfire_probe_core::{CheckSpec, Kind};
use watchfire_wire::Unmeasured;
use world::{Net, SECOND, World, http};

#[test]
fn under_a_cap_every_check_has_its_turn() {
    let mut world = World::new(64);
    world.start_capped(None);
    world.run(SECOND * 60);
    let measured = world.reports.iter().filter_map(|report| {
        matches!(report.kind, ReportKind::Measured { .. }).then_some(report.check)
    });
    assert_eq!(measured.collect::<BTreeSet<_>>().len(), 100);
}

#[test]
fn an_origin_may_give_up_waiting_on_a_kept_connection() {
    let mut world = World::new(16);
    let mut spec = http(1);
    if let Kind::Http(http) = &mut spec.kind {
        http.reuse = true;
    }
    world.start(&spec, None);
    world.run(SECOND * 3);
    world.net = Net::Expires;
    for _ in 0..20_000 {
        world.run(Duration::from_micros(100));
        if world.engine.stats().reopened > 0 {
            break;
        }
    }
    world.net = Net::Answers;
    world.run(SECOND * 2);
    let stats = world.engine.stats();
    assert_eq!((stats.reopened, stats.failed()), (1, 0));
    // On a connection of its own the same answer is the origin's word.
    world.net = Net::Expires;
    world.run(SECOND * 3);
    assert!(world.engine.stats().failed() > 0);
}

#[test]
fn short_delays_of_ours_add_up() {
    // Whether the connect, handed over at once, was found 4 ms later counts;
    // each time it was our turn that took 1.9 ms.
    let mut world = World::new(16);
    let timeout = Duration::from_millis(10);
    let interval = SECOND;
    world.start(
        &CheckSpec {
            timeout,
            interval,
            ..http(1)
        },
        None,
    );
    world.delay = Duration::from_micros(8_500);
    while world.starts.is_empty() {
        world.now += Duration::from_millis(1);
        world.turn(Duration::ZERO);
    }
    for _ in 0..6 {
        world.now += Duration::from_micros(1_900);
        world.turn(Duration::from_micros(1_900));
    }
    // 11.4 ms have passed, 1.9 of them before the connect was under way.
    let stats = world.engine.stats();
    assert_eq!(stats.failed(), 0);
}

/// 20,000 checks with the longest timeout, of one tenant and to one address that
/// never answers, beside 200 of another tenant.
#[test]
fn long_timeouts_of_one_tenant_cost_the_others_no_probe() {
    let starts = |hostile: bool| {
        let mut world = World::new(8_192);
        world.silent = Some(([203, 0, 113, 9], 80).into());
        for n in 0..200 {
            world.start_for("quiet", &http(n));
        }
        if hostile {
            // Each is in flight for every other interval.
            for n in 0..20_000_u32 {
                let mut spec = CheckSpec::http(([203, 0, 113, 9], 80).into(), &format!("/{n}"));
                (spec.timeout, spec.interval) = (SECOND * 30, SECOND * 30);
                world.start_for("hostile", &spec);
            }
        }
        world.run(SECOND * 45);
        let began = world.now;
        world.starts.clear();
        world.targets.clear();
        world.run(SECOND * 60);
        let quiet = |addr: &std::net::SocketAddr| Some(*addr) != world.silent;
        let count = world.targets.iter().filter(|addr| quiet(addr)).count();
        let late = world.engine.stats().lateness_us.value_at_quantile(0.99);
        assert!(world.now > began && (hostile || late < 2_000), "{late}");
        (
            count,
            world.engine.stats().unmeasured(Unmeasured::InFlightFull),
        )
    };
    let ((calm, none), (beside, crowded)) = (starts(false), starts(true));
    assert_eq!(none, 0);
    assert!(crowded > 0, "the other tenant's trouble is counted");
    assert!(beside.abs_diff(calm) * 100 <= calm, "{beside} of {calm}");
}

/// Without malice: half of one tenant's origins stop answering, and together they
/// want more places than there are.
#[test]
fn a_mass_of_silent_origins_leaves_places_for_those_that_answer() {
    let mut world = World::new(512);
    world.silent = Some(([203, 0, 113, 9], 80).into());
    for n in 0..1_000_u16 {
        world.start_for("one", &http(n));
        let mut spec = CheckSpec::http(([203, 0, 113, 9], 80).into(), &format!("/{n}"));
        (spec.timeout, spec.interval) = (SECOND, SECOND);
        world.start_for("one", &spec);
    }
    world.run(SECOND * 10);
    world.targets.clear();
    world.run(SECOND * 20);
    let answering = world
        .targets
        .iter()
        .filter(|addr| Some(**addr) != world.silent);
    let count = answering.count();
    assert!((19_800..=20_200).contains(&count), "{count}");
}

#[test]
fn a_stopped_check_gives_its_place_back_at_once() {
    let mut world = World::new(4);
    world.net = Net::Hangs;
    let mut spec = http(1);
    (spec.timeout, spec.interval) = (SECOND * 30, SECOND * 30);
    let id = world.start(&spec, None);
    world.run(SECOND * 31);
    assert_eq!(world.engine.slots_in_use(), 1);
    world.engine.stop(id);
    world.run(Duration::from_millis(5));
    assert_eq!(world.engine.slots_in_use(), 0);
}

/// Outcomes of our own making in one tenant's checks alone.
#[test]
fn who_finds_no_place_does_not_make_the_thread_sick() {
    let mut world = World::new(16);
    world.silent = Some(([203, 0, 113, 9], 80).into());
    world.start_for("quiet", &http(1));
    for n in 0..200 {
        let spec = CheckSpec::http(([203, 0, 113, 9], 80).into(), &format!("/{n}"));
        world.start_for("hostile", &spec);
    }
    for _ in 0..10 {
        world.run(SECOND);
        let (ours, outcomes) = world.engine.take_trouble();
        assert_eq!(ours, 0, "of {outcomes}");
    }
    assert!(world.engine.stats().unmeasured(Unmeasured::InFlightFull) > 0);
}
