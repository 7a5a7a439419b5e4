//! What members say about checks: claims, slots, pulls and their parts.

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
        /// Of any subset of actors.
        claims: Vec<Claim>,
        /// The claims are all that the requester holds: actors not named are
        /// unknown to it.
        complete: bool,
    },
    /// One numbered part of the answer to a pull. Parts are staged and applied
    /// all or none.
    Part {
        /// The pull's.
        pull: u64,
        /// Which part, from 0.
        index: u16,
        /// Of how many.
        count: u16,
        /// What changed, by actor.
        deltas: Vec<Delta>,
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
    /// Second opinion: "probe this check once and tell me".
    Ask {
        /// Names the question.
        ask: u64,
        /// What to probe.
        check: CheckId,
        /// How long the asker waits, milliseconds.
        wait_ms: u32,
    },
    /// The answer to [`Replica::Ask`].
    Opinion {
        /// The question's.
        ask: u64,
        /// What was asked about.
        check: CheckId,
        /// What the probe found.
        answer: Answer,
    },
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
    /// Its last sequence number that the claimant holds.
    pub seq: u64,
    /// Ask for a replacing snapshot whatever the sequence number: the repair
    /// after unequal digests.
    pub repair: bool,
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
    /// The writer has stopped probing the check; no evidence, but it competes.
    pub released: bool,
    /// What it says.
    pub value: Value,
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
    /// Since when, on the first writer's wall clock, milliseconds since 1970.
    pub since_ms: u64,
    /// Latency of the probe that led to this word, microseconds.
    pub latency_us: u32,
    /// Who confirmed it first, or the writer itself.
    pub confirmed_by: NodeId,
}
