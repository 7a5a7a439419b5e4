//! Every limit of the POP core, with what happens at it.

use core::time::Duration;

use watchfire_wire::limits::{BUFFER_ALIGN, MEMBERS};
use watchfire_wire::message;
use watchfire_wire::message::replica::{
    ArchivedClaim, ArchivedDelta, ArchivedFloor, ArchivedHead, ArchivedQuestion, ArchivedReplica,
    ArchivedSlot,
};

/// Actors of whom a log is held, departed lives included. At the limit the logs
/// of unknown actors are refused and counted until departed ones have gone.
pub const LOGS: usize = 4_096;

/// Slots held, of all actors together. A delta that would exceed it is refused
/// and counted.
pub const SLOTS: usize = 4_000_000;

/// Words on checks that nobody configures here, of one name in all its lives, that
/// are taken in any case: 15 MB. Servers are configured one after the other.
pub const FOREIGN_LEAST: usize = 100_000;

/// The same, where this node configures or has configured much: so many times what
/// it did at most. A delta beyond it is left out whole, counted, and its actor set
/// aside and named.
pub const FOREIGN_TIMES: usize = 4;

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

/// Floors in one pull or part; the others come with other ranges or not at all,
/// and then the logs behind them are refused one by one.
pub const FLOORS_PER_PULL: usize = 8;

/// Datagrams of one answer. A larger answer is offered over TCP.
pub const PARTS: usize = 6;

/// Members that are told at once that this node has taken over from them, in
/// one round of news. The rest hear of it by the usual ways.
pub const OVERTAKEN: usize = 4;

/// With fewer tenths of what a node may send, an answer goes out as a stream
/// unless it fits [`PARTS_LOW`] datagrams.
pub const STREAM_TENTHS: u32 = 8;

/// Pulls by stream that wait for their answer, of one node.
pub const STREAM_PULLS: usize = 2;

/// See [`STREAM_TENTHS`].
pub const PARTS_LOW: usize = 1;

/// What a slot takes in a message, bytes.
pub const SLOT_BYTES: usize = size_of::<ArchivedSlot>();

/// What a delta takes in a message without its slots, bytes.
pub const DELTA_BYTES: usize = size_of::<ArchivedDelta>();

/// What frame, packet and the fixed fields of any replication body take
/// together at most, bytes.
pub const PACKET_BYTES: usize =
    message::PACKET_BYTES + size_of::<ArchivedReplica>() + 2 * BUFFER_ALIGN;

/// Claims in one pull by a datagram of this size.
#[must_use]
pub const fn claims_per_pull(datagram_bytes: usize) -> usize {
    let floors = FLOORS_PER_PULL * size_of::<ArchivedFloor>();
    fit(
        datagram_bytes.saturating_sub(floors),
        size_of::<ArchivedClaim>(),
    )
}

/// Slots in one part by a datagram of this size, beside one delta's own fields.
#[must_use]
pub const fn slots_per_part(datagram_bytes: usize) -> usize {
    fit(datagram_bytes.saturating_sub(DELTA_BYTES), SLOT_BYTES)
}

/// Heads in one notification by a datagram of this size; more go in several.
#[must_use]
pub const fn heads_per_notify(datagram_bytes: usize) -> usize {
    fit(datagram_bytes, size_of::<ArchivedHead>())
}

/// Questions for a second opinion, or answers, in one datagram of this size.
#[must_use]
pub const fn questions_per_datagram(datagram_bytes: usize) -> usize {
    fit(datagram_bytes, size_of::<ArchivedQuestion>())
}

const fn fit(datagram_bytes: usize, each_bytes: usize) -> usize {
    let fit = datagram_bytes.saturating_sub(PACKET_BYTES) / each_bytes;
    if fit == 0 { 1 } else { fit }
}

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
pub const OFFERS: usize = 256;

/// Bulk offers that wait to be redeemed by one peer; the oldest is withdrawn.
pub const OFFERS_PER_PEER: usize = PULLS_PER_PEER + 1;

/// How long an offer can be redeemed.
pub const OFFER_LIFE: Duration = Duration::from_secs(2);

/// Rounds that the news of one head travels.
pub const HOPS: u8 = 12;

/// Children of each node in the tree along which news of a head runs.
pub const TREE_WIDTH: usize = 4;

/// Peers beside the tree's that are told of a head, against loss.
pub const RANDOM_PEERS: usize = 1;

/// Above so many changed heads in one flush the tree gives way to rounds among
/// random peers.
pub const TREE_HEADS: usize = 8;

/// Peers told in each round of a mass event.
pub const MASS_PEERS: usize = 2;

/// Questions of others that have come and not expired yet. Further questions
/// are answered with silence, which counts as no opinion.
pub const OPINIONS: usize = 16_384;

/// Askers whose last question is remembered against replays. Beyond it those
/// who are members no more are forgotten; they are not answered anyway.
pub const ASKERS: usize = 2 * MEMBERS;

/// Peers asked for a second opinion on one check.
pub const PEERS_ASKED: usize = 4;

/// Members that are called for one second opinion, those included that had
/// nothing to say. After that it makes do with those it has.
pub const PEERS_CALLED: usize = 8;
const _: () = assert!(PEERS_ASKED <= PEERS_CALLED);

/// Buckets into which a set of checks is cut to find where two sets differ.
pub const SET_BUCKETS: usize = 64;
const _: () = assert!(SET_BUCKETS.is_power_of_two() && SET_BUCKETS <= u64::BITS as usize);

/// Sets that this node itself had and that are known by content; the oldest is
/// forgotten.
pub const SETS_OWN: usize = 8;

/// Different sets of other members that are being asked about. Who has a
/// further one may configure anything.
pub const SETS_ASKED: usize = 256;

/// Prefixes remembered of how other sets differ, of all together. Beyond it
/// what differs most is forgotten: who has that set may configure anything.
pub const SETS_PREFIXES: usize = 1 << 20;

/// Questions about this node's set that are answered in a second; further ones
/// are counted, and repeated by those who asked.
pub const SET_ANSWERS_PER_S: u32 = 50;

/// The same at once.
pub const SET_ANSWERS_BURST: u32 = 100;

/// Prefixes in one answer by a datagram of this size.
#[must_use]
pub const fn prefixes_per_part(datagram_bytes: usize) -> usize {
    fit(datagram_bytes, size_of::<u64>())
}

/// Ranks that may probe a check although nobody is known to be at it: the first
/// of those who could. Further ones only as these die, leave, decline, or turn
/// out not to configure it.
pub const RANKS_WITHOUT_EVIDENCE: usize = 3;
const _: () = assert!(RANKS_WITHOUT_EVIDENCE < RANKS);

/// Probes that a node may make as a backup without having earned them.
pub const BACKUP_BURST: u64 = 2;

/// Backup probes for each ten of the probes that a node's own checks ask for.
pub const BACKUP_TENTHS: u64 = 3;

/// Shadows' probes for each ten of the probes that a node's own checks ask for.
pub const SHADOW_TENTHS: u64 = 1;

/// So long a time of what its own checks ask for may a node save for shadows,
/// microseconds.
pub const SHADOW_SAVED_US: u64 = 1_000_000;

/// Second opinions that a node gives in a second; further questions are
/// answered with silence.
pub const OPINIONS_PER_S: u32 = 50;

/// The same at once.
pub const OPINIONS_BURST: u32 = 500;

/// Questions for a second opinion that a node asks in a second; further ones
/// wait, and then count as answered with silence.
pub const QUESTIONS_PER_S: u32 = 100;

/// The same at once.
pub const QUESTIONS_BURST: u32 = 1_000;

/// Ranks remembered per check. The full order is computed when they do not
/// suffice.
pub const RANKS: usize = 4;

/// Datagrams that a node sends in a second, averaged over what
/// [`DATAGRAM_BURST`] allows, in every state: overload, churn, a mass event, the
/// start of a POP. At the limit they give way in the order of
/// [`Class`](crate::budget::Class), and what was given up is counted.
pub const DATAGRAMS_PER_SECOND: u64 = 50;

/// Datagrams that a node may send at once after a calm.
pub const DATAGRAM_BURST: u64 = 200;

/// By so many datagrams acks may overdraw the bucket.
pub const ACK_DEBT: u64 = 50;

/// Bytes that one datagram may have before it counts for more than one: what
/// bounds datagrams bounds bytes, 64 KiB in a second.
pub const DATAGRAM_COST_BYTES: u64 = (64 << 10) / DATAGRAMS_PER_SECOND;

/// Acks to one member in a second; further ones are dropped and counted.
pub const ACKS_PER_PEER_PER_SECOND: u64 = 10;

/// Acks to one member at once.
pub const ACK_BURST_PER_PEER: u64 = 20;

/// Members whose acks are counted. Those who have not been answered lately need
/// no count; if more ask at once, the others are not answered.
pub const ACK_BUCKETS: usize = 2 * MEMBERS;

/// Bytes that a node sends on bulk streams in a second. At the limit the next
/// frame waits.
pub const BULK_BYTES_PER_SECOND: u64 = 256 << 10;

/// Bytes that a node may send on bulk streams at once after a calm; one frame
/// more, for a frame is not cut.
pub const BULK_BURST: u64 = 1 << 20;

/// Bulk streams that are served at once. A token beyond it is not redeemed; its
/// requester asks again.
pub const BULK_SERVED: usize = 8;

/// Pulls that wait to be answered at the end of a turn. At the limit the oldest
/// is dropped: its requester waits no longer, or asks again.
pub const PULLS_WAITING: usize = 64;

/// Pulls answered in one turn; more wait for the next.
pub const ANSWERS_PER_TURN: usize = 8;

/// A pull of another that has waited so long is not answered: its requester
/// has turned to others.
pub const PULL_STALE: Duration = Duration::from_secs(2);

/// However long answers take, a pull waits no longer for its own.
pub const PULL_WAIT_MAX: Duration = Duration::from_secs(2);

/// Pulls that nobody waits for any more, of which a late answer still counts.
/// At the limit the oldest is forgotten.
pub const PULLS_LAPSED: usize = 16;

/// Looks of every member at a check, for people, that one node asks for at once.
/// A further one is refused.
pub const LOOKS: usize = 8;

/// From one question of a look to the next: forty a second, within what a node
/// may send.
pub const LOOK_GAP: Duration = Duration::from_millis(25);

/// From one question of a look to a member to its next, at least: the one that is
/// silent is not asked all the time, at the cost of second opinions.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long an answer may take on its way, and a probe in its line.
pub const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// Looks of others that a node takes part in and has not forgotten. A further one
/// is answered as capped.
pub const LOOKS_ANSWERED: usize = 64;

/// The same in a second.
pub const LOOKS_PER_S: u32 = 4;

/// The same at once.
pub const LOOKS_BURST: u32 = 16;

/// Shortest time from one round of questions and answers for second opinions to
/// the next; longer, the less there is to send with.
pub const QUESTION_GAP: Duration = Duration::from_millis(5);

/// Work of its own that is so much later than it was due makes a node late.
pub const LATE: Duration = Duration::from_millis(50);

/// How long it then counts as late.
pub const LATE_HOLD: Duration = Duration::from_secs(1);

/// A node that was late for so long is slow, and waits longer still.
pub const LATE_LONG: Duration = Duration::from_secs(3);

/// Names of which the last decision of an operator is remembered, ended ones
/// included. At the limit the oldest ended ones are forgotten; with none ended
/// further ones are refused.
pub const OVERRIDES: usize = 65_536;

/// Names that one decision may be about; a request with more is refused.
pub const NAMES_PER_DECISION: usize = 1_000;

/// Buckets into which names are cut to find where two nodes hold different
/// decisions.
pub const OVERRIDE_BUCKETS: usize = 64;

/// Decisions that are being told at once. At the limit further ones are not
/// told on; digests find them.
pub const OVERRIDES_TOLD: usize = 256;

/// Datagrams of one answer to a comparison of decisions. What they do not hold
/// still differs, and is asked for again.
pub const OVERRIDE_DATAGRAMS: usize = 8;

/// A decision whose counter is more than this ahead of POP time, milliseconds
/// since 1970, was made by no honest agent, and is dropped and counted: counters
/// grow by one.
pub const COUNTER_AHEAD_MS: u64 = 86_400_000;

/// Outputs that a shell may leave unpolled before the node complains in its
/// counters; they are never dropped, for the shell polls after each input.
pub const OUTPUTS: usize = 1_000_000;

const _: () =
    assert!(PACKET_BYTES + SLOTS_PER_BULK_FRAME * SLOT_BYTES + DELTA_BYTES <= BULK_FRAME_BYTES);
const _: () = assert!(LOGS >= 2 * MEMBERS);
const _: () = assert!(BULK_FRAME_BYTES as u64 <= BULK_BURST);
// A node can ping every member of a large POP once without being in debt.
const _: () = assert!(DATAGRAM_BURST >= 168);
const _: () = assert!(SLOTS < u32::MAX as usize);

/// Terms further ahead of POP time, in milliseconds, are no honest writer's: it
/// moves by a thousand a second, terms by one for each change of a verdict. A
/// delta with such a term is left out whole, and its actor set aside.
pub const TERM_AHEAD_MS: u64 = 24 * 3_600_000;

/// Epochs and floors further ahead of POP time are refused. An epoch is the wall
/// clock of a start, which may be off, but not by a year.
pub const EPOCH_AHEAD_MS: u64 = 366 * 24 * 3_600_000;

/// For how long an actor is set aside whose delta was implausible, at first;
/// each further time twice as long, up to a minute.
pub const ASIDE_MIN: Duration = Duration::from_secs(1);
/// See [`ASIDE_MIN`].
pub const ASIDE_MAX: Duration = Duration::from_secs(60);

/// Actors that are set aside. At the limit the one that comes back soonest makes
/// room.
pub const ASIDE: usize = 1_024;

/// Actors set aside that one comparison of claims names, so that nobody sends
/// their logs. Further ones are sent and refused again.
pub const ASIDE_NAMED: usize = 4;

/// Lives of gates of which it is remembered what they sent, twice over: as many
/// again may be forgotten, those first that were not heard for longest. Only
/// authentic frames make one.
pub const REPLAY_LANES: usize = 4_096;

/// From one word about an unknown key to the next: whoever makes them up does not
/// fill the log.
pub const KEY_NAMED_EVERY: Duration = Duration::from_secs(10);

/// Words of a window of frames that may come late: 1,024 frames, which a sender
/// at its bound takes 20 s for. What is older counts as sent again.
pub const REPLAY_WORDS: usize = 17;

#[cfg(test)]
mod tests {
    use watchfire_wire::limits::DATAGRAM_BYTES;
    use watchfire_wire::message::replica::{
        Answer, Claim, Cover, Delta, Floor, Head, Hold, Opinion, Question, Replica, Slot, Value,
    };
    use watchfire_wire::message::{Body, Packet};
    use watchfire_wire::{Actor, CheckId, NodeId, Verdict};

    use super::*;
    use crate::gate::{Gate, Keys};
    use crate::rng::Rng;

    #[test]
    fn the_fullest_bodies_fit_their_datagrams() {
        let mut gate = Gate::new(Keys::Insecure, Rng::from_seed([0; 32]));
        let from = Actor {
            node: NodeId(1),
            epoch: 2,
            boot: 3,
        };
        let floor = Floor {
            node: from.node,
            epoch: 1,
        };
        let check = CheckId([7; 16]);
        let slot = Slot {
            check,
            seq: 1,
            term: 1,
            priority: 1,
            hold: Hold::Live,
            value: Value {
                verdict: Verdict::Up,
                reason: 0,
                contrary: 0,
                agreed: 0,
                dissented: 0,
                latency_us: 0,
                since_ms: 0,
                confirmed_by: from.node,
            },
        };
        for bytes in [508, 600, DATAGRAM_BYTES, 8_900] {
            let claim = Claim {
                actor: from,
                seq: 1,
                digest: 2,
            };
            let question = Question {
                ask: 1,
                check,
                wait_ms: 1,
            };
            let opinion = Opinion {
                ask: 1,
                check,
                answer: Answer::Pass,
            };
            let delta = Delta {
                actor: from,
                lo: 0,
                hi: 9,
                trim: 0,
                snapshot: true,
                slots: vec![slot; slots_per_part(bytes)],
            };
            let bodies = [
                Replica::Pull {
                    pull: 1,
                    claims: vec![claim; claims_per_pull(bytes)],
                    cover: Some(Cover {
                        first: from,
                        last: from,
                    }),
                    floors: vec![floor; FLOORS_PER_PULL],
                },
                Replica::Part {
                    pull: 1,
                    answer: 1,
                    index: 0,
                    count: 1,
                    deltas: vec![delta],
                    floors: Vec::new(),
                },
                Replica::Notify {
                    heads: vec![
                        Head {
                            actor: from,
                            seq: 1
                        };
                        heads_per_notify(bytes)
                    ],
                    hops: 1,
                },
                Replica::Ask {
                    questions: vec![question; questions_per_datagram(bytes)],
                },
                Replica::Opinion {
                    opinions: vec![opinion; questions_per_datagram(bytes)],
                },
                Replica::SetPart {
                    set: 1,
                    from: 0,
                    last: u64::MAX,
                    differ: u64::MAX,
                    prefixes: vec![7; prefixes_per_part(bytes)],
                },
            ];
            for body in bodies {
                let packet = Packet {
                    from,
                    body: Body::Replica(body),
                    rumors: Vec::new(),
                };
                let sealed = gate.seal(&packet, bytes).map(|frame| frame.len());
                assert!(sealed.is_ok(), "{sealed:?}");
            }
        }
    }
}
