//! What members say about members (SWIM, Lifeguard, and the joins).

#![allow(
    missing_docs,
    reason = "rkyv's derive leaves the fields of an enum's resolver without docs; all that is written here has some"
)]

use core::net::SocketAddr;

use rkyv::{Archive, Deserialize, Serialize};

use crate::addr::AsAddr;
use crate::ids::{Actor, NodeId};

/// A membership body.
#[derive(Clone, Debug, PartialEq, Archive, Serialize)]
pub enum Swim {
    /// "Are you there?" Acked only to a member, to the address it came from.
    Ping {
        /// Echoed by the ack.
        seq: u32,
        /// For whom it is meant: a newcomer on an old address stays silent.
        to: NodeId,
        /// Digest of the sender's replicated state.
        digest: u64,
        /// Digest of the sender's view of who lives.
        view: u64,
    },
    /// "I am."
    Ack {
        /// Something keeps the sender's wall clock right, says its kernel.
        synchronised: bool,
        /// The ping's.
        seq: u32,
        /// Digest of the sender's replicated state.
        digest: u64,
        /// Digest of the sender's view of who lives.
        view: u64,
        /// The sender's wall clock, milliseconds since 1970. It takes the room
        /// that a ping's receiver has there.
        wall_ms: u64,
    },
    /// "Ask that one for me."
    PingReq {
        /// Echoed by the ack or nack.
        seq: u32,
        /// Whom to ask, at the address that the relay knows.
        target: NodeId,
        /// How long the asker still waits, microseconds: the nack goes at 0.8
        /// of it.
        window_us: u32,
    },
    /// "I asked for you, and it is there": a relay's answer to a
    /// [`Swim::PingReq`].
    Relayed {
        /// The ping-req's.
        seq: u32,
        /// Who answered.
        target: NodeId,
    },
    /// "I asked, and heard nothing."
    Nack {
        /// The ping-req's.
        seq: u32,
    },
    /// A stranger asks to join; answered by a [`Swim::JoinToken`] no larger
    /// than this.
    JoinAsk {
        /// Chosen by the joiner, echoed by the token.
        nonce: u64,
    },
    /// "Show me that you are at the address you speak from."
    JoinToken {
        /// The joiner's.
        nonce: u64,
        /// To be returned.
        token: u64,
    },
    /// The stranger proves its address and introduces itself (as the rumor
    /// that rides along).
    Join {
        /// The one of the [`Swim::JoinAsk`].
        nonce: u64,
        /// The token that it was given.
        token: u64,
        /// Another holder of the joiner's name was asked and did not answer.
        asked: bool,
    },
    /// Members that the joiner should know, as rumors; several datagrams if
    /// one does not hold them.
    Welcome {
        /// The one of the [`Swim::Join`].
        nonce: u64,
        /// The greatest epoch remembered of the joiner's name, its own
        /// excepted; it must take a greater one.
        epoch_floor: u64,
    },
    /// Only the rumors matter: a push of urgent news.
    News,
    /// "Our views of who lives differ: this is mine, in parts." Answered by
    /// [`Swim::Roster`]s of the parts that differ.
    View {
        /// One digest for each part of the members, by node id.
        parts: Vec<u32>,
        /// This is itself an answer: it is not answered by another view.
        answer: bool,
    },
    /// Members as the sender knows them, as rumors. Records, not fresh news:
    /// they are not told on.
    Roster,
}

/// One piece of news about one member.
#[derive(Clone, Debug, PartialEq, Archive, Serialize, Deserialize)]
pub struct Rumor {
    /// Of whom it speaks, to the very life: news of an earlier boot says
    /// nothing about this one.
    pub about: Actor,
    /// SWIM's counter within the epoch.
    pub incarnation: u32,
    /// What is said.
    pub news: News,
}

/// What a rumor says of its member.
#[derive(Clone, Debug, PartialEq, Archive, Serialize, Deserialize)]
pub enum News {
    /// It lives, and this is what it says of itself.
    Alive(Profile),
    /// It is suspected by `by`; distinct accusers confirm each other.
    Suspect {
        /// The accuser.
        by: NodeId,
    },
    /// It is dead, says `by`.
    Dead {
        /// Whose suspicion ran out.
        by: NodeId,
    },
    /// It left by its own word.
    Left,
}

/// What a member says of itself; only it may change it, by a new incarnation.
#[derive(Clone, Debug, PartialEq, Archive, Serialize, Deserialize)]
pub struct Profile {
    /// Its configured name.
    pub name: String,
    /// Where it listens, UDP and TCP.
    #[rkyv(with = AsAddr)]
    pub addr: SocketAddr,
    /// Its weight in rendezvous hashing; 0 owns nothing.
    pub capacity: u16,
    /// It hands over what it owns and takes nothing new.
    pub draining: bool,
    /// Its probe threads can measure.
    pub prober_healthy: bool,
    /// It holds new Downs back: so much fails at once that the POP's own uplink
    /// may be at fault.
    pub braked: bool,
    /// Hash of the set of checks that it configures; 0 while it has loaded
    /// none. Equal sets have equal hashes.
    pub checks: u64,
    /// Lowest protocol version that it understands.
    pub protocol_min: u8,
    /// Highest protocol version that it understands.
    pub protocol_max: u8,
}

impl Profile {
    /// The member says nothing new but what it configures. A reload changes
    /// that on all members at once, so it is no urgent news.
    #[must_use]
    pub fn differs_in_checks_only(&self, other: &Self) -> bool {
        self.checks != other.checks
            && *self
                == Self {
                    checks: self.checks,
                    ..other.clone()
                }
    }
}

/// What a rumor adds to a packet, bytes; never less than it truly does.
#[must_use]
pub fn rumor_bytes(rumor: &Rumor) -> usize {
    // A string of up to 8 bytes fits into its own pointer; a longer one stands
    // before the list.
    let name = match &rumor.news {
        News::Alive(profile) if profile.name.len() > 8 => profile.name.len(),
        _ => 0,
    };
    size_of::<ArchivedRumor>() + name
}
