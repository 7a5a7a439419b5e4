//! Watchfire's own node as a contestant: the production core without checks.

use rkyv::util::AlignedVec;
use watchfire_core::io::{Event, Input};
use watchfire_host::Effect as Wanted;
use watchfire_wire::{Actor, NodeId, Time};

use super::net::{Effect, Member};
use crate::agent::{Agent, Boot};
use crate::rng::Rng;
use crate::world::{Peer, host_addr};

/// Seeds that every member joins through.
const JOIN_SEEDS: usize = 3;
/// The wall clock at time zero, milliseconds since 1970.
const WALL_AT_ZERO_MS: u64 = 1_800_000_000_000;

/// One member.
#[derive(Debug)]
pub struct WatchfirePeer {
    agent: Agent,
    members: usize,
    /// Names are looked up this way round only.
    numbers: std::sync::Arc<std::collections::HashMap<NodeId, usize>>,
    buffer: AlignedVec<16>,
}

/// Makes members that share one list of names.
pub fn maker(n: usize) -> impl Fn(usize, usize, Rng) -> WatchfirePeer {
    let numbers: std::collections::HashMap<NodeId, usize> =
        (0..n).map(|i| (NodeId::of_name(&name(i)), i)).collect();
    let numbers = std::sync::Arc::new(numbers);
    move |me, n, mut rng| {
        let boot = Boot {
            name: name(me),
            addr: host_addr(me),
            boot: rng.bits(),
            persisted_epoch: 0,
            overrides: watchfire_core::overrides::Kept::default(),
            wall_at_zero_ms: WALL_AT_ZERO_MS,
            seeds: (0..n.min(JOIN_SEEDS))
                .filter(|&i| i != me)
                .map(host_addr)
                .collect(),
            table: watchfire_table::HeapHome::new(),
            names: 1,
            rng_seed: rng.seed_bytes(),
            sealed: false,
            protocol_max: watchfire_wire::message::PROTOCOL,
            foreign_least: None,
            mutation: None,
            brake: false,
        };
        WatchfirePeer {
            agent: Agent::start(&boot, Time::ZERO),
            members: n,
            numbers: numbers.clone(),
            buffer: AlignedVec::new(),
        }
    }
}

fn name(i: usize) -> String {
    format!("edge-{i}")
}

impl WatchfirePeer {
    fn drain(&mut self, out: &mut Vec<Effect<Vec<u8>>>) {
        while let Some(output) = self.agent.poll_effect() {
            match output {
                Wanted::Datagram { to, bytes } => {
                    if let Some(Peer::Host(to)) = Peer::of(to, self.members) {
                        out.push(Effect::Send {
                            to,
                            bytes: bytes.len(),
                            message: bytes,
                        });
                    }
                }
                Wanted::Event(Event::Died(who)) => self.tell(who, Effect::Died, out),
                Wanted::Event(Event::Suspected(who)) => self.tell(who, Effect::Suspected, out),
                Wanted::Event(Event::Joined(who, _) | Event::Refuted(who)) => {
                    self.tell(who, Effect::Alive, out);
                }
                // Without checks nothing is replicated, probed or published.
                _ => {}
            }
        }
    }

    fn tell(
        &self,
        who: Actor,
        effect: fn(usize) -> Effect<Vec<u8>>,
        out: &mut Vec<Effect<Vec<u8>>>,
    ) {
        if let Some(&number) = self.numbers.get(&who.node) {
            out.push(effect(number));
        }
    }
}

impl Member for WatchfirePeer {
    type Message = Vec<u8>;

    fn receive(
        &mut self,
        now_us: u64,
        from: usize,
        bytes: Vec<u8>,
        out: &mut Vec<Effect<Vec<u8>>>,
    ) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&bytes);
        let from = host_addr(from);
        self.agent.handle(
            Time(now_us),
            Input::Datagram {
                from,
                bytes: &mut self.buffer,
                age: core::time::Duration::ZERO,
            },
        );
        self.drain(out);
    }

    fn wake(&mut self, now_us: u64, out: &mut Vec<Effect<Vec<u8>>>) {
        self.agent.handle(Time(now_us), Input::Tick);
        self.drain(out);
    }

    fn next_us(&self) -> u64 {
        self.agent.next_timeout().0
    }
}
