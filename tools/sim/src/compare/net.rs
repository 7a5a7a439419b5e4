//! One network for all contestants: N members, the same delays, the same
//! losses, the same slow members. It knows nothing of any protocol.

use crate::queue::Queue;
use crate::rng::Rng;

/// Bytes of IP and UDP headers per datagram.
pub const UDP_HEADER_BYTES: u64 = 28;
/// Bytes of IP and TCP headers (with timestamps) per segment.
pub const TCP_HEADER_BYTES: u64 = 52;
/// A TCP segment that was lost comes this much later, microseconds: Linux's
/// smallest retransmission time-out.
const TCP_RETRY_US: u64 = 200_000;
/// Retransmissions before a connection counts as failed.
const TCP_RETRIES: u32 = 6;

/// What a member wants done.
#[derive(Debug)]
pub enum Effect<M> {
    /// Send a datagram.
    Send {
        /// To which member.
        to: usize,
        /// What.
        message: M,
        /// Its size without headers.
        bytes: usize,
    },
    /// Send over a connection: late rather than lost.
    Stream {
        /// To which member.
        to: usize,
        /// What.
        message: M,
        /// Its size without headers.
        bytes: usize,
    },
    /// The member holds this one for dead.
    Died(usize),
    /// The member suspects this one.
    Suspected(usize),
    /// The member holds this one for alive.
    Alive(usize),
}

/// A contestant's member, driven in virtual time.
pub trait Member {
    /// What goes over the network.
    type Message;

    /// A message arrived.
    fn receive(
        &mut self,
        now_us: u64,
        from: usize,
        message: Self::Message,
        out: &mut Vec<Effect<Self::Message>>,
    );

    /// The time that [`Member::next_us`] named has come.
    fn wake(&mut self, now_us: u64, out: &mut Vec<Effect<Self::Message>>);

    /// When to wake the member next.
    fn next_us(&self) -> u64;
}

/// The weather.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Least one-way delay, microseconds.
    pub delay_us: u64,
    /// Mean of what is added to it, exponentially distributed, microseconds.
    pub jitter_us: u64,
    /// Share of datagrams (and segments) lost.
    pub loss: f64,
}

impl Default for Weather {
    /// 0.2 ms round trip, no loss.
    fn default() -> Self {
        Self {
            delay_us: 95,
            jitter_us: 5,
            loss: 0.0,
        }
    }
}

/// What the network counted for one member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Packets sent.
    pub packets: u64,
    /// Bytes sent, headers counted.
    pub bytes: u64,
}

/// Something that a member came to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief {
    /// When, microseconds.
    pub at_us: u64,
    /// Who believes it.
    pub observer: usize,
    /// Of whom.
    pub subject: usize,
    /// What.
    pub what: What,
}

/// What can be believed of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It lives.
    Alive,
    /// It may be dead.
    Suspect,
    /// It is dead.
    Dead,
}

/// Members in one network.
pub struct Arena<T: Member> {
    members: Vec<Option<T>>,
    blocked_until_us: Vec<u64>,
    woken_for_us: Vec<u64>,
    queue: Queue<Happening<T::Message>>,
    weather: Weather,
    rng: Rng,
    now_us: u64,
    traffic: Vec<Traffic>,
    beliefs: Vec<Belief>,
    out: Vec<Effect<T::Message>>,
}

enum Happening<M> {
    Wake(usize),
    Arrive { to: usize, from: usize, message: M },
}

impl<T: Member> Arena<T> {
    /// Members that exist from the start.
    #[must_use]
    pub fn new(members: Vec<T>, weather: Weather, rng: Rng) -> Self {
        let n = members.len();
        let mut arena = Self {
            members: members.into_iter().map(Some).collect(),
            blocked_until_us: vec![0; n],
            woken_for_us: vec![u64::MAX; n],
            queue: Queue::default(),
            weather,
            rng,
            now_us: 0,
            traffic: vec![Traffic::default(); n],
            beliefs: Vec::new(),
            out: Vec::new(),
        };
        for i in 0..n {
            arena.arm(i);
        }
        arena
    }

    /// Virtual time, microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Runs until this time, and to its very end.
    pub fn run_until(&mut self, end_us: u64) {
        while self.queue.next_us().is_some_and(|at| at <= end_us) {
            let (at_us, happening) = self.queue.pop().expect("an event is waiting");
            self.now_us = at_us;
            self.step(happening);
        }
        self.now_us = end_us;
    }

    /// Ends a member's process without a word.
    pub fn crash(&mut self, member: usize) {
        self.members[member] = None;
    }

    /// Blocks a member: what it sends and what arrives is held back until then,
    /// while its timers go on. So were slow members made in the evaluation of
    /// Lifeguard (arXiv 1707.00788): a starved process that still thinks that
    /// time is passing.
    pub fn block(&mut self, member: usize, until_us: u64) {
        self.blocked_until_us[member] = until_us;
    }

    /// Changes the weather from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// What was believed since the last call.
    pub fn take_beliefs(&mut self) -> Vec<Belief> {
        std::mem::take(&mut self.beliefs)
    }

    /// What was sent since the last call, by member.
    pub fn take_traffic(&mut self) -> Vec<Traffic> {
        let fresh = vec![Traffic::default(); self.traffic.len()];
        std::mem::replace(&mut self.traffic, fresh)
    }

    /// A member, for a scenario's own commands; `None` once it has crashed.
    pub fn with(
        &mut self,
        member: usize,
        act: impl FnOnce(&mut T, u64, &mut Vec<Effect<T::Message>>),
    ) {
        let Some(it) = &mut self.members[member] else {
            return;
        };
        act(it, self.now_us, &mut self.out);
        self.carry_out(member);
        self.arm(member);
    }

    fn step(&mut self, happening: Happening<T::Message>) {
        let i = match &happening {
            Happening::Wake(i) => *i,
            Happening::Arrive { to, .. } => *to,
        };
        let stale = matches!(happening, Happening::Wake(_)) && self.woken_for_us[i] != self.now_us;
        let Some(member) = self.members[i].as_mut().filter(|_| !stale) else {
            return;
        };
        let blocked_until_us = self.blocked_until_us[i];
        if blocked_until_us > self.now_us && matches!(happening, Happening::Arrive { .. }) {
            self.queue.push(blocked_until_us, happening);
            return;
        }
        match happening {
            Happening::Wake(_) => {
                self.woken_for_us[i] = u64::MAX;
                member.wake(self.now_us, &mut self.out);
            }
            Happening::Arrive { from, message, .. } => {
                member.receive(self.now_us, from, message, &mut self.out);
            }
        }
        self.carry_out(i);
        self.arm(i);
    }

    fn arm(&mut self, i: usize) {
        let Some(member) = &self.members[i] else {
            return;
        };
        let next_us = member.next_us();
        if next_us != u64::MAX && next_us < self.woken_for_us[i] {
            self.woken_for_us[i] = next_us.max(self.now_us);
            self.queue.push(self.woken_for_us[i], Happening::Wake(i));
        }
    }

    fn carry_out(&mut self, from: usize) {
        let mut out = std::mem::take(&mut self.out);
        for effect in out.drain(..) {
            match effect {
                Effect::Send { to, message, bytes } => {
                    self.count(from, 1, bytes as u64 + UDP_HEADER_BYTES);
                    if !self.rng.chance(self.weather.loss) {
                        let at_us = self.sent_us(from) + self.delay_us();
                        self.queue
                            .push(at_us, Happening::Arrive { to, from, message });
                    }
                }
                Effect::Stream { to, message, bytes } => self.stream(from, to, message, bytes),
                Effect::Died(subject) => self.believe(from, subject, What::Dead),
                Effect::Suspected(subject) => self.believe(from, subject, What::Suspect),
                Effect::Alive(subject) => self.believe(from, subject, What::Alive),
            }
        }
        self.out = out;
    }

    /// Handshake, data, and the sender's share of the closing, with a
    /// retransmission time-out for each segment that is lost.
    fn stream(&mut self, from: usize, to: usize, message: T::Message, bytes: usize) {
        let segments = 3 + bytes as u64 / 1_448;
        self.count(
            from,
            segments + 1,
            bytes as u64 + (segments + 1) * TCP_HEADER_BYTES,
        );
        let mut at_us = self.sent_us(from) + 3 * self.delay_us();
        for _ in 0..segments {
            let mut tries = 0;
            while self.rng.chance(self.weather.loss) {
                at_us += TCP_RETRY_US << tries;
                tries += 1;
                if tries > TCP_RETRIES {
                    return;
                }
            }
        }
        self.queue
            .push(at_us, Happening::Arrive { to, from, message });
    }

    /// When what a member sends now really leaves it.
    fn sent_us(&self, from: usize) -> u64 {
        self.now_us.max(self.blocked_until_us[from])
    }

    fn delay_us(&mut self) -> u64 {
        self.weather.delay_us + self.rng.exponential(self.weather.jitter_us as f64) as u64
    }

    fn count(&mut self, member: usize, packets: u64, bytes: u64) {
        self.traffic[member].packets += packets;
        self.traffic[member].bytes += bytes;
    }

    fn believe(&mut self, observer: usize, subject: usize, what: What) {
        self.beliefs.push(Belief {
            at_us: self.now_us,
            observer,
            subject,
            what,
        });
    }
}
