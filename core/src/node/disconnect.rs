//! Connections that end because the application says so.

use super::{DISCONNECTED, Node};
use crate::id::NodeId;
use crate::membership::TopologyError;
use crate::time::Time;

impl Node {
    /// Ends the connection with a member. Both sides then dial by the usual rules, in most cases at
    /// once: [`Node::ban`] keeps a member away. False if it is not connected.
    pub fn disconnect(&mut self, now: Time, member: &NodeId) -> bool {
        let now = self.clamp(now);
        let peer = self.peers.find(member);
        let Some(link) = peer.and_then(|peer| self.peers.peer(peer).connection) else {
            return false;
        };
        self.close(now, link, DISCONNECTED);
        true
    }

    /// Bans a member: it is treated as if it were none until [`Node::unban`]. Its connections are
    /// closed, what it advertised is dropped, it is not dialled, and when it dials it is refused as a
    /// stranger. A ban lasts through changes of the topology as long as the member is one.
    ///
    /// # Errors
    /// If it is no member; nothing has changed then.
    pub fn ban(&mut self, now: Time, member: NodeId) -> Result<(), TopologyError> {
        let mut membership = self.membership.clone();
        membership.ban(member)?;
        self.set_membership(now, membership)
    }

    /// Lifts the ban of a member, which is dialled again.
    ///
    /// # Errors
    /// If there are too many members without the ban; nothing has changed then.
    pub fn unban(&mut self, now: Time, member: &NodeId) -> Result<(), TopologyError> {
        let mut membership = self.membership.clone();
        membership.unban(member);
        self.set_membership(now, membership)
    }
}
