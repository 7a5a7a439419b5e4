//! The network between the hosts: what happens to each datagram and to each
//! segment of a stream. It moves opaque bytes and knows no protocol.

use crate::faults::{Fault, Fired};
use crate::rng::Rng;

/// A segment whose loss nothing shows comes this much later, microseconds:
/// Linux's smallest retransmission time-out, doubled with each further loss of
/// it. Losses that later segments show are made good within a round trip, also
/// if it is lost again, and that of a stream's end by a probe (RFC 8985,
/// RACK-TLP).
const RETRY_US: u64 = 200_000;
/// The same for the handshake: Linux's first time-out.
const SYN_RETRY_US: u64 = 1_000_000;
/// What Linux adds to two round trips before it probes for a lost end.
const TAIL_PROBE_US: u64 = 8_000;
/// Losses of one segment; the next one arrives.
const STREAM_TRIES: u32 = 5;
/// Payload of a full segment.
const SEGMENT_BYTES: usize = 1_448;
/// A stream across a cut link fails after this time, microseconds.
pub const STREAM_TIMEOUT_US: u64 = 3_000_000;
/// Time on the wire per byte of a stream, nanoseconds: a gigabit per second.
const STREAM_NS_PER_BYTE: u64 = 8;
/// Recorded datagrams, for replay. At the limit the oldest makes room.
const TAPE: usize = 256;

/// The shares of datagrams that suffer, and the delays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Least one-way delay, microseconds.
    pub delay_us: u64,
    /// Mean of what is added to it, exponentially distributed, microseconds.
    pub jitter_us: u64,
    /// Share that is lost.
    pub loss: f64,
    /// Share that arrives twice.
    pub duplication: f64,
    /// Share that is held back, so that later ones overtake it.
    pub reordering: f64,
    /// Share that takes tens of milliseconds.
    pub late: f64,
    /// Share that is cut short.
    pub truncation: f64,
    /// Share that arrives with wrong bits.
    pub bit_flips: f64,
}

impl Default for Weather {
    /// 0.2 ms round trip, nothing suffers.
    fn default() -> Self {
        Self {
            delay_us: 95,
            jitter_us: 5,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            late: 0.0,
            truncation: 0.0,
            bit_flips: 0.0,
        }
    }
}

/// The network.
#[derive(Debug)]
pub struct Net {
    /// How it behaves at present.
    pub weather: Weather,
    /// The half that each host is in; hosts in different halves are cut off.
    side: Vec<u8>,
    /// Only what side 1 sends to side 0 is cut off.
    one_way: bool,
    tape: Vec<Recorded>,
    tape_at: usize,
    recording: bool,
    rng: Rng,
}

/// A datagram as it was once sent.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// By which host.
    pub from: usize,
    /// To which host.
    pub to: usize,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// A copy of a datagram that will arrive.
#[derive(Debug)]
pub struct Arrival {
    /// How long it takes, microseconds.
    pub after_us: u64,
    /// What arrives.
    pub bytes: Vec<u8>,
}

impl Net {
    /// A network between so many hosts.
    #[must_use]
    pub fn new(hosts: usize, rng: Rng) -> Self {
        Self {
            weather: Weather::default(),
            side: vec![0; hosts],
            one_way: false,
            tape: Vec::new(),
            tape_at: 0,
            recording: false,
            rng,
        }
    }

    /// What becomes of a datagram: it arrives not at all, once or twice.
    pub fn carry(
        &mut self,
        from: usize,
        to: usize,
        mut bytes: Vec<u8>,
        fired: &mut Fired,
    ) -> [Option<Arrival>; 2] {
        if self.recording {
            self.record(from, to, &bytes);
        }
        if self.is_cut(from, to) {
            fired.count(if self.one_way {
                Fault::OneWay
            } else {
                Fault::Partition
            });
            return [None, None];
        }
        let weather = self.weather;
        if self.rng.chance(weather.loss) {
            fired.count(Fault::Loss);
            return [None, None];
        }
        let mut after_us = self.delay_us();
        if self.rng.chance(weather.reordering) {
            fired.count(Fault::Reordering);
            after_us += self.rng.range(200, 5_000);
        }
        if self.rng.chance(weather.late) {
            fired.count(Fault::Delay);
            after_us += 10_000 + self.rng.exponential(30_000.0) as u64;
        }
        let copy = if self.rng.chance(weather.duplication) {
            fired.count(Fault::Duplication);
            let after_us = after_us + self.rng.below(2_000);
            Some(Arrival {
                after_us,
                bytes: bytes.clone(),
            })
        } else {
            None
        };
        if self.rng.chance(weather.truncation) && !bytes.is_empty() {
            fired.count(Fault::Truncation);
            bytes.truncate(self.rng.index(bytes.len()));
        }
        if self.rng.chance(weather.bit_flips) && !bytes.is_empty() {
            fired.count(Fault::BitFlips);
            for _ in 0..=self.rng.index(3) {
                let at = self.rng.index(bytes.len());
                bytes[at] ^= 1 << self.rng.below(8);
            }
        }
        [Some(Arrival { after_us, bytes }), copy]
    }

    /// How long a stream takes for so many bytes, microseconds, with the
    /// handshake before the first; nothing if the link is cut.
    pub fn stream_us(
        &mut self,
        from: usize,
        to: usize,
        bytes: usize,
        first: bool,
        fired: &mut Fired,
    ) -> Option<u64> {
        if self.is_cut(from, to) || self.is_cut(to, from) {
            return None;
        }
        let mut total_us = self.delay_us() + bytes as u64 * STREAM_NS_PER_BYTE / 1_000;
        if first {
            total_us += 2 * self.delay_us();
            // The SYN and its answer: nothing is known of the path yet.
            total_us += self.lost_us(SYN_RETRY_US, SYN_RETRY_US, fired);
            total_us += self.lost_us(SYN_RETRY_US, SYN_RETRY_US, fired);
        }
        let segments = 1 + bytes / SEGMENT_BYTES;
        let round_trip_us = 2 * self.delay_us();
        for behind in (0..segments).rev() {
            let (noticed_us, retry_us) = match (segments, behind) {
                // Alone, it is sent again when its timer runs out.
                (1, _) => (RETRY_US, RETRY_US),
                // The last one is probed for, as nothing comes behind it.
                (_, 0) => (2 * round_trip_us + TAIL_PROBE_US, RETRY_US),
                // What comes behind it shows that it is missing, and again.
                _ => (round_trip_us, round_trip_us),
            };
            total_us += self.lost_us(noticed_us, retry_us, fired);
        }
        Some(total_us)
    }

    /// What one segment's losses cost: the first is made good after
    /// `noticed_us`, the next after `retry_us`, and twice that each further time.
    fn lost_us(&mut self, noticed_us: u64, retry_us: u64, fired: &mut Fired) -> u64 {
        let mut cost_us = 0;
        for tries in 0..STREAM_TRIES {
            if !self.rng.chance(self.weather.loss) {
                break;
            }
            fired.count(Fault::Loss);
            cost_us += match tries {
                0 => noticed_us,
                _ => retry_us << (tries - 1),
            };
        }
        cost_us
    }

    /// Whether what one host sends cannot reach the other.
    #[must_use]
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.side[from], self.side[to]);
        from != to && (!self.one_way || from == 1)
    }

    /// The component that a host is in. Cut one way only, hosts still count as
    /// one component.
    #[must_use]
    pub fn component(&self, host: usize) -> usize {
        if self.one_way {
            0
        } else {
            usize::from(self.side[host])
        }
    }

    /// Whether all hosts hear each other.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.side.iter().all(|&side| side == self.side[0])
    }

    /// Cuts the hosts named from all others.
    pub fn cut(&mut self, hosts: &[usize], one_way: bool) {
        self.side.fill(0);
        for &host in hosts {
            self.side[host] = 1;
        }
        self.one_way = one_way;
    }

    /// Everybody hears everybody again.
    pub fn heal(&mut self) {
        self.side.fill(0);
        self.one_way = false;
    }

    /// Begins to record datagrams for replay, or ends it.
    pub fn set_recording(&mut self, recording: bool) {
        self.recording = recording;
    }

    /// One of the recorded datagrams.
    pub fn recorded(&mut self) -> Option<Recorded> {
        let at = self.rng.index(self.tape.len());
        self.tape.get(at).cloned()
    }

    fn record(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let recorded = Recorded {
            from,
            to,
            bytes: bytes.to_vec(),
        };
        if self.tape.len() < TAPE {
            self.tape.push(recorded);
        } else {
            // An uneven stride, so that the tape holds old and new alike.
            self.tape[self.tape_at % TAPE] = recorded;
            self.tape_at += 1 + self.rng.index(3);
        }
    }

    fn delay_us(&mut self) -> u64 {
        self.weather.delay_us + self.rng.exponential(self.weather.jitter_us as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(net: &mut Net, fired: &mut Fired, from: usize, to: usize) -> usize {
        let arrivals = net.carry(from, to, vec![7; 100], fired);
        arrivals.iter().flatten().count()
    }

    #[test]
    fn a_cut_holds_in_the_directions_it_was_made_for() {
        let mut net = Net::new(3, Rng::new(1));
        let mut fired = Fired::default();
        net.cut(&[2], false);
        assert_eq!(arrivals(&mut net, &mut fired, 0, 1), 1);
        assert_eq!(arrivals(&mut net, &mut fired, 0, 2), 0);
        assert_eq!(arrivals(&mut net, &mut fired, 2, 0), 0);
        net.cut(&[2], true);
        assert_eq!(arrivals(&mut net, &mut fired, 0, 2), 1);
        assert_eq!(arrivals(&mut net, &mut fired, 2, 0), 0);
        assert!(net.stream_us(0, 2, 10, true, &mut fired).is_none());
        net.heal();
        assert_eq!(arrivals(&mut net, &mut fired, 2, 0), 1);
        assert_eq!(
            (fired.times(Fault::Partition), fired.times(Fault::OneWay)),
            (2, 1)
        );
    }

    #[test]
    fn each_kind_of_weather_falls() {
        let mut net = Net::new(2, Rng::new(1));
        let mut fired = Fired::default();
        net.weather = Weather {
            loss: 0.1,
            duplication: 0.1,
            reordering: 0.1,
            late: 0.1,
            truncation: 0.1,
            bit_flips: 0.1,
            ..Weather::default()
        };
        for _ in 0..1_000 {
            arrivals(&mut net, &mut fired, 0, 1);
        }
        for fault in [
            Fault::Loss,
            Fault::Duplication,
            Fault::Reordering,
            Fault::Delay,
            Fault::Truncation,
            Fault::BitFlips,
        ] {
            assert!((50..200).contains(&fired.times(fault)), "{fault}");
        }
    }
}
