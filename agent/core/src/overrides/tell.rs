//! Telling others of decisions, in datagrams of bounded size.

use core::time::Duration;
use std::sync::Arc;

use watchfire_wire::limits::BUFFER_ALIGN;
use watchfire_wire::message::overrides::{
    ArchivedDecision, ArchivedOverrides, Decision as Said, Overrides as Body,
};
use watchfire_wire::message::{self};
use watchfire_wire::{NodeId, Time};

use super::decision::Decision;
use super::{Class, Send};
use crate::limits::{HOPS, OVERRIDES_TOLD};
use crate::replica::{Peer, children};
use crate::rng::Rng;

/// Rounds in which news is told: along the tree, and twice more to one random
/// peer, against loss.
const ROUNDS: u8 = 3;

/// From the first round to the second; twice that to the third.
const ECHO: Duration = Duration::from_millis(60);

/// News of more datagrams is told once, and gives way like any news: it is an
/// operator's glob, and what is lost of it digests find.
const FEW: usize = 2;

/// A decision that is still being told.
#[derive(Clone, Debug)]
struct Telling {
    decision: Arc<Decision>,
    names: Vec<Arc<str>>,
    hops: u8,
    round: u8,
    due: Time,
}

/// Decisions that are still being told.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    told: Vec<Telling>,
}

impl News {
    /// These names were learnt of, by news that has travelled so far.
    pub(super) fn learn(
        &mut self,
        now: Time,
        decision: &Arc<Decision>,
        names: Vec<Arc<str>>,
        hops: u8,
    ) {
        if hops < HOPS && self.told.len() < OVERRIDES_TOLD && !names.is_empty() {
            self.told.push(Telling {
                decision: Arc::clone(decision),
                names,
                hops,
                round: 0,
                due: now,
            });
        }
    }

    pub(super) fn next_timeout(&self) -> Time {
        let due = self.told.iter().map(|telling| telling.due);
        due.min().unwrap_or(Time::NEVER)
    }

    /// Tells what is due.
    pub(super) fn flush(
        &mut self,
        now: Time,
        me: NodeId,
        peers: &[Peer],
        datagram_bytes: usize,
        rng: &mut Rng,
        out: &mut Vec<Send>,
    ) {
        if peers.is_empty() {
            // Whoever comes compares digests.
            self.told.clear();
        }
        for telling in &mut self.told {
            if telling.due > now {
                continue;
            }
            let all = [(&telling.decision, telling.names.as_slice())];
            let bodies = pack(all.into_iter(), telling.hops + 1, datagram_bytes);
            let few = bodies.len() <= FEW;
            let mut tell = |peer: usize, class: Class| {
                let to = peers[peer].addr;
                let sends = bodies.iter().cloned();
                out.extend(sends.map(|body| Send { class, to, body }));
            };
            if telling.round == 0 {
                let class = if few { Class::Opinion } else { Class::News };
                for child in children(me, telling.decision.id.by.node, peers) {
                    tell(child, class);
                }
            }
            let class = if few { Class::News } else { Class::Echo };
            tell(rng.below(peers.len()), class);
            telling.due = now + ECHO * (1 << telling.round);
            telling.round += if few { 1 } else { ROUNDS };
        }
        self.told.retain(|telling| telling.round < ROUNDS);
    }
}

/// Decisions, cut into as many datagrams as they need.
pub(super) fn pack<'a>(
    all: impl Iterator<Item = (&'a Arc<Decision>, &'a [Arc<str>])>,
    hops: u8,
    datagram_bytes: usize,
) -> Vec<Body> {
    let fixed = message::PACKET_BYTES + size_of::<ArchivedOverrides>() + 2 * BUFFER_ALIGN;
    let room = datagram_bytes.saturating_sub(fixed);
    let mut bodies = Vec::new();
    let mut decisions: Vec<Said> = Vec::new();
    let mut used = 0;
    for (decision, names) in all {
        let head = head_bytes(decision);
        let mut said = decision.to_wire(Vec::new());
        for name in names {
            let first = said.names.is_empty();
            let more = name_bytes(name) + if first { head } else { 0 };
            if used + more > room && (!first || !decisions.is_empty()) {
                let rest = decision.to_wire(Vec::new());
                let full = core::mem::replace(&mut said, rest);
                decisions.extend((!first).then_some(full));
                let decisions = core::mem::take(&mut decisions);
                bodies.push(Body::Decisions { hops, decisions });
                used = head;
            } else if first {
                used += head;
            }
            used += name_bytes(name);
            said.names.push(name.to_string());
        }
        if !said.names.is_empty() {
            decisions.push(said);
        }
    }
    if !decisions.is_empty() {
        bodies.push(Body::Decisions { hops, decisions });
    }
    bodies
}

fn head_bytes(decision: &Decision) -> usize {
    // Its texts stand before it, and its names after them begin anew.
    size_of::<ArchivedDecision>() + decision.who.len() + decision.why.len() + 2 * BUFFER_ALIGN
}

/// A short string lies in its own pointer, a longer one before it.
const fn name_bytes(name: &str) -> usize {
    let outside = if name.len() > 8 { name.len() } else { 0 };
    size_of::<rkyv::string::ArchivedString>() + outside
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use watchfire_wire::message::overrides::Op;
    use watchfire_wire::message::{Body as AnyBody, Packet};
    use watchfire_wire::{Actor, NodeId};

    use super::super::decision::DecisionId;
    use super::*;
    use crate::gate::{Gate, Keys};
    use crate::rng::Rng;

    fn decision(counter: u64, words: usize) -> Arc<Decision> {
        let by = Actor {
            node: NodeId(1),
            epoch: 2,
            boot: 3,
        };
        Arc::new(Decision {
            id: DecisionId { counter, by },
            op: Op::Down,
            at_ms: 1,
            until_ms: Some(2),
            who: "w".repeat(words / 2).into(),
            why: "y".repeat(words).into(),
        })
    }

    proptest! {
        #[test]
        fn whatever_is_packed_fits_and_is_there_once(
            words in prop::collection::vec(0_usize..=200, 1..6),
            lengths in prop::collection::vec(1_usize..=255, 1..120),
            datagram_bytes in prop::sample::select(vec![1_000, 1_400, 8_900]),
        ) {
            let all: Vec<_> = words
                .iter()
                .zip(1..)
                .map(|(&words, counter)| {
                    let names = lengths.iter().skip(counter).enumerate();
                    let names: Vec<Arc<str>> =
                        names.map(|(n, &length)| format!("{n:0length$}").into()).collect();
                    (decision(counter as u64, words), names)
                })
                .collect();
            let bodies = pack(all.iter().map(|(d, names)| (d, names.as_slice())), 1, datagram_bytes);
            let mut seen = Vec::new();
            for body in bodies {
                let Body::Decisions { decisions, .. } = &body else {
                    panic!("decisions are packed");
                };
                for said in decisions {
                    prop_assert!(!said.names.is_empty());
                    seen.extend(said.names.iter().map(|name| (said.counter, name.clone())));
                }
                let from = Actor { node: NodeId(1), epoch: 2, boot: 3 };
                let packet = Packet { from, body: AnyBody::Overrides(body), rumors: Vec::new() };
                let mut gate = Gate::new(Keys::Insecure, Rng::from_seed([0; 32]));
                prop_assert!(gate.seal(&packet, datagram_bytes).is_ok());
            }
            let expected: Vec<_> = all
                .iter()
                .flat_map(|(d, names)| names.iter().map(|name| (d.id.counter, name.to_string())))
                .collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
