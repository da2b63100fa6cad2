//! Who belongs to the subnet, as the application says.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use crate::config::PEERS_LIMIT;
use crate::id::NodeId;

/// Addresses that a member may have.
pub const ADDRESSES_MAX: usize = 4;

/// The members of a subnet and where they listen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    version: u64,
    members: BTreeMap<NodeId, Vec<SocketAddr>>,
}

impl Topology {
    /// A topology. An empty one is possible: a node that follows it keeps no connections.
    ///
    /// # Errors
    /// If there are too many members or addresses, a member without address, or one named twice.
    pub fn new(
        version: u64,
        members: impl IntoIterator<Item = (NodeId, Vec<SocketAddr>)>,
    ) -> Result<Self, TopologyError> {
        let mut topology = Self { version, members: BTreeMap::new() };
        for (node, addresses) in members {
            if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
                return Err(TopologyError::Addresses(node));
            }
            if topology.members.insert(node, addresses).is_some() {
                return Err(TopologyError::Doubled(node));
            }
        }
        if topology.members.len() > usize::from(PEERS_LIMIT) + 1 {
            return Err(TopologyError::TooManyMembers);
        }
        Ok(topology)
    }

    /// The application's number for it; a later topology has a higher one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The members in the order of their ids, with their addresses.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (NodeId, &[SocketAddr])> {
        self.members.iter().map(|(node, addresses)| (*node, addresses.as_slice()))
    }

    /// Where a member listens; `None` if it is no member.
    pub fn addresses(&self, node: &NodeId) -> Option<&[SocketAddr]> {
        self.members.get(node).map(Vec::as_slice)
    }
}

/// Why a topology cannot be, or cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TopologyError {
    /// A member has no address, or more than [`ADDRESSES_MAX`].
    Addresses(NodeId),
    /// A member is named twice.
    Doubled(NodeId),
    /// More members than the configuration's `peers_max` beside this node.
    TooManyMembers,
    /// The version is lower than the one in force.
    VersionBackwards,
    /// The node has shut down.
    Closed,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(node) => write!(f, "{node} needs 1 to {ADDRESSES_MAX} addresses"),
            Self::Doubled(node) => write!(f, "{node} is named twice"),
            Self::TooManyMembers => f.write_str("more members than peers_max allows"),
            Self::VersionBackwards => f.write_str("version is lower than the one in force"),
            Self::Closed => f.write_str("the node has shut down"),
        }
    }
}

impl core::error::Error for TopologyError {}
