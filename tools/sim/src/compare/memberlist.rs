//! A model of memberlist 0.2.2 with its LAN defaults: SWIM with Lifeguard as
//! Serf and Consul run it, message by message, without its code.
//!
//! It covers probing with indirect and TCP fallback pings, suspicion with
//! confirmations, refutation, awareness, gossip with its transmit-limited
//! queue, and push/pull. It leaves out joining (members start out knowing each
//! other), encryption and compression. Its clocks and thresholds come from
//! memberlist's source; it never reads Watchfire's.

use super::memberlist_queue::{Broadcasts, News, Word};
use super::net::{Effect, Member};
use crate::rng::Rng;

const PROBE_INTERVAL_US: u64 = 1_000_000;
const PROBE_TIMEOUT_US: u64 = 500_000;
const INDIRECT_CHECKS: usize = 3;
const SUSPICION_MULT: f64 = 4.0;
const SUSPICION_MAX_TIMEOUT_MULT: f64 = 6.0;
const GOSSIP_INTERVAL_US: u64 = 200_000;
const GOSSIP_NODES: usize = 3;
const GOSSIP_TO_THE_DEAD_US: u64 = 30_000_000;
const PUSH_PULL_INTERVAL_US: u64 = 30_000_000;
const PUSH_PULL_SCALE_FROM: f64 = 32.0;
const AWARENESS_MAX: i32 = 8;

/// Sizes of memberlist's encoded messages with ten-letter names, bytes.
const PING_BYTES: usize = 33;
const ACK_BYTES: usize = 25;
const INDIRECT_BYTES: usize = 60;
const NACK_BYTES: usize = 17;
/// One member's entry in a push/pull.
const STATE_BYTES: usize = 95;
/// What is left for gossip in a packet that carries something already.
const PACKET_BYTES: usize = 1_400;

/// What members say to each other.
#[derive(Clone, Debug)]
pub struct Packet {
    body: Body,
    gossip: Vec<News>,
}

#[derive(Clone, Debug)]
enum Body {
    Ping { seq: u32 },
    TcpPing { seq: u32 },
    Ack { seq: u32 },
    TcpAck { seq: u32 },
    Indirect { seq: u32, target: usize },
    Nack { seq: u32 },
    Gossip,
    PushPull { states: Vec<News>, answer: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive,
    Suspect,
    Dead,
}

#[derive(Clone, Debug)]
struct Peer {
    state: State,
    incarnation: u32,
    changed_us: u64,
    suspicion: Option<Suspicion>,
}

#[derive(Clone, Debug)]
struct Suspicion {
    started_us: u64,
    due_us: u64,
    min_us: u64,
    max_us: u64,
    needed: u32,
    accusers: Vec<usize>,
    confirmations: u32,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    target: usize,
    seq: u32,
    indirect_us: u64,
    deadline_us: u64,
    asked: bool,
    expected_nacks: i32,
    nacks: i32,
    tcp_answered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Relay {
    local_seq: u32,
    seq: u32,
    asker: usize,
    due_us: u64,
}

/// One member.
#[derive(Debug)]
pub struct Memberlist {
    me: usize,
    incarnation: u32,
    peers: Vec<Peer>,
    ring: Vec<usize>,
    ring_at: usize,
    awareness: i32,
    seq: u32,
    probe: Option<Probe>,
    relays: Vec<Relay>,
    broadcasts: Broadcasts,
    next_probe_us: u64,
    next_gossip_us: u64,
    next_push_pull_us: u64,
    rng: Rng,
}

type Out = Vec<Effect<Packet>>;

impl Memberlist {
    /// Member `me` of `n` that know each other.
    #[must_use]
    pub fn new(me: usize, n: usize, mut rng: Rng) -> Self {
        let peer = Peer {
            state: State::Alive,
            incarnation: 1,
            changed_us: 0,
            suspicion: None,
        };
        let mut ring: Vec<usize> = (0..n).filter(|&i| i != me).collect();
        rng.shuffle(&mut ring);
        Self {
            me,
            incarnation: 1,
            peers: vec![peer; n],
            ring,
            ring_at: 0,
            awareness: 0,
            seq: 0,
            probe: None,
            relays: Vec::new(),
            broadcasts: Broadcasts::default(),
            // Each loop starts after a random part of its interval.
            next_probe_us: PROBE_INTERVAL_US + rng.below(PROBE_INTERVAL_US),
            next_gossip_us: GOSSIP_INTERVAL_US + rng.below(GOSSIP_INTERVAL_US),
            // As if the cluster had been running for long.
            next_push_pull_us: rng.below(push_pull_interval_us(n)),
            rng,
        }
    }

    fn members(&self) -> usize {
        self.peers
            .iter()
            .filter(|peer| peer.state != State::Dead)
            .count()
    }

    fn send(&mut self, to: usize, body: Body, bytes: usize, out: &mut Out) {
        let room = PACKET_BYTES.saturating_sub(bytes);
        let (gossip, gossip_bytes) = self.broadcasts.take(room, self.members());
        out.push(Effect::Send {
            to,
            message: Packet { body, gossip },
            bytes: bytes + gossip_bytes,
        });
    }

    fn start_probe(&mut self, now_us: u64, out: &mut Out) {
        for _ in 0..=self.ring.len() {
            if self.ring_at >= self.ring.len() {
                let ring = (0..self.peers.len())
                    .filter(|&i| i != self.me)
                    .filter(|&i| {
                        let peer = &self.peers[i];
                        peer.state != State::Dead
                            || now_us - peer.changed_us < GOSSIP_TO_THE_DEAD_US
                    });
                self.ring = ring.collect();
                self.rng.shuffle(&mut self.ring);
                self.ring_at = 0;
            }
            let Some(&target) = self.ring.get(self.ring_at) else {
                return;
            };
            self.ring_at += 1;
            if self.peers[target].state != State::Dead {
                self.probe_peer(now_us, target, out);
                return;
            }
        }
    }

    fn probe_peer(&mut self, now_us: u64, target: usize, out: &mut Out) {
        self.seq += 1;
        let seq = self.seq;
        let scaled_us = PROBE_INTERVAL_US * (self.awareness as u64 + 1);
        self.probe = Some(Probe {
            target,
            seq,
            indirect_us: now_us + PROBE_TIMEOUT_US,
            deadline_us: now_us + scaled_us,
            asked: false,
            expected_nacks: 0,
            nacks: 0,
            tcp_answered: false,
        });
        if self.peers[target].state == State::Suspect {
            // The buddy system: the suspect hears of it with the ping itself.
            let word = Word::Suspect { by: self.me };
            let news = News {
                about: target,
                incarnation: self.peers[target].incarnation,
                word,
            };
            let bytes = PING_BYTES + news.bytes();
            let message = Packet {
                body: Body::Ping { seq },
                gossip: vec![news],
            };
            out.push(Effect::Send {
                to: target,
                message,
                bytes,
            });
        } else {
            self.send(target, Body::Ping { seq }, PING_BYTES, out);
        }
    }

    fn ask_others(&mut self, out: &mut Out) {
        let Some(mut probe) = self.probe else { return };
        probe.asked = true;
        let able: Vec<usize> = (0..self.peers.len())
            .filter(|&i| i != self.me && i != probe.target && self.peers[i].state == State::Alive)
            .collect();
        for i in self.rng.sample(able.len(), INDIRECT_CHECKS) {
            probe.expected_nacks += 1;
            let body = Body::Indirect {
                seq: probe.seq,
                target: probe.target,
            };
            self.send(able[i], body, INDIRECT_BYTES, out);
        }
        let message = Packet {
            body: Body::TcpPing { seq: probe.seq },
            gossip: Vec::new(),
        };
        out.push(Effect::Stream {
            to: probe.target,
            message,
            bytes: PING_BYTES,
        });
        self.probe = Some(probe);
    }

    fn end_probe(&mut self, now_us: u64, out: &mut Out) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        if probe.tcp_answered {
            self.adjust(-1);
            return;
        }
        if probe.expected_nacks > 0 {
            self.adjust((probe.expected_nacks - probe.nacks).max(0));
        } else {
            self.adjust(1);
        }
        let incarnation = self.peers[probe.target].incarnation;
        self.suspect(now_us, probe.target, incarnation, self.me, out);
    }

    fn adjust(&mut self, delta: i32) {
        self.awareness = (self.awareness + delta).clamp(0, AWARENESS_MAX - 1);
    }

    fn hear(&mut self, now_us: u64, news: News, out: &mut Out) {
        match news.word {
            Word::Alive => self.alive(now_us, news.about, news.incarnation, out),
            Word::Suspect { by } => self.suspect(now_us, news.about, news.incarnation, by, out),
            Word::Dead { by } => self.dead(now_us, news.about, news.incarnation, by, out),
        }
    }

    fn alive(&mut self, now_us: u64, about: usize, incarnation: u32, out: &mut Out) {
        let peer = &mut self.peers[about];
        if about == self.me || incarnation <= peer.incarnation {
            return;
        }
        peer.incarnation = incarnation;
        peer.suspicion = None;
        if peer.state != State::Alive {
            peer.state = State::Alive;
            peer.changed_us = now_us;
            out.push(Effect::Alive(about));
        }
        self.broadcasts.queue(News {
            about,
            incarnation,
            word: Word::Alive,
        });
    }

    fn suspect(&mut self, now_us: u64, about: usize, incarnation: u32, by: usize, out: &mut Out) {
        let n = self.members();
        let peer = &mut self.peers[about];
        if incarnation < peer.incarnation {
            return;
        }
        let news = News {
            about,
            incarnation,
            word: Word::Suspect { by },
        };
        if let Some(suspicion) = &mut peer.suspicion {
            if suspicion.confirm(now_us, by) {
                self.broadcasts.queue(news);
            }
            return;
        }
        if peer.state != State::Alive {
            return;
        }
        if about == self.me {
            self.refute(incarnation);
            return;
        }
        self.broadcasts.queue(news);
        peer.state = State::Suspect;
        peer.incarnation = incarnation;
        peer.changed_us = now_us;
        peer.suspicion = Some(Suspicion::new(now_us, by, n));
        out.push(Effect::Suspected(about));
    }

    fn dead(&mut self, now_us: u64, about: usize, incarnation: u32, by: usize, out: &mut Out) {
        let peer = &mut self.peers[about];
        if incarnation < peer.incarnation {
            return;
        }
        if about == self.me {
            self.refute(incarnation);
            return;
        }
        peer.suspicion = None;
        if peer.state == State::Dead {
            return;
        }
        peer.state = State::Dead;
        peer.incarnation = incarnation;
        peer.changed_us = now_us;
        self.broadcasts.queue(News {
            about,
            incarnation,
            word: Word::Dead { by },
        });
        out.push(Effect::Died(about));
    }

    fn refute(&mut self, accused: u32) {
        self.incarnation = self.incarnation.max(accused) + 1;
        self.peers[self.me].incarnation = self.incarnation;
        self.adjust(1);
        let news = News {
            about: self.me,
            incarnation: self.incarnation,
            word: Word::Alive,
        };
        self.broadcasts.queue(news);
    }

    fn gossip(&mut self, now_us: u64, out: &mut Out) {
        let able: Vec<usize> = (0..self.peers.len())
            .filter(|&i| {
                let peer = &self.peers[i];
                let fresh = now_us - peer.changed_us <= GOSSIP_TO_THE_DEAD_US;
                i != self.me && (peer.state != State::Dead || fresh)
            })
            .collect();
        for i in self.rng.sample(able.len(), GOSSIP_NODES) {
            let (gossip, bytes) = self.broadcasts.take(PACKET_BYTES, self.members());
            if gossip.is_empty() {
                return;
            }
            let message = Packet {
                body: Body::Gossip,
                gossip,
            };
            out.push(Effect::Send {
                to: able[i],
                message,
                bytes,
            });
        }
    }

    fn push_pull(&mut self, to: usize, answer: bool, out: &mut Out) {
        let states = self.peers.iter().enumerate().map(|(about, peer)| {
            let word = match peer.state {
                State::Alive => Word::Alive,
                // A dead member of another's is only suspected here.
                State::Suspect | State::Dead => Word::Suspect { by: self.me },
            };
            News {
                about,
                incarnation: peer.incarnation,
                word,
            }
        });
        let states: Vec<News> = states.collect();
        let bytes = states.len() * STATE_BYTES;
        let message = Packet {
            body: Body::PushPull { states, answer },
            gossip: Vec::new(),
        };
        out.push(Effect::Stream { to, message, bytes });
    }

    fn expire(&mut self, now_us: u64, out: &mut Out) {
        for about in 0..self.peers.len() {
            let peer = &self.peers[about];
            if peer.suspicion.as_ref().is_some_and(|s| s.due_us <= now_us) {
                let incarnation = peer.incarnation;
                self.dead(now_us, about, incarnation, self.me, out);
            }
        }
        let due: Vec<Relay> = self
            .relays
            .extract_if(.., |relay| relay.due_us <= now_us)
            .collect();
        for relay in due {
            self.send(relay.asker, Body::Nack { seq: relay.seq }, NACK_BYTES, out);
        }
    }
}

impl Member for Memberlist {
    type Message = Packet;

    fn receive(&mut self, now_us: u64, from: usize, packet: Packet, out: &mut Out) {
        for news in packet.gossip {
            self.hear(now_us, news, out);
        }
        match packet.body {
            Body::Ping { seq } => self.send(from, Body::Ack { seq }, ACK_BYTES, out),
            Body::TcpPing { seq } => {
                let message = Packet {
                    body: Body::TcpAck { seq },
                    gossip: Vec::new(),
                };
                out.push(Effect::Stream {
                    to: from,
                    message,
                    bytes: ACK_BYTES,
                });
            }
            Body::Ack { seq } => {
                if self.probe.is_some_and(|probe| probe.seq == seq) {
                    self.probe = None;
                    self.adjust(-1);
                }
                if let Some(at) = self.relays.iter().position(|relay| relay.local_seq == seq) {
                    let relay = self.relays.swap_remove(at);
                    self.send(relay.asker, Body::Ack { seq: relay.seq }, ACK_BYTES, out);
                }
            }
            Body::TcpAck { seq } => {
                if let Some(probe) = self.probe.as_mut().filter(|probe| probe.seq == seq) {
                    probe.tcp_answered = true;
                }
            }
            Body::Indirect { seq, target } => {
                self.seq += 1;
                let local_seq = self.seq;
                let due_us = now_us + PROBE_TIMEOUT_US;
                self.relays.push(Relay {
                    local_seq,
                    seq,
                    asker: from,
                    due_us,
                });
                self.send(target, Body::Ping { seq: local_seq }, PING_BYTES, out);
            }
            Body::Nack { seq } => {
                if let Some(probe) = self.probe.as_mut().filter(|probe| probe.seq == seq) {
                    probe.nacks += 1;
                }
            }
            Body::Gossip => {}
            Body::PushPull { states, answer } => {
                if !answer {
                    self.push_pull(from, true, out);
                }
                for news in states {
                    self.hear(now_us, news, out);
                }
            }
        }
    }

    fn wake(&mut self, now_us: u64, out: &mut Out) {
        self.expire(now_us, out);
        if let Some(probe) = self.probe {
            if probe.deadline_us <= now_us {
                self.end_probe(now_us, out);
            } else if !probe.asked && probe.indirect_us <= now_us {
                self.ask_others(out);
            }
        }
        if self.next_probe_us <= now_us && self.probe.is_none() {
            // A ticker holds one tick back for a busy loop and drops others.
            while self.next_probe_us <= now_us {
                self.next_probe_us += PROBE_INTERVAL_US;
            }
            self.start_probe(now_us, out);
        }
        if self.next_gossip_us <= now_us {
            while self.next_gossip_us <= now_us {
                self.next_gossip_us += GOSSIP_INTERVAL_US;
            }
            self.gossip(now_us, out);
        }
        if self.next_push_pull_us <= now_us {
            self.next_push_pull_us = now_us + push_pull_interval_us(self.peers.len());
            let able: Vec<usize> = (0..self.peers.len())
                .filter(|&i| i != self.me && self.peers[i].state == State::Alive)
                .collect();
            if !able.is_empty() {
                let to = able[self.rng.index(able.len())];
                self.push_pull(to, false, out);
            }
        }
    }

    fn next_us(&self) -> u64 {
        let probe = self.probe.map_or(self.next_probe_us, |probe| {
            if probe.asked {
                probe.deadline_us
            } else {
                probe.indirect_us.min(probe.deadline_us)
            }
        });
        let suspicions = self.peers.iter().filter_map(|peer| peer.suspicion.as_ref());
        let timers = suspicions
            .map(|s| s.due_us)
            .chain(self.relays.iter().map(|r| r.due_us));
        timers
            .chain([probe, self.next_gossip_us, self.next_push_pull_us])
            .min()
            .unwrap_or(u64::MAX)
    }
}

impl Suspicion {
    fn new(now_us: u64, by: usize, members: usize) -> Self {
        let scale = (members.max(1) as f64).log10().max(1.0);
        let min_us = (SUSPICION_MULT * scale * PROBE_INTERVAL_US as f64) as u64;
        let max_us = (SUSPICION_MAX_TIMEOUT_MULT * min_us as f64) as u64;
        let needed = SUSPICION_MULT as u32 - 2;
        let needed = if members < needed as usize + 2 {
            0
        } else {
            needed
        };
        let first_us = if needed == 0 { min_us } else { max_us };
        Self {
            started_us: now_us,
            due_us: now_us + first_us,
            min_us,
            max_us,
            needed,
            accusers: vec![by],
            confirmations: 0,
        }
    }

    /// Whether this accuser adds something new.
    fn confirm(&mut self, now_us: u64, by: usize) -> bool {
        if self.confirmations >= self.needed || self.accusers.contains(&by) {
            return false;
        }
        self.accusers.push(by);
        self.confirmations += 1;
        let share = f64::from(self.confirmations + 1).ln() / f64::from(self.needed + 1).ln();
        let span_us = (self.max_us - self.min_us) as f64;
        let whole_us = (self.max_us as f64 - share * span_us).max(self.min_us as f64) as u64;
        self.due_us = (self.started_us + whole_us).max(now_us);
        true
    }
}

fn push_pull_interval_us(n: usize) -> u64 {
    let n = n as f64;
    if n <= PUSH_PULL_SCALE_FROM {
        return PUSH_PULL_INTERVAL_US;
    }
    let scale = (n.log2() - PUSH_PULL_SCALE_FROM.log2()).ceil() + 1.0;
    PUSH_PULL_INTERVAL_US * scale as u64
}
