//! A member that lies: it has the key, and says whatever does the most harm, each
//! field at its extremes.
//!
//! Beside it an honest process goes on under its name, so that it is a member.
//! What that is asked for, the liar answers in its place.

use std::time::Duration;

use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use watchfire_core::gate::Gate;
use watchfire_core::overrides::{Op, Request, member_key};
use watchfire_wire::limits::DATAGRAM_BYTES;
use watchfire_wire::message::overrides::{Decision, Op as SaidOp, Overrides};
use watchfire_wire::message::replica::{
    ArchivedReplica, Claim, Delta, Floor, Head, Hold, Opinion, Question, Replica, Slot, Value,
    Weather,
};
use watchfire_wire::message::swim::{News, Profile, Rumor, Swim};
use watchfire_wire::message::{ArchivedBody, Body, Packet};
use watchfire_wire::{Actor, CheckId, NodeId, Verdict};

use crate::agent::keys;
use crate::faults::Fault;
use crate::limits;
use crate::workload::SECOND_US;
use crate::world::{Event, Peer, World};

/// Slots of one answer: fewer than six datagrams hold.
const SLOTS: usize = 60;

/// A day and an hour, milliseconds.
const BEYOND_MS: u64 = 25 * 3_600_000;

/// What it makes up of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tale {
    /// Terms at their end.
    Saturated,
    /// The greatest terms that are believed.
    Plausible,
    /// Ever more checks that nobody configures.
    Foreign,
}

/// The member that lies.
#[derive(Debug)]
pub(crate) struct Liar {
    pub(crate) host: usize,
    actor: Actor,
    gate: Gate,
    tale: Tale,
    /// Its log, as far as it has made it up.
    log: Vec<Slot>,
    rng: crate::rng::Rng,
    /// It was put out, and goes on.
    is_out: bool,
    /// Slots that the others held before.
    slots_before: usize,
}

impl World {
    /// This host begins to lie, or dies, or is put out.
    pub(crate) fn lie(&mut self, host: usize) {
        let host = self.living_from(host);
        let Some(agent) = &self.hosts[host].agent else {
            return;
        };
        let actor = agent.actor();
        let mut rng = self.rng.fork(0x11a2);
        let seed = rng.seed_bytes();
        let tales = [Tale::Saturated, Tale::Plausible, Tale::Foreign];
        let slots_before = self.agents().map(|agent| agent.slots()).max().unwrap_or(0);
        self.liar = Some(Liar {
            host,
            actor,
            gate: Gate::new(
                keys(self.options.sealed),
                watchfire_core::rng::Rng::from_seed(seed),
            ),
            tale: tales[rng.index(3)],
            log: Vec::new(),
            rng,
            is_out: false,
            slots_before,
        });
    }

    /// It says something new to everybody.
    pub(crate) fn lie_on(&mut self) {
        let Some(mut liar) = self.liar.take() else {
            return;
        };
        let lives = self.is_current(liar.host, liar.actor);
        if lives {
            self.fired.count(Fault::Liar);
            if !liar.is_out {
                self.excuse_lies();
            }
            self.make_up(&mut liar);
            let packets = self.lies(&mut liar);
            for host in self.living().collect::<Vec<_>>() {
                for packet in &packets {
                    self.send_lie(&mut liar, host, packet);
                }
            }
        }
        self.liar = Some(liar);
    }

    /// While it lies it may keep others from what they should do, and for a moment
    /// after; what they know of each other may be wrong.
    pub(crate) fn excuse_lies(&mut self) {
        self.oracles.coverage.excuse_all(self.now_us);
        self.oracles.calm_since_us = self.now_us;
        self.healed_us = self.now_us;
        self.spreading.clear();
    }

    /// It dies, or an operator puts it out and it goes on.
    pub(crate) fn end_lies(&mut self, evict: bool) {
        let Some(host) = self.liar.as_ref().map(|liar| liar.host) else {
            return;
        };
        self.excuse_lies();
        if !evict {
            self.kill(host);
            return;
        }
        if let Some(liar) = &mut self.liar {
            liar.is_out = true;
        }
        let at = self.living_from((host + 1) % self.hosts.len());
        let request = Request {
            op: Op::Evict,
            names: vec![member_key(&self.hosts[host].name)],
            for_ms: None,
            who: "someone".into(),
            why: "it lies".into(),
        };
        self.feed_with(at, |agent, now| {
            agent.decide(now, request).expect("it can be put out");
        });
    }

    /// Nothing but membership leaves a liar's process, for that would speak of a log
    /// that it knows nothing of.
    pub(crate) fn is_silenced(&mut self, host: usize, bytes: &[u8]) -> bool {
        if !self.is_liar(host) {
            return false;
        }
        let Some(liar) = &mut self.liar else {
            return false;
        };
        let mut buffer: AlignedVec<16> = AlignedVec::new();
        buffer.extend_from_slice(bytes);
        let packet = liar.gate.open(&mut buffer);
        packet.is_ok_and(|packet| matches!(packet.body, ArchivedBody::Replica(_)))
    }

    fn wall_ms(&self, host: usize) -> u64 {
        let clock = &self.hosts[host].clock;
        clock.wall_at_zero_ms(self.now_us) + clock.local(self.now_us).as_millis()
    }

    /// This host's process lies.
    pub(crate) fn is_liar(&self, host: usize) -> bool {
        let liar = self.liar.as_ref().filter(|liar| liar.host == host);
        liar.is_some_and(|liar| self.is_current(host, liar.actor))
    }

    /// Once it is known to be dead nobody goes by its word against a living one's.
    pub(crate) fn judge_dead(&mut self) {
        let Some(liar) = &self.liar else { return };
        let node = liar.actor.node;
        let wrong = self.living().find_map(|host| {
            let agent = self.hosts[host].agent.as_ref()?;
            (host != liar.host).then_some((host, agent.goes_by(node, &self.checks)?))
        });
        if let Some((host, check)) = wrong {
            self.oracles.violate(self.now_us, Some(host), "lies", || {
                format!("it goes by a dead one's word on check {check}, which others measure")
            });
        }
    }

    /// Half a minute after its end nothing of it is left.
    pub(crate) fn judge_lies(&mut self) {
        let Some(liar) = self.liar.take() else {
            return;
        };
        if self.is_current(liar.host, liar.actor) {
            self.kill(liar.host);
        }
        let honest: Vec<usize> = self.living().filter(|&it| it != liar.host).collect();
        // A dead member's last words stay for a while, one for each check, and so do
        // releases of those from whom it took checks.
        let most = liar.slots_before + liar.slots_before / 5 + 2 * self.checks.len();
        let mut wrong = Vec::new();
        for &host in &honest {
            let Some(agent) = &self.hosts[host].agent else {
                continue;
            };
            if agent.slots() > most {
                wrong.push((
                    host,
                    format!("it holds {} slots, {most} at most are due", agent.slots()),
                ));
            }
            let lost = honest
                .iter()
                .find(|&&other| !agent.knows(&self.hosts[other].name));
            if let Some(lost) = lost {
                wrong.push((
                    host,
                    format!("n{lost}, which is honest, is no member to it"),
                ));
            }
            let term_max = self.wall_ms(host) + BEYOND_MS;
            if agent.greatest_term() > term_max {
                wrong.push((host, "it holds terms from far ahead of the time".to_owned()));
            }
            if let Some(stranger) = agent.strangers(&self.by_node).first() {
                wrong.push((host, format!("a member that there is not: {stranger}")));
            }
        }
        for check in 0..self.options.checks as u32 {
            let truth = if self.origins.health(check).is_good() {
                Verdict::Up
            } else {
                Verdict::Down
            };
            for &host in &honest {
                let says = self.hosts[host].table.verdicts[check as usize];
                if says.is_none_or(|says| says.verdict != truth) {
                    wrong.push((
                        host,
                        format!("of check {check}, which is {truth}, it says {says:?}"),
                    ));
                }
            }
        }
        if let Some((host, words)) = wrong.into_iter().next() {
            let tale = liar.tale;
            self.oracles.violate(self.now_us, Some(host), "lies", || {
                format!(
                    "{} s after the liar's end ({tale:?}): {words}",
                    limits::LIES_END_US / SECOND_US
                )
            });
        }
        // Its name begins anew.
        let at = self.living_from((liar.host + 1) % self.hosts.len());
        let request = Request {
            op: Op::Forget,
            names: vec![member_key(&self.hosts[liar.host].name)],
            for_ms: None,
            who: "someone".into(),
            why: String::new(),
        };
        self.feed_with(at, |agent, now| drop(agent.decide(now, request)));
        self.excuse_lies();
    }

    /// The liar's own log grows.
    fn make_up(&mut self, liar: &mut Liar) {
        let pop_ms = self.wall_ms(liar.host);
        let term = match liar.tale {
            Tale::Saturated => u64::MAX,
            Tale::Plausible => pop_ms + BEYOND_MS - 2 * 3_600_000,
            Tale::Foreign => 3,
        };
        let first = liar.log.is_empty();
        let known = if first || liar.tale != Tale::Foreign {
            self.checks.iter().take(SLOTS).copied().collect()
        } else {
            Vec::new()
        };
        let made_up = match liar.tale {
            Tale::Foreign => SLOTS - known.len().min(SLOTS),
            _ => 0,
        };
        let strange = (0..made_up).map(|_| {
            let number = liar.rng.bits().to_le_bytes();
            CheckId::of_canonical(&number)
        });
        let checks: Vec<CheckId> = known.into_iter().chain(strange).collect();
        for check in checks {
            liar.log.retain(|slot| slot.check != check);
            let seq = liar.log.last().map_or(0, |slot| slot.seq) + 1;
            liar.log.push(Slot {
                check,
                seq,
                term,
                priority: u64::MAX,
                hold: Hold::Live,
                value: Value {
                    verdict: Verdict::Down,
                    reason: 1,
                    contrary: u8::MAX,
                    agreed: u8::MAX,
                    dissented: u8::MAX,
                    latency_us: u32::MAX,
                    since_ms: u64::MAX,
                    confirmed_by: liar.actor.node,
                },
            });
        }
    }

    /// One of each kind of body.
    fn lies(&self, liar: &mut Liar) -> Vec<Body> {
        let me = liar.actor;
        let seq = liar.log.last().map_or(0, |slot| slot.seq);
        let victim = liar.rng.index(self.hosts.len());
        let it = &self.hosts[victim];
        let victim = it.agent.as_ref().map_or(me, |agent| agent.actor());
        let nobody = Actor {
            node: NodeId::of_name("nobody"),
            epoch: u64::MAX,
            boot: u64::MAX,
        };
        let floor = |node, epoch| Floor { node, epoch };
        let opinion = Opinion {
            ask: u64::MAX,
            check: self.checks[0],
            answer: watchfire_wire::message::replica::Answer::Fail,
        };
        let question = Question {
            ask: u64::MAX,
            check: self.checks[0],
            wait_ms: u32::MAX,
        };
        let head = |actor, seq| Head { actor, seq };
        let decision = Decision {
            counter: u64::MAX,
            by: nobody,
            op: SaidOp::Down,
            at_ms: u64::MAX,
            until_ms: 0,
            who: String::new(),
            why: String::new(),
            names: vec!["origin-0".into()],
        };
        let bodies = [
            Replica::Notify {
                heads: vec![head(me, seq), head(nobody, u64::MAX)],
                hops: 0,
            },
            Replica::Pull {
                pull: liar.rng.bits(),
                claims: vec![Claim {
                    actor: nobody,
                    seq: u64::MAX,
                    digest: u64::MAX,
                }],
                cover: None,
                floors: vec![floor(victim.node, 1 << 62), floor(nobody.node, u64::MAX)],
            },
            Replica::Opinion {
                opinions: vec![opinion],
            },
            Replica::Ask {
                questions: vec![question],
            },
            Replica::Weather {
                weather: Weather {
                    window_ms: u32::MAX,
                    probed: u32::MAX,
                    failed: u32::MAX,
                    networks_probed: u32::MAX,
                    networks_failed: u32::MAX,
                    networks: u64::MAX,
                },
            },
            Replica::BulkOffer {
                pull: u64::MAX,
                token: u64::MAX,
            },
            Replica::SetAsk {
                set: u64::MAX,
                from: u64::MAX,
                sums: vec![u64::MAX; 64],
            },
            Replica::SetPart {
                set: u64::MAX,
                from: 0,
                last: u64::MAX,
                differ: u64::MAX,
                prefixes: vec![u64::MAX; 8],
            },
        ];
        let mut all: Vec<Body> = bodies.into_iter().map(Body::Replica).collect();
        all.push(Body::Overrides(Overrides::Decisions {
            hops: 0,
            decisions: vec![decision],
        }));
        all.push(Body::Swim(Swim::News));
        all
    }

    /// What rides on them: everybody is dead, and a name is out of its own reach.
    fn rumors(&self, liar: &mut Liar) -> Vec<Rumor> {
        let living: Vec<usize> = self.living().filter(|&it| it != liar.host).collect();
        let host = living[liar.rng.index(living.len())];
        let it = &self.hosts[host];
        let Some(about) = it.agent.as_ref().map(|agent| agent.actor()) else {
            return Vec::new();
        };
        let by = liar.actor.node;
        let profile = Profile {
            name: it.name.clone(),
            addr: it.addr,
            capacity: 0,
            draining: true,
            prober_healthy: false,
            braked: true,
            checks: u64::MAX,
            protocol_min: 0,
            protocol_max: u8::MAX,
        };
        let buried = Actor {
            epoch: 1 << 62,
            ..about
        };
        let rumor = |about, incarnation, news| Rumor {
            about,
            incarnation,
            news,
        };
        vec![
            rumor(about, u32::MAX, News::Suspect { by }),
            rumor(about, u32::MAX, News::Dead { by }),
            rumor(about, 0, News::Dead { by }),
            rumor(buried, 0, News::Alive(profile.clone())),
            rumor(about, u32::MAX, News::Alive(profile)),
        ]
    }

    fn send_lie(&mut self, liar: &mut Liar, to: usize, body: &Body) {
        if to == liar.host {
            return;
        }
        let rumors = self.rumors(liar);
        let packet = Packet {
            from: liar.actor,
            body: body.clone(),
            rumors,
        };
        if let Ok(bytes) = liar.gate.seal(&packet, DATAGRAM_BYTES) {
            self.carry_lie(liar.host, to, bytes);
        }
    }

    fn carry_lie(&mut self, host: usize, to: usize, bytes: Vec<u8>) {
        let arrivals = self.net.carry(host, to, bytes, &mut self.fired);
        for arrival in arrivals.into_iter().flatten() {
            let event = Event::Datagram {
                host: to,
                from: Peer::Host(host),
                bytes: arrival.bytes,
            };
            self.queue.push(self.now_us + arrival.after_us, event);
        }
    }

    /// Answers in the place of the process that was asked; false if this is
    /// nothing that the liar answers.
    pub(crate) fn answer_with_lies(&mut self, host: usize, from: Peer, bytes: &[u8]) -> bool {
        let Peer::Host(asker) = from else {
            return false;
        };
        let is_current = |liar: &Liar| liar.host == host && self.is_current(host, liar.actor);
        if !self.liar.as_ref().is_some_and(is_current) {
            return false;
        }
        let Some(mut liar) = self.liar.take() else {
            return false;
        };
        let mut buffer: AlignedVec<16> = AlignedVec::new();
        buffer.extend_from_slice(bytes);
        let (answered, answer) = liar.answer(&mut buffer);
        for body in answer {
            let packet = Packet {
                from: liar.actor,
                body: Body::Replica(body),
                rumors: Vec::new(),
            };
            if let Ok(bytes) = liar.gate.seal(&packet, DATAGRAM_BYTES) {
                self.carry_lie(host, asker, bytes);
            }
        }
        self.liar = Some(liar);
        answered
    }
}

impl Liar {
    /// Whether the process is not to hear this, and the answer to a pull that asks
    /// for the log.
    fn answer(&mut self, bytes: &mut [u8]) -> (bool, Vec<Replica>) {
        let Ok(packet) = self.gate.open(bytes) else {
            return (false, Vec::new());
        };
        let ArchivedBody::Replica(body) = &packet.body else {
            return (false, Vec::new());
        };
        (true, Self::lie(&self.log, self.actor, body.get()))
    }

    fn lie(log: &[Slot], actor: Actor, body: &ArchivedReplica) -> Vec<Replica> {
        let ArchivedReplica::Pull { pull, claims, .. } = body else {
            return Vec::new();
        };
        let pull = pull.to_native();
        let claims = rkyv::deserialize::<Vec<Claim>, Failure>(claims).unwrap_or_default();
        let Some(claim) = claims.into_iter().find(|claim| claim.actor == actor) else {
            return Vec::new();
        };
        let hi = log.last().map_or(0, |slot| slot.seq);
        if hi == 0 {
            return Vec::new();
        }
        let slots = log.iter().filter(|slot| slot.seq > claim.seq);
        let slots: Vec<Slot> = slots.take(SLOTS).copied().collect();
        let hi = slots.last().map_or(hi, |slot| slot.seq);
        let per_part = watchfire_core::limits::slots_per_part(DATAGRAM_BYTES);
        let parts: Vec<&[Slot]> = slots.chunks(per_part).collect();
        let count = parts.len() as u16;
        let part = |(index, slots): (usize, &&[Slot])| Replica::Part {
            pull,
            answer: hi,
            index: index as u16,
            count,
            deltas: vec![Delta {
                actor,
                lo: claim.seq,
                hi,
                trim: 0,
                snapshot: false,
                slots: slots.to_vec(),
            }],
            floors: Vec::new(),
        };
        parts.iter().enumerate().map(part).collect()
    }
}

/// When it lies, and its end, within this stretch.
pub(crate) fn plan(
    nodes: usize,
    rng: &mut crate::rng::Rng,
    from_us: u64,
    end_us: u64,
) -> Vec<(u64, crate::workload::Action)> {
    use crate::workload::Action;
    let host = rng.index(nodes);
    let evict = rng.chance(0.5);
    let dies_us = end_us - 12 * SECOND_US;
    let mut plan = vec![(from_us + SECOND_US, Action::Lie { host })];
    let mut at_us = from_us + SECOND_US;
    // One that was put out goes on for as long as it likes.
    let stops_us = if evict {
        dies_us + limits::LIES_END_US
    } else {
        dies_us
    };
    while at_us < stops_us {
        at_us += Duration::from_millis(rng.range(150, 400)).as_micros() as u64;
        plan.push((at_us.min(stops_us), Action::LieOn));
    }
    plan.push((dies_us, Action::EndLies { evict }));
    if !evict {
        plan.push((dies_us + 6 * SECOND_US, Action::JudgeDead));
    }
    plan.push((dies_us + limits::LIES_END_US, Action::JudgeLies));
    // Its name comes back when it has been forgotten.
    plan.push((
        dies_us + limits::LIES_END_US + 12 * SECOND_US,
        Action::Boot { host },
    ));
    plan
}
