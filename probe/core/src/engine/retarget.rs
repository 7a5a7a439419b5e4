//! A check goes on at another address: its name has moved.

use std::sync::Arc;

use watchfire_wire::CheckId;

use super::entry::Flags;
use super::flight::Stage;
use super::{Action, Engine, NONE};
use crate::check::CheckSpec;
use crate::engine::Pacing;
use crate::rate::Caps;

impl Engine {
    /// Probes a check at the address of `spec` from its next probe on. Its phase, its
    /// verdict and its counts stay; a probe in flight ends where it began; a kept
    /// connection to the old address is closed, and its TLS session is forgotten, for
    /// who answers at the new one may be another. Nothing happens to a check that is
    /// not probed.
    pub fn retarget(&mut self, id: CheckId, spec: &Arc<CheckSpec>, caps: Caps) {
        debug_assert_eq!(spec.id(), id, "only the address is another");
        let Some(&index) = self.index.get(&id) else {
            return;
        };
        let entry = &mut self.entries[index as usize];
        if entry.spec.target == spec.target {
            return;
        }
        let parked = core::mem::replace(&mut entry.parked, NONE);
        if parked != NONE {
            self.unparked(index);
            self.flights[parked as usize].stage = Stage::Ending;
            self.actions.push(Action::Cancel(parked));
        }
        let entry = &mut self.entries[index as usize];
        if entry.tls.take().is_some_and(|tls| tls.remembers()) {
            self.tls_sessions -= 1;
        }
        // Its places are held, and waited for, under the new address.
        let before = entry.destination;
        let addr = spec.target.ip().to_canonical();
        let destination = self.places.enroll(caps.tenant, addr);
        let in_line = entry.flags.has(Flags::WAITING) && self.config.pacing == Pacing::Scheduled;
        if in_line {
            self.places.forgo(before, index);
            let slow = entry.flags.has(Flags::SLOW);
            self.places.wait(destination, slow, index);
        }
        for _ in 0..entry.slots {
            self.places.give(before);
            self.places.take(destination);
        }
        self.places.leave(before);
        entry.destination = destination;
        entry.caps_apply = caps.address.is_some() || caps.prefix.is_some();
        entry.caps = caps;
        entry.spec = Arc::clone(spec);
    }
}
