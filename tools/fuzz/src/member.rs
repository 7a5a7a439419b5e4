//! A whole node that hears a member: whatever that says, authentic and at its
//! extremes, the node goes on, in bounded memory, and comes to rest.
//!
//! The input is a list of choices: which body, which field, which extreme.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use watchfire_core::gate::{Gate, Keys};
use watchfire_core::io::{BulkEvent, CheckMeta, ConnId, Input, Output};
use watchfire_core::limits;
use watchfire_core::node::{Node, NodeConfig};
use watchfire_core::rng::Rng;
use watchfire_wire::frame::FrameBuf;
use watchfire_wire::message::overrides::{Decision, Op, Overrides};
use watchfire_wire::message::replica::{
    Answer, Claim, Cover, Delta, Floor, Head, Hold, Opinion, Question, Replica, Slot, Value,
    Weather,
};
use watchfire_wire::message::swim::{News, Profile, Rumor, Swim};
use watchfire_wire::message::{Body, Packet};
use watchfire_wire::{Actor, CheckId, NodeId, Time, Verdict};

const WALL_MS: u64 = 1_800_000_000_000;

/// Packets of one input.
const PACKETS: usize = 64;

/// A node that is called again and again at one moment is stuck.
const TURNS: usize = 1_000;

/// Checks that the node configures.
const CHECKS: u64 = 8;

/// What begins as choices: a few that reach each kind of body.
pub(crate) const CORPUS: &[&[u8]] = &[
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16",
    b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5\xf4\xf3\xf2\xf1\xf0\xef\xee\xed\xec\xeb\xea\xe9",
    b"\x01\x03\x05\x07\x09\x0b\x0d\x0f\x11\x13\x15\x17\x19\x1b\x1d\x1f\x21\x23\x25\x27\x29\x2b\x2d",
    b"aaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbccccccccccccccccccccccccdddddddddddddddddddd",
];

/// Choices, made by the input.
struct Choices<'a> {
    input: &'a [u8],
    at: usize,
}

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let byte = self.input.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    fn is_over(&self) -> bool {
        self.at >= self.input.len()
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// A number, more likely than not one at which something ends.
    fn number(&mut self) -> u64 {
        let day = 86_400_000;
        match self.byte() % 12 {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => u64::MAX - 1,
            4 => 1 << 62,
            5 => WALL_MS + day - 1_000,
            6 => WALL_MS + 366 * day - 1_000,
            7 => WALL_MS,
            8 => u64::from(u32::MAX),
            9 => u64::from(self.byte()),
            10 => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            _ => (0..8).fold(0, |sum, _| sum << 8 | u64::from(self.byte())),
        }
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }

    fn many<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most);
        (0..count).map(|_| one(self)).collect()
    }
}

/// The node under test and the member that speaks to it.
struct World {
    node: Node,
    member: Node,
    gate: Gate,
    now: Time,
    /// Pulls of the node that wait for an answer.
    pulls: VecDeque<(u64, Vec<Claim>)>,
    conns: VecDeque<ConnId>,
}

fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([127, 9, 0, host], 7_946))
}

fn check(n: u64) -> CheckId {
    CheckId::of_canonical(&n.to_le_bytes())
}

fn node(name: &str, host: u8) -> Node {
    let mut config = NodeConfig::new(name.to_owned(), addr(host));
    config.boot = u64::from(host);
    config.wall_at_zero_ms = WALL_MS;
    config.seeds = vec![addr(1), addr(2)];
    config.rng_seed = [host; 32];
    config.keys = Keys::Insecure;
    config.replica.foreign_least = 50;
    Node::new(config, Time::ZERO)
}

/// Takes one input.
pub(crate) fn speak(input: &[u8]) {
    let mut world = World::joined();
    let mut choices = Choices { input, at: 0 };
    for _ in 0..PACKETS {
        if choices.is_over() {
            break;
        }
        world.say(&mut choices);
        if choices.below(8) == 0 {
            let wait = Duration::from_millis(choices.number() % 5_000);
            world.pass(wait);
        }
    }
    world.pass(Duration::from_secs(2));
    let store = world.node.store();
    assert!(store.len() <= limits::SLOTS, "slots are bounded");
    let node = world.member.actor().node;
    assert!(
        store.foreign(node) <= store.foreign_share(),
        "a name has its share: {}",
        store.foreign(node)
    );
    assert!(
        world.node.actor().epoch < 1 << 62,
        "its name can begin anew"
    );
}

impl World {
    /// The two have met.
    fn joined() -> Self {
        let mut world = Self {
            node: node("victim", 1),
            member: node("member", 2),
            gate: Gate::new(Keys::Insecure, Rng::from_seed([9; 32])),
            now: Time::ZERO,
            pulls: VecDeque::new(),
            conns: VecDeque::new(),
        };
        let meta = CheckMeta {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            carried: false,
            network: 0,
            reference: false,
            able: true,
        };
        let add: Vec<_> = (0..CHECKS).map(|n| (check(n), meta)).collect();
        let add = &add[..];
        world
            .node
            .handle(world.now, Input::Checks { add, remove: &[] });
        let knows = |world: &Self| world.node.living() == 2 && world.member.living() == 2;
        while !knows(&world) {
            world.pass(Duration::from_millis(50));
            assert!(world.now < Time::from_millis(20_000), "they never meet");
        }
        world
    }

    /// Lets time pass for both, and carries what they say to each other.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        loop {
            self.carry();
            let due = self.node.next_timeout().min(self.member.next_timeout());
            if due > end {
                break;
            }
            turns = if due > self.now { 0 } else { turns + 1 };
            assert!(turns < TURNS, "it comes to no rest");
            self.now = self.now.max(due);
            self.node.handle(self.now, Input::Tick);
            self.member.handle(self.now, Input::Tick);
        }
        self.now = end;
    }

    fn carry(&mut self) {
        for _ in 0..TURNS {
            let mut silent = true;
            while let Some(output) = self.node.poll_output() {
                silent = false;
                match output {
                    Output::Datagram { to, bytes } if to == addr(2) => {
                        self.note_pull(&bytes);
                        datagram(&mut self.member, self.now, addr(1), &bytes);
                    }
                    Output::BulkConnect { conn, .. } => {
                        self.conns.push_back(conn);
                        self.conns.truncate(8);
                    }
                    Output::Conflict { .. } | Output::Left => return,
                    _ => {}
                }
            }
            while let Some(output) = self.member.poll_output() {
                silent = false;
                if let Output::Datagram { to, bytes } = output
                    && to == addr(1)
                {
                    datagram(&mut self.node, self.now, addr(2), &bytes);
                }
            }
            if silent {
                return;
            }
        }
        panic!("the two talk without end");
    }

    /// What the node asks for is answered by what is made up.
    fn note_pull(&mut self, bytes: &[u8]) {
        use watchfire_wire::message::ArchivedBody;
        use watchfire_wire::message::replica::ArchivedReplica;
        let mut buffer = FrameBuf::copied(bytes);
        let Ok(packet) = self.gate.open(buffer.as_mut_slice()) else {
            return;
        };
        if let ArchivedBody::Replica(body) = &packet.body
            && let ArchivedReplica::Pull { pull, claims, .. } = body.get()
        {
            let claims = claims.iter().map(|claim| Claim {
                actor: Actor::from(&claim.actor),
                seq: claim.seq.to_native(),
                digest: claim.digest.to_native(),
            });
            self.pulls.push_back((pull.to_native(), claims.collect()));
            if self.pulls.len() > 8 {
                self.pulls.pop_front();
            }
        }
    }

    fn say(&mut self, choices: &mut Choices<'_>) {
        let body = self.body(choices);
        let rumors = choices.many(4, |choices| self.rumor(choices));
        let packet = Packet {
            from: self.actor(choices, true),
            body,
            rumors,
        };
        let Ok(bytes) = self.gate.seal(&packet, limits::BULK_FRAME_BYTES) else {
            return;
        };
        let conn = self
            .conns
            .front()
            .copied()
            .filter(|_| choices.below(4) == 0);
        if let Some(conn) = conn {
            let mut buffer = FrameBuf::copied(&bytes);
            let event = BulkEvent::Frame(buffer.as_mut_slice());
            self.node.handle(self.now, Input::Bulk { conn, event });
        } else {
            datagram(&mut self.node, self.now, addr(2), &bytes);
        }
        self.carry();
    }

    /// Mostly the member; or somebody else in a life that may not be.
    fn actor(&self, choices: &mut Choices<'_>, mostly: bool) -> Actor {
        let member = self.member.actor();
        let victim = self.node.actor();
        match choices.below(if mostly { 16 } else { 5 }) {
            1 => victim,
            2 => Actor {
                epoch: choices.number(),
                boot: choices.number(),
                ..victim
            },
            3 => Actor {
                epoch: choices.number(),
                boot: choices.number(),
                ..member
            },
            4 => Actor {
                node: NodeId(choices.number()),
                epoch: choices.number(),
                boot: choices.number(),
            },
            _ => member,
        }
    }

    fn rumor(&self, choices: &mut Choices<'_>) -> Rumor {
        let about = self.actor(choices, false);
        let name = ["victim", "member", "", "nobody"][choices.below(4)];
        let by = NodeId(choices.number());
        let news = match choices.below(4) {
            0 => News::Alive(Profile {
                name: name.to_owned(),
                addr: addr(choices.byte()),
                capacity: choices.small() as u16,
                draining: choices.byte() & 1 == 0,
                prober_healthy: choices.byte() & 1 == 0,
                braked: choices.byte() & 1 == 0,
                checks: choices.number(),
                protocol_min: choices.byte(),
                protocol_max: choices.byte(),
            }),
            1 => News::Suspect { by },
            2 => News::Dead { by },
            _ => News::Left,
        };
        Rumor {
            about,
            incarnation: choices.small(),
            news,
        }
    }

    fn slot(choices: &mut Choices<'_>) -> Slot {
        Slot {
            check: check(choices.number() % (2 * CHECKS + u64::from(choices.byte()))),
            seq: choices.number(),
            term: choices.number(),
            priority: choices.number(),
            hold: [Hold::Live, Hold::Released, Hold::Declined][choices.below(3)],
            value: Value {
                verdict: Verdict::from_code(choices.byte() % 3).unwrap_or(Verdict::Unknown),
                reason: choices.byte(),
                contrary: choices.byte(),
                agreed: choices.byte(),
                dissented: choices.byte(),
                latency_us: choices.small(),
                since_ms: choices.number(),
                confirmed_by: NodeId(choices.number()),
            },
        }
    }

    fn delta(&self, choices: &mut Choices<'_>, claim: Option<Claim>) -> Delta {
        let actor = claim.map_or_else(|| self.actor(choices, false), |claim| claim.actor);
        let lo = claim.map_or(0, |claim| claim.seq);
        let mut slots = choices.many(120, Self::slot);
        if choices.below(4) > 0 {
            // In order, as an honest log is.
            for (slot, seq) in slots.iter_mut().zip(lo.saturating_add(1)..) {
                slot.seq = seq;
            }
        }
        let last = slots.last().map_or(lo, |slot| slot.seq);
        Delta {
            actor,
            lo: if choices.below(8) == 0 {
                choices.number()
            } else {
                lo
            },
            hi: if choices.below(4) == 0 {
                choices.number()
            } else {
                last
            },
            trim: if choices.below(4) == 0 {
                choices.number()
            } else {
                0
            },
            snapshot: choices.byte() & 1 == 0,
            slots,
        }
    }

    fn body(&mut self, choices: &mut Choices<'_>) -> Body {
        let open = self.pulls.pop_front();
        Body::Replica(match choices.below(16) {
            0 => return Body::Swim(Self::swim(choices, self.node.actor().node)),
            1 => return Body::Overrides(Self::overrides(choices, self.member.actor())),
            2 => Replica::Pull {
                pull: choices.number(),
                claims: self.claims(choices),
                cover: (choices.byte() & 1 == 0).then(|| Cover {
                    first: self.actor(choices, false),
                    last: self.actor(choices, false),
                }),
                floors: choices.many(6, |choices| Floor {
                    node: self.actor(choices, false).node,
                    epoch: choices.number(),
                }),
            },
            3 => Replica::BulkOffer {
                pull: open.map_or_else(|| choices.number(), |(pull, _)| pull),
                token: choices.number(),
            },
            4 => Replica::BulkHello {
                pull: choices.number(),
                token: choices.number(),
            },
            5 | 6 => Replica::Notify {
                heads: choices.many(12, |choices| Head {
                    actor: self.actor(choices, false),
                    seq: choices.number(),
                }),
                hops: choices.byte(),
            },
            7 => Replica::Ask {
                questions: choices.many(12, |choices| Question {
                    ask: choices.number(),
                    check: check(choices.number() % (2 * CHECKS)),
                    wait_ms: choices.small(),
                }),
            },
            8 => Replica::Opinion {
                opinions: choices.many(12, |choices| Opinion {
                    ask: choices.number(),
                    check: check(choices.number() % (2 * CHECKS)),
                    answer: [Answer::Pass, Answer::Fail, Answer::Silent][choices.below(3)],
                }),
            },
            9 => Replica::Weather {
                weather: Weather {
                    window_ms: choices.small(),
                    probed: choices.small(),
                    failed: choices.small(),
                    networks_probed: choices.small(),
                    networks_failed: choices.small(),
                    networks: choices.number(),
                },
            },
            10 => Replica::SetAsk {
                set: choices.number(),
                from: choices.number(),
                sums: choices.many(66, Choices::number),
            },
            11 => Replica::SetPart {
                set: choices.number(),
                from: choices.number(),
                last: choices.number(),
                differ: choices.number(),
                prefixes: choices.many(40, Choices::number),
            },
            _ => {
                let (pull, claims) = open.unwrap_or_else(|| (choices.number(), Vec::new()));
                let known = claims.first().copied();
                Replica::Part {
                    pull,
                    answer: choices.number(),
                    index: choices.byte() as u16 & 1,
                    count: 1 + (choices.byte() as u16 & 1),
                    deltas: choices.many(4, |choices| {
                        let claim = known.filter(|_| choices.below(4) > 0);
                        self.delta(choices, claim)
                    }),
                    floors: choices.many(4, |choices| Floor {
                        node: self.actor(choices, false).node,
                        epoch: choices.number(),
                    }),
                }
            }
        })
    }

    fn claims(&self, choices: &mut Choices<'_>) -> Vec<Claim> {
        let mut claims = choices.many(12, |choices| Claim {
            actor: self.actor(choices, false),
            seq: choices.number(),
            digest: choices.number(),
        });
        if choices.below(4) > 0 {
            claims.sort_unstable_by_key(|claim| claim.actor);
        }
        claims
    }

    fn swim(choices: &mut Choices<'_>, to: NodeId) -> Swim {
        let seq = choices.small();
        let (digest, view) = (choices.number(), choices.number());
        let nonce = choices.number();
        match choices.below(12) {
            0 => Swim::Ping {
                seq,
                to,
                digest,
                view,
            },
            1 => Swim::Ack {
                synchronised: choices.byte() & 1 == 0,
                seq,
                digest,
                view,
                wall_ms: choices.number(),
            },
            2 => Swim::PingReq {
                seq,
                target: NodeId(choices.number()),
                window_us: choices.small(),
            },
            3 => Swim::Relayed { seq, target: to },
            4 => Swim::Nack { seq },
            5 => Swim::JoinAsk { nonce },
            6 => Swim::JoinToken {
                nonce,
                token: digest,
            },
            7 => Swim::Join {
                nonce,
                token: digest,
                asked: choices.byte() & 1 == 0,
            },
            8 => Swim::Welcome {
                nonce,
                epoch_floor: choices.number(),
            },
            9 => Swim::News,
            10 => Swim::View {
                parts: choices.many(20, Choices::small),
                answer: choices.byte() & 1 == 0,
            },
            _ => Swim::Roster,
        }
    }

    fn overrides(choices: &mut Choices<'_>, by: Actor) -> Overrides {
        match choices.below(4) {
            0 => Overrides::Digest {
                digest: choices.number(),
            },
            1 => Overrides::Compare {
                sums: choices.many(70, Choices::number),
                answer: choices.byte() & 1 == 0,
            },
            _ => Overrides::Decisions {
                hops: choices.byte(),
                decisions: choices.many(6, |choices| Decision {
                    counter: choices.number(),
                    by,
                    op: Op::ALL[choices.below(Op::ALL.len())],
                    at_ms: choices.number(),
                    until_ms: choices.number(),
                    who: "w".repeat(choices.below(200)),
                    why: "\u{1}y".repeat(choices.below(3)),
                    names: choices.many(6, |choices| {
                        let names = ["", "shop", "\u{1}victim", "\u{1}member", "\u{1}", "a\nb"];
                        names[choices.below(names.len())].to_owned()
                    }),
                }),
            },
        }
    }
}

fn datagram(node: &mut Node, now: Time, from: SocketAddr, bytes: &[u8]) {
    let mut buffer = FrameBuf::copied(bytes);
    let input = Input::Datagram {
        from,
        bytes: buffer.as_mut_slice(),
        age: Duration::ZERO,
    };
    node.handle(now, input);
}
