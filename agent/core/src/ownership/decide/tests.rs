//! The rules, row by row.

use super::*;

const NOW: Time = Time::from_millis(100_000);
const LONG_AGO: Time = Time::from_millis(1_000);
const PATIENCE: Duration = Duration::from_millis(800);

/// Rank 5 of a check that somebody above is at: nothing to do.
fn facts() -> Facts {
    Facts {
        now: NOW,
        ready: true,
        eligible: true,
        healthy: true,
        late: false,
        place: RANKS_WITHOUT_EVIDENCE,
        place_at: Time::NEVER,
        given_up: false,
        evidence: OTHER,
        told: false,
        follows: None,
        cut_off: false,
        settled_at: Time::ZERO,
        lead: Duration::ZERO,
        patience: PATIENCE,
        afforded_at: NOW,
        start_afforded_at: NOW,
        interval: Duration::from_secs(5),
        bugs: Mutations::NONE,
    }
}

const OTHER: Evidence = Evidence::Other {
    above: true,
    suspected: None,
};
const BELOW: Evidence = Evidence::Other {
    above: false,
    suspected: None,
};
const SUSPECT: Evidence = Evidence::Other {
    above: true,
    suspected: Some(LONG_AGO),
};

fn standby() -> Role {
    Role::Standby(Standby::default())
}

fn lost(at: Time) -> Role {
    Role::Standby(Standby {
        lost_at: Some(at),
        first_since: None,
    })
}

fn first(at: Time) -> Role {
    Role::Standby(Standby {
        lost_at: None,
        first_since: Some(at),
    })
}

fn probing(basis: Basis, paid_until: Time) -> Role {
    Role::Probing(Probing::new(basis, paid_until, Time::NEVER))
}

/// What a decision comes to, for the table.
#[derive(Debug, PartialEq)]
enum Is {
    Rest,
    RestUntil(Time),
    Start(Basis),
    Overlap,
    GoOn(Basis),
    Pay(Basis),
    Stop,
}

fn is(decision: Decision) -> Is {
    match decision {
        Decision::Rest { until, .. } if until == Time::NEVER => Is::Rest,
        Decision::Rest { until, .. } => Is::RestUntil(until),
        Decision::Start { overlap: true, .. } => Is::Overlap,
        Decision::Start { basis, .. } => Is::Start(basis),
        Decision::GoOn {
            basis, pays: true, ..
        } => Is::Pay(basis),
        Decision::GoOn { basis, .. } => Is::GoOn(basis),
        Decision::Stop => Is::Stop,
    }
}

#[test]
fn the_rules_row_by_row() {
    use Basis::{Backup, Owner, Shadow};
    let config = OwnershipConfig {
        shadow_after: Duration::from_millis(200),
        ..OwnershipConfig::default()
    };
    let ago = |ms: u64| Time::from_millis(100_000 - ms);
    let soon = |ms: u64| Time::from_millis(100_000 + ms);
    let none = |place| Facts {
        evidence: Evidence::None,
        place,
        ..facts()
    };
    let weak = |place| Facts {
        evidence: Evidence::Weak,
        place,
        ..facts()
    };
    let mine = |place| Facts {
        evidence: Evidence::Mine,
        place,
        ..facts()
    };
    let suspect = |place, follows: bool| Facts {
        evidence: SUSPECT,
        place,
        follows: follows.then_some(0),
        ..facts()
    };
    let suspect_since = |at| Facts {
        evidence: Evidence::Other {
            above: true,
            suspected: Some(at),
        },
        ..suspect(1, true)
    };
    let first_of = |evidence| Facts {
        evidence,
        place: 0,
        ..facts()
    };
    let unsettled = |ms: u64| Facts {
        settled_at: soon(ms),
        ..first_of(BELOW)
    };
    let poor = |facts| Facts {
        afforded_at: soon(400),
        start_afforded_at: soon(400),
        ..facts
    };
    let late = |facts| Facts {
        late: true,
        ..facts
    };
    let ineligible = |facts| Facts {
        eligible: false,
        ..facts
    };
    let rows: &[(&str, Facts, Role, Is)] = &[
        // Whoever takes no part does nothing.
        (
            "not ready",
            Facts {
                ready: false,
                ..none(0)
            },
            standby(),
            Is::Rest,
        ),
        ("not eligible", ineligible(none(0)), standby(), Is::Rest),
        // Without evidence.
        (
            "the first starts at once",
            none(0),
            standby(),
            Is::Start(Owner),
        ),
        (
            "even when it is late",
            late(none(0)),
            standby(),
            Is::Start(Owner),
        ),
        (
            "the second waits",
            none(1),
            standby(),
            Is::RestUntil(soon(800)),
        ),
        (
            "the second has waited",
            none(1),
            lost(ago(800)),
            Is::Start(Backup),
        ),
        (
            "the third waits longer",
            none(2),
            lost(ago(800)),
            Is::RestUntil(soon(800)),
        ),
        (
            "the third has waited",
            none(2),
            lost(ago(1_600)),
            Is::Start(Backup),
        ),
        (
            "not if it is late",
            late(none(1)),
            lost(ago(800)),
            Is::RestUntil(soon(200)),
        ),
        (
            "not if it cannot afford it",
            poor(none(1)),
            lost(ago(800)),
            Is::RestUntil(soon(400)),
        ),
        ("the fourth never starts", none(3), lost(LONG_AGO), Is::Rest),
        (
            "the first may take its time",
            Facts {
                lead: Duration::from_secs(5),
                ..none(1)
            },
            lost(ago(800)),
            Is::RestUntil(soon(5_000)),
        ),
        (
            "more may be known before that",
            Facts {
                place_at: soon(100),
                ..none(1)
            },
            standby(),
            Is::RestUntil(soon(100)),
        ),
        // Somebody is at it.
        ("somebody is at it", facts(), lost(LONG_AGO), Is::Rest),
        (
            "who becomes the first waits",
            first_of(BELOW),
            standby(),
            Is::RestUntil(soon(1_000)),
        ),
        (
            "and takes over",
            first_of(BELOW),
            first(ago(1_000)),
            Is::Overlap,
        ),
        (
            "but not while members come",
            unsettled(30_000),
            first(ago(10_000)),
            Is::RestUntil(soon(30_000)),
        ),
        (
            "though they may not come for ever",
            unsettled(300_000),
            first(ago(60_000)),
            Is::Overlap,
        ),
        (
            "who is the first no longer forgets",
            facts(),
            first(LONG_AGO),
            Is::Rest,
        ),
        // Somebody is at it and cannot measure.
        ("the first tries too", weak(0), standby(), Is::Overlap),
        (
            "the second waits for it",
            weak(1),
            standby(),
            Is::RestUntil(soon(800)),
        ),
        ("and tries", weak(1), lost(ago(800)), Is::Start(Backup)),
        ("the fourth does not", weak(3), lost(LONG_AGO), Is::Rest),
        // The owner is suspected.
        (
            "the next one shadows",
            suspect(1, true),
            standby(),
            Is::Start(Shadow),
        ),
        (
            "after a while",
            suspect_since(ago(150)),
            standby(),
            Is::RestUntil(soon(50)),
        ),
        (
            "not if it is late",
            late(suspect(1, true)),
            standby(),
            Is::RestUntil(soon(200)),
        ),
        (
            "not if it cannot afford it",
            poor(suspect(1, true)),
            standby(),
            Is::RestUntil(soon(400)),
        ),
        ("only the next one", suspect(2, false), standby(), Is::Rest),
        (
            "not past three suspects",
            suspect(3, true),
            standby(),
            Is::Rest,
        ),
        // Probing: when to stop.
        (
            "ill",
            Facts {
                healthy: false,
                ..mine(0)
            },
            probing(Owner, NOW),
            Is::Stop,
        ),
        ("above is at it", facts(), probing(Owner, NOW), Is::Stop),
        (
            "below is at it",
            first_of(BELOW),
            probing(Owner, NOW),
            Is::GoOn(Owner),
        ),
        (
            "somebody is at it as this one drains",
            ineligible(Facts {
                evidence: BELOW,
                ..facts()
            }),
            probing(Owner, NOW),
            Is::Stop,
        ),
        (
            "nobody is at it as this one drains",
            ineligible(none(3)),
            probing(Owner, NOW),
            Is::GoOn(Owner),
        ),
        (
            "a weak word stops nobody",
            weak(1),
            probing(Backup, soon(1)),
            Is::GoOn(Backup),
        ),
        (
            "three others could",
            none(3),
            probing(Owner, soon(1)),
            Is::Stop,
        ),
        (
            "three others could, but they may have come only just now",
            Facts {
                settled_at: soon(1),
                ..none(3)
            },
            probing(Owner, NOW),
            Is::Pay(Backup),
        ),
        (
            "three others could, and this one's word stands",
            mine(3),
            probing(Owner, NOW),
            Is::GoOn(Owner),
        ),
        // Probing: for which reason, and who pays.
        (
            "the first owns",
            none(0),
            probing(Backup, NOW),
            Is::GoOn(Owner),
        ),
        (
            "a shadow owns after a death",
            none(0),
            probing(Shadow, NOW),
            Is::GoOn(Owner),
        ),
        (
            "a shadow pays",
            suspect(1, true),
            probing(Shadow, NOW),
            Is::Pay(Shadow),
        ),
        (
            "a backup pays",
            none(1),
            probing(Backup, NOW),
            Is::Pay(Backup),
        ),
        (
            "as long as nobody has fetched its word",
            mine(1),
            probing(Backup, NOW),
            Is::Pay(Backup),
        ),
        ("or stops", poor(mine(1)), probing(Backup, NOW), Is::Stop),
        (
            "and owns it then",
            Facts {
                told: true,
                ..poor(mine(1))
            },
            probing(Backup, NOW),
            Is::GoOn(Owner),
        ),
        (
            "what is paid is paid",
            poor(none(1)),
            probing(Backup, soon(1)),
            Is::GoOn(Backup),
        ),
        (
            "who is the first no longer pays",
            none(1),
            probing(Owner, NOW),
            Is::Pay(Backup),
        ),
        (
            "unless its word stands",
            poor(mine(1)),
            probing(Owner, NOW),
            Is::GoOn(Owner),
        ),
    ];
    for (name, facts, role, expected) in rows {
        assert_eq!(
            is(decide(facts, role, &config)),
            *expected,
            "{name}: {facts:?} {role:?}"
        );
    }
}

#[test]
fn since_when_is_remembered_and_forgotten() {
    let config = OwnershipConfig::default();
    let remembered = |facts: &Facts, role: &Role| match decide(facts, role, &config) {
        Decision::Rest { standby, .. } => standby,
        other => panic!("{other:?}"),
    };
    let mut facts = Facts {
        evidence: Evidence::None,
        ..facts()
    };
    assert_eq!(remembered(&facts, &standby()).lost_at, Some(NOW));
    assert_eq!(remembered(&facts, &lost(LONG_AGO)).lost_at, Some(LONG_AGO));
    facts.evidence = OTHER;
    assert_eq!(remembered(&facts, &lost(LONG_AGO)), Standby::default());
    facts.place = 0;
    assert_eq!(remembered(&facts, &standby()).first_since, Some(NOW));
    facts.place = 1;
    assert_eq!(remembered(&facts, &first(NOW)), Standby::default());
}
