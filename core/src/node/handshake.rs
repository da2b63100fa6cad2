//! The life cycle of connections: accepted or dialled, hello received, superseded, ended.
//!
//! Of two connections to one member, one is kept. If the member has restarted in between, which its
//! hello shows, the newer one is kept. If both sides have dialled at the same time, the one that
//! the member with the lower id dialled is kept. Otherwise the newer one is kept. Both ends come to
//! the same decision.

use quinn_proto::{ConnectionHandle, EndpointEvent, Incoming, ServerConfig, VarInt};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::vec::Vec;

use super::congestion::Meter;
use super::connection::Connection;
use super::{
    Closed, FAULTS, NO_HELLO, NO_MEMBER, Node, SHUTDOWN, SUPERSEDED, channel_hello, crypto, quic,
};
use crate::id::{NodeId, PeerIndex, Version};
use crate::time::Time;
use crate::wire::{ChannelHello, Hello, LiveSlots, Update};

/// The number of closed connections to one member whose state is kept, as QUIC requires (RFC 9000,
/// section 10.2), since the close frame may have to be repeated. If a member reconnects more often,
/// the oldest are removed at once.
const CLOSED_MAX: usize = 2;

/// The same for all connections that never came up: enough for the datagrams that are still on
/// their way to them.
const FAILED_MAX: usize = 32;

impl Node {
    pub(super) fn accept(&mut self, now: Time, incoming: Incoming) {
        let limit = usize::from(self.config.transport.handshakes_max);
        let mut response = Vec::new();
        if self.provider.has_issued(incoming.orig_dst_cid()) {
            return self.endpoint.ignore(incoming);
        }
        if self.closing_since.is_some() {
            return self.refuse_incoming(incoming);
        }
        let address = incoming.remote_address().ip().to_canonical();
        let share = self.config.transport.handshakes_per_address_max.into();
        let is_loaded = self.accepting(None).count() >= limit / 2
            || self.accepting(Some(address)).count() >= share;
        if is_loaded && incoming.may_retry() {
            // Under load, an address has to be validated before any state is kept for it.
            let retry = self.endpoint.retry(incoming, &mut response);
            let transmit = retry.expect("may be retried");
            return self.respond(transmit, response);
        }
        let is_proven = incoming.remote_address_validated();
        if !self.make_room(now, address) {
            return self.refuse_incoming(incoming);
        }
        let meter = Arc::new(Meter::default());
        let mut server = ServerConfig::clone(&self.server);
        server.transport_config(Arc::new(quic::transport_config(&self.config, &meter)));
        let instant = self.instant(now);
        match self.endpoint.accept(incoming, instant, &mut response, Some(Arc::new(server))) {
            Ok((handle, quic)) => {
                self.insert(now, handle, quic, None, meter);
                self.connection(handle).expect("just inserted").is_proven = is_proven;
            }
            Err(error) => {
                self.stats.refused += 1;
                if let Some(transmit) = error.response {
                    self.respond(transmit, response);
                }
            }
        }
    }

    fn refuse_incoming(&mut self, incoming: Incoming) {
        self.stats.refused += 1;
        let mut response = Vec::new();
        let transmit = self.endpoint.refuse(incoming, &mut response);
        self.respond(transmit, response);
    }

    /// Connections of dialling peers that are not up yet, from this address or all.
    fn accepting(&self, from: Option<IpAddr>) -> impl Iterator<Item = usize> {
        let is_accepting = move |connection: &Connection| {
            let is_new = !connection.is_client && !connection.was_up && connection.is_open();
            is_new && from.is_none_or(|from| connection.address() == from)
        };
        let connections = self.connections.iter().enumerate();
        let connections = connections.filter_map(|(at, c)| Some((at, c.as_ref()?)));
        connections.filter(move |(_, c)| is_accepting(c)).map(|(at, _)| at)
    }

    /// Finds room for a handshake with an address, which may be at the cost of an address that has
    /// more of them in progress. An address that has reached its share was validated before this is
    /// called. It takes precedence over handshakes whose address may be forged. False if there is
    /// no room.
    fn make_room(&mut self, now: Time, address: IpAddr) -> bool {
        let transport = &self.config.transport;
        let (limit, share) = (transport.handshakes_max, transport.handshakes_per_address_max);
        let of_address = self.accepting(Some(address)).count();
        let connection = |at: usize| self.connections[at].as_ref().expect("accepting");
        let deadline = |at: &usize| connection(*at).hello_deadline;
        if of_address >= share.into() {
            // A peer that has completed the handshake has proven its address, too.
            let is_unproven =
                |at: &usize| !connection(*at).is_proven && connection(*at).node.is_none();
            let unproven = self.accepting(Some(address)).filter(is_unproven);
            let Some(oldest) = unproven.min_by_key(deadline) else { return false };
            self.close(now, ConnectionHandle(oldest), NO_HELLO);
            return true;
        }
        if self.accepting(None).count() < limit.into() {
            return true;
        }
        let address_of = |at: usize| connection(at).address();
        let weight = |at: &usize| self.accepting(Some(address_of(*at))).count();
        let Some(busiest) = self.accepting(None).max_by_key(weight).map(address_of) else {
            return false;
        };
        if self.accepting(Some(busiest)).count() <= of_address + 1 {
            return false;
        }
        let oldest = self.accepting(Some(busiest)).min_by_key(deadline).expect("the busiest");
        self.close(now, ConnectionHandle(oldest), NO_HELLO);
        true
    }

    pub(super) fn dial(&mut self, now: Time, peer: PeerIndex, address: SocketAddr) {
        let known = self.peers.peer(peer);
        let node = known.node;
        let meter = Arc::new(Meter::default());
        let mut client = self.provider.client_config(&known.keys);
        client.transport_config(Arc::new(quic::transport_config(&self.config, &meter)));
        match self.endpoint.connect(self.instant(now), client, address, crypto::SERVER_NAME) {
            Ok((handle, quic)) => self.insert(now, handle, quic, Some(node), meter),
            // The address cannot be dialled. Another address or a new topology may work.
            Err(_) => {
                self.peers.peer_mut(peer).is_dialling = false;
                self.peers.pause_dialling(now, peer, false, &self.config.transport);
            }
        }
    }

    fn insert(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        node: Option<NodeId>,
        meter: Arc<Meter>,
    ) {
        if self.connections.len() <= handle.0 {
            self.connections.resize_with(handle.0 + 1, || None);
        }
        let deadline = now + self.config.transport.hello_timeout;
        let connection = Connection::new(quic, node, meter, deadline);
        assert!(self.connections[handle.0].replace(connection).is_none(), "handles are unique");
        self.ready.push(handle);
    }

    pub(super) fn connected(&mut self, now: Time, handle: ConnectionHandle) {
        let connection = self.connections[handle.0].as_mut().expect("just polled");
        let is_client = connection.is_client;
        connection.key = crypto::peer_id(&connection.quic);
        let peer = connection.key.and_then(|key| self.peers.by_key(&key));
        let peer = peer.map(|peer| self.peers.peer(peer));
        // The member that was dialled may have another key by now.
        let dialled = connection.node;
        let peer = peer.filter(|peer| dialled.is_none_or(|node| node == peer.node));
        connection.node = peer.map_or(dialled, |peer| Some(peer.node));
        let node = connection.node;
        let is_welcome = peer.is_some_and(|peer| peer.cut_off_until <= now);
        let is_welcome = is_welcome && self.closing_since.is_none();
        if is_welcome && self.is_settled(handle) {
            return self.close(now, handle, SUPERSEDED);
        }
        let connection = self.connections[handle.0].as_mut().expect("just polled");
        if !is_welcome || !connection.send_hello(&self.hello) {
            return self.close(now, handle, NO_MEMBER);
        }
        // A member may have one connection that is coming up in each direction, so that it cannot
        // use up the room for handshakes.
        for at in 0..self.connections.len() {
            let is_older = self.connections[at].as_ref().is_some_and(|other| {
                let is_alike = other.node == node && other.is_client == is_client;
                at != handle.0 && is_alike && other.up.is_none() && other.is_open()
            });
            if is_older {
                self.close(now, ConnectionHandle(at), SUPERSEDED);
            }
        }
    }

    /// Whether another connection to the same member is about to be used instead, or came into use
    /// since this one was dialled. The member with the lower id decides, by sending its hello on
    /// one of them only. (A connection that the peer dialled while another is up continues, since
    /// the peer's hello tells whether it has restarted.)
    fn is_settled(&self, handle: ConnectionHandle) -> bool {
        let connection = self.connections[handle.0].as_ref().expect("just polled");
        let (node, is_client) = (connection.node, connection.is_client);
        let mut others = self.connections.iter().enumerate().filter_map(|(at, other)| {
            other.as_ref().filter(|other| at != handle.0 && other.node == node && other.is_open())
        });
        Some(self.member_id()) < node
            && others.any(|other| match is_client {
                // Except if it was dialled in addition to that one, because the peer has new
                // addresses.
                true if other.up.is_some() => other.hello_deadline > connection.hello_deadline,
                true => !other.is_client && other.has_greeted,
                false => other.up.is_none() && other.is_client && other.has_greeted,
            })
    }

    /// The peer's hello has been read. From now on this connection is used for the peer.
    pub(super) fn on_hello(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        peer: PeerIndex,
        hello: &Hello,
    ) {
        // It may have been cut off over another connection since this one was made.
        if self.peers.peer(peer).cut_off_until > now {
            return self.close(now, handle, FAULTS);
        }
        if let Some(older) = self.peers.peer(peer).connection {
            let other = self.connections[older.0].as_ref().expect("it is up");
            let is_client = self.connections[handle.0].as_ref().expect("just read").is_client;
            let is_by_lower = other.is_client == (self.member_id() < self.peers.peer(peer).node);
            let is_same_peer = other.incarnation == Some(hello.incarnation);
            if is_same_peer && other.is_client != is_client && is_by_lower {
                return self.close(now, handle, SUPERSEDED);
            }
            self.close(now, older, SUPERSEDED);
        }
        let theirs = &hello.channels;
        // Attempts of this node that are still in the handshake are not needed any more. (After a
        // hello on one of them, the peer may already use that connection.)
        for at in 0..self.connections.len() {
            let node = self.peers.peer(peer).node;
            let is_attempt = self.connections[at].as_ref().is_some_and(|other| {
                let is_own = other.node == Some(node) && other.is_client;
                at != handle.0 && is_own && other.quic.is_handshaking()
            });
            if is_attempt {
                self.close(now, ConnectionHandle(at), SUPERSEDED);
            }
        }
        self.machine.peer_up(now, peer, |ours| {
            theirs.iter().any(|theirs| theirs.takes_all_of(&channel_hello(ours)))
        });
        for ours in &self.config.channels {
            let takes = |theirs: &ChannelHello| channel_hello(ours).takes_all_of(theirs);
            if !theirs.iter().any(takes) {
                // The peer will send nothing on this channel, which is treated as a snapshot
                // without live slots.
                let nothing = Update::Snapshot { version: Version(1), live: LiveSlots(&[]) };
                let taken = self.machine.handle_update(now, peer, ours.id, &nothing);
                taken.expect("the first of the epoch, and without slots");
            }
        }
        self.rpc.peer_up(peer, &hello.routes);
        self.peers.up(now, peer, handle);
        self.stats.connections += 1;
        let connection = self.connections[handle.0].as_mut().expect("just read");
        (connection.up, connection.was_up) = (Some(peer), true);
        connection.incarnation = Some(hello.incarnation);
        if connection.is_client {
            self.peers.peer_mut(peer).is_dialling = false;
        }
        let (machine, channels) = (&mut self.machine, &self.config.channels);
        connection.read_early(now, machine, channels, &mut self.notices);
        connection.accept_calls(now, &mut self.rpc, &mut self.notices);
        self.fill_due = true;
    }

    /// A connection has been closed or lost.
    pub(super) fn ended(&mut self, now: Time, handle: ConnectionHandle, why: Closed) {
        let connection = self.connections[handle.0].as_mut().expect("not drained yet");
        let (up, node, is_client) = (connection.up, connection.node, connection.is_client);
        let was_up = connection.was_up;
        let was_open = !std::mem::replace(&mut connection.closing, true);
        connection.retire();
        if let Some(peer) = up {
            self.machine.peer_down(now, peer);
            self.rpc.peer_down(peer);
            self.peers.down(peer, why);
        }
        if was_open && !is_client && !was_up && why != Closed::Superseded {
            self.stats.refused += 1;
        }
        let peer = node.and_then(|node| self.peers.find(&node));
        if let Some(peer) = peer
            && was_open
        {
            if is_client {
                self.peers.peer_mut(peer).is_dialling = false;
            }
            if is_client || up.is_some() {
                self.peers.pause_dialling(now, peer, up.is_some(), &self.config.transport);
            }
        }
        self.fill_due = true;
        if was_open {
            self.forget_closed(now, handle);
        }
    }

    /// Removes the oldest closed connections of the same kind as this one beyond their bound.
    fn forget_closed(&mut self, now: Time, handle: ConnectionHandle) {
        self.closed += 1;
        let closed = self.closed;
        let connection = self.connections[handle.0].as_mut().expect("not drained yet");
        connection.closed = Some(closed);
        let (node, was_up) = (connection.node, connection.was_up);
        let limit = if was_up { CLOSED_MAX } else { FAILED_MAX };
        let alike = self.connections.iter().enumerate().filter_map(|(at, connection)| {
            let connection = connection.as_ref()?;
            let is_alike = connection.was_up == was_up && (!was_up || connection.node == node);
            Some((connection.closed.filter(|_| is_alike)?, at))
        });
        let oldest = alike.clone().min().map(|(_, at)| at);
        if alike.count() > limit
            && let Some(at) = oldest
        {
            self.forget(now, ConnectionHandle(at));
        }
    }

    /// Removes a connection without sending anything.
    fn forget(&mut self, now: Time, handle: ConnectionHandle) {
        self.ended(now, handle, Closed::Lost);
        // The handle is free for another connection from here on.
        let _ = self.endpoint.handle_event(handle, EndpointEvent::drained());
        self.connections[handle.0] = None;
    }

    pub(super) fn close(&mut self, now: Time, handle: ConnectionHandle, code: VarInt) {
        let instant = self.instant(now);
        let Some(connection) = self.connection(handle) else { return };
        if !connection.quic.is_closed() {
            connection.close(instant, code);
        }
        // quinn-proto reports nothing about a connection that we closed.
        let why = match code {
            SHUTDOWN => Closed::Shutdown,
            SUPERSEDED => Closed::Superseded,
            FAULTS => Closed::CutOff,
            _ => Closed::Lost,
        };
        self.ended(now, handle, why);
        self.mark_ready(handle);
    }
}
