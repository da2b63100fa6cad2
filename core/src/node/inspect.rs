//! What a simulator's checks look at inside a node.

use std::vec::Vec;

use super::Node;
use crate::broadcast::{Broadcast, SendBuffer};
use crate::id::{NodeId, PeerIndex};
use crate::rpc::Rpc;

/// What was handed to QUIC, for whom, if anyone wants to know.
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

impl Node {
    pub(crate) fn machine(&self) -> &Broadcast {
        &self.machine
    }

    pub(crate) fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    pub(crate) fn peer_index(&self, node: &NodeId) -> Option<PeerIndex> {
        self.peers.find(node)
    }

    /// Remembers from now on what is handed to QUIC, until it is taken.
    pub(crate) fn watch_written(&mut self) {
        self.written.0.get_or_insert_default();
    }

    /// What was handed to QUIC since the last call, in order.
    pub(crate) fn take_written(&mut self) -> Vec<(NodeId, Vec<u8>)> {
        self.written.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
