//! The `foca` crate as a contestant: its own code, driven in virtual time.

use std::collections::BTreeMap;

use ::foca::{AccumulatingRuntime, Config, Foca, Identity, NoCustomBroadcast, OwnedNotification};
use ::foca::{Member as FocaMember, PostcardCodec, Timer};
use serde::{Deserialize, Serialize};

use super::net::{Effect, Member};
use crate::rng::Rng;

/// A member of foca's cluster: its number, and how often it was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    at: [u8; 6],
    renewed: u16,
}

impl Name {
    fn of(member: usize) -> Self {
        let [a, b, ..] = (member as u32).to_le_bytes();
        Self {
            at: [10, 0, b, a, 0x1f, 0x0a],
            renewed: 0,
        }
    }

    fn member(self) -> usize {
        usize::from(self.at[2]) << 8 | usize::from(self.at[3])
    }
}

impl Identity for Name {
    type Addr = [u8; 6];

    fn renew(&self) -> Option<Self> {
        Some(Self {
            renewed: self.renewed.wrapping_add(1),
            ..*self
        })
    }

    fn addr(&self) -> [u8; 6] {
        self.at
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.renewed > adversary.renewed
    }
}

/// One member.
pub struct FocaPeer {
    foca: Foca<Name, PostcardCodec, Rng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Name>,
    timers: BTreeMap<(u64, u64), Timer<Name>>,
    armed: u64,
}

impl FocaPeer {
    /// Member `me` of `n` that know each other.
    #[must_use]
    pub fn new(me: usize, n: usize, config: Config, mut rng: Rng) -> Self {
        let stagger_us = rng.below(1_000_000);
        let foca = Foca::new(Name::of(me), config, rng, PostcardCodec);
        let runtime = AccumulatingRuntime::default();
        let mut peer = Self {
            foca,
            runtime,
            timers: BTreeMap::new(),
            armed: 0,
        };
        let others = (0..n)
            .filter(|&i| i != me)
            .map(|i| FocaMember::alive(Name::of(i)));
        peer.foca
            .apply_many(others, false, &mut peer.runtime)
            .expect("fresh members can be applied");
        peer.drain(stagger_us, &mut Vec::new());
        peer
    }

    fn drain(&mut self, now_us: u64, out: &mut Vec<Effect<Vec<u8>>>) {
        while let Some((to, bytes)) = self.runtime.to_send() {
            let message = bytes.to_vec();
            out.push(Effect::Send {
                to: to.member(),
                bytes: message.len(),
                message,
            });
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            let due_us = now_us + after.as_micros() as u64;
            self.timers.insert((due_us, self.armed), timer);
            self.armed += 1;
        }
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::MemberUp(who) => out.push(Effect::Alive(who.member())),
                OwnedNotification::MemberDown(who) => out.push(Effect::Died(who.member())),
                _ => {}
            }
        }
    }
}

impl Member for FocaPeer {
    type Message = Vec<u8>;

    fn receive(&mut self, now_us: u64, _: usize, bytes: Vec<u8>, out: &mut Vec<Effect<Vec<u8>>>) {
        // Its errors speak of stale or foreign data, which it has dropped.
        drop(self.foca.handle_data(&bytes, &mut self.runtime));
        self.drain(now_us, out);
    }

    fn wake(&mut self, now_us: u64, out: &mut Vec<Effect<Vec<u8>>>) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now_us {
                break;
            }
            let timer = entry.remove();
            // An incomplete probe cycle, which a blocked process leaves
            // behind, is an error that foca recovers from by itself.
            drop(self.foca.handle_timer(timer, &mut self.runtime));
            self.drain(now_us, out);
        }
    }

    fn next_us(&self) -> u64 {
        self.timers
            .first_key_value()
            .map_or(u64::MAX, |((due_us, _), _)| *due_us)
    }
}
