//! Whom the node is connected to: the members of the topologies in use.

use std::collections::BTreeSet;

use super::peers::Followed;
use super::{NO_MEMBER, Node};
use crate::id::{NodeId, PeerIndex};
use crate::membership::{Membership, Topology, TopologyError};
use crate::time::Time;

impl Node {
    /// Follows a new topology in place of all that are in use: connects to new members, and drops
    /// former ones at once. A node whose key belongs to no member of it keeps no connections.
    ///
    /// # Errors
    /// If its version is lower than the latest, or it has too many members; nothing has changed
    /// then.
    pub fn set_topology(&mut self, now: Time, topology: Topology) -> Result<(), TopologyError> {
        let mut membership = self.membership.clone();
        membership.replace(topology)?;
        self.set_membership(now, membership)
    }

    /// Follows a topology in addition to those that are in use, and connects to new members. A
    /// member of any topology in use stays a member until that topology is
    /// [retired](Node::retire_topologies).
    ///
    /// # Errors
    /// As [`Membership::add`], or if there are too many members; nothing has changed then.
    pub fn add_topology(&mut self, now: Time, topology: Topology) -> Result<(), TopologyError> {
        let mut membership = self.membership.clone();
        membership.add(topology)?;
        self.set_membership(now, membership)
    }

    /// Stops following topologies with a version below `oldest`, except for the latest. Former
    /// members are dropped at once, and connections under keys that no member has any more are
    /// closed.
    pub fn retire_topologies(&mut self, now: Time, oldest: u64) {
        let mut membership = self.membership.clone();
        membership.retire(oldest);
        self.set_membership(now, membership).expect("nobody comes");
    }

    pub(crate) fn set_membership(
        &mut self,
        now: Time,
        membership: Membership,
    ) -> Result<(), TopologyError> {
        let now = self.clamp(now);
        let nodes = membership.peers_of(&self.key_id(), self.config.transport.overlay);
        if nodes.len() > self.config.peers_max.into() {
            return Err(TopologyError::TooManyMembers);
        }
        self.membership = membership;
        self.machine.set_member_id(self.member_id());
        self.connect_to(now, &nodes);
        Ok(())
    }

    /// Drops all peers but these, of which the membership is to tell next whether they are some still.
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) fn keep_peers(&mut self, now: Time, stayed: &BTreeSet<NodeId>) {
        let now = self.clamp(now);
        let peers = self.membership.peers_of(&self.key_id(), self.config.transport.overlay);
        self.connect_to(now, &(&peers & stayed));
    }

    /// Is connected to these members from now on.
    fn connect_to(&mut self, now: Time, nodes: &BTreeSet<NodeId>) {
        let followed = self.peers.follow(now, &self.membership, self.member_id(), nodes);
        self.members.set(self.peers.keys());
        let Followed { left, came, changed } = followed;
        for (peer, links) in left {
            self.machine.remove_peer(now, peer);
            self.rpc.remove_peer(peer);
            self.closing.remove_peer(peer);
            self.forget_excess(None);
            for handle in links {
                // It is no member's any more, even if the same member has joined again.
                if let Some(link) = self.link(handle) {
                    link.node = None;
                }
                self.close(now, handle, NO_MEMBER);
            }
        }
        for peer in came {
            let node = self.peers.peer(peer).node;
            self.machine.add_peer(peer, node);
            self.rpc.add_peer(peer);
        }
        for peer in changed {
            self.reconnect(now, peer);
        }
    }

    /// A member has other addresses or keys than before. The connection to it may not be valid any
    /// more, and dial attempts that failed may now succeed.
    fn reconnect(&mut self, now: Time, peer: PeerIndex) {
        self.peers.redial(now, peer);
        for handle in self.peers.peer(peer).links.clone() {
            let link = self.links[handle.0].as_deref().expect("it is in its peer's list");
            let known = self.peers.peer(peer);
            let has_key = link.key.is_none_or(|key| known.keys.contains(&key));
            let has_address = known.addresses.contains(&link.quic.remote_address());
            let is_dial = link.is_client && !link.is_up();
            if !has_key || is_dial && !has_address {
                self.close(now, handle, NO_MEMBER);
                self.peers.redial(now, peer);
            } else if link.is_client && link.is_up() && !has_address {
                self.peers.redial_beside(now, peer);
            }
        }
    }
}
