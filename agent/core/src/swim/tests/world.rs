//! A POP of memberships in virtual time: datagrams take a while, get lost, and
//! cannot cross a partition; nodes crash, stall and come back.

use core::cmp::Reverse;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap};

use watchfire_wire::frame::{FrameBuf, HEADER_BYTES, TAG_BYTES};
use watchfire_wire::limits::DATAGRAM_BYTES;
use watchfire_wire::message::swim::Profile;
use watchfire_wire::message::{ArchivedBody, Body, Packet, access, encode};
use watchfire_wire::{Actor, NodeId, Time};

use crate::budget::Budget;
use crate::rng::Rng;
use crate::swim::{Output, State, Swim, SwimConfig};

/// One way through the network.
pub(crate) const ONE_WAY: Duration = Duration::from_micros(100);
/// IPv4 and UDP.
pub(crate) const IP_UDP_BYTES: u64 = 28;

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Node {
    pub(crate) swim: Option<Swim>,
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) group: u8,
    pub(crate) stalled_until: Time,
    /// Its timers run, but nothing goes in or out before this.
    pub(crate) blocked_until: Time,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) budget: Budget,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) at: BTreeMap<SocketAddr, usize>,
    pub(crate) config: SwimConfig,
    pub(crate) loss: f64,
    pub(crate) seeds: Vec<SocketAddr>,
    /// Nothing gets from the one address to the other.
    pub(crate) block: Option<(SocketAddr, SocketAddr)>,
    /// What membership said, by whom and when; sends are not among it.
    pub(crate) log: Vec<(Time, usize, Output)>,
    /// Every datagram that was sent, if asked for.
    pub(crate) record: Option<Vec<Datagram>>,
    queue: BinaryHeap<Reverse<(Time, u64, Datagram)>>,
    ticks: BinaryHeap<Reverse<(Time, usize)>>,
    order: u64,
    rng: Rng,
}

pub(crate) fn addr_of(n: usize) -> SocketAddr {
    let high = u8::try_from(n / 250).expect("a small POP");
    let low = u8::try_from(n % 250).expect("below 250");
    SocketAddr::from(([10, 0, high, low + 1], 7_946))
}

pub(crate) fn profile(name: &str, addr: SocketAddr) -> Profile {
    Profile {
        name: name.to_owned(),
        addr,
        capacity: 100,
        draining: false,
        prober_healthy: true,
        braked: false,
        checks: 0,
        protocol_min: 1,
        protocol_max: 1,
    }
}

impl World {
    /// `n` nodes that all start now, with the first three as seeds.
    pub(crate) fn new(n: usize, seed: u8, config: SwimConfig) -> Self {
        let mut world = Self::empty(seed, config);
        for index in 0..n {
            world.add(&format!("n{index}"), addr_of(index), 1_000);
        }
        world
    }

    pub(crate) fn empty(seed: u8, config: SwimConfig) -> Self {
        Self {
            now: Time::from_millis(1_000),
            nodes: Vec::new(),
            at: BTreeMap::new(),
            config,
            loss: 0.0,
            seeds: (0..3).map(addr_of).collect(),
            block: None,
            log: Vec::new(),
            record: None,
            queue: BinaryHeap::new(),
            ticks: BinaryHeap::new(),
            order: 0,
            rng: Rng::from_seed([seed; 32]),
        }
    }

    /// A settled POP: everybody knows everybody, and the log is empty.
    pub(crate) fn settled(n: usize, seed: u8) -> Self {
        let mut world = Self::new(n, seed, SwimConfig::default());
        world.settle(Duration::from_secs(12));
        // What was spent on it is earned again.
        world.run(Duration::from_secs(5));
        world.assert_agreed();
        world.log.clear();
        world
    }

    pub(crate) fn add(&mut self, name: &str, addr: SocketAddr, epoch: u64) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node {
            swim: None,
            name: name.to_owned(),
            addr,
            group: 0,
            stalled_until: Time::ZERO,
            blocked_until: Time::ZERO,
            bytes: 0,
            packets: 0,
            budget: Budget::new(self.now),
        });
        self.start(index, epoch);
        index
    }

    /// Starts the agent of a node, after a crash for example.
    pub(crate) fn start(&mut self, index: usize, epoch: u64) {
        let (name, addr) = (self.nodes[index].name.clone(), self.nodes[index].addr);
        let me = Actor {
            node: NodeId::of_name(&name),
            epoch,
            boot: self.rng.u64(),
        };
        let seeds = self.seeds.clone();
        let rng = self.rng.split();
        let config = self.config.clone();
        let swim = Swim::new(config, me, profile(&name, addr), seeds, self.now, rng);
        self.nodes[index].swim = Some(swim);
        self.at.insert(addr, index);
        self.ticks.push(Reverse((self.now, index)));
    }

    pub(crate) fn crash(&mut self, index: usize) -> Actor {
        let actor = self.swim(index).actor();
        self.nodes[index].swim = None;
        actor
    }

    pub(crate) fn swim(&self, index: usize) -> &Swim {
        self.nodes[index].swim.as_ref().expect("it runs")
    }

    /// Does something with one node's membership and carries out the effects.
    pub(crate) fn with(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Swim, Time, &mut Vec<Output>),
    ) {
        let mut act = Some(act);
        self.act(index, &mut |swim, now, out| {
            if let Some(act) = act.take() {
                act(swim, now, out);
            }
        });
    }

    fn act(&mut self, index: usize, act: &mut dyn FnMut(&mut Swim, Time, &mut Vec<Output>)) {
        let mut out = Vec::new();
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(swim) = &mut node.swim else {
            return;
        };
        swim.set_spare(node.budget.spare(now));
        act(swim, now, &mut out);
        let actor = swim.actor();
        let next = swim.next_timeout();
        out.retain(|output| match output {
            Output::Send { class, .. } => {
                let granted = node.budget.spare(now).has(*class);
                if granted {
                    node.budget.spend(now, DATAGRAM_BYTES / 2);
                }
                granted
            }
            _ => true,
        });
        self.ticks.push(Reverse((next.max(now), index)));
        for output in out {
            match output {
                Output::Send {
                    to, body, rumors, ..
                } => {
                    let packet = Packet {
                        from: actor,
                        body: Body::Swim(body),
                        rumors,
                    };
                    self.send(index, to, &packet);
                }
                Output::PeerDigest { .. } | Output::PeerClock { .. } => {}
                Output::EpochNeeded(epoch) => {
                    self.log.push((now, index, Output::EpochNeeded(epoch)));
                    self.act(index, &mut |swim, now, out| {
                        swim.take_epoch(now, epoch, out)
                    });
                }
                other => self.log.push((now, index, other)),
            }
        }
    }

    fn send(&mut self, index: usize, to: SocketAddr, packet: &Packet) {
        let mut frame = FrameBuf::new();
        encode(packet, DATAGRAM_BYTES, &mut frame).expect("membership keeps to the budget");
        let body = frame.as_slice()[HEADER_BYTES..].to_vec();
        let node = &mut self.nodes[index];
        node.bytes += (frame.as_slice().len() + TAG_BYTES) as u64 + IP_UDP_BYTES;
        node.packets += 1;
        let datagram = Datagram {
            from: node.addr,
            to,
            body,
        };
        if let Some(record) = &mut self.record {
            record.push(datagram.clone());
        }
        let lost = (self.rng.u32() as f64) < self.loss * f64::from(u32::MAX);
        let crosses = self
            .at
            .get(&to)
            .is_some_and(|&other| self.nodes[other].group != self.nodes[index].group);
        let blocked = self.block == Some((datagram.from, to));
        if !lost && !crosses && !blocked {
            let held = self.nodes[index].blocked_until.since(self.now);
            self.inject(datagram, held + ONE_WAY);
        }
    }

    /// Lets a datagram arrive after a while, whoever sent it.
    pub(crate) fn inject(&mut self, datagram: Datagram, after: Duration) {
        self.order += 1;
        self.queue
            .push(Reverse((self.now + after, self.order, datagram)));
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let datagram = self.queue.peek().map(|Reverse((time, ..))| *time);
            let tick = self.ticks.peek().map(|Reverse((time, _))| *time);
            let Some(next) = [datagram, tick].into_iter().flatten().min() else {
                break;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if datagram == Some(next) {
                let Some(Reverse((_, _, datagram))) = self.queue.pop() else {
                    break;
                };
                self.deliver(datagram);
            } else {
                let Some(Reverse((_, index))) = self.ticks.pop() else {
                    break;
                };
                self.tick(index);
            }
        }
        self.now = end;
    }

    fn tick(&mut self, index: usize) {
        let node = &self.nodes[index];
        let Some(swim) = &node.swim else {
            return;
        };
        if node.stalled_until > self.now {
            // Ticks come before datagrams then, as they may for a real loop.
            self.ticks.push(Reverse((node.stalled_until, index)));
        } else if swim.next_timeout() <= self.now {
            self.with(index, |swim, now, out| swim.tick(now, out));
        }
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Some(&index) = self.at.get(&datagram.to) else {
            return;
        };
        let node = &self.nodes[index];
        if node.swim.is_none() {
            return;
        }
        let shut = node.stalled_until.max(node.blocked_until);
        if shut > self.now {
            let wait = shut.since(self.now) + Duration::from_micros(50);
            return self.inject(datagram, wait);
        }
        let buffer = FrameBuf::copied(&datagram.body);
        let packet = access(buffer.as_slice()).expect("our own");
        let sender = Actor::from(&packet.from);
        let ArchivedBody::Swim(body) = &packet.body else {
            panic!("only membership speaks here")
        };
        let from = datagram.from;
        self.with(index, |swim, now, out| {
            swim.handle(now, from, sender, body, &packet.rumors, out);
        });
    }

    /// When something was said that satisfies this, by whom.
    pub(crate) fn said(&self, what: impl Fn(&Output) -> bool) -> Vec<(Time, usize)> {
        let log = self.log.iter();
        log.filter(|(_, _, output)| what(output))
            .map(|(time, index, _)| (*time, *index))
            .collect()
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|&index| self.nodes[index].swim.is_some())
            .collect()
    }

    /// All running nodes know exactly each other, and nobody is suspected.
    pub(crate) fn agreed(&self) -> bool {
        let running = self.running();
        let views: Vec<u64> = running.iter().map(|&n| self.swim(n).view()).collect();
        let calm = |n: usize| {
            let members = self.swim(n).members();
            members
                .filter(|member| member.state.is_living())
                .all(|member| member.state == State::Alive)
        };
        running
            .iter()
            .all(|&n| self.swim(n).living() + 1 == running.len())
            && views.windows(2).all(|pair| pair[0] == pair[1])
            && running.iter().all(|&n| calm(n))
    }

    pub(crate) fn assert_agreed(&self) {
        let running = self.running();
        let living: Vec<usize> = running.iter().map(|&n| self.swim(n).living()).collect();
        assert!(self.agreed(), "at {}: living {living:?}", self.now);
    }

    /// Runs until all agree; panics after the limit. Gives the time it took.
    pub(crate) fn settle(&mut self, limit: Duration) -> Duration {
        let start = self.now;
        while !self.agreed() {
            assert!(
                self.now.since(start) < limit,
                "no agreement within {limit:?}"
            );
            self.run(Duration::from_millis(10));
        }
        self.now.since(start)
    }
}
