//! What a simulator's checks look at inside a node.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use std::vec::Vec;

use super::crypto::HandshakeCrypto;
use super::{Node, NodeError, NodeKey};
use crate::broadcast::{Broadcast, SendBuffer};
use crate::config::Config;
use crate::id::{NodeId, PeerIndex};
use crate::membership::{Membership, Topology, TopologyError};
use crate::time::Time;

/// Bytes that were handed to QUIC, by peer; `None` if they are not recorded.
#[derive(Debug, Default)]
pub(super) struct Written(Option<Vec<(NodeId, Vec<u8>)>>);

impl Written {
    pub(super) fn note(&mut self, node: Option<NodeId>, out: &SendBuffer) {
        if let (Self(Some(written)), Some(node)) = (self, node) {
            let mut bytes = Vec::with_capacity(out.len());
            out.for_each_piece(|piece| bytes.extend_from_slice(piece));
            written.push((node, bytes));
        }
    }
}

/// A connection that neither side has closed.
#[derive(Clone, Copy, Debug)]
pub struct OpenConnection {
    /// The member at its other end, once it is known.
    pub node: Option<NodeId>,
    /// From where, or where to.
    pub address: IpAddr,
    /// Whether this node has dialled it.
    pub is_dialled: bool,
    /// Whether it is the one connection to its peer.
    pub is_up: bool,
    /// Whether the peer has proven its address before the handshake.
    pub is_proven: bool,
    /// When it is given up, if it has not come up by then.
    pub hello_deadline: Time,
    /// Bytes that the peer may send ahead of what was read.
    pub receive_window: u64,
    /// Streams that it may have open.
    pub streams_max: u64,
}

#[doc(hidden)]
impl Node {
    /// The most pieces of work without progress that each peer had at a time.
    pub fn fruitless_peaks(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.peers.iter().map(|(_, peer)| (peer.node, peer.fruitless.peak()))
    }

    /// [`Node::new`] with another `crypto`, which has to speak for the same `key`. It may decide
    /// every byte that the node sends, together with `seed` and the inputs.
    ///
    /// # Errors
    /// As for [`Node::new`].
    pub fn simulated(
        config: Config,
        key: NodeKey,
        topology: Topology,
        seed: [u8; 32],
        start: Instant,
        crypto: Arc<dyn HandshakeCrypto>,
    ) -> Result<Self, NodeError> {
        Self::with_crypto(config, key, topology, seed, start, crypto)
    }

    /// Follows these topologies instead of those before.
    ///
    /// # Errors
    /// If there are too many members; nothing has changed then.
    pub fn follow(&mut self, now: Time, membership: Membership) -> Result<(), TopologyError> {
        self.set_membership(now, membership)
    }

    /// Connections that it has state of: up, coming up, and what is left of those that have ended.
    pub fn connections(&self) -> usize {
        self.links.iter().flatten().count() + self.closing.len()
    }

    /// Those of them that neither side has closed.
    pub fn open_connections(&self) -> impl Iterator<Item = OpenConnection> {
        let open = self.links.iter().flatten().filter(|link| link.is_open());
        open.map(|link| OpenConnection {
            node: link.node,
            address: link.address(),
            is_dialled: link.is_client,
            is_up: link.is_up(),
            is_proven: link.is_proven,
            hello_deadline: link.hello_deadline,
            receive_window: link.windows().receive,
            streams_max: link.windows().streams,
        })
    }

    /// Bytes that links hold of [`TransportConfig::window_pool`](crate::config::TransportConfig).
    pub fn window_pool_held(&self) -> u64 {
        let held: u64 = self.links.iter().flatten().map(|link| link.held_of_pool()).sum();
        assert_eq!(held, self.window_pool.held());
        held
    }

    /// Responses without a connection that may wait to be sent.
    pub const RESPONSES_MAX: usize = super::RESPONSES_MAX;

    /// Calls of this node that have not ended, and requests of its peers that are not over.
    pub fn calls(&self) -> usize {
        self.rpc.len()
    }

    /// Bytes of their bodies, coming and going, as the budgets of all routes count them.
    pub fn body_bytes(&self) -> u64 {
        self.rpc.body_bytes()
    }

    /// Walks through the state of all calls and panics where it contradicts itself.
    pub fn assert_calls_sound(&self) {
        self.rpc.assert_invariants();
    }

    /// The time as it was last told.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The number that differs whenever the member that is connected has lost its state.
    pub fn incarnation_of(&self, node: &NodeId) -> Option<u64> {
        let handle = self.peers.peer(self.peers.find(node)?).connection?;
        self.links[handle.0].as_deref()?.incarnation()
    }

    /// The same of this node.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub fn machine(&self) -> &Broadcast {
        &self.machine
    }

    pub fn peer_index(&self, node: &NodeId) -> Option<PeerIndex> {
        self.peers.find(node)
    }

    /// Remembers from now on what is handed to QUIC, until it is taken.
    pub fn watch_written(&mut self) {
        self.written.0.get_or_insert_default();
    }

    /// What was handed to QUIC since the last call, in order.
    pub fn take_written(&mut self) -> Vec<(NodeId, Vec<u8>)> {
        self.written.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
