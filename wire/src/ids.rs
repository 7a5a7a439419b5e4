//! Who and what: nodes, the actors that they are between two restarts, checks.

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// A server that runs an agent, named by a hash of its configured name.
///
/// A name is the operator's and trusted, so a fast hash will do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Clone, Copy, PartialEq, Eq))]
pub struct NodeId(pub u64);

impl NodeId {
    /// The id of the node with this configured name.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node:{:016x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<&ArchivedNodeId> for NodeId {
    fn from(archived: &ArchivedNodeId) -> Self {
        Self(archived.0.to_native())
    }
}

/// One life of a node: from one start of its agent to the next.
///
/// Ordered by node, then epoch, then boot id; two lives of one node never
/// compare equal, even if a lost disk made them take the same epoch.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize,
)]
#[rkyv(derive(Clone, Copy, PartialEq, Eq))]
pub struct Actor {
    /// The node whose life this is.
    pub node: NodeId,
    /// Grows at every start of the agent.
    pub epoch: u64,
    /// 64 random bits of that start.
    pub boot: u64,
}

impl From<&ArchivedActor> for Actor {
    fn from(archived: &ArchivedActor) -> Self {
        Self {
            node: NodeId::from(&archived.node),
            epoch: archived.epoch.to_native(),
            boot: archived.boot.to_native(),
        }
    }
}

/// A check, named by its content.
///
/// BLAKE3 of the canonical bytes, cut to 128 bits: tenants write checks, and a
/// fast hash can be collided on purpose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Clone, Copy, PartialEq, Eq))]
pub struct CheckId(pub [u8; 16]);

impl CheckId {
    /// The id of the check with these canonical bytes.
    #[must_use]
    pub fn of_canonical(bytes: &[u8]) -> Self {
        let digest = blake3::hash(bytes);
        let mut id = [0; 16];
        id.copy_from_slice(&digest.as_bytes()[..16]);
        Self(id)
    }

    /// The first 64 bits: already uniform, so good for sharding and phases.
    #[must_use]
    pub fn prefix(self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("8 of 16 bytes"))
    }
}

impl fmt::Debug for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "check:{self}")
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl From<&ArchivedCheckId> for CheckId {
    fn from(archived: &ArchivedCheckId) -> Self {
        Self(archived.0)
    }
}
