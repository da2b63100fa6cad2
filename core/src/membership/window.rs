//! The versions of the topology that are in use.
//!
//! Replicas learn of a new topology at different times, and finish work that they began under an
//! old one. So they keep the old versions until the application retires them, and a member of any
//! version in use is a member.
//!
//! Invariants:
//! 1. There is at least one version, and at most [`VERSIONS_MAX`]; they ascend.
//! 2. A key belongs to at most one member over all versions.
//! 3. A change that is refused has changed nothing.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{Member, Overlay, Topology, TopologyError};
use crate::id::NodeId;

/// Versions in use at once. Subnets change their members one by one, and agree on each change: more
/// than a few at once mean that the application does not retire them. With an overlay, each may
/// cost a node as many connections as the overlay has edges, for which
/// [`peers_max`](crate::config::Config::peers_max) must suffice.
pub const VERSIONS_MAX: usize = 8;

/// The window of versions in use, from the oldest to the latest, and the members by them: the union
/// over the versions. The addresses of a member are those of the newest version that has it; its
/// keys are those of all of them.
///
/// It also says which members this node has banned, that is keeps no connections to. A ban is a
/// matter of this node alone. It lasts until it is lifted, through all changes of the topology, as long
/// as the member is one: who has left and joins again is not banned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    versions: Vec<Topology>,
    members: BTreeMap<NodeId, Member>,
    by_key: BTreeMap<NodeId, NodeId>,
    /// Some of the members.
    banned: BTreeSet<NodeId>,
}

impl Membership {
    /// The window with this version alone.
    pub fn new(topology: Topology) -> Self {
        let mut window = Self {
            versions: [topology].into(),
            members: BTreeMap::new(),
            by_key: BTreeMap::new(),
            banned: BTreeSet::new(),
        };
        window.unite();
        window
    }

    /// Takes a version into use beside those that are. One that is in use already changes nothing.
    ///
    /// # Errors
    /// If its number is lower than the latest, or in use with other content; if the window is full;
    /// if it gives a key to one member that another has in a version in use. Nothing has changed
    /// then.
    pub fn add(&mut self, topology: Topology) -> Result<(), TopologyError> {
        let same = self.versions.iter().find(|known| known.version() == topology.version());
        if let Some(known) = same {
            return if *known == topology { Ok(()) } else { Err(TopologyError::VersionReused) };
        }
        if topology.version() < self.latest().version() {
            return Err(TopologyError::VersionBackwards);
        }
        if self.versions.len() >= VERSIONS_MAX {
            return Err(TopologyError::WindowFull);
        }
        for (node, member) in &*topology.members {
            let is_taken = |key: &&NodeId| self.owner(key).is_some_and(|owner| owner != *node);
            if let Some(key) = member.keys.iter().find(is_taken) {
                return Err(TopologyError::KeyTaken(*key));
            }
        }
        self.versions.push(topology);
        self.unite();
        Ok(())
    }

    /// Ends the use of all versions below `oldest`. The latest stays in any case.
    pub fn retire(&mut self, oldest: u64) {
        let done = self.versions.partition_point(|topology| topology.version() < oldest);
        self.versions.drain(..done.min(self.versions.len() - 1));
        self.unite();
    }

    /// Ends the use of all versions and puts one into use. It may have the number of the latest
    /// one, even with other content.
    ///
    /// # Errors
    /// If its number is lower than the latest; nothing has changed then.
    pub fn replace(&mut self, topology: Topology) -> Result<(), TopologyError> {
        if topology.version() < self.latest().version() {
            return Err(TopologyError::VersionBackwards);
        }
        self.versions.clear();
        self.versions.push(topology);
        self.unite();
        Ok(())
    }

    /// Bans a member. True if it was not banned.
    ///
    /// # Errors
    /// If it is no member.
    pub fn ban(&mut self, node: NodeId) -> Result<bool, TopologyError> {
        if !self.members.contains_key(&node) {
            return Err(TopologyError::NoMember(node));
        }
        Ok(self.banned.insert(node))
    }

    /// Lifts the ban of a member. True if it was banned.
    pub fn unban(&mut self, node: &NodeId) -> bool {
        self.banned.remove(node)
    }

    /// The members that are banned.
    pub fn banned(&self) -> impl ExactSizeIterator<Item = NodeId> {
        self.banned.iter().copied()
    }

    fn unite(&mut self) {
        self.members.clear();
        self.by_key.clear();
        for topology in self.versions.iter().rev() {
            for (node, member) in &*topology.members {
                self.by_key.extend(member.keys.iter().map(|key| (*key, *node)));
                match self.members.entry(*node) {
                    Entry::Vacant(vacant) => drop(vacant.insert(member.clone())),
                    Entry::Occupied(newer) => newer.into_mut().keys.extend(&member.keys),
                }
            }
        }
        for member in self.members.values_mut() {
            member.keys.sort();
            member.keys.dedup();
        }
        let Self { members, banned, .. } = self;
        banned.retain(|node| members.contains_key(node));
    }

    /// The versions in use, oldest first.
    pub fn versions(&self) -> &[Topology] {
        &self.versions
    }

    /// The latest version.
    pub fn latest(&self) -> &Topology {
        self.versions.last().expect("invariant 1")
    }

    /// The members by the versions in use, in the order of their ids.
    pub fn members(&self) -> impl ExactSizeIterator<Item = NodeId> {
        self.members.keys().copied()
    }

    /// Where a member listens; `None` if it is no member.
    pub fn addresses(&self, node: &NodeId) -> Option<&[SocketAddr]> {
        self.members.get(node).map(|member| member.addresses.as_slice())
    }

    /// The keys with which a member may prove itself; none if it is no member.
    pub fn keys_of(&self, node: &NodeId) -> &[NodeId] {
        self.members.get(node).map_or(&[], |member| &member.keys)
    }

    /// The member that a key belongs to.
    pub fn owner(&self, key: &NodeId) -> Option<NodeId> {
        self.by_key.get(key).copied()
    }

    /// The members to which the node with this key keeps connections: its neighbours in each version
    /// that has it, except for those that are banned. Nobody, if the key is no member's. Without an
    /// overlay, members that no version has together are connected, too.
    pub fn peers_of(&self, key: &NodeId, overlay: Overlay) -> BTreeSet<NodeId> {
        let Some(own) = self.owner(key) else { return BTreeSet::new() };
        let ids =
            |topology: &Topology| topology.members().map(|(node, _)| node).collect::<Vec<_>>();
        let mut peers: BTreeSet<NodeId> = match overlay {
            Overlay::FullMesh => self.members().filter(|node| *node != own).collect(),
            _ => {
                let versions = self.versions.iter();
                versions.flat_map(|topology| overlay.neighbours(own, ids(topology))).collect()
            }
        };
        peers.retain(|node| !self.banned.contains(node));
        peers
    }
}
