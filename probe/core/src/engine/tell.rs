//! Tells of probes that have ended, for whoever remembers them.

use watchfire_wire::Time;

use super::entry::Flags;
use super::{Engine, Slot};
use crate::health::Transition;
use crate::limits::TRACED_HEARD_BYTES;
use crate::outcome::{Outcome, Phases};
use crate::trace::{Probed, Turned, shown};

impl Engine {
    /// Tells from now on of each probe that has ended: see
    /// [`take_probed`](Self::take_probed).
    pub fn tell_of_probes(&mut self) {
        self.probed.get_or_insert_default();
    }

    /// Moves what it has told of probes to the end of `into`. Whoever had it told
    /// takes it every turn.
    pub fn take_probed(&mut self, into: &mut Vec<Probed>) {
        if let Some(probed) = &mut self.probed {
            into.append(probed);
        }
    }

    /// Tells that a check's probe has come to this. Questions are nobody's history.
    pub(super) fn tell_of(&mut self, index: u32, outcome: Outcome, phases: Phases, now: Time) {
        let entry = &self.entries[index as usize];
        let Some(probed) = &mut self.probed else {
            return;
        };
        if !entry.flags.has(Flags::ONCE) {
            probed.push(Probed {
                place: index,
                check: entry.id,
                at: now,
                outcome,
                phases,
                turned: None,
            });
        }
    }

    /// Tells that the probe that was told of last, on this slot, turned the verdict.
    pub(super) fn tell_of_turn(&mut self, slot: Slot, transition: Transition) {
        if !transition.is_news() {
            return;
        }
        let flight = &mut self.flights[slot as usize];
        let Some(probed) = self.probed.as_mut().and_then(|all| all.last_mut()) else {
            return;
        };
        let fails = matches!(probed.outcome, Outcome::Fail(_));
        let tls = flight.tls.as_ref().filter(|_| fails);
        let kind = &self.entries[flight.check as usize].spec.kind;
        probed.turned = Some(Box::new(Turned {
            to: transition.to,
            answer: shown(&kind.legible(&flight.heard)),
            tls: tls.and_then(|session| session.complaint()),
        }));
    }
}

/// Keeps the beginning of what comes.
pub(super) fn hear(heard: &mut Vec<u8>, bytes: &[u8]) {
    let room = TRACED_HEARD_BYTES.saturating_sub(heard.len());
    heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
}
