//! What members say about checks: claims, slots, pulls and their parts.

#![allow(
    missing_docs,
    reason = "rkyv's derive leaves the fields of an enum's resolver without docs; all that is written here has some"
)]

use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::{Actor, CheckId, NodeId};
use crate::verdict::Verdict;

/// A replication body.
#[derive(Clone, Debug, PartialEq, Archive, Serialize)]
pub enum Replica {
    /// "These are the versions I have seen, of these actors; send me what I
    /// lack."
    Pull {
        /// Names the answer.
        pull: u64,
        /// Of any subset of actors, in order.
        claims: Vec<Claim>,
        /// Within this range the claims are all that the requester holds: an
        /// actor there that is not named is unknown to it. Without a range,
        /// only the named actors are asked about.
        cover: Option<Cover>,
        /// Floors of the nodes within the range.
        floors: Vec<Floor>,
    },
    /// One numbered part of the answer to a pull. Parts are staged and applied
    /// all or none.
    Part {
        /// The pull's.
        pull: u64,
        /// Names the snapshot that the parts were cut from: a duplicated pull
        /// is answered twice, and parts of two answers never mix.
        answer: u64,
        /// Which part, from 0.
        index: u16,
        /// Of how many.
        count: u16,
        /// What changed, by actor. A delta whose slots fill several parts is
        /// repeated in each with its share of the slots.
        deltas: Vec<Delta>,
        /// Asked-for actors that are gone for good.
        floors: Vec<Floor>,
    },
    /// The answer is too large for datagrams: come and get it over TCP.
    BulkOffer {
        /// The pull's.
        pull: u64,
        /// Worth one connection, for a short time.
        token: u64,
    },
    /// The first frame of a bulk stream: redeems the token.
    BulkHello {
        /// The offer's pull.
        pull: u64,
        /// The offer's token.
        token: u64,
    },
    /// "These actors have written up to here": pull it if you lack it.
    Notify {
        /// Heads of logs.
        heads: Vec<Head>,
        /// How many rounds this news has travelled.
        hops: u8,
    },
    /// Second opinions: "probe these checks once and tell me".
    Ask {
        /// The questions.
        questions: Vec<Question>,
    },
    /// Answers to [`Replica::Ask`].
    Opinion {
        /// The answers.
        opinions: Vec<Opinion>,
    },
    /// A person wants to know: "probe this check once and tell me all of it".
    Look {
        /// Which.
        question: Question,
    },
    /// The answer to [`Replica::Look`].
    Seen {
        /// The question's number.
        look: u64,
        /// What was asked about.
        check: CheckId,
        /// What the probe found.
        sight: Sight,
    },
    /// How this node's probes fare, while much fails here or elsewhere.
    Weather {
        /// The figures.
        weather: Weather,
    },
    /// "Your set of checks is not mine: which of yours are in the buckets that
    /// differ?"
    SetAsk {
        /// The hash of the set that is asked about: the peer's present one.
        set: u64,
        /// The answer begins with checks of at least this prefix.
        from: u64,
        /// The sum of each bucket of the asker's own set, in order.
        sums: Vec<u64>,
    },
    /// The answer to [`Replica::SetAsk`]: within the buckets that differ, all
    /// checks whose prefix lies in a range.
    SetPart {
        /// The question's.
        set: u64,
        /// The first prefix of the range.
        from: u64,
        /// The last prefix of the range.
        last: u64,
        /// Which buckets differ, the first one as the lowest bit.
        differ: u64,
        /// The first 8 bytes of the checks' ids, in order.
        prefixes: Vec<u64>,
    },
}

/// What one node's probes showed within a window that ends now, of checks that
/// were good before. In thousandths of a check, or of a network; a network
/// counts one, however many of its checks a node probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Weather {
    /// Length of the window, milliseconds.
    pub window_ms: u32,
    /// Checks that were probed.
    pub probed: u32,
    /// Of those, checks that failed.
    pub failed: u32,
    /// Networks that were probed.
    pub networks_probed: u32,
    /// Their failing parts.
    pub networks_failed: u32,
    /// Which networks failed: one bit of 64 for each, by its hash.
    pub networks: u64,
}

/// What one probe found, as far as it goes into a line for people. Times are from
/// the probe's start on, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Sight {
    /// The code of a [`Reason`](crate::Reason) or an [`Unmeasured`](crate::Unmeasured).
    pub code: u8,
    /// It passed, and showed a sign of trouble all the same.
    pub degraded: bool,
    /// The response's status; 0 for none.
    pub status: u16,
    /// Until the connection stood; nothing if it never did.
    pub connect_us: Option<u32>,
    /// Until the TLS handshake was done.
    pub tls_us: Option<u32>,
    /// Until the first byte of the response.
    pub first_byte_us: Option<u32>,
    /// Until the outcome was known.
    pub total_us: u32,
}

impl Sight {
    /// One that says nothing but this code.
    #[must_use]
    pub const fn of_code(code: u8) -> Self {
        Self {
            code,
            degraded: false,
            status: 0,
            connect_us: None,
            tls_us: None,
            first_byte_us: None,
            total_us: 0,
        }
    }
}

/// One question of [`Replica::Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Question {
    /// Names the question.
    pub ask: u64,
    /// What to probe.
    pub check: CheckId,
    /// How long the asker still waits, milliseconds.
    pub wait_ms: u32,
}

/// One answer of [`Replica::Opinion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Opinion {
    /// The question's.
    pub ask: u64,
    /// What was asked about.
    pub check: CheckId,
    /// What the probe found.
    pub answer: Answer,
}

/// What a second opinion says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Clone, Copy, PartialEq, Eq))]
pub enum Answer {
    /// The origin answered as expected.
    Pass,
    /// The origin failed here too.
    Fail,
    /// Measured nothing, or does not know the check.
    Silent,
}

/// "I hold everything that this actor wrote, up to this."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Claim {
    /// The writer.
    pub actor: Actor,
    /// Its last sequence number that the claimant holds; 0 is nothing.
    pub seq: u64,
    /// Digest of what the claimant holds of this actor: equal claims with
    /// unequal digests are repaired by a replacing snapshot.
    pub digest: u64,
}

/// A range of actors, both ends within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Cover {
    /// The first.
    pub first: Actor,
    /// The last.
    pub last: Actor,
}

/// "What this node wrote below this epoch is gone for good; do not bring it
/// back."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Floor {
    /// The node.
    pub node: NodeId,
    /// Least epoch whose log is taken.
    pub epoch: u64,
}

/// The head of one actor's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Head {
    /// The writer.
    pub actor: Actor,
    /// Its last sequence number.
    pub seq: u64,
}

/// What one actor wrote above a claim, whole or in part.
#[derive(Clone, Debug, PartialEq, Archive, Serialize, Deserialize)]
pub struct Delta {
    /// The writer.
    pub actor: Actor,
    /// The requester's claim that this builds on.
    pub lo: u64,
    /// The claim after the whole reply was applied.
    pub hi: u64,
    /// The writer's trim number: it collected its released slots up to here.
    pub trim: u64,
    /// The slots replace all that the requester holds of this actor.
    pub snapshot: bool,
    /// The slots, in order of their sequence numbers.
    pub slots: Vec<Slot>,
}

/// One actor's latest word on one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Slot {
    /// On what.
    pub check: CheckId,
    /// The writer's own counter.
    pub seq: u64,
    /// Causal height: a write over another's winner is one higher.
    pub term: u64,
    /// The writer's rendezvous score for the check when it wrote.
    pub priority: u64,
    /// Whether the writer is still at it.
    pub hold: Hold,
    /// What it says.
    pub value: Value,
}

/// What a slot says of its writer's probing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize,
)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[repr(u8)]
pub enum Hold {
    /// The writer probes the check: evidence, if the slot wins.
    Live = 0,
    /// A release: the writer has stopped, for somebody else is at it or shall
    /// be. The slot still competes; it is no evidence.
    Released = 1,
    /// A release by a writer that does not know the check any more or cannot
    /// measure it: until it writes a live slot it does not rank.
    Declined = 2,
}

impl Hold {
    /// The writer has stopped probing, for whatever reason.
    #[must_use]
    pub const fn is_released(self) -> bool {
        !matches!(self, Self::Live)
    }
}

/// What a slot says of its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Value {
    /// After rise and fall.
    pub verdict: Verdict,
    /// Code of a [`crate::Reason`] or an [`crate::Unmeasured`].
    pub reason: u8,
    /// Contrary outcomes counted so far; set only by a graceful handover.
    pub contrary: u8,
    /// Answers that agreed when a second opinion was asked.
    pub agreed: u8,
    /// Answers that dissented.
    pub dissented: u8,
    /// Latency of the probe that led to this word, microseconds.
    pub latency_us: u32,
    /// Since when, on the first writer's wall clock, milliseconds since 1970.
    pub since_ms: u64,
    /// Who confirmed it first, or the writer itself. In a release: who goes on,
    /// or the writer itself if it knows of nobody.
    pub confirmed_by: NodeId,
}
