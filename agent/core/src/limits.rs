//! Every limit of the POP core, with what happens at it.

use core::time::Duration;

use watchfire_wire::limits::{DATAGRAM_BYTES, MEMBERS};

/// Actors of whom a log is held, departed lives included. At the limit the logs
/// of unknown actors are refused and counted until departed ones have gone.
pub const LOGS: usize = 4_096;

/// Slots held, of all actors together. A delta that would exceed it is refused
/// and counted.
pub const SLOTS: usize = 4_000_000;

/// Floors of departed nodes. At the limit the one with the least epoch is
/// forgotten: nothing was heard of that node for the longest time.
pub const FLOORS: usize = 4_096;

/// Checks configured on one node. More are refused and counted.
pub const CHECKS: usize = 1_000_000;

/// Pulls that wait for their answer, of one node. At the limit what is wanted
/// stays wanted until one ends.
pub const PULLS: usize = 6;

/// Pulls that wait for an answer from one peer.
pub const PULLS_PER_PEER: usize = 2;

/// Actors of whom a newer head was heard of and is not yet being pulled. At the
/// limit the heads of unknown actors are dropped; digests bring them back.
pub const WANTED: usize = LOGS;

/// Peers remembered as a source for one wanted head; the oldest gives way.
pub const SOURCES: usize = 3;

/// Claims in one pull.
pub const CLAIMS_PER_PULL: usize = 22;

/// Floors in one pull or part; the others come with other ranges or not at all,
/// and then the logs behind them are refused one by one.
pub const FLOORS_PER_PULL: usize = 8;

/// Heads in one notification; more go in several.
pub const HEADS_PER_NOTIFY: usize = 30;

/// Datagrams of one answer. A larger answer is offered over TCP.
pub const PARTS: usize = 6;

/// Slots in one part sent as a datagram.
pub const SLOTS_PER_PART: usize = 12;

/// Deltas in one part sent as a datagram, each with at least its own header.
pub const DELTAS_PER_PART: usize = 12;

/// What a slot takes in a message, bytes. Tested against the encoding.
pub const SLOT_BYTES: usize = 88;

/// What a delta takes in a message without its slots, bytes.
pub const DELTA_BYTES: usize = 64;

/// What a claim takes in a message, bytes.
pub const CLAIM_BYTES: usize = 40;

/// What frame, packet and the fixed fields of any replication body take
/// together at most, bytes.
pub const PACKET_BYTES: usize = 176;

/// Slots in one frame of a bulk stream.
pub const SLOTS_PER_BULK_FRAME: usize = 2_000;

/// Largest frame of a bulk stream, bytes. [`SLOTS_PER_BULK_FRAME`] keeps below
/// it; a body that would not is not sent and counted.
pub const BULK_FRAME_BYTES: usize = 256 * 1024;

/// Frames of one bulk stream; a longer answer is refused by the requester and
/// counted.
pub const BULK_FRAMES: usize = 4_096;

/// Bulk offers that wait to be redeemed, of one node. At the limit the oldest
/// is withdrawn; its requester asks again.
pub const OFFERS: usize = 64;

/// Bulk offers that wait to be redeemed by one peer; the older one is
/// withdrawn.
pub const OFFERS_PER_PEER: usize = 1;

/// How long an offer can be redeemed.
pub const OFFER_LIFE: Duration = Duration::from_secs(2);

/// Rounds that the news of one head travels.
pub const HOPS: u8 = 12;

/// Children of each node in the tree along which news of a head runs.
pub const TREE_WIDTH: usize = 4;

/// Peers beside the tree's that are told of a head, against loss.
pub const RANDOM_PEERS: usize = 2;

/// Above so many changed heads in one flush the tree gives way to rounds among
/// random peers.
pub const TREE_HEADS: usize = 16;

/// Peers told in each round of a mass event.
pub const MASS_PEERS: usize = 4;

/// Questions for a second opinion in one datagram.
pub const QUESTIONS_PER_DATAGRAM: usize = 24;

/// Second opinions that this node is asked for at one time. Further questions
/// are answered with silence, which counts as no opinion.
pub const OPINIONS: usize = 16_384;

/// Peers asked for a second opinion on one check.
pub const JURORS: usize = 4;

/// Ranks remembered per check. The full order is computed when they do not
/// suffice.
pub const RANKS: usize = 4;

/// Outputs that a shell may leave unpolled before the node complains in its
/// counters; they are never dropped, for the shell polls after each input.
pub const OUTPUTS: usize = 1_000_000;

const _: () =
    assert!(PACKET_BYTES + CLAIMS_PER_PULL * CLAIM_BYTES + FLOORS_PER_PULL * 16 <= DATAGRAM_BYTES);
const _: () = assert!(PACKET_BYTES + SLOTS_PER_PART * SLOT_BYTES + DELTA_BYTES <= DATAGRAM_BYTES);
const _: () = assert!(PACKET_BYTES + DELTAS_PER_PART * (DELTA_BYTES + 8) <= DATAGRAM_BYTES);
const _: () = assert!(PACKET_BYTES + SLOTS_PER_BULK_FRAME * (SLOT_BYTES + 8) <= BULK_FRAME_BYTES);
const _: () = assert!(PACKET_BYTES + HEADS_PER_NOTIFY * 32 <= DATAGRAM_BYTES);
const _: () = assert!(PACKET_BYTES + QUESTIONS_PER_DATAGRAM * 32 <= DATAGRAM_BYTES);
const _: () = assert!(LOGS >= 2 * MEMBERS);
const _: () = assert!(SLOTS < u32::MAX as usize);
