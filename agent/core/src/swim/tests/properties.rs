//! Rumors in any order, any number of times, lead to the same beliefs.

use core::time::Duration;

use proptest::prelude::*;
use watchfire_wire::frame::{FrameBuf, HEADER_BYTES};
use watchfire_wire::message::swim::{News, Rumor, Swim as Body};
use watchfire_wire::message::{Packet, access, encode};
use watchfire_wire::{Actor, NodeId, Time};

use super::world::{addr_of, profile};
use crate::rng::Rng;
use crate::swim::{Output, State, Swim, SwimConfig};

fn me() -> Actor {
    Actor {
        node: NodeId::of_name("me"),
        epoch: 5,
        boot: 5,
    }
}

fn swim() -> Swim {
    let seeds = Vec::new();
    let rng = Rng::from_seed([1; 32]);
    let me_profile = profile("me", addr_of(0));
    Swim::new(
        SwimConfig::default(),
        me(),
        me_profile,
        seeds,
        Time::from_millis(1),
        rng,
    )
}

fn rumor() -> impl Strategy<Value = Rumor> {
    let names = prop::sample::select(vec!["a", "b", "c", "me"]);
    (names, 1..4_u64, 0..2_u64, 0..4_u32, 0..8_u8).prop_map(
        |(name, epoch, boot, incarnation, kind)| Rumor {
            about: Actor {
                node: NodeId::of_name(name),
                epoch,
                boot,
            },
            incarnation,
            news: match kind {
                0..4 => News::Alive(profile(name, addr_of(1 + name.len()))),
                4 | 5 => News::Suspect {
                    by: NodeId(u64::from(kind)),
                },
                6 => News::Dead { by: NodeId(9) },
                _ => News::Left,
            },
        },
    )
}

fn hear(swim: &mut Swim, now: Time, rumors: &[Rumor]) -> Vec<Output> {
    let mut out = Vec::new();
    for rumors in rumors.chunks(4) {
        let packet = Packet {
            from: Actor {
                node: NodeId(1),
                epoch: 1,
                boot: 1,
            },
            body: watchfire_wire::message::Body::Swim(Body::News),
            rumors: rumors.to_vec(),
        };
        let mut frame = FrameBuf::new();
        encode(&packet, 1_400, &mut frame).expect("small");
        let body = FrameBuf::copied(&frame.as_slice()[HEADER_BYTES..]);
        let read = access(body.as_slice()).expect("our own");
        swim.hear(now, addr_of(9), packet.from, &read.rumors, &mut out);
    }
    out
}

/// A death counts only after its suspicion, by rule; all other news may come in
/// any order.
fn in_any_order() -> impl Strategy<Value = Rumor> {
    rumor().prop_filter("deaths follow suspicions", |rumor| {
        !matches!(rumor.news, News::Dead { .. })
    })
}

/// Lives introduce themselves before anything else is heard of them; then the
/// order of the rest must not matter.
fn introduced(swim: &mut Swim, rumors: &[Rumor]) {
    let mut lives: Vec<Rumor> = Vec::new();
    for rumor in rumors {
        let name = ["a", "b", "c"]
            .into_iter()
            .find(|name| NodeId::of_name(name) == rumor.about.node);
        if let Some(name) = name {
            lives.push(Rumor {
                about: rumor.about,
                incarnation: 0,
                news: News::Alive(profile(name, addr_of(1 + name.len()))),
            });
        }
    }
    lives.sort_by_key(|rumor| (rumor.about.epoch, rumor.about.boot));
    hear(swim, Time::from_millis(2), &lives);
}

fn beliefs(swim: &Swim) -> Vec<(Actor, u32, State)> {
    swim.members()
        .map(|member| {
            // Which incarnation of a life was the last does not matter once it
            // has said goodbye.
            let incarnation = match member.state {
                State::Left => 0,
                _ => member.incarnation,
            };
            (member.actor, incarnation, member.state)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn order_and_repetition_do_not_matter(
        rumors in prop::collection::vec(in_any_order(), 0..24),
        shuffle in any::<[u8; 32]>(),
    ) {
        let mut one = swim();
        let mut two = swim();
        introduced(&mut one, &rumors);
        introduced(&mut two, &rumors);
        hear(&mut one, Time::from_millis(3), &rumors);
        let mut other = rumors.clone();
        other.extend(rumors.iter().take(7).cloned());
        Rng::from_seed(shuffle).shuffle(&mut other);
        hear(&mut two, Time::from_millis(3), &other);
        prop_assert_eq!(beliefs(&one), beliefs(&two));
    }

    #[test]
    fn only_a_suspect_can_die(rumors in prop::collection::vec(rumor(), 0..24)) {
        let mut swim = swim();
        introduced(&mut swim, &rumors);
        let mut suspects = Vec::new();
        for rumor in &rumors {
            for output in hear(&mut swim, Time::from_millis(3), core::slice::from_ref(rumor)) {
                match output {
                    Output::Suspected(actor) => suspects.push(actor),
                    // A later life ends an earlier one, suspected or not.
                    Output::Died(actor) if rumor.about == actor => {
                        prop_assert!(suspects.contains(&actor));
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn its_own_life_cannot_be_talked_away(rumors in prop::collection::vec(rumor(), 0..24)) {
        let mut swim = swim();
        let mut rumors = rumors;
        for rumor in &mut rumors {
            if rumor.about.node == me().node {
                rumor.about = me();
            }
        }
        let out = hear(&mut swim, Time::from_millis(3), &rumors);
        let accused = rumors
            .iter()
            .filter(|rumor| rumor.about == me())
            .filter(|rumor| matches!(rumor.news, News::Suspect { .. } | News::Dead { .. }))
            .map(|rumor| rumor.incarnation)
            .max();
        if let Some(worst) = accused {
            prop_assert!(swim.incarnation() > worst);
        }
        let conflict = out.iter().any(|o| matches!(o, Output::Conflict { .. }));
        prop_assert!(!conflict);
    }

    #[test]
    fn timeouts_always_come_and_always_pass(
        rumors in prop::collection::vec(rumor(), 0..40),
        step_ms in 1..400_u64,
    ) {
        let mut swim = swim();
        let mut now = Time::from_millis(1);
        for chunk in rumors.chunks(3) {
            hear(&mut swim, now, chunk);
            let due = swim.next_timeout();
            prop_assert!(due <= now + Duration::from_secs(10));
            now = due.max(now + Duration::from_millis(step_ms));
            let mut out = Vec::new();
            swim.tick(now, &mut out);
            prop_assert!(swim.next_timeout() > now, "a tick must not leave itself due");
        }
    }
}
