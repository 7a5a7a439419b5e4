//! What a datagram is, as far as it is not sealed.

use watchfire_wire::frame::{FrameBuf, HEADER_BYTES, OVERHEAD_BYTES, TAG_BYTES};
use watchfire_wire::message::replica::ArchivedReplica;
use watchfire_wire::message::swim::ArchivedSwim;
use watchfire_wire::message::{self, ArchivedBody};

/// The kinds, by name.
pub const KINDS: [&str; 17] = [
    "ping", "ack", "ping-req", "relayed", "nack", "join", "push", "view", "roster", "pull", "part",
    "offer", "notify", "opinion", "set", "override", "other",
];
const OTHER: usize = KINDS.len() - 1;

/// Tells kinds apart.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    body: FrameBuf,
}

impl Kinds {
    /// Index of a datagram's kind.
    pub(crate) fn of(&mut self, frame: &[u8]) -> usize {
        if frame.len() < OVERHEAD_BYTES {
            return OTHER;
        }
        self.body
            .copy_from(&frame[HEADER_BYTES..frame.len() - TAG_BYTES]);
        let Ok(packet) = message::access(self.body.as_slice()) else {
            return OTHER;
        };
        match &packet.body {
            ArchivedBody::Swim(body) => match body {
                ArchivedSwim::Ping { .. } => 0,
                ArchivedSwim::Ack { .. } => 1,
                ArchivedSwim::PingReq { .. } => 2,
                ArchivedSwim::Relayed { .. } => 3,
                ArchivedSwim::Nack { .. } => 4,
                ArchivedSwim::JoinAsk { .. }
                | ArchivedSwim::JoinToken { .. }
                | ArchivedSwim::Join { .. }
                | ArchivedSwim::Welcome { .. } => 5,
                ArchivedSwim::News => 6,
                ArchivedSwim::View { .. } => 7,
                ArchivedSwim::Roster => 8,
            },
            ArchivedBody::Overrides(_) => 15,
            ArchivedBody::Replica(body) => match body.get() {
                ArchivedReplica::Pull { .. } => 9,
                ArchivedReplica::Part { .. } => 10,
                ArchivedReplica::BulkOffer { .. } | ArchivedReplica::BulkHello { .. } => 11,
                ArchivedReplica::Notify { .. } => 12,
                ArchivedReplica::Ask { .. }
                | ArchivedReplica::Opinion { .. }
                | ArchivedReplica::Look { .. }
                | ArchivedReplica::Seen { .. }
                | ArchivedReplica::Weather { .. } => 13,
                ArchivedReplica::SetAsk { .. } | ArchivedReplica::SetPart { .. } => 14,
            },
        }
    }
}
