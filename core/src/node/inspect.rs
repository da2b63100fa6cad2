//! What a simulator's checks look at inside a node.

use super::Node;
use crate::broadcast::Broadcast;
use crate::id::{NodeId, PeerIndex};

impl Node {
    pub(crate) fn machine(&self) -> &Broadcast {
        &self.machine
    }

    pub(crate) fn peer_index(&self, node: &NodeId) -> Option<PeerIndex> {
        self.peers.find(node)
    }

    /// Bytes of streams that QUIC holds for a peer and has not sent yet, estimated from above.
    pub(crate) fn unsent_to(&self, node: &NodeId) -> u64 {
        let peer = self.peers.find(node).map(|peer| self.peers.peer(peer));
        let handle = peer.and_then(|peer| peer.connection);
        let connection = handle.and_then(|handle| self.connections[handle.0].as_ref());
        connection.map_or(0, |connection| connection.unsent())
    }

    /// Connections in any state, draining ones included.
    pub(crate) fn connections_count(&self) -> usize {
        self.connections.iter().flatten().count()
    }
}
