//! The members of the subnet, as the application defines them.
//!
//! A [`Topology`] is one version of the members. A [`Membership`] is the window of versions in use,
//! since replicas do not all switch at the same time. An [`Overlay`] defines which members keep
//! connections to each other. All of these are data: nothing here knows of connections or time.
//!
//! A member is identified by its [`NodeId`]. That is also the key by which it proves itself, unless
//! the topology gives it other keys. To change its key, a member is given both keys during an
//! overlap of versions, and keeps its id.

#[cfg(feature = "topology-file")]
mod file;
mod overlay;
#[cfg(feature = "serde")]
mod serde_form;
mod window;

#[cfg(feature = "topology-file")]
pub use file::FileError;
pub use overlay::Overlay;
pub use window::{Membership, VERSIONS_MAX};

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::config::PEERS_LIMIT;
use crate::id::NodeId;

/// Whether so many of the other members may all be faulty: f of 3 f, in a BFT subnet of 3 f + 1.
pub(crate) const fn may_be_faulty(count: usize, others: usize) -> bool {
    3 * count <= others
}

/// Addresses that a member may have.
pub const ADDRESSES_MAX: usize = 4;

/// Keys that a member may have in one topology: the one that it has, and the one that it will have.
pub const KEYS_MAX: usize = 2;

/// The members of a subnet and where they listen. Clones share the members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    version: u64,
    /// In the order of their ids.
    members: Arc<Vec<(NodeId, Member)>>,
}

/// The addresses of a member, and the keys by which it proves its identity.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Member {
    addresses: Vec<SocketAddr>,
    keys: Vec<NodeId>,
}

impl Topology {
    /// A topology. Link-local IPv6 addresses need the scope that the node's own host gives the interface
    /// (`[fe80::1%2]:7001`). An empty topology is possible: a node that follows it keeps no connections, as does
    /// one that it does not name.
    ///
    /// # Errors
    /// If there are too many members or addresses, a member without address, or one named twice.
    pub fn new(
        version: u64,
        members: impl IntoIterator<Item = (NodeId, Vec<SocketAddr>)>,
    ) -> Result<Self, TopologyError> {
        let mut all = BTreeMap::new();
        for (node, addresses) in members {
            if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
                return Err(TopologyError::Addresses(node));
            }
            if all.insert(node, Member { addresses, keys: [node].into() }).is_some() {
                return Err(TopologyError::Duplicate(node));
            }
        }
        if all.len() > usize::from(PEERS_LIMIT) + 1 {
            return Err(TopologyError::TooManyMembers);
        }
        Ok(Self { version, members: Arc::new(all.into_iter().collect()) })
    }

    /// The same, but this member proves itself with any of `keys` instead of the key that is its
    /// id. (Of two members that take each other's keys, one has to be given another in between.)
    ///
    /// A member changes its key in these steps: all follow a version in which it has both, it
    /// restarts with the new one, all follow a version in which it has only that, and the older
    /// versions are retired. Members that had dialled it notice its restart after the idle timeout
    /// only, since the stateless resets of a restarted node derive from its key.
    ///
    /// # Errors
    /// If it is no member, the keys are none, doubled or more than [`KEYS_MAX`], or one of them is
    /// another member's.
    pub fn keys(
        mut self,
        node: NodeId,
        keys: impl IntoIterator<Item = NodeId>,
    ) -> Result<Self, TopologyError> {
        let mut own: Vec<NodeId> = keys.into_iter().take(KEYS_MAX + 1).collect();
        let count = own.len();
        own.sort();
        own.dedup();
        if own.is_empty() || own.len() > KEYS_MAX || own.len() < count {
            return Err(TopologyError::Keys(node));
        }
        let is_taken = |key: &NodeId| self.owner(key).is_some_and(|owner| owner != node);
        if let Some(key) = own.iter().copied().find(is_taken) {
            return Err(TopologyError::KeyTaken(key));
        }
        let index = self.index_of(&node).ok_or(TopologyError::NoMember(node))?;
        Arc::make_mut(&mut self.members)[index].1.keys = own;
        Ok(self)
    }

    /// The same with the keys of all these members, in any order: a key may be one that another member
    /// gives up further behind.
    ///
    /// # Errors
    /// The first member for which no order is possible, and why.
    #[cfg(any(feature = "serde", feature = "topology-file"))]
    fn with_keys<P: Copy>(
        mut self,
        mut keyed: Vec<(P, NodeId, Vec<NodeId>)>,
    ) -> Result<Self, (P, TopologyError)> {
        while !keyed.is_empty() {
            let before = keyed.len();
            let mut failed = None;
            keyed.retain(|(position, node, keys)| {
                match self.clone().keys(*node, keys.iter().copied()) {
                    Ok(next) => self = next,
                    Err(error) => {
                        failed.get_or_insert((*position, error));
                        return true;
                    }
                }
                false
            });
            if let Some(failed) = failed
                && keyed.len() == before
            {
                return Err(failed);
            }
        }
        Ok(self)
    }

    /// The application's number for it; a later topology has a higher one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The members in the order of their ids, with their addresses.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (NodeId, &[SocketAddr])> {
        self.members.iter().map(|(node, member)| (*node, member.addresses.as_slice()))
    }

    /// A member's place in the order of [`Topology::members`], from 0; `None` if it is no member. All who have
    /// the same members agree on it, so that votes can be kept in bitmaps. It holds for this version: who
    /// joins or leaves moves others.
    pub fn index_of(&self, node: &NodeId) -> Option<usize> {
        self.members.binary_search_by_key(node, |(member, _)| *member).ok()
    }

    /// The member at a [place](Self::index_of).
    pub fn member_at(&self, index: usize) -> Option<NodeId> {
        self.members.get(index).map(|(node, _)| *node)
    }

    fn member(&self, node: &NodeId) -> Option<&Member> {
        self.index_of(node).map(|index| &self.members[index].1)
    }

    /// Where a member listens; `None` if it is no member.
    pub fn addresses(&self, node: &NodeId) -> Option<&[SocketAddr]> {
        self.member(node).map(|member| member.addresses.as_slice())
    }

    /// The keys with which a member may prove itself; none if it is no member.
    pub fn keys_of(&self, node: &NodeId) -> &[NodeId] {
        self.member(node).map_or(&[], |member| &member.keys)
    }

    /// The member that a key belongs to.
    pub fn owner(&self, key: &NodeId) -> Option<NodeId> {
        // In most cases the key is the id.
        if self.keys_of(key).contains(key) {
            return Some(*key);
        }
        let owner = self.members.iter().find(|(_, member)| member.keys.contains(key));
        owner.map(|(node, _)| *node)
    }
}

/// Why a topology is invalid, or cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// A member has no address, or more than [`ADDRESSES_MAX`].
    #[error("{0} needs 1 to {ADDRESSES_MAX} addresses")]
    Addresses(NodeId),
    /// A member is named twice.
    #[error("{0} is named twice")]
    Duplicate(NodeId),
    /// An id that is no member's, for which keys were given, or which was to be banned.
    #[error("{0} is no member")]
    NoMember(NodeId),
    /// A member has no key, more than [`KEYS_MAX`], or one twice.
    #[error("{0} needs 1 to {KEYS_MAX} different keys")]
    Keys(NodeId),
    /// A key belongs to two members, of one topology or of two in use.
    #[error("key {0} belongs to two members")]
    KeyTaken(NodeId),
    /// More members than the configuration's `peers_max` beside this node.
    #[error("more members than the configuration's peers_max allows")]
    TooManyMembers,
    /// The version is lower than the latest, and not in use.
    #[error(
        "the version is lower than the latest, and not in use: give a new topology a higher one"
    )]
    VersionBackwards,
    /// The version is in use, with other members.
    #[error("the version is in use, with other members: give a changed topology a higher one")]
    VersionReused,
    /// As many versions as there may be ([`VERSIONS_MAX`]) are in use.
    #[error("{VERSIONS_MAX} versions are in use already: retire some first")]
    WindowFull,
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}
