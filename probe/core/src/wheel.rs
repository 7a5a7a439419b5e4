//! A hashed timer wheel: arming, disarming and firing cost the same however
//! many timers there are.
//!
//! Timers are named by small numbers that the owner chooses (the index of a
//! check, of a slot); each has at most one deadline. A timer never fires
//! early, and fires at most one tick late plus whatever the caller is late.

use watchfire_wire::Time;

use crate::limits::{TICK_US, WHEEL_TICKS};

/// The timers of one thread.
#[derive(Debug)]
pub struct Wheel {
    /// First timer of each tick's list.
    heads: Box<[u32]>,
    /// Which lists hold anything, one bit each.
    occupied: Box<[u64]>,
    nodes: Vec<Node>,
    /// The last tick that was fired.
    cursor: u64,
    armed: usize,
}

/// One timer: a link of its tick's list.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// When, in ticks; `IDLE` if not armed.
    tick: u64,
    next: u32,
    /// The previous timer of the list, or `HEAD`.
    prev: u32,
}

const NONE: u32 = u32::MAX;
const HEAD: u32 = u32::MAX - 1;
const IDLE: u64 = u64::MAX;

impl Wheel {
    /// A wheel that has fired everything up to `now`.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            heads: vec![NONE; WHEEL_TICKS].into_boxed_slice(),
            occupied: vec![0; WHEEL_TICKS / 64].into_boxed_slice(),
            nodes: Vec::new(),
            cursor: now.0 / TICK_US,
            armed: 0,
        }
    }

    /// Timers that are armed.
    #[must_use]
    pub const fn armed(&self) -> usize {
        self.armed
    }

    /// Whether timer `id` is armed.
    #[must_use]
    pub fn is_armed(&self, id: u32) -> bool {
        self.nodes
            .get(id as usize)
            .is_some_and(|node| node.tick != IDLE)
    }

    /// Lets timer `id` fire at `at`, in place of any deadline that it had. A
    /// time that has passed fires with the next tick.
    pub fn arm(&mut self, id: u32, at: Time) {
        self.disarm(id);
        if id as usize >= self.nodes.len() {
            let idle = Node {
                tick: IDLE,
                next: NONE,
                prev: HEAD,
            };
            self.nodes.resize(id as usize + 1, idle);
        }
        let tick = at.0.div_ceil(TICK_US).clamp(self.cursor + 1, IDLE - 1);
        let list = list_of(tick);
        let next = self.heads[list];
        self.nodes[id as usize] = Node {
            tick,
            next,
            prev: HEAD,
        };
        if next != NONE {
            self.nodes[next as usize].prev = id;
        }
        self.heads[list] = id;
        self.occupied[list / 64] |= 1 << (list % 64);
        self.armed += 1;
    }

    /// Takes timer `id`'s deadline away, if it has one.
    pub fn disarm(&mut self, id: u32) {
        if self.is_armed(id) {
            self.unlink(id);
        }
    }

    /// Fires what is due at `now`: calls `fire` with each timer, tick by tick,
    /// after it was disarmed.
    pub fn expire(&mut self, now: Time, mut fire: impl FnMut(u32)) {
        let until = now.0 / TICK_US;
        if until <= self.cursor {
            return;
        }
        // After one round every list has been looked at.
        let span = (until - self.cursor).min(WHEEL_TICKS as u64);
        let from = self.cursor + 1;
        self.cursor = until;
        let mut tick = from;
        while let Some(found) = self.next_occupied(tick, from + span - tick) {
            let mut id = self.heads[list_of(found)];
            while id != NONE {
                let node = self.nodes[id as usize];
                if node.tick <= until {
                    self.unlink(id);
                    fire(id);
                }
                id = node.next;
            }
            tick = found + 1;
        }
    }

    /// A time before which nothing fires; nothing if no timer is armed. It may
    /// be early for timers more than a round ahead.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        if self.armed == 0 {
            return None;
        }
        self.next_occupied(self.cursor + 1, WHEEL_TICKS as u64)
            .map(|tick| Time(tick * TICK_US))
    }

    fn unlink(&mut self, id: u32) {
        let node = self.nodes[id as usize];
        if node.prev == HEAD {
            let list = list_of(node.tick);
            self.heads[list] = node.next;
            if node.next == NONE {
                self.occupied[list / 64] &= !(1 << (list % 64));
            }
        } else {
            self.nodes[node.prev as usize].next = node.next;
        }
        if node.next != NONE {
            self.nodes[node.next as usize].prev = node.prev;
        }
        self.nodes[id as usize].tick = IDLE;
        self.armed -= 1;
    }

    /// The first of the `span` ticks from `tick` on whose list holds anything.
    fn next_occupied(&self, tick: u64, span: u64) -> Option<u64> {
        let mut at = tick;
        let end = tick + span;
        while at < end {
            let list = list_of(at);
            let word = self.occupied[list / 64] >> (list % 64);
            if word != 0 {
                let found = at + u64::from(word.trailing_zeros());
                return (found < end).then_some(found);
            }
            at += 64 - (list % 64) as u64;
        }
        None
    }
}

fn list_of(tick: u64) -> usize {
    (tick as usize) & (WHEEL_TICKS - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Arm(u32, u64),
        Disarm(u32),
        Advance(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let round_us = WHEEL_TICKS as u64 * TICK_US;
        prop_oneof![
            (0_u32..40, 0..3 * round_us).prop_map(|(id, at)| Op::Arm(id, at)),
            (0_u32..40, 0..50_000_u64).prop_map(|(id, at)| Op::Arm(id, at)),
            (0_u32..40).prop_map(Op::Disarm),
            (0..20_000_u64).prop_map(Op::Advance),
            (0..2 * round_us).prop_map(Op::Advance),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_map(
            start in 0..1_u64 << 40,
            ops in proptest::collection::vec(op(), 0..200),
        ) {
            let mut wheel = Wheel::new(Time(start));
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = start;
            for op in ops {
                match op {
                    Op::Arm(id, ahead) => {
                        wheel.arm(id, Time(now + ahead));
                        // Rounded up to a tick that is still to come.
                        let tick = (now + ahead).div_ceil(TICK_US).max(now / TICK_US + 1);
                        model.insert(id, tick);
                    }
                    Op::Disarm(id) => {
                        wheel.disarm(id);
                        model.remove(&id);
                    }
                    Op::Advance(ahead) => {
                        now += ahead;
                        let mut fired = Vec::new();
                        wheel.expire(Time(now), |id| fired.push(id));
                        fired.sort_unstable();
                        let due: Vec<u32> = model
                            .iter()
                            .filter(|&(_, &tick)| tick <= now / TICK_US)
                            .map(|(&id, _)| id)
                            .collect();
                        model.retain(|_, tick| *tick > now / TICK_US);
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(wheel.armed(), model.len());
                for id in 0..40 {
                    prop_assert_eq!(wheel.is_armed(id), model.contains_key(&id));
                }
                match (wheel.next(), model.values().min()) {
                    (None, None) => {}
                    (Some(next), Some(&least)) => {
                        prop_assert!(next.0 <= least * TICK_US && next.0 > now);
                    }
                    (next, least) => prop_assert!(false, "{next:?} {least:?}"),
                }
            }
        }
    }

    #[test]
    fn ticks_fire_in_order() {
        let mut wheel = Wheel::new(Time::ZERO);
        for id in 0..100 {
            wheel.arm(id, Time::from_millis(u64::from(100 - id)));
        }
        let mut fired = Vec::new();
        wheel.expire(Time::from_millis(100), |id| fired.push(id));
        assert!(fired.is_sorted_by(|a, b| a > b));
        assert_eq!(fired.len(), 100);
    }
}
