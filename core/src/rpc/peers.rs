//! Members, and the connections to them.

use alloc::collections::VecDeque;
use alloc::vec;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::shared::PeerLink;
use super::{Output, Rpc};
use crate::id::PeerIndex;
use crate::wire::RouteHello;

impl Rpc {
    /// Makes room for a member. `peer` must be free.
    ///
    /// # Panics
    /// If it is not: the caller assigns the indices.
    pub fn add_peer(&mut self, peer: PeerIndex) {
        let peer_links = &mut self.shared.peer_links;
        if peer_links.len() <= peer.at() {
            peer_links.resize_with(peer.at() + 1, || None);
        }
        let routes = self.shared.routes.len();
        let sendable = (0..routes).map(|_| VecDeque::new()).collect();
        let streams = HashMap::with_hasher(FixedState::default());
        let before = peer_links[peer.at()].replace(PeerLink {
            is_up: false,
            streams,
            sendable,
            has_begun: vec![false; routes],
        });
        assert!(before.is_none(), "a peer is added once");
        self.shared.ready.add_peer(peer, routes);
        self.caller.add_peer(peer);
        self.callee.add_peer(peer);
    }

    /// Drops a former member. Calls to it end as if the connection had been lost.
    pub fn remove_peer(&mut self, peer: PeerIndex) {
        self.peer_down(peer);
        self.caller.remove_peer(&mut self.shared, peer);
        self.callee.remove_peer(&mut self.shared, peer);
        self.shared.peer_links[peer.at()] = None;
    }

    /// A connection to a member is ready; these are its routes.
    pub fn peer_up(&mut self, peer: PeerIndex, routes: &[RouteHello]) {
        self.peer_down(peer);
        self.shared.link_mut(peer).is_up = true;
        self.shared.links += 1;
        self.caller.peer_up(&mut self.shared, peer, routes);
        self.callee.peer_up(&self.shared.routes, peer, routes);
    }

    /// The connection is lost. All calls and requests over it have ended.
    pub fn peer_down(&mut self, peer: PeerIndex) {
        let link = self.shared.link_mut(peer);
        if !core::mem::replace(&mut link.is_up, false) {
            return;
        }
        self.shared.links += 1;
        let link = self.shared.link_mut(peer);
        link.streams.clear();
        link.sendable.iter_mut().for_each(VecDeque::clear);
        self.caller.peer_down(&mut self.shared, peer);
        self.callee.peer_down(&mut self.shared, peer);
        self.shared.ready.clear(peer);
        self.shared.outputs.retain(|output| match output {
            Output::Read { peer: of, .. }
            | Output::Close { peer: of, .. }
            | Output::Stop { peer: of, .. } => *of != peer,
            Output::Idle { .. } => true,
        });
    }
}
