//! The members that there are tables for, and the connections to them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Broadcast, Output, traffic};
use crate::config::{ChannelConfig, Quota};
use crate::id::{ChannelId, NodeId, PeerIndex};
use crate::time::Time;

/// The members that this node has tables for.
#[derive(Debug)]
pub(super) struct PeerTable {
    /// The member that this node is.
    pub(super) own: NodeId,
    pub(super) nodes: Vec<Option<NodeId>>,
    /// The keys under which they were last connected.
    pub(super) keys: Vec<NodeId>,
    pub(super) up: Vec<bool>,
    /// Members.
    pub(super) count: u16,
    pub(super) received: Vec<traffic::Received>,
}

impl PeerTable {
    pub(super) fn new(own: NodeId) -> Self {
        Self {
            own,
            nodes: Vec::new(),
            keys: Vec::new(),
            up: Vec::new(),
            count: 0,
            received: Vec::new(),
        }
    }

    pub(super) fn node(&self, peer: PeerIndex) -> NodeId {
        self.nodes[peer.at()].expect("a member")
    }
}

impl Broadcast {
    /// Makes tables for a member. `peer` must be free.
    ///
    /// # Panics
    /// If it is not: indices are the caller's to keep.
    pub fn add_peer(&mut self, peer: PeerIndex, node: NodeId) {
        if self.peers.nodes.len() <= peer.at() {
            self.peers.nodes.resize(peer.at() + 1, None);
            self.peers.keys.resize(peer.at() + 1, node);
            self.peers.up.resize(peer.at() + 1, false);
            self.peers.received.resize(peer.at() + 1, traffic::Received::default());
        }
        self.peers.received[peer.at()] = traffic::Received::default();
        assert!(self.peers.nodes[peer.at()].replace(node).is_none(), "a peer is added once");
        self.peers.keys[peer.at()] = node;
        self.set_members(self.peers.count + 1);
        self.inbox.tables.add_peer(peer);
        self.inbox.transfers.add_peer(peer, node < self.own);
        self.sender.add_peer(peer);
    }

    fn set_members(&mut self, count: u16) {
        self.peers.count = count;
        for at in 0..self.outboxes.len() {
            self.outboxes[at].set_members(count);
            self.note_covered(at as u16);
        }
    }

    /// The key of a member, if it is another one than its id. It is the publisher of what the member
    /// publishes over its next connection, where that [matters](ChannelConfig::sender_matters).
    pub fn set_peer_key(&mut self, peer: PeerIndex, key: NodeId) {
        self.peers.keys[peer.at()] = key;
    }

    /// Drops a former member's tables. What only it advertised expires.
    pub fn remove_peer(&mut self, now: Time, peer: PeerIndex) {
        if self.peers.up[peer.at()] {
            self.peer_down(now, peer);
        }
        self.clamp(now);
        self.inbox.remove_peer(peer);
        self.after_unlinks(peer, false);
        self.sender.remove_peer(peer);
        self.outboxes.iter_mut().for_each(|outbox| {
            outbox.forget_progress(peer);
            outbox.forget_member(peer);
        });
        self.set_members(self.peers.count - 1);
        let node = self.peers.nodes[peer.at()].take().expect("a member");
        self.inbox.transfers.remove_peer(peer, node < self.own);
    }

    /// A connection to a member is ready, and with it a new epoch begins. `channels` says which
    /// channels the peer has with bounds that suit ours; the others are inert towards it.
    pub fn peer_up(
        &mut self,
        now: Time,
        peer: PeerIndex,
        channels: impl Fn(&ChannelConfig) -> bool,
    ) {
        if core::mem::replace(&mut self.peers.up[peer.at()], true) {
            self.peer_down(now, peer);
            self.peers.up[peer.at()] = true;
        }
        let now = self.clamp(now);
        self.sender.peer_up(peer);
        for (at, (outbox, config)) in self.outboxes.iter_mut().zip(&self.channels).enumerate() {
            if channels(config) {
                outbox.peer_up(now, peer);
                self.sender.mark_updates(peer, at as u16);
            }
        }
        (0..self.channels.len()).for_each(|at| self.note_lags(at));
        self.inbox.peer_up(peer);
        self.after_unlinks(peer, true);
    }

    /// A peer that has just come [up](Broadcast::peer_up) takes so much in these channels ([`ChannelConfig::quota`] of its
    /// own): what it is sent keeps to that, as far as it was not asked for. Channels that are not there here are passed
    /// over; in all others it takes whatever there is. What it was sent over earlier connections counts, unless it
    /// `has_restarted` since, or tells another quota.
    pub fn set_quotas(
        &mut self,
        peer: PeerIndex,
        quotas: impl IntoIterator<Item = (ChannelId, Quota)>,
        has_restarted: bool,
    ) {
        let by_index = |(channel, quota)| Some((self.channel_index(channel)?, quota));
        let quotas: BTreeMap<u16, Quota> = quotas.into_iter().filter_map(by_index).collect();
        self.sender.pacing.set(peer, quotas.into_iter(), !has_restarted);
    }

    /// Channels in which updates wait, since a peer takes no more of them for now.
    #[cfg(feature = "quic")]
    pub(crate) fn paced_channels(&self, peer: PeerIndex) -> u64 {
        self.sender.pacing.waiting(peer)
    }

    /// The connection is lost. What the peer advertised stays in its tables until a new epoch
    /// replaces it.
    pub fn peer_down(&mut self, now: Time, peer: PeerIndex) {
        self.clamp(now);
        if !core::mem::replace(&mut self.peers.up[peer.at()], false) {
            return;
        }
        for outbox in &mut self.outboxes {
            outbox.peer_down(peer);
        }
        self.sender.peer_down(peer, &mut self.outboxes);
        self.inbox.peer_down(peer);
        self.outputs.retain(|output| match output {
            Output::Reset { peer: of, .. } | Output::Stop { peer: of, .. } => *of != peer,
            Output::Idle { .. } => true,
        });
    }
}
