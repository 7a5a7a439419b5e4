//! What one node may send, in every state and whatever its size of POP: one
//! bucket of datagrams and one of bulk bytes.
//!
//! Every datagram has a [`Class`]. The bucket is full in the calm; as it runs
//! low the classes give way one after the other, the least needed first, and
//! what is vital goes on until it is empty. Acks may overdraw it, for whoever
//! does not answer is suspected, and each suspicion costs the POP more than the
//! ack would have. Nothing here is kept for later: whoever asks in vain asks
//! again when it has more to say, in fewer datagrams.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use watchfire_wire::Time;

use crate::limits::{
    ACK_BURST_PER_PEER, ACK_DEBT, ACKS_PER_PEER_PER_SECOND, BULK_BURST, BULK_BYTES_PER_SECOND,
    DATAGRAM_BURST, DATAGRAM_COST_BYTES, DATAGRAMS_PER_SECOND,
};

/// What a datagram is for, in the order in which they give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// News told again, or told beside the tree, against loss: digests find
    /// what it would have carried.
    Echo,
    /// Repair of claims that differ: whatever differs still differs later.
    Repair,
    /// News of members and of logs: it rides on pings, or digests find it.
    News,
    /// Pings that are repeated, or sent by others or for others.
    Retry,
    /// Pulls and their answers.
    Pull,
    /// Questions and answers for second opinions: before words can be pulled
    /// there must be some, and whoever gets no answer waits to write one.
    Opinion,
    /// Views of who is there, and the parts of them that differ, a few a
    /// second: who does not know the members gives each check to the wrong one,
    /// and every pull for those checks is in vain.
    View,
    /// The first ping of a round, joins and what answers them, goodbyes.
    Vital,
    /// Answers to pings.
    Ack,
}

impl Class {
    /// All of them, the first to give way first.
    pub const ALL: [Self; 9] = [
        Self::Echo,
        Self::Repair,
        Self::News,
        Self::Retry,
        Self::Pull,
        Self::Opinion,
        Self::View,
        Self::Vital,
        Self::Ack,
    ];

    /// The name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Repair => "repair",
            Self::Opinion => "opinion",
            Self::News => "news",
            Self::Retry => "retry",
            Self::Pull => "pull",
            Self::View => "view",
            Self::Vital => "vital",
            Self::Ack => "ack",
        }
    }

    /// The counter of those that were withheld.
    #[must_use]
    pub const fn counter(self) -> &'static str {
        match self {
            Self::Echo => "datagrams_withheld_echo",
            Self::Repair => "datagrams_withheld_repair",
            Self::Opinion => "datagrams_withheld_opinion",
            Self::News => "datagrams_withheld_news",
            Self::Retry => "datagrams_withheld_retry",
            Self::Pull => "datagrams_withheld_pull",
            Self::View => "datagrams_withheld_view",
            Self::Vital => "datagrams_withheld_vital",
            Self::Ack => "datagrams_withheld_ack",
        }
    }

    /// What must be left in the bucket for those that give way later,
    /// thousandths of a datagram.
    const fn reserve_milli(self) -> i64 {
        let burst = milli(DATAGRAM_BURST);
        match self {
            Self::Echo => burst / 20 * 14,
            Self::Repair => burst / 20 * 12,
            Self::News => burst / 20 * 8,
            Self::Retry => burst / 20 * 3,
            Self::Pull => burst / 40 * 5,
            Self::Opinion => burst / 40 * 4,
            Self::View => burst / 40 * 3,
            Self::Vital => 0,
            Self::Ack => -milli(ACK_DEBT),
        }
    }
}

/// How much of the bucket is in hand at one moment. The parts of a node spend
/// from a copy while they decide; the node keeps the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    milli: i64,
}

impl Spare {
    /// As much as there can be.
    pub const FULL: Self = Self {
        milli: milli(DATAGRAM_BURST),
    };

    /// A datagram of this class may go out.
    #[must_use]
    pub const fn has(self, class: Class) -> bool {
        self.milli > class.reserve_milli()
    }

    /// Takes leave to send one datagram of this class.
    #[must_use]
    pub const fn take(&mut self, class: Class) -> bool {
        let granted = self.has(class);
        if granted {
            self.milli -= milli(1);
        }
        granted
    }

    /// One datagram goes out, whatever is left.
    pub const fn spend(&mut self) {
        self.milli -= milli(1);
    }

    /// How many datagrams of this class may go out now.
    #[must_use]
    pub fn count(self, class: Class) -> usize {
        let above = (self.milli - class.reserve_milli()).max(0);
        usize::try_from(above / milli(1)).unwrap_or(0)
    }

    /// How full the bucket is, in tenths: 10 in the calm.
    #[must_use]
    pub fn tenths(self) -> u32 {
        let tenths = self.milli.max(0) * 10 / milli(DATAGRAM_BURST);
        u32::try_from(tenths).unwrap_or(10)
    }
}

/// The books of what one node sends.
#[derive(Clone, Debug)]
pub struct Budget {
    milli: i64,
    bulk: i64,
    /// Up to when both were filled.
    filled: Time,
    acks: BTreeMap<SocketAddr, AckBucket>,
    withheld: [u64; Class::ALL.len()],
    bulk_deferred: u64,
}

#[derive(Clone, Copy, Debug)]
struct AckBucket {
    milli: i64,
    filled: Time,
}

impl Budget {
    /// Full buckets.
    #[must_use]
    pub const fn new(now: Time) -> Self {
        Self {
            milli: milli(DATAGRAM_BURST),
            bulk: BULK_BURST as i64,
            filled: now,
            acks: BTreeMap::new(),
            withheld: [0; Class::ALL.len()],
            bulk_deferred: 0,
        }
    }

    /// What is in hand.
    pub fn spare(&mut self, now: Time) -> Spare {
        self.fill(now);
        Spare { milli: self.milli }
    }

    /// A datagram of so many bytes went out.
    pub fn spend(&mut self, now: Time, bytes: usize) {
        self.fill(now);
        self.milli -= cost_milli(bytes);
    }

    /// An ack to this address may go out: each has a share of its own, so that
    /// one that asks without end does not use up the others'.
    pub fn may_ack(&mut self, now: Time, to: SocketAddr) -> bool {
        let full = milli(ACK_BURST_PER_PEER);
        if self.acks.len() >= crate::limits::ACK_BUCKETS && !self.acks.contains_key(&to) {
            // A full bucket is the same as none.
            self.acks.retain(|_, bucket| bucket.at(now) < full);
            if self.acks.len() >= crate::limits::ACK_BUCKETS {
                self.withhold(Class::Ack);
                return false;
            }
        }
        let bucket = self.acks.entry(to).or_insert(AckBucket {
            milli: full,
            filled: now,
        });
        bucket.milli = bucket.at(now);
        bucket.filled = now;
        if bucket.milli < milli(1) {
            self.withhold(Class::Ack);
            return false;
        }
        bucket.milli -= milli(1);
        true
    }

    /// A frame may go out on a bulk stream now. A single one may overdraw the
    /// bucket; the next then waits.
    pub fn grant_bulk(&mut self, now: Time) -> bool {
        self.fill(now);
        if self.bulk <= 0 {
            self.bulk_deferred += 1;
        }
        self.bulk > 0
    }

    /// A frame of so many bytes went out on a bulk stream.
    pub fn spend_bulk(&mut self, now: Time, bytes: usize) {
        self.fill(now);
        self.bulk -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// When the next bulk frame may go out.
    #[must_use]
    pub fn bulk_at(&self) -> Time {
        if self.bulk > 0 {
            return Time::ZERO;
        }
        let missing = u64::try_from(1 - self.bulk).unwrap_or(0);
        let wait_us = missing * 1_000_000 / BULK_BYTES_PER_SECOND + 1;
        Time(self.filled.0.saturating_add(wait_us))
    }

    /// Counts what was not even built because there was no room for it.
    pub const fn withhold(&mut self, class: Class) {
        self.withheld[class as usize] += 1;
    }

    /// Datagrams given up, by class.
    #[must_use]
    pub const fn withheld(&self) -> &[u64; Class::ALL.len()] {
        &self.withheld
    }

    /// Bulk frames that had to wait.
    #[must_use]
    pub const fn bulk_deferred(&self) -> u64 {
        self.bulk_deferred
    }

    fn fill(&mut self, now: Time) {
        let passed_us = i64::try_from(now.since(self.filled).as_micros()).unwrap_or(i64::MAX);
        if passed_us == 0 {
            return;
        }
        // Longer than it takes to fill both from their deepest.
        let passed_us = passed_us.min(FILL_US);
        self.filled = now;
        self.milli = (self.milli + passed_us * DATAGRAMS_PER_SECOND as i64 / 1_000)
            .min(milli(DATAGRAM_BURST));
        let bulk = passed_us * BULK_BYTES_PER_SECOND as i64 / 1_000_000;
        self.bulk = (self.bulk + bulk).min(BULK_BURST as i64);
    }
}

impl AckBucket {
    fn at(self, now: Time) -> i64 {
        let passed_us = i64::try_from(now.since(self.filled).as_micros()).unwrap_or(FILL_US);
        let earned = passed_us.min(FILL_US) * ACKS_PER_PEER_PER_SECOND as i64 / 1_000;
        (self.milli + earned).min(milli(ACK_BURST_PER_PEER))
    }
}

/// After so long every bucket is full, however deep it was, microseconds.
const FILL_US: i64 = 3_600_000_000;

const fn milli(datagrams: u64) -> i64 {
    datagrams as i64 * 1_000
}

/// What a datagram costs: one, or more if it is larger than what one second's
/// bytes leave for each of its datagrams.
fn cost_milli(bytes: usize) -> i64 {
    let by_bytes = bytes as u64 * 1_000 / DATAGRAM_COST_BYTES;
    i64::try_from(by_bytes).unwrap_or(i64::MAX).max(milli(1))
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn grant(budget: &mut Budget, now: Time, class: Class, bytes: usize) -> bool {
        let granted = budget.spare(now).has(class);
        if granted {
            budget.spend(now, bytes);
        }
        granted
    }

    fn member(n: u64) -> SocketAddr {
        let port = u16::try_from(n % 60_000).expect("below 2^16") + 1;
        ([127, 0, 0, u8::try_from(n / 60_000).expect("small")], port).into()
    }

    #[test]
    fn classes_give_way_in_their_order_and_acks_last() {
        let now = Time::from_millis(1);
        let mut budget = Budget::new(now);
        let mut counts = Vec::new();
        for class in Class::ALL {
            let mut sent = 0;
            while grant(&mut budget, now, class, 100) {
                sent += 1;
            }
            counts.push(sent);
        }
        let total: u64 = counts.iter().sum();
        assert_eq!(total, DATAGRAM_BURST + ACK_DEBT);
        assert!(counts.iter().all(|&sent| sent > 0), "{counts:?}");
        let spare = budget.spare(now);
        assert!(Class::ALL.iter().all(|&class| !spare.has(class)));
        assert_eq!(spare.tenths(), 0);
    }

    #[test]
    fn one_member_cannot_use_up_the_acks_of_others() {
        let now = Time::from_millis(1);
        let mut budget = Budget::new(now);
        let granted = (0..1_000)
            .filter(|_| budget.may_ack(now, member(1)))
            .count();
        assert_eq!(granted as u64, ACK_BURST_PER_PEER);
        assert!(budget.may_ack(now, member(2)));
        let later = now + Duration::from_secs(1);
        let granted = (0..1_000)
            .filter(|_| budget.may_ack(later, member(1)))
            .count();
        assert_eq!(granted as u64, ACKS_PER_PEER_PER_SECOND);
    }

    #[test]
    fn the_buckets_of_acks_are_bounded() {
        let now = Time::from_millis(1);
        let mut budget = Budget::new(now);
        let many = crate::limits::ACK_BUCKETS as u64 + 10;
        let granted = (0..many)
            .filter(|&n| budget.may_ack(now, member(n)))
            .count();
        assert_eq!(granted, crate::limits::ACK_BUCKETS);
        assert!(budget.may_ack(now + Duration::from_secs(60), member(many)));
    }

    #[test]
    fn a_bulk_frame_waits_for_the_last_one_to_be_paid() {
        let now = Time::from_millis(1);
        let mut budget = Budget::new(now);
        assert!(budget.grant_bulk(now));
        budget.spend_bulk(now, BULK_BURST as usize + 1_000);
        assert!(!budget.grant_bulk(now));
        let at = budget.bulk_at();
        assert!(at > now && at < now + Duration::from_millis(50));
        assert!(budget.grant_bulk(at));
    }

    proptest! {
        /// The law that everything else leans on: whatever is asked for, in
        /// whatever order, no window sees more than burst, debt and its rate.
        #[test]
        fn no_window_holds_more_than_its_bound(
            asks in prop::collection::vec((0_u64..40_000, 0_usize..Class::ALL.len(), 40_usize..9_000), 1..600)
        ) {
            let mut now = Time::from_millis(5);
            let mut budget = Budget::new(now);
            let mut sent: Vec<(Time, usize)> = Vec::new();
            for (wait_us, class, bytes) in asks {
                now += Duration::from_micros(wait_us);
                if grant(&mut budget, now, Class::ALL[class], bytes) {
                    sent.push((now, bytes));
                }
            }
            for first in 0..sent.len() {
                let mut datagrams = 0;
                let mut bytes_sent = 0;
                for &(at, bytes) in &sent[first..] {
                    datagrams += 1;
                    bytes_sent += bytes as u64;
                    let seconds = at.since(sent[first].0).as_secs_f64();
                    let most = (DATAGRAM_BURST + ACK_DEBT) as f64
                        + seconds * DATAGRAMS_PER_SECOND as f64 + 8.0;
                    prop_assert!(f64::from(datagrams) <= most);
                    prop_assert!(bytes_sent as f64 <= most * DATAGRAM_COST_BYTES as f64 * 1.01);
                }
            }
        }
    }
}
