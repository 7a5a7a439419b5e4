//! Frames that came before.
//!
//! Every frame's nonce is a lane and a number. A lane is one life of one gate,
//! drawn at random; its frames are numbered as they are sealed, whoever they go
//! to. A receiver remembers of each lane how far it has come and which of the
//! last numbers it saw (RFC 6479), so that a captured frame sent again is known
//! by its header, before it is opened: it counts once here at most, and not at
//! all if its sender has gone on since. Reordering within the window is allowed.
//!
//! What comes from where its sender is at home and what comes from elsewhere is
//! remembered apart: whoever sends a copy from elsewhere, sooner than the frame
//! itself arrives, does not keep that one out.

use core::net::SocketAddr;
use std::collections::HashMap;

use crate::limits::{REPLAY_LANES, REPLAY_WORDS};

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 24;

/// The life of a gate.
pub(crate) type Lane = [u8; 16];

/// The nonces of one life.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    lane: Lane,
    last: u64,
}

impl Numbers {
    pub(crate) const fn new(lane: Lane) -> Self {
        Self { lane, last: 0 }
    }

    /// A nonce that was never used.
    pub(crate) fn next(&mut self) -> [u8; NONCE_BYTES] {
        self.last += 1;
        let mut nonce = [0; NONCE_BYTES];
        nonce[..16].copy_from_slice(&self.lane);
        nonce[16..].copy_from_slice(&self.last.to_le_bytes());
        nonce
    }
}

/// The lane and the number in a nonce.
pub(crate) fn split(nonce: &[u8; NONCE_BYTES]) -> (Lane, u64) {
    let (mut lane, mut number) = ([0; 16], [0; 8]);
    lane.copy_from_slice(&nonce[..16]);
    number.copy_from_slice(&nonce[16..]);
    (lane, u64::from_le_bytes(number))
}

/// What was seen of all lanes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Those heard of late, and those before them: who is heard again moves up.
    young: HashMap<Lane, Heard>,
    old: HashMap<Lane, Heard>,
}

/// What was seen of one lane.
#[derive(Clone, Debug, Default)]
struct Heard {
    home: Option<SocketAddr>,
    at_home: Window,
    elsewhere: Window,
}

impl Heard {
    fn window(&self, from: SocketAddr) -> &Window {
        if self.home == Some(from) {
            &self.at_home
        } else {
            &self.elsewhere
        }
    }
}

impl Seen {
    /// Whether a frame is none that came before. Nothing changes: it may be
    /// forged.
    pub(crate) fn is_new(&self, lane: &Lane, number: u64, from: SocketAddr) -> bool {
        let heard = self.young.get(lane).or_else(|| self.old.get(lane));
        heard.is_none_or(|heard| heard.window(from).is_new(number))
    }

    /// A frame came and is authentic.
    pub(crate) fn note(&mut self, lane: &Lane, number: u64, from: SocketAddr) {
        let heard = self.heard(lane);
        if heard.home == Some(from) {
            heard.at_home.note(number);
        } else {
            heard.elsewhere.note(number);
        }
    }

    /// The frames of this lane come from here, if they are their sender's own.
    pub(crate) fn set_home(&mut self, lane: &Lane, from: SocketAddr) {
        let heard = self.heard(lane);
        if heard.home != Some(from) {
            heard.home = Some(from);
            // What was seen is not new because it is known now whose it was.
            heard.at_home = heard.elsewhere.clone();
        }
    }

    fn heard(&mut self, lane: &Lane) -> &mut Heard {
        if !self.young.contains_key(lane) {
            let heard = self.old.remove(lane).unwrap_or_default();
            if self.young.len() >= REPLAY_LANES {
                self.old = core::mem::take(&mut self.young);
            }
            self.young.insert(*lane, heard);
        }
        self.young.entry(*lane).or_default()
    }
}

/// The last numbers of a lane.
#[derive(Clone, Debug)]
struct Window {
    greatest: u64,
    seen: [u64; REPLAY_WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            greatest: 0,
            seen: [0; REPLAY_WORDS],
        }
    }
}

/// Numbers that a window tells apart: one word is being cleared for those to
/// come.
const WIDTH: u64 = (REPLAY_WORDS as u64 - 1) * 64;

impl Window {
    const fn is_new(&self, number: u64) -> bool {
        if number > self.greatest {
            return true;
        }
        if self.greatest - number >= WIDTH {
            return false;
        }
        let word = self.seen[(number / 64) as usize % REPLAY_WORDS];
        word & (1 << (number % 64)) == 0
    }

    fn note(&mut self, number: u64) {
        if number > self.greatest {
            let (before, now) = (self.greatest / 64, number / 64);
            for passed in (before + 1..=now).rev().take(REPLAY_WORDS) {
                self.seen[passed as usize % REPLAY_WORDS] = 0;
            }
            self.greatest = number;
        } else if self.greatest - number >= WIDTH {
            return;
        }
        self.seen[(number / 64) as usize % REPLAY_WORDS] |= 1 << (number % 64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LANE: Lane = [7; 16];

    fn addr(n: u8) -> SocketAddr {
        ([192, 0, 2, n], 7_946).into()
    }

    fn take(seen: &mut Seen, number: u64, from: SocketAddr) -> bool {
        let new = seen.is_new(&LANE, number, from);
        if new {
            seen.note(&LANE, number, from);
        }
        new
    }

    #[test]
    fn each_frame_counts_once_and_may_be_late_within_the_window() {
        let mut seen = Seen::default();
        for number in [1, 2, 5, 3, 900, 500, 4] {
            assert!(take(&mut seen, number, addr(1)), "{number}");
            assert!(!take(&mut seen, number, addr(1)), "{number} again");
        }
        assert!(take(&mut seen, 1 << 40, addr(1)));
        for number in [6, (1 << 40) - WIDTH] {
            assert!(!take(&mut seen, number, addr(1)), "{number} is too old");
        }
        assert!(take(&mut seen, (1 << 40) - WIDTH + 1, addr(1)));
        assert!(take(&mut seen, u64::MAX, addr(1)));
        assert!(!take(&mut seen, u64::MAX, addr(1)));
    }

    #[test]
    fn a_copy_from_elsewhere_does_not_keep_the_frame_itself_out() {
        let mut seen = Seen::default();
        assert!(take(&mut seen, 1, addr(1)));
        seen.set_home(&LANE, addr(1));
        assert!(!take(&mut seen, 1, addr(1)), "it was seen before");
        assert!(take(&mut seen, 2, addr(66)), "a copy, sooner");
        assert!(!take(&mut seen, 2, addr(67)), "and again");
        assert!(take(&mut seen, 2, addr(1)), "the frame itself");
        assert!(!take(&mut seen, 2, addr(1)));
    }

    #[test]
    fn lanes_are_bounded_and_those_in_use_stay() {
        let mut seen = Seen::default();
        assert!(take(&mut seen, 5, addr(1)));
        for n in 0..10 * REPLAY_LANES as u128 {
            seen.note(&n.to_le_bytes(), 1, addr(2));
            if n.is_multiple_of(100) {
                seen.note(&LANE, 6 + n as u64, addr(1));
            }
        }
        assert!(seen.young.len() + seen.old.len() <= 2 * REPLAY_LANES);
        assert!(!seen.is_new(&LANE, 5, addr(1)));
    }

    proptest! {
        #[test]
        fn nothing_counts_twice(numbers in proptest::collection::vec(0_u64..3_000, 1..400)) {
            let mut seen = Seen::default();
            let mut taken = std::collections::BTreeSet::new();
            let mut greatest = 0;
            for number in numbers {
                let new = take(&mut seen, number, addr(1));
                let known = taken.contains(&number);
                let young = number + WIDTH > greatest;
                prop_assert_eq!(new, !known && young, "{}", number);
                if new {
                    taken.insert(number);
                    greatest = greatest.max(number);
                }
            }
        }
    }
}
