//! What waits for a quota.

use super::Oracle;
use slotcast::node::Node;
use slotcast::time::Time;

impl Oracle {
    /// Whether a node leaves something of a member unread for a quota.
    pub(in crate::swarm) fn is_held(&self, node: &Node, member: usize) -> bool {
        let peers = node.snapshot(Time::ZERO).peers;
        let of_member = peers.iter().filter(|peer| peer.id == self.ids[member]);
        of_member.filter_map(|peer| peer.link.as_ref()).any(|link| link.held_channels > 0)
    }

    /// Whether a node leaves something of an honest member unread for a quota, or keeps something back for the
    /// quota of one.
    pub(in crate::swarm) fn holds_up(&self, node: &Node) -> bool {
        node.snapshot(Time::ZERO).peers.iter().any(|peer| {
            let is_hostile = self.replicas[self.places[&peer.id]].is_hostile;
            let is_held = || peer.link.as_ref().is_some_and(|link| link.held_channels > 0);
            !is_hostile && (peer.paced_channels > 0 || is_held())
        })
    }
}
